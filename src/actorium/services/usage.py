"""Counts what callers use of the services, and tells it per run and per user and month."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from actorium.domain.models import Build, Run
from actorium.domain.storages import StorageKind
from actorium.domain.times import DAY_MS
from actorium.domain.usage import (
    COUNTED_AS,
    MonthlyUsage,
    Prices,
    Quantities,
    UsageService,
    by_day,
    day_of,
    month_of,
    sum_of,
)
from actorium.kit import Clock, Tasks
from actorium.services.access import Principal
from actorium.services.flushes import Flushes
from actorium.storage import builds, jobs, usage
from actorium.storage.db import Database, Tx

T = TypeVar("T")


class Usage:
    """Collects in memory what calls used, until ``flush``: a call costs two dictionary updates and no statement.

    Only calls that were carried out are added, and only those of a caller with a token. A crash loses what came after
    the last flush; nothing is ever counted twice. ``settle`` writes what a run used along with its end.
    """

    def __init__(self, db: Database, clock: Clock, prices: Prices | None = None) -> None:
        self._db = db
        self._clock = clock
        self.prices = prices or Prices({})
        self._runs: dict[str, Quantities] = {}
        self._users: dict[tuple[str, int], Quantities] = {}
        self._flushes = Flushes(db)
        self._tasks = Tasks("usage")
        self._settling: dict[str, asyncio.Task[Any]] = {}
        self._readers: list[set[str]] = []

    def add(self, principal: Principal | None, kind: StorageKind, **counters: int) -> None:
        """Note a call of ``principal`` that made these counters of a storage of ``kind`` grow."""
        if principal is None:
            return
        services = COUNTED_AS[kind]
        for counter, more in counters.items():
            service = services.get(counter)
            if service is not None and more:
                self._add(principal, service, more)

    def add_transfer(self, principal: Principal, byte_count: int) -> None:
        """Note the bytes of a call and its answer: internal transfer of a run's token, else external transfer."""
        inside, outside = UsageService.DATA_TRANSFER_INTERNAL_GBYTES, UsageService.DATA_TRANSFER_EXTERNAL_GBYTES
        if byte_count:
            self._add(principal, outside if principal.run_id is None else inside, byte_count)

    def _add(self, principal: Principal, service: UsageService, more: int) -> None:
        _add(self._users, (principal.user_id, day_of(self._clock.now_ms())), service, more)
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

    async def settle(self, run_id: str, description: str, op: Callable[[Tx], Awaitable[T | None]]) -> T | None:
        """Write ``op``, a run's end, and in the same transaction what the run used and is not yet written down.

        Where ``op`` gives ``None`` nothing of that is written. It goes on when the caller is cancelled.
        """
        task = self._tasks.spawn(description, self._settle(run_id, description, op))
        self._settling[run_id] = task
        task.add_done_callback(lambda _: self._settling.pop(run_id, None))
        return await asyncio.shield(task)

    async def _settle(self, run_id: str, description: str, op: Callable[[Tx], Awaitable[T | None]]) -> T | None:
        await self._flushes.ended()
        used = self._runs.pop(run_id, {})
        for settled in self._readers:
            settled.add(run_id)

        async def both(tx: Tx) -> T | None:
            result = await op(tx)
            if result is not None:
                await usage.add_of_runs(tx, {run_id: used})
            return result

        result = None
        try:
            result = await self._db.write(description, both)
        finally:
            if result is None:
                for service, more in used.items():
                    _add(self._runs, run_id, service, more)
        return result

    async def settled(self) -> None:
        """Return once no end is being written."""
        await self._tasks.join()

    async def of_run(self, principal: Principal | None, run: Run) -> Quantities | None:
        """What a run used until now; ``None`` for a caller who does not own it."""
        if principal is None or not principal.owns(run.user_id):
            return None
        return (await self.of_runs([run]))[run.id]

    async def of_runs(self, runs: Sequence[Run]) -> dict[str, Quantities]:
        """What each of ``runs`` used until now, by its id."""
        ids = [run.id for run in runs]

        async def op(tx: Tx) -> dict[str, Quantities]:
            return await usage.of_runs(tx, ids)

        found = await self._read_settled(ids, op)
        now = self._clock.now_ms()
        return {run.id: sum_of([found.get(run.id, {}), self._runs.get(run.id, {}), _live(run, now)]) for run in runs}

    async def _read_settled(
        self, run_ids: Sequence[str], op: Callable[[Tx], Awaitable[dict[str, Quantities]]]
    ) -> dict[str, Quantities]:
        """What the database has of runs, none of which is being settled: added to what is pending now, it is all."""
        settled: set[str] = set()
        self._readers.append(settled)
        try:
            while True:
                under_way = [self._settling[run_id] for run_id in run_ids if run_id in self._settling]
                if under_way:
                    await asyncio.wait(under_way)
                settled.clear()
                found = await self._flushes.read("read usage of runs", op)
                if settled.isdisjoint(run_ids):
                    return found
        finally:
            self._readers = [other for other in self._readers if other is not settled]

    async def costs_of(self, runs: Sequence[Run]) -> dict[str, Decimal]:
        """What each of ``runs`` used until now in US dollars, by its id. Free services are not looked up."""
        if self.prices.are_zero:
            return {run.id: Decimal() for run in runs}
        return {run_id: self.prices.total(used) for run_id, used in (await self.of_runs(runs)).items()}

    async def monthly(self, user_id: str, at: int | None) -> MonthlyUsage:
        """What a user used in the UTC month around ``at`` (``None``: now), live runs and builds included."""
        now = self._clock.now_ms()
        start_at, end_at = month_of(now if at is None else at)

        async def op(tx: Tx) -> tuple[dict[int, Quantities], list[Run], list[Build]]:
            found = await usage.of_user(tx, user_id, start_at, end_at)
            return found, await jobs.list_live_runs(tx, user_id), await builds.list_live_builds(tx)

        days, live_runs, live_builds = await self._flushes.read("read usage of user", op)
        for (owner_id, day), used in self._users.items():
            if owner_id == user_id and start_at <= day <= end_at:
                days[day] = sum_of([days.get(day, {}), used])
        live = [(run.running_at, run.options.memory_mbytes) for run in live_runs]
        live += [(build.running_at, build.options["memoryMbytes"]) for build in live_builds if build.user_id == user_id]
        for running_at, memory_mbytes in live:
            if running_at is not None:
                for day, millis in by_day(max(running_at, start_at), min(now, end_at + 1)):
                    days[day] = sum_of([days.get(day, {}), {UsageService.ACTOR_COMPUTE_UNITS: millis * memory_mbytes}])
        begun = range(start_at, min(now, end_at) + 1, DAY_MS)
        return MonthlyUsage(start_at, end_at, {day: days.get(day, {}) for day in begun})


def _live(run: Run, now: int) -> Quantities:
    if run.running_at is None:
        return {}
    return {UsageService.ACTOR_COMPUTE_UNITS: max(0, now - run.running_at) * run.options.memory_mbytes}


def _add(totals: dict[T, Quantities], key: T, service: UsageService, more: int) -> None:
    used = totals.get(key)
    if used is None:
        used = totals[key] = {}
    used[service] = used.get(service, 0) + more
