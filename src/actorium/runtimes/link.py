"""The server's ends of the sockets to the spawner and to the keepers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import msgspec

from actorium.runtimes import Exit, Usage

_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from shim.spawner import main; main(int(sys.argv[2]))"
_LEAVE_SECS = 5.0


class Boot(msgspec.Struct, frozen=True):
    """How a spawner's process is started: ``command`` gets the shim's folder and a descriptor as further arguments.

    What others' modules print while they are imported is not for the server's log (``is_quiet``).
    """

    command: list[str]
    env: dict[str, str]
    cwd: str = "/"
    is_quiet: bool = False


def own_boot() -> Boot:
    """A small one with this program's interpreter."""
    # Actors get an exact environment; these two only let the interpreter itself start.
    env = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ}
    return Boot([sys.executable, "-I", "-S", "-c", _BOOT], env)


class Link(asyncio.Protocol):
    """A connection to one keeper. ``closed`` is done once nothing more can come over it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[str | None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.exit: Exit | None = None
        self._transport: asyncio.Transport | None = None
        self._pending = b""
        self._spooled: asyncio.Future[None] = loop.create_future()
        self._usage: asyncio.Future[Usage] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection works."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take in what the keeper says."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            for kind, value in msgspec.json.decode(line).items():
                self._take(kind, value)

    def _take(self, kind: str, value: Any) -> None:
        match kind:
            case "started":
                _settle(self.started, None)
            case "failed":
                _settle(self.started, value)
            case "spooled":
                _settle(self._spooled, None)
                self._spooled = asyncio.get_running_loop().create_future()
            case "usage" if self._usage is not None:
                _settle(self._usage, msgspec.convert(value, Usage))
                self._usage = None
            case "exit":
                self.exit = msgspec.convert(value, Exit)
                self.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        """The keeper has ended, or dropped this connection."""
        self.close()

    def close(self) -> None:
        """Give the connection up; the attempt goes on."""
        if self._transport is not None:
            self._transport.close()
        _settle(self.closed, None)
        for waiting in (self.started, self._spooled, self._usage):
            if waiting is not None:
                waiting.cancel()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; without a connection it is lost, and ``closed`` says so."""
        self.write(msgspec.json.encode(message) + b"\n")

    def write(self, line: bytes) -> None:
        """Send one message that is encoded already."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(line)

    async def output_beyond(self, offset: int) -> None:
        """Return when the spool has grown beyond ``offset`` or the connection is closed."""
        spooled = self._spooled
        self.send({"do": "follow", "offset": offset})
        await first_of(spooled, self.closed)

    async def measure(self) -> Usage | None:
        """A new measurement, ``None`` if the connection is closed first."""
        if self._usage is None:
            self._usage = asyncio.get_running_loop().create_future()
            self.send({"do": "measure"})
        usage = self._usage
        await first_of(usage, self.closed)
        return usage.result() if usage.done() and not usage.cancelled() else None


async def first_of(*futures: asyncio.Future[Any], timeout_secs: float | None = None) -> None:
    """Return once one of ``futures`` is done, or the time is over; cancels none of them."""
    await asyncio.wait(futures, timeout=timeout_secs, return_when=asyncio.FIRST_COMPLETED)


def _settle(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


class Spawner:
    """The process that forks keepers; a new one is started whenever the last one is gone."""

    def __init__(self, boot: Boot | None = None) -> None:
        self._boot = boot or own_boot()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._changing = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The current process, ``None`` when none was started."""
        return self._process.pid if self._process is not None else None

    async def open(self) -> None:
        """Make sure that there is a spawner."""
        async with self._changing:
            if self._process is None or self._process.poll() is not None:
                await asyncio.to_thread(self._replace)

    def _replace(self) -> None:
        self._discard()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(
                [*self._boot.command, str(Path(__file__).parent), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL if self._boot.is_quiet else None,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                cwd=self._boot.cwd,
                env=self._boot.env,
            )
        self._socket = ours

    async def first_word(self) -> bytes:
        """The first message of a spawner that has something to say; empty when it ends without one."""
        await self.open()
        if self._socket is None:
            return b""
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, 4096)
        except ConnectionError:
            return b""

    async def request(self, kind: bytes, channel: socket.socket) -> None:
        """Hand ``channel`` over with a request: ``S`` forks a keeper for it, ``K`` clears up after dead ones."""
        await self.open()
        while True:
            if self._socket is None:
                raise ConnectionError("the spawner is closed")
            try:
                socket.send_fds(self._socket, [kind], [channel.fileno()])
                return
            except BlockingIOError:
                # Its queue is full: 50 starts at once are more than it can have waiting.
                await asyncio.sleep(0.001)
            except (BrokenPipeError, ConnectionResetError):
                async with self._changing:
                    await asyncio.to_thread(self._replace)

    async def close(self) -> None:
        """End the spawner. Keepers live on."""
        async with self._changing:
            await asyncio.to_thread(self._discard)

    def _discard(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LEAVE_SECS)
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()
        self._socket = self._process = None
