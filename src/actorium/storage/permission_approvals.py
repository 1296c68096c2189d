"""Which Actors of others a user lets run with full permissions."""

from __future__ import annotations

from actorium.storage.db import Tx


async def approve(tx: Tx, user_id: str, actor_id: str, now: int) -> None:
    """Note a user's approval; a second one changes nothing."""
    await tx.execute(
        "INSERT INTO permission_approvals (user_id, actor_id, approved_at) VALUES (?, ?, ?) "
        "ON CONFLICT (user_id, actor_id) DO NOTHING",
        user_id,
        actor_id,
        now,
    )


async def withdraw(tx: Tx, user_id: str, actor_id: str) -> None:
    """Take an approval back, if there is one."""
    await tx.execute("DELETE FROM permission_approvals WHERE user_id = ? AND actor_id = ?", user_id, actor_id)


async def is_approved(tx: Tx, user_id: str, actor_id: str) -> bool:
    """Whether the user has approved the Actor."""
    row = await tx.fetchrow(
        "SELECT 1 AS one FROM permission_approvals WHERE user_id = ? AND actor_id = ?", user_id, actor_id
    )
    return row is not None
