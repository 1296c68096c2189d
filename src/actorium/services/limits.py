"""What the server allows a user, and what the user has in use."""

from __future__ import annotations

import msgspec

from actorium.domain.actors import MAX_ACTORS
from actorium.domain.tasks import MAX_TASKS
from actorium.domain.usage import UsageService, compute_units_of
from actorium.kit import Clock
from actorium.services.access import Principal
from actorium.services.usage import Usage
from actorium.storage import catalog, jobs, tasks
from actorium.storage.db import Database, Tx


class InUse(msgspec.Struct, frozen=True):
    """What a user has in use ``at`` a moment; ``month_compute_units`` are those of the current UTC month."""

    at: int
    memory_mbytes: int
    live_run_count: int
    actor_count: int
    task_count: int
    month_compute_units: float


class Limits:
    """Reads limits and use."""

    def __init__(
        self, db: Database, clock: Clock, usage: Usage, max_total_memory_mbytes: int, max_concurrent_runs: int
    ) -> None:
        self._db = db
        self._usage = usage
        self._clock = clock
        self.max_total_memory_mbytes = max_total_memory_mbytes
        self.max_concurrent_runs = max_concurrent_runs
        self.max_actors = MAX_ACTORS
        self.max_tasks = MAX_TASKS

    async def current(self, principal: Principal) -> InUse:
        """What the caller has in use now."""
        now = self._clock.now_ms()
        used = (await self._usage.monthly(principal, now)).total
        units = compute_units_of(used.get(UsageService.ACTOR_COMPUTE_UNITS, 0))

        async def op(tx: Tx) -> InUse:
            live = [run for run in await jobs.list_live_runs(tx) if run.user_id == principal.user_id]
            return InUse(
                at=now,
                memory_mbytes=sum(run.options.memory_mbytes for run in live),
                live_run_count=len(live),
                actor_count=await catalog.count_actors(tx, principal.user_id),
                task_count=await tasks.count_tasks(tx, principal.user_id),
                month_compute_units=units,
            )

        return await self._db.read("use of limits", op)
