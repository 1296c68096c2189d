"""Datasets as those who push and read see them; their items are in ``dataset_blocks.py``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from actorium.domain.dataset_items import MAX_FIELDS, SEPARATOR, NewItems
from actorium.domain.storages import Guarded, Reference, StorageKind
from actorium.storage import storages
from actorium.storage.blob_garbage import take_blob
from actorium.storage.dataset_blocks import insert_blocks, split, split_blob
from actorium.storage.db import Tx


class Found(msgspec.Struct, frozen=True):
    """What access to a dataset depends on, and what its items have in common."""

    dataset: Guarded
    item_count: int
    storage_bytes: int
    name: str | None
    fields_json: str | None

    @property
    def fields(self) -> list[str]:
        """Paths of all values in its items, in the order of their first appearance."""
        return [] if self.fields_json is None else msgspec.json.decode(self.fields_json, type=list[str])


@lru_cache(maxsize=1024)
def _known_fields(fields_json: str) -> frozenset[str]:
    return frozenset(msgspec.json.decode(fields_json, type=list[str]))


class SchemaUncheckedError(Exception):
    """The dataset has a schema, which the items were not held against; nothing was appended."""

    def __init__(self, dataset_id: str, schema: dict[str, Any] | None) -> None:
        super().__init__(dataset_id)
        self.dataset_id = dataset_id
        self.schema = schema or {}


class Appended(msgspec.Struct, frozen=True):
    """Where items went. ``charged_run_id`` is the run that is charged for each of them, if one is."""

    dataset_id: str
    charged_run_id: str | None


async def append(
    tx: Tx,
    condition: str,
    args: Sequence[Any],
    new: NewItems,
    now: int,
    *,
    checked_id: str | None = None,
    blob_key: str | None = None,
) -> Appended | None:
    """Append to the dataset the ``condition`` finds; ``None`` when it finds none. A ``blob_key`` holds ``new.block``.

    The update locks the row, so concurrent pushes get their places one after the other. Raises
    ``SchemaUncheckedError`` unless the dataset has no schema or is ``checked_id``, and ``BlobClaimedError``.
    """
    row = await tx.fetchrow(
        "UPDATE datasets SET item_count = item_count + ?, clean_item_count = clean_item_count + ?, "
        "write_count = write_count + ?, storage_bytes = storage_bytes + ?, modified_at = ?, accessed_at = ? "
        f"WHERE {condition} AND (schema_json IS NULL OR id = ?) RETURNING id, item_count, fields_json, charged_run_id",
        new.count,
        new.clean_count,
        new.count,
        # Without the separators, which depend on what is in one block.
        len(new.block) - len(SEPARATOR) * max(0, new.count - 1),
        now,
        now,
        *args,
        checked_id,
    )
    if row is None:
        if (unchecked := await find_owned(tx, condition, args)) is not None:
            raise SchemaUncheckedError(*unchecked)
        return None
    dataset_id: str = row["id"]
    if new.count:
        index = row["item_count"] - new.count
        if blob_key is not None:
            await take_blob(tx, blob_key)
            await insert_blocks(tx, dataset_id, split_blob(index, new.block, blob_key))
        else:
            await insert_blocks(tx, dataset_id, split(index, new.block))
        await _add_fields(tx, dataset_id, row["fields_json"], new.fields)
    return Appended(dataset_id, row["charged_run_id"])


async def find_owned(tx: Tx, condition: str, args: Sequence[Any]) -> tuple[str, dict[str, Any] | None] | None:
    """Id and schema of the dataset the ``condition`` finds."""
    row = await tx.fetchrow(f"SELECT id, schema_json FROM datasets WHERE {condition}", *args)
    if row is None:
        return None
    return row["id"], None if row["schema_json"] is None else msgspec.json.decode(row["schema_json"])


async def charge_run(tx: Tx, dataset_id: str, run_id: str) -> None:
    """Let a run be charged for every item from now on."""
    await tx.execute("UPDATE datasets SET charged_run_id = ? WHERE id = ?", run_id, dataset_id)


async def _add_fields(tx: Tx, dataset_id: str, fields_json: str | None, new: Sequence[str]) -> None:
    known = frozenset[str]() if fields_json is None else _known_fields(fields_json)
    added = [name for name in new if name not in known][: max(0, MAX_FIELDS - len(known))]
    if added:
        before: list[str] = [] if fields_json is None else msgspec.json.decode(fields_json)
        text = msgspec.json.encode(before + added).decode()
        await tx.execute("UPDATE datasets SET fields_json = ? WHERE id = ?", text, dataset_id)


async def find(tx: Tx, reference: Reference) -> Found | None:
    """A dataset as a reader of its items needs it."""
    source, args = storages.from_reference(StorageKind.DATASET, reference)
    row = await tx.fetchrow(
        f"SELECT {storages.GUARDED}, s.item_count, s.storage_bytes, s.name, s.fields_json {source}", *args
    )
    if row is None:
        return None
    return Found(storages.guarded_of(row), row["item_count"], row["storage_bytes"], row["name"], row["fields_json"])


async def exists(tx: Tx, dataset_id: str) -> bool:
    """Whether the dataset is there."""
    return await tx.fetchrow("SELECT 1 AS one FROM datasets WHERE id = ?", dataset_id) is not None
