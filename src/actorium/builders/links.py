"""Symbolic links among sources: each becomes a copy of what it leads to, and none leads out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from actorium.builders import BuildFailed


def settle_links(root: Path, *, max_files: int, max_bytes: int) -> list[str]:
    """Put copies in the place of all links below ``root``; returns the names of those that lead nowhere, which go.

    Raises ``BuildFailed`` for a link that leads out of ``root``, to a folder it is in, or in a circle, and when
    there are more files or bytes afterwards than allowed.
    """
    return _Settling(root.resolve(), max_files, max_bytes).run()


class _Settling:
    def __init__(self, root: Path, max_files: int, max_bytes: int) -> None:
        self._root = root
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._files = 0
        self._bytes = 0

    def run(self) -> list[str]:
        links = self._count(self._root)
        dangling = []
        to_folders = []
        for link in links:
            target = self._target(link)
            if target is None:
                dangling.append(self._name(link))
                link.unlink()
            elif target.is_dir():
                to_folders.append(link)
            else:
                link.unlink()
                self._copy_file(target, link)
        while to_folders:
            # A folder can be copied once no link is left in it.
            ready = [link for link in to_folders if not self._holds(self._resolved(link), to_folders)]
            if not ready:
                raise BuildFailed(f"Links among the sources lead in a circle: {self._name(to_folders[0])}.")
            for link in ready:
                target = self._resolved(link)
                link.unlink()
                self._count(target)
                shutil.copytree(target, link)
            to_folders = [link for link in to_folders if link not in ready]
        return dangling

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    @staticmethod
    def _resolved(link: Path) -> Path:
        try:
            return link.resolve()
        except (OSError, RuntimeError) as error:  # a circle, up to Python 3.12
            raise BuildFailed(f"A link among the sources leads in a circle: {link.name}.") from error

    def _target(self, link: Path) -> Path | None:
        target = self._resolved(link)
        if not target.is_relative_to(self._root):
            raise BuildFailed(f"The sources have a symbolic link that leads out of them: {self._name(link)}.")
        if link.is_relative_to(target):
            raise BuildFailed(f"The sources have a symbolic link to a folder it is in: {self._name(link)}.")
        return target if target.exists() else None

    @staticmethod
    def _holds(folder: Path, links: list[Path]) -> bool:
        return any(link.is_relative_to(folder) for link in links)

    def _copy_file(self, target: Path, link: Path) -> None:
        if not target.is_file():
            raise BuildFailed(f"The sources have a special file, which is not allowed: {self._name(target)}.")
        self._add(1, target.stat().st_size)
        shutil.copy2(target, link)

    def _count(self, folder: Path) -> list[Path]:
        """The links below ``folder``; everything else there is counted."""
        links = []
        for parent, folders, names in os.walk(folder):
            for name in (*folders, *names):
                path = Path(parent) / name
                if path.is_symlink():
                    links.append(path)
                else:
                    self._add(1, path.lstat().st_size if name in names else 0)
        return links

    def _add(self, files: int, size: int) -> None:
        self._files += files
        self._bytes += size
        if self._files > self._max_files:
            raise BuildFailed(f"The sources have more than {self._max_files} files.")
        if self._bytes > self._max_bytes:
            raise BuildFailed(f"The sources have more than {self._max_bytes} bytes.")
