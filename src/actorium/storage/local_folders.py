"""Folders of this machine that Actors are developed in: what belongs to the Actor, whether it changed, copies."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pathspec

from actorium.domain.errors import invalid

# What the stock CLI never pushes, and what interpreters leave.
_NEVER = frozenset(
    {".git", "node_modules", ".venv", "storage", "apify_storage", "crawlee_storage", "__pycache__", ".mypy_cache"}
)
_IGNORE_FILES = (".gitignore", ".actorignore")
MAX_FILES = 50_000


def check_folder(folder: Path) -> None:
    """Raises 400 for what is no folder of this machine."""
    if not folder.is_dir():
        raise invalid(f"{folder} is not a folder of this machine.")


def fingerprint(folder: Path) -> str:
    """Changes with names, sizes and times of the folder's files. Blocks."""
    check_folder(folder)
    digest = hashlib.sha256(str(folder).encode())
    for path in _files(folder):
        status = path.stat()
        digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def copy_folder(folder: Path, target: Path) -> None:
    """Copy what belongs to the Actor into ``target``, which is new. Blocks."""
    check_folder(folder)
    target.mkdir(parents=True)
    for path in _files(folder):
        copied = target / path.relative_to(folder)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copied)


def _files(folder: Path) -> Iterator[Path]:
    """Files by name, less what is never pushed and what the ignore files leave out; ``.actor`` is always kept."""
    lines = [line for name in _IGNORE_FILES if (folder / name).is_file() for line in _lines(folder / name)]
    ignored = pathspec.PathSpec.from_lines("gitignore", lines)
    root, count = folder.resolve(), 0
    for parent, folders, names in os.walk(folder):
        base = Path(parent)
        folders[:] = sorted(name for name in folders if name not in _NEVER)
        for name in sorted(names):
            path = base / name
            relative = path.relative_to(folder)
            if relative.parts[0] != ".actor" and ignored.match_file(relative.as_posix()):
                continue
            # A link may lead anywhere; only what is in the folder belongs to the Actor.
            if not path.is_file() or (path.is_symlink() and not path.resolve().is_relative_to(root)):
                continue
            count += 1
            if count > MAX_FILES:
                raise invalid(f"{folder} has more than {MAX_FILES} files; leave some out with .actorignore.")
            yield path


def _lines(file: Path) -> list[str]:
    return file.read_text("utf-8", "replace").splitlines()
