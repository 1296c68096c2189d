"""Dataset items in blobs, on every database and blob store: large pushes, merged blocks, their end."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actorium.domain.errors import ApiError, ErrorType
from actorium.services.block_merging import BlockMerging
from actorium.services.item_windows import DatasetGoneError, Window
from actorium.services.uploads import Uploads
from actorium.storage.blob_garbage import BlobClaimedError
from actorium.storage.blobs import BlobNotFoundError, Blobs
from actorium.storage.db import Database
from support.dataset_bench import AddUser, DatasetBench, HookedBlobs

PAD = "x" * 40_000


@pytest.fixture
async def bench(database: Database, blobs: Blobs, add_user: AddUser) -> DatasetBench:
    return await DatasetBench.open(database, blobs, add_user)


@pytest.fixture
async def hooked(database: Database, add_user: AddUser, tmp_path: Path) -> AsyncIterator[DatasetBench]:
    blobs = HookedBlobs(tmp_path / "blobs")
    await blobs.start()
    yield await DatasetBench.open(database, blobs, add_user)
    await blobs.stop()


def hook(bench: DatasetBench) -> HookedBlobs:
    assert isinstance(bench.blobs, HookedBlobs)
    return bench.blobs


def files(bench: DatasetBench) -> int:
    return sum(path.is_file() for path in hook(bench)._directory.rglob("*"))


async def unsplit(bench: DatasetBench, offset: int, limit: int | None) -> list[object]:
    items = await bench.datasets.open_items(bench.jane, bench.id, Window(offset, limit))
    joined = b"\n".join([part async for parts, _ in items.unsplit() for part in parts])
    return [json.loads(text) for text in joined.split(b"\n")] if joined else []


async def test_any_window_over_rows_and_blobs(bench: DatasetBench) -> None:
    """Blocks in rows before, between and behind those in blobs; and again when the rows have become a blob too."""
    chance = random.Random(5)
    stored: list[object] = []

    async def push(count: int) -> None:
        items = [{"n": len(stored) + n, "pad": PAD} for n in range(count)]
        await bench.push(*items)
        stored.extend(items)

    for count in (60, 1, 2, 55, *[10] * 3, 70, 3, *[20] * 7):
        await push(count)
    before = await bench.blob_keys()
    assert len(before) == 3
    for _ in range(2):
        for _ in range(20):
            offset, limit, desc = chance.randint(0, 370), chance.choice([None, 1, 5, 70]), chance.random() < 0.4
            expected = (stored[::-1] if desc else stored)[offset : None if limit is None else offset + limit]
            assert await bench.read(offset, limit, desc=desc) == expected, (offset, limit, desc)
            if not desc:
                assert await unsplit(bench, offset, limit) == expected, (offset, limit)
        await bench.merging.sweep()
    assert len(await bench.blob_keys() - before) == 2
    left = await bench.rows("SELECT item_count FROM dataset_blocks WHERE items IS NOT NULL ORDER BY first_index")
    assert left == [(1,), (2,)], "too little between two blobs to be one"
    assert await bench.rows("SELECT blob_key FROM blob_garbage") == []
    counters = await bench.counters()
    assert counters["storage_bytes"] == sum(len(json.dumps(item)) for item in stored)


async def test_many_small_pushes_become_a_blob_unseen(bench: DatasetBench) -> None:
    stored = [{"n": n, "pad": PAD} for n in range(150)]
    for item in stored[:140]:
        await bench.push(item)
    items = await bench.datasets.open_items(bench.jane, bench.id, Window(3))
    pages = items.pages()
    seen = (await anext(pages))[0]
    # What is pushed meanwhile is neither lost nor moved twice.
    await asyncio.gather(bench.merging.sweep(), *(bench.push(item) for item in stored[140:]))
    async for texts, _ in pages:
        seen += texts
    assert [json.loads(text) for text in seen] == stored[3:140]
    assert len(await bench.blob_keys()) == 1
    assert await bench.block_count() < 12 + 11, "a reader of one item reads no more than 512 KB"
    sizes = await bench.rows("SELECT size_bytes FROM dataset_blocks")
    assert max(size for (size,) in sizes) <= 512 * 1024
    numbers = [item["n"] for item in await bench.read()]  # type: ignore[index]
    assert numbers[:140] == list(range(140)) and sorted(numbers[140:]) == list(range(140, 150))


async def test_a_deleted_dataset_takes_its_blobs_along(bench: DatasetBench) -> None:
    await bench.push(*({"n": n, "pad": PAD} for n in range(60)))
    for n in range(120):
        await bench.push({"n": n, "pad": PAD})
    await bench.merging.sweep()
    keys = await bench.blob_keys()
    assert len(keys) == 2
    items = await bench.datasets.open_items(bench.jane, bench.id, Window())
    await bench.delete()
    sweeping = asyncio.create_task(bench.housekeeping.sweep())
    while not await bench.rows("SELECT blob_key FROM blob_garbage"):
        await asyncio.sleep(0)
    sweeping.cancel()  # the server ends in the middle, and another one goes on
    await asyncio.gather(sweeping, return_exceptions=True)
    await bench.housekeeping.sweep()
    for key in keys:
        with pytest.raises(BlobNotFoundError):
            await bench.blobs.read(key, 0, 1)
    for table in ("dataset_blocks", "storage_garbage", "blob_garbage"):
        assert await bench.rows(f"SELECT 1 AS one FROM {table}") == []
    with pytest.raises(DatasetGoneError):
        async for _ in items.pages():
            pass


async def test_a_lost_blob_is_no_empty_page(bench: DatasetBench) -> None:
    await bench.push(*({"n": n, "pad": PAD} for n in range(60)))
    for key in await bench.blob_keys():
        await bench.blobs.delete(key)
    with pytest.raises(BlobNotFoundError):
        await bench.read()


async def test_what_a_crash_before_the_commit_left_is_removed(hooked: DatasetBench) -> None:
    await hooked.push({"n": 0})
    uploads = Uploads(hooked.database, hooked.clock, hooked.blobs)
    key = await hooked.database.write("announce", lambda tx: uploads.announce(tx, "items"))

    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"n":1}'

    await hooked.blobs.put(key, chunks())
    await hooked.housekeeping.sweep()
    assert (files(hooked), await hooked.read()) == (1, [{"n": 0}]), "it may still be committed"
    hooked.clock.advance(24 * 3600)
    await hooked.housekeeping.sweep()
    assert (files(hooked), await hooked.read()) == (0, [{"n": 0}])


async def test_a_push_whose_blob_was_claimed_is_refused_whole(hooked: DatasetBench) -> None:
    async def late() -> None:
        hooked.clock.advance(24 * 3600)
        await hooked.housekeeping.sweep()

    hook(hooked).after_put = late
    with pytest.raises(BlobClaimedError):
        await hooked.push(*({"n": n, "pad": PAD} for n in range(60)))
    await hooked.housekeeping.sweep()
    assert (await hooked.read(), files(hooked), await hooked.block_count()) == ([], 0, 0)
    assert (await hooked.counters())["item_count"] == 0


async def test_a_large_push_against_the_schema_leaves_nothing(
    database: Database, blobs: Blobs, add_user: AddUser
) -> None:
    schema = {"fields": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    bench = await DatasetBench.open(database, blobs, add_user, schema)
    with pytest.raises(ApiError) as refused:
        await bench.push(*({"n": str(n), "pad": PAD} for n in range(60)))
    assert refused.value.type is ErrorType.SCHEMA_VALIDATION_ERROR
    await bench.housekeeping.sweep()
    assert await bench.rows("SELECT blob_key FROM blob_garbage") == []
    await bench.push(*({"n": n, "pad": PAD} for n in range(60)))
    assert (await bench.counters())["item_count"] == 60 == len(await bench.read())


@pytest.mark.parametrize("what", ["deleted", "merged by another server"])
async def test_blocks_that_change_while_they_are_moved(hooked: DatasetBench, what: str) -> None:
    stored = [{"n": n, "pad": PAD} for n in range(120)]
    for item in stored:
        await hooked.push(item)
    other = BlockMerging(hooked.database, hooked.clock, hooked.blobs)
    other.note(hooked.id)
    hook(hooked).after_put = hooked.delete if what == "deleted" else other.sweep
    await hooked.merging.sweep()
    await hooked.housekeeping.sweep()
    if what == "deleted":
        assert (files(hooked), await hooked.block_count()) == (0, 0)
    else:
        assert (files(hooked), len(await hooked.blob_keys())) == (1, 1)
        assert await hooked.read() == stored
    assert await hooked.rows("SELECT blob_key FROM blob_garbage") == []
