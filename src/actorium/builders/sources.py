"""Sources on disk: files of a version or an archive, and nothing outside the folder they belong in."""

from __future__ import annotations

import base64
import binascii
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from actorium.builders import BuildFailed, Sources
from actorium.domain.models import SourceFile

MAX_FILES = 50_000
MAX_BYTES = 2 * 1024**3
_MAX_PATH = 255
_STEP_BYTES = 1024 * 1024


def write_sources(sources: Sources, target: Path) -> None:
    """Write the sources into the empty folder ``target``. Raises ``BuildFailed`` naming the offending file."""
    target.mkdir(parents=True)
    if sources.archive is None:
        for file in sources.files:
            _write_file(file, target)
        return
    try:
        _unpack(sources.archive, target)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise BuildFailed(f"The source archive cannot be unpacked: {error}") from error
    _strip_single_folder(target)


def _write_file(file: SourceFile, target: Path) -> None:
    path = _inside(target, file.name)
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


def _inside(target: Path, name: str) -> Path:
    """Where ``name`` belongs below ``target``; refuses everything that could lead out."""
    path = PurePosixPath(name)
    if not name or len(name) > _MAX_PATH or "\\" in name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise BuildFailed(
            f"Source file {name[:_MAX_PATH]!r} has a path that is not allowed: it must be relative, without '..' and "
            f"backslashes, and have at most {_MAX_PATH} characters."
        )
    return target.joinpath(*path.parts)


class _Budget:
    """What an archive may still unpack to; its own claims about sizes are not believed."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0

    def add_file(self) -> None:
        self.files += 1
        if self.files > MAX_FILES:
            raise BuildFailed(f"The source archive has more than {MAX_FILES} files.")

    def copy(self, source: IO[bytes], path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            while piece := source.read(_STEP_BYTES):
                self.bytes += len(piece)
                if self.bytes > MAX_BYTES:
                    raise BuildFailed(f"The source archive unpacks to more than {MAX_BYTES} bytes.")
                out.write(piece)


def _unpack(archive: Path, target: Path) -> None:
    unpack: Callable[[Path, Path], None] = _unpack_tar
    if zipfile.is_zipfile(archive):
        unpack = _unpack_zip
    elif _starts_as_zip(archive):
        # The stock CLI (seen in 1.10) sometimes reads its zip file before it has been written to the end.
        raise BuildFailed("The source archive is a zip file without its end: it was cut off. Push it again.")
    unpack(archive, target)


def _starts_as_zip(archive: Path) -> bool:
    with archive.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _unpack_zip(archive: Path, target: Path) -> None:
    budget = _Budget()
    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            budget.add_file()
            path = _inside(target, info.filename)
            mode = info.external_attr >> 16
            if stat.S_ISLNK(mode):
                raise BuildFailed(f"The source archive has a symbolic link, which is not allowed: {info.filename}")
            if info.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            with zipped.open(info) as source:
                budget.copy(source, path)
            if mode & 0o111:
                path.chmod(0o755)


def _unpack_tar(archive: Path, target: Path) -> None:
    budget = _Budget()
    with tarfile.open(archive) as tarred:
        for member in tarred:
            budget.add_file()
            name = member.name.removeprefix("./")
            if name in ("", "."):
                continue
            path = _inside(target, name)
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                source = tarred.extractfile(member)
                if source is not None:
                    budget.copy(source, path)
                if member.mode & 0o111:
                    path.chmod(0o755)
            else:
                raise BuildFailed(f"The source archive has a link or special file, which is not allowed: {name}")


def _strip_single_folder(target: Path) -> None:
    """A single top folder goes if the Actor would not be found otherwise. docs: actors, section 2.2."""
    entries = list(target.iterdir())
    if len(entries) != 1 or not entries[0].is_dir() or entries[0].name == ".actor":
        return
    aside = target.with_name(target.name + ".top")
    entries[0].rename(aside)
    shutil.rmtree(target)
    aside.rename(target)
