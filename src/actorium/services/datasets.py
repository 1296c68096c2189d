"""Dataset items: push and read, with the caller's rights checked in the same database operation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from actorium.domain.dataset_items import SEPARATOR, NewItems, parse_items
from actorium.domain.dataset_schemas import check_items
from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.field_statistics import FieldStatistics, schema_fields
from actorium.domain.item_shapes import View, view_of
from actorium.domain.signing import is_content_signature
from actorium.domain.storages import Access, Guarded, Reference, Storage, StorageKind, missing
from actorium.kit import Clock
from actorium.services.access import Principal
from actorium.services.block_merging import BlockMerging
from actorium.services.charging import Change, Charging
from actorium.services.storages import ReadCounts, Storages, checked, guard_change, open_storage, refusal
from actorium.storage import datasets, storages
from actorium.storage.datasets import Block, Found, SchemaUncheckedError
from actorium.storage.db import Database, Tx

_THREAD_BYTES = 256 * 1024
"""Larger pushes are parsed in a thread, so that others are answered meanwhile."""

_FEW_BLOCKS = 16
_SCHEMAS = 1000
"""How many schemas are kept in memory."""


class Window(msgspec.Struct, frozen=True):
    """Which stored items to read. ``limit`` ``None`` is all; with ``desc`` the last item has offset 0."""

    offset: int = 0
    limit: int | None = None
    desc: bool = False

    def bounds(self, total: int) -> tuple[int, int]:
        """First index and the one after the last, of ``total`` stored items."""
        low = min(self.offset, total)
        high = total if self.limit is None else min(low + self.limit, total)
        return (total - high, total - low) if self.desc else (low, high)


class DatasetGoneError(ApiError):
    """The dataset was deleted while its items were being read: 404 if nothing was sent yet, else a broken answer."""

    def __init__(self, dataset_id: str) -> None:
        super().__init__(ErrorType.RECORD_NOT_FOUND, f"Dataset {dataset_id} was deleted while it was being read.")


class Items:
    """A window of items. The end is fixed when it is opened, so pushes meanwhile do not show."""

    def __init__(
        self,
        db: Database,
        reads: ReadCounts | None,
        reader: Principal | None,
        found: Found,
        window: Window,
        blocks: list[Block],
    ) -> None:
        self._db = db
        self._reads = reads
        self._reader = reader
        self._found = found
        self._blocks = blocks
        self._most = datasets.MOST_BLOCKS
        self.dataset_id = found.dataset.id
        self.total = found.item_count
        self.window = window
        self._start, self._end = window.bounds(found.item_count)
        self.count = self._end - self._start
        """How many stored items the window holds."""

    @property
    def is_whole(self) -> bool:
        """Whether the window holds every item of the dataset, first to last."""
        return self.count == self.total and not self.window.desc

    @property
    def text_bytes(self) -> int | None:
        """The size of the JSON texts of all items in the window, if that is known before they are read."""
        return self._found.storage_bytes if self.is_whole else None

    @property
    def name(self) -> str:
        """What the dataset is called: its name or id."""
        return self._found.name or self.dataset_id

    @property
    def fields(self) -> list[str]:
        """Paths of all values in the dataset's items, in the order of their first appearance."""
        return self._found.fields

    def again(self) -> Items:
        """The same window from its beginning, for a look that does not count as a read."""
        return Items(self._db, None, None, self._found, self.window, self._blocks)

    async def pages(self) -> AsyncIterator[tuple[list[bytes], bool]]:
        """JSON texts of the items in reading order, about a megabyte at a time, and whether that was the last page.

        Raises ``DatasetGoneError`` when the rest cannot be read any more.
        """
        async for blocks, is_last in self._windows():
            texts = []
            for block, start, end in blocks:
                part = block.texts(start, end)
                texts += part[::-1] if self.window.desc else part
            yield texts, is_last

    async def unsplit(self) -> AsyncIterator[tuple[list[bytes], bool]]:
        """Like ``pages`` with texts of neighbours still joined by ``SEPARATOR``: the fast way for unchanged items."""
        if self.window.desc:
            async for page in self.pages():
                yield page
            return
        async for blocks, is_last in self._windows():
            yield [_unsplit(block, start, end) for block, start, end in blocks], is_last

    async def _windows(self) -> AsyncIterator[tuple[list[tuple[Block, int, int]], bool]]:
        """Blocks with the part of the dataset to take from each, and whether those are the last ones.

        The next ones are read while the caller works on these.
        """
        blocks = self._blocks
        while self._start < self._end:
            parts = [self._take(block) for block in blocks]
            if not parts:
                raise DatasetGoneError(self.dataset_id)
            if self._reads is not None:
                rows = sum(end - start for _, start, end in parts)
                self._reads.add(self._reader, StorageKind.DATASET, self.dataset_id, read_count=rows)
            if self._start >= self._end:
                yield parts, True
                return
            # The next page has about as many blocks as this one.
            self._most = max(_FEW_BLOCKS, min(2 * len(blocks), datasets.MOST_BLOCKS))
            following = asyncio.create_task(self._db.read("read dataset items", self._next))
            try:
                yield parts, False
                blocks = await following
            finally:
                following.cancel()

    async def _next(self, tx: Tx) -> list[Block]:
        return await datasets.read_blocks(
            tx, self.dataset_id, self._start, self._end, desc=self.window.desc, most=self._most
        )

    def _take(self, block: Block) -> tuple[Block, int, int]:
        start, end = max(block.first_index, self._start), min(block.end_index, self._end)
        if self.window.desc:
            if end < self._end or start >= end:
                raise DatasetGoneError(self.dataset_id)
            self._end = start
        else:
            if start > self._start or start >= end:
                raise DatasetGoneError(self.dataset_id)
            self._start = end
        return block, start, end


def _unsplit(block: Block, start: int, end: int) -> bytes:
    if start == block.first_index and end == block.end_index:
        return block.items
    return SEPARATOR.join(block.texts(start, end))


async def _check_items(schema: dict[str, Any], new: NewItems) -> None:
    if len(new.block) > _THREAD_BYTES:
        await asyncio.to_thread(check_items, schema, new)
    else:
        check_items(schema, new)


class Datasets:
    """The dataset service. ``charging`` is told of items that a run is charged for."""

    def __init__(
        self, db: Database, clock: Clock, reads: ReadCounts, merging: BlockMerging, charging: Charging | None = None
    ) -> None:
        self._db = db
        self._clock = clock
        self._reads = reads
        self._merging = merging
        self._charging = charging
        # Schemas of datasets by id; a dataset keeps the one it was created with.
        self._schemas: dict[str, dict[str, Any]] = {}

    async def push(self, principal: Principal, text: str, body: bytes) -> None:
        """Append the object or array of objects in ``body`` to the dataset ``text`` refers to, all or nothing."""
        reference = Storages.reference(principal, text)
        new = await asyncio.to_thread(parse_items, body) if len(body) > _THREAD_BYTES else parse_items(body)
        condition, args = storages.where_owned(reference, principal.user_id)
        now = self._clock.now_ms()
        checked_id: str | None = None
        if reference.id in self._schemas:
            await _check_items(self._schemas[reference.id], new)
            checked_id = reference.id

        async def op(tx: Tx) -> tuple[str, Change | None]:
            await guard_change(tx, principal, StorageKind.DATASET, reference)
            appended = await datasets.append(tx, condition, args, new, now, checked_id=checked_id)
            if appended is None:
                raise await refusal(tx, principal, StorageKind.DATASET, reference)
            charged = None
            if appended.charged_run_id is not None and self._charging is not None and new.count:
                charged = await self._charging.charge_items(tx, appended.charged_run_id, new.count, now)
            return appended.dataset_id, charged

        while True:
            try:
                dataset_id, charged = await self._db.write("push dataset items", op, lane=reference.lane)
            except SchemaUncheckedError as unchecked:
                # The name may have gone to another dataset by the second time; then its schema is asked for.
                await _check_items(unchecked.schema, new)
                checked_id = unchecked.dataset_id
                if len(self._schemas) >= _SCHEMAS:
                    self._schemas.clear()
                self._schemas[checked_id] = unchecked.schema
            else:
                self._merging.note(dataset_id)
                self._reads.usage.add(principal, StorageKind.DATASET, write_count=new.count)
                if charged is not None and self._charging is not None:
                    await self._charging.announce(charged)
                return

    async def open_items(
        self, principal: Principal | None, text: str, window: Window, *, signature: str | None = None
    ) -> Items:
        """Open a window of items for reading; its first page is read at once."""
        reference = Storages.reference(principal, text)
        now = self._clock.now_ms()

        async def op(tx: Tx) -> tuple[Found, list[Block]]:
            found = await datasets.find(tx, reference)
            dataset = self._check(principal, reference, None if found is None else found.dataset, signature, now)
            if found is None:
                raise missing(StorageKind.DATASET, reference)
            start, end = window.bounds(found.item_count)
            return found, await datasets.read_blocks(tx, dataset.id, start, end, desc=window.desc)

        found, blocks = await self._db.read("read dataset items", op)
        return Items(self._db, self._reads, principal, found, window, blocks)

    async def view(self, principal: Principal | None, text: str, name: str, *, signature: str | None = None) -> View:
        """What the view ``name`` of the dataset's schema asks for. Raises 400 when there is none."""
        reference = Storages.reference(principal, text)
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Storage:
            return await open_storage(
                tx,
                principal,
                StorageKind.DATASET,
                reference,
                Access.READ,
                is_signed=lambda found: is_content_signature(signature, found.url_signing_secret_key, found.id, now),
            )

        return view_of((await self._db.read("read dataset schema", op)).schema, name)

    async def statistics(self, principal: Principal | None, text: str) -> dict[str, dict[str, Any]] | None:
        """Statistics of the fields in the dataset's schema, over all items; ``None`` without such a schema."""
        reference = Storages.reference(principal, text)

        async def op(tx: Tx) -> Storage:
            return await open_storage(tx, principal, StorageKind.DATASET, reference, Access.READ)

        dataset = await self._db.read("resolve dataset", op)
        names = schema_fields(dataset.schema)
        if names is None:
            return None
        statistics = FieldStatistics(names)
        items = await self.open_items(principal, dataset.id, Window())
        async for texts, _ in items.pages():
            await asyncio.to_thread(statistics.add, texts)
        return statistics.result()

    @staticmethod
    def _check(
        principal: Principal | None, reference: Reference, dataset: Guarded | None, signature: str | None, now: int
    ) -> Guarded:
        signed = dataset is not None and is_content_signature(
            signature, dataset.url_signing_secret_key, dataset.id, now
        )
        return checked(dataset, principal, StorageKind.DATASET, reference, Access.READ, signed=signed)
