"""Sources on disk: files of a version or an archive, and nothing outside the folder they belong in."""

from __future__ import annotations

import base64
import binascii
import shutil
from pathlib import Path

from actorium.builders import BuildFailed, Sources
from actorium.builders.archives import inside, unpack
from actorium.domain.models import SourceFile


def write_sources(sources: Sources, target: Path) -> Path:
    """Write the sources into the new folder ``target``; returns the Actor's folder in it.

    A fetched folder is moved, not copied. Raises ``BuildFailed`` naming the offending file.
    """
    if sources.folder is not None:
        shutil.move(sources.folder, target)
        return _actor_folder(target, sources.actor_path)
    target.mkdir(parents=True)
    if sources.archive is None:
        for file in sources.files:
            _write_file(file, target)
    else:
        unpack(sources.archive, target)
        _strip_single_folder(target)
    return target


def _actor_folder(target: Path, actor_path: str) -> Path:
    folder = inside(target, actor_path) if actor_path else target
    if not folder.is_dir():
        found = [path.parent.parent for path in sorted(target.glob("**/.actor/actor.json"))]
        others = ", ".join(str(path.relative_to(target)) for path in found[:5])
        hint = f" Folders with .actor/actor.json: {others}." if others else ""
        raise BuildFailed(f"The repository has no folder {actor_path}.{hint}")
    return folder


def _write_file(file: SourceFile, target: Path) -> None:
    path = inside(target, file.name)
    if file.folder:
        path.mkdir(parents=True, exist_ok=True)
        return
    try:
        content = base64.b64decode(file.content, validate=True) if file.format == "BASE64" else file.content.encode()
    except (binascii.Error, ValueError) as error:
        raise BuildFailed(f"The content of source file {file.name} is not valid {file.format}: {error}") from error
    # The platform writes no empty files. docs: actors, section 2.2.
    if content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _strip_single_folder(target: Path) -> None:
    """A single top folder goes if the Actor would not be found otherwise. docs: actors, section 2.2."""
    entries = list(target.iterdir())
    if len(entries) != 1 or not entries[0].is_dir() or entries[0].name == ".actor":
        return
    aside = target.with_name(target.name + ".top")
    entries[0].rename(aside)
    shutil.rmtree(target)
    aside.rename(target)
