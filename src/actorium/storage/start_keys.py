"""Keys that make a repeated start call the same run."""

from __future__ import annotations

from actorium.domain.models import StartKey
from actorium.storage.db import Tx

_BATCH = 100


async def claim(tx: Tx, user_id: str, key: StartKey, run_id: str, now: int, expired_before: int) -> StartKey | None:
    """Keep ``key`` for the run ``run_id``, or return the one that is kept under its text, with its run.

    Keys kept before ``expired_before`` are forgotten, a few at a time. Of calls at the same time one comes first.
    """
    await tx.execute(
        "DELETE FROM start_keys WHERE user_id = ? AND key = ? AND created_at < ?", user_id, key.text, expired_before
    )
    await tx.execute(
        "DELETE FROM start_keys WHERE (user_id, key) IN (SELECT user_id, key FROM start_keys "
        f"WHERE created_at < ? ORDER BY created_at LIMIT {_BATCH} {tx.skip_locked})",
        expired_before,
    )
    is_new = await tx.execute(
        "INSERT INTO start_keys (user_id, key, fingerprint, run_id, created_at) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (user_id, key) DO NOTHING",
        user_id,
        key.text,
        key.fingerprint,
        run_id,
        now,
    )
    if is_new:
        return None
    row = await tx.fetchrow(
        "SELECT fingerprint, run_id FROM start_keys WHERE user_id = ? AND key = ?", user_id, key.text
    )
    return None if row is None else StartKey(key.text, row["fingerprint"], row["run_id"])
