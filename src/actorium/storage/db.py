"""Connections, transactions and migrations; everything SQLite and PostgreSQL do differently ends here.

An operation is an ``async def op(tx: Tx)`` that awaits nothing but its ``tx``. On PostgreSQL it runs on
the event loop; on SQLite it runs inside a database thread. Statements use ``?`` for parameters and the
common ground of both dialects; JSON is kept as text, times as integers of milliseconds.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from actorium.domain.errors import ApiError, ErrorType

T = TypeVar("T")

SCHEMA_VERSION = 2
"""The newest migration this program knows."""

_MIGRATIONS = Path(__file__).parent / "migrations"


class Row(Protocol):
    """A row of a result: values by column name or position."""

    def __getitem__(self, key: Any) -> Any: ...

    def keys(self) -> Iterable[str]:
        """Column names."""
        ...


class Unsaved(Protocol):
    """A row that operations of one transaction work on in memory."""

    def save(self, tx: Tx) -> Coroutine[Any, Any, None]:
        """Write it back, awaiting nothing but ``tx``."""
        ...


class Tx(Protocol):
    """Statements of one operation; all of them take effect together or not at all."""

    unsaved: dict[str, Unsaved]
    """Rows by a key of their own that are saved before the commit: once, however many operations share it."""

    skip_locked: str
    """``FOR UPDATE SKIP LOCKED`` where several writers can meet, nothing where there is one."""
    for_update: str
    """``FOR UPDATE`` where several writers can meet, nothing where there is one."""
    row_address: str
    """The column with a row's place: within one statement the shortest way from a subquery to its rows."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        """All rows of the result."""
        ...

    async def fetchrow(self, sql: str, *args: Any) -> Row | None:
        """The first row."""
        ...

    async def execute(self, sql: str, *args: Any) -> int:
        """Run a statement; returns how many rows it changed."""
        ...

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each of ``rows``."""
        ...


Operation = Callable[[Tx], Awaitable[T]]


class UniqueViolationError(Exception):
    """A row with this unique key exists."""


class OutOfDiskSpaceError(ApiError):
    """The database cannot grow; nothing of the operation was stored."""

    def __init__(self) -> None:
        super().__init__(
            ErrorType.OUT_OF_DISK_SPACE,
            "The server has no disk space left; nothing of this request was stored.",
        )


@contextlib.contextmanager
def noticing_full_disk() -> Iterator[None]:
    """Turn what the system says of a full disk or quota into ``OutOfDiskSpaceError``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfDiskSpaceError from error
        raise


class SchemaTooNewError(Exception):
    """The database was made by a newer program, which this one could damage."""


class Database(Protocol):
    """One database: ``write`` commits before it returns, ``read`` sees every write that returned before."""

    name: str

    async def start(self) -> None:
        """Connect and apply missing migrations."""
        ...

    async def stop(self) -> None:
        """Finish what was begun and disconnect."""
        ...

    async def read(self, description: str, op: Operation[T]) -> T:
        """Run a reading operation; each statement sees what is committed by then. ``description`` names it in logs."""
        ...

    async def write(self, description: str, op: Operation[T], *, lane: str | None = None, ahead: bool = False) -> T:
        """Run an operation in a transaction and commit it. It may be run more than once, so it changes nothing else.

        Operations on the same storage name it as their ``lane``, so that they need not compete for its row. One that
        goes ``ahead`` sees nothing of the others it is committed with, so nothing that nobody was told of yet.
        """
        ...

    async def reclaim(self) -> bool:
        """Give some of the space of deleted rows back to the file system; returns whether there is more."""
        ...


def migrations(dialect: str) -> list[tuple[int, str, str]]:
    """All migrations for ``sqlite`` or ``postgres`` in order: ``(number, name, script)``.

    A file ``NNNN_name.sql`` serves both; ``NNNN_name.<dialect>.sql`` only the one.
    """
    found = []
    for path in sorted(_MIGRATIONS.glob("*.sql")):
        match = re.fullmatch(r"(\d{4})_(\w+?)(?:\.(sqlite|postgres))?\.sql", path.name)
        if match is None:
            raise ValueError(f"{path.name} is no migration's name")
        if match[3] in (None, dialect):
            script = path.read_text()
            found.append((int(match[1]), match[2], script if dialect == "sqlite" else _for_postgres(script)))
    return found


def _for_postgres(script: str) -> str:
    # The one type name the dialects do not share in what the migrations use.
    return re.sub(r"\bBLOB\b", "BYTEA", script)


def check_schema_version(found: int) -> None:
    """Refuse a database made by a newer program."""
    if found > SCHEMA_VERSION:
        raise SchemaTooNewError(
            f"The database has schema version {found}, this program knows {SCHEMA_VERSION}. "
            "Use the newer program, or restore a backup made before the upgrade."
        )


def placeholders(count: int) -> str:
    """``?, ?, ?`` for ``count`` values."""
    return ", ".join("?" * count)
