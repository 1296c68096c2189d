"""Process trees through ``/proc``: who belongs to whom, what it uses, and how to end all of it.

A pid alone names nobody for long: a process is known by its pid and its start time, and a
signal goes through a pidfd that was checked after it was opened.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable

MARKER = "ACTORIUM_ATTEMPT"
"""Environment variable that every process of an attempt inherits."""

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SEC = os.sysconf("SC_CLK_TCK")
_STOP_PASSES = 50
_CLEAN_SCANS = 2
_SCAN_PAUSE_SECS = 0.005


class Process:
    """One line of ``/proc/<pid>/stat``."""

    __slots__ = ("cpu_secs", "ppid", "session", "started", "state", "threads")

    def __init__(self, line: bytes) -> None:
        # The second field is the name in brackets and may hold anything, brackets included.
        fields = line[line.rindex(b")") + 2 :].split()
        self.state = fields[0]
        self.ppid = int(fields[1])
        self.session = int(fields[3])
        self.cpu_secs = sum(map(int, fields[11:15])) / _TICKS_PER_SEC
        self.threads = int(fields[17])
        self.started = int(fields[19])

    @property
    def dead(self) -> bool:
        """Whether only the entry is left. A leader that ended before its threads also shows as a zombie."""
        return self.state in b"ZX" and self.threads <= 1


class Sample:
    """What a tree uses at one moment; ``cpu_secs`` includes children its living members have waited for."""

    __slots__ = ("count", "cpu_secs", "mem_bytes")

    def __init__(self, cpu_secs: float, mem_bytes: int, count: int) -> None:
        self.cpu_secs = cpu_secs
        self.mem_bytes = mem_bytes
        self.count = count


def _read(path: str) -> bytes | None:
    """The whole file, ``None`` when its process is gone or not ours to look at."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        data = part = os.read(descriptor, 65536)
        while part and len(data) >= 4096:
            part = os.read(descriptor, 65536)
            data += part
        return data
    except OSError:
        return None
    finally:
        os.close(descriptor)


def look(pid: int) -> Process | None:
    """The process as it is now, ``None`` when there is none."""
    line = _read(f"/proc/{pid}/stat")
    return Process(line) if line else None


BOOT_ID = (_read("/proc/sys/kernel/random/boot_id") or b"").decode().strip()
"""Names the machine's current boot: pids and start times of another one mean nothing."""


def identity(pid: int) -> str:
    """``pid:start time:boot``, which no other process ever has."""
    process = look(pid)
    return f"{pid}:{process.started if process else 0}:{BOOT_ID}"


def is_alive(who: str) -> bool:
    """Whether the process with this ``identity`` still runs."""
    pid, started, boot = who.split(":")
    process = look(int(pid))
    return process is not None and process.started == int(started) and not process.dead and boot == BOOT_ID


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _children(pid: int, threads: int) -> list[int]:
    names = [str(pid)]
    if threads != 1:
        try:
            names = os.listdir(f"/proc/{pid}/task")
        except OSError:
            return []
    found: list[int] = []
    for name in names:
        found += map(int, (_read(f"/proc/{pid}/task/{name}/children") or b"").split())
    return found


def _children_by_scan(pid: int, _threads: int) -> list[int]:
    return [other for other in _pids() if (process := look(other)) is not None and process.ppid == pid]


# Kernels without CONFIG_PROC_CHILDREN have no such file.
children = _children if os.path.exists(f"/proc/self/task/{os.getpid()}/children") else _children_by_scan


def sample(root: int, exact_above_bytes: int) -> Sample:
    """Measure every living process below ``root``.

    Memory is first estimated from above: what is private to each, and the largest shared part once.
    Pages that forked processes still share count for each of them there, so an estimate above
    ``exact_above_bytes`` is replaced by the exact and slower sum of proportional shares.
    """
    cpu_secs, private, shared = 0.0, 0, 0
    living: list[int] = []
    pending = children(root, 0)
    while pending:
        pid = pending.pop()
        process = look(pid)
        if process is None:
            continue
        cpu_secs += process.cpu_secs
        if process.dead:
            continue
        pages = (_read(f"/proc/{pid}/statm") or b"0 0 0").split()
        private += int(pages[1]) - int(pages[2])
        shared = max(shared, int(pages[2]))
        living.append(pid)
        pending += children(pid, process.threads)
    mem_bytes = (private + shared) * _PAGE_BYTES
    if mem_bytes > exact_above_bytes and len(living) > 1:
        mem_bytes = min(mem_bytes, sum(map(_proportional_bytes, living)))
    return Sample(cpu_secs, mem_bytes, len(living))


def _proportional_bytes(pid: int) -> int:
    for line in (_read(f"/proc/{pid}/smaps_rollup") or b"").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _signal_tree(roots: list[tuple[int, int]], number: int, skip: set[tuple[int, int]]) -> int:
    """Send a signal to each (parent, pid) of ``roots`` and everything below, except ``skip``, which grows.

    Returns how many got it. What moves to another parent meanwhile is left for the next call.
    """
    count = 0
    pending = list(roots)
    while pending:
        parent, pid = pending.pop()
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            process = look(pid)
            if process is None or process.ppid != parent:
                continue
            if (pid, process.started) not in skip:
                skip.add((pid, process.started))
                signal.pidfd_send_signal(descriptor, number)
                count += not process.dead
            pending += [(pid, child) for child in children(pid, process.threads)]
        except ProcessLookupError:
            continue
        finally:
            os.close(descriptor)
    return count


def kill_below(root: int, spare: set[int] | None = None) -> int:
    """SIGKILL what lives below ``root`` (the caller), except its children in ``spare``; returns how many there were.

    Stops everything first: what is stopped cannot fork while the rest is being found. One call is
    one attempt; the caller repeats it until nothing is left.
    """

    def roots() -> list[tuple[int, int]]:
        return [(root, pid) for pid in children(root, 0) if not spare or pid not in spare]

    first = roots()
    if len(first) == 1:
        only = look(first[0][1])
        if only is not None and not children(first[0][1], only.threads):
            return _signal_tree(first, signal.SIGKILL, set())
    stopped: set[tuple[int, int]] = set()
    for _ in range(_STOP_PASSES):
        if not _signal_tree(roots(), signal.SIGSTOP, stopped):
            break
    return _signal_tree(roots(), signal.SIGKILL, set())


def kill(who: str) -> None:
    """SIGKILL the process with this ``identity``, if it still runs."""
    try:
        descriptor = os.pidfd_open(int(who.split(":")[0]))
    except ProcessLookupError:
        return
    try:
        if is_alive(who):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def kill_marked(attempt_id: str, leader: str | None, directory: str, for_secs: float) -> bool:
    """SIGKILL every process of an attempt whose keeper is gone, wherever it hangs now.

    Returns whether none is left; gives up after ``for_secs``.

    Ours is what carries the attempt's marker, what is in the session of its main process (``leader``,
    an ``identity``) and works below ``directory``, and every child of such a process.
    """
    marker = f"{MARKER}={attempt_id}".encode()
    session = 0
    if leader is not None and leader.endswith(BOOT_ID):
        session = int(leader.split(":")[0])
    inside = os.path.realpath(directory) + "/"

    def is_ours(pid: int) -> bool:
        return _is_marked(pid, marker, session, inside)

    clean = 0
    deadline = time.monotonic() + for_secs
    while clean < _CLEAN_SCANS:
        if time.monotonic() > deadline:
            return False
        alive = sum(_kill_if(pid, is_ours) for pid in _pids() if pid != os.getpid() and is_ours(pid))
        clean = clean + 1 if not alive else 0
        time.sleep(_SCAN_PAUSE_SECS if alive else 0)
    return True


def _is_marked(pid: int, marker: bytes, session: int, inside: str) -> bool:
    if marker in (_read(f"/proc/{pid}/environ") or b"").split(b"\0"):
        return True
    process = look(pid)
    if process is None or not session or process.session != session:
        return False
    try:
        return (os.readlink(f"/proc/{pid}/cwd") + "/").startswith(inside)
    except OSError:
        return False


def _kill_if(pid: int, is_ours: Callable[[int], bool]) -> int:
    """SIGKILL ``pid`` and all below it if it is (still) ours; returns how many were alive."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise
        return 0
    try:
        process = look(pid)
        if process is None or process.dead or not is_ours(pid):
            return 0
        below = [(pid, child) for child in children(pid, process.threads)]
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return 1 + _signal_tree(below, signal.SIGKILL, set())
    except ProcessLookupError:
        return 0
    finally:
        os.close(descriptor)
