"""What users and runs use of the services: the API's names, what counts as which, days and months."""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from actorium.domain.storages import StorageKind
from actorium.domain.times import DAY_MS

_UNIT_MBYTE_MILLIS = 1024 * 3_600_000
_GBYTE = 10**9


class UsageService(StrEnum):
    """The services that are counted. openapi: RunUsage."""

    ACTOR_COMPUTE_UNITS = "ACTOR_COMPUTE_UNITS"
    DATASET_READS = "DATASET_READS"
    DATASET_WRITES = "DATASET_WRITES"
    KEY_VALUE_STORE_READS = "KEY_VALUE_STORE_READS"
    KEY_VALUE_STORE_WRITES = "KEY_VALUE_STORE_WRITES"
    KEY_VALUE_STORE_LISTS = "KEY_VALUE_STORE_LISTS"
    REQUEST_QUEUE_READS = "REQUEST_QUEUE_READS"
    REQUEST_QUEUE_WRITES = "REQUEST_QUEUE_WRITES"
    DATA_TRANSFER_INTERNAL_GBYTES = "DATA_TRANSFER_INTERNAL_GBYTES"
    DATA_TRANSFER_EXTERNAL_GBYTES = "DATA_TRANSFER_EXTERNAL_GBYTES"
    PROXY_RESIDENTIAL_TRANSFER_GBYTES = "PROXY_RESIDENTIAL_TRANSFER_GBYTES"
    PROXY_SERPS = "PROXY_SERPS"


_U = UsageService
Quantities = dict[UsageService, int]
"""Whole numbers by service, so that sums are exact: compute units in megabyte-milliseconds, transfers in bytes."""

_PARTS_OF_UNIT = {
    _U.ACTOR_COMPUTE_UNITS: _UNIT_MBYTE_MILLIS,
    _U.DATA_TRANSFER_INTERNAL_GBYTES: _GBYTE,
    _U.DATA_TRANSFER_EXTERNAL_GBYTES: _GBYTE,
    _U.PROXY_RESIDENTIAL_TRANSFER_GBYTES: _GBYTE,
}
"""How many of what is counted make one unit of the API, where that is not one."""

COUNTED_AS = {
    StorageKind.DATASET: {"read_count": _U.DATASET_READS, "write_count": _U.DATASET_WRITES},
    StorageKind.KEY_VALUE_STORE: {
        "read_count": _U.KEY_VALUE_STORE_READS,
        "write_count": _U.KEY_VALUE_STORE_WRITES,
        "list_count": _U.KEY_VALUE_STORE_LISTS,
    },
    StorageKind.REQUEST_QUEUE: {
        "read_count": _U.REQUEST_QUEUE_READS,
        "head_item_read_count": _U.REQUEST_QUEUE_READS,
        "write_count": _U.REQUEST_QUEUE_WRITES,
    },
}
"""The service under which a growing counter of a storage is used. docs: storages, usage."""


class MonthlyUsage(msgspec.Struct, frozen=True):
    """Use in the month from ``start_at`` to ``end_at``; ``days`` are those that have begun, by their first moment."""

    start_at: int
    end_at: int
    days: dict[int, Quantities]

    @property
    def total(self) -> Quantities:
        """All days together."""
        return sum_of(self.days.values())


def sum_of(many: Iterable[Quantities]) -> Quantities:
    """The quantities of each service added up."""
    total: Quantities = {}
    for quantities in many:
        for service, quantity in quantities.items():
            total[service] = total.get(service, 0) + quantity
    return total


def month_of(at: int) -> tuple[int, int]:
    """First and last millisecond of the UTC month around ``at``."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    start = int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp()) * 1000
    return start, start + calendar.monthrange(moment.year, moment.month)[1] * DAY_MS - 1


def day_of(at: int) -> int:
    """First millisecond of the UTC day around ``at``."""
    return at - at % DAY_MS


def by_day(start_at: int, end_at: int) -> Iterator[tuple[int, int]]:
    """The days between two moments, each with how many milliseconds of it lie between them."""
    while start_at < end_at:
        day = day_of(start_at)
        stop = min(day + DAY_MS, end_at)
        yield day, stop - start_at
        start_at = stop


def compute_units_of(mbyte_millis: int) -> float:
    """One unit is 1024 MB for an hour."""
    return mbyte_millis / _UNIT_MBYTE_MILLIS


def shown(quantities: Quantities) -> dict[str, int | float]:
    """Every service with its quantity as the API gives it: fractions of units and gigabytes, else whole numbers."""
    return {service.value: _units(service, quantities.get(service, 0)) for service in UsageService}


def _units(service: UsageService, quantity: int) -> int | float:
    parts = _PARTS_OF_UNIT.get(service)
    return quantity if parts is None else quantity / parts


class Prices:
    """What one unit of each service costs in US dollars; a service without a price costs nothing."""

    def __init__(self, usd: Mapping[str, float]) -> None:
        self._usd = {service: Decimal(str(usd.get(service.value, 0))) for service in UsageService}
        self.are_zero = not any(self._usd.values())

    def unit_usd(self, service: str) -> float:
        """The price of one unit."""
        return float(self._usd[UsageService(service)])

    def cost(self, quantities: Quantities) -> dict[str, float]:
        """Every service with what the quantity of it costs."""
        return {service.value: float(self._cost(service, quantities.get(service, 0))) for service in UsageService}

    def total(self, quantities: Quantities) -> Decimal:
        """What everything costs together, exact to a billionth of a dollar."""
        return sum((self._cost(service, quantity) for service, quantity in quantities.items()), Decimal())

    def _cost(self, service: UsageService, quantity: int) -> Decimal:
        return round(self._usd[service] * quantity / _PARTS_OF_UNIT.get(service, 1), 9)
