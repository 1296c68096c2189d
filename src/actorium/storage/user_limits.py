"""Limits of single users, where they differ from the settings."""

from __future__ import annotations

from typing import Any

from actorium.domain.accounts import UserLimits
from actorium.storage.db import Row, Tx, placeholders

_FIELDS = UserLimits.__struct_fields__


def _limits(row: Row) -> UserLimits:
    return UserLimits(**{field: row[field] for field in _FIELDS})


async def get(tx: Tx, user_id: str) -> UserLimits:
    """What is set for a user."""
    row = await tx.fetchrow("SELECT * FROM user_limits WHERE user_id = ?", user_id)
    return UserLimits() if row is None else _limits(row)


async def list_all(tx: Tx) -> dict[str, UserLimits]:
    """What is set for each user who has limits of their own."""
    return {row["user_id"]: _limits(row) for row in await tx.fetch("SELECT * FROM user_limits")}


async def update(tx: Tx, user_id: str, changes: dict[str, Any]) -> None:
    """Set fields of ``UserLimits``; ``None`` takes one away."""
    names = list(changes)
    await tx.execute(
        f"INSERT INTO user_limits (user_id, {', '.join(names)}) VALUES ({placeholders(1 + len(names))}) "
        f"ON CONFLICT (user_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in names)}",
        user_id,
        *changes.values(),
    )
