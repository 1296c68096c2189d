"""Charging for events and dataset items of a run, and stopping it at the limit its user has set.

Counts are kept in the run's row, so a charge, its idempotency key and the end it leads to are one transaction.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from actorium.domain.actor_prices import ITEM_EVENT, SYSTEM_PREFIX, PricingModel
from actorium.domain.charges import (
    charge_limit_reached,
    charged_total,
    events_of,
    model_of,
    pays_for_usage,
    with_more,
)
from actorium.domain.errors import ApiError, ErrorType, invalid, not_found
from actorium.domain.models import Run
from actorium.kit import Clock
from actorium.services.access import Principal
from actorium.services.run_stops import PlatformStops
from actorium.services.usage import Usage
from actorium.storage import charges, jobs
from actorium.storage.db import Database, Tx

IDEMPOTENCY_MS = 180_000
"""How long an idempotency key is remembered. docs: runs, section 10."""
MAX_COUNT = 10_000_000
_MAX_KEY = 500

Change = tuple[Run, Run]
"""A run before and after."""


class Charging:
    """The charging service."""

    def __init__(self, db: Database, clock: Clock, usage: Usage, stops: PlatformStops) -> None:
        self._db = db
        self._clock = clock
        self._usage = usage
        self._stops = stops

    async def charge(
        self, principal: Principal, run_id: str, body: dict[str, Any], idempotency_key: str | None
    ) -> None:
        """Charge an event of the caller's own run. openapi: PostChargeRun.

        The refusals come in the platform's order; the same key within three minutes charges nothing.
        """

        async def find(tx: Tx) -> Run | None:
            return await jobs.get_run(tx, run_id)

        run = await self._db.read("find run to charge", find)
        if run is None or not principal.owns(run.user_id):
            raise not_found("Actor run")
        if principal.run_id != run.id:
            raise ApiError(
                ErrorType.INSUFFICIENT_PERMISSIONS, "Events of a run can only be charged with the run's own token."
            )
        event, count, key = _check_charge(run, body, idempotency_key)
        usage_usd = await self._usage_usd(run)
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Change | None:
            current = await jobs.get_run(tx, run_id, for_update=True)
            if current is None:
                raise not_found("Actor run")
            if not await charges.claim_key(tx, run_id, key, now, now + IDEMPOTENCY_MS):
                return None
            return await self._add(tx, current, event, count, now, usage_usd)

        await self.announce(await self._db.write("charge run", op))

    async def charge_items(self, tx: Tx, run_id: str, count: int, now: int) -> Change | None:
        """Charge items that are being stored in a run's default dataset, in the same transaction."""
        run = await jobs.get_run(tx, run_id, for_update=True)
        return None if run is None else await self._add(tx, run, ITEM_EVENT, count, now, Decimal())

    async def stop_at_limit(self, tx: Tx, run: Run, usage_usd: Decimal, now: int) -> Change | None:
        """Stop a run, read for update, if it has reached its limit; the run before and after if it has just now."""
        if run.charging_stopped_at is not None or not charge_limit_reached(run, usage_usd):
            return None
        total = charged_total(run) + (usage_usd if pays_for_usage(run) else 0)
        message = (
            f"The maximum cost per run was reached: ${float(total):g} were charged, the limit is "
            f"${run.options.max_total_charge_usd:g}. The run was aborted."
        )
        stopped = await self._stops.stop(tx, run, message, now, charging_stopped_at=now)
        return None if stopped is None else (run, stopped)

    async def announce(self, change: Change | None) -> None:
        """After the commit: let a run that was stopped know."""
        if change is not None:
            await self._stops.announce(*change)

    async def _add(self, tx: Tx, run: Run, event: str, count: int, now: int, usage_usd: Decimal) -> Change | None:
        changed = await jobs.update(tx, run.id, charged_event_counts=with_more(run, event, count))
        return None if changed is None else await self.stop_at_limit(tx, changed, usage_usd, now)

    async def _usage_usd(self, run: Run) -> Decimal:
        if run.options.max_total_charge_usd is None or not pays_for_usage(run):
            return Decimal()
        return (await self._usage.costs_of([run]))[run.id]


def _check_charge(run: Run, body: dict[str, Any], key: str | None) -> tuple[str, int, str]:
    if not key:
        raise invalid("Header idempotency-key is required: any unique text of this charge.")
    if len(key) > _MAX_KEY:
        raise invalid(f"Header idempotency-key must have at most {_MAX_KEY} characters, got {len(key)}.")
    event, count = body.get("eventName"), body.get("count")
    if not isinstance(event, str) or not event:
        raise invalid(f"Field eventName must be a string that is not empty, got {event!r:.80}.")
    count = 1 if count is None else count
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_COUNT:
        raise invalid(f"Field count must be a whole number from 1 to {MAX_COUNT}, got {count!r:.80}.")
    if event.startswith(SYSTEM_PREFIX):
        raise ApiError(
            ErrorType.CANNOT_CHARGE_APIFY_EVENT, f'Event "{event[:100]}" is system event and cannot be charged.'
        )
    if model_of(run) is not PricingModel.PAY_PER_EVENT:
        raise ApiError(
            ErrorType.CANNOT_CHARGE_NON_PAY_PER_EVENT_ACTOR,
            "Events can only be charged in runs of Actors with the PAY_PER_EVENT pricing model.",
        )
    if event not in events_of(run.pricing_info):
        raise not_found(f'Event "{event[:100]}"')
    return event, count, key
