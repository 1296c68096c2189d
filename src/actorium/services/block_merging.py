"""Puts the small blocks of many small pushes together in the background, so that reading them stays fast."""

from __future__ import annotations

from actorium.kit import Clock, Tasks, forever
from actorium.storage import datasets
from actorium.storage.db import Database, Tx

_PAUSE_SECS = 20.0


class BlockMerging:
    """The background service. Pushes name their dataset with ``note``; ``sweep`` merges what was named."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._noted: set[str] = set()
        self._tasks = Tasks("block-merging")

    async def start(self) -> None:
        """Take up what an earlier server left, then begin."""
        if not len(self._tasks):
            self._noted.update(await self._db.read("list unmerged datasets", datasets.list_unmerged))
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

            async def merge(tx: Tx, dataset_id: str = dataset_id) -> bool:
                return await datasets.merge_blocks(tx, dataset_id)

            try:
                while await self._db.write("merge dataset blocks", merge, lane=dataset_id):
                    pass
            except BaseException:
                self._noted |= noted | {dataset_id}
                raise
