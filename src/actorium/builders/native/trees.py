"""Dependency trees shared by images: made once for a key, found by it ever after, removed with their last image."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

_COMPLETE = ".complete"
_SIZE = ".size"
_NOTES = ".notes"


def tree_key(*parts: str | bytes) -> str:
    """One key out of everything a tree depends on."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:40]


def hash_files(root: Path, skip: Iterable[str] = ()) -> bytes:
    """A hash over names, modes and contents of every file below ``root``, less top entries in ``skip``."""
    digest, skipped = hashlib.sha256(), set(skip)
    for folder, folders, files in os.walk(root):
        base = Path(folder)
        folders[:] = sorted(name for name in folders if base != root or name not in skipped)
        for name in sorted(files):
            path = base / name
            if path.is_symlink():
                continue
            content = hashlib.sha256(path.read_bytes()).digest()
            digest.update(f"{path.relative_to(root)}\0{path.stat().st_mode & 0o111}\0".encode() + content)
    return digest.digest()


def hash_named(root: Path, files: Iterable[Path]) -> bytes:
    """A hash over the names below ``root`` and the contents of ``files`` alone."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{os.path.relpath(path, root)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


class Trees:
    """Trees below ``root``, a folder each. An unfinished one is made anew."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._locks: dict[str, asyncio.Lock] = {}
        self._in_use: dict[str, int] = {}

    def path(self, key: str) -> Path:
        """Where the tree of ``key`` is or will be."""
        return self._root / key

    def note(self, key: str, what: str) -> Path:
        """Where something that was said about the tree is kept."""
        return self.path(key) / _NOTES / tree_key(what)

    def size_bytes(self, key: str) -> int:
        """What a complete tree holds; counted once. Blocks."""
        kept = self.path(key) / _SIZE
        with contextlib.suppress(OSError, ValueError):
            return int(kept.read_text())
        size = size_bytes(self.path(key))
        with contextlib.suppress(OSError):
            kept.write_text(str(size))
        return size

    def is_complete(self, key: str) -> bool:
        """Whether the tree is there whole."""
        return (self.path(key) / _COMPLETE).exists()

    @contextlib.asynccontextmanager
    async def making(self, key: str) -> AsyncIterator[bool]:
        """Hold a key: yields whether the tree must be made, and marks it complete when the block succeeds."""
        async with self._locks.setdefault(key, asyncio.Lock()):
            if await asyncio.to_thread(self.is_complete, key):
                yield False
                return
            path = self.path(key)
            await asyncio.to_thread(_clear, path)
            yield True
            await asyncio.to_thread((path / _COMPLETE).touch)

    def hold(self, key: str) -> None:
        """Keep a tree from being removed while a build uses it."""
        self._in_use[key] = self._in_use.get(key, 0) + 1

    def release(self, keys: Iterable[str]) -> None:
        """The build is over."""
        for key in keys:
            self._in_use[key] -= 1

    def remove_unused(self, keys: Iterable[str], referenced: set[str]) -> None:
        """Delete those of ``keys`` that no image refers to and no build uses. Blocks."""
        for key in keys:
            if key not in referenced and not self._in_use.get(key):
                path = self.path(key)
                with contextlib.suppress(FileNotFoundError):
                    (path / _COMPLETE).unlink()
                shutil.rmtree(path, ignore_errors=True)


def _clear(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)


def clone(source: Path, target: Path) -> None:
    """Copy a tree by hard links: installers replace files, they do not write into them. Blocks."""
    shutil.copytree(
        source,
        target,
        symlinks=True,
        copy_function=os.link,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(_COMPLETE, _SIZE, _NOTES),
    )


def size_bytes(path: Path) -> int:
    """What the files below ``path`` hold together. Blocks."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(OSError):
                total += (Path(folder) / name).lstat().st_size
    return total
