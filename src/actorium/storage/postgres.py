"""PostgreSQL through asyncpg: a pool, prepared statements, retries of lost races."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg
import structlog

from actorium.domain.errors import ApiError, invalid
from actorium.kit import Tasks
from actorium.storage.db import (
    Operation,
    OutOfDiskSpaceError,
    Row,
    UniqueViolationError,
    Unsaved,
    check_schema_version,
    migrations,
)

T = TypeVar("T")
_log = structlog.get_logger("actorium.database")
_ATTEMPTS = 5
_MAX_GROUP = 64
_STATEMENTS = 1000
"""Prepared statements a connection keeps: more than this program has."""

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
    row_address = "ctid"

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.unsaved: dict[str, Unsaved] = {}
        self.changes = 0
        """How many statements were more than a look."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        self._count(sql)
        rows: Sequence[Row] = await self._connection.fetch(_numbered(sql), *args)
        return rows

    async def fetchrow(self, sql: str, *args: Any) -> Row | None:
        self._count(sql)
        row: Row | None = await self._connection.fetchrow(_numbered(sql), *args)
        return row

    async def execute(self, sql: str, *args: Any) -> int:
        self._count(sql)
        status: str = await self._connection.execute(_numbered(sql), *args)
        return int(last) if (last := status.rpartition(" ")[2]).isdigit() else 0

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._count(sql)
        await self._connection.executemany(_numbered(sql), rows)

    async def save(self) -> None:
        """Write back what is unsaved."""
        for row in self.unsaved.values():
            await row.save(self)

    def _count(self, sql: str) -> None:
        self.changes += not sql.startswith("SELECT")


class _Job:
    """An operation of a lane, waiting for its turn or its commit."""

    __slots__ = ("ahead", "description", "future", "op")

    def __init__(self, description: str, op: Operation[Any], *, ahead: bool) -> None:
        self.description = description
        self.ahead = ahead
        self.op = op
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def resolve(self, result: Any, error: BaseException | None = None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class PostgresDatabase:
    """A database on a PostgreSQL server, shared by any number of processes.

    What is written in one lane takes turns on one connection, and what waits meanwhile is committed together:
    calls that change the same row would otherwise wait for each other's flush to disk, one by one.
    """

    name = "postgres"

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self._url = url
        self._pool_size = pool_size
        self._pool: Any = None
        self._lanes: dict[str, list[_Job]] = {}
        self._tasks = Tasks("postgres")

    async def start(self) -> None:
        """Connect and apply missing migrations, one process at a time."""
        if self._pool is not None:
            return
        self._pool = await asyncpg.create_pool(
            self._url, min_size=1, max_size=self._pool_size, command_timeout=60, statement_cache_size=_STATEMENTS
        )
        async with self._pool.acquire() as connection:
            await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
            try:
                await self._migrate(connection)
            finally:
                await connection.execute("SELECT pg_advisory_unlock($1)", _MIGRATION_LOCK)

    async def stop(self) -> None:
        """Finish what was begun and close every connection."""
        if self._pool is not None:
            await self._tasks.join()
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

    async def write(self, description: str, op: Operation[T], *, lane: str | None = None, ahead: bool = False) -> T:
        """Run an operation in a transaction, that of its lane if it has one, and commit it."""
        if lane is None:
            return await self._write_alone(description, op)
        job = _Job(description, op, ahead=ahead)
        waiting = self._lanes.get(lane)
        if waiting is None:
            self._lanes[lane] = [job]
            self._tasks.spawn("lane", self._run_lane(lane))
        else:
            waiting.append(job)
        result: T = await job.future
        return result

    async def _run_lane(self, lane: str) -> None:
        waiting = self._lanes[lane]
        while waiting:
            jobs = waiting[:_MAX_GROUP]
            del waiting[: len(jobs)]
            jobs.sort(key=lambda job: not job.ahead)
            try:
                if len(jobs) > 1 and await self._run_together(jobs):
                    continue
            except (asyncpg.PostgresError, OSError):
                _log.warning("operations of a lane are run alone", exc_info=True)
            for job in jobs:
                try:
                    job.resolve(await self._write_alone(job.description, job.op))
                except Exception as error:  # noqa: BLE001  handed to the caller
                    job.resolve(None, error)
        del self._lanes[lane]

    async def _run_together(self, jobs: Sequence[_Job]) -> bool:
        """Run and commit operations in one transaction; false, with nothing done, when one fails after a change."""
        async with self._pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            tx = _PostgresTx(connection)
            outcomes: list[tuple[Any, Exception | None]] = []
            for job in jobs:
                before = tx.changes
                try:
                    outcomes.append((await job.op(tx), None))
                except Exception as error:  # noqa: BLE001  handed to the caller, now or when it is run alone
                    if tx.changes != before or isinstance(error, asyncpg.PostgresError | OSError):
                        await transaction.rollback()
                        return False
                    outcomes.append((None, error))
            try:
                await tx.save()
            except asyncpg.PostgresError:
                await transaction.rollback()
                return False
            try:
                await transaction.commit()
            except Exception as error:  # noqa: BLE001  whether it is committed is not known, so it is not run again
                outcomes = [(None, error)] * len(jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            job.resolve(*outcome)
        return True

    async def _write_alone(self, description: str, op: Operation[T]) -> T:
        """A deadlock or serialization failure is tried again."""
        for attempt in range(_ATTEMPTS):
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    tx = _PostgresTx(connection)
                    result = await op(tx)
                    await tx.save()
                    return result
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
