"""Logs of deleted runs and builds whose files may still be there; noted by the transaction that deletes them."""

from __future__ import annotations

from collections.abc import Sequence

from actorium.storage.db import Tx


async def discard_log(tx: Tx, job_id: str) -> None:
    """Note that the log of a run or build is to be removed."""
    await tx.execute("INSERT INTO log_garbage (job_id) VALUES (?) ON CONFLICT (job_id) DO NOTHING", job_id)


async def list_logs(tx: Tx, most: int) -> list[str]:
    """Ids of runs and builds whose logs are to be removed."""
    return [row["job_id"] for row in await tx.fetch("SELECT job_id FROM log_garbage LIMIT ?", most)]


async def forget(tx: Tx, job_ids: Sequence[str]) -> None:
    """These logs are gone."""
    await tx.executemany("DELETE FROM log_garbage WHERE job_id = ?", [(job_id,) for job_id in job_ids])
