"""Which blocks of a dataset are worth being put together, and the exchange of them.

Many small blocks become one in its row, so that few rows are read; when there are megabytes of them they become one
blob, which is read faster and costs the database nothing. Readers rely only on blocks without gaps, so they see the
same items before and after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from actorium.domain.dataset_items import SEPARATOR
from actorium.storage.blob_garbage import take_blob
from actorium.storage.dataset_blocks import BLOCK_BYTES, Block, insert_blocks, read_heads
from actorium.storage.db import Tx

_MERGE_FROM = 64
"""Fewer neighbouring blocks than this are not worth writing their items again."""

_BLOB_BYTES = 4 * 1024 * 1024
"""Items of this size are worth a blob; what follows them joins up to ``_MOST_BLOB_BYTES``."""

_CLOSED_BLOB_BYTES = 1024 * 1024
"""The same between two blobs, where nothing can follow."""

_MOST_BLOB_BYTES = 8 * 1024 * 1024
_HEADS = 4096


class Settled(msgspec.Struct, frozen=True):
    """Before ``index`` there is nothing left to merge."""

    merged_index: int
    index: int


class Join(msgspec.Struct, frozen=True):
    """Blocks to put into one."""

    merged_index: int
    blocks: list[Block]


class Move(msgspec.Struct, frozen=True):
    """Blocks to put into one blob."""

    merged_index: int
    blocks: list[Block]

    @property
    def start(self) -> int:
        """The index of the first item."""
        return self.blocks[0].first_index

    @property
    def end(self) -> int:
        """The index after the last item."""
        return self.blocks[-1].end_index

    def moved(self, blob_key: str) -> Iterator[Block]:
        """The blocks these become."""
        blob_start = 0
        for group in _groups(self.blocks, BLOCK_BYTES):
            block = _joined(group)
            yield Block(block.first_index, block.item_count, block.size_bytes, None, blob_key, blob_start)
            blob_start += block.size_bytes + len(SEPARATOR)


async def plan(tx: Tx, dataset_id: str) -> Settled | Join | Move | None:
    """What to do next; ``None`` when nothing is."""
    row = await tx.fetchrow("SELECT merged_index FROM datasets WHERE id = ?", dataset_id)
    if row is None:
        return None
    merged_index: int = row["merged_index"]
    heads = await read_heads(tx, dataset_id, merged_index, _HEADS)
    settled = merged_index
    for region, is_closed in _regions(heads):
        group = next(_groups(region, _MOST_BLOB_BYTES))
        if _size(group) >= (_CLOSED_BLOB_BYTES if is_closed else _BLOB_BYTES):
            return Move(merged_index, group)
        if len(region) >= _MERGE_FROM:
            for small in _groups(region, BLOCK_BYTES):
                if len(small) > 1:
                    return Join(merged_index, small)
        if not is_closed:
            settled = region[0].first_index
            break
    else:
        settled = heads[-1].end_index if heads else merged_index
    return Settled(merged_index, settled) if settled > merged_index else None


def _regions(heads: Sequence[Block]) -> Iterator[tuple[list[Block], bool]]:
    """Neighbours that are in their rows, and whether blocks in a blob come behind them."""
    region = list[Block]()
    for head in heads:
        if head.blob_key is None:
            region.append(head)
        elif region:
            yield region, True
            region = []
    if region:
        yield region, False


def _groups(blocks: Iterable[Block], most_bytes: int) -> Iterator[list[Block]]:
    """Neighbours of up to ``most_bytes`` together, or one block."""
    group, size = list[Block](), 0
    for block in blocks:
        if group and size + block.size_bytes > most_bytes:
            yield group
            group, size = [], 0
        group.append(block)
        size += block.size_bytes + len(SEPARATOR)
    if group:
        yield group


def _size(group: Sequence[Block]) -> int:
    return sum(block.size_bytes for block in group) + len(SEPARATOR) * (len(group) - 1)


def _joined(group: Sequence[Block]) -> Block:
    return Block(group[0].first_index, group[-1].end_index - group[0].first_index, _size(group))


async def settle(tx: Tx, dataset_id: str, settled: Settled) -> None:
    """Note what is settled."""
    await tx.execute(
        "UPDATE datasets SET merged_index = ? WHERE id = ? AND merged_index = ?",
        settled.index,
        dataset_id,
        settled.merged_index,
    )


async def join(tx: Tx, dataset_id: str, wanted: Join) -> None:
    """Put blocks into one, unless they have changed since the plan was made."""
    if not await _lock(tx, dataset_id, wanted):
        return
    block = _joined(wanted.blocks)
    rows = await tx.fetch(
        f"SELECT items FROM dataset_blocks {_WINDOW} ORDER BY first_index", *_window(dataset_id, wanted)
    )
    items = SEPARATOR.join(row["items"] for row in rows)
    await tx.execute(f"DELETE FROM dataset_blocks {_WINDOW}", *_window(dataset_id, wanted))
    await insert_blocks(tx, dataset_id, [msgspec.structs.replace(block, items=items)])


async def move(tx: Tx, dataset_id: str, wanted: Move, blob_key: str) -> bool:
    """Let blocks be in a blob that holds their items; false when they have changed since the plan was made.

    Raises ``BlobClaimedError``.
    """
    if not await _lock(tx, dataset_id, wanted):
        return False
    await take_blob(tx, blob_key)
    await tx.execute(f"DELETE FROM dataset_blocks {_WINDOW}", *_window(dataset_id, wanted))
    await insert_blocks(tx, dataset_id, wanted.moved(blob_key))
    await tx.execute("UPDATE datasets SET merged_index = ? WHERE id = ?", wanted.end, dataset_id)
    return True


_WINDOW = "WHERE dataset_id = ? AND first_index >= ? AND first_index < ?"


def _window(dataset_id: str, wanted: Join | Move) -> tuple[str, int, int]:
    return dataset_id, wanted.blocks[0].first_index, wanted.blocks[-1].end_index


async def _lock(tx: Tx, dataset_id: str, wanted: Join | Move) -> bool:
    """Keep other processes from merging, and pushes waiting; false when the blocks are not as they were planned."""
    # Assigning the value it has locks the row.
    if not await tx.execute(
        "UPDATE datasets SET merged_index = merged_index WHERE id = ? AND merged_index = ?",
        dataset_id,
        wanted.merged_index,
    ):
        return False
    row = await tx.fetchrow(
        f"SELECT COUNT(*) AS blocks, COUNT(blob_key) AS in_blobs FROM dataset_blocks {_WINDOW}",
        *_window(dataset_id, wanted),
    )
    return row is not None and (row["blocks"], row["in_blobs"]) == (len(wanted.blocks), 0)


async def list_unmerged(tx: Tx) -> list[str]:
    """Datasets that may have blocks to merge."""
    rows = await tx.fetch("SELECT id FROM datasets WHERE item_count - merged_index >= ?", _MERGE_FROM)
    return [row["id"] for row in rows]
