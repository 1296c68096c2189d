"""The websocket a run's process opens to hear of ``systemInfo``, ``aborting``, ``persistState``, ``migrating``.

The handshake is always accepted and a refusal is close code 1008 after it: a refused handshake kills Python Actors,
and any other code makes them try again (docs: runs, section 6). What a process sends is ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from actorium.domain.times import iso
from actorium.kit import Clock
from actorium.services.events import Event, SystemInfo

PATH = "/actorium/events/"
NORMAL = 1000
REFUSED = 1008
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013

MAX_QUEUED_EVENTS = 100
"""Events waiting for a process that does not read, apart from states, of which only the newest waits."""
_STATES = frozenset({"systemInfo", "cpuInfo"})
_CLOSE_SECS = 5.0
"""How long a connection being closed may take to read what is queued for it."""


class EventRuns(Protocol):
    """What this module asks about runs."""

    async def find_run_for_events(self, run_id: str, secret: str) -> int | None:
        """The memory limit in MB of a live run with this secret, else ``None``."""
        ...


class _Connection:
    """One socket and what waits to be sent on it."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.queue: deque[tuple[str, str]] = deque()
        self.is_open = False
        self.close_code: int | None = None
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()

    def put(self, name: str, frame: str) -> None:
        """Queue a frame. A state replaces its older self; too many other events end the connection."""
        if self.close_code is not None:
            return
        if name in _STATES:
            for waiting in self.queue:
                if waiting[0] == name:
                    self.queue.remove(waiting)
                    break
        elif len(self.queue) >= MAX_QUEUED_EVENTS:
            self.queue.clear()
            self.close(TRY_AGAIN_LATER)
            return
        self.queue.append((name, frame))
        self._wake.set()

    def close(self, code: int) -> None:
        """Send what is queued, then close with ``code``."""
        if self.close_code is None:
            self.close_code = code
            self._wake.set()
            self._closing.set()

    async def serve(self) -> None:
        """Send until the connection is closed by either side."""
        sending = asyncio.create_task(self._send(), name="events-send")
        reading = asyncio.create_task(self._until_gone(), name="events-read")
        closing = asyncio.create_task(self._closing.wait(), name="events-close")
        try:
            await asyncio.wait({sending, reading, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() and not sending.done():
                await asyncio.wait({sending, reading}, timeout=_CLOSE_SECS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, reading, closing):
                task.cancel()
            await asyncio.gather(sending, reading, closing, return_exceptions=True)
        for task in (sending, reading):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _send(self) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                while self.queue:
                    await self.socket.send_text(self.queue.popleft()[1])
                if self.close_code is not None:
                    await self.socket.close(self.close_code)
                    return
                self._wake.clear()
                await self._wake.wait()

    async def _until_gone(self) -> None:
        while (await self.socket.receive())["type"] != "websocket.disconnect":
            pass


class _Run:
    """What is known of a run: its connections, its open window, its last states."""

    def __init__(self) -> None:
        self.connections: set[_Connection] = set()
        self.pending: tuple[Event, ...] = ()
        self.info: SystemInfo | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.connections or self.pending or self.info)


class Events:
    """The ASGI application of ``/actorium/events/{run_id}?secret=...``, and the engine's ``EventSink``."""

    def __init__(self, runs: EventRuns, clock: Clock, *, max_connections_per_run: int = 20) -> None:
        self._runs = runs
        self._clock = clock
        self._max_connections_per_run = max_connections_per_run
        self._by_run: dict[str, _Run] = {}
        self._serving: set[asyncio.Task[Any]] = set()
        self._is_stopped = False

    # EventSink

    def send(self, run_id: str, name: str, data: Mapping[str, Any] | None = None) -> None:
        """See ``EventSink.send``."""
        self._broadcast(run_id, name, self._frame(name, data))

    def set_pending(self, run_id: str, events: Sequence[Event]) -> None:
        """See ``EventSink.set_pending``."""
        self._by_run.setdefault(run_id, _Run()).pending = tuple(events)

    def clear_pending(self, run_id: str) -> None:
        """See ``EventSink.clear_pending``."""
        if (run := self._by_run.get(run_id)) is not None:
            run.pending = ()
            self._tidy(run_id)

    def send_system_info(self, run_id: str, info: SystemInfo) -> None:
        """See ``EventSink.send_system_info``. A change of ``is_cpu_overloaded`` is a ``cpuInfo`` event as well."""
        run = self._by_run.setdefault(run_id, _Run())
        was_overloaded = run.info is not None and run.info.is_cpu_overloaded
        run.info = info
        self._broadcast(run_id, "systemInfo", self._frame("systemInfo", _system_info(info)))
        if info.is_cpu_overloaded != was_overloaded:
            self.send(run_id, "cpuInfo", {"isCpuOverloaded": info.is_cpu_overloaded})

    def close_run(self, run_id: str) -> None:
        """See ``EventSink.close_run``."""
        if (run := self._by_run.pop(run_id, None)) is not None:
            for connection in run.connections:
                connection.close(NORMAL)

    def connection_count(self, run_id: str) -> int:
        """See ``EventSink.connection_count``."""
        run = self._by_run.get(run_id)
        return sum(connection.is_open for connection in run.connections) if run else 0

    async def stop(self) -> None:
        """The server ends: close every connection with 1012, on which Python processes connect again."""
        self._is_stopped = True
        for run in self._by_run.values():
            for connection in run.connections:
                connection.close(SERVICE_RESTART)
        if self._serving:
            await asyncio.wait(self._serving)

    # The websocket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        serving = asyncio.create_task(self._serve(socket, scope), name="events-connection")
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        try:
            await serving
        except WebSocketDisconnect:
            return
        finally:
            serving.cancel()

    async def _serve(self, socket: WebSocket, scope: Scope) -> None:
        path: str = scope["path"]
        run_id = path.removeprefix(PATH)
        secret = parse_qs(scope["query_string"].decode("latin-1")).get("secret", [""])[-1]
        if not path.startswith(PATH) or not run_id or "/" in run_id:
            await socket.close(REFUSED, "Unknown path")
            return
        # Known before the look-up, so that a run that ends meanwhile closes this connection too.
        connection = _Connection(socket)
        if self._is_stopped:
            connection.close(SERVICE_RESTART)
        run = self._by_run.setdefault(run_id, _Run())
        run.connections.add(connection)
        try:
            memory_mbytes = await self._runs.find_run_for_events(run_id, secret)
            if memory_mbytes is None:
                await socket.close(REFUSED, "Unknown or finished run, or wrong secret")
            elif self.connection_count(run_id) >= self._max_connections_per_run:
                await socket.close(REFUSED, "Too many connections of this run")
            else:
                connection.is_open = True
                self._greet(run, connection, memory_mbytes)
                await connection.serve()
        finally:
            run.connections.discard(connection)
            self._tidy(run_id)

    def _greet(self, run: _Run, connection: _Connection, memory_mbytes: int) -> None:
        info = run.info or SystemInfo(created_at=self._clock.now_ms(), mem_max_bytes=memory_mbytes * 1024 * 1024)
        connection.put("systemInfo", self._frame("systemInfo", _system_info(info)))
        for event in run.pending:
            connection.put(event.name, self._frame(event.name, event.data))

    def _broadcast(self, run_id: str, name: str, frame: str) -> None:
        if (run := self._by_run.get(run_id)) is not None:
            for connection in run.connections:
                if connection.is_open:
                    connection.put(name, frame)

    def _tidy(self, run_id: str) -> None:
        if (run := self._by_run.get(run_id)) is not None and run.is_empty:
            del self._by_run[run_id]

    def _frame(self, name: str, data: Mapping[str, Any] | None) -> str:
        frame: dict[str, Any] = {"name": name, "createdAt": iso(self._clock.now_ms())}
        if data is not None:  # a null makes the Python SDK drop the whole message
            frame["data"] = data
        return msgspec.json.encode(frame).decode()


def _system_info(info: SystemInfo) -> dict[str, Any]:
    return {
        "memAvgBytes": info.mem_avg_bytes,
        "memCurrentBytes": info.mem_current_bytes,
        "memMaxBytes": info.mem_max_bytes,
        "cpuAvgUsage": info.cpu_avg_usage,
        "cpuMaxUsage": info.cpu_max_usage,
        "cpuCurrentUsage": info.cpu_current_usage,
        "isCpuOverloaded": info.is_cpu_overloaded,
        "createdAt": iso(info.created_at),
    }
