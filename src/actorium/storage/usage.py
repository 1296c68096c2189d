"""What runs and users used, added up: per run, and per user and day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from actorium.domain.usage import Quantities, UsageService, by_day
from actorium.storage.db import Tx, placeholders

_MOST_IDS = 500

# In the order of keys, so that servers adding at once do not wait for each other in a circle. Whoever is deleted
# meanwhile is passed over.
_ADD_OF_RUN = (
    "INSERT INTO run_usage (run_id, service, quantity) SELECT ?, ?, CAST(? AS BIGINT) "
    "WHERE EXISTS (SELECT 1 FROM runs WHERE id = ?) "
    "ON CONFLICT (run_id, service) DO UPDATE SET quantity = run_usage.quantity + excluded.quantity"
)
_ADD_OF_USER = (
    "INSERT INTO user_usage (user_id, day_at, service, quantity) SELECT ?, CAST(? AS BIGINT), ?, CAST(? AS BIGINT) "
    "WHERE EXISTS (SELECT 1 FROM users WHERE id = ?) "
    "ON CONFLICT (user_id, day_at, service) DO UPDATE SET quantity = user_usage.quantity + excluded.quantity"
)


async def add_of_runs(tx: Tx, used: Mapping[str, Quantities]) -> None:
    """Add to what runs used, by their ids."""
    rows = [(run_id, service.value, more, run_id) for run_id, found in used.items() for service, more in found.items()]
    if rows:
        await tx.executemany(_ADD_OF_RUN, sorted(rows))


async def add_of_users(tx: Tx, used: Mapping[tuple[str, int], Quantities]) -> None:
    """Add to what users used, by their id and the day's first millisecond."""
    rows = [
        (user_id, day, service.value, more, user_id)
        for (user_id, day), found in used.items()
        for service, more in found.items()
    ]
    if rows:
        await tx.executemany(_ADD_OF_USER, sorted(rows))


async def add_compute_units(tx: Tx, user_id: str, memory_mbytes: int, start_at: int, end_at: int) -> None:
    """Book memory that was used from one moment to another on its days."""
    days = by_day(start_at, end_at)
    await add_of_users(
        tx, {(user_id, day): {UsageService.ACTOR_COMPUTE_UNITS: millis * memory_mbytes} for day, millis in days}
    )


async def of_runs(tx: Tx, run_ids: Sequence[str]) -> dict[str, Quantities]:
    """What runs used, those that used something by their ids; without what their live attempts take."""
    found: dict[str, Quantities] = {}
    for start in range(0, len(run_ids), _MOST_IDS):
        part = run_ids[start : start + _MOST_IDS]
        rows = await tx.fetch(
            f"SELECT run_id, service, quantity FROM run_usage WHERE run_id IN ({placeholders(len(part))})", *part
        )
        for row in rows:
            found.setdefault(row["run_id"], {})[UsageService(row["service"])] = row["quantity"]
    return found


async def of_user(tx: Tx, user_id: str, start_at: int, end_at: int) -> dict[int, Quantities]:
    """What a user used on each day that begins between two moments."""
    rows = await tx.fetch(
        "SELECT day_at, service, quantity FROM user_usage WHERE user_id = ? AND day_at BETWEEN ? AND ?",
        user_id,
        start_at,
        end_at,
    )
    found: dict[int, Quantities] = {}
    for row in rows:
        found.setdefault(row["day_at"], {})[UsageService(row["service"])] = row["quantity"]
    return found
