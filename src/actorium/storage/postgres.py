"""PostgreSQL through asyncpg: a pool, prepared statements, retries of lost races."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg

from actorium.domain.errors import ApiError, invalid
from actorium.storage.db import (
    Operation,
    OutOfDiskSpaceError,
    Row,
    UniqueViolationError,
    check_schema_version,
    migrations,
)

T = TypeVar("T")
_ATTEMPTS = 5
_MIGRATION_LOCK = 0x41435430


@lru_cache(maxsize=2048)
def _numbered(sql: str) -> str:
    """Turn ``?`` into ``$1, $2, ...``."""
    count = iter(range(1, 10_000))
    return re.sub(r"\?", lambda _: f"${next(count)}", sql)


def _unstorable() -> ApiError:
    return invalid("A text has the character U+0000, which the database cannot store.")


class _PostgresTx:
    """A transaction's statements on one connection."""

    skip_locked = "FOR UPDATE SKIP LOCKED"
    for_update = "FOR UPDATE"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        rows: Sequence[Row] = await self._connection.fetch(_numbered(sql), *args)
        return rows

    async def fetchrow(self, sql: str, *args: Any) -> Row | None:
        row: Row | None = await self._connection.fetchrow(_numbered(sql), *args)
        return row

    async def execute(self, sql: str, *args: Any) -> int:
        status: str = await self._connection.execute(_numbered(sql), *args)
        return int(last) if (last := status.rpartition(" ")[2]).isdigit() else 0

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        await self._connection.executemany(_numbered(sql), rows)


class PostgresDatabase:
    """A database on a PostgreSQL server, shared by any number of processes."""

    name = "postgres"

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self._url = url
        self._pool_size = pool_size
        self._pool: Any = None

    async def start(self) -> None:
        """Connect and apply missing migrations, one process at a time."""
        if self._pool is not None:
            return
        self._pool = await asyncpg.create_pool(self._url, min_size=1, max_size=self._pool_size, command_timeout=60)
        async with self._pool.acquire() as connection:
            await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
            try:
                await self._migrate(connection)
            finally:
                await connection.execute("SELECT pg_advisory_unlock($1)", _MIGRATION_LOCK)

    async def stop(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close()

    async def _migrate(self, connection: Any) -> None:
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"
        )
        current = await connection.fetchval("SELECT COALESCE(MAX(number), 0) FROM schema_migrations")
        check_schema_version(current)
        for number, name, script in migrations("postgres"):
            if number > current:
                async with connection.transaction():
                    await connection.execute(script)
                    await connection.execute("INSERT INTO schema_migrations VALUES ($1, $2)", number, name)

    async def read(self, description: str, op: Operation[T]) -> T:
        """Run a reading operation; one that needs several statements to agree uses ``write``."""
        try:
            async with self._pool.acquire() as connection:
                return await op(_PostgresTx(connection))
        except asyncpg.CharacterNotInRepertoireError as error:
            raise _unstorable() from error
        except asyncpg.PostgresError as error:
            error.add_note(f"in the operation: {description}")
            raise

    async def write(self, description: str, op: Operation[T]) -> T:
        """Run an operation in a transaction; a deadlock or serialization failure is tried again."""
        for attempt in range(_ATTEMPTS):
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    return await op(_PostgresTx(connection))
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                if attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.01 * 2**attempt)
            except asyncpg.UniqueViolationError as error:
                raise UniqueViolationError(str(error)) from error
            except asyncpg.DiskFullError as error:
                raise OutOfDiskSpaceError from error
            except asyncpg.CharacterNotInRepertoireError as error:
                raise _unstorable() from error
            except asyncpg.PostgresError as error:
                error.add_note(f"in the operation: {description}")
                raise
        raise AssertionError("unreachable")

    async def reclaim(self) -> bool:
        """Nothing: the server's autovacuum does it."""
        return False
