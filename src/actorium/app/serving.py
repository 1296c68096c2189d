"""The server process: the program behind a listening socket, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import structlog
import uvicorn
import uvloop

from actorium.api.connections import KEEP_ALIVE_SECS, Connection
from actorium.app.platform import Platform
from actorium.edge.proxy import MAX_MESSAGE_BYTES
from actorium.observability import configure_logs
from actorium.settings import Settings
from actorium.storage.data_directory import InUseError, locked

_log = structlog.get_logger("actorium.server")
_PING_SECS = 25.0


class ServerInfo(msgspec.Struct, frozen=True):
    """What a started server tells. ``first_token`` is set when this start made the first user."""

    base_url: str
    data_dir: Path
    username: str
    first_token: str | None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the signals are ours. ``on_started`` is called once it listens."""

    on_started: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise InUseError(
            f"Cannot listen on {settings.host} port {settings.port}: {error.strerror}. Choose another with --port."
        ) from error
    listener.listen(2048)
    return listener


def serve(
    settings: Settings,
    *,
    stop_runs: bool,
    first_token: str | None = None,
    on_ready: Callable[[ServerInfo], None] | None = None,
) -> None:
    """Run the server until SIGTERM or SIGINT.

    SIGTERM leaves live runs running; SIGINT, with ``stop_runs``, migrates them out first (a second
    one stops at once). Raises ``InUseError`` when directory or port are taken.
    """
    configure_logs(settings.log_level, settings.log_format)
    with locked(settings.data_dir), _listen(settings) as listener:
        uvloop.run(_serve(settings, listener, stop_runs=stop_runs, first_token=first_token, on_ready=on_ready))


async def _serve(
    settings: Settings,
    listener: socket.socket,
    *,
    stop_runs: bool,
    first_token: str | None,
    on_ready: Callable[[ServerInfo], None] | None,
) -> None:
    port = listener.getsockname()[1]
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    base_url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    platform = Platform(settings, base_url)
    await platform.start()
    user, token = await platform.accounts.ensure_first_user(token=first_token)
    server = _Server(
        uvicorn.Config(
            platform.application,
            log_config=None,
            access_log=False,
            lifespan="off",
            http=Connection,
            timeout_keep_alive=KEEP_ALIVE_SECS,
            ws="websockets-sansio",
            ws_ping_interval=_PING_SECS,
            ws_ping_timeout=300.0,
            ws_max_size=MAX_MESSAGE_BYTES,
            timeout_graceful_shutdown=3,
            server_header=False,
            proxy_headers=False,  # Platform.application does that
        )
    )
    server.on_started = lambda: platform.doors.attach(server, settings.host, port)
    interrupted = asyncio.Event()
    again = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: _ask_to_stop(server, None, again))
    loop.add_signal_handler(signal.SIGINT, lambda: _ask_to_stop(server, interrupted if stop_runs else None, again))
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    draining = asyncio.create_task(_drain_when(platform, interrupted, again, server), name="drain")
    _log.info("server started", url=base_url, data_dir=str(settings.data_dir), database=platform.db.name)
    if on_ready is not None:
        on_ready(ServerInfo(settings.public_base_url or base_url, settings.data_dir, user.username, token))
    try:
        await serving
    finally:
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        await platform.stop()
        _log.info("server stopped")


def _ask_to_stop(server: _Server, interrupted: asyncio.Event | None, again: asyncio.Event) -> None:
    if interrupted is not None and not interrupted.is_set():
        interrupted.set()
        return
    again.set()
    server.should_exit = True


async def _drain_when(platform: Platform, interrupted: asyncio.Event, again: asyncio.Event, server: _Server) -> None:
    """After the first SIGINT: move the runs out while the API still answers them, then stop."""
    await interrupted.wait()
    count = platform.supervisor.live_count
    if count:
        _log.info("stopping live runs, interrupt again to leave them running", runs=count)
    drain = asyncio.create_task(platform.drain(platform.settings.migration_window_secs), name="drain-runs")
    waiting = asyncio.create_task(again.wait(), name="second-interrupt")
    await asyncio.wait({drain, waiting}, return_when=asyncio.FIRST_COMPLETED)
    for task in (drain, waiting):
        task.cancel()
    await asyncio.gather(drain, waiting, return_exceptions=True)
    server.should_exit = True
