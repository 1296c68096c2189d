"""Prices of Actors: the append-only ``pricingInfos``, and the one that is in force, as a run keeps it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from actorium.domain.errors import ApiError, ErrorType, invalid
from actorium.domain.times import iso

START_EVENT = "apify-actor-start"
ITEM_EVENT = "apify-default-dataset-item"
SYSTEM_PREFIX = "apify-"
"""Events that begin with it are the platform's own; the two above are those that an Actor may price."""

TIERS = ("FREE", "BRONZE", "SILVER", "GOLD", "PLATINUM", "DIAMOND")
USER_TIER = "FREE"
"""The tier of every user here."""

Info = dict[str, Any]
_DATES = ("createdAt", "startedAt", "notifiedAboutChangeAt", "notifiedAboutFutureChangeAt")


class PricingModel(StrEnum):
    """How an Actor is paid for. openapi: ActorRunPricingInfo."""

    FREE = "FREE"
    FLAT_PRICE_PER_MONTH = "FLAT_PRICE_PER_MONTH"
    PRICE_PER_DATASET_ITEM = "PRICE_PER_DATASET_ITEM"
    PAY_PER_EVENT = "PAY_PER_EVENT"


def appended(current: Sequence[Info], given: object, now: int) -> list[Info]:
    """``pricingInfos`` after an update that sends ``given``: the current entries unchanged and at most one new.

    Raises 400 with the platform's types. docs: actors, section 1.8.
    """
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise invalid("Field pricingInfos must be a list of objects.")
    if len(given) < len(current):
        raise ApiError(
            ErrorType.CANNOT_REMOVE_PRICING_INFO,
            "You cannot remove pricing info. To make the Actor free, submit the current pricing infos and add one "
            "with the FREE pricing model.",
        )
    if len(given) > len(current) + 1:
        raise ApiError(ErrorType.CANNOT_ADD_MULTIPLE_PRICING_INFOS, "You cannot add multiple pricing infos at once.")
    for position, (old, sent) in enumerate(zip(current, given, strict=False)):
        if _comparable(old) != _comparable(sent):
            raise ApiError(
                ErrorType.INCORRECT_PRICING_MODIFIER_PREFIX,
                f"Field pricingInfos[{position}] differs from the Actor's current one: send the current pricing infos "
                "unchanged and add a new one at the end.",
            )
    if len(given) == len(current):
        return list(current)
    new = _checked(given[-1], f"pricingInfos[{len(current)}]", now)
    if current and _time_of(current[-1]["startedAt"]) > now:
        raise ApiError(
            ErrorType.CANNOT_ADD_SECOND_FUTURE_PRICING_INFO,
            "There is already a pricing info starting in the future. You cannot add another one.",
        )
    if current and _time_of(new["startedAt"]) <= _time_of(current[-1]["startedAt"]):
        raise ApiError(
            ErrorType.CANNOT_ADD_PRICING_INFO_THAT_ALTERS_PAST,
            "The pricing info you are adding must start after all existing ones.",
        )
    return [*current, new]


def in_force(infos: Sequence[Info], now: int) -> Info | None:
    """The entry that applies at ``now``: of those that have started the last one."""
    begun = [info for info in infos if _time_of(info["startedAt"]) <= now]
    return begun[-1] if begun else None


def collapsed(info: Info) -> Info:
    """``info`` with the flat prices of the user's tier in place of tiered ones. docs: runs, section 10."""
    flat = {key: value for key, value in info.items() if key not in ("tieredPricing", "pricingPerEvent")}
    if "tieredPricing" in info:
        flat["pricePerUnitUsd"] = _of_tier(info["tieredPricing"])["tieredPricePerUnitUsd"]
    if "pricingPerEvent" in info:
        events = info["pricingPerEvent"]["actorChargeEvents"]
        flat["pricingPerEvent"] = {"actorChargeEvents": {name: _flat_event(event) for name, event in events.items()}}
    return flat


def _flat_event(event: Info) -> Info:
    flat = {key: value for key, value in event.items() if key != "eventTieredPricingUsd"}
    if "eventTieredPricingUsd" in event:
        flat["eventPriceUsd"] = _of_tier(event["eventTieredPricingUsd"])["tieredEventPriceUsd"]
    return flat


def _of_tier(tiers: dict[str, Info]) -> Info:
    # A tier without a price of its own has that of the next lower one.
    upto = TIERS[: TIERS.index(USER_TIER) + 1]
    given = [tiers[tier] for tier in upto if tier in tiers] or [tiers[tier] for tier in TIERS if tier in tiers][:1]
    return given[-1]


def _time_of(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _comparable(info: Info) -> Info:
    """As clients may send it back: dates in another form, optional fields as null."""
    found = {key: value for key, value in info.items() if value is not None}
    for key in _DATES:
        if isinstance(found.get(key), str):
            try:
                found[key] = _time_of(found[key])
            except ValueError:
                continue
    return found


class _Fields:
    """The fields of one object of a request, taken out one by one with a check each."""

    def __init__(self, value: Info, where: str) -> None:
        self._left = dict(value)
        self._where = where
        self.found: Info = {}

    def take(self, key: str, check: Callable[[Any], bool], words: str, *, default: Any = None) -> None:
        """Take a field; one without ``default`` is required."""
        value = self._left.pop(key, None)
        value = default if value is None else value
        if value is None or not check(value):
            raise self.wrong(key, value, words)
        self.found[key] = value

    def maybe(self, key: str, check: Callable[[Any], bool], words: str) -> None:
        """Take a field that may be absent or null."""
        if self._left.get(key) is None:
            self._left.pop(key, None)
            return
        self.take(key, check, words)

    def one_of(self, flat: str, tiered: str, price: str) -> None:
        """Take either a flat price or prices of tiers."""
        if (self._left.get(flat) is None) == (self._left.get(tiered) is None):
            raise invalid(f"Field {self._where} must have either {flat} or {tiered}.")
        self.maybe(flat, _is_amount, _AMOUNT)
        self.maybe(
            tiered,
            lambda tiers: _is_tiers(tiers, price),
            f"an object of tiers ({', '.join(TIERS)}), each with {price} of at least 0",
        )

    def wrong(self, key: str, value: object, words: str) -> ApiError:
        """400 that names the field, what was sent and what is allowed."""
        return invalid(f"Field {self._where}.{key} must be {words}, got {value!r:.80}.")

    def end(self) -> Info:
        """What was taken. Raises 400 if something is left."""
        if self._left:
            raise invalid(f"Field {self._where}.{next(iter(self._left))} is not known.")
        return self.found


_AMOUNT = "a number of at least 0"


def _is_amount(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0  # type: ignore[arg-type, operator]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_date(value: object) -> bool:
    try:
        return isinstance(value, str) and _time_of(value) >= 0
    except (ValueError, OverflowError):
        return False


def _is_tiers(value: object, price: str) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(
            tier in TIERS and isinstance(entry, dict) and set(entry) == {price} and _is_amount(entry[price])
            for tier, entry in value.items()
        )
    )


def _checked(sent: Info, where: str, now: int) -> Info:
    fields = _Fields(sent, where)
    models = [model.value for model in PricingModel]
    fields.take("pricingModel", lambda value: value in models, f"one of {', '.join(models)}")
    fields.take(
        "apifyMarginPercentage", lambda value: _is_amount(value) and value <= 1, "a number from 0 to 1", default=0
    )
    fields.take("createdAt", _is_date, "an ISO 8601 time", default=iso(now))
    fields.take("startedAt", _is_date, "an ISO 8601 time", default=iso(now))
    for key in ("notifiedAboutChangeAt", "notifiedAboutFutureChangeAt"):
        fields.maybe(key, _is_date, "an ISO 8601 time")
    fields.maybe("reasonForChange", lambda value: isinstance(value, str), "a string")
    for key in ("isPriceChangeNotificationSuppressed", "forceContainsSignificantPriceChange"):
        fields.maybe(key, _is_flag, "a boolean")
    _MODELS[PricingModel(fields.found["pricingModel"])](fields, where)
    found = fields.end()
    return {**found, **{key: iso(_time_of(found[key])) for key in _DATES if key in found}}


def _free(_fields: _Fields, _where: str) -> None:
    return


def _flat_price(fields: _Fields, _where: str) -> None:
    fields.take("pricePerUnitUsd", _is_amount, _AMOUNT)
    fields.take(
        "trialMinutes",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
        "a whole number of at least 0",
    )


def _per_item(fields: _Fields, _where: str) -> None:
    fields.take("unitName", _is_text, "a string that is not empty")
    fields.one_of("pricePerUnitUsd", "tieredPricing", "tieredPricePerUnitUsd")


def _per_event(fields: _Fields, where: str) -> None:
    fields.maybe("minimalMaxTotalChargeUsd", _is_amount, _AMOUNT)
    fields.maybe("isPPEPlatformUsagePaidByUser", _is_flag, "a boolean")
    fields.take("pricingPerEvent", lambda value: isinstance(value, dict), "an object")
    inner = _Fields(fields.found["pricingPerEvent"], f"{where}.pricingPerEvent")
    inner.take(
        "actorChargeEvents",
        lambda value: isinstance(value, dict) and all(isinstance(event, dict) for event in value.values()),
        "an object of events",
    )
    events = inner.end()["actorChargeEvents"]
    path = f"{where}.pricingPerEvent.actorChargeEvents"
    fields.found["pricingPerEvent"] = {
        "actorChargeEvents": {name: _event(name, event, f"{path}.{name}") for name, event in events.items()}
    }


def _event(name: str, sent: Info, where: str) -> Info:
    if not 1 <= len(name) <= 100:
        raise invalid(f"Field {where[:200]} has an invalid name: an event's name has 1 to 100 characters.")
    if name.startswith(SYSTEM_PREFIX) and name not in (START_EVENT, ITEM_EVENT):
        raise ApiError(
            ErrorType.CANNOT_ADD_APIFY_EVENTS_TO_PPE_ACTOR,
            f"Field {where} has an invalid name: only {START_EVENT} and {ITEM_EVENT} may begin with {SYSTEM_PREFIX}.",
        )
    fields = _Fields(sent, where)
    for key in ("eventTitle", "eventDescription"):
        fields.take(key, lambda value: isinstance(value, str), "a string")
    fields.one_of("eventPriceUsd", "eventTieredPricingUsd", "tieredEventPriceUsd")
    for key in ("isPrimaryEvent", "isOneTimeEvent"):
        fields.maybe(key, _is_flag, "a boolean")
    if name == START_EVENT and fields.found.get("isOneTimeEvent") is False:
        raise ApiError(
            ErrorType.CANNOT_DISABLE_ONE_TIME_EVENT_FOR_APIFY_START_EVENT,
            f"Field {where}.isOneTimeEvent cannot be false: a start is charged by the platform.",
        )
    return fields.end()


_MODELS = {
    PricingModel.FREE: _free,
    PricingModel.FLAT_PRICE_PER_MONTH: _flat_price,
    PricingModel.PRICE_PER_DATASET_ITEM: _per_item,
    PricingModel.PAY_PER_EVENT: _per_event,
}
