"""The data directory: one server at a time works on it, and the key of the installation is in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

_MIN_KEY_CHARACTERS = 32


class InUseError(Exception):
    """Another server works on the same data directory, or listens where this one is to."""


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for this process alone. Raises ``InUseError``."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (data_dir / "server.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise InUseError(
                f"Another Actorium server (process {owner}) is using the data directory {data_dir}. "
                "Stop it first, or choose another directory with --data-dir."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def instance_key(data_dir: Path, given: str) -> bytes:
    """The key of this installation: the one ``given``, else that in the directory, made on the first start."""
    if given:
        if len(given) < _MIN_KEY_CHARACTERS:
            raise ValueError(f"instance_key must have at least {_MIN_KEY_CHARACTERS} characters.")
        return given.encode()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = data_dir / "instance.key"
    with contextlib.suppress(FileExistsError), open(path, "x", opener=_private) as file:
        file.write(secrets.token_hex(32))
    return path.read_text().strip().encode()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
