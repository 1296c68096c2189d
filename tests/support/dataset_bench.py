"""One user's dataset on a real database and blob store, without HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from actorium.domain.storages import StorageKind
from actorium.services.access import Principal
from actorium.services.block_merging import BlockMerging
from actorium.services.datasets import Datasets
from actorium.services.item_windows import Window
from actorium.services.storage_housekeeping import StorageHousekeeping
from actorium.services.storages import ReadCounts, Storages
from actorium.storage.blobs import Blobs, LocalBlobs
from actorium.storage.db import Database, Tx
from fakes.clock import FakeClock

AddUser = Callable[[str, str], Awaitable[Principal]]


class DatasetBench:
    """A dataset, and everything behind it."""

    def __init__(self, database: Database, blobs: Blobs, jane: Principal) -> None:
        self.database = database
        self.blobs = blobs
        self.clock = FakeClock()
        reads = ReadCounts(database, self.clock)
        self.storages = Storages(database, self.clock, reads)
        self.merging = BlockMerging(database, self.clock, blobs)
        self.datasets = Datasets(database, self.clock, blobs, reads, self.merging)
        self.housekeeping = StorageHousekeeping(database, self.clock, blobs)
        self.jane = jane
        self.id = ""

    @classmethod
    async def open(
        cls, database: Database, blobs: Blobs, add_user: AddUser, schema: dict[str, Any] | None = None
    ) -> DatasetBench:
        """A new dataset of a new user."""
        found = cls(database, blobs, await add_user("janeUserId0000001", "jane"))
        found.id = (await found.storages.get_or_create(found.jane, StorageKind.DATASET, None, schema))[0].id
        return found

    async def push(self, *items: object) -> None:
        await self.datasets.push(self.jane, self.id, json.dumps(items).encode())

    async def read(self, offset: int = 0, limit: int | None = None, *, desc: bool = False) -> list[object]:
        items = await self.datasets.open_items(self.jane, self.id, Window(offset, limit, desc))
        return [json.loads(text) async for texts, _ in items.pages() for text in texts]

    async def counters(self) -> dict[str, int]:
        return (await self.storages.resolve(self.jane, StorageKind.DATASET, self.id)).counters

    async def delete(self) -> None:
        await self.storages.delete(self.jane, StorageKind.DATASET, self.id)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a statement finds."""

        async def op(tx: Tx) -> list[tuple[Any, ...]]:
            return [tuple(dict(row).values()) for row in await tx.fetch(sql)]

        return await self.database.read("look", op)

    async def block_count(self) -> int:
        return int((await self.rows("SELECT COUNT(*) AS n FROM dataset_blocks"))[0][0])

    async def blob_keys(self) -> set[str]:
        """Blobs of the dataset."""
        return {key for (key,) in await self.rows("SELECT blob_key FROM dataset_blocks WHERE blob_key IS NOT NULL")}


class HookedBlobs(LocalBlobs):
    """A local directory; ``after_put`` is called when an object is stored and nothing points at it yet."""

    after_put: Callable[[], Awaitable[None]] | None = None

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        size = await super().put(key, chunks)
        if (hook := self.after_put) is not None:
            self.after_put = None
            await hook()
        return size
