"""``kill -9`` of the server and of PostgreSQL under writing clients: what was acknowledged is there, once and whole."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.databases import PostgresServer, Query, postgres_query, sqlite_query
from support.platform import Platform
from support.storage_history import Client, History, Storages, check

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900), pytest.mark.xdist_group("faults")]

_SEED = 20_260_201
_CLIENTS = 8


@pytest.fixture
def sqlite_platform(tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(tmp_path / "data").start()
    platform.first_token()
    yield platform
    platform.stop()


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer(durable=True)
    try:
        server.start()
        yield server
    finally:
        server.close()


def new_storages(platform: Platform) -> Storages:
    kinds = ("datasets", "key-value-stores", "request-queues")
    return Storages(*(platform.call("POST", f"/v2/{kind}")["id"] for kind in kinds))


def write_for_a_while(platform: Platform, storages: Storages, histories: list[History], seed: int) -> list[Client]:
    """Clients at work; returns after a random time with all of them still writing."""
    clients = [
        Client(platform, storages, f"c{number}-{seed}", seed + number, history)
        for number, history in enumerate(histories)
    ]
    for client in clients:
        client.start()
    time.sleep(0.1 + random.Random(seed).random() * 1.5)
    return clients


def join(clients: list[Client], seed: int) -> None:
    for client in clients:
        client.stopping.set()
        client.join(60)
        assert not client.is_alive()
        assert client.refusals == [], f"seed {seed}: {client.refusals[0]}"


def check_rows(query: Query, storages: Storages, blob_directory: Path, seed: int) -> None:
    """The counters are what a recount gives, and every blob has a row or is known to be garbage."""
    where = f"seed {seed}"
    blocks = query(
        f"SELECT first_index, item_count, size_bytes, LENGTH(items), blob_key, blob_start FROM dataset_blocks "
        f"WHERE dataset_id = '{storages.dataset}' ORDER BY first_index"
    )
    paths = {path.name: path for path in (blob_directory / "objects").rglob("*") if path.is_file()}
    index = 0
    blob_ends: dict[str, int] = {}
    for first, count, size, length, blob_key, blob_start in blocks:
        assert (first, size) == (index, size if blob_key else length), where
        index += count
        if blob_key:
            blob_ends[blob_key] = blob_start + size
    sizes = {key: paths[key.rpartition("/")[2]].stat().st_size for key in blob_ends}
    assert sizes == blob_ends, where
    counted = query(f"SELECT item_count, storage_bytes FROM datasets WHERE id = '{storages.dataset}'")
    assert counted == [(index, sum(size - (count - 1) for _, count, size, *_ in blocks))], where
    counted = query(
        f"SELECT total_count, handled_count, storage_bytes FROM request_queues WHERE id = '{storages.queue}'"
    )
    recount = query(
        f"SELECT COUNT(*), COUNT(handled_at), COALESCE(SUM(LENGTH(request_json)), 0) FROM requests "
        f"WHERE queue_id = '{storages.queue}'"
    )
    assert counted == [tuple(map(int, recount[0]))], where
    known = {row[0] for row in query("SELECT blob_key FROM records WHERE blob_key IS NOT NULL")} | blob_ends.keys()
    garbage = {row[0] for row in query("SELECT blob_key FROM blob_garbage")}
    assert not known & garbage, where
    assert {key.rpartition("/")[2] for key in known} <= paths.keys(), where
    assert paths.keys() <= {key.rpartition("/")[2] for key in known | garbage}, f"{where}: a blob nobody knows"
    assert list((blob_directory / "unfinished").iterdir()) == [], where


def test_the_server_is_killed_on_sqlite(sqlite_platform: Platform, request: pytest.FixtureRequest) -> None:
    platform = sqlite_platform
    storages, histories = new_storages(platform), [History() for _ in range(_CLIENTS)]
    query = sqlite_query(platform.data_dir / "actorium.db")
    for round_ in range(request.config.getoption("--fault-rounds")):
        seed = _SEED + 100 * round_
        clients = write_for_a_while(platform, storages, histories, seed)
        platform.kill()
        join(clients, seed)
        platform.start()
        check(platform, storages, histories)
        check_rows(query, storages, platform.data_dir / "blobs", seed)
        assert query("PRAGMA integrity_check") == [("ok",)], f"seed {seed}"
    assert sum(len(history.pushes) for history in histories) > _CLIENTS


@pytest.mark.postgres
def test_server_and_database_are_killed_on_postgres(
    postgres: PostgresServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """By turns the server, the database under it, or both: it works again as soon as the database does."""
    platform = Platform(tmp_path / "data", env={"ACTORIUM_DATABASE_URL": postgres.url()}).start()
    try:
        platform.first_token()
        storages, histories = new_storages(platform), [History() for _ in range(_CLIENTS)]
        query = postgres_query(postgres.url())
        for round_ in range(request.config.getoption("--fault-rounds")):
            seed = _SEED + 100 * round_
            clients = write_for_a_while(platform, storages, histories, seed)
            if round_ % 3 == 1:
                platform.kill()
            if round_ % 3 != 1:
                postgres.kill()
            if round_ % 3 == 2:
                platform.kill()
            join(clients, seed)
            if round_ % 3 != 1:
                postgres.start()
            if round_ % 3 != 0:
                platform.start()
            check(platform, storages, histories)
            check_rows(query, storages, platform.data_dir / "blobs", seed)
        assert sum(len(history.pushes) for history in histories) > _CLIENTS
    finally:
        platform.stop()
