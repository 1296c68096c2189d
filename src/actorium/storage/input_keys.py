"""Key pairs for secret inputs: one for each user and Actor, the private half sealed."""

from __future__ import annotations

import msgspec

from actorium.storage.db import Tx


class StoredKeys(msgspec.Struct, frozen=True):
    """A key pair as it is stored; what is ``sealed`` only opens with the instance key."""

    public_key: str
    sealed: str


async def get(tx: Tx, user_id: str, actor_id: str) -> StoredKeys | None:
    """The key pair of a user for an Actor, once there is one."""
    row = await tx.fetchrow(
        "SELECT public_key, sealed_private_key FROM input_keys WHERE user_id = ? AND actor_id = ?", user_id, actor_id
    )
    return None if row is None else StoredKeys(row["public_key"], row["sealed_private_key"])


async def insert_first(tx: Tx, user_id: str, actor_id: str, keys: StoredKeys, now: int) -> StoredKeys:
    """Store a key pair, unless somebody else was first: then theirs is the one."""
    await tx.execute(
        "INSERT INTO input_keys (user_id, actor_id, public_key, sealed_private_key, created_at) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (user_id, actor_id) DO NOTHING",
        user_id,
        actor_id,
        keys.public_key,
        keys.sealed,
        now,
    )
    return await get(tx, user_id, actor_id) or keys
