"""The build context: the files of a folder, less what its ``.dockerignore`` leaves out."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

import pathspec

IGNORE_FILE = ".dockerignore"


class Context:
    """The build context in ``root``. docs: Docker, .dockerignore files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        ignore = root / IGNORE_FILE
        lines = ignore.read_text("utf-8-sig", "replace").splitlines() if ignore.is_file() else []
        # Unlike git, Docker lets a later "!pattern" bring back a file of a folder that is left out.
        self._spec = pathspec.PathSpec.from_lines("gitignore", map(_rooted, lines))

    def files(self) -> list[str]:
        """Every file, relative to the root."""
        found = []
        for folder, _, names in os.walk(self.root):
            for name in names:
                relative = (Path(folder) / name).relative_to(self.root).as_posix()
                if not self._spec.match_file(relative):
                    found.append(relative)
        return sorted(found)


def _rooted(line: str) -> str:
    """A pattern of Docker's as one of git's: each starts at the root, and folders need no slash at their end."""
    text = line.strip()
    if not text or text.startswith("#"):
        return ""
    negated, text = text.startswith("!"), text.removeprefix("!").strip()
    text = posixpath.normpath(text).lstrip("/")
    if text in ("", "."):
        return ""
    return f"{'!' if negated else ''}/{text}"
