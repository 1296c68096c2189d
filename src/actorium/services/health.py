"""Whether the server can do its work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actorium.kit import Clock
from actorium.storage.db import Database, Tx


class Health:
    """Asks the parts a server cannot do without."""

    def __init__(self, db: Database, clock: Clock, live_run_count: Callable[[], int]) -> None:
        self._db = db
        self._clock = clock
        self._live_run_count = live_run_count
        self._started_at = clock.now_ms()

    async def report(self) -> dict[str, Any]:
        """``status`` is ``ok`` or ``failing``; the database is really asked."""

        async def op(tx: Tx) -> None:
            await tx.fetchrow("SELECT 1 AS one")

        try:
            await self._db.read("health", op)
            database = "ok"
        except Exception as error:  # noqa: BLE001  the answer is the report
            database = f"failing: {type(error).__name__}"
        return {
            "status": "ok" if database == "ok" else "failing",
            "database": database,
            "databaseKind": self._db.name,
            "liveRunCount": self._live_run_count(),
            "uptimeSecs": (self._clock.now_ms() - self._started_at) / 1000,
        }
