"""Empties deleted storages, deletes blobs nothing points at; in steps, in the background."""

from __future__ import annotations

from actorium.kit import Clock, Tasks, forever
from actorium.storage import blob_garbage, storages
from actorium.storage.blobs import Blobs
from actorium.storage.db import Database, Tx

_PAUSE_SECS = 20.0
_BLOBS_AT_ONCE = 100


class StorageHousekeeping:
    """The background service; ``sweep`` does everything that is due."""

    def __init__(self, db: Database, clock: Clock, blobs: Blobs) -> None:
        self._db = db
        self._clock = clock
        self._blobs = blobs
        self._tasks = Tasks("storage-housekeeping")

    async def start(self) -> None:
        """Begin sweeping."""
        if not len(self._tasks):
            self._tasks.spawn("sweep", forever("sweeping storages", _PAUSE_SECS, self._step))

    async def stop(self) -> None:
        """End; what is left is done after the next start."""
        await self._tasks.stop()

    async def _step(self) -> None:
        await self.sweep()
        await self._clock.sleep(_PAUSE_SECS)

    async def sweep(self) -> None:
        """Empty what was deleted, then delete blobs that are due."""

        async def empty(tx: Tx) -> bool:
            return await storages.empty_deleted(tx, self._clock.now_ms())

        while await self._db.write("empty deleted storage", empty):
            pass
        while await self._delete_blobs():
            pass
        while await self._db.reclaim():
            pass

    async def _delete_blobs(self) -> bool:
        async def claim(tx: Tx) -> list[str]:
            return await blob_garbage.claim_blobs(tx, self._clock.now_ms(), _BLOBS_AT_ONCE)

        claimed = await self._db.write("claim blobs", claim)
        for blob_key in claimed:
            await self._blobs.delete(blob_key)

        async def forget(tx: Tx) -> None:
            await blob_garbage.blobs_deleted(tx, claimed)

        if claimed:
            await self._db.write("forget deleted blobs", forget)
        return len(claimed) == _BLOBS_AT_ONCE
