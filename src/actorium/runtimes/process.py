"""Runs as native processes: each under a shim that outlives the server, in a session and directory of its own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from actorium.kit import kill_marked
from actorium.runtimes import (
    Capabilities,
    Checkpoint,
    Exit,
    Handle,
    LogChunk,
    Observed,
    Phase,
    RunSpec,
    StartError,
    Usage,
)
from actorium.runtimes.shim import FRAME, READ_BYTES, write_exit

_log = structlog.get_logger("actorium.runtime")
_NAME = "process"
_VERSION = 1
_MARKER = "ACTORIUM_ATTEMPT"
_BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_READ_BYTES = 4 * READ_BYTES
_POLL_SECS = 1.0
_STUCK_SECS = 10.0
"""How much later than asked a shim may end its tree before it is taken for stuck."""


class _Link(asyncio.Protocol):
    """The connection to one live shim; ``closed`` once the shim is gone."""

    def __init__(self) -> None:
        self.started: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()
        self.output = asyncio.Event()
        self.usage: Usage | None = None
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with whole and partial lines."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        match message.pop("type"):
            case "output":
                self.output.set()
            case "stats":
                self.usage = msgspec.convert(message, Usage)
            case "started":
                self._resolve(None)
            case "error":
                self._resolve(str(message["message"]))

    def _resolve(self, error: str | None) -> None:
        if not self.started.done():
            self.started.set_result(error)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the event loop's signature
        """Called by the event loop when the shim is gone."""
        self._resolve("its keeper process ended unexpectedly")
        self.closed.set()
        self.output.set()

    def stop(self, grace_secs: float) -> None:
        """Ask the shim to end its tree."""
        if self._transport is not None:
            self._transport.write(json.dumps({"stop": grace_secs}).encode() + b"\n")

    def close(self) -> None:
        """Let go of the shim."""
        if self._transport is not None:
            self._transport.close()


class ProcessRuntime:
    """Attempts below ``root``, one directory each. ``max_spool_bytes`` limits what is kept of an attempt's output."""

    def __init__(self, root: Path, *, max_spool_bytes: int = 1 << 33) -> None:
        self._root = root
        self._max_spool_bytes = max_spool_bytes
        self._links: dict[str, _Link] = {}
        self._connecting: dict[str, asyncio.Lock] = {}
        self._spawner: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._respawning = threading.Lock()

    async def open(self) -> None:
        """Start the spawner."""
        await asyncio.to_thread(self._start_spawner)

    async def close(self) -> None:
        """Let go of every attempt; they go on."""
        for link in list(self._links.values()):
            link.close()
        self._links.clear()
        await asyncio.to_thread(self._stop_spawner)

    def capabilities(self) -> Capabilities:
        """What this runtime can do here."""
        return Capabilities(
            _NAME,
            survives_server=True,
            enforces_memory=True,
            detail="native processes without isolation; memory of the whole tree is measured every 0.1 to 0.4 s",
        )

    def _start_spawner(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        shim = Path(__file__).with_name("shim.py")
        self._spawner = subprocess.Popen(
            [sys.executable, "-I", "-S", str(shim), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
        )
        theirs.close()
        self._control = ours

    def _stop_spawner(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._spawner is not None:
            self._spawner.wait()
            self._spawner = None

    async def start(self, spec: RunSpec, checkpoint: Checkpoint) -> Handle:
        """Start an attempt; see ``Runtime.start``."""
        handle = Handle(_NAME, _VERSION, spec.attempt_id, spec.run_id, {})
        directory = self._directory(handle)
        try:
            await asyncio.to_thread(self._prepare, spec, handle, directory)
            await checkpoint(handle)
            link = await self._spawn(directory)
            error = await link.started
        except OSError as failure:
            await self._discard(directory)
            raise StartError(f"{failure.strerror or failure}") from failure
        except BaseException:
            await asyncio.shield(self._discard(directory))
            raise
        if error is not None:
            await link.closed.wait()
            await asyncio.to_thread(kill_marked, _MARKER, spec.attempt_id)
            await self._discard(directory)
            raise StartError(f"the command {_command_text(spec)} cannot be executed: {error}")
        self._keep(handle.attempt_id, link)
        return handle

    def _prepare(self, spec: RunSpec, handle: Handle, directory: Path) -> None:
        state = spec.image.state
        directory.mkdir(mode=0o700)
        (directory / "handle.json").write_bytes(msgspec.json.encode(handle))
        work = directory / "work"
        shutil.copytree(state["app_dir"], work, symlinks=True)
        for name, target in state.get("links", {}).items():
            link = work / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        for name in ("tmp", "home"):
            (directory / name).mkdir(mode=0o700)
        env = {
            "LANG": "C.UTF-8",
            **state.get("env", {}),
            **spec.env,
            "PATH": ":".join([*state.get("bin_dirs", []), _BASE_PATH]),
            "HOME": str(directory / "home"),
            "TMPDIR": str(directory / "tmp"),
            "PWD": str(work),
            _MARKER: spec.attempt_id,
        }
        first, *rest = state["command"]
        command = [_find(first, env["PATH"]), *rest]
        # Its directory is private to this user, so the token in it is too.
        (directory / "spec.json").write_text(
            json.dumps(
                {
                    "command": command,
                    "env": env,
                    "cwd": str(work / state.get("workdir", ".")),
                    "memory_bytes": spec.memory_mbytes * 1024 * 1024,
                    "max_spool_bytes": self._max_spool_bytes,
                }
            )
        )

    async def _spawn(self, directory: Path) -> _Link:
        ours, theirs = socket.socketpair()
        try:
            await asyncio.to_thread(self._request_shim, directory, theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return await self._open_link(ours)

    def _request_shim(self, directory: Path, theirs: socket.socket) -> None:
        for is_last in (False, True):
            control = self._control
            if control is None:
                raise StartError("the server is stopping")
            try:
                socket.send_fds(control, [str(directory).encode()], [theirs.fileno()])
                return
            except (BrokenPipeError, ConnectionResetError):
                if is_last:
                    raise
            with self._respawning:
                if self._control is control:
                    self._stop_spawner()
                    self._start_spawner()

    async def _open_link(self, sock: socket.socket) -> _Link:
        sock.setblocking(False)
        _, link = await asyncio.get_running_loop().create_connection(_Link, sock=sock)
        return link

    def _keep(self, attempt_id: str, link: _Link) -> None:
        self._links[attempt_id] = link

    async def inspect(self, handles: Sequence[Handle]) -> list[Observed]:
        """What each attempt is doing."""
        return list(await asyncio.gather(*(self._inspect(handle) for handle in handles)))

    async def _inspect(self, handle: Handle) -> Observed:
        if await self._link(handle) is not None:
            return Observed(Phase.RUNNING)
        ended = await asyncio.to_thread(self._ended, handle)
        return Observed(Phase.GONE) if ended is None else Observed(Phase.EXITED, ended)

    async def _link(self, handle: Handle) -> _Link | None:
        """The connection to the attempt's shim, ``None`` when there is no shim any more."""
        lock = self._connecting.setdefault(handle.attempt_id, asyncio.Lock())
        try:
            async with lock:
                link = self._links.get(handle.attempt_id)
                if link is not None:
                    return None if link.closed.is_set() else link
                sock = await asyncio.to_thread(self._connect, handle)
                if sock is None:
                    return None
                link = await self._open_link(sock)
                self._keep(handle.attempt_id, link)
                return link
        finally:
            if not lock.locked():
                self._connecting.pop(handle.attempt_id, None)

    def _connect(self, handle: Handle) -> socket.socket | None:
        try:
            directory = os.open(self._directory(handle), os.O_PATH | os.O_DIRECTORY)
        except OSError:
            return None
        try:
            while True:
                sock = socket.socket(socket.AF_UNIX)
                try:
                    # By way of the descriptor: a socket's path must be shorter than 108 bytes.
                    sock.connect(f"/proc/self/fd/{directory}/shim.sock")
                    return sock
                except OSError:
                    sock.close()
                    if not _is_locked(f"/proc/self/fd/{directory}/started"):
                        return None
                    time.sleep(0.002)
        finally:
            os.close(directory)

    def _ended(self, handle: Handle) -> Exit | None:
        """How an attempt without a shim ended; ``None`` if it never was one, and then it never will be."""
        directory = self._directory(handle)
        if (found := _read_exit(directory)) is not None:
            return found
        if not directory.exists():
            return None
        try:
            os.close(os.open(directory / "started", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            pass
        else:
            return None
        kill_marked(_MARKER, handle.attempt_id)
        _log.warning("attempt lost its keeper process", run_id=handle.run_id, attempt_id=handle.attempt_id)
        record = {"code": None, "signal": None, "oom_killed": False, "error": "lost"}
        write_exit({**record, "finished_at_ms": time.time_ns() // 1_000_000, "usage": None}, directory)
        return _read_exit(directory)

    async def wait(self, handle: Handle) -> Exit:
        """Return how the attempt ended, once nothing of it is left."""
        link = await self._link(handle)
        if link is not None:
            await link.closed.wait()
        return await asyncio.to_thread(self._ended, handle) or Exit(error="lost")

    async def stop(self, handle: Handle, grace_secs: float) -> Exit:
        """End the attempt; see ``Runtime.stop``."""
        link = await self._link(handle)
        if link is not None:
            link.stop(grace_secs)
            try:
                async with asyncio.timeout(grace_secs + _STUCK_SECS):
                    await link.closed.wait()
            except TimeoutError:
                _log.warning("the keeper process is stuck, killing it", attempt_id=handle.attempt_id)
                await asyncio.to_thread(self._kill_shim, handle)
                await link.closed.wait()
        return await asyncio.to_thread(self._ended, handle) or Exit(error="lost")

    def _kill_shim(self, handle: Handle) -> None:
        for pid in _lock_holders(self._directory(handle) / "started"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def remove(self, handle: Handle) -> None:
        """Delete an ended attempt's directory."""
        link = self._links.pop(handle.attempt_id, None)
        if link is not None:
            link.close()
        await self._discard(self._directory(handle))

    async def _discard(self, directory: Path) -> None:
        await asyncio.to_thread(shutil.rmtree, directory, onerror=_make_removable)

    async def logs(self, handle: Handle, since: int) -> AsyncGenerator[LogChunk, None]:
        """Follow the output; see ``Runtime.logs``."""
        path = self._directory(handle) / "spool"
        link = await self._link(handle)
        offset = since
        while True:
            is_over = link is None or link.closed.is_set()
            if link is not None:
                link.output.clear()
            chunks = await asyncio.to_thread(_read_frames, path, offset)
            for chunk in chunks:
                yield chunk
                offset = chunk.next_offset
            if chunks:
                continue
            if is_over or link is None:
                return
            if link.closed.is_set():
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECS):
                    await link.output.wait()

    async def stats(self, handle: Handle) -> Usage | None:
        """The newest measurement; after the end the totals."""
        link = self._links.get(handle.attempt_id)
        if link is not None and not link.closed.is_set():
            return link.usage
        final = await asyncio.to_thread(_read_final_usage, self._directory(handle))
        return final or (link.usage if link is not None else None)

    async def list_managed(self) -> list[Handle]:
        """Every attempt that has a directory."""
        return await asyncio.to_thread(self._list_managed)

    def _list_managed(self) -> list[Handle]:
        found = []
        for path in self._root.glob("*/handle.json"):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                found.append(msgspec.json.decode(path.read_bytes(), type=Handle))
        return found

    def _directory(self, handle: Handle) -> Path:
        return self._root / handle.attempt_id


def _command_text(spec: RunSpec) -> str:
    return " ".join(spec.image.state["command"])


def _find(command: str, path: str) -> str:
    found = shutil.which(command, path=path)
    if found is None:
        raise FileNotFoundError(2, f"the command {command} was not found, or is not executable")
    return found


def _read_exit(directory: Path) -> Exit | None:
    try:
        record = json.loads((directory / "exit.json").read_bytes())
    except FileNotFoundError:
        return None
    del record["usage"]
    return msgspec.convert(record, Exit)


def _read_final_usage(directory: Path) -> Usage | None:
    try:
        usage = json.loads((directory / "exit.json").read_bytes())["usage"]
    except FileNotFoundError:
        return None
    return msgspec.convert(usage, Usage) if usage is not None else None


def _read_frames(path: Path, offset: int) -> list[LogChunk]:
    """Whole frames from ``offset``, those of one millisecond joined."""
    try:
        with path.open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), _READ_BYTES, offset)
    except FileNotFoundError:
        return []
    chunks: list[LogChunk] = []
    pieces: list[bytes] = []
    position, stamp = 0, 0
    while position + FRAME.size <= len(data):
        at_ms, length = FRAME.unpack_from(data, position)
        end = position + FRAME.size + length
        if end > len(data):
            break
        if pieces and at_ms != stamp:
            chunks.append(LogChunk(stamp, b"".join(pieces), offset + position))
            pieces = []
        stamp = at_ms
        pieces.append(data[position + FRAME.size : end])
        position = end
    if pieces:
        chunks.append(LogChunk(stamp, b"".join(pieces), offset + position))
    return chunks


def _is_locked(path: str) -> bool:
    """Whether a living shim holds the file."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _lock_holders(path: Path) -> list[int]:
    """Processes that have ``path`` open."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError):
            if any(os.path.realpath(fd) == str(path) for fd in Path(f"/proc/{pid}/fd").iterdir()):
                found.append(pid)
    return found


def _make_removable(function: Any, path: str, error: Any) -> None:
    if isinstance(error[1], FileNotFoundError):
        return
    os.chmod(Path(path).parent, 0o700)
    function(path)
