"""Dataset items: appended in blocks, read from any position without holding more than a page of them.

A block is a run of neighbouring items as JSON texts with ``SEPARATOR`` between them, and the index of its first
item. Blocks follow each other without gaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from actorium.domain.dataset_items import MAX_FIELDS, SEPARATOR, NewItems
from actorium.domain.storages import Guarded, Reference, StorageKind
from actorium.storage import storages
from actorium.storage.db import Row, Tx

_PAGE_BYTES = 1024 * 1024
MOST_BLOCKS = 500
"""How many blocks can make a page, which has so many only if they are small."""

_BLOCK_BYTES = 512 * 1024
_MERGE_FROM = 64
"""Fewer neighbouring blocks than this are not worth writing their items again."""


class Block(msgspec.Struct, frozen=True):
    """Neighbouring items as read."""

    first_index: int
    item_count: int
    items: bytes

    @property
    def end_index(self) -> int:
        """The index after the last item."""
        return self.first_index + self.item_count

    def texts(self, start: int, end: int) -> list[bytes]:
        """JSON texts of the items from index ``start`` (of the dataset) up to before ``end``."""
        skipped, upto = max(0, start - self.first_index), max(0, end - self.first_index)
        left = self.item_count - skipped
        # From the nearer end: of 100 items in a block of thousands, the others need not be taken apart.
        if 0 < left < upto:
            return self.items.rsplit(SEPARATOR, left)[-left:][: upto - skipped]
        return self.items.split(SEPARATOR, upto)[skipped:upto]


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

    def __init__(self, dataset_id: str, schema: dict[str, Any]) -> None:
        super().__init__(dataset_id)
        self.dataset_id = dataset_id
        self.schema = schema


class Appended(msgspec.Struct, frozen=True):
    """Where items went. ``charged_run_id`` is the run that is charged for each of them, if one is."""

    dataset_id: str
    charged_run_id: str | None


async def append(
    tx: Tx, condition: str, args: Sequence[Any], new: NewItems, now: int, *, checked_id: str | None = None
) -> Appended | None:
    """Append to the dataset the ``condition`` finds; ``None`` when it finds none.

    The update locks the row, so concurrent pushes get their places one after the other. Raises
    ``SchemaUncheckedError`` unless the dataset has no schema or is ``checked_id``.
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
        unchecked = await tx.fetchrow(f"SELECT id, schema_json FROM datasets WHERE {condition}", *args)
        if unchecked is not None:
            raise SchemaUncheckedError(unchecked["id"], msgspec.json.decode(unchecked["schema_json"]))
        return None
    dataset_id: str = row["id"]
    if new.count:
        index = row["item_count"] - new.count
        for items in _parts(new.block):
            count = items.count(SEPARATOR) + 1
            await tx.execute(_INSERT_BLOCK, dataset_id, index, count, len(items), items)
            index += count
        await _add_fields(tx, dataset_id, row["fields_json"], new.fields)
    return Appended(dataset_id, row["charged_run_id"])


async def charge_run(tx: Tx, dataset_id: str, run_id: str) -> None:
    """Let a run be charged for every item from now on."""
    await tx.execute("UPDATE datasets SET charged_run_id = ? WHERE id = ?", run_id, dataset_id)


_INSERT_BLOCK = (
    "INSERT INTO dataset_blocks (dataset_id, first_index, item_count, size_bytes, items) VALUES (?, ?, ?, ?, ?)"
)


def _parts(block: bytes) -> Iterator[bytes]:
    """The items in blocks of bounded size, or of one item: the processor's cache holds what is copied of one."""
    start = 0
    while len(block) - start > _BLOCK_BYTES:
        end = block.rfind(SEPARATOR, start, start + _BLOCK_BYTES + len(SEPARATOR))
        if end < 0 and (end := block.find(SEPARATOR, start)) < 0:
            break
        yield block[start:end]
        start = end + len(SEPARATOR)
    yield block[start:] if start else block


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


async def read_blocks(
    tx: Tx, dataset_id: str, start: int, end: int, *, desc: bool = False, most: int = MOST_BLOCKS
) -> list[Block]:
    """Some blocks of the window ``start <= index < end``, in reading order, beginning at its first item.

    With ``desc`` that is the one before ``end``. A page is about a megabyte of up to ``most`` blocks, which are all
    looked at, or one block if that is larger;
    an empty answer to a window that is not empty means the dataset was deleted.
    """
    if start >= end:
        return []
    order, outermost = ("DESC", "MIN") if desc else ("ASC", "MAX")
    # The first block, and the last one that still fits; the sizes are added up without reading the items.
    begin = "(SELECT MAX(first_index) FROM dataset_blocks WHERE dataset_id = ? AND first_index <= ?)"
    outer = (
        f"(SELECT {outermost}(first_index) FROM (SELECT first_index, size_bytes, SUM(size_bytes) "
        f"OVER (ORDER BY first_index {order} ROWS UNBOUNDED PRECEDING) AS upto FROM "
        "(SELECT first_index, size_bytes FROM dataset_blocks WHERE dataset_id = ? AND first_index < ? "
        f"AND first_index >= {begin} ORDER BY first_index {order} LIMIT ?) AS heads) AS sums "
        "WHERE upto = size_bytes OR upto <= ?)"
    )
    outer_args = (dataset_id, end, dataset_id, start, most, _PAGE_BYTES)
    select = "SELECT first_index, item_count, items FROM dataset_blocks WHERE dataset_id = ? "
    if desc:
        rows = await tx.fetch(
            f"{select} AND first_index < ? AND first_index >= {outer} ORDER BY first_index DESC",
            dataset_id,
            end,
            *outer_args,
        )
    else:
        rows = await tx.fetch(
            f"{select} AND first_index >= {begin} AND first_index <= {outer} ORDER BY first_index",
            dataset_id,
            dataset_id,
            start,
            *outer_args,
        )
    return [Block(row["first_index"], row["item_count"], row["items"]) for row in rows]


async def merge_blocks(tx: Tx, dataset_id: str) -> bool:
    """Put some neighbouring small blocks into one; returns whether there may be more to do.

    Readers rely only on blocks without gaps, so they see the same items before and after.
    """
    # Assigning the value it has locks the row: one process at a time merges, and pushes wait for it.
    row = await tx.fetchrow(
        "UPDATE datasets SET merged_index = merged_index WHERE id = ? RETURNING merged_index", dataset_id
    )
    if row is None:
        return False
    heads = await tx.fetch(
        "SELECT first_index, item_count, size_bytes FROM dataset_blocks WHERE dataset_id = ? AND first_index >= ? "
        "ORDER BY first_index LIMIT ?",
        dataset_id,
        row["merged_index"],
        MOST_BLOCKS,
    )
    if len(heads) < _MERGE_FROM:
        return False
    size, group = 0, list[Row]()
    for head in heads:
        if group and size + head["size_bytes"] > _BLOCK_BYTES:
            break
        group.append(head)
        size += head["size_bytes"]
    start, end = group[0]["first_index"], group[-1]["first_index"] + group[-1]["item_count"]
    if len(group) > 1:
        await _join_blocks(tx, dataset_id, start, end)
    # A block that is still small is the beginning of the next one.
    is_full = len(group) < len(heads)
    await tx.execute("UPDATE datasets SET merged_index = ? WHERE id = ?", end if is_full else start, dataset_id)
    return is_full


async def _join_blocks(tx: Tx, dataset_id: str, start: int, end: int) -> None:
    where = "WHERE dataset_id = ? AND first_index >= ? AND first_index < ?"
    rows = await tx.fetch(f"SELECT items FROM dataset_blocks {where} ORDER BY first_index", dataset_id, start, end)
    items = SEPARATOR.join(row["items"] for row in rows)
    await tx.execute(f"DELETE FROM dataset_blocks {where}", dataset_id, start, end)
    await tx.execute(_INSERT_BLOCK, dataset_id, start, end - start, len(items), items)


async def list_unmerged(tx: Tx) -> list[str]:
    """Datasets that may have blocks to merge."""
    rows = await tx.fetch("SELECT id FROM datasets WHERE item_count - merged_index >= ?", _MERGE_FROM)
    return [row["id"] for row in rows]
