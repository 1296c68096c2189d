"""Copies an Actor's files for an attempt: quickly, sharing disk blocks where the file system can."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

_FICLONE = 0x40049409
_SMALL_BYTES = 65536
_COPY_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 20
_NO_COPY_RANGE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


def copy_tree(source: Path, target: Path) -> None:
    """Copy the directory ``source`` to ``target``, which must not exist.

    Keeps modes, modification times (compiled Python files stay valid) and symbolic links; shares no
    file with the source, so that whoever gets the copy may change it.
    """
    os.mkdir(target)
    with os.scandir(source) as entries:
        for entry in entries:
            path = os.path.join(target, entry.name)
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), path)
            elif entry.is_dir():
                copy_tree(Path(entry.path), Path(path))
            elif entry.is_file():
                _copy_file(entry.path, path)
    status = os.stat(source)
    os.chmod(target, status.st_mode & 0o7777 | 0o700)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_file(source: str, target: str) -> None:
    reader = os.open(source, os.O_RDONLY)
    try:
        status = os.fstat(reader)
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _copy_data(reader, writer, status.st_size)
            os.fchmod(writer, status.st_mode & 0o7777 | 0o600)
            os.utime(writer, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_data(reader: int, writer: int, size: int) -> None:
    if size <= _SMALL_BYTES and _write(writer, os.read(reader, _SMALL_BYTES + 1)) == size:
        return
    _rewind(reader, writer)
    try:
        fcntl.ioctl(writer, _FICLONE, reader)
        return
    except OSError:
        # Most file systems cannot share blocks; the plain ways follow.
        pass
    try:
        while os.copy_file_range(reader, writer, _COPY_BYTES):
            pass
        return
    except OSError as error:
        if error.errno not in _NO_COPY_RANGE:
            raise
    _rewind(reader, writer)
    while data := os.read(reader, _BLOCK_BYTES):
        _write(writer, data)


def _write(writer: int, data: bytes) -> int:
    written = 0
    while written < len(data):
        written += os.write(writer, data[written:])
    return written


def _rewind(reader: int, writer: int) -> None:
    os.lseek(reader, 0, os.SEEK_SET)
    os.lseek(writer, 0, os.SEEK_SET)
    os.ftruncate(writer, 0)
