"""The small processes between the server and an Actor; run as a script, standard library only.

The *spawner* is a child of the server and forks one *shim* for each attempt. A shim outlives the server:
it is the session leader and subreaper of its Actor, writes its output to the spool, holds its memory
limit, ends the whole tree when asked to, and records how it ended. Files of an attempt's directory:
``started`` (locked while the shim lives), ``spec.json`` (read once, then deleted), ``spool``, ``shim.sock``,
``exit.json``. On the socket both sides speak JSON objects, one a line.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import gc
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from typing import Any

FRAME = struct.Struct("<QI")
"""Header of a spool frame: time in milliseconds, length of the bytes that follow."""

READ_BYTES = 65_536
_READS_PER_TURN = 16
_PAGE = resource.getpagesize()
_TICK = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CALM_SECS, _ALERT_SECS = 0.4, 0.1
_MANY_PIDS = 2000
_LIBC = ctypes.CDLL(None, use_errno=True)


def spawner(control_fd: int) -> None:
    """Fork a shim for every request; end when the server does."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    gc.collect()
    gc.freeze()
    while True:
        message, fds, _, _ = socket.recv_fds(control, 65_536, 1)
        if not message:
            return
        if os.fork() == 0:
            try:
                control.close()
                Shim(message.decode(), socket.socket(fileno=fds[0])).run()
            except BaseException as error:  # noqa: BLE001  the last word of this process
                with contextlib.suppress(OSError), open(f"{message.decode()}/shim-error", "a") as file:
                    file.write(f"{error!r}\n")
            os._exit(0)
        for fd in fds:
            os.close(fd)


class Shim:
    """One attempt's keeper."""

    def __init__(self, directory: str, first: socket.socket) -> None:
        self.directory = directory
        self.links: dict[int, tuple[socket.socket, bytearray]] = {}
        self.first = first
        self.poll = select.epoll()
        self.main_pid = 0
        self.main_status: int | None = None
        self.finished_at_ms = 0
        self.ending = False
        self.kill_at: float | None = None
        self.oom_killed = False
        self.mem_max = 0
        self.last_mem = 0
        self.spool_bytes = 0
        self.dropped_bytes = 0
        self.output_open = True

    def run(self) -> None:
        """The whole life of the shim."""
        os.setsid()
        self.tree = Tree()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.chdir(self.directory)
        try:
            lock = os.open("started", os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return
        fcntl.flock(lock, fcntl.LOCK_EX)
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        with open("spec.json", encoding="utf-8") as file:
            self.spec: dict[str, Any] = json.load(file)
        os.unlink("spec.json")
        self.limit_bytes = self.spec["memory_bytes"]
        self.spool = os.open("spool", os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind("shim.sock")
        self.listener.listen(16)
        self.listener.setblocking(False)
        self._watch_children()
        self.poll.register(self.listener, select.EPOLLIN)
        self._add_link(self.first)
        error = self._start_main()
        if error is not None:
            self._send(self.first, {"type": "error", "message": error})
            return
        self._send(self.first, {"type": "started", "pid": self.main_pid})
        self._loop()
        self._record()

    def _watch_children(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.child_signal = reader
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.poll.register(reader, select.EPOLLIN)

    def _start_main(self) -> str | None:
        """Fork and execute the Actor; returns why that failed."""
        self.output, output_end = os.pipe2(os.O_CLOEXEC)
        report, report_end = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                self._become_actor(output_end, report_end)
            except BaseException as error:  # noqa: BLE001  reported to the shim
                os.write(report_end, f"{error}".encode()[:4000])
            os._exit(127)
        os.close(output_end)
        os.close(report_end)
        message = os.read(report, 4096)
        os.close(report)
        if message:
            os.waitpid(pid, 0)
            return message.decode(errors="replace")
        self.main_pid = pid
        os.set_blocking(self.output, False)
        self.poll.register(self.output, select.EPOLLIN)
        return None

    def _become_actor(self, output_end: int, report_end: int) -> None:
        os.setsid()
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output_end, 1)
        os.dup2(output_end, 2)
        os.closerange(3, report_end)
        os.closerange(report_end + 1, 1024)
        os.chdir(self.spec["cwd"])
        command, env = self.spec["command"], self.spec["env"]
        os.execve(command[0], command, env)  # noqa: S606  exactly this program, no shell

    def _loop(self) -> None:
        next_sample = time.monotonic()
        kills = 0
        while not (self.main_status is not None and self._reap()):
            now = time.monotonic()
            if now >= next_sample:
                next_sample = now + self._sample()
            if self.kill_at is not None and now >= self.kill_at:
                self.kill_at = None
                self.ending = True
            if self.ending:
                self._kill_tree(thorough=kills > 3)
                kills += 1
                next_event = 0.005
            else:
                next_event = next_sample - now
                if self.kill_at is not None:
                    next_event = min(next_event, self.kill_at - now)
            for fd, _ in self.poll.poll(max(0.0, next_event)):
                self._handle(fd)
        self._read_output(to_the_end=True)

    def _handle(self, fd: int) -> None:
        if self.output_open and fd == self.output:
            self._read_output()
        elif fd == self.child_signal:
            with contextlib.suppress(BlockingIOError):
                os.read(fd, 4096)
            self._reap()
        elif fd == self.listener.fileno():
            with contextlib.suppress(OSError):
                self._add_link(self.listener.accept()[0])
        elif fd in self.links:
            self._receive(fd)

    # The Actor's processes

    def _reap(self) -> bool:
        """Collect ended children; whether none is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.main_pid:
                self.main_status = status
                self.finished_at_ms = time.time_ns() // 1_000_000
                # What the main process leaves behind ends with it, as in a container.
                self.ending = True

    def _kill_tree(self, *, thorough: bool = False) -> None:
        pids = self.tree.refresh(from_scratch=thorough)
        # Stopped first, so that nothing forks away while the others are killed.
        for number in (signal.SIGSTOP, signal.SIGKILL) if len(pids) > 8 else (signal.SIGKILL,):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        self._reap()

    def _stop(self, grace_secs: float) -> None:
        if grace_secs <= 0:
            self.kill_at = None
            self.ending = True
            self._kill_tree()
            return
        deadline = time.monotonic() + grace_secs
        if self.kill_at is None:
            for target in (-self.main_pid, self.main_pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(target, signal.SIGTERM)
                    break
        self.kill_at = deadline if self.kill_at is None else min(self.kill_at, deadline)

    def _sample(self) -> float:
        """Measure the tree and hold its limit; returns the seconds until the next time."""
        usage = self._measure()
        mem = usage["mem_bytes"]
        for sock, _ in list(self.links.values()):
            self._send(sock, {"type": "stats", **usage})
        if mem > self.limit_bytes and not self.ending:
            self.oom_killed = True
            self.ending = True
        grown, self.last_mem = mem - self.last_mem, mem
        alert = mem > self.limit_bytes // 2 or grown > self.limit_bytes // 10
        return _ALERT_SECS if alert else _CALM_SECS

    def _measure(self) -> dict[str, Any]:
        private = shared_most = ticks = 0
        stats = self.tree.refresh()
        for pid, times in stats.items():
            try:
                statm = _read(f"/proc/{pid}/statm").split()
            except OSError:
                continue
            ticks += times
            rss, shared = int(statm[1]), int(statm[2])
            private += rss - shared
            shared_most = max(shared_most, shared)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        mem = (private + shared_most) * _PAGE
        self.mem_max = max(self.mem_max, mem)
        return {
            "at_ms": time.time_ns() // 1_000_000,
            "cpu_secs": ended.ru_utime + ended.ru_stime + ticks / _TICK,
            "mem_bytes": mem,
            "mem_max_bytes": self.mem_max,
            "process_count": len(stats),
        }

    # The Actor's output

    def _read_output(self, *, to_the_end: bool = False) -> None:
        reads = 0
        while self.output_open and (to_the_end or reads < _READS_PER_TURN):
            try:
                data = os.read(self.output, READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                self.poll.unregister(self.output)
                os.close(self.output)
                self.output_open = False
                break
            reads += 1
            self._spool(data)
        if reads:
            for sock, _ in list(self.links.values()):
                self._send(sock, {"type": "output"})

    def _spool(self, data: bytes) -> None:
        if self.spool_bytes + len(data) > self.spec["max_spool_bytes"]:
            self.dropped_bytes += len(data)
            return
        if self.dropped_bytes and not self._write_frame(b"\n" + self._dropped_notice()):
            self.dropped_bytes += len(data)
            return
        if not self._write_frame(data):
            self.dropped_bytes += len(data)

    def _dropped_notice(self) -> bytes:
        return f"ACTOR: {self.dropped_bytes} bytes of output could not be stored and are missing here.\n".encode()

    def _write_frame(self, data: bytes) -> bool:
        """Append one frame whole or not at all: a full disk must not stop the Actor."""
        frame = FRAME.pack(time.time_ns() // 1_000_000, len(data)) + data
        try:
            written = os.write(self.spool, frame)
        except OSError:
            written = 0
        if written == len(frame):
            self.spool_bytes += written
            if data is not None and self.dropped_bytes:
                self.dropped_bytes = 0
            return True
        with contextlib.suppress(OSError):
            os.ftruncate(self.spool, self.spool_bytes)
        return False

    # The server's connections

    def _add_link(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.links[sock.fileno()] = (sock, bytearray())
        self.poll.register(sock, select.EPOLLIN)

    def _receive(self, fd: int) -> None:
        sock, buffer = self.links[fd]
        try:
            data = sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop_link(sock)
            return
        buffer += data
        while b"\n" in buffer:
            line, _, rest = bytes(buffer).partition(b"\n")
            buffer[:] = rest
            self._stop(float(json.loads(line)["stop"]))

    def _drop_link(self, sock: socket.socket) -> None:
        self.links.pop(sock.fileno(), None)
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poll.unregister(sock)
        sock.close()

    def _send(self, sock: socket.socket, message: dict[str, Any]) -> None:
        """Send without waiting: a server that does not read finds everything in the files."""
        try:
            sock.send(json.dumps(message).encode() + b"\n", socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:
            self._drop_link(sock)

    def _record(self) -> None:
        if self.dropped_bytes:
            self._write_frame(b"\n" + self._dropped_notice())
        status = self.main_status or 0
        signalled = os.WIFSIGNALED(status)
        usage = self._measure()
        write_exit(
            {
                "code": None if signalled else os.WEXITSTATUS(status),
                "signal": os.WTERMSIG(status) if signalled else None,
                "oom_killed": self.oom_killed,
                "error": None,
                "finished_at_ms": self.finished_at_ms,
                "usage": {**usage, "at_ms": self.finished_at_ms},
            }
        )
        for sock, _ in list(self.links.values()):
            self._send(sock, {"type": "exit"})


def write_exit(record: dict[str, Any], directory: str | os.PathLike[str] = ".") -> None:
    """Write ``exit.json`` in ``directory``, whole or not at all; waits while the disk is full."""
    partial, whole = os.path.join(directory, "exit.tmp"), os.path.join(directory, "exit.json")
    while True:
        try:
            fd = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, json.dumps(record).encode())
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(partial, whole)
            return
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            time.sleep(0.5)


class Tree:
    """The living descendants of this process; orphans come back to it, as it is a subreaper.

    Not every kernel lists children, and reading all of /proc is dear with hundreds of runs. So only the
    pids given out since the last time are looked at.
    """

    def __init__(self) -> None:
        self._me = os.getpid()
        self._last_pid = self._me
        self._known: set[int] = set()

    def refresh(self, *, from_scratch: bool = False) -> dict[int, int]:
        """The descendants with their used CPU time in ticks, their own ended children included."""
        newest = int(_read("/proc/loadavg").split()[4])
        passed = newest - self._last_pid
        if from_scratch or not 0 <= passed <= _MANY_PIDS:
            candidates = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        else:
            candidates = sorted(self._known) + list(range(self._last_pid + 1, newest + 1))
        self._last_pid = newest
        parents: dict[int, tuple[int, int]] = {}
        for pid in candidates:
            try:
                stat = _read(f"/proc/{pid}/stat")
            except OSError:
                continue
            fields = stat[stat.rindex(b")") + 2 :].split()
            if fields[0] not in (b"Z", b"X"):
                parents[pid] = int(fields[1]), sum(int(value) for value in fields[11:15])
        found: dict[int, int] = {}
        added = True
        while added:
            added = False
            for pid, (parent, ticks) in parents.items():
                if pid not in found and (parent == self._me or parent in found) and self._is_process(pid):
                    found[pid] = ticks
                    added = True
        self._known = set(found)
        return found

    def _is_process(self, pid: int) -> bool:
        """Threads have numbers of the same kind."""
        if pid in self._known:
            return True
        try:
            return f"\nTgid:\t{pid}\n".encode() in _read(f"/proc/{pid}/status")
        except OSError:
            return False


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65_536)
    finally:
        os.close(fd)


if __name__ == "__main__":
    spawner(int(sys.argv[1]))
