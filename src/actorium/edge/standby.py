"""Serves the Standby servers of Actors and tasks: a request goes to a run that has room, or waits for one.

Asks a service for runs and never starts or ends one itself. docs: runs, section 8.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol
from urllib.parse import parse_qs

import structlog
from starlette.types import Receive, Scope, Send

from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.standby import StandbyRun
from actorium.edge.answers import redirect, refuse
from actorium.edge.proxy import Body, BrokenError, Proxy, SilentError, Target, UnreachableError
from actorium.edge.requests import Place
from actorium.edge.standby_pool import Pool, PoolRun
from actorium.kit import Signals, Tasks, forever, new_id
from actorium.services.access import Principal
from actorium.services.standby import StandbyServer
from actorium.services.topics import STANDBY_TOPIC

_log = structlog.get_logger("actorium.edge")

FIND_RUN_SECS = 120.0
"""Longest time a request waits for a run. docs: standby, limits."""
ANSWER_SECS = 300.0
"""Longest time until a run begins to answer."""
_VIEW_SECS = 1.0
"""How old the list of a server's runs may be when a request is routed by it."""
_POLL_SECS = 0.5
_RETRY_SECS = 1.0
_FLUSH_SECS = 1.0
_BUSY_FLUSH_MS = 3_000
_RETRY_PAUSES_SECS = (0.1, 0.3, 1.0)
_AUTHORIZATION = (b"authorization", b"x-apify-authorization")


class Authentication(Protocol):
    """Who sends a request."""

    async def authenticate(self, token: str) -> Principal:
        """The owner of a token. Raises 401."""
        ...


class StandbyService(Protocol):
    """What this module asks about servers and runs."""

    async def find(self, principal: Principal, name: str, *, is_host_name: bool) -> StandbyServer:
        """The server a name means. Raises 404 or 400."""
        ...

    async def runs(self, server: StandbyServer) -> Sequence[StandbyRun]:
        """Its runs that serve requests, or will."""
        ...

    async def want(self, server: StandbyServer, run_count: int) -> None:
        """See to it that it has this many."""
        ...

    async def note_use(self, last_used: Mapping[str, tuple[int, int]]) -> None:
        """Note when runs were last at work: ``{run id: (time, idle timeout in seconds)}``."""
        ...

    def now_ms(self) -> int:
        """The time ``note_use`` counts in."""
        ...


class _Use:
    """What a run does for this process, until that is written down."""

    def __init__(self, idle_timeout_secs: int) -> None:
        self.idle_timeout_secs = idle_timeout_secs
        self.request_count = 0
        self.last_at = 0
        self.written_at = 0


class _Server:
    """A server this process has requests for."""

    def __init__(self, server: StandbyServer) -> None:
        self.server = server
        self.pool = Pool(server.terms)
        self.viewed_at = float("-inf")
        self.tending: asyncio.Task[None] | None = None


class StandbyServers:
    """The application behind Standby URLs. ``start`` begins to write down which runs are used."""

    def __init__(
        self,
        standby: StandbyService,
        access: Authentication,
        proxy: Proxy,
        signals: Signals,
        *,
        find_run_secs: float = FIND_RUN_SECS,
    ) -> None:
        self._standby = standby
        self._access = access
        self._proxy = proxy
        self._signals = signals
        self._find_run_secs = find_run_secs
        self._servers: dict[tuple[str, str, str | None], _Server] = {}
        self._uses: dict[str, _Use] = {}
        self._tasks = Tasks("standby")

    async def start(self) -> None:
        """Begin."""
        if not len(self._tasks):
            self._tasks.spawn("note use", forever("noting use of Standby runs", _RETRY_SECS, self._note_uses))

    async def stop(self) -> None:
        """End, and write down what was used last."""
        await self._tasks.stop()
        await self._flush()

    async def serve(self, place: Place, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or websocket; ``place.name`` is a host name's first part or a reference."""
        if not place.path:
            await redirect(send, f"{place.prefix}/{place.query(scope)}")
            return
        body = Body(scope, receive)
        if scope["type"] == "websocket":
            await receive()
        try:
            principal = await self._authenticate(scope)
            found = await self._standby.find(principal, place.name, is_host_name=not place.prefix)
            server = self._servers.get(found.key)
            if server is None:
                server = self._servers[found.key] = _Server(found)
            server.server, server.pool.terms = found, found.terms
            await self._serve(server, place, scope, receive, send, body)
        except ApiError as error:
            await refuse(scope, send, error)

    async def _authenticate(self, scope: Scope) -> Principal:
        token = _token(scope)
        if token:
            with contextlib.suppress(ApiError):
                return await self._access.authenticate(token)
        raise ApiError(
            ErrorType.USER_NOT_AUTHENTICATED,
            "A Standby server needs a valid API token: in the header Authorization: Bearer <token>, "
            "or in the query parameter token.",
        )

    async def _serve(
        self, server: _Server, place: Place, scope: Scope, receive: Receive, send: Send, body: Body
    ) -> None:
        request_id = new_id()
        for pause_secs in (*_RETRY_PAUSES_SECS, None):
            async with self._run_for(server, body) as run:
                if run is None:
                    return
                target = _target(place, run, request_id)
                try:
                    if scope["type"] == "websocket":
                        await self._proxy.websocket(scope, receive, send, target)
                    else:
                        await self._proxy.http(scope, body, send, target)
                    return
                except BrokenError as error:
                    raise await self._failure(server, run, error) from error
                except UnreachableError as error:
                    # Nothing was sent: the run may have ended just now, and another one may serve the request.
                    if pause_secs is None:
                        raise await self._failure(server, run, error) from error
            await asyncio.sleep(pause_secs)
            await self._look(server)

    @contextlib.asynccontextmanager
    async def _run_for(self, server: _Server, body: Body) -> AsyncIterator[PoolRun | None]:
        """A run with room for one more request for as long as the block lasts; ``None`` if the client left first."""
        if asyncio.get_running_loop().time() - server.viewed_at > _VIEW_SECS:
            await self._look(server)
        waiter = server.pool.acquire()
        run: PoolRun | None = None
        try:
            if not waiter.done() or server.pool.is_short:
                self._tend(server)
            if waiter.done():
                run = waiter.result()
            else:
                async with body.until_gone():
                    run = await self._wait(waiter)
            if run is not None:
                self._begin_use(run, server)
            yield run
        finally:
            if run is not None:
                self._end_use(run)
            server.pool.release(waiter)

    async def _wait(self, waiter: asyncio.Future[PoolRun]) -> PoolRun:
        try:
            async with asyncio.timeout(self._find_run_secs):
                return await waiter
        except TimeoutError as error:
            raise ApiError(
                ErrorType.STANDBY_RUN_NOT_READY,
                f"No run of this Standby server became ready within {self._find_run_secs:g} seconds.",
            ) from error

    async def _failure(self, server: _Server, run: PoolRun, error: Exception) -> ApiError:
        """What to tell the client of a request that its run did not answer."""
        if isinstance(error, SilentError):
            return ApiError(ErrorType.STANDBY_RUN_NOT_READY, f"Run {run.run_id} is too slow: {error}.")
        await self._look(server)
        if run.is_gone:
            return ApiError(
                ErrorType.STANDBY_RUN_FINISHED, f"Run {run.run_id} of this Standby server ended before it answered."
            )
        return ApiError(ErrorType.STANDBY_BAD_GATEWAY, f"Run {run.run_id} did not answer: {error}.")

    # Runs of a server

    def _tend(self, server: _Server) -> None:
        """Get the runs that the server's requests need, in the background."""
        if server.tending is None or server.tending.done():
            server.tending = self._tasks.spawn("tend", self._get_runs(server))

    async def _get_runs(self, server: _Server) -> None:
        """Ask for runs, and look for them as long as requests wait."""
        async with self._signals.listen(STANDBY_TOPIC) as changed:
            while server.pool.is_waited_for or server.pool.is_short:
                changed.clear()
                # Requests that arrive together are counted together.
                await asyncio.sleep(0)
                await self._want(server)
                await self._look(server)
                if not server.pool.is_waited_for:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECS):
                        await changed.wait()

    async def _want(self, server: _Server) -> None:
        if not server.pool.is_short:
            return
        try:
            await self._standby.want(server.server, server.pool.needed)
        except ApiError as error:
            if not server.pool.has_runs():
                server.pool.refuse_waiting(error)
            else:
                _log.info("no further Standby run", actor_id=server.server.actor_id, error=error.message)
        except Exception:  # noqa: BLE001  logged; whoever waits still has the runs there are
            _log.exception("cannot ask for a Standby run", actor_id=server.server.actor_id)

    async def _look(self, server: _Server) -> None:
        """See which runs there are now."""
        live = await self._standby.runs(server.server)
        server.viewed_at = asyncio.get_running_loop().time()
        if server.pool.update(live) and not server.pool.has_runs():
            server.pool.refuse_waiting(
                ApiError(
                    ErrorType.STANDBY_RUN_FINISHED,
                    "The run of this Standby server ended before it was ready to serve requests: see its log.",
                )
            )

    # Use of runs

    def _begin_use(self, run: PoolRun, server: _Server) -> None:
        use = self._uses.setdefault(run.run_id, _Use(server.pool.terms.idle_timeout_secs))
        use.request_count += 1
        use.last_at = self._standby.now_ms()

    def _end_use(self, run: PoolRun) -> None:
        if (use := self._uses.get(run.run_id)) is not None:
            use.request_count -= 1
            use.last_at = self._standby.now_ms()

    async def _note_uses(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECS)
            await self._flush()
            for key, server in list(self._servers.items()):
                if server.pool.is_unused and (server.tending is None or server.tending.done()):
                    del self._servers[key]

    async def _flush(self) -> None:
        """Write down which runs were used; a run at work only now and then, its last use exactly."""
        now = self._standby.now_ms()
        due = {}
        for run_id, use in list(self._uses.items()):
            is_busy = use.request_count > 0
            if is_busy:
                use.last_at = now
            every_ms = min(_BUSY_FLUSH_MS, use.idle_timeout_secs * 100)
            if not is_busy or now - use.written_at >= every_ms:
                due[run_id] = (use.last_at, use.idle_timeout_secs)
                use.written_at = now
            if not is_busy:
                del self._uses[run_id]
        if due:
            await self._standby.note_use(due)


def _token(scope: Scope) -> str | None:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    for wanted in _AUTHORIZATION:
        for name, value in headers:
            if name == wanted:
                scheme, _, token = value.decode("latin-1").strip().partition(" ")
                if scheme.lower() == "bearer" and token.strip():
                    return token.strip()
    query: bytes = scope["query_string"]
    tokens = parse_qs(query.decode("latin-1")).get("token")
    return tokens[-1] if tokens else None


def _target(place: Place, run: PoolRun, request_id: str) -> Target:
    if run.address is None:
        raise AssertionError("a request was given to a run that is not ready")
    host, port = run.address
    return Target(
        host,
        port,
        place.path,
        place.prefix,
        request_headers=(("x-actor-request-id", request_id),),
        answer_headers=((b"x-actor-request-id", request_id.encode()),),
        answer_secs=ANSWER_SECS,
    )
