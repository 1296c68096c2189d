"""What the server allows a user, and what the user has in use."""

from __future__ import annotations

import msgspec

from actorium.domain.actors import MAX_ACTORS
from actorium.domain.pricing import compute_units
from actorium.kit import Clock
from actorium.services.access import Principal
from actorium.storage import catalog, jobs
from actorium.storage.db import Database, Tx

_MONTH_MS = 31 * 24 * 3600 * 1000


class InUse(msgspec.Struct, frozen=True):
    """What a user has in use ``at`` a moment; ``month_compute_units`` are those of the last 31 days."""

    at: int
    memory_mbytes: int
    live_run_count: int
    actor_count: int
    month_compute_units: float


class Limits:
    """Reads limits and use."""

    def __init__(self, db: Database, clock: Clock, max_total_memory_mbytes: int, max_concurrent_runs: int) -> None:
        self._db = db
        self._clock = clock
        self.max_total_memory_mbytes = max_total_memory_mbytes
        self.max_concurrent_runs = max_concurrent_runs
        self.max_actors = MAX_ACTORS

    async def current(self, principal: Principal) -> InUse:
        """What the caller has in use now."""
        now = self._clock.now_ms()

        async def op(tx: Tx) -> InUse:
            live = [run for run in await jobs.list_live_runs(tx) if run.user_id == principal.user_id]
            recent, _ = await jobs.list_runs(
                tx, user_id=principal.user_id, started_after=now - _MONTH_MS, limit=1_000_000
            )
            return InUse(
                at=now,
                memory_mbytes=sum(run.options.memory_mbytes for run in live),
                live_run_count=len(live),
                actor_count=await catalog.count_actors(tx, principal.user_id),
                month_compute_units=sum(
                    compute_units(run.options.memory_mbytes, run.stats.duration_millis) for run in recent
                ),
            )

        return await self._db.read("use of limits", op)
