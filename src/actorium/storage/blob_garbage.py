"""Blobs without a row that points at them: still being uploaded, replaced, or deleted.

A blob is announced here before its upload and taken out by the transaction that stores what points at it, and goes
back here when that is replaced or deleted; so a crash at any point leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from actorium.storage.db import Tx


class BlobClaimedError(Exception):
    """Housekeeping took the blob of an upload that lasted too long."""


async def discard_blobs(tx: Tx, blob_keys: Iterable[str], due_at: int) -> None:
    """Hand blobs to housekeeping, which deletes them from ``due_at`` on."""
    rows = [(key, due_at) for key in blob_keys]
    if rows:
        await tx.executemany(
            "INSERT INTO blob_garbage (blob_key, due_at) VALUES (?, ?) ON CONFLICT (blob_key) DO NOTHING", rows
        )


async def take_blob(tx: Tx, blob_key: str) -> None:
    """Keep an announced blob for good, because this transaction stores what points at it.

    Raises ``BlobClaimedError``.
    """
    if not await tx.execute("DELETE FROM blob_garbage WHERE blob_key = ? AND claimed = 0", blob_key):
        raise BlobClaimedError(blob_key)


async def give_up_blob(tx: Tx, blob_key: str, now: int, *, again: bool = False) -> None:
    """Let housekeeping delete an announced blob at once; ``again`` when it did so before the upload was complete."""
    await tx.execute("UPDATE blob_garbage SET due_at = ? WHERE blob_key = ?", now, blob_key)
    if again:
        await discard_blobs(tx, [blob_key], now)


async def claim_blobs(tx: Tx, now: int, limit: int) -> list[str]:
    """Blobs to delete now. From here on nothing can take them; a crash leaves them claimed for the next time."""
    rows = await tx.fetch(
        "UPDATE blob_garbage SET claimed = 1 WHERE blob_key IN "
        "(SELECT blob_key FROM blob_garbage WHERE due_at <= ? ORDER BY due_at LIMIT ?) RETURNING blob_key",
        now,
        limit,
    )
    return [row["blob_key"] for row in rows]


async def blobs_deleted(tx: Tx, blob_keys: Sequence[str]) -> None:
    """Forget blobs that are deleted."""
    await tx.executemany("DELETE FROM blob_garbage WHERE blob_key = ?", [(key,) for key in blob_keys])
