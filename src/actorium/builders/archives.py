"""Unpacking archives nobody vouches for: their names, sizes, counts and links are claims, not facts."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from actorium.builders import BuildFailed
from actorium.builders.links import settle_links

MAX_FILES = 50_000
MAX_BYTES = 2 * 1024**3
MAX_RATIO = 200
"""How many times an archive's own size it may unpack to, beyond ``FREE_BYTES``."""
FREE_BYTES = 200 * 1024**2
_MAX_PATH = 255
_STEP_BYTES = 1024 * 1024
_MAX_HEADER_BYTES = 2 * _STEP_BYTES
_MAX_LINK_BYTES = 4096
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_BYTES = 20
_FAULTS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip or tar file (plain, gz, bz2, xz) into the folder ``target``. Raises ``BuildFailed``.

    Of several entries with one name the last wins. Links become copies of what they lead to.
    """
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, target)
        elif _starts_as_zip(archive):
            # The stock CLI (seen in 1.10) sometimes reads its zip file before it has been written to the end.
            raise BuildFailed("The source archive is a zip file without its end: it was cut off. Push it again.")
        else:
            _unpack_tar(archive, target)
    except _FAULTS as error:
        raise BuildFailed(f"The source archive cannot be unpacked: {error}") from error


def inside(target: Path, name: str) -> Path:
    """Where ``name`` belongs below ``target``; refuses everything that could lead out."""
    path = PurePosixPath(name)
    if not name or len(name) > _MAX_PATH or "\\" in name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise BuildFailed(
            f"Source file {name[:_MAX_PATH]!r} has a path that is not allowed: it must be relative, without '..' and "
            f"backslashes, and have at most {_MAX_PATH} characters."
        )
    return target.joinpath(*path.parts)


class _Target:
    """The folder an archive is unpacked into, and what may still be put there."""

    def __init__(self, root: Path, archive_bytes: int) -> None:
        self.root = root
        self._most_bytes = min(MAX_BYTES, FREE_BYTES + MAX_RATIO * archive_bytes)
        self._files = 0
        self._bytes = 0
        self._links: dict[Path, str] = {}

    def add(self, name: str) -> Path:
        """The path of one more entry."""
        self._files += 1
        if self._files > MAX_FILES:
            raise BuildFailed(f"The source archive has more than {MAX_FILES} files.")
        path = inside(self.root, name)
        self._links.pop(path, None)
        return path

    def write(self, source: IO[bytes], path: Path, mode: int) -> None:
        """Write a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # A new file each time: an earlier one with this name may be a hard link's other name.
        path.unlink(missing_ok=True)
        with path.open("wb") as out:
            while piece := source.read(_STEP_BYTES):
                self._bytes += len(piece)
                if self._bytes > self._most_bytes:
                    raise BuildFailed(
                        f"The source archive unpacks to more than {self._most_bytes} bytes, the most for its size."
                    )
                out.write(piece)
        path.chmod(0o755 if mode & 0o111 else 0o644)

    def link(self, path: Path, leads_to: str) -> None:
        """Note a symbolic link; none is made before everything else is written."""
        self._links[path] = leads_to

    def finish(self) -> None:
        """Put copies in the place of links."""
        for path, leads_to in self._links.items():
            if any(parent in self._links for parent in path.parents):
                raise BuildFailed(f"The source archive has a file below a link, which is not allowed: {path.name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(leads_to)
        if self._links:
            settle_links(self.root, max_files=MAX_FILES, max_bytes=self._most_bytes)


def _starts_as_zip(archive: Path) -> bool:
    with archive.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _unpack_zip(archive: Path, root: Path) -> None:
    _check_directory(archive)
    target = _Target(root, archive.stat().st_size)
    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            path = target.add(info.filename)
            mode = info.external_attr >> 16
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Of the others the library holds whole blocks in memory, however large they unpack to.
                raise BuildFailed(f"{info.filename} in the source archive is not compressed with deflate.")
            if info.is_dir():
                path.mkdir(parents=True, exist_ok=True)
            elif stat.S_ISLNK(mode):
                with zipped.open(info) as source:
                    target.link(path, os.fsdecode(source.read(_MAX_LINK_BYTES)))
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                with zipped.open(info) as source:
                    target.write(source, path, mode)
            else:
                raise BuildFailed(f"The source archive has a special file, which is not allowed: {info.filename}")
    target.finish()


def _check_directory(archive: Path) -> None:
    """Refuse a directory of absurd size before the library reads it whole into memory."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END.size - _LOCATOR_BYTES - _END64.size - 0xFFFF))
        tail = file.read()
    position = tail.rfind(b"PK\x05\x06")
    if position < 0 or len(tail) - position < _END.size:
        raise BuildFailed("The source archive is a zip file without its end.")
    _, _, _, _, count, directory_bytes, *_ = _END.unpack_from(tail, position)
    if tail[position - _LOCATOR_BYTES : position].startswith(b"PK\x06\x07"):
        start = position - _LOCATOR_BYTES - _END64.size
        if start < 0 or not tail.startswith(b"PK\x06\x06", start):
            raise BuildFailed("The source archive is a zip file whose end makes no sense.")
        count, directory_bytes = _END64.unpack_from(tail, start)[7:9]
    if count > MAX_FILES or directory_bytes > MAX_FILES * 1024:
        raise BuildFailed(f"The source archive has more than {MAX_FILES} files.")


def _unpack_tar(archive: Path, root: Path) -> None:
    target = _Target(root, archive.stat().st_size)
    with _opened(archive) as raw, tarfile.open(fileobj=_Careful(raw), mode="r:") as tarred:
        for member in tarred:
            name = member.name.removeprefix("./")
            if name in ("", "."):
                continue
            path = target.add(name)
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                source = tarred.extractfile(member)
                if source is not None:
                    target.write(source, path, member.mode)
            elif member.issym():
                target.link(path, member.linkname[: _MAX_LINK_BYTES + 1])
            elif member.islnk():
                _copy_of(target, inside(root, member.linkname.removeprefix("./")), path, name)
            else:
                raise BuildFailed(f"The source archive has a device or special file, which is not allowed: {name}")
    target.finish()


def _copy_of(target: _Target, other: Path, path: Path, name: str) -> None:
    if other.is_symlink() or not other.is_file() or other == path:
        raise BuildFailed(f"The source archive has a hard link to what comes not before it: {name}")
    with other.open("rb") as source:
        target.write(source, path, other.stat().st_mode)


def _opened(archive: Path) -> IO[bytes]:
    with archive.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(archive, "rb")  # type: ignore[return-value]
    if start.startswith(b"BZh"):
        return bz2.open(archive, "rb")
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(archive, "rb")
    return archive.open("rb")


class _Careful(io.RawIOBase):
    """An archive's bytes; refuses to read a header that would fill the memory."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._raw.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise BuildFailed("The source archive has a header of absurd size.")
        return self._raw.read(size)
