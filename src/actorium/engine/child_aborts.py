"""Aborts what an aborted run has started, and what that has started, where ``abort_children_with_parent`` says so.

The abort itself only marks the run, in its own transaction; so the children are aborted even if the server dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from actorium.domain.models import Run, StopReason
from actorium.kit import Signals, Tasks, forever
from actorium.services.topics import CHILD_ABORTS_TOPIC
from actorium.storage import jobs
from actorium.storage.db import Database, Tx

_POLL_SECS = 1.0
_RETRY_SECS = 1.0


class RunAborts(Protocol):
    """The part of the run service this needs."""

    async def abort(self, run: Run, *, gracefully: bool) -> Run:
        """Ask for the end of a run; a finished one stays as it is."""
        ...


class ChildAborts:
    """A Service."""

    def __init__(self, db: Database, signals: Signals, runs: RunAborts) -> None:
        self._db = db
        self._signals = signals
        self._runs = runs
        self._tasks = Tasks("child-aborts")

    async def start(self) -> None:
        """Begin with what the last server left."""
        if not len(self._tasks):
            self._tasks.spawn("abort children", forever("aborting children", _RETRY_SECS, self._work))

    async def stop(self) -> None:
        """End; what is left is done by the next start."""
        await self._tasks.stop()

    async def _work(self) -> None:
        async with self._signals.listen(CHILD_ABORTS_TOPIC) as wanted:
            while True:
                for parent in await self._db.read("aborted parents", jobs.list_runs_with_children_to_abort):
                    await self._abort_below(parent)
                try:
                    async with asyncio.timeout(_POLL_SECS):
                        await wanted.wait()
                except TimeoutError:
                    pass
                wanted.clear()

    async def _abort_below(self, parent: Run) -> None:
        async def find(tx: Tx) -> Sequence[Run]:
            return await jobs.list_live_descendants(tx, parent.id)

        for run in await self._db.read("descendants of aborted run", find):
            await self._runs.abort(run, gracefully=parent.stop_reason is StopReason.GRACEFUL_ABORT)

        async def done(tx: Tx) -> None:
            await jobs.note_children_aborted(tx, parent)

        await self._db.write("children aborted", done)
