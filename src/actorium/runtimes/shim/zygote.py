"""A spawner with an Actor's interpreter: its dependencies are imported once, and every main process is a fork of it.

The keepers it forks are those of ``spawner``; only the last step differs. Instead of executing the interpreter anew,
the forked process lets go of everything that belongs to its keeper and runs the Actor's program.
"""

from __future__ import annotations

import builtins
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import types
from collections.abc import Callable
from typing import Any

from . import child, spawner

ROOM_NAME = "ACTORIUM_ROOM"
"""Variable that keeps room in the environment block, where the run's own is written for ``/proc`` to show."""

_FIRST_FREE = 3


def main(descriptor: int, modules: list[str]) -> Callable[[], None] | None:
    """Import ``modules`` and serve; returns the Actor's program in each of its main processes, else at the end."""
    loaded = _import(modules)
    kept = _descriptors()
    server = socket.socket(fileno=os.dup(descriptor))
    unfit = _unfit()
    server.send(unfit.encode() if unfit else f"ready {loaded}".encode())
    server.close()
    if unfit:
        return None
    try:
        spawner.main(descriptor, child.go_on)
    except child.BecameMainProcess as became:
        spec, report = became.spec, became.report
    else:
        return None
    # The exception held the frames of spawner and keeper: only now are their sockets gone.
    return lambda: _run(spec, report, kept)


def _import(modules: list[str]) -> int:
    # Without the current folder: what an Actor imports of its own must come from the attempt's copy.
    path, sys.path = sys.path, [entry for entry in sys.path if entry]
    loaded = 0
    for name in modules:
        try:
            importlib.import_module(name)
            loaded += 1
        except BaseException:  # noqa: BLE001, S112  the Actor meets it when it imports the module itself
            continue
    sys.path = path
    return loaded


def _unfit() -> str:
    """Why this process must not be forked, or nothing."""
    threads = len(os.listdir("/proc/self/task"))
    return f"unfit: a module started {threads - 1} threads" if threads > 1 else ""


def _descriptors() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd")}


def _run(spec: dict[str, Any], report: int, kept: set[int]) -> None:
    try:
        gc.collect()  # a socket of the keeper that is freed later would close a descriptor of the program
        _let_go(report, kept)
        program = _program(spec["python"])
        _take_environment(spec["env"])
        _restore_signals()
        _forget_guesses()
    except BaseException as error:  # noqa: BLE001  told to the keeper
        os.write(report, json.dumps(f"the prepared interpreter cannot start the program: {error!r}").encode())
        os._exit(127)
    os.close(report)
    gc.unfreeze()
    program()


def _let_go(report: int, kept: set[int]) -> None:
    for descriptor in sorted(_descriptors() - kept - {report}):
        if descriptor >= _FIRST_FREE:
            try:
                os.close(descriptor)
            except OSError:
                continue  # the one that listed the folder
    package = __name__.rpartition(".")[0]
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def _forget_guesses() -> None:
    """What modules have worked out or drawn for all processes alike."""
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _restore_signals() -> None:
    # As an interpreter sets them when it starts.
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _take_environment(env: dict[str, str]) -> None:
    """Make ``env`` this process's environment; and let ``/proc`` show it, and the command, to keepers and tools."""
    locale = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}
    os.environ.clear()
    # An interpreter that finds no locale sets this one for its children as well.
    os.environ.update(env if {"LC_ALL", "LC_CTYPE", "LANG"} & env.keys() else locale | env)
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    # Nothing points into the old blocks any more: each variable was set anew.
    _overwrite(int(fields[45]), int(fields[46]), sys.orig_argv)
    _overwrite(int(fields[47]), int(fields[48]), [f"{name}={value}" for name, value in env.items()])


def _overwrite(start: int, end: int, texts: list[str]) -> None:
    block = b"".join(text.encode() + b"\0" for text in texts)[: end - start]
    ctypes.memmove(start, block + bytes(end - start - len(block)), end - start)


def _program(python: dict[str, Any]) -> Callable[[], None]:
    """The program as ``python -m module`` or ``python script`` would run it."""
    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=builtins, __spec__=None, __doc__=None)
    arguments: list[str] = python["arguments"]
    name, is_module = python["name"], python["is_module"]
    sys.orig_argv = [*python["interpreter"], *(["-m"] if is_module else []), name, *arguments]
    safe = sys.flags.isolated or getattr(sys.flags, "safe_path", False)
    if is_module:
        sys.argv = ["-m", *arguments]
        if not safe:
            sys.path[0] = os.getcwd()
    else:
        sys.argv = [name, *arguments]
        if not safe:
            sys.path[0] = os.path.dirname(os.path.realpath(name))
    sys.modules["__main__"] = module
    return lambda: _guarded(lambda: _run_module(name) if is_module else _run_script(name, module))


def _run_module(name: str) -> None:
    import runpy

    # What the interpreter itself calls for -m.
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _run_script(name: str, module: types.ModuleType) -> None:
    import importlib.machinery

    path = os.path.join(os.getcwd(), name)
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        sys.stderr.write(f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}\n")
        raise SystemExit(2) from None
    module.__file__ = path
    module.__dict__["__cached__"] = None
    module.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  the Actor's program


def _guarded(program: Callable[[], None]) -> None:
    """Run it, with a traceback that begins where the program does."""
    try:
        program()
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  shown as the interpreter would
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals is globals():
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        raise SystemExit(1) from None
