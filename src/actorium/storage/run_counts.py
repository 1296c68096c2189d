"""How often Actors and tasks were run, and by whom: counted as runs start, so that nobody counts runs to tell."""

from __future__ import annotations

import msgspec

from actorium.storage.db import Tx


class RunCounts(msgspec.Struct, frozen=True):
    """Runs of an Actor, ever, and users who ran it. ``users_since`` are those whose last run is not older."""

    total_runs: int = 0
    total_users: int = 0
    last_run_started_at: int | None = None
    users_since: tuple[int, ...] = ()
    total_metamorphs: int = 0


async def count_run(tx: Tx, *, actor_id: str, user_id: str, task_id: str | None, started_at: int) -> None:
    """Note that a run was started."""
    await tx.execute(
        "INSERT INTO actor_users (actor_id, user_id, total_runs, last_run_started_at) VALUES (?, ?, 1, ?) "
        "ON CONFLICT (actor_id, user_id) DO UPDATE SET total_runs = actor_users.total_runs + 1, "
        "last_run_started_at = EXCLUDED.last_run_started_at",
        actor_id,
        user_id,
        started_at,
    )
    if task_id is not None:
        await tx.execute(
            "UPDATE tasks SET total_runs = total_runs + 1, last_run_started_at = ? WHERE id = ?", started_at, task_id
        )


async def count_metamorph(tx: Tx, actor_id: str) -> None:
    """Note that a run became one of this Actor."""
    await tx.execute(
        "INSERT INTO actor_metamorphs (actor_id, total) VALUES (?, 1) "
        "ON CONFLICT (actor_id) DO UPDATE SET total = actor_metamorphs.total + 1",
        actor_id,
    )


async def statuses_of_others(tx: Tx, actor_id: str, owner_id: str, since: int) -> dict[str, int]:
    """How many runs of an Actor that others than its owner have started ``since`` a time have which status."""
    rows = await tx.fetch(
        "SELECT status, COUNT(*) AS count FROM runs WHERE actor_id = ? AND started_at >= ? AND user_id <> ? "
        "GROUP BY status",
        actor_id,
        since,
        owner_id,
    )
    return {row["status"]: row["count"] for row in rows}


async def run_counts(tx: Tx, actor_id: str, since: tuple[int, ...] = ()) -> RunCounts:
    """The counts of an Actor, with the users since each of the times ``since``."""
    recent = "".join(
        f", SUM(CASE WHEN last_run_started_at >= ? THEN 1 ELSE 0 END) AS since_{number}" for number in range(len(since))
    )
    row = await tx.fetchrow(
        "SELECT COALESCE(SUM(total_runs), 0) AS total_runs, COUNT(*) AS total_users, "
        f"MAX(last_run_started_at) AS last_run_started_at{recent} FROM actor_users WHERE actor_id = ?",
        *since,
        actor_id,
    )
    if row is None:
        return RunCounts()
    users = tuple(int(row[f"since_{number}"] or 0) for number in range(len(since)))
    became = await tx.fetchrow("SELECT total FROM actor_metamorphs WHERE actor_id = ?", actor_id)
    metamorphs = became["total"] if became is not None else 0
    return RunCounts(int(row["total_runs"]), row["total_users"], row["last_run_started_at"], users, metamorphs)


async def forget_actor(tx: Tx, actor_id: str) -> None:
    """Drop the counts of an Actor that is deleted."""
    await tx.execute("DELETE FROM actor_users WHERE actor_id = ?", actor_id)
    await tx.execute("DELETE FROM actor_metamorphs WHERE actor_id = ?", actor_id)
