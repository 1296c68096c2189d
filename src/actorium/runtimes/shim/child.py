"""Turns a forked process into an Actor's main process. Everything here runs between fork and exec."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
# Where the machine runs out of memory, an Actor goes before the server and the keepers.
_OOM_SCORE_ADJ = b"500"
IGNORED_SIGNALS = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGQUIT,
    signal.SIGPIPE,
    signal.SIGXFSZ,
)
"""What a keeper ignores and an Actor does not."""


class BecameMainProcess(BaseException):
    """Raised in a fork of a prepared interpreter: it is the main process now, and runs the program at the top."""

    def __init__(self, spec: dict[str, Any], report: int) -> None:
        super().__init__()
        self.spec = spec
        self.report = report


_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Adopt every descendant whose parent ends, so that none can leave the tree."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def give_up_privileges() -> None:
    """For this process and all below it: a setuid program could be out of reach of a keeper's SIGKILL."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def ignore_signals() -> None:
    """Whoever signals all processes means the Actor; its keeper stays to record how it ended."""
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def default_signals() -> None:
    """Nothing ignored, nothing blocked."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def execute(spec: dict[str, Any], keeper: int, output: int, report: int) -> NoReturn:
    """Become ``spec["command"]``; if that fails, write why to ``report`` and exit."""
    try:
        _become_leader(spec["cwd"], keeper, output)
        _exec(spec["command"], spec["env"])
    except (OSError, ValueError) as error:
        _refuse(error, report)


def go_on(spec: dict[str, Any], keeper: int, output: int, report: int) -> NoReturn:
    """Become ``spec["python"]``, in the interpreter this process is a fork of, by raising ``BecameMainProcess``."""
    try:
        _become_leader(spec["cwd"], keeper, output)
    except OSError as error:
        _refuse(error, report)
    raise BecameMainProcess(spec, report)


def _become_leader(cwd: str, keeper: int, output: int) -> None:
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(127)
    _raise_oom_score()
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    os.chdir(cwd)


def _refuse(error: OSError | ValueError, report: int) -> NoReturn:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    os.write(report, json.dumps(f"{where}{reason}").encode())
    os._exit(127)


def _raise_oom_score() -> None:
    # Not offered by every container engine; it only ranks victims.
    try:
        file = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(file, _OOM_SCORE_ADJ)
    except PermissionError:
        pass
    finally:
        os.close(file)


def _exec(command: list[str], env: dict[str, str]) -> NoReturn:
    program = command[0]
    search = env.get("PATH", "")
    candidates = [program] if "/" in program else [f"{folder}/{program}" for folder in search.split(":") if folder]
    refusal: OSError | None = None
    for path in candidates:
        try:
            os.execve(path, command, {name.encode(): value.encode() for name, value in env.items()})  # noqa: S606  no shell
        except OSError as error:
            # As a shell does: a file that may not be executed is reported only if no later one is found.
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                refusal = error
            elif os.path.exists(path):
                raise ValueError(f"{path}: its interpreter does not exist") from error
    if refusal is not None:
        raise refusal
    raise ValueError(f"{program}: command not found" + ("" if "/" in program else f" (searched {search})"))


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
