"""Commands that run a Python program, and what such a program imports: read, never executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

_INTERPRETER = re.compile(r"(.*/)?python(3(\.\d+)?)?")
# Those that change nothing after the start, or that the prepared interpreter is started with as well.
_FLAGS = re.compile(r"-[uBEIsSOPq]+")
_MOST_FILES = 500
_MOST_BYTES = 1 << 20


class PythonCommand(msgspec.Struct, frozen=True):
    """``interpreter`` is the program with its flags; ``name`` a module (``-m``) or a script."""

    interpreter: list[str]
    name: str
    is_module: bool
    arguments: list[str]


def python_command(command: list[str]) -> PythonCommand | None:
    """The command as a Python program, ``None`` for any other and for flags with a meaning of their own."""
    if not command or _INTERPRETER.fullmatch(command[0]) is None:
        return None
    rest = 1
    while rest < len(command) and _FLAGS.fullmatch(command[rest]):
        rest += 1
    interpreter, words = command[:rest], command[rest:]
    if len(words) > 1 and words[0] == "-m":
        return PythonCommand(interpreter, words[1], True, words[2:])
    if words and words[0].endswith(".py"):
        return PythonCommand(interpreter, words[0], False, words[1:])
    return None


def imported_modules(folder: Path) -> list[str]:
    """The modules that the program in ``folder`` imports at the top of its files and that are not its own, by name."""
    own = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"}
    found: set[str] = set()
    for path in sorted(folder.rglob("*.py"))[:_MOST_FILES]:
        own |= {path.stem, path.parent.name}
        try:
            if path.stat().st_size <= _MOST_BYTES:
                found |= set(_imports(ast.parse(path.read_bytes())))
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue  # the program says so itself when it is run
    return sorted(name for name in found if name.partition(".")[0] not in own | {"__future__", "__main__"})


def _imports(tree: ast.Module) -> Iterator[str]:
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module
        elif isinstance(node, ast.Try):
            pending += node.body
