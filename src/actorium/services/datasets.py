"""Dataset items: push and read, with the caller's rights checked in the same database operation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from actorium.domain.dataset_items import NewItems, parse_items
from actorium.domain.dataset_schemas import check_items
from actorium.domain.field_statistics import FieldStatistics, schema_fields
from actorium.domain.item_shapes import View, view_of
from actorium.domain.signing import is_content_signature
from actorium.domain.storages import Access, Guarded, Reference, Storage, StorageKind, missing
from actorium.kit import Clock
from actorium.services.access import Principal
from actorium.services.block_merging import BlockMerging
from actorium.services.charging import Change, Charging
from actorium.services.item_windows import Items, Window
from actorium.services.record_values import replay
from actorium.services.storages import ReadCounts, Storages, checked, guard_change, open_storage, refusal
from actorium.services.uploads import Uploads
from actorium.storage import datasets, storages
from actorium.storage.blobs import Blobs
from actorium.storage.dataset_blocks import Block, read_blocks
from actorium.storage.datasets import Found, SchemaUncheckedError
from actorium.storage.db import Database, Tx

_THREAD_BYTES = 256 * 1024
"""Larger pushes are parsed in a thread, so that others are answered meanwhile."""

_BLOB_BYTES = 2 * 1024 * 1024
"""Pushes from this size on go into a blob: what is not written twice outweighs three more flushes to disk."""

_SCHEMAS = 1000
"""How many schemas are kept in memory."""


async def _check_items(schema: dict[str, Any], new: NewItems) -> None:
    if len(new.block) > _THREAD_BYTES:
        await asyncio.to_thread(check_items, schema, new)
    else:
        check_items(schema, new)


class Datasets:
    """The dataset service. ``charging`` is told of items that a run is charged for."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        blobs: Blobs,
        reads: ReadCounts,
        merging: BlockMerging,
        charging: Charging | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._blobs = blobs
        self._uploads = Uploads(db, clock, blobs)
        self._reads = reads
        self._merging = merging
        self._charging = charging
        # Schemas of datasets by id; a dataset keeps the one it was created with.
        self._schemas: dict[str, dict[str, Any]] = {}

    async def push(self, principal: Principal, text: str, body: bytes) -> None:
        """Append the object or array of objects in ``body`` to the dataset ``text`` refers to, all or nothing."""
        reference = Storages.reference(principal, text)
        new = await asyncio.to_thread(parse_items, body) if len(body) > _THREAD_BYTES else parse_items(body)
        if len(new.block) >= _BLOB_BYTES:
            await self._push_blob(principal, reference, new)
        else:
            await self._commit(principal, reference, new)

    async def _push_blob(self, principal: Principal, reference: Reference, new: NewItems) -> None:
        condition, args = storages.where_owned(reference, principal.user_id)

        async def announce(tx: Tx) -> tuple[str, dict[str, Any] | None, str]:
            await guard_change(tx, principal, StorageKind.DATASET, reference)
            found = await datasets.find_owned(tx, condition, args)
            if found is None:
                raise await refusal(tx, principal, StorageKind.DATASET, reference)
            return *found, await self._uploads.announce(tx, "items")

        dataset_id, schema, blob_key = await self._db.write("announce dataset items", announce)

        async def held() -> AsyncIterator[bytes]:
            if schema is not None:
                await _check_items(schema, new)
            return replay([new.block])

        async def commit(_size: int) -> None:
            # Into the dataset whose schema was asked, whatever its name leads to by now.
            into = Reference(dataset_id, id=dataset_id)
            await self._commit(principal, into, new, checked_id=dataset_id, blob_key=blob_key)

        await self._uploads.store(blob_key, held, commit)

    async def _commit(
        self,
        principal: Principal,
        reference: Reference,
        new: NewItems,
        *,
        checked_id: str | None = None,
        blob_key: str | None = None,
    ) -> None:
        condition, args = storages.where_owned(reference, principal.user_id)
        now = self._clock.now_ms()
        if checked_id is None and reference.id in self._schemas:
            await _check_items(self._schemas[reference.id], new)
            checked_id = reference.id

        async def op(tx: Tx) -> tuple[str, Change | None]:
            await guard_change(tx, principal, StorageKind.DATASET, reference)
            appended = await datasets.append(tx, condition, args, new, now, checked_id=checked_id, blob_key=blob_key)
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
            return found, await read_blocks(tx, dataset.id, start, end, desc=window.desc)

        found, blocks = await self._db.read("read dataset items", op)
        return Items(self._db, self._blobs, self._reads, principal, found, window, blocks)

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
