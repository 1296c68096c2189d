"""Which runs are supervised: picks up READY ones as capacity allows, attaches to live ones after a restart."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from actorium.domain.models import Attempt, JobStatus, Run
from actorium.domain.pricing import MIN_MEMORY_MBYTES
from actorium.domain.queueing import Use, startable
from actorium.engine.attempt import LiveRun
from actorium.engine.clock_steps import ClockSteps
from actorium.engine.parts import Parts
from actorium.kit import Tasks, forever
from actorium.runtimes import Handle
from actorium.services.topics import RUNS_TOPIC
from actorium.storage import jobs, maintenance, run_queue, user_limits
from actorium.storage.db import Tx

_log = structlog.get_logger("actorium.engine")
_POLL_SECS = 1.0
_RETRY_SECS = 1.0
_BATCH = 100
_REAP_SECS = 600.0


class Supervisor:
    """A Service: one ``LiveRun`` for each run that has a process or may have one."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tasks = Tasks("engine")
        self._live: dict[str, LiveRun] = {}
        self._is_stopping = False
        self._is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._clock_steps = ClockSteps(parts.db, parts.clock, lambda: list(self._live.values()))

    async def start(self) -> None:
        """Attach to everything that was live when the last server ended, then begin to pick up runs."""
        if len(self._tasks):
            return
        self._is_stopping = False
        self._is_draining = await self._parts.db.read("is draining", maintenance.is_draining)
        for run in await self._parts.db.read("list live runs", jobs.list_live_runs):
            self._supervise(run)
        self._tasks.spawn("pick up runs", forever("picking up runs", _RETRY_SECS, self._pick_up))
        self._tasks.spawn("notice requests", forever("noticing requests", _RETRY_SECS, self._notice_requests))
        self._tasks.spawn("clean up attempts", forever("cleaning up attempts", _RETRY_SECS, self._clean_up))
        self._tasks.spawn("clock steps", forever("watching the clock", _RETRY_SECS, self._clock_steps.watch))
        self._tasks.spawn("reap orphans", forever("reaping orphans", _RETRY_SECS, self._reap))

    async def stop(self) -> None:
        """Let go of every run without touching its process."""
        await self._tasks.stop()
        self._live.clear()

    async def drain(self) -> None:
        """Start nothing more and wait until no run has a process here. The runs must have been asked to leave."""
        self._is_stopping = True
        self._tell_whether_to_launch()
        await self._idle.wait()

    @property
    def _launching(self) -> bool:
        return not self._is_stopping and not self._is_draining

    def _tell_whether_to_launch(self) -> None:
        for live in self._live.values():
            live.allow_launching(allowed=self._launching)

    @property
    def live_count(self) -> int:
        """How many runs are supervised now."""
        return len(self._live)

    async def _pick_up(self) -> None:
        async with self._parts.signals.listen(RUNS_TOPIC) as wanted:
            while True:
                if self._launching:
                    await self._pick_up_ready()
                try:
                    async with asyncio.timeout(_POLL_SECS):
                        await wanted.wait()
                except TimeoutError:
                    pass
                wanted.clear()

    async def _pick_up_ready(self) -> None:
        while runs := await self._next_runs():
            for run in runs:
                self._supervise(run)

    async def _next_runs(self) -> list[Run]:
        """The waiting runs that fit now, at most ``_BATCH`` of each user."""
        settings = self._parts.settings
        capacity = settings.capacity
        in_use: dict[str, Use] = {}
        for live in self._live.values():
            in_use[live.user_id] = in_use.get(live.user_id, Use()).plus(live.memory_mbytes)
        free_places = capacity.machine.run_count - len(self._live)
        free_mbytes = capacity.machine.memory_mbytes - sum(use.memory_mbytes for use in in_use.values())
        if free_places <= 0 or free_mbytes < MIN_MEMORY_MBYTES:
            return []
        now, live_ids = self._parts.clock.now_ms(), frozenset(self._live)

        async def op(tx: Tx) -> list[Run]:
            queues, own = {}, await user_limits.list_all(tx)
            for user_id in await run_queue.list_waiting_users(tx):
                # Runs of this user that are being started stand at the front as long as they are READY.
                most = min(free_places, _BATCH) + in_use.get(user_id, Use()).run_count
                found = await run_queue.list_waiting(tx, user_id, most)
                queues[user_id] = [run for run in found if run.id not in live_ids]
            limits = {user_id: capacity.of_user(own.get(user_id)) for user_id in queues}
            overtaking_ms = round(settings.queue_overtaking_secs * 1000)
            chosen = startable(queues, in_use, limits, capacity.machine, now=now, overtaking_ms=overtaking_ms)
            return await jobs.list_runs_by_ids(tx, [run.id for run in chosen])

        return [run for run in await self._parts.db.read("next runs", op) if run.id not in self._live]

    async def _notice_requests(self) -> None:
        """Find what was asked for without a signal: by the command line, by another server, before a crash."""
        while True:
            await self._parts.clock.sleep(_POLL_SECS)

            async def op(tx: Tx) -> tuple[bool, list[Run]]:
                return await maintenance.is_draining(tx), await jobs.list_asked_runs(tx)

            is_draining, asked = await self._parts.db.read("requests", op)
            if is_draining is not self._is_draining:
                self._is_draining = is_draining
                self._tell_whether_to_launch()
                if not is_draining:
                    asked = await self._parts.db.read("list live runs", jobs.list_live_runs)
            for run in asked:
                live = self._live.get(run.id)
                if live is not None:
                    live.notice(run)
                # A run that was taken off the server is looked after again to be ended, or to go on.
                elif run.status is not JobStatus.RUNNING or self._launching:
                    self._supervise(run)

    def _supervise(self, run: Run) -> None:
        live = LiveRun(self._parts, run)
        live.allow_launching(allowed=self._launching)
        self._live[run.id] = live
        self._idle.clear()
        self._tasks.spawn(run.id, self._keep(run.id, live))

    async def _keep(self, run_id: str, live: LiveRun) -> None:
        """Supervise a run; a failure is logged and it is taken up anew from what the database says."""
        while True:
            try:
                await live.supervise()
                break
            except asyncio.CancelledError:
                raise
            except ConnectionError as error:
                _log.warning("supervision is interrupted, trying again", run_id=run_id, reason=str(error))
            except Exception:  # noqa: BLE001  logged and tried again
                _log.exception("supervision failed, trying again", run_id=run_id)
            await self._parts.clock.sleep(_RETRY_SECS)
            run = await self._reread(run_id)
            if run is None:
                break
            live = self._live[run_id] = LiveRun(self._parts, run)
            live.allow_launching(allowed=self._launching)
        self._live.pop(run_id, None)
        if not self._live:
            self._idle.set()
        self._parts.signals.send(RUNS_TOPIC)

    async def _reread(self, run_id: str) -> Run | None:
        async def op(tx: Tx) -> Run | None:
            return await jobs.get_run(tx, run_id)

        while True:
            try:
                return await self._parts.db.read("reread run", op)
            except Exception:  # noqa: BLE001  the database may be away for a while
                _log.exception("cannot read run, trying again", run_id=run_id)
                await self._parts.clock.sleep(_RETRY_SECS)

    async def _reap(self) -> None:
        while True:
            await self._reap_orphans()
            await self._parts.clock.sleep(_REAP_SECS)

    async def _reap_orphans(self) -> None:
        """End attempts the database does not know: a crash came between their start and their commit."""
        handles = await self._parts.runtime.list_managed()

        async def op(tx: Tx) -> set[str]:
            return await jobs.known_attempt_ids(tx, [handle.attempt_id for handle in handles])

        known = await self._parts.db.read("known attempts", op)
        for handle in handles:
            if handle.attempt_id not in known:
                _log.warning("ending an attempt nobody knows", run_id=handle.run_id, attempt_id=handle.attempt_id)
                await self._parts.runtime.stop(handle, 0)
                await self._parts.runtime.remove(handle)

    async def _clean_up(self) -> None:
        """Delete what ended attempts left on disk."""
        while True:
            for attempt in await self._parts.db.read("ended attempts", jobs.list_unremoved_attempts):
                try:
                    await self._remove(attempt)
                except ConnectionError as error:
                    _log.warning("cannot clean up, trying again", attempt_id=attempt.id, reason=str(error))
            await self._parts.clock.sleep(_POLL_SECS)

    async def _remove(self, attempt: Attempt) -> None:
        if attempt.handle is not None:
            await self._parts.runtime.remove(msgspec.convert(attempt.handle, Handle))

        async def op(tx: Tx) -> None:
            await jobs.mark_attempt_removed(tx, attempt.id)

        await self._parts.db.write("attempt removed", op)
