"""What the server allows a user, and what the user has in use."""

from __future__ import annotations

from typing import Any

import msgspec

from actorium.domain.accounts import UserLimits
from actorium.domain.actors import MAX_ACTORS
from actorium.domain.queueing import Capacity, Use
from actorium.domain.schedules import MAX_SCHEDULES
from actorium.domain.tasks import MAX_TASKS
from actorium.domain.usage import UsageService, compute_units_of
from actorium.kit import Clock
from actorium.services.access import Principal
from actorium.services.usage import Usage
from actorium.storage import catalog, run_queue, schedules, tasks, user_limits
from actorium.storage.db import Database, Tx


class InUse(msgspec.Struct, frozen=True):
    """What a user has in use ``at`` a moment and what is ``allowed``, with what is ``set`` for this user alone.

    What is of the month, is of the current UTC one. Waiting runs use nothing.
    """

    at: int
    used: Use
    allowed: Use
    set: UserLimits
    actor_count: int
    task_count: int
    schedule_count: int
    month_compute_units: float
    month_external_bytes: int
    month_usage_usd: float


class Limits:
    """Reads limits and use. ``retention_days``: how long runs of users who say nothing else are kept; 0: for ever."""

    def __init__(self, db: Database, clock: Clock, usage: Usage, capacity: Capacity, *, retention_days: int) -> None:
        self._db = db
        self._usage = usage
        self._clock = clock
        self._capacity = capacity
        self.max_actors = MAX_ACTORS
        self.retention_days = retention_days
        self.max_tasks = MAX_TASKS
        self.max_schedules = MAX_SCHEDULES

    async def allowed(self, user_id: str) -> Use:
        """What a user's runs may hold at once."""

        async def op(tx: Tx) -> UserLimits:
            return await user_limits.get(tx, user_id)

        return self._capacity.of_user(await self._db.read("limits of user", op))

    async def current(self, principal: Principal) -> InUse:
        """What the caller has in use now."""
        now = self._clock.now_ms()
        used = (await self._usage.monthly(principal.user_id, now)).total
        units = compute_units_of(used.get(UsageService.ACTOR_COMPUTE_UNITS, 0))

        async def op(tx: Tx) -> InUse:
            own = await user_limits.get(tx, principal.user_id)
            return InUse(
                at=now,
                used=await run_queue.in_use(tx, principal.user_id),
                allowed=self._capacity.of_user(own),
                set=own,
                actor_count=await catalog.count_actors(tx, principal.user_id),
                task_count=await tasks.count_tasks(tx, principal.user_id),
                schedule_count=len(await schedules.taken_names(tx, principal.user_id)),
                month_compute_units=units,
                month_external_bytes=used.get(UsageService.DATA_TRANSFER_EXTERNAL_GBYTES, 0),
                month_usage_usd=float(self._usage.prices.total(used)),
            )

        return await self._db.read("use of limits", op)

    async def update(self, principal: Principal, changes: dict[str, Any]) -> None:
        """Set limits of the caller's own; ``changes`` are fields of ``UserLimits``. openapi: users_me_limits_put."""

        async def op(tx: Tx) -> None:
            await user_limits.update(tx, principal.user_id, changes)

        if changes:
            await self._db.write("set limits", op)
