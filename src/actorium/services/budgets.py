"""Budgets of what the platform's services cost: per run, and per user and month.

Costs grow with time and with every call, so live runs are looked at every few seconds; one may cost a little more
than its budget until it is seen. Nothing is done where no service has a price.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from actorium.domain.charges import model_of, pays_for_usage
from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.models import JobStatus, Run
from actorium.domain.times import iso
from actorium.domain.usage import month_of
from actorium.kit import Clock, Tasks, forever
from actorium.services.charging import Change, Charging
from actorium.services.run_stops import PlatformStops
from actorium.services.usage import Usage
from actorium.storage import jobs, user_limits
from actorium.storage.db import Database, Tx

_CHECK_SECS = 2.0


class BudgetSettings(msgspec.Struct, frozen=True):
    """``max_monthly_usage_usd`` is for users who have set no limit of their own; 0 is none."""

    max_monthly_usage_usd: float
    abort_runs_at_monthly_limit: bool


class Budgets:
    """Checks budgets; a Service."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        usage: Usage,
        charging: Charging,
        stops: PlatformStops,
        settings: BudgetSettings,
    ) -> None:
        self._db = db
        self._clock = clock
        self._usage = usage
        self._charging = charging
        self._stops = stops
        self._settings = settings
        self._tasks = Tasks("budgets")

    async def start(self) -> None:
        """Begin checking live runs."""
        if not len(self._tasks) and not self._usage.prices.are_zero:
            self._tasks.spawn("check", forever("checking budgets", _CHECK_SECS, self._step))

    async def stop(self) -> None:
        """End."""
        await self._tasks.stop()

    async def _step(self) -> None:
        await self.check_runs()
        await self._clock.sleep(_CHECK_SECS)

    async def check_month(self, user_id: str) -> None:
        """Refuse another start when the user's month is used up. Raises 402 ``platform-feature-disabled``."""
        over = await self._month_over(user_id)
        if over is not None:
            raise ApiError(ErrorType.PLATFORM_FEATURE_DISABLED, over)

    async def check_runs(self) -> None:
        """Stop the live runs that have used up their budget, or that of their user's month where this is wanted."""
        live = [run for run in await self._db.read("live runs", jobs.list_live_runs) if run.status is JobStatus.RUNNING]
        limited = [run for run in live if run.options.max_total_usage_usd is not None or _limits_usage_too(run)]
        for run_id, cost in (await self._usage.costs_of(limited)).items():
            await self._stop_if(run_id, cost)
        if self._settings.abort_runs_at_monthly_limit:
            for user_id in sorted({run.user_id for run in live}):
                over = await self._month_over(user_id)
                for run in live if over is not None else ():
                    if run.user_id == user_id:
                        await self._stop_if(run.id, Decimal(), over)

    async def _stop_if(self, run_id: str, cost: Decimal, reason: str | None = None) -> None:
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Change | None:
            run = await jobs.get_run(tx, run_id, for_update=True)
            if run is None or run.status is not JobStatus.RUNNING:
                return None
            message = reason or _usage_message(run, cost)
            if message is None:
                return await self._charging.stop_at_limit(tx, run, cost, now)
            stopped = await self._stops.stop(tx, run, message, now)
            return None if stopped is None else (run, stopped)

        await self._charging.announce(await self._db.write("check budget", op))

    async def _month_over(self, user_id: str) -> str | None:
        """Why the user can use no more this month; ``None`` when there is no limit or something is left."""
        if self._usage.prices.are_zero:
            return None
        limit = await self.monthly_limit(user_id)
        if limit is None:
            return None
        used = await self._usage.monthly(user_id, None)
        cost = self._usage.prices.total(used.total)
        if cost < Decimal(str(limit)):
            return None
        begins = month_of(self._clock.now_ms())[1] + 1
        return (
            f"Monthly usage hard limit exceeded: ${float(cost):g} of ${limit:g} are used. "
            f"Raise the limit or wait until {iso(begins)}."
        )

    async def monthly_limit(self, user_id: str) -> float | None:
        """What a user may use in a month in US dollars; ``None``: as much as there is."""

        async def op(tx: Tx) -> float | None:
            return (await user_limits.get(tx, user_id)).max_monthly_usage_usd

        own = await self._db.read("monthly limit of user", op)
        return (self._settings.max_monthly_usage_usd or None) if own is None else own


def _limits_usage_too(run: Run) -> bool:
    """Whether ``maxTotalChargeUsd`` is also for what the services cost."""
    return run.options.max_total_charge_usd is not None and model_of(run) is not None and pays_for_usage(run)


def _usage_message(run: Run, cost: Decimal) -> str | None:
    budget = run.options.max_total_usage_usd
    if budget is None or cost < Decimal(str(budget)):
        return None
    return (
        f"The run has used up its budget: the platform's services cost ${float(cost):g}, its maxTotalUsageUsd is "
        f"${budget:g}. The run was aborted."
    )
