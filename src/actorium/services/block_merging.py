"""Puts the small blocks of many small pushes together in the background, so that reading them stays fast."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from actorium.domain.dataset_items import SEPARATOR
from actorium.kit import Clock, Tasks, forever
from actorium.services.uploads import Uploads
from actorium.storage import dataset_merges
from actorium.storage.blobs import Blobs
from actorium.storage.dataset_blocks import Block, read_blocks
from actorium.storage.dataset_merges import Join, Move, Settled
from actorium.storage.db import Database, Tx

_PAUSE_SECS = 20.0


class _ChangedError(Exception):
    """Blocks were merged by another server, or deleted, while their items were written to a blob."""


class BlockMerging:
    """The background service. Pushes name their dataset with ``note``; ``sweep`` merges what was named."""

    def __init__(self, db: Database, clock: Clock, blobs: Blobs) -> None:
        self._db = db
        self._clock = clock
        self._uploads = Uploads(db, clock, blobs)
        self._noted: set[str] = set()
        self._tasks = Tasks("block-merging")

    async def start(self) -> None:
        """Take up what an earlier server left, then begin."""
        if not len(self._tasks):
            self._noted.update(await self._db.read("list unmerged datasets", dataset_merges.list_unmerged))
            self._tasks.spawn("merge", forever("merging dataset blocks", _PAUSE_SECS, self._step))

    async def stop(self) -> None:
        """End; what is left is merged after the next start."""
        await self._tasks.stop()

    def note(self, dataset_id: str) -> None:
        """A dataset has a new block."""
        self._noted.add(dataset_id)

    async def _step(self) -> None:
        await self._clock.sleep(_PAUSE_SECS)
        await self.sweep()

    async def sweep(self) -> None:
        """Merge the blocks of every dataset noted since the last sweep."""
        noted, self._noted = self._noted, set()
        while noted:
            dataset_id = noted.pop()
            try:
                while await self._merge(dataset_id):
                    pass
            except BaseException:
                self._noted |= noted | {dataset_id}
                raise

    async def _merge(self, dataset_id: str) -> bool:
        """Do one step; returns whether there may be more to do."""
        planned = await self._db.read("plan a merge", lambda tx: dataset_merges.plan(tx, dataset_id))
        if isinstance(planned, Settled):
            settle = partial(dataset_merges.settle, dataset_id=dataset_id, settled=planned)
            await self._db.write("note merged blocks", settle, lane=dataset_id)
        elif isinstance(planned, Join):
            join = partial(dataset_merges.join, dataset_id=dataset_id, wanted=planned)
            await self._db.write("merge dataset blocks", join, lane=dataset_id)
        elif planned is not None:
            await self._move(dataset_id, planned)
        return planned is not None

    async def _move(self, dataset_id: str, planned: Move) -> None:
        blob_key = await self._db.write("announce blocks", lambda tx: self._uploads.announce(tx, "items"))

        async def opened() -> AsyncIterator[bytes]:
            return self._items(dataset_id, planned.start, planned.end)

        async def commit(_size: int) -> None:
            move = partial(dataset_merges.move, dataset_id=dataset_id, wanted=planned, blob_key=blob_key)
            if not await self._db.write("move dataset blocks", move, lane=dataset_id):
                raise _ChangedError

        try:
            await self._uploads.store(blob_key, opened, commit)
        except _ChangedError:
            return

    async def _items(self, dataset_id: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The texts of items in their rows, with separators, in pieces."""
        index = start
        while index < end:

            async def read(tx: Tx, index: int = index) -> list[Block]:
                return await read_blocks(tx, dataset_id, index, end)

            blocks = await self._db.read("read dataset blocks", read)
            texts = [block.items for block in blocks if block.items is not None]
            if not texts or len(texts) < len(blocks) or blocks[0].first_index != index or blocks[-1].end_index > end:
                raise _ChangedError
            if index > start:
                yield SEPARATOR
            yield SEPARATOR.join(texts)
            index = blocks[-1].end_index
