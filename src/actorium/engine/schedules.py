"""Fires schedules: each time once, whoever dies in between, however many servers share the database.

A schedule is moved on to its next time and its tick written down in one transaction, which only one server can win.
The tick stays until everything it starts is started and logged; one whose server died is done again, and starts nothing
twice, as the id of each run follows from the tick. After a time without a server an overdue schedule fires once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence

import structlog

from actorium.domain.cron import next_time
from actorium.domain.errors import ApiError
from actorium.domain.models import Meta, Origin, Run, User
from actorium.domain.schedules import RUN_ACTOR, Action, LogEntry, Schedule, Tick, input_of
from actorium.kit import Clock, Signals, Tasks, forever, new_id, wait_until
from actorium.services.access import Principal
from actorium.services.run_options import StartOptions, over_task
from actorium.services.run_starts import NotStartedError, RunStarts, Scheduled
from actorium.services.tasks import Tasks as ActorTasks
from actorium.services.topics import SCHEDULES_TOPIC
from actorium.storage import accounts, jobs, schedules
from actorium.storage.db import Database, Tx
from actorium.storage.schedules import Due

_log = structlog.get_logger("actorium.engine")
_POLL_MS = 1000
_RETRY_SECS = 1.0
_RETRY_MS = 5_000
_LEASE_MS = 120_000
_MAX_FIRED = 200
_MAX_UNDER_WAY = 64
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class Scheduler:
    """A Service: fires what is due and does what its actions say. ``server_name`` stays over restarts."""

    def __init__(
        self, db: Database, clock: Clock, signals: Signals, starts: RunStarts, tasks: ActorTasks, server_name: str
    ) -> None:
        self._db = db
        self._clock = clock
        self._signals = signals
        self._starts = starts
        self._actor_tasks = tasks
        self._server_name = server_name
        self._tasks = Tasks("schedules")
        self._under_way = 0

    async def start(self) -> None:
        """Take up what a server of this name left unfinished, then begin to fire."""
        if len(self._tasks):
            return
        await self._release()
        self._tasks.spawn("fire", forever("firing schedules", _RETRY_SECS, self._fire))

    async def stop(self) -> None:
        """Leave off; ticks under way are finished by whoever is next."""
        if len(self._tasks):
            await self._tasks.stop()
            self._under_way = 0
            await self._release()

    async def _release(self) -> None:
        async def op(tx: Tx) -> None:
            await schedules.release_ticks_of(tx, self._server_name)

        await self._db.write("release ticks", op)

    async def _fire(self) -> None:
        async with self._signals.listen(SCHEDULES_TOPIC) as wanted:
            while True:
                wanted.clear()
                has_more = await self._move_on()
                for tick, schedule in await self._claim(_MAX_UNDER_WAY - self._under_way):
                    self._under_way += 1
                    self._tasks.spawn(tick.id, self._handle(tick, schedule))
                if not has_more:
                    next_due = await self._db.read("next schedule", schedules.next_due)
                    poll_at = self._clock.now_ms() + _POLL_MS
                    await wait_until(self._clock, wanted, min(poll_at, next_due or poll_at))

    async def _move_on(self) -> bool:
        """Write down ticks of schedules that are due; whether there may be more."""
        now = self._clock.now_ms()

        async def look(tx: Tx) -> Sequence[Schedule]:
            return await schedules.list_due(tx, now, _MAX_FIRED)

        found = await self._db.read("due schedules", look)
        due = [Due(schedule, _time_after(schedule, now)) for schedule in found]

        async def op(tx: Tx) -> None:
            for one in due:
                await schedules.fire(tx, one, now, new_id())

        if due:
            await self._db.write("fire schedules", op)
        return len(found) == _MAX_FIRED

    async def _claim(self, limit: int) -> Sequence[tuple[Tick, Schedule]]:
        now = self._clock.now_ms()

        async def look(tx: Tx) -> bool:
            return await schedules.is_any_tick_free(tx, now)

        async def op(tx: Tx) -> Sequence[tuple[Tick, Schedule]]:
            return await schedules.claim_ticks(tx, self._server_name, now, now + _LEASE_MS, limit)

        if limit <= 0 or not await self._db.read("look for ticks", look):
            return []
        return await self._db.write("claim ticks", op)

    async def _handle(self, tick: Tick, schedule: Schedule) -> None:
        try:
            entries = await self._act(tick, schedule)

            async def op(tx: Tx) -> None:
                await schedules.finish_tick(tx, tick, entries)

            await self._db.write("finish tick", op)
        except Exception:  # noqa: BLE001  tried again; what is started already stays so
            _log.exception("a tick cannot be finished, trying again", schedule_id=schedule.id)
            await self._put_off(tick)
        finally:
            self._under_way -= 1
            self._signals.send(SCHEDULES_TOPIC)

    async def _put_off(self, tick: Tick) -> None:
        until = self._clock.now_ms() + _RETRY_MS

        async def op(tx: Tx) -> None:
            await schedules.release_tick(tx, tick.id, until)

        await self._db.write("put off tick", op)

    async def _act(self, tick: Tick, schedule: Schedule) -> list[LogEntry]:
        """Do every action on its own; what came of it, for the schedule's log."""
        entries: list[LogEntry] = []

        def note(level: str, message: str) -> None:
            entries.append(LogEntry(self._clock.now_ms(), level, message))

        async def find_owner(tx: Tx) -> User | None:
            return await accounts.get_user(tx, schedule.user_id)

        owner = await self._db.read("owner of schedule", find_owner)
        principal = Principal(schedule.user_id, owner.username if owner else "", "scheduler")
        for action in schedule.actions:
            what = f'{"Actor" if action.type == RUN_ACTOR else "Actor task"} "{action.target_id}"'
            try:
                await self._start(principal, schedule, action, tick)
            except NotStartedError as reason:
                if not reason.is_done_already:
                    note("WARNING", f"Skipping {what}, it must be exclusive but previous run is still running")
            except ApiError as error:
                note("ERROR", f"Cannot start {what}: {error.message}")
        note("INFO", "Schedule invoked manually" if tick.is_manual else "Schedule invoked")
        return entries

    async def _start(self, principal: Principal, schedule: Schedule, action: Action, tick: Tick) -> Run:
        is_actor = action.type == RUN_ACTOR
        meta = Meta(
            Origin.SCHEDULER.value,
            schedule_id=schedule.id,
            scheduled_at=tick.scheduled_at,
            scheduled_act2_id=action.id if is_actor else None,
            scheduled_actor_task_id=None if is_actor else action.id,
        )
        scheduled = Scheduled(_run_id(tick, action), self._guard(schedule, action, _run_id(tick, action)))
        given = input_of(action)
        if is_actor:
            asked = over_task(StartOptions(), action.run_options or {})
            return await self._starts.start(principal, action.target_id, asked, given, meta, scheduled=scheduled)
        return await self._actor_tasks.start(
            principal, action.target_id, StartOptions(), given, meta, scheduled=scheduled
        )

    @staticmethod
    def _guard(schedule: Schedule, action: Action, run_id: str) -> Callable[[Tx], Awaitable[None]]:
        async def guard(tx: Tx) -> None:
            # Ticks of one schedule take turns here, on whatever server they are.
            await schedules.get_schedule(tx, schedule.id, for_update=True)
            if await jobs.find_status(tx, run_id) is not None:
                raise NotStartedError(is_done_already=True)
            if schedule.is_exclusive and await jobs.is_action_running(tx, action.id):
                raise NotStartedError(is_done_already=False)

        return guard


def _time_after(schedule: Schedule, now: int) -> int | None:
    try:
        return next_time(schedule.cron_expression, schedule.timezone, now, schedule.next_run_at)
    except ApiError:
        return None


def _run_id(tick: Tick, action: Action) -> str:
    """The id of the run that an action of a tick starts: the same whenever it is tried."""
    number = int.from_bytes(hashlib.sha256(f"{tick.id}:{action.id}".encode()).digest())
    characters = []
    for _ in range(17):
        number, index = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[index])
    return "".join(characters)
