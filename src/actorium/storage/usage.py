"""What runs and users used, added up: per run, and per user and day."""

from __future__ import annotations

from collections.abc import Mapping

from actorium.domain.usage import Quantities, UsageService
from actorium.storage.db import Tx

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


async def of_run(tx: Tx, run_id: str) -> Quantities:
    """What a run used of the storages."""
    rows = await tx.fetch("SELECT service, quantity FROM run_usage WHERE run_id = ?", run_id)
    return {UsageService(row["service"]): row["quantity"] for row in rows}


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
