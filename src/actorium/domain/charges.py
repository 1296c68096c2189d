"""What a run charges: counts of events by the pricing it was started with, what they cost, and when to stop."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from actorium.domain.actor_prices import ITEM_EVENT, START_EVENT, PricingModel
from actorium.domain.models import Run
from actorium.domain.pricing import start_event_count

Counts = dict[str, int]


def model_of(run: Run) -> PricingModel | None:
    """The pricing model of a run; ``None`` for one of an Actor without prices."""
    return None if run.pricing_info is None else PricingModel(run.pricing_info["pricingModel"])


def events_of(pricing_info: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The events that can be charged, by their names; none unless they are what is paid for."""
    if pricing_info is None or pricing_info["pricingModel"] != PricingModel.PAY_PER_EVENT:
        return {}
    events: dict[str, dict[str, Any]] = pricing_info["pricingPerEvent"]["actorChargeEvents"]
    return events


def first_counts(pricing_info: Mapping[str, Any] | None, memory_mbytes: int) -> Counts | None:
    """The counts a run begins with: every event at 0 but the start, which is charged at once."""
    if pricing_info is None:
        return None
    if pricing_info["pricingModel"] == PricingModel.PRICE_PER_DATASET_ITEM:
        return {ITEM_EVENT: 0}
    events = events_of(pricing_info)
    return {name: start_event_count(memory_mbytes) if name == START_EVENT else 0 for name in events} or None


def counts_items(counts: Counts | None) -> bool:
    """Whether each item of the default dataset is charged."""
    return counts is not None and ITEM_EVENT in counts


def with_more(run: Run, event: str, count: int) -> Counts:
    """The run's counts after ``count`` more of ``event``, once in all if it is a one-time event of the Actor's own."""
    counts = dict(run.charged_event_counts or {})
    before = counts.get(event, 0)
    is_once = event != START_EVENT and events_of(run.pricing_info).get(event, {}).get("isOneTimeEvent") is True
    counts[event] = min(1, before + count) if is_once else before + count
    return counts


def event_totals(run: Run) -> dict[str, Decimal]:
    """What every event of the run has cost."""
    counts = run.charged_event_counts or {}
    return {
        name: Decimal(str(event["eventPriceUsd"])) * counts.get(name, 0)
        for name, event in events_of(run.pricing_info).items()
    }


def charged_total(run: Run) -> Decimal:
    """What the run's events, or its items up to ``maxItems``, cost in US dollars."""
    if run.pricing_info is not None and model_of(run) is PricingModel.PRICE_PER_DATASET_ITEM:
        count = (run.charged_event_counts or {}).get(ITEM_EVENT, 0)
        most = run.options.max_items
        return Decimal(str(run.pricing_info["pricePerUnitUsd"])) * (count if most is None else min(count, most))
    return sum(event_totals(run).values(), Decimal())


def pays_for_usage(run: Run) -> bool:
    """Whether the user pays for the platform's usage beside what the Actor charges."""
    if model_of(run) is PricingModel.PAY_PER_EVENT:
        return bool(run.pricing_info and run.pricing_info.get("isPPEPlatformUsagePaidByUser"))
    return model_of(run) is not PricingModel.PRICE_PER_DATASET_ITEM


def charge_limit_reached(run: Run, usage_usd: Decimal) -> bool:
    """Whether a run that is paid per event has reached ``maxTotalChargeUsd``. docs: pricing, section 6.2."""
    limit = run.options.max_total_charge_usd
    if limit is None or model_of(run) is not PricingModel.PAY_PER_EVENT:
        return False
    total = charged_total(run) + (usage_usd if pays_for_usage(run) else 0)
    return total >= Decimal(str(limit))
