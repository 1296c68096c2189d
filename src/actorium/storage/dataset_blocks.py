"""Blocks of a dataset's items: written in parts of bounded size, read from any position.

A block is a run of neighbouring items as JSON texts with ``SEPARATOR`` between them, and the index of its first
item. Blocks follow each other without gaps. The texts are in the block's row, or they are a part of a blob, in which
the next block follows after a ``SEPARATOR``. A block in a blob stays as it is until its dataset is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from actorium.domain.dataset_items import SEPARATOR
from actorium.storage.db import Row, Tx

PAGE_BYTES = 1024 * 1024
"""About how much of the items is in memory at a time."""

MOST_BLOCKS = 500
"""How many blocks can make a page, which has so many only if they are small or in blobs."""

BLOCK_BYTES = 512 * 1024
"""Blocks are not larger than this unless they are of one item: whoever wants few items reads no more than one."""


class Block(msgspec.Struct, frozen=True):
    """Neighbouring items; ``size_bytes`` is that of their texts and the separators between them."""

    first_index: int
    item_count: int
    size_bytes: int
    items: bytes | None = None
    blob_key: str | None = None
    blob_start: int = 0

    @property
    def end_index(self) -> int:
        """The index after the last item."""
        return self.first_index + self.item_count

    @property
    def blob_end(self) -> int:
        """The place in its blob after its last byte."""
        return self.blob_start + self.size_bytes

    def is_followed_by(self, other: Block) -> bool:
        """Whether the blob of this block goes on with ``other``."""
        return self.blob_key == other.blob_key and self.blob_end + len(SEPARATOR) == other.blob_start


def cut(items: bytes, block: Block, start: int, end: int) -> bytes:
    """Of the ``items`` of a block, those from index ``start`` (of the dataset) up to before ``end``."""
    skipped, upto = start - block.first_index, end - block.first_index
    if (skipped, upto) == (0, block.item_count):
        return items
    left = block.item_count - skipped
    # From the nearer end: of 100 items in a block of thousands, the others need not be taken apart.
    if left < upto:
        return SEPARATOR.join(items.rsplit(SEPARATOR, left)[-left:][: upto - skipped])
    return SEPARATOR.join(items.split(SEPARATOR, upto)[skipped:upto])


def split(first_index: int, items: bytes) -> Iterator[Block]:
    """Blocks of bounded size, or of one item, that hold the ``items``."""
    for start, end in _parts(items):
        count = items.count(SEPARATOR, start, end) + 1
        yield Block(first_index, count, end - start, items[start:end])
        first_index += count


def split_blob(first_index: int, items: bytes, blob_key: str) -> Iterator[Block]:
    """Like ``split`` for ``items`` that are the blob ``blob_key``."""
    for start, end in _parts(items):
        count = items.count(SEPARATOR, start, end) + 1
        yield Block(first_index, count, end - start, None, blob_key, start)
        first_index += count


def _parts(items: bytes) -> Iterator[tuple[int, int]]:
    start = 0
    while len(items) - start > BLOCK_BYTES:
        end = items.rfind(SEPARATOR, start, start + BLOCK_BYTES + len(SEPARATOR))
        if end < 0 and (end := items.find(SEPARATOR, start)) < 0:
            break
        yield start, end
        start = end + len(SEPARATOR)
    yield start, len(items)


async def insert_blocks(tx: Tx, dataset_id: str, blocks: Iterable[Block]) -> None:
    """Insert rows of blocks."""
    for block in blocks:
        await tx.execute(
            "INSERT INTO dataset_blocks (dataset_id, first_index, item_count, size_bytes, blob_key, blob_start, items) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            dataset_id,
            block.first_index,
            block.item_count,
            block.size_bytes,
            block.blob_key,
            block.blob_start,
            block.items,
        )


async def read_blocks(
    tx: Tx, dataset_id: str, start: int, end: int, *, desc: bool = False, most: int = MOST_BLOCKS
) -> list[Block]:
    """Some blocks of the window ``start <= index < end``, in reading order, beginning at its first item.

    With ``desc`` that is the one before ``end``. A page is up to ``most`` blocks, which are all looked at; those whose
    items are in their rows have about a megabyte of them, or one block if that is larger.
    An empty answer to a window that is not empty means the dataset was deleted.
    """
    if start >= end:
        return []
    order, outermost = ("DESC", "MIN") if desc else ("ASC", "MAX")
    # The first block, and the last one that still fits; the sizes are added up without reading the items.
    begin = "(SELECT MAX(first_index) FROM dataset_blocks WHERE dataset_id = ? AND first_index <= ?)"
    outer = (
        f"(SELECT {outermost}(first_index) FROM (SELECT first_index, row_bytes, SUM(row_bytes) "
        f"OVER (ORDER BY first_index {order} ROWS UNBOUNDED PRECEDING) AS upto FROM "
        "(SELECT first_index, CASE WHEN blob_key IS NULL THEN size_bytes ELSE 0 END AS row_bytes "
        "FROM dataset_blocks WHERE dataset_id = ? AND first_index < ? "
        f"AND first_index >= {begin} ORDER BY first_index {order} LIMIT ?) AS heads) AS sums "
        "WHERE upto = row_bytes OR upto <= ?)"
    )
    outer_args = (dataset_id, end, dataset_id, start, most, PAGE_BYTES)
    select = f"SELECT {_BLOCK}, items FROM dataset_blocks WHERE dataset_id = ? "
    args: Sequence[Any]
    if desc:
        sql = f"{select} AND first_index < ? AND first_index >= {outer} ORDER BY first_index DESC"
        args = (dataset_id, end, *outer_args)
    else:
        sql = f"{select} AND first_index >= {begin} AND first_index <= {outer} ORDER BY first_index"
        args = (dataset_id, dataset_id, start, *outer_args)
    return [_block_of(row, row["items"]) for row in await tx.fetch(sql, *args)]


_BLOCK = "first_index, item_count, size_bytes, blob_key, blob_start"


def _block_of(row: Row, items: bytes | None) -> Block:
    return Block(row["first_index"], row["item_count"], row["size_bytes"], items, row["blob_key"], row["blob_start"])


async def read_heads(tx: Tx, dataset_id: str, start: int, most: int) -> list[Block]:
    """Up to ``most`` blocks from the one that begins at ``start``, without what is in their rows."""
    rows = await tx.fetch(
        f"SELECT {_BLOCK} FROM dataset_blocks WHERE dataset_id = ? AND first_index >= ? ORDER BY first_index LIMIT ?",
        dataset_id,
        start,
        most,
    )
    return [_block_of(row, None) for row in rows]
