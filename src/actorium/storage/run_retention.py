"""Finds finished runs that have outlived their days."""

from __future__ import annotations

import msgspec

from actorium.domain.models import TERMINAL_STATUSES
from actorium.storage.db import Tx, placeholders
from actorium.storage.storages import TABLES

NEWEST_KEPT = 10
"""Of each user's runs of an Actor, the newest that never expire. docs: actors/running/runs_and_builds."""


class FinishedRun(msgspec.Struct, frozen=True):
    """A finished run, in short; times in milliseconds."""

    id: str
    user_id: str
    actor_id: str
    started_at: int
    finished_at: int


async def list_expired(
    tx: Tx, user_id: str, *, finished_before: int, after: FinishedRun | None, most: int
) -> list[FinishedRun]:
    """A user's runs over before a time, oldest first, from the one behind ``after``.

    Not among them are the newest of each Actor, and those with a default storage that was given a name.
    """
    named = " ".join(
        f"AND NOT EXISTS (SELECT 1 FROM {table.name} s WHERE s.run_id = r.id AND s.name_key IS NOT NULL)"
        for table in TABLES.values()
    )
    rows = await tx.fetch(
        "SELECT r.id, r.user_id, r.actor_id, r.started_at, r.finished_at FROM runs r "
        "WHERE r.user_id = ? AND (r.started_at, r.id) > (?, ?) AND r.started_at < ? AND r.finished_at < ? "
        f"AND r.status IN ({placeholders(len(TERMINAL_STATUSES))}) "
        "AND (SELECT n.id FROM runs n WHERE n.actor_id = r.actor_id AND n.user_id = r.user_id "
        "AND (n.started_at, n.id) > (r.started_at, r.id) ORDER BY n.started_at, n.id LIMIT 1 OFFSET ?) IS NOT NULL "
        f"{named} ORDER BY r.started_at, r.id LIMIT ?",
        user_id,
        after.started_at if after else 0,
        after.id if after else "",
        finished_before,
        finished_before,
        *TERMINAL_STATUSES,
        NEWEST_KEPT - 1,
        most,
    )
    return [FinishedRun(*(row[field] for field in FinishedRun.__struct_fields__)) for row in rows]
