"""The dataset engine, on every database."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.storages import StorageKind
from actorium.services.block_merging import BlockMerging
from actorium.services.item_windows import DatasetGoneError, Window
from actorium.storage.blobs import LocalBlobs
from actorium.storage.db import Database, Tx
from fakes.clock import FakeClock
from support.dataset_bench import AddUser, DatasetBench


@pytest.fixture
async def bench(database: Database, add_user: AddUser, tmp_path: Path) -> AsyncIterator[DatasetBench]:
    blobs = LocalBlobs(tmp_path / "blobs")
    await blobs.start()
    yield await DatasetBench.open(database, blobs, add_user)
    await blobs.stop()


async def test_any_window_of_any_blocks(bench: DatasetBench) -> None:
    chance = random.Random(7)
    stored: list[object] = []
    while len(stored) < 60:
        block = [{"n": len(stored) + n} for n in range(chance.randint(1, 9))]
        await bench.push(*block)
        stored += block
    for _ in range(60):
        offset, limit, desc = chance.randint(0, 70), chance.choice([None, 1, 5, 40, 100]), chance.random() < 0.5
        expected = (stored[::-1] if desc else stored)[offset : None if limit is None else offset + limit]
        assert await bench.read(offset, limit, desc=desc) == expected, (offset, limit, desc)


@pytest.mark.parametrize("desc", [False, True])
async def test_pages_stay_small(bench: DatasetBench, desc: bool) -> None:
    pad = "x" * 100_000
    for n in range(0, 60, 5):
        await bench.push(*({"n": n + k, "pad": pad} for k in range(5)))
    await bench.push({"n": 60, "pad": "y" * 3_000_000})
    items = await bench.datasets.open_items(bench.jane, bench.id, Window(3, 57, desc))
    sizes, numbers, lasts = [], [], []
    async for texts, is_last in items.pages():
        sizes.append(sum(map(len, texts)))
        numbers += [json.loads(text)["n"] for text in texts]
        lasts.append(is_last)
    everything = list(range(61))
    assert numbers == (everything[::-1] if desc else everything)[3:60]
    assert max(sizes) < 1_600_000 and len(sizes) > 4
    assert lasts == [False] * (len(lasts) - 1) + [True]


async def test_large_pushes_become_several_blocks(bench: DatasetBench, database: Database) -> None:
    """A reader of few items of a large push must not hold all of it, nor may one large item be cut."""
    stored = [{"n": n, "pad": "x" * (2_500_000 if n in (0, 70) else 50_000)} for n in range(100)]
    await bench.push(*stored)
    assert await bench.block_count() >= 6
    assert await bench.read() == stored
    assert await bench.read(desc=True) == stored[::-1]
    for offset in (0, 1, 20, 21, 69, 70, 71, 99):
        assert await bench.read(offset, 2) == stored[offset : offset + 2]
    items = await bench.datasets.open_items(bench.jane, bench.id, Window(40, 1))
    assert [json.loads(text)["n"] for texts in [(await anext(items.pages()))[0]] for text in texts] == [40]
    counters = await bench.counters()
    texts = [json.dumps(item, separators=(",", ":")) for item in stored]
    assert counters["item_count"] == 100
    # json.dumps puts a space after each comma and colon, and what was pushed stays as it was.
    assert counters["storage_bytes"] == sum(map(len, texts)) + 3 * len(texts)


async def test_concurrent_pushes(bench: DatasetBench) -> None:
    await asyncio.gather(*(bench.push(*({"who": who, "n": n} for n in range(3))) for who in range(40)))
    found = [(item["who"], item["n"]) for item in await bench.read()]  # type: ignore[index]
    assert len(found) == 120
    groups = [found[start : start + 3] for start in range(0, 120, 3)]
    assert all(group == [(group[0][0], n) for n in range(3)] for group in groups)
    counters = await bench.counters()
    assert (counters["item_count"], counters["write_count"]) == (120, 120)


async def test_counts_and_fields(bench: DatasetBench) -> None:
    await bench.push({"a": 1, "#h": 2}, {"#h": 1}, {}, {"b": {"c": [1, {"d": 2}], "e": {}}})
    await bench.push({"a": 2})
    await bench.push({"z": 1})
    counters = await bench.counters()
    assert (counters["item_count"], counters["clean_item_count"]) == (6, 4)
    found = await bench.storages.resolve(bench.jane, StorageKind.DATASET, bench.id)
    assert found.fields == ["a", "#h", "b/c/0", "b/c/1/d", "b/e", "z"]


async def test_fields_are_bounded(bench: DatasetBench) -> None:
    await bench.push({"list": list(range(5000)), "x" * 201: 1})
    for n in range(3):
        await bench.push({f"f{n}-{k}": 0 for k in range(900)})
    found = await bench.storages.resolve(bench.jane, StorageKind.DATASET, bench.id)
    assert found.fields is not None and len(found.fields) == 2000
    assert max(map(len, found.fields)) <= 200


async def test_pushes_during_a_read_do_not_show(bench: DatasetBench) -> None:
    for n in range(4):
        await bench.push({"n": n, "pad": "x" * 600_000})
    items = await bench.datasets.open_items(bench.jane, bench.id, Window())
    numbers = []
    async for texts, _ in items.pages():
        numbers += [json.loads(text)["n"] for text in texts]
        await bench.push({"n": 99})
    assert (items.total, numbers) == (4, [0, 1, 2, 3])
    assert len(await bench.read()) > 4


@pytest.mark.parametrize("desc", [False, True])
async def test_a_dataset_that_goes_during_a_read_is_noticed(
    bench: DatasetBench, database: Database, desc: bool
) -> None:
    for n in range(6):
        await bench.push({"n": n, "pad": "x" * 600_000})
    items = await bench.datasets.open_items(bench.jane, bench.id, Window(desc=desc))
    pages = items.pages()
    await anext(pages)

    async def lose(tx: Tx) -> None:
        await tx.execute("DELETE FROM dataset_blocks WHERE first_index = 2 OR first_index = 3")

    await database.write("lose blocks", lose)
    with pytest.raises(DatasetGoneError):
        async for _ in pages:
            pass


async def test_push_to_a_missing_dataset(bench: DatasetBench) -> None:
    await bench.delete()
    for call in (bench.push({}), bench.read()):
        with pytest.raises(ApiError) as refused:
            await call
        assert refused.value.type is ErrorType.RECORD_NOT_FOUND


async def test_small_blocks_are_merged_unseen(bench: DatasetBench, database: Database) -> None:
    chance = random.Random(11)
    stored: list[object] = []

    async def push_some(count: int) -> None:
        for _ in range(count):
            block = [{"n": len(stored) + n, "pad": "x" * 2000} for n in range(chance.randint(1, 3))]
            await bench.push(*block)
            stored.extend(block)

    for _ in range(3):
        await push_some(120)
        items = await bench.datasets.open_items(bench.jane, bench.id, Window(3))
        pages = items.pages()
        seen = (await anext(pages))[0]
        # What is pushed while blocks are merged is neither lost nor counted twice.
        await asyncio.gather(bench.merging.sweep(), push_some(5))
        async for texts, _ in pages:
            seen += texts
        assert [json.loads(text) for text in seen] == stored[3 : 3 + items.count]
        assert await bench.block_count() < 80
        for _ in range(20):
            offset, limit, desc = chance.randint(0, len(stored)), chance.choice([1, 7, None]), chance.random() < 0.5
            expected = (stored[::-1] if desc else stored)[offset : None if limit is None else offset + limit]
            assert await bench.read(offset, limit, desc=desc) == expected
    counters = await bench.counters()
    assert counters["item_count"] == len(stored) == counters["write_count"]


async def test_merging_goes_on_after_a_restart(bench: DatasetBench, database: Database) -> None:
    for n in range(100):
        await bench.push({"n": n})
    successor = BlockMerging(database, FakeClock(), bench.blobs)
    await successor.start()
    await successor.sweep()
    await successor.stop()
    assert await bench.block_count() == 1
    assert await bench.read() == [{"n": n} for n in range(100)]
