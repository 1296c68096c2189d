"""What happens to live runs when the machine's clock is set: nothing.

Windows, budgets and durations are kept as times in the database, so that they survive the server. A step of the clock
moves them all along with it: a run has as much time left as before, and what it has used stays what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from actorium.kit import Clock
from actorium.storage import run_times
from actorium.storage.db import Database, Tx

_log = structlog.get_logger("actorium.engine")
_LOOK_SECS = 0.5
_RETRY_SECS = 1.0


class Timed(Protocol):
    """Something that keeps times in memory."""

    def move_times(self, step_ms: int) -> None:
        """Move them, and look again at what is due."""
        ...


class ClockSteps:
    """Looks for steps of the clock and takes them over, for runs and for what ``keepers`` yields."""

    def __init__(self, db: Database, clock: Clock, keepers: Callable[[], Iterable[Timed]]) -> None:
        self._db = db
        self._clock = clock
        self._keepers = keepers

    async def watch(self) -> None:
        """Look twice a second, for ever."""
        while True:
            await self._clock.sleep(_LOOK_SECS)
            if (step_ms := self._clock.step_ms()) and abs(step_ms) >= _LOOK_SECS * 1000:
                _log.warning("the clock was set; times of live runs move with it", step_secs=step_ms / 1000)
                await self._take(step_ms)

    async def _take(self, step_ms: int) -> None:
        # In between everything must seem to be due later, never earlier.
        if step_ms > 0:
            await self._move_stored(step_ms)
        self._clock.take_step(step_ms)
        for keeper in self._keepers():
            keeper.move_times(step_ms)
        if step_ms < 0:
            await self._move_stored(step_ms)
            for keeper in self._keepers():
                keeper.move_times(0)

    async def _move_stored(self, step_ms: int) -> None:
        async def op(tx: Tx) -> None:
            await run_times.move(tx, step_ms)

        while True:
            try:
                await self._db.write("move times of live runs", op)
            except Exception:  # noqa: BLE001  a database that is away comes back
                _log.exception("cannot move the times of live runs, trying again")
                await self._clock.sleep(_RETRY_SECS)
            else:
                return
