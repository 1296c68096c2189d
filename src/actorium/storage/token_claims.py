"""What tokens with a scope have created, which they may use whatever their scope says."""

from __future__ import annotations

from collections.abc import Iterable

from actorium.storage.db import Tx, placeholders


async def insert(tx: Tx, token_id: str, resource_id: str, *, restricts: bool) -> None:
    """Note that a token has created a resource; ``restricts``: a run that is bound to the token's scope."""
    await tx.execute(
        "INSERT INTO token_claims (resource_id, token_id, restricts) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        resource_id,
        token_id,
        int(restricts),
    )


async def copy(tx: Tx, from_token_id: str, to_token_id: str) -> None:
    """Let a token use what another one has created; runs stay bound to the one that started them."""
    await tx.execute(
        "INSERT INTO token_claims (resource_id, token_id, restricts) "
        "SELECT resource_id, CAST(? AS TEXT), 0 FROM token_claims WHERE token_id = ?",
        to_token_id,
        from_token_id,
    )


async def is_any(tx: Tx, token_id: str, resource_ids: Iterable[str]) -> bool:
    """Whether a token has created one of these."""
    ids = list(resource_ids)
    return (
        await tx.fetchrow(
            f"SELECT 1 FROM token_claims WHERE resource_id IN ({placeholders(len(ids))}) AND token_id = ?",
            *ids,
            token_id,
        )
        is not None
    )


async def token_of(tx: Tx, resource_ids: Iterable[str]) -> str | None:
    """The token that has created one of these."""
    ids = list(resource_ids)
    row = await tx.fetchrow(
        f"SELECT c.token_id FROM token_claims c JOIN tokens t ON t.id = c.token_id "
        f"WHERE c.resource_id IN ({placeholders(len(ids))}) ORDER BY t.created_at DESC LIMIT 1",
        *ids,
    )
    return None if row is None else row["token_id"]
