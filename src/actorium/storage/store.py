"""Public Actors as the store lists them."""

from __future__ import annotations

from actorium.domain.store import StoreActor
from actorium.storage.catalog import actor_of, actor_stats
from actorium.storage.db import Tx


async def list_public_actors(tx: Tx, *, now: int, since: int, with_readmes: bool) -> list[StoreActor]:
    """Every public Actor with its owner's name, its counts, and how often it was run ``since`` a time.

    ``with_readmes`` adds the readme of the build tagged ``latest``.
    """
    readme, join = "NULL", ""
    if with_readmes:
        readme = "b.readme"
        join = (
            "LEFT JOIN build_tags t ON t.actor_id = a.id AND t.tag = 'latest' LEFT JOIN builds b ON b.id = t.build_id "
        )
    rows = await tx.fetch(
        f"SELECT a.*, u.username, {readme} AS readme FROM actors a JOIN users u ON u.id = a.user_id {join}"
        "WHERE a.is_public = 1"
    )
    found = []
    for row in rows:
        recent = await tx.fetchrow(
            "SELECT COUNT(*) AS count FROM runs WHERE actor_id = ? AND started_at >= ?", row["id"], since
        )
        found.append(
            StoreActor(
                actor=actor_of(row),
                username=row["username"],
                readme=row["readme"] or "",
                stats=await actor_stats(tx, actor_of(row), now),
                recent_runs=recent["count"] if recent is not None else 0,
            )
        )
    return found
