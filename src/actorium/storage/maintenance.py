"""Whether the engine starts processes at all: a row that the command line writes and every engine reads."""

from __future__ import annotations

from actorium.storage.db import Tx


async def set_draining(tx: Tx, since: int) -> None:
    """Keep every engine from starting processes; a drain under way keeps its beginning."""
    await tx.execute(
        "INSERT INTO maintenance (name, since) VALUES ('drain', ?) ON CONFLICT (name) DO NOTHING",
        since,
    )


async def end_draining(tx: Tx) -> bool:
    """Let engines start processes again; returns whether there was a drain."""
    return await tx.execute("DELETE FROM maintenance WHERE name = 'drain'") > 0


async def is_draining(tx: Tx) -> bool:
    """Whether engines start no processes."""
    return await tx.fetchrow("SELECT since FROM maintenance WHERE name = 'drain'") is not None
