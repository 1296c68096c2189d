"""The process that keeps one attempt: starts its main process, holds its output, ends its whole tree.

It outlives the server. Whoever wants something of it connects to ``shim.sock`` in the attempt's
directory and exchanges lines of JSON; what is left when it is gone is in ``spool`` and ``exit.json``.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

from . import child, proctree
from .spool import Spool
from .watch import MemoryWatch

RESERVED = "exit.json.part"
"""Made together with the directory, so that a full disk does not hide how an attempt ended."""
RESERVED_BYTES = 4096

_READ_BYTES = 65536
_MAX_LINE_BYTES = 1 << 24
_KILL_PAUSE_SECS = (0.001, 0.1)
_RECORD_PAUSE_SECS = 0.5
_NEVER = float("inf")

Become = Callable[[dict[str, Any], int, int, int], NoReturn]
"""``child.execute`` or ``child.go_on``."""


def keep(channel: socket.socket, become: Become) -> NoReturn:
    """Live as the keeper of the attempt described by the first line of ``channel``. Never returns.

    With ``become`` its fork turns into the main process; in a prepared interpreter that leaves by an exception.
    """
    is_keeper = True
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(null)
        os.umask(0o077)
        child.ignore_signals()
        line = _first_line(channel)
        if line is not None:
            spec = json.loads(line)
            os.chdir(spec["directory"])
            _guarded(channel, spec, become)
    except child.BecameMainProcess:
        is_keeper = False
        raise
    finally:
        if is_keeper:
            os._exit(0)
    raise AssertionError("unreachable")


def _guarded(channel: socket.socket, spec: dict[str, Any], become: Become) -> None:
    try:
        Keeper(channel, spec, become).run()
    except child.BecameMainProcess:
        raise
    except BaseException:  # noqa: BLE001  reported by the server as the reason of the loss
        # Nothing may stay behind unrecorded: end the tree, leave the reason, let the server report it.
        import traceback  # seldom needed: no keeper pays for it before

        with open("shim.err", "w") as file:
            traceback.print_exc(file=file)
        while proctree.kill_below(os.getpid()):
            time.sleep(_KILL_PAUSE_SECS[0])


def _first_line(channel: socket.socket) -> bytes | None:
    data = b""
    while not data.endswith(b"\n"):
        part = channel.recv(_READ_BYTES)
        if not part or len(data) > _MAX_LINE_BYTES:
            return None
        data += part
    return data


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Connection:
    """One server that talks to this keeper."""

    __slots__ = ("follow", "pending", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.pending = b""
        self.follow: int | None = None
        connected.setblocking(False)

    def send(self, message: dict[str, Any]) -> None:
        """Send one message. A server that does not read is dropped; it may connect again."""
        try:
            self.socket.send(json.dumps(message).encode() + b"\n")
        except OSError:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)

    def receive(self) -> list[dict[str, Any]] | None:
        """Complete messages that have arrived, ``None`` when the other side is gone."""
        try:
            part = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not part:
            return None
        *lines, self.pending = (self.pending + part).split(b"\n")
        return [json.loads(line) for line in lines]


class Keeper:
    """The life of one attempt."""

    def __init__(self, channel: socket.socket, spec: dict[str, Any], become: Become) -> None:
        self._spec = spec
        self._become = become
        self._connections: dict[int, Connection] = {}
        self._poll = select.poll()
        self._add(channel)
        self._first = self._connections[channel.fileno()]
        self._watch = MemoryWatch(spec["memory_mbytes"] << 20)
        self._main = 0
        self._status: int | None = None
        self._finished_at_ms: int | None = None
        self._oom_killed = False
        self._killing = False
        self._kill_at = _NEVER
        self._kill_pause_secs = _KILL_PAUSE_SECS[0]
        self._stop_at = _NEVER

    def run(self) -> None:
        """Start the main process and return when nothing of the attempt is left."""
        child.become_subreaper()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        # Relative to the attempt's directory: an absolute path may exceed the 107 bytes of a socket address.
        self._listener.bind("shim.sock")
        self._listener.listen(16)
        self._poll.register(self._listener, select.POLLIN)
        wake, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._woken = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._poll.register(wake, select.POLLIN)
        try:
            os.symlink("shim:" + proctree.identity(os.getpid()), "claim")
        except FileExistsError:
            self._first.send({"failed": "the attempt was given up before it started"})
            return
        self._spool = Spool("spool", self._spec["max_spool_bytes"])
        failure = self._launch()
        if failure is not None:
            os.waitpid(self._main, 0)
            self._leave({"error": f"cannot start: {failure}", "finished_at_ms": _now_ms()}, {"failed": failure})
            return
        self._first.send({"started": self._main})
        while not self._over():
            self._turn()
        self._drain()
        self._leave(self._exit(), None)

    def _launch(self) -> str | None:
        """Fork and exec the main process; returns why that failed."""
        self._output, output = os.pipe2(os.O_CLOEXEC)
        report, write_report = os.pipe2(os.O_CLOEXEC)
        keeper = os.getpid()
        self._main = os.fork()
        if self._main == 0:
            self._become(self._spec, keeper, output, write_report)
        os.close(output)
        os.close(write_report)
        os.symlink(proctree.identity(self._main), "main")
        refused = os.read(report, _READ_BYTES)
        os.close(report)
        os.set_blocking(self._output, False)
        self._poll.register(self._output, select.POLLIN)
        return str(json.loads(refused)) if refused else None

    def _turn(self) -> None:
        """Wait for the next thing to happen and handle it."""
        now = time.monotonic()
        for descriptor, _ in self._poll.poll(max(0.0, self._next_at() - now) * 1000):
            if descriptor == self._output:
                self._read_output()
            elif descriptor == self._woken:
                os.read(self._woken, 512)
                self._reap()
            elif descriptor == self._listener.fileno():
                with contextlib.suppress(OSError):
                    self._add(self._listener.accept()[0])
            elif descriptor in self._connections:
                self._serve(self._connections[descriptor])
        now = time.monotonic()
        if now >= self._stop_at or now >= self._kill_at:
            self._kill()
        if not self._killing and now >= self._watch.due_at:
            self._watch.measure(now)
            if self._watch.exceeded:
                self._oom_killed = True
                self._kill()

    def _next_at(self) -> float:
        return self._kill_at if self._killing else min(self._watch.due_at, self._stop_at)

    def _over(self) -> bool:
        """Whether no process of the attempt is left: all of them are, or become, children of this one."""
        if self._status is None:
            return False
        self._reap()
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        return False

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._main:
                self._status = status
                self._finished_at_ms = _now_ms()
                # Whatever the main process leaves behind goes with it.
                self._killing = True
                self._kill_at = 0.0

    def _kill(self) -> None:
        self._killing = True
        self._stop_at = _NEVER
        proctree.kill_below(os.getpid())
        self._kill_at = time.monotonic() + self._kill_pause_secs
        self._kill_pause_secs = min(self._kill_pause_secs * 2, _KILL_PAUSE_SECS[1])

    def _read_output(self) -> bool:
        """Move what is in the pipe to the spool; returns whether there may be more."""
        try:
            data = os.read(self._output, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._poll.unregister(self._output)
            os.close(self._output)
            self._output = -1
            return False
        self._spool.write(data, _now_ms())
        self._tell_followers()
        return True

    def _drain(self) -> None:
        # Without a process of the tree no writer is left, unless one handed its end to a stranger.
        while self._output >= 0 and self._read_output():
            pass

    def _tell_followers(self) -> None:
        for connection in self._connections.values():
            if connection.follow is not None and self._spool.size > connection.follow:
                connection.follow = None
                connection.send({"spooled": self._spool.size})

    def _add(self, connected: socket.socket) -> None:
        self._connections[connected.fileno()] = Connection(connected)
        self._poll.register(connected, select.POLLIN)

    def _serve(self, connection: Connection) -> None:
        try:
            messages = connection.receive()
            for message in messages or ():
                self._do(connection, message)
        except (ValueError, KeyError, TypeError):
            # Not one of our servers: the Actor itself can reach this socket.
            messages = None
        if messages is None:
            descriptor = connection.socket.fileno()
            self._poll.unregister(descriptor)
            del self._connections[descriptor]
            connection.socket.close()

    def _do(self, connection: Connection, message: dict[str, Any]) -> None:
        match message["do"]:
            case "follow":
                offset = int(message["offset"])
                connection.follow = offset if connection.follow is None else min(offset, connection.follow)
                self._tell_followers()
            case "measure":
                if not self._killing:
                    self._watch.measure(time.monotonic())
                connection.send({"usage": self._watch.usage(_now_ms())})
            case "stop":
                self._stop(float(message["grace_secs"]))

    def _stop(self, grace_secs: float) -> None:
        if self._killing:
            return
        if grace_secs <= 0:
            self._kill()
            return
        if self._stop_at == _NEVER:
            # Not reaped yet, so neither the pid nor its group can be another's.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._main, signal.SIGTERM)
        self._stop_at = min(time.monotonic() + grace_secs, self._stop_at)

    def _exit(self) -> dict[str, Any]:
        assert self._status is not None  # noqa: S101  _over() is false before
        code = os.waitstatus_to_exitcode(self._status)
        how = {"code": code} if code >= 0 else {"signal": -code}
        return {**how, "oom_killed": self._oom_killed, "finished_at_ms": self._finished_at_ms}

    def _leave(self, how: dict[str, Any], last_word: dict[str, Any] | None) -> None:
        """Record the end durably, then tell everyone who listens."""
        self._spool.close(_now_ms())
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        usage = self._watch.final_usage(_now_ms(), largest)
        ended = {**how, "usage": usage, "dropped_bytes": self._spool.dropped_bytes}
        while not _recorded(ended):
            time.sleep(_RECORD_PAUSE_SECS)
        # Whoever hears of the end may delete the directory.
        os.unlink("shim.sock")
        for connection in self._connections.values():
            connection.send(last_word or {"exit": how})


def _recorded(ended: dict[str, Any]) -> bool:
    try:
        record_exit(ended)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        return False
    return True


def record_exit(exit_: dict[str, Any], directory: str = ".") -> None:
    """Write an attempt's ``exit.json``, whole or not at all, into space that was reserved for it."""
    temporary = f"{directory}/{RESERVED}"
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.ftruncate(file, os.pwrite(file, json.dumps(exit_).encode(), 0))
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(temporary, f"{directory}/exit.json")
