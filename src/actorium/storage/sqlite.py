"""SQLite: one writer thread with group commit, a few reader threads, a checkpoint thread."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog

from actorium.storage.db import (
    Operation,
    OutOfDiskSpaceError,
    Row,
    Tx,
    UniqueViolationError,
    Unsaved,
    check_schema_version,
    migrations,
)

T = TypeVar("T")
_KEPT_PAGES = 500
"""Unused pages that stay in the file for the next writes: 4 MB."""

_RECLAIM_PAGES = 250
_log = structlog.get_logger("actorium.database")

_MAX_GROUP = 256
_CHECKPOINT_PAGES = 1000
_READERS = 4
_READER_CACHE_KB = 8000
_WRITER_CACHE_KB = 64000
"""Enough for the index over the ids of a million requests, which are spread all over it."""

_ANSWER_SECS = 0.0005
"""How long a reader collects answers that it has, to wake the event loop once for all of them."""


class _SqliteTx:
    """A transaction's statements; its coroutines never suspend, so the thread runs them to the end."""

    skip_locked = ""
    for_update = ""
    row_address = "rowid"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.unsaved: dict[str, Unsaved] = {}

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        return self._connection.execute(sql, args).fetchall()

    async def fetchrow(self, sql: str, *args: Any) -> Row | None:
        row: Row | None = self._connection.execute(sql, args).fetchone()
        return row

    async def execute(self, sql: str, *args: Any) -> int:
        return self._connection.execute(sql, args).rowcount

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._connection.executemany(sql, rows)

    def save(self) -> None:
        """Write back what is unsaved."""
        unsaved, self.unsaved = self.unsaved, {}
        for row in unsaved.values():
            with contextlib.suppress(StopIteration):
                row.save(self).send(None)


class _Job:
    __slots__ = ("ahead", "description", "error", "future", "loop", "op", "result")

    def __init__(self, description: str, op: Operation[Any], *, ahead: bool = False) -> None:
        self.description = description
        self.ahead = ahead
        self.op = op
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self, tx: _SqliteTx) -> None:
        coroutine: Any = self.op(tx)
        try:
            coroutine.send(None)
        except StopIteration as stop:
            self.result = stop.value
        else:
            coroutine.close()
            raise RuntimeError(f"{self.description} awaited something else than its transaction")

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


def _deliver(jobs: list[_Job]) -> None:
    """Answer jobs on their event loops, one wake-up for each loop."""
    loops = {job.loop for job in jobs}
    for loop in loops:
        mine = [job for job in jobs if job.loop is loop]
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, mine)


def _resolve(jobs: list[_Job]) -> None:
    for job in jobs:
        job.resolve()


def _translate(error: BaseException) -> BaseException:
    if isinstance(error, sqlite3.IntegrityError) and "UNIQUE" in str(error):
        return UniqueViolationError(str(error))
    if isinstance(error, sqlite3.OperationalError) and (
        error.sqlite_errorcode in (sqlite3.SQLITE_FULL,) or "disk I/O error" in str(error)
    ):
        return OutOfDiskSpaceError()
    return error


class SqliteDatabase:
    """A database in one file, written by one thread of one process."""

    name = "sqlite"

    def __init__(self, path: Path, *, synchronous: str = "FULL") -> None:
        self._path = path
        self._synchronous = synchronous
        self._writes: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._checkpoint_wanted = threading.Event()
        self._stopping = False
        self._threads: list[threading.Thread] = []

    async def start(self) -> None:
        """Open the file, apply missing migrations, start the threads."""
        if self._threads:
            return
        self._stopping = False
        await asyncio.to_thread(self._migrate)
        bodies = [("writer", self._write_loop), ("checkpoint", self._checkpoint_loop)]
        bodies += [(f"reader-{n}", self._read_loop) for n in range(_READERS)]
        for name, body in bodies:
            thread = threading.Thread(target=body, name=f"sqlite-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    async def stop(self) -> None:
        """Finish queued operations, fold the write-ahead log into the file, close."""
        if not self._threads:
            return
        self._stopping = True
        self._writes.put(None)
        for _ in range(_READERS):
            self._reads.put(None)
        self._checkpoint_wanted.set()
        threads, self._threads = self._threads, []
        for thread in threads:
            await asyncio.to_thread(thread.join)

    async def read(self, description: str, op: Operation[T]) -> T:
        """Run a reading operation on one of the reader threads; each statement sees what is committed by then."""
        job = _Job(description, op)
        self._reads.put(job)
        result: T = await job.future
        return result

    async def write(
        self,
        description: str,
        op: Operation[T],
        *,
        lane: str | None = None,  # noqa: ARG002
        ahead: bool = False,
    ) -> T:
        """Run an operation on the writer thread, which is the lane of all; returns after the commit it is part of."""
        job = _Job(description, op, ahead=ahead)
        self._writes.put(job)
        result: T = await job.future
        return result

    async def reclaim(self) -> bool:
        """Give some of the unused space in the file back; returns whether there is more."""

        async def op(tx: Tx) -> bool:
            row = await tx.fetchrow("PRAGMA freelist_count")
            unused = 0 if row is None else row["freelist_count"]
            if unused <= _KEPT_PAGES:
                return False
            await tx.fetch(f"PRAGMA incremental_vacuum({min(_RECLAIM_PAGES, unused - _KEPT_PAGES)})")
            return bool(unused - _KEPT_PAGES > _RECLAIM_PAGES)

        return await self.write("reclaim space", op)

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=30
        )
        connection.row_factory = sqlite3.Row
        for pragma in (
            # Before anything else is: it counts only in a file without a page.
            "page_size=8192",
            "auto_vacuum=INCREMENTAL",
            "journal_mode=WAL",
            f"synchronous={self._synchronous}",
            "foreign_keys=ON",
            "wal_autocheckpoint=0",
            "temp_store=MEMORY",
            f"cache_size=-{_READER_CACHE_KB if read_only else _WRITER_CACHE_KB}",
            f"query_only={'ON' if read_only else 'OFF'}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _migrate(self) -> None:
        connection = self._connect()
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"
            )
            current = connection.execute("SELECT COALESCE(MAX(number), 0) FROM schema_migrations").fetchone()[0]
            check_schema_version(current)
            for number, name, script in migrations("sqlite"):
                if number <= current:
                    continue
                connection.execute("BEGIN IMMEDIATE")
                try:
                    for statement in _statements(script):
                        connection.execute(statement)
                    connection.execute("INSERT INTO schema_migrations VALUES (?, ?)", (number, name))
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        finally:
            connection.close()

    def _write_loop(self) -> None:
        connection = self._connect()
        tx = _SqliteTx(connection)
        running = True
        while running:
            first = self._writes.get()
            jobs: list[_Job] = []
            running = first is not None
            if first is not None:
                jobs.append(first)
            while len(jobs) < _MAX_GROUP:
                try:
                    job = self._writes.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    running = False
                else:
                    jobs.append(job)
            jobs.sort(key=lambda job: not job.ahead)
            if jobs:
                self._commit_group(connection, tx, jobs)
                _deliver(jobs)
        connection.close()

    def _commit_group(self, connection: sqlite3.Connection, tx: _SqliteTx, jobs: list[_Job]) -> None:
        try:
            if not self._run_together(connection, tx, jobs):
                self._run_apart(connection, tx, jobs)
        except BaseException as error:  # noqa: BLE001  handed to the callers
            failure = _translate(error)
            for job in jobs:
                job.error = job.error or failure
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            _log.error("group commit failed", operations=[job.description for job in jobs], error=str(error))
        self._checkpoint_wanted.set()

    def _run_together(self, connection: sqlite3.Connection, tx: _SqliteTx, jobs: list[_Job]) -> bool:
        """Run and commit operations in one transaction; false, with nothing done, when one fails after a change."""
        tx.unsaved.clear()
        connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            before = connection.total_changes
            try:
                job.run(tx)
            except BaseException as error:  # noqa: BLE001  handed to the caller
                if connection.total_changes != before or not connection.in_transaction:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    return False
                job.error = _translate(error)
        tx.save()
        connection.execute("COMMIT")
        return True

    def _run_apart(self, connection: sqlite3.Connection, tx: _SqliteTx, jobs: list[_Job]) -> None:
        """Run operations again, each so that its changes can be undone alone, and commit them."""
        connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            job.error = None
            tx.unsaved.clear()
            connection.execute("SAVEPOINT op")
            try:
                job.run(tx)
                tx.save()
            except BaseException as error:
                job.error = _translate(error)
                if not connection.in_transaction:  # a full disk ends the whole transaction
                    raise
                connection.execute("ROLLBACK TO op")
            connection.execute("RELEASE op")
        connection.execute("COMMIT")

    def _read_loop(self) -> None:
        connection = self._connect(read_only=True)
        tx = _SqliteTx(connection)
        while (job := self._reads.get()) is not None:
            done: list[_Job] = []
            deadline = time.monotonic() + _ANSWER_SECS
            while job is not None:
                try:
                    job.run(tx)
                except BaseException as error:  # noqa: BLE001  handed to the caller
                    job.error = _translate(error)
                done.append(job)
                if time.monotonic() > deadline:
                    break
                try:
                    job = self._reads.get_nowait()
                except queue.Empty:
                    break
            _deliver(done)
            if job is None:
                break
        connection.close()

    def _checkpoint_loop(self) -> None:
        connection = self._connect()
        wal = self._path.with_name(self._path.name + "-wal")
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        while not self._stopping:
            self._checkpoint_wanted.wait()
            self._checkpoint_wanted.clear()
            try:
                pages = wal.stat().st_size // page_bytes
                if self._stopping or pages > _CHECKPOINT_PAGES:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                if pages > 8 * _CHECKPOINT_PAGES:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except (sqlite3.Error, FileNotFoundError) as error:
                _log.warning("checkpoint failed", error=str(error))
        connection.close()


def _statements(script: str) -> list[str]:
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
