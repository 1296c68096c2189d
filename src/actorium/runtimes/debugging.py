"""Commands under a debugger: Node.js's inspector, or debugpy for Python."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from actorium.domain.models import Debug
from actorium.runtimes import StartError
from actorium.runtimes.python_commands import python_command

_NODE = re.compile(r"(.*/)?node(js)?")
_HOST = "127.0.0.1"


def under_debugger(command: list[str], debug: Debug) -> list[str]:
    """The command with its debugger. Raises ``StartError`` for a program that has none."""
    address = f"{_HOST}:{debug.port}"
    if command and _NODE.fullmatch(command[0]):
        return [command[0], f"--inspect-brk={address}" if debug.waits else f"--inspect={address}", *command[1:]]
    python = python_command(command)
    if python is not None:
        waits = ["--wait-for-client"] if debug.waits else []
        program = ["-m", python.name] if python.is_module else [python.name]
        # The debugger warns, on standard error, of modules that are frozen into the interpreter.
        flags = ["-X", "frozen_modules=off"]
        return [*python.interpreter, *flags, _debugpy(), "--listen", address, *waits, *program, *python.arguments]
    raise StartError(
        f"It was to be started with a debugger, but its command {' '.join(command)[:200]!r} starts neither a Python "
        "module or file nor node. Let the Dockerfile's CMD start one of them itself"
    )


def _debugpy() -> str:
    """The debugger's folder, which any Python can start: the Actor's environment need not have it."""
    found = importlib.util.find_spec("debugpy")
    if found is None or found.origin is None:
        raise StartError("It was to be started with a debugger, but the package debugpy is not installed")
    return str(Path(found.origin).parent)
