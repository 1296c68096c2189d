"""Migration of runs: out of a server, or onto a new process where they are. docs: runs, section 4.10."""

from __future__ import annotations

from collections.abc import Sequence

from actorium.domain.errors import not_found
from actorium.domain.models import TERMINAL_STATUSES, JobStatus, Run, Wanted
from actorium.kit import Clock, Signals
from actorium.services.runs import finished
from actorium.services.topics import run_topic
from actorium.storage import jobs, maintenance
from actorium.storage.db import Database, Tx


class RunMigrations:
    """Asks runs to move. ``window_secs`` is how long a run may save its state after a request for it alone."""

    def __init__(self, db: Database, clock: Clock, signals: Signals, window_secs: float) -> None:
        self._db = db
        self._clock = clock
        self._signals = signals
        self._window_secs = window_secs

    async def migrate(self, run: Run) -> Run:
        """Give a run's process the window and then replace it; a second request joins the open window.

        Only a RUNNING run migrates: one that waits has no process, and one that is being stopped is left to that.
        """
        stop_at = self._clock.now_ms() + round(self._window_secs * 1000)

        async def op(tx: Tx) -> Run | None:
            current = await jobs.get_run(tx, run.id, for_update=True)
            if current is None or current.status is not JobStatus.RUNNING or current.wanted is not Wanted.RUN:
                return current
            return await jobs.update(tx, run.id, {JobStatus.RUNNING}, wanted=Wanted.MIGRATE, stop_at=stop_at)

        migrating = await self._db.write("migrate run", op)
        if migrating is None:
            raise not_found("Actor run")
        if migrating.status in TERMINAL_STATUSES:
            raise finished()
        self._signals.send(run_topic(run.id))
        return migrating

    async def migrate_all(self, window_secs: float) -> Sequence[str]:
        """Ask every live run to move away from this server within ``window_secs``; returns their ids."""
        stop_at = self._clock.now_ms() + round(window_secs * 1000)

        async def op(tx: Tx) -> Sequence[str]:
            return await self._migrate_all(tx, stop_at)

        ids = await self._db.write("migrate runs", op)
        for run_id in ids:
            self._signals.send(run_topic(run_id))
        return ids

    @staticmethod
    async def _migrate_all(tx: Tx, stop_at: int) -> Sequence[str]:
        ids = []
        for run in await jobs.list_live_runs(tx):
            if run.status is JobStatus.RUNNING and run.wanted is Wanted.RUN:
                await jobs.update(tx, run.id, {JobStatus.RUNNING}, wanted=Wanted.MIGRATE, stop_at=stop_at)
                ids.append(run.id)
        return ids

    async def drain(self) -> int:
        """Keep engines from starting processes, ask every live run to leave, and return how many still have one.

        To be called again until it returns 0: a run that was being started at the first call is asked by the next.
        """
        now = self._clock.now_ms()

        async def op(tx: Tx) -> int:
            await maintenance.set_draining(tx, now)
            await self._migrate_all(tx, now + round(self._window_secs * 1000))
            return sum(run.running_at is not None for run in await jobs.list_live_runs(tx))

        return await self._db.write("drain", op)

    async def end_drain(self) -> bool:
        """Let engines start processes again, and those that were taken away first; ``False`` when they did already."""
        return await self._db.write("end drain", maintenance.end_draining)
