"""Records and their blobs, on every database."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.storages import StorageKind
from actorium.services.access import Principal
from actorium.services.key_value_stores import KeyValueStores, Selection
from actorium.services.storage_housekeeping import StorageHousekeeping
from actorium.services.storages import ReadCounts, Storages
from actorium.storage import key_value_stores as records
from actorium.storage.blob_garbage import BlobClaimedError, discard_blobs
from actorium.storage.blobs import LocalBlobs
from actorium.storage.db import Database, Tx
from fakes.clock import FakeClock

AddUser = Callable[[str, str], Awaitable[Principal]]
JANE = "janeUserId0000001"
LARGE = b"0123456789" * 20_000


class Bench:
    """One user's store, and everything behind it."""

    def __init__(self, database: Database, blobs: LocalBlobs, directory: Path, jane: Principal) -> None:
        self.database = database
        self.clock = FakeClock()
        reads = ReadCounts(database, self.clock)
        self.storages = Storages(database, self.clock, reads)
        self.stores = KeyValueStores(database, self.clock, blobs, reads)
        self.housekeeping = StorageHousekeeping(database, self.clock, blobs)
        self.jane = jane
        self.id = ""
        self._directory = directory

    async def put(self, key: str, value: bytes, *, fail: bool = False) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(value), 50_000):
                yield value[start : start + 50_000]
            if fail:
                raise ConnectionResetError

        await self.stores.put(self.jane, self.id, key, "text/plain", None, chunks())

    async def get(self, key: str) -> bytes:
        record = await self.stores.get(self.jane, self.id, key)
        return b"".join([chunk async for chunk in await self.stores.open_value(record)])

    async def keys(self, limit: int = 1000, **wanted: str) -> tuple[list[str], bool]:
        page = await self.stores.list_keys(self.jane, self.id, Selection(**wanted), limit)
        return [key.key for key in page.keys], page.is_truncated

    async def stored_bytes(self) -> int:
        return (await self.storages.resolve(self.jane, StorageKind.KEY_VALUE_STORE, self.id)).counters["storage_bytes"]

    def files(self) -> int:
        return sum(path.is_file() for path in self._directory.rglob("*"))


@pytest.fixture
async def bench(database: Database, add_user: AddUser, tmp_path: Path) -> AsyncIterator[Bench]:
    blobs = LocalBlobs(tmp_path / "blobs")
    await blobs.start()
    bench = Bench(database, blobs, tmp_path / "blobs", await add_user(JANE, "jane"))
    made, _ = await bench.storages.get_or_create(bench.jane, StorageKind.KEY_VALUE_STORE, None, None)
    bench.id = made.id
    yield bench
    await blobs.stop()


async def test_small_and_large_replace_each_other(bench: Bench) -> None:
    for value in (b"small", LARGE, LARGE[:-1], b"", LARGE):
        await bench.put("K", value)
        assert await bench.get("K") == value
        assert await bench.stored_bytes() == len(value)
    assert bench.files() == 3
    await bench.housekeeping.sweep()
    assert bench.files() == 3
    bench.clock.advance(61)
    await bench.housekeeping.sweep()
    assert bench.files() == 1
    assert await bench.get("K") == LARGE
    await bench.stores.delete(bench.jane, bench.id, "K")
    assert await bench.stored_bytes() == 0
    bench.clock.advance(61)
    await bench.housekeeping.sweep()
    assert bench.files() == 0


async def test_keys_are_ordered_by_their_bytes(bench: Bench) -> None:
    keys = ["a", "B", "Z", "a-1", "a_1", "a.1", "b", "!", "'", "a" * 256]
    for key in keys:
        await bench.put(key, b"")
    ordered = sorted(keys, key=str.encode)
    assert await bench.keys() == (ordered, False)
    assert await bench.keys(limit=4) == (ordered[:4], True)
    assert await bench.keys(after=ordered[3], limit=6) == (ordered[4:], False)
    assert await bench.keys(prefix="a", after="a-1") == (["a.1", "a_1", "a" * 256], False)
    assert await bench.keys(prefix="a.") == (["a.1"], False)


async def test_concurrent_writers_leave_one_value(bench: Bench) -> None:
    values = [bytes([48 + n]) * (150_000 + n) for n in range(4)] + [bytes([65 + n]) * n for n in range(4)]
    await asyncio.gather(*(bench.put("K", value) for value in values))
    value = await bench.get("K")
    assert value in values and await bench.stored_bytes() == len(value)
    bench.clock.advance(61)
    await bench.housekeeping.sweep()
    assert bench.files() == (len(value) > 65_536)
    assert await bench.get("K") == value


async def test_a_failed_upload_keeps_the_old_value(bench: Bench) -> None:
    await bench.put("K", LARGE)
    with pytest.raises(ConnectionResetError):
        await bench.put("K", LARGE * 2, fail=True)
    await bench.housekeeping.sweep()
    assert (await bench.get("K"), bench.files()) == (LARGE, 1)


async def test_an_upload_that_a_crash_cut_off_is_removed(bench: Bench) -> None:
    # What is left when the program dies between the upload and the record's transaction.
    await bench.database.write("announce", lambda tx: discard_blobs(tx, ["records/x/abandoned"], 5))

    async def chunks() -> AsyncIterator[bytes]:
        yield LARGE

    await bench.stores._blobs.put("records/x/abandoned", chunks())
    await bench.housekeeping.sweep()
    assert bench.files() == 0


async def test_a_claimed_blob_cannot_become_a_record(bench: Bench) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield LARGE
        bench.clock.advance(25 * 3600)
        await bench.housekeeping.sweep()

    with pytest.raises(BlobClaimedError):
        await bench.stores.put(bench.jane, bench.id, "K", "text/plain", None, chunks())
    with pytest.raises(ApiError) as refused:
        await bench.get("K")
    assert refused.value.type is ErrorType.RECORD_NOT_FOUND
    bench.clock.advance(1)
    await bench.housekeeping.sweep()
    assert (bench.files(), await bench.stored_bytes()) == (0, 0)


async def test_input_is_part_of_a_larger_transaction(bench: Bench) -> None:
    class Undone(Exception):
        pass

    async def op(tx: Tx, *, fail: bool) -> None:
        await records.put_record(tx, bench.id, "INPUT", "application/json", b'{"a":1}', now=1)
        if fail:
            raise Undone

    with pytest.raises(Undone):
        await bench.database.write("undone", lambda tx: op(tx, fail=True))
    assert await bench.stores.find_record(bench.id, "INPUT") is None
    await bench.database.write("done", lambda tx: op(tx, fail=False))
    record = await bench.stores.find_record(bench.id, "INPUT")
    assert record is not None and (record.value, record.content_type) == (b'{"a":1}', "application/json")


async def test_every_state_of_a_record_has_its_own_tag(bench: Bench) -> None:
    tags = []
    for value in (b"same", b"same", LARGE, LARGE):
        await bench.put("K", value)
        record = await bench.stores.get(bench.jane, bench.id, "K")
        assert record.tag == (await bench.stores.get(bench.jane, bench.id, "K")).tag
        tags.append(record.tag)
    await bench.stores.delete(bench.jane, bench.id, "K")
    await bench.put("K", b"same")
    tags.append((await bench.stores.get(bench.jane, bench.id, "K")).tag)
    assert len(set(tags)) == 5


async def test_a_schema_holds_for_uploads_but_not_for_inputs(bench: Bench) -> None:
    schema = {"collections": {"c": {"keyPrefix": "I", "contentTypes": ["image/png"]}}}
    made, _ = await bench.storages.get_or_create(bench.jane, StorageKind.KEY_VALUE_STORE, "strict", schema)
    bench.id = "~strict"
    for value in (b"x", LARGE):
        with pytest.raises(ApiError) as refused:
            await bench.put("INPUT", value)
        assert refused.value.type is ErrorType.SCHEMA_VALIDATION_ERROR
        await bench.put("free", value)
    await bench.database.write("input", lambda tx: records.put_record(tx, made.id, "INPUT", "a/b", b"{}", now=1))
    assert await bench.get("INPUT") == b"{}"
    assert (await bench.keys(collection="c")) == (["INPUT"], False)
    await bench.housekeeping.sweep()
    assert (bench.files(), await bench.stored_bytes()) == (1, len(LARGE) + 2)


async def test_parts_of_values(bench: Bench) -> None:
    for value in (b"0123456789", LARGE):
        await bench.put("K", value)
        record = await bench.stores.get(bench.jane, bench.id, "K")
        for start, end in ((0, None), (3, 7), (9, None)):
            assert (
                b"".join([chunk async for chunk in await bench.stores.open_value(record, start, end)])
                == value[start:end]
            )


async def test_an_archive_is_read_in_pages(bench: Bench) -> None:
    values = {f"k{n:03}": (LARGE if n % 20 == 0 else b"%d" % n) for n in range(100)}
    for key, value in values.items():
        await bench.put(key, value)
    archive = await bench.stores.archive(bench.jane, bench.id, Selection())
    content = b"".join([piece async for piece in archive])
    await archive.aclose()
    with zipfile.ZipFile(io.BytesIO(content)) as found:
        assert {name: found.read(name) for name in found.namelist()} == values
    unread = await bench.stores.archive(bench.jane, bench.id, Selection(prefix="k"))
    await unread.aclose()
