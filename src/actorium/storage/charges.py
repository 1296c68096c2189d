"""Charges that were made with an idempotency key."""

from __future__ import annotations

from actorium.storage.db import Tx


async def claim_key(tx: Tx, run_id: str, idempotency_key: str, now: int, expires_at: int) -> bool:
    """Keep a key of a run until ``expires_at``; false when it is kept already, so that nothing may be charged."""
    await tx.execute("DELETE FROM charge_keys WHERE run_id = ? AND expires_at <= ?", run_id, now)
    count = await tx.execute(
        "INSERT INTO charge_keys (run_id, idempotency_key, expires_at) VALUES (?, ?, ?) "
        "ON CONFLICT (run_id, idempotency_key) DO NOTHING",
        run_id,
        idempotency_key,
        expires_at,
    )
    return count > 0
