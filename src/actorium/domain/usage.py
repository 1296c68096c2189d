"""What users and runs use of the services: the API's names, what counts as which, days and months."""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from actorium.domain.storages import StorageKind
from actorium.domain.times import DAY_MS

_UNIT_MBYTE_MILLIS = 1024 * 3_600_000


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


_U = UsageService
Quantities = dict[UsageService, int]
"""Whole numbers by service; compute units in megabyte-milliseconds, so that sums are exact."""

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
    """Every service with its quantity as the API gives it."""
    found: dict[str, int | float] = {service.value: quantities.get(service, 0) for service in UsageService}
    units = UsageService.ACTOR_COMPUTE_UNITS
    return {**found, units.value: compute_units_of(quantities.get(units, 0))}
