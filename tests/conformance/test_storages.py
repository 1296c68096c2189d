"""Metadata of storages, on every database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.storages import Access, StorageKind, StorageSchemas
from actorium.domain.usage import UsageService
from actorium.kit import Signals
from actorium.services.access import Principal
from actorium.services.builds import Builds
from actorium.services.retention import Retention, RetentionRules
from actorium.services.storage_housekeeping import StorageHousekeeping
from actorium.services.storages import ReadCounts, Storages, StorageUpdate
from actorium.storage import storages as rows
from actorium.storage.blobs import LocalBlobs
from actorium.storage.db import Database, Tx
from actorium.storage.logs import LogStore
from actorium.storage.sqlite import SqliteDatabase
from fakes.clock import FakeClock

AddUser = Callable[[str, str], Awaitable[Principal]]
JANE, JOHN = "janeUserId0000001", "johnUserId0000002"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def reads(database: Database, clock: FakeClock) -> ReadCounts:
    return ReadCounts(database, clock)


@pytest.fixture
def service(database: Database, clock: FakeClock, reads: ReadCounts) -> Storages:
    return Storages(database, clock, reads)


async def count(database: Database, table: str) -> int:
    async def op(tx: Tx) -> int:
        row = await tx.fetchrow(f"SELECT COUNT(*) AS n FROM {table}")
        assert row is not None
        return int(row["n"])

    return await database.read("count", op)


@pytest.mark.parametrize("kind", list(StorageKind))
async def test_a_storage_from_birth_to_death(
    service: Storages, add_user: AddUser, clock: FakeClock, kind: StorageKind
) -> None:
    jane = await add_user(JANE, "jane")
    made, created = await service.get_or_create(jane, kind, "Name-1", None)
    assert created and made.name == "Name-1" and len(made.id) == 17
    again, created = await service.get_or_create(jane, kind, "nAME-1", None)
    assert not created and again == made
    clock.advance(1)
    renamed = await service.update(jane, kind, "~name-1", StorageUpdate(name="Other", title="T"))
    assert (renamed.name, renamed.title, renamed.modified_at) == ("Other", "T", made.modified_at + 1000)
    assert await service.resolve(jane, kind, "jane~OTHER", Access.WRITE) == renamed
    unnamed = await service.update(jane, kind, made.id, StorageUpdate(name=None))
    assert unnamed.name is None
    await service.delete(jane, kind, made.id)
    for call in (service.resolve(jane, kind, made.id), service.delete(jane, kind, made.id)):
        with pytest.raises(ApiError) as refused:
            await call
        assert refused.value.type is ErrorType.RECORD_NOT_FOUND


@pytest.mark.parametrize("kind", list(StorageKind))
async def test_get_or_create_is_atomic(
    service: Storages, add_user: AddUser, database: Database, kind: StorageKind
) -> None:
    jane = await add_user(JANE, "jane")
    results = await asyncio.gather(*(service.get_or_create(jane, kind, "raced", None) for _ in range(20)))
    assert sum(created for _, created in results) == 1
    assert len({storage.id for storage, _ in results}) == 1


async def test_names_are_per_user_and_kind(service: Storages, add_user: AddUser) -> None:
    jane, john = await add_user(JANE, "jane"), await add_user(JOHN, "john")
    ids = {(await service.get_or_create(who, kind, "same", None))[0].id for who in (jane, john) for kind in StorageKind}
    assert len(ids) == 6
    dataset = StorageKind.DATASET
    await service.get_or_create(jane, dataset, "taken", None)
    with pytest.raises(ApiError) as refused:
        await service.update(jane, dataset, "~same", StorageUpdate(name="TAKEN"))
    assert refused.value.type is ErrorType.NAME_NOT_UNIQUE
    hers = await service.resolve(jane, dataset, "~same")
    for reference in (hers.id, "jane~same", f"{JANE}~same"):
        with pytest.raises(ApiError) as hidden:
            await service.resolve(john, dataset, reference)
        assert hidden.value.type is ErrorType.RECORD_NOT_FOUND
    await service.update(jane, dataset, hers.id, StorageUpdate(general_access="ANYONE_WITH_NAME_CAN_READ"))
    for reference in (hers.id, "JANE~same", f"{JANE}~same"):
        assert (await service.resolve(john, dataset, reference)).id == hers.id
        assert (await service.resolve(None, dataset, reference)).id == hers.id
        with pytest.raises(ApiError):
            await service.update(john, dataset, reference, StorageUpdate(title="x"))


async def test_lists(service: Storages, add_user: AddUser, clock: FakeClock) -> None:
    jane, john = await add_user(JANE, "jane"), await add_user(JOHN, "john")
    kind = StorageKind.REQUEST_QUEUE
    made = []
    for name in ("a", None, "b", "c"):
        made.append((await service.get_or_create(jane, kind, name, None))[0].id)
        clock.advance(1)
    await service.get_or_create(john, kind, "his", None)

    async def listed(**options: Any) -> tuple[int, list[str]]:
        asked = {"unnamed": False, "offset": 0, "limit": 10, "desc": False, **options}
        total, found = await service.list_owned(jane, kind, **asked)
        return total, [storage.id for storage in found]

    assert await listed() == (3, [made[0], made[2], made[3]])
    assert await listed(unnamed=True, desc=True) == (4, made[::-1])
    assert await listed(unnamed=True, offset=1, limit=2) == (4, made[1:3])


async def test_default_storages_live_and_die_with_their_run(
    service: Storages, add_user: AddUser, database: Database, clock: FakeClock
) -> None:
    jane = await add_user(JANE, "jane")

    async def create(tx: Tx) -> Any:
        return await rows.create_default_storages(
            tx, run_id="run1", actor_id="actor1", user_id=JANE, now=5, schemas=StorageSchemas.of(None)
        )

    ids = await database.write("create", create)
    for kind in StorageKind:
        storage = await service.resolve(jane, kind, ids.of(kind))
        assert (storage.run_id, storage.actor_id, storage.created_at, storage.name) == ("run1", "actor1", 5, None)
    await service.update(jane, StorageKind.DATASET, ids.dataset, StorageUpdate(name="kept"))
    await database.write("delete", lambda tx: rows.delete_run_storages(tx, "run1", 6))
    assert (await service.resolve(jane, StorageKind.DATASET, "~kept")).id == ids.dataset
    assert [await count(database, table) for table in ("datasets", "key_value_stores", "request_queues")] == [1, 0, 0]
    assert await count(database, "storage_garbage") == 2


async def test_deleted_contents_are_removed_in_steps(service: Storages, add_user: AddUser, database: Database) -> None:
    jane = await add_user(JANE, "jane")
    for kind in StorageKind:
        kept, _ = await service.get_or_create(jane, kind, None, None)
        gone, _ = await service.get_or_create(jane, kind, None, None)

        async def fill(tx: Tx, kind: StorageKind = kind, ids: tuple[str, str] = (kept.id, gone.id)) -> None:
            for storage_id in ids:
                for n in range(1201):
                    if kind is StorageKind.DATASET:
                        await tx.execute(
                            "INSERT INTO dataset_blocks VALUES (?, ?, 1, 2, NULL, 0, ?)", storage_id, n, b"{}"
                        )
                    elif kind is StorageKind.KEY_VALUE_STORE:
                        await tx.execute(
                            "INSERT INTO records VALUES (?, ?, 1, '', NULL, 0, 0, NULL, ?)",
                            storage_id,
                            str(n).encode(),
                            f"{storage_id}-{n}",
                        )
                    else:
                        await tx.execute(
                            "INSERT INTO requests (queue_id, id, size_bytes, head_json, request_json) "
                            "VALUES (?, ?, 0, '', '')",
                            storage_id,
                            str(n),
                        )

        await database.write("fill", fill)
        await service.delete(jane, kind, gone.id)
    steps = 0
    while await database.write("empty", lambda tx: rows.empty_deleted(tx, 7)):
        steps += 1
    assert steps > 6
    assert [await count(database, table) for table in ("dataset_blocks", "records", "requests")] == [1201] * 3
    assert await count(database, "storage_garbage") == 0
    assert await count(database, "blob_garbage") == 1201


async def test_unused_unnamed_storages_expire(
    service: Storages, add_user: AddUser, clock: FakeClock, database: Database, tmp_path: Path
) -> None:
    jane = await add_user(JANE, "jane")
    blobs = LocalBlobs(tmp_path / "blobs")
    await blobs.start()
    kept = set()
    for kind in StorageKind:
        await service.get_or_create(jane, kind, None, None)
        named, _ = await service.get_or_create(jane, kind, "named", None)
        used, _ = await service.get_or_create(jane, kind, None, None)
        kept |= {named.id, used.id}
    schemas = StorageSchemas.of(None)
    ids = await database.write(
        "of a run",
        lambda tx: rows.create_default_storages(tx, run_id="r", actor_id="a", user_id=JANE, now=0, schemas=schemas),
    )
    kept |= {ids.dataset, ids.key_value_store, ids.request_queue}
    clock.advance(6 * 86_400)
    for kind in StorageKind:
        for storage_id in kept:
            service.reads.add(jane, kind, storage_id)
    await service.reads.flush()
    clock.advance(2 * 86_400)
    logs = LogStore(tmp_path / "logs")
    builds = Builds(database, clock, Signals(), logs)
    await Retention(database, clock, builds, logs, RetentionRules()).sweep()
    assert await count(database, "datasets") == 4
    retention = Retention(database, clock, builds, logs, RetentionRules(unnamed_storage_days=7))
    assert [kind for kind, _ in (await retention.expired(100)).storages] == list(StorageKind)
    await retention.sweep()
    await StorageHousekeeping(database, clock, blobs).sweep()
    await logs.stop()
    left = set()
    for kind in StorageKind:
        left |= {
            one.id for one in (await service.list_owned(jane, kind, unnamed=True, offset=0, limit=10, desc=False))[1]
        }
    assert left == kept
    assert await count(database, "storage_garbage") == 0
    await blobs.stop()


async def test_space_of_what_was_deleted_goes_back_to_the_disk(add_user: AddUser, tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "large.sqlite", synchronous="OFF")
    await database.start()
    await database.write("table", lambda tx: tx.execute("CREATE TABLE filler (data BLOB)"))
    await database.write(
        "fill", lambda tx: tx.executemany("INSERT INTO filler VALUES (?)", [(b"x" * 100_000,) for _ in range(300)])
    )
    await database.write("empty", lambda tx: tx.execute("DELETE FROM filler"))
    steps = 1
    while await database.reclaim():
        steps += 1
    await database.stop()
    assert steps > 5
    assert (tmp_path / "large.sqlite").stat().st_size < 8_000_000


async def test_reads_are_counted_later_but_shown_at_once(
    service: Storages, reads: ReadCounts, add_user: AddUser, clock: FakeClock, database: Database
) -> None:
    jane = await add_user(JANE, "jane")
    kind = StorageKind.KEY_VALUE_STORE
    made, _ = await service.get_or_create(jane, kind, None, None)
    other, _ = await service.get_or_create(jane, kind, None, None)
    clock.advance(3)
    reads.add(jane, kind, made.id, read_count=2)
    reads.add(jane, kind, made.id, list_count=1)
    reads.add(jane, kind, made.id, read_count=1)
    reads.add(jane, StorageKind.DATASET, "deleted-meanwhile", read_count=1)

    async def check() -> None:
        shown = await service.resolve(jane, kind, made.id)
        assert (shown.counters["read_count"], shown.counters["list_count"]) == (3, 1)
        assert (shown.accessed_at, shown.modified_at) == (made.accessed_at + 3000, made.modified_at)
        assert await service.resolve(jane, kind, other.id) == other

    await check()
    await reads.flush()
    await check()
    await reads.start()
    await reads.start()
    reads.add(jane, kind, made.id, read_count=1)
    await reads.stop()
    fresh = Storages(database, clock, ReadCounts(database, clock))
    assert (await fresh.resolve(jane, kind, made.id)).counters["read_count"] == 4


async def test_what_was_read_never_seems_less_while_it_is_written_down(
    service: Storages, reads: ReadCounts, add_user: AddUser, clock: FakeClock
) -> None:
    jane = await add_user(JANE, "jane")
    kind = StorageKind.DATASET
    made, _ = await service.get_or_create(jane, kind, "counted", None)
    seen: list[tuple[int, int]] = []

    async def flush() -> None:
        for _ in range(50):
            clock.advance(0.001)
            reads.add(jane, kind, made.id, read_count=1)
            await reads.flush()

    async def look() -> None:
        while not flushing.done():
            shown = await service.resolve(jane, kind, made.id)
            _, (listed,) = await service.list_owned(jane, kind, unnamed=False, offset=0, limit=1, desc=False)
            seen.extend((one.counters["read_count"], one.accessed_at) for one in (shown, listed))

    flushing = asyncio.create_task(flush())
    await look()
    await flushing
    assert seen == sorted(seen)
    assert (await service.resolve(jane, kind, made.id)).counters["read_count"] == 50


async def test_a_stop_amid_a_flush_counts_once(
    service: Storages, add_user: AddUser, clock: FakeClock, database: Database
) -> None:
    jane = await add_user(JANE, "jane")
    kind = StorageKind.DATASET
    made, _ = await service.get_or_create(jane, kind, None, None)
    for steps in range(12):
        counts = ReadCounts(database, clock)
        await counts.start()
        for _ in range(5):
            await asyncio.sleep(0)
        counts.add(jane, kind, made.id, read_count=1)
        clock.advance(5)
        for _ in range(steps):
            await asyncio.sleep(0)
        await counts.stop()
    assert (await service.resolve(jane, kind, made.id)).counters["read_count"] == 12
    used = await service.reads.usage.monthly(jane.user_id, None)
    assert used.total == {UsageService.DATASET_READS: 12}
