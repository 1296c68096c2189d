"""What the settings say, made but not started; and what the command line uses without a server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from actorium.builders.native import Machine as Machine
from actorium.domain.queueing import Capacity, Use
from actorium.kit import Signals, SystemClock
from actorium.runtimes.docker import DockerEngine, EngineReport, examine
from actorium.services.accounts import Accounts
from actorium.services.builds import Builds
from actorium.services.dev_folders import DevFolders
from actorium.services.retention import Retention, RetentionRules
from actorium.services.run_migrations import RunMigrations
from actorium.settings import Settings
from actorium.storage.audit_log import AuditedDatabase
from actorium.storage.blobs import Blobs, LocalBlobs, ObjectStoreBlobs
from actorium.storage.db import Database
from actorium.storage.logs import LogStore
from actorium.storage.postgres import PostgresDatabase
from actorium.storage.sqlite import SqliteDatabase


def open_database(settings: Settings) -> Database:
    """The database of the settings, not started."""
    if settings.database_url:
        return PostgresDatabase(settings.database_url)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return SqliteDatabase(settings.data_dir / "actorium.db", synchronous=settings.sqlite_synchronous)


async def examine_engine(docker_host: str) -> EngineReport:
    """What the Docker engine says of itself."""
    return await examine(DockerEngine(docker_host))


@contextlib.asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncIterator[Accounts]:
    """Users and tokens straight from the database, beside a server or without one."""
    db = AuditedDatabase(open_database(settings), SystemClock())
    await db.start()
    try:
        yield Accounts(db, SystemClock())
    finally:
        await db.stop()


@contextlib.asynccontextmanager
async def open_dev_folders(settings: Settings) -> AsyncIterator[DevFolders]:
    """The folders Actors are developed in, straight from the database."""
    db = open_database(settings)
    await db.start()
    try:
        yield DevFolders(db, SystemClock())
    finally:
        await db.stop()


@contextlib.asynccontextmanager
async def open_migrations(settings: Settings) -> AsyncIterator[RunMigrations]:
    """Migration of runs straight from the database; a server beside it notices within a second."""
    db = open_database(settings)
    await db.start()
    try:
        yield RunMigrations(db, SystemClock(), Signals(), settings.requested_migration_window_secs)
    finally:
        await db.stop()


@contextlib.asynccontextmanager
async def open_retention(settings: Settings) -> AsyncIterator[Retention]:
    """Deletion of what has expired, beside a server or without one."""
    clock = SystemClock()
    db = open_database(settings)
    logs = open_logs(settings)
    await db.start()
    try:
        await logs.start()
        yield Retention(db, clock, Builds(db, clock, Signals(), logs), logs, retention_of(settings))
    finally:
        await logs.stop()
        await db.stop()


def open_logs(settings: Settings) -> LogStore:
    """The logs of the settings, not started."""
    return LogStore(settings.data_dir / "logs", settings.max_log_mbytes * 2**20)


def retention_of(settings: Settings) -> RetentionRules:
    """For how long the settings keep what."""
    return RetentionRules(settings.finished_run_days, settings.untagged_build_days, settings.unnamed_storage_days)


def open_blobs(settings: Settings) -> Blobs:
    """The blob store of the settings, not started."""
    if not settings.blob_store_url:
        return LocalBlobs(settings.data_dir / "blobs")
    options: dict[str, Any] = {
        "endpoint": settings.s3_endpoint_url or None,
        "region": settings.s3_region,
        "access_key_id": settings.s3_access_key_id or None,
        "secret_access_key": settings.s3_secret_access_key or None,
    }
    return ObjectStoreBlobs(settings.blob_store_url, **{key: value for key, value in options.items() if value})


def capacity_of(settings: Settings) -> Capacity:
    """What the settings leave for runs."""
    machine = Use(settings.max_total_memory_mbytes, settings.max_concurrent_runs)
    user = Use(
        settings.max_user_memory_mbytes or machine.memory_mbytes,
        settings.max_user_concurrent_runs or machine.run_count,
    )
    return Capacity(machine, user, queues=settings.when_limits_are_reached == "queue")
