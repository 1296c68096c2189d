"""The folder of an export: plain JSON, JSON lines and files, each whole or not there at all.

Names come from an API that may be anybody's, so none is used as a path unless it is harmless.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

MANIFEST = "export.json"
FORMAT = 1
PARTS = ("actors", "tasks", "schedules", "webhooks", "datasets", "key-value-stores", "request-queues")
_HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAX_PATH = 255


class FolderError(Exception):
    """The folder is not what a command needs; the message is for the user."""


def file_name(name: str) -> str:
    """``name`` where it is harmless as a file's, else a hash of it."""
    if _HARMLESS.fullmatch(name) and not name.endswith(".part"):
        return name
    return f"_{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:32]}"


def source_path(root: Path, name: str) -> Path:
    """Where a source file is kept below ``root``. Raises ``FolderError`` for a name that leads out."""
    path = PurePosixPath(name)
    if not name or len(name) > _MAX_PATH or "\\" in name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise FolderError(f"A source file has the name {name[:_MAX_PATH]!r}, which leads out of its folder.")
    return root.joinpath(*path.parts)


def write_json(path: Path, value: Any) -> None:
    """Write a value for people to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    part.replace(path)


def read_json(path: Path) -> Any:
    """Read a value. Raises ``FolderError``."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} cannot be read: {error}") from error


def entries(root: Path, part: str, file: str | None = None) -> Iterator[tuple[Path, Any]]:
    """Everything exported of one part: folder or file, with its description."""
    for path in sorted((root / part).glob(f"*/{file}" if file else "*.json")):
        yield (path.parent if file else path), read_json(path)


def manifest_of(root: Path) -> dict[str, Any]:
    """What an export says of itself. Raises ``FolderError`` for a folder that is none, or not finished."""
    if not (root / MANIFEST).exists():
        raise FolderError(f"{root} is no export: it has no {MANIFEST}.")
    found: dict[str, Any] = read_json(root / MANIFEST)
    if found.get("format") != FORMAT:
        raise FolderError(f"{root} has the format {found.get('format')}; this program reads {FORMAT}.")
    if not found.get("isFinished"):
        raise FolderError(f"The export into {root} was not finished: run it again first.")
    return found


def begin(root: Path, source: str, username: str) -> bool:
    """Prepare the folder; returns whether an export that was cut off goes on. Raises ``FolderError``."""
    manifest = {"format": FORMAT, "source": source, "username": username, "isFinished": False}
    goes_on = False
    if (root / MANIFEST).exists():
        found = read_json(root / MANIFEST)
        if (found.get("source"), found.get("username")) != (source, username):
            raise FolderError(f"{root} is an export of {found.get('username')} at {found.get('source')}: use another.")
        goes_on = found == manifest
        if not goes_on:
            for part in PARTS:
                shutil.rmtree(root / part, ignore_errors=True)
    elif root.exists() and any(root.iterdir()):
        raise FolderError(f"{root} has other files in it: use an empty folder.")
    write_json(root / MANIFEST, manifest)
    return goes_on


def finish(root: Path) -> None:
    """Note that everything is there."""
    write_json(root / MANIFEST, {**read_json(root / MANIFEST), "isFinished": True})
