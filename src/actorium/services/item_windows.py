"""Windows of a dataset's items, read a page at a time: memory does not grow with the window."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

import msgspec

from actorium.domain.dataset_items import SEPARATOR
from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.storages import StorageKind
from actorium.services.access import Principal
from actorium.services.storages import ReadCounts
from actorium.storage import datasets
from actorium.storage.blobs import BlobNotFoundError, Blobs
from actorium.storage.dataset_blocks import MOST_BLOCKS, PAGE_BYTES, Block, cut, read_blocks
from actorium.storage.datasets import Found
from actorium.storage.db import Database, Tx

_FEW_BLOCKS = 16
_AHEAD = 2
"""How many pages are read from blobs while the caller works on one: an object store answers late, but many at once."""


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


class _Part(msgspec.Struct, frozen=True):
    """A block, and the items to take from it."""

    block: Block
    start: int
    end: int


class Items:
    """A window of items. The end is fixed when it is opened, so pushes meanwhile do not show."""

    def __init__(
        self,
        db: Database,
        blobs: Blobs,
        reads: ReadCounts | None,
        reader: Principal | None,
        found: Found,
        window: Window,
        blocks: list[Block],
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._reads = reads
        self._reader = reader
        self._found = found
        self._blocks = blocks
        self._most = MOST_BLOCKS
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
        return Items(self._db, self._blobs, None, None, self._found, self.window, self._blocks)

    async def pages(self) -> AsyncGenerator[tuple[list[bytes], bool], None]:
        """JSON texts of the items in reading order, about a megabyte at a time, and whether that was the last page.

        Raises ``DatasetGoneError`` when the rest cannot be read any more.
        """
        async with aclosing(self._pages()) as pages:
            async for joined, is_last in pages:
                texts = [text for part in joined for text in part.split(SEPARATOR)]
                yield texts[::-1] if self.window.desc else texts, is_last

    async def unsplit(self) -> AsyncGenerator[tuple[list[bytes], bool], None]:
        """Like ``pages`` with texts of neighbours still joined by ``SEPARATOR``: the fast way for unchanged items."""
        async with aclosing(self.pages() if self.window.desc else self._pages()) as pages:
            async for page in pages:
                yield page

    async def _pages(self) -> AsyncGenerator[tuple[list[bytes], bool], None]:
        """Joined texts of about a megabyte of neighbours, in their order in the dataset."""
        waiting = deque[tuple[asyncio.Task[list[bytes]], int, bool]]()
        try:
            async with aclosing(self._groups()) as groups:
                async for group, is_last in groups:
                    count = sum(part.end - part.start for part in group)
                    waiting.append((asyncio.create_task(self._load(group)), count, is_last))
                    # What was in rows is at hand already.
                    while waiting and (len(waiting) > _AHEAD or group[-1].block.blob_key is None):
                        yield await self._loaded(*waiting.popleft())
            while waiting:
                yield await self._loaded(*waiting.popleft())
        finally:
            for task, _, _ in waiting:
                task.cancel()
            await asyncio.gather(*(task for task, _, _ in waiting), return_exceptions=True)

    async def _loaded(self, task: asyncio.Task[list[bytes]], count: int, is_last: bool) -> tuple[list[bytes], bool]:
        joined = await task
        if self._reads is not None:
            self._reads.add(self._reader, StorageKind.DATASET, self.dataset_id, read_count=count)
        return joined, is_last

    async def _groups(self) -> AsyncGenerator[tuple[list[_Part], bool], None]:
        """About a megabyte of blocks, in their order in the dataset, and whether those are the last ones."""
        async with aclosing(self._windows()) as windows:
            async for parts, is_last in windows:
                groups = list(_megabytes(parts))
                for number, group in enumerate(groups, 1):
                    yield group[::-1] if self.window.desc else group, is_last and number == len(groups)

    async def _windows(self) -> AsyncGenerator[tuple[list[_Part], bool], None]:
        """Blocks in reading order with the items to take from each, and whether those are the last ones.

        The next ones are read while the caller works on these.
        """
        blocks = self._blocks
        while self._start < self._end:
            parts = [self._take(block) for block in blocks]
            if not parts:
                raise DatasetGoneError(self.dataset_id)
            if self._start >= self._end:
                yield parts, True
                return
            # The next page has about as many blocks as this one.
            self._most = max(_FEW_BLOCKS, min(2 * len(blocks), MOST_BLOCKS))
            following = asyncio.create_task(self._db.read("read dataset items", self._next))
            try:
                yield parts, False
                blocks = await following
            finally:
                following.cancel()

    async def _next(self, tx: Tx) -> list[Block]:
        return await read_blocks(tx, self.dataset_id, self._start, self._end, desc=self.window.desc, most=self._most)

    def _take(self, block: Block) -> _Part:
        start, end = max(block.first_index, self._start), min(block.end_index, self._end)
        if self.window.desc:
            if end < self._end or start >= end:
                raise DatasetGoneError(self.dataset_id)
            self._end = start
        else:
            if start > self._start or start >= end:
                raise DatasetGoneError(self.dataset_id)
            self._start = end
        return _Part(block, start, end)

    async def _load(self, group: Sequence[_Part]) -> list[bytes]:
        """The joined texts of the parts, those that lie side by side in a blob still together."""
        joined = list[bytes]()
        for run in _runs(group):
            first, last = run[0].block, run[-1].block
            items = first.items
            if items is None:
                items = await self._read(first, last)
            # All that lie side by side in one blob are like one block.
            whole = Block(first.first_index, last.end_index - first.first_index, len(items))
            joined.append(cut(items, whole, run[0].start, run[-1].end))
        return joined

    async def _read(self, first: Block, last: Block) -> bytes:
        try:
            return await self._blobs.read(first.blob_key or "", first.blob_start, last.blob_end)
        except BlobNotFoundError:
            if await self._db.read("find dataset", lambda tx: datasets.exists(tx, self.dataset_id)):
                raise
            raise DatasetGoneError(self.dataset_id) from None


def _megabytes(parts: Sequence[_Part]) -> Iterator[list[_Part]]:
    group, size = list[_Part](), 0
    for part in parts:
        if group and size + part.block.size_bytes > PAGE_BYTES:
            yield group
            group, size = [], 0
        group.append(part)
        size += part.block.size_bytes
    if group:
        yield group


def _runs(group: Sequence[_Part]) -> Iterator[list[_Part]]:
    """Parts of which each one's blob goes on with the next; others alone."""
    run = list[_Part]()
    for part in group:
        if run and not run[-1].block.is_followed_by(part.block):
            yield run
            run = []
        run.append(part)
    if run:
        yield run
