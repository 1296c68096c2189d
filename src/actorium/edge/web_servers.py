"""Serves ``containerUrl``: everything below it goes to the web server of the run, whoever asks."""

from __future__ import annotations

from typing import Protocol

from starlette.types import Receive, Scope, Send

from actorium.domain.errors import ApiError, ErrorType
from actorium.edge.answers import redirect, refuse
from actorium.edge.proxy import Body, BrokenError, Proxy, Target, UnreachableError
from actorium.edge.requests import Place


class WebServerLookup(Protocol):
    """What this module asks about runs."""

    async def address(self, slug: str) -> tuple[str, int]:
        """Host and port of a running run's web server. Raises 404."""
        ...

    def forget(self, slug: str) -> None:
        """The server did not answer there."""
        ...


class RunWebServers:
    """The application behind ``containerUrl``."""

    def __init__(self, lookup: WebServerLookup, proxy: Proxy) -> None:
        self._lookup = lookup
        self._proxy = proxy

    async def serve(self, place: Place, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or websocket; ``place.name`` is the slug."""
        if not place.path:
            await redirect(send, f"{place.prefix}/{place.query(scope)}")
            return
        body = Body(scope, receive)
        if scope["type"] == "websocket":
            await receive()
        try:
            try:
                await self._pass_on(place, scope, receive, send, body)
            except UnreachableError:
                # It may have moved to another port: a reboot, a migration.
                self._lookup.forget(place.name)
                await self._pass_on(place, scope, receive, send, body)
        except ApiError as error:
            await refuse(scope, send, error)
        except (UnreachableError, BrokenError) as error:
            await refuse(scope, send, _unreachable(error))

    async def _pass_on(self, place: Place, scope: Scope, receive: Receive, send: Send, body: Body) -> None:
        host, port = await self._lookup.address(place.name)
        target = Target(host, port, place.path, place.prefix)
        if scope["type"] == "websocket":
            await self._proxy.websocket(scope, receive, send, target)
        else:
            await self._proxy.http(scope, body, send, target)


def _unreachable(error: Exception) -> ApiError:
    if isinstance(error, UnreachableError):
        reason = "the run is running, but nothing listens on its web server's port (ACTOR_WEB_SERVER_PORT) yet"
    else:
        reason = f"it gave no answer: {error}"
    return ApiError(ErrorType.WEB_SERVER_UNREACHABLE, f"The web server of this Actor run cannot be reached: {reason}.")
