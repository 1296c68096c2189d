"""Counts what callers use of the storage services, and tells it per run and per user and month."""

from __future__ import annotations

from typing import TypeVar

from actorium.domain.models import Run
from actorium.domain.storages import StorageKind
from actorium.domain.times import DAY_MS
from actorium.domain.usage import (
    COUNTED_AS,
    MonthlyUsage,
    Quantities,
    UsageService,
    by_day,
    day_of,
    month_of,
    sum_of,
)
from actorium.kit import Clock
from actorium.services.access import Principal
from actorium.services.flushes import Flushes
from actorium.storage import jobs, usage
from actorium.storage.db import Database, Tx

T = TypeVar("T")


class Usage:
    """Collects in memory what calls used, until ``flush``: a call costs two dictionary updates and no statement.

    Only calls that were carried out are added, and only those of a caller with a token. A crash loses what came after
    the last flush; nothing is ever counted twice.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._runs: dict[str, Quantities] = {}
        self._users: dict[tuple[str, int], Quantities] = {}
        self._flushes = Flushes(db)

    def add(self, principal: Principal | None, kind: StorageKind, **counters: int) -> None:
        """Note a call of ``principal`` that made these counters of a storage of ``kind`` grow."""
        if principal is None:
            return
        services = COUNTED_AS[kind]
        day = day_of(self._clock.now_ms())
        for counter, more in counters.items():
            service = services.get(counter)
            if service is not None and more:
                _add(self._users, (principal.user_id, day), service, more)
                if principal.run_id is not None:
                    _add(self._runs, principal.run_id, service, more)

    async def flush(self) -> None:
        """Write everything down; on failure it is kept for the next time."""
        async with self._flushes.one():
            if not self._users:
                return
            runs, self._runs = self._runs, {}
            users, self._users = self._users, {}

            async def op(tx: Tx) -> None:
                await usage.add_of_runs(tx, runs)
                await usage.add_of_users(tx, users)

            try:
                await self._db.write("flush usage", op)
            except BaseException:
                for run_id, used in runs.items():
                    for service, more in used.items():
                        _add(self._runs, run_id, service, more)
                for key, used in users.items():
                    for service, more in used.items():
                        _add(self._users, key, service, more)
                raise

    async def of_run(self, principal: Principal | None, run: Run) -> Quantities | None:
        """What a run used of the storages until now; ``None`` for a caller who does not own it."""
        if principal is None or not principal.owns(run.user_id):
            return None

        async def op(tx: Tx) -> Quantities:
            return await usage.of_run(tx, run.id)

        return sum_of([await self._flushes.read("read usage of run", op), self._runs.get(run.id, {})])

    async def monthly(self, principal: Principal, at: int | None) -> MonthlyUsage:
        """What the caller used in the UTC month around ``at`` (``None``: now), live runs included."""
        now = self._clock.now_ms()
        start_at, end_at = month_of(now if at is None else at)

        async def op(tx: Tx) -> tuple[dict[int, Quantities], list[Run]]:
            return await usage.of_user(tx, principal.user_id, start_at, end_at), await jobs.list_live_runs(
                tx, principal.user_id
            )

        days, live = await self._flushes.read("read usage of user", op)
        for (user_id, day), used in self._users.items():
            if user_id == principal.user_id and start_at <= day <= end_at:
                days[day] = sum_of([days.get(day, {}), used])
        for run in live:
            if run.running_at is not None:
                for day, millis in by_day(max(run.running_at, start_at), min(now, end_at + 1)):
                    mbyte_millis = millis * run.options.memory_mbytes
                    days[day] = sum_of([days.get(day, {}), {UsageService.ACTOR_COMPUTE_UNITS: mbyte_millis}])
        begun = range(start_at, min(now, end_at) + 1, DAY_MS)
        return MonthlyUsage(start_at, end_at, {day: days.get(day, {}) for day in begun})


def _add(totals: dict[T, Quantities], key: T, service: UsageService, more: int) -> None:
    used = totals.get(key)
    if used is None:
        used = totals[key] = {}
    used[service] = used.get(service, 0) + more
