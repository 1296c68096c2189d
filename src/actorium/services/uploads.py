"""Uploads of blobs, so that a crash, a refusal or a client that goes leaves no blob that nobody knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from actorium.kit import Clock, random_text
from actorium.storage.blob_garbage import BlobClaimedError, discard_blobs, give_up_blob
from actorium.storage.blobs import Blobs
from actorium.storage.db import Database, Tx

T = TypeVar("T")

_UPLOAD_MS = 24 * 3600 * 1000
"""How long an upload may take before its blob counts as abandoned."""


class Uploads:
    """An upload is announced in one transaction, then stored and committed: see ``storage/blob_garbage.py``."""

    def __init__(self, db: Database, clock: Clock, blobs: Blobs) -> None:
        self._db = db
        self._clock = clock
        self._blobs = blobs

    async def announce(self, tx: Tx, folder: str) -> str:
        """Say that a blob is about to be uploaded, and return its key; ``store`` it once this is committed."""
        # Nothing of its owner is in the key: folders made for it would stay when it is gone.
        blob_key = f"{folder}/{random_text(24)}"
        await discard_blobs(tx, [blob_key], self._clock.now_ms() + _UPLOAD_MS)
        return blob_key

    async def store(
        self,
        blob_key: str,
        opened: Callable[[], Awaitable[AsyncIterator[bytes]]],
        commit: Callable[[int], Awaitable[T]],
    ) -> T:
        """Upload what is ``opened`` as an announced blob, then ``commit`` what points at it, given its size.

        ``commit`` calls ``take_blob`` in its transaction. If anything fails, housekeeping deletes the blob.
        """
        now = self._clock.now_ms()
        try:
            return await commit(await self._blobs.put(blob_key, await opened()))
        except BaseException as error:
            # Only a row still there may be touched: what was committed after all has taken it out.
            was_claimed = isinstance(error, BlobClaimedError)

            async def give_up(tx: Tx) -> None:
                await give_up_blob(tx, blob_key, now, again=was_claimed)

            await self._db.write("give up upload", give_up)
            raise
