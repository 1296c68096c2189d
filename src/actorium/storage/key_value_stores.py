"""Records of key-value stores: small values in their row, large ones as blobs the row points at.

How a blob comes and goes: ``blob_garbage.py``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actorium.domain.records import Key, KeyRange, NewRecord, Record
from actorium.domain.storages import Guarded, Reference, StorageKind
from actorium.storage import storages
from actorium.storage.blob_garbage import discard_blobs, take_blob
from actorium.storage.db import Row, Tx, placeholders

_READERS_MS = 60_000
"""How long the blob of a replaced record stays, for readers that have just looked it up."""


class StoreSchemaUncheckedError(Exception):
    """The store has a schema, which the record was not held against; nothing was stored."""

    def __init__(self, store_id: str, schema_json: str) -> None:
        super().__init__(store_id)
        self.store_id = store_id
        self.schema_json = schema_json


class Store(msgspec.Struct):
    """A store's row while calls work on it: ``write_count`` as it is by now, the others are what the calls add."""

    id: str
    user_id: str
    schema_json: str | None
    write_count: int
    modified_at: int
    delete_count: int = 0
    storage_bytes: int = 0

    async def save(self, tx: Tx) -> None:
        """Write back what the calls made of it."""
        await tx.execute(
            "UPDATE key_value_stores SET write_count = ?, delete_count = delete_count + ?, "
            "storage_bytes = storage_bytes + ?, modified_at = ?, accessed_at = ? WHERE id = ?",
            self.write_count,
            self.delete_count,
            self.storage_bytes,
            self.modified_at,
            self.modified_at,
            self.id,
        )


async def open_for_change(tx: Tx, reference: Reference, user_id: str, now: int) -> Store | None:
    """The store of ``user_id``, locked until the end of the transaction; ``None`` when there is none.

    It is a copy, which a call that succeeds keeps in ``tx.unsaved``.
    """
    kept = tx.unsaved.get(reference.id or "")
    if not (isinstance(kept, Store) and kept.user_id == user_id):
        condition, args = storages.where_owned(reference, user_id)
        row = await tx.fetchrow(
            f"SELECT id, user_id, schema_json, write_count FROM key_value_stores WHERE {condition} {tx.for_update}",
            *args,
        )
        if row is None:
            return None
        # By its id it may be in use already, if this call goes by its name.
        kept = tx.unsaved.get(row["id"])
        if not isinstance(kept, Store):
            return Store(row["id"], row["user_id"], row["schema_json"], row["write_count"], now)
    return msgspec.structs.replace(kept, modified_at=now)


async def put(
    tx: Tx, reference: Reference, user_id: str, record: NewRecord, now: int, *, checked_id: str | None = None
) -> str | None:
    """Store a record in a store of ``user_id``, and return the store's id; ``None`` when there is no such store.

    The store is locked first, so what is counted and discarded fits what is replaced. Raises
    ``StoreSchemaUncheckedError`` unless the store has no schema or is ``checked_id``.
    """
    store = await open_for_change(tx, reference, user_id, now)
    if store is None:
        return None
    if store.schema_json is not None and store.id != checked_id:
        raise StoreSchemaUncheckedError(store.id, store.schema_json)
    if record.blob_key is not None:
        await take_blob(tx, record.blob_key)
    store.write_count += 1
    store.storage_bytes += record.size_bytes
    key = (store.id, record.key.encode())
    values = (
        store.write_count,
        record.content_type,
        record.content_encoding,
        record.size_bytes,
        now,
        record.value,
        record.blob_key,
    )
    if not await tx.execute(
        f"INSERT INTO records (store_id, key_bytes, {', '.join(_VALUES)}) "
        f"VALUES ({placeholders(2 + len(_VALUES))}) ON CONFLICT (store_id, key_bytes) DO NOTHING",
        *key,
        *values,
    ):
        replaced = await tx.fetchrow(
            "SELECT size_bytes, blob_key FROM records WHERE store_id = ? AND key_bytes = ?", *key
        )
        await tx.execute(
            f"UPDATE records SET {', '.join(f'{name} = ?' for name in _VALUES)} WHERE store_id = ? AND key_bytes = ?",
            *values,
            *key,
        )
        if replaced is not None:
            await _forget(tx, store, replaced, now)
    tx.unsaved[store.id] = store
    return store.id


_VALUES = ("version", "content_type", "content_encoding", "size_bytes", "modified_at", "value", "blob_key")


async def _forget(tx: Tx, store: Store, gone: Row, now: int) -> None:
    store.storage_bytes -= gone["size_bytes"]
    if gone["blob_key"] is not None:
        await discard_blobs(tx, [gone["blob_key"]], now + _READERS_MS)


async def put_record(tx: Tx, store_id: str, key: str, content_type: str, value: bytes, *, now: int) -> None:
    """Store a value of at most a few megabytes in its row, as part of a larger transaction; no schema holds for it."""
    reference = Reference(store_id, id=store_id)
    owner = await tx.fetchrow("SELECT user_id FROM key_value_stores WHERE id = ?", store_id)
    record = NewRecord(key, content_type, None, len(value), value)
    if owner is None or await put(tx, reference, owner["user_id"], record, now, checked_id=store_id) is None:
        raise LookupError(f"key-value store {store_id} does not exist")


async def delete(tx: Tx, reference: Reference, user_id: str, key: str, now: int) -> str | None:
    """Delete a record, present or not, from a store of ``user_id``; ``None`` when there is no such store."""
    store = await open_for_change(tx, reference, user_id, now)
    if store is None:
        return None
    store.write_count += 1
    store.delete_count += 1
    gone = await tx.fetchrow(
        "DELETE FROM records WHERE store_id = ? AND key_bytes = ? RETURNING size_bytes, blob_key",
        store.id,
        key.encode(),
    )
    if gone is not None:
        await _forget(tx, store, gone, now)
    tx.unsaved[store.id] = store
    return store.id


async def find(tx: Tx, reference: Reference, key: str) -> tuple[Guarded | None, Record | None]:
    """What access to a store depends on, and its record ``key``."""
    source, args = storages.from_reference(
        StorageKind.KEY_VALUE_STORE, reference, "LEFT JOIN records r ON r.store_id = s.id AND r.key_bytes = ?"
    )
    row = await tx.fetchrow(
        f"SELECT {storages.GUARDED}, r.store_id, {_RECORD} {source}",
        key.encode(),
        *args,
    )
    if row is None:
        return None, None
    return storages.guarded_of(row), None if row["store_id"] is None else _record_of(row)


_RECORD = "r.key_bytes, r.version, r.content_type, r.content_encoding, r.size_bytes, r.modified_at, r.value, r.blob_key"


def _record_of(row: Row) -> Record:
    return Record(
        bytes(row["key_bytes"]).decode(),
        row["version"],
        row["content_type"],
        row["content_encoding"],
        row["size_bytes"],
        row["modified_at"],
        row["value"],
        row["blob_key"],
    )


async def find_store(tx: Tx, reference: Reference) -> tuple[Guarded | None, str | None]:
    """What access to a store depends on, and its schema."""
    source, args = storages.from_reference(StorageKind.KEY_VALUE_STORE, reference)
    row = await tx.fetchrow(f"SELECT {storages.GUARDED}, s.schema_json {source}", *args)
    return (None, None) if row is None else (storages.guarded_of(row), row["schema_json"])


async def list_keys(tx: Tx, store_id: str, keys: KeyRange, limit: int) -> list[Key]:
    """The first ``limit`` of ``keys``, in the order of their bytes."""
    condition, args = _where(store_id, keys)
    rows = await tx.fetch(
        f"SELECT r.key_bytes, r.size_bytes FROM records r WHERE {condition} ORDER BY r.key_bytes LIMIT ?", *args, limit
    )
    return [Key(bytes(row["key_bytes"]).decode(), row["size_bytes"]) for row in rows]


async def read_page(tx: Tx, store_id: str, keys: KeyRange, limit: int) -> list[Record] | None:
    """The records with the first ``limit`` of ``keys``; ``None`` when the store is gone."""
    if await tx.fetchrow("SELECT 1 AS one FROM key_value_stores WHERE id = ?", store_id) is None:
        return None
    condition, args = _where(store_id, keys)
    rows = await tx.fetch(
        f"SELECT {_RECORD} FROM records r WHERE {condition} ORDER BY r.key_bytes LIMIT ?", *args, limit
    )
    return [_record_of(row) for row in rows]


def _where(store_id: str, keys: KeyRange) -> tuple[str, list[Any]]:
    condition, args = "r.store_id = ? AND r.key_bytes >= ?", [store_id, keys.start]
    return (condition, args) if keys.end is None else (f"{condition} AND r.key_bytes < ?", [*args, keys.end])
