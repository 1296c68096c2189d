"""READY runs in the order in which they start, and what the runs that are past it hold.

Everything here reads the partial indexes ``runs_waiting`` and ``runs_in_use``: it costs what it returns, or what
holds memory, however many runs wait.
"""

from __future__ import annotations

import msgspec

from actorium.domain.models import Run
from actorium.domain.queueing import Use, Waiting
from actorium.storage.db import Row, Tx

_HOLDING = "status IN ('RUNNING', 'TIMING-OUT', 'ABORTING')"


class Place(msgspec.Struct, frozen=True):
    """Where a run stands among its user's waiting runs, the first at ``position`` 1 of ``count``."""

    position: int
    count: int


def _use(row: Row | None) -> Use:
    return Use() if row is None else Use(int(row["memory"]), row["runs"])


async def list_waiting_users(tx: Tx) -> list[str]:
    """The users who have waiting runs."""
    # One step in the index for each user, where DISTINCT would read every waiting run.
    rows = await tx.fetch(
        "WITH RECURSIVE waiting (user_id) AS ("
        "SELECT (SELECT MIN(user_id) FROM runs WHERE status = 'READY') UNION ALL "
        "SELECT (SELECT MIN(r.user_id) FROM runs r WHERE r.status = 'READY' AND r.user_id > w.user_id) "
        "FROM waiting w WHERE w.user_id IS NOT NULL"
        ") SELECT user_id FROM waiting WHERE user_id IS NOT NULL"
    )
    return [row["user_id"] for row in rows]


async def list_waiting(tx: Tx, user_id: str, limit: int) -> list[Waiting]:
    """The first ``limit`` of a user's waiting runs."""
    rows = await tx.fetch(
        "SELECT id, user_id, memory_mbytes, queued_at FROM runs WHERE status = 'READY' AND user_id = ? "
        "ORDER BY queue_rank, queued_at, id LIMIT ?",
        user_id,
        limit,
    )
    return [Waiting(row["id"], row["user_id"], row["memory_mbytes"], row["queued_at"]) for row in rows]


async def place_of(tx: Tx, run: Run) -> Place:
    """Where a waiting run stands among those of its user."""
    ahead = await tx.fetchrow(
        "SELECT COUNT(*) AS runs FROM runs WHERE status = 'READY' AND user_id = ? "
        "AND (queue_rank, queued_at, id) < (?, ?, ?)",
        run.user_id,
        run.queue_rank,
        run.queued_at,
        run.id,
    )
    count = await tx.fetchrow("SELECT COUNT(*) AS runs FROM runs WHERE status = 'READY' AND user_id = ?", run.user_id)
    position = 1 + (ahead["runs"] if ahead else 0)
    return Place(position, max(position, count["runs"] if count else 0))


async def held_by_ancestors(tx: Tx, run: Run) -> int:
    """The memory in MB that the runs hold which have started ``run``, have started those, and so on."""
    row = await tx.fetchrow(
        "WITH RECURSIVE above (id, parent_run_id) AS (SELECT id, parent_run_id FROM runs WHERE id = ? "
        "UNION SELECT r.id, r.parent_run_id FROM runs r JOIN above a ON r.id = a.parent_run_id) "
        "SELECT COALESCE(SUM(r.memory_mbytes), 0) AS memory FROM runs r JOIN above a ON r.id = a.id "
        f"WHERE r.{_HOLDING}",
        run.parent_run_id,
    )
    return int(row["memory"]) if row is not None else 0


async def in_use(tx: Tx, user_id: str | None = None, *, waiting_too: bool = False) -> Use:
    """What runs hold that have a process or may have one: those of a user, or all. ``waiting_too``: READY ones too."""
    whose, args = ("user_id = ? AND ", (user_id,)) if user_id is not None else ("", ())
    sums = "SELECT COUNT(*) AS runs, COALESCE(SUM(memory_mbytes), 0) AS memory FROM runs WHERE"
    use = _use(await tx.fetchrow(f"{sums} {whose}{_HOLDING}", *args))
    if not waiting_too:
        return use
    ready = _use(await tx.fetchrow(f"{sums} {whose}status = 'READY'", *args))
    return Use(use.memory_mbytes + ready.memory_mbytes, use.run_count + ready.run_count)
