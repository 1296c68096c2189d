"""A real server in the test's own event loop: real database, real blobs, two users."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import uvicorn

from actorium.api.aliases import ResolveRun, storage_aliases
from actorium.api.connections import Connection
from actorium.api.datasets import DatasetRoutes
from actorium.api.http import Api, Call, Route
from actorium.api.key_value_stores import KeyValueStoreRoutes
from actorium.api.request_queues import RequestQueueRoutes
from actorium.domain.errors import not_found
from actorium.domain.storages import DefaultStorageIds
from actorium.kit import SystemClock
from actorium.services.access import Access
from actorium.services.block_merging import BlockMerging
from actorium.services.datasets import Datasets
from actorium.services.key_value_stores import KeyValueStores
from actorium.services.request_queues import RequestQueues
from actorium.services.storage_housekeeping import StorageHousekeeping
from actorium.services.storages import ReadCounts, Storages
from actorium.storage.blobs import LocalBlobs
from actorium.storage.db import Database, Tx
from fakes.accounts import USERS, Accounts, NoAuditLog, NoScopes, NoSessions
from support.checked import CheckedProgram
from support.program import Program
from support.storage_server import StorageServer


@pytest.fixture
async def program(tmp_path: Path, database_url: str) -> AsyncIterator[Program]:
    """The whole program on a clock that stands still."""
    found = Program(tmp_path / "data", database_url)
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def checked(tmp_path: Path, database_url: str) -> AsyncIterator[CheckedProgram]:
    """The whole program, and at the end a look at whether every answer was as the API's document says."""
    found = CheckedProgram(tmp_path / "data", database_url)
    await found.start()
    yield found
    await found.stop()
    assert not found.wrong, "\n".join(found.wrong)


@pytest.fixture
async def server(tmp_path: Path, database: Database) -> AsyncIterator[StorageServer]:
    """All storages over HTTP, and as defaults of the runs in ``server.runs``."""
    clock = SystemClock()

    async def add_users(tx: Tx) -> None:
        for user_id, name in USERS.items():
            await tx.execute(
                "INSERT INTO users (id, username, username_key, email, created_at) VALUES (?, ?, ?, ?, 0)",
                user_id,
                name,
                name,
                f"{name}@example.com",
            )

    await database.write("add users", add_users)
    blobs = LocalBlobs(tmp_path / "blobs")
    await blobs.start()
    reads = ReadCounts(database, clock)
    storages = Storages(database, clock, reads)
    routes: list[Route] = [
        *DatasetRoutes(
            storages, Datasets(database, clock, blobs, reads, BlockMerging(database, clock, blobs))
        ).routes(),
        *KeyValueStoreRoutes(
            storages, KeyValueStores(database, clock, blobs, reads, max_record_bytes=20_000_000)
        ).routes(),
        *RequestQueueRoutes(storages, RequestQueues(database, clock, reads)).routes(),
    ]
    # With its protocol named asyncio turns delays off on accepted connections, as the real server's loop does.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    found = StorageServer(
        url=f"http://127.0.0.1:{sock.getsockname()[1]}",
        database=database,
        blob_directory=tmp_path / "blobs",
        housekeeping=StorageHousekeeping(database, clock, blobs),
        reads=reads,
    )

    async def resolve_run(call: Call) -> DefaultStorageIds:
        try:
            return found.runs[call.path.get("runId") or call.path["actorId"]]
        except KeyError:
            raise not_found("Actor run") from None

    routes += _aliases(routes, resolve_run)
    found.routes = routes
    access = Access(Accounts(), clock, b"k" * 32)
    api = Api(routes, access, None, reads.usage.add_transfer, NoScopes(), NoSessions(), NoAuditLog())
    uvicorn_server = uvicorn.Server(uvicorn.Config(api, lifespan="off", log_config=None, http=Connection))
    serving = asyncio.create_task(uvicorn_server.serve(sockets=[sock]))
    yield found
    uvicorn_server.should_exit = True
    await serving
    await reads.stop()
    await blobs.stop()


def _aliases(routes: Sequence[Route], resolve_run: ResolveRun) -> list[Route]:
    return [
        *storage_aliases("/v2/actor-runs/{runId}", "actorRun", routes, resolve_run),
        *storage_aliases("/v2/actors/{actorId}/runs/last", "actor_runs_last", routes, resolve_run),
    ]
