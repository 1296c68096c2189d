"""Metadata rows of datasets, key-value stores and request queues, and the removal of what deleted ones held.

Functions take a transaction, so that services combine them; contents are the engines' business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actorium.domain.models import GeneralAccess
from actorium.domain.storages import (
    DefaultStorageIds,
    Guarded,
    Reference,
    Storage,
    StorageKind,
    StorageSchemas,
    name_key,
)
from actorium.kit import new_id, random_text
from actorium.storage.blob_garbage import discard_blobs
from actorium.storage.db import Row, Tx, placeholders

StorageKey = tuple[StorageKind, str]
"""Kind and id of a storage."""
_DELETE_STEP = 500


class Table(msgspec.Struct, frozen=True):
    """Where a kind lives. ``counters`` are its number columns, ``texts`` the optional columns it has."""

    name: str
    counters: tuple[str, ...]
    texts: tuple[str, ...]
    contents: str
    contents_owner: str
    contents_key: str
    blob_key: str
    """What each row of the contents has to say about its blob."""

    @property
    def columns(self) -> str:
        """Columns of a whole row, and the owner's name, from ``s JOIN users u``."""
        columns = ", ".join(f"s.{column}" for column in (*_COMMON, *self.texts, *self.counters))
        return f"{columns}, u.username"


_COMMON = (
    "id",
    "user_id",
    "name",
    "title",
    "actor_id",
    "run_id",
    "created_at",
    "modified_at",
    "accessed_at",
    "general_access",
    "maker_actor_id",
    "starter_actor_id",
)

TABLES = {
    StorageKind.DATASET: Table(
        "datasets",
        ("item_count", "clean_item_count", "read_count", "write_count", "storage_bytes"),
        ("url_signing_secret_key", "schema_json", "fields_json"),
        "dataset_blocks",
        "dataset_id",
        "first_index",
        "blob_key",
    ),
    StorageKind.KEY_VALUE_STORE: Table(
        "key_value_stores",
        ("read_count", "write_count", "delete_count", "list_count", "storage_bytes"),
        ("url_signing_secret_key", "schema_json"),
        "records",
        "store_id",
        "key_bytes",
        "blob_key",
    ),
    StorageKind.REQUEST_QUEUE: Table(
        "request_queues",
        (
            "total_count",
            "handled_count",
            "had_multiple_clients",
            "read_count",
            "write_count",
            "delete_count",
            "head_item_read_count",
            "storage_bytes",
        ),
        (),
        "requests",
        "queue_id",
        "id",
        "NULL AS blob_key",
    ),
}


def _json(row: Row, column: str, present: Sequence[str]) -> Any:
    if column not in present or row[column] is None:
        return None
    return msgspec.json.decode(row[column])


def storage_of(kind: StorageKind, row: Row) -> Storage:
    """The metadata in a row selected with the table's ``columns``."""
    table = TABLES[kind]
    return Storage(
        kind=kind,
        id=row["id"],
        user_id=row["user_id"],
        username=row["username"],
        name=row["name"],
        title=row["title"],
        actor_id=row["actor_id"],
        run_id=row["run_id"],
        created_at=row["created_at"],
        modified_at=row["modified_at"],
        accessed_at=row["accessed_at"],
        general_access=row["general_access"],
        counters={column: row[column] for column in table.counters},
        url_signing_secret_key=row["url_signing_secret_key"] if "url_signing_secret_key" in table.texts else None,
        schema=_json(row, "schema_json", table.texts),
        fields=_json(row, "fields_json", table.texts),
        maker_actor_id=row["maker_actor_id"],
        starter_actor_id=row["starter_actor_id"],
    )


def where_reference(reference: Reference) -> tuple[str, tuple[Any, ...]]:
    """The condition on ``s`` and ``u`` that finds what ``reference`` points at, whoever owns it."""
    if reference.id is not None:
        return "s.id = ?", (reference.id,)
    if reference.owner_id is not None:
        return "s.user_id = ? AND s.name_key = ?", (reference.owner_id, reference.name_key)
    return "u.username_key = ? AND s.name_key = ?", (reference.owner_name, reference.name_key)


def from_reference(kind: StorageKind, reference: Reference, more: str = "") -> tuple[str, tuple[Any, ...]]:
    """``FROM ... WHERE ...`` finding ``reference`` as ``s``, with the joins ``more`` between."""
    condition, args = where_reference(reference)
    users = "JOIN users u ON u.id = s.user_id" if reference.owner_name is not None else ""
    return f"FROM {TABLES[kind].name} s {users} {more} WHERE {condition}", args


GUARDED = "s.id, s.user_id, s.general_access, s.url_signing_secret_key, s.run_id, s.maker_actor_id, s.starter_actor_id"
"""Columns of ``guarded_of``, for the kinds that have signed addresses."""


def guarded_of(row: Row) -> Guarded:
    """What access depends on, from a row selected with ``GUARDED``."""
    return Guarded(
        row["id"],
        row["user_id"],
        row["general_access"],
        row["url_signing_secret_key"],
        row["run_id"],
        row["maker_actor_id"],
        row["starter_actor_id"],
    )


def where_owned(reference: Reference, user_id: str) -> tuple[str, tuple[Any, ...]]:
    """The condition on a storage's own table that finds ``reference`` only when ``user_id`` owns it.

    For statements that change a storage: one ``UPDATE ... WHERE`` finds, checks and locks the row at once.
    """
    if reference.id is not None:
        return "id = ? AND user_id = ?", (reference.id, user_id)
    if reference.owner_id == user_id:
        return "user_id = ? AND name_key = ?", (user_id, reference.name_key)
    return "1 = 0", ()


async def find(tx: Tx, kind: StorageKind, reference: Reference) -> Storage | None:
    """The storage ``reference`` points at, without any check of who asks."""
    table = TABLES[kind]
    condition, args = where_reference(reference)
    row = await tx.fetchrow(
        f"SELECT {table.columns} FROM {table.name} s JOIN users u ON u.id = s.user_id WHERE {condition}",
        *args,
    )
    return None if row is None else storage_of(kind, row)


async def get(tx: Tx, kind: StorageKind, storage_id: str) -> Storage | None:
    """The storage with this id."""
    return await find(tx, kind, Reference(storage_id, id=storage_id))


async def list_of_user(
    tx: Tx, kind: StorageKind, user_id: str, *, unnamed: bool, offset: int, limit: int, desc: bool
) -> tuple[int, list[Storage]]:
    """How many storages ``user_id`` has, and a page of them by creation time; ``unnamed`` includes unnamed ones."""
    table = TABLES[kind]
    named = "" if unnamed else "AND s.name_key IS NOT NULL"
    order = "DESC" if desc else "ASC"
    total = await tx.fetchrow(
        f"SELECT COUNT(*) AS total FROM {table.name} s WHERE s.user_id = ? {named}",
        user_id,
    )
    assert total is not None  # noqa: S101  an aggregate always has a row
    rows = await tx.fetch(
        f"SELECT {table.columns} FROM {table.name} s JOIN users u ON u.id = s.user_id "
        f"WHERE s.user_id = ? {named} ORDER BY s.created_at {order}, s.id {order} LIMIT ? OFFSET ?",
        user_id,
        limit,
        offset,
    )
    return total["total"], [storage_of(kind, row) for row in rows]


async def insert(
    tx: Tx,
    kind: StorageKind,
    *,
    user_id: str,
    now: int,
    name: str | None = None,
    actor_id: str | None = None,
    run_id: str | None = None,
    maker_actor_id: str | None = None,
    starter_actor_id: str | None = None,
    schema: dict[str, Any] | None = None,
) -> str | None:
    """Insert a new storage and return its id; ``None`` when the user has one of this name."""
    storage_id = new_id()
    values: dict[str, Any] = {
        "id": storage_id,
        "user_id": user_id,
        "name": name,
        "name_key": None if name is None else name_key(name),
        "actor_id": actor_id,
        "run_id": run_id,
        "created_at": now,
        "modified_at": now,
        "accessed_at": now,
        "general_access": GeneralAccess.FOLLOW_USER_SETTING.value,
        "maker_actor_id": maker_actor_id,
        "starter_actor_id": starter_actor_id,
    }
    texts = TABLES[kind].texts
    if "url_signing_secret_key" in texts:
        values["url_signing_secret_key"] = random_text(32)
    if "schema_json" in texts and schema is not None:
        values["schema_json"] = msgspec.json.encode(schema).decode()
    count = await tx.execute(
        f"INSERT INTO {TABLES[kind].name} ({', '.join(values)}) VALUES ({placeholders(len(values))}) "
        "ON CONFLICT (user_id, name_key) DO NOTHING",
        *values.values(),
    )
    return storage_id if count else None


async def create_default_storages(
    tx: Tx,
    *,
    run_id: str,
    actor_id: str,
    user_id: str,
    now: int,
    schemas: StorageSchemas,
    starter_actor_id: str | None = None,
) -> DefaultStorageIds:
    """Insert the storages a run starts with, unnamed and marked with the run and the Actor whose run started it."""

    async def create(kind: StorageKind, schema: dict[str, Any] | None = None) -> str:
        created = await insert(
            tx,
            kind,
            user_id=user_id,
            now=now,
            actor_id=actor_id,
            run_id=run_id,
            maker_actor_id=actor_id,
            starter_actor_id=starter_actor_id,
            schema=schema,
        )
        assert created is not None  # noqa: S101  unnamed storages never conflict
        return created

    datasets = {alias: await create(StorageKind.DATASET, schema) for alias, schema in schemas.datasets.items()}
    return DefaultStorageIds(
        datasets.pop("default"),
        await create(StorageKind.KEY_VALUE_STORE, schemas.key_value_store),
        await create(StorageKind.REQUEST_QUEUE),
        datasets,
    )


async def update(tx: Tx, kind: StorageKind, storage_id: str, changes: dict[str, str | None], now: int) -> None:
    """Set columns ``name``, ``title``, ``general_access``; a name already taken raises ``UniqueViolationError``."""
    columns: dict[str, Any] = {"modified_at": now, "accessed_at": now, **changes}
    if "name" in changes:
        name = changes["name"]
        columns["name_key"] = None if name is None else name_key(name)
    assignments = ", ".join(f"{column} = ?" for column in columns)
    await tx.execute(
        f"UPDATE {TABLES[kind].name} SET {assignments} WHERE id = ?",
        *columns.values(),
        storage_id,
    )


async def delete(tx: Tx, kind: StorageKind, storage_id: str, now: int) -> bool:
    """Delete a storage. It is gone at once; its contents follow in steps, see ``empty_deleted``."""
    if not await tx.execute(f"DELETE FROM {TABLES[kind].name} WHERE id = ?", storage_id):
        return False
    await tx.execute("INSERT INTO storage_garbage (id, kind, deleted_at) VALUES (?, ?, ?)", storage_id, kind.value, now)
    return True


async def delete_run_storages(tx: Tx, run_id: str, now: int) -> None:
    """Delete the storages made for a run, except those that were given a name since."""
    for kind, table in TABLES.items():
        for row in await tx.fetch(f"SELECT id FROM {table.name} WHERE run_id = ? AND name_key IS NULL", run_id):
            await delete(tx, kind, row["id"], now)


async def list_unused(tx: Tx, *, used_before: int, most: int) -> list[StorageKey]:
    """Up to ``most`` unnamed storages that no run made and nobody has used since."""
    found: list[StorageKey] = []
    for kind, table in TABLES.items():
        rows = await tx.fetch(
            f"SELECT id FROM {table.name} WHERE name_key IS NULL AND run_id IS NULL AND created_at < ? "
            "AND accessed_at < ? ORDER BY created_at LIMIT ?",
            used_before,
            used_before,
            most - len(found),
        )
        found += [(kind, row["id"]) for row in rows]
    return found


async def empty_deleted(tx: Tx, now: int) -> bool:
    """Remove one step's worth of a deleted storage's contents; returns whether there is more to do."""
    garbage = await tx.fetchrow(f"SELECT id, kind FROM storage_garbage LIMIT 1 {tx.skip_locked}")
    if garbage is None:
        return False
    table = TABLES[StorageKind(garbage["kind"])]
    # Dataset blocks reach megabytes each, so fewer of them make a step.
    step = _DELETE_STEP // 20 if table.contents == "dataset_blocks" else _DELETE_STEP
    rows = await tx.fetch(
        f"DELETE FROM {table.contents} WHERE {table.contents_owner} = ? AND {table.contents_key} IN "
        f"(SELECT {table.contents_key} FROM {table.contents} WHERE {table.contents_owner} = ? "
        f"ORDER BY {table.contents_key} LIMIT ?) "
        f"RETURNING {table.blob_key}",
        garbage["id"],
        garbage["id"],
        step,
    )
    # Blocks of a dataset share blobs; a blob that goes with the first of them is handed over again with others.
    await discard_blobs(tx, {row["blob_key"] for row in rows if row["blob_key"] is not None}, now)
    if len(rows) < step:
        await tx.execute("DELETE FROM storage_garbage WHERE id = ?", garbage["id"])
    return True


async def add_reads(tx: Tx, kind: StorageKind, reads: Sequence[tuple[str, int, dict[str, int]]]) -> None:
    """Book reads: ``(storage id, accessed at, added to counter columns)`` each. Deleted storages are passed over."""
    for storage_id, accessed_at, added in sorted(reads, key=lambda read: read[0]):
        sums = "".join(f", {column} = {column} + ?" for column in added)
        await tx.execute(
            f"UPDATE {TABLES[kind].name} SET accessed_at = "
            f"CASE WHEN accessed_at < ? THEN ? ELSE accessed_at END{sums} WHERE id = ?",
            accessed_at,
            accessed_at,
            *added.values(),
            storage_id,
        )
