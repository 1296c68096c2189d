"""Schedules: create, read, list, change, delete, invoke, log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from actorium.domain.cron import next_time
from actorium.domain.errors import ApiError, ErrorType, invalid, not_found
from actorium.domain.models import Actor, Task
from actorium.domain.schedules import (
    MAX_SCHEDULES,
    RUN_ACTOR,
    Action,
    LogEntry,
    Schedule,
    Tick,
    actions_of,
    changed,
    free_name,
    new_schedule,
)
from actorium.kit import Clock, Signals, new_id
from actorium.services.access import Principal
from actorium.services.topics import SCHEDULES_TOPIC
from actorium.storage import accounts, schedules
from actorium.storage.db import Database, Tx, UniqueViolationError


class ActorLookup(Protocol):
    """The part of the Actors service schedules need."""

    async def resolve(self, principal: Principal | None, reference: str) -> Actor:
        """The Actor a reference means. Raises 404."""
        ...


class TaskLookup(Protocol):
    """The part of the task service schedules need."""

    async def resolve(self, principal: Principal, reference: str) -> Task:
        """The caller's task a reference means. Raises 404."""
        ...


class Schedules:
    """The schedule service."""

    def __init__(self, db: Database, clock: Clock, signals: Signals, actors: ActorLookup, tasks: TaskLookup) -> None:
        self._db = db
        self._clock = clock
        self._signals = signals
        self._actors = actors
        self._tasks = tasks

    async def resolve(self, principal: Principal, reference: str) -> Schedule:
        """The caller's schedule that an id, ``user~name``, ``~name`` or bare name means. Raises 404."""
        separator = "/" if "/" in reference else "~"
        owner, found, name = reference.partition(separator)
        if found and not name:
            raise invalid("Resource name parameter cannot be empty")

        async def op(tx: Tx) -> Schedule | None:
            if found:
                return await schedules.find_schedule(tx, owner or principal.user_id, name)
            by_id = await schedules.get_schedule(tx, reference)
            return by_id or await schedules.find_schedule(tx, principal.user_id, reference)

        return _own(principal, await self._db.read("resolve schedule", op))

    async def list(
        self, principal: Principal, *, offset: int, limit: int, desc: bool
    ) -> tuple[Sequence[Schedule], int]:
        """A page of the caller's schedules by their creation, and their total number."""

        async def op(tx: Tx) -> tuple[Sequence[Schedule], int]:
            return await schedules.list_schedules(tx, principal.user_id, offset=offset, limit=limit, desc=desc)

        return await self._db.read("list schedules", op)

    async def create(self, principal: Principal, body: dict[str, Any]) -> Schedule:
        """A new schedule. openapi: schedules_post."""
        now = self._clock.now_ms()
        made = changed(new_schedule(principal.user_id, now), body)
        if body.get("actions") is not None:
            made = await self._with_actions(principal, made, body["actions"])
        made = msgspec.structs.replace(made, next_run_at=_next_run_at(made, now))

        async def op(tx: Tx) -> Schedule:
            await accounts.lock_user(tx, principal.user_id)
            taken = await schedules.taken_names(tx, principal.user_id)
            if len(taken) >= MAX_SCHEDULES:
                raise ApiError(ErrorType.TOO_MANY_SCHEDULES, f"You cannot have more than {MAX_SCHEDULES} schedules.")
            schedule = made
            if body.get("name") is None:
                schedule = msgspec.structs.replace(made, name=free_name(taken))
            elif made.name.lower() in taken:
                raise _name_taken(made.name)
            await schedules.insert_schedule(tx, schedule)
            return schedule

        schedule = await self._db.write("create schedule", op)
        self._signals.send(SCHEDULES_TOPIC)
        return schedule

    async def update(self, principal: Principal, schedule_id: str, body: dict[str, Any]) -> Schedule:
        """Change what the body names; ``actions`` as a whole. openapi: schedule_put."""
        now = self._clock.now_ms()
        given = await self._with_actions(principal, await self.resolve(principal, schedule_id), body.get("actions"))

        async def op(tx: Tx) -> Schedule:
            current = _own(principal, await schedules.get_schedule(tx, given.id, for_update=True))
            after = changed(current, body)
            if body.get("actions") is not None:
                after = msgspec.structs.replace(after, actions=given.actions)
            due_at = current.next_run_at
            if (after.cron_expression, after.timezone, after.is_enabled) != (
                current.cron_expression,
                current.timezone,
                current.is_enabled,
            ):
                due_at = _next_run_at(after, now)
            after = msgspec.structs.replace(after, modified_at=now, next_run_at=due_at)
            await schedules.update_schedule(tx, after)
            return after

        try:
            schedule = await self._db.write("update schedule", op)
        except UniqueViolationError as error:
            raise _name_taken(str(body.get("name"))) from error
        self._signals.send(SCHEDULES_TOPIC)
        return schedule

    async def delete(self, principal: Principal, schedule_id: str) -> None:
        """Delete a schedule with its log; its runs stay."""
        schedule = await self.resolve(principal, schedule_id)

        async def op(tx: Tx) -> Schedule:
            if not await schedules.delete_schedule(tx, schedule.id):
                raise not_found("Schedule")
            return schedule

        await self._db.write("delete schedule", op)

    async def invoke(self, principal: Principal, schedule_id: str) -> None:
        """Do what a schedule does now, also of a disabled one; its times stay as they are."""
        schedule = await self.resolve(principal, schedule_id)
        tick = Tick(new_id(), schedule.id, self._clock.now_ms(), is_manual=True)

        async def op(tx: Tx) -> Schedule:
            await schedules.insert_tick(tx, tick)
            return schedule

        await self._db.write("invoke schedule", op)
        self._signals.send(SCHEDULES_TOPIC)

    async def log(self, principal: Principal, schedule_id: str) -> Sequence[LogEntry]:
        """The newest entries of a schedule's log, oldest first."""
        schedule = await self.resolve(principal, schedule_id)

        async def op(tx: Tx) -> Sequence[LogEntry]:
            return await schedules.list_log(tx, schedule.id)

        return await self._db.read("log of schedule", op)

    async def _with_actions(self, principal: Principal, schedule: Schedule, given: object) -> Schedule:
        """The schedule with the actions of a body, if any, whose Actors and tasks are there."""
        if given is None:
            return schedule
        actions = [await self._found(principal, action) for action in actions_of(given, schedule.actions)]
        return msgspec.structs.replace(schedule, actions=tuple(actions))

    async def _found(self, principal: Principal, action: Action) -> Action:
        is_actor = action.type == RUN_ACTOR
        try:
            found: Actor | Task
            if is_actor:
                found = await self._actors.resolve(principal, action.target_id)
            else:
                found = await self._tasks.resolve(principal, action.target_id)
        except ApiError as error:
            if error.type is not ErrorType.RECORD_NOT_FOUND:
                raise
            missing = ErrorType.SCHEDULE_ACTOR_NOT_FOUND if is_actor else ErrorType.SCHEDULE_ACTOR_TASK_NOT_FOUND
            kind = "Actor" if is_actor else "Actor task"
            raise ApiError(missing, f'{kind} with ID "{action.target_id[:80]}" not found') from error
        return msgspec.structs.replace(action, target_id=found.id)


def _own(principal: Principal, schedule: Schedule | None) -> Schedule:
    if schedule is None or not principal.owns(schedule.user_id):
        raise not_found("Schedule")
    return schedule


def _next_run_at(schedule: Schedule, now: int) -> int | None:
    return next_time(schedule.cron_expression, schedule.timezone, now) if schedule.is_enabled else None


def _name_taken(name: str) -> ApiError:
    return ApiError(ErrorType.SCHEDULE_NAME_NOT_UNIQUE, f"Schedule name {name!r} is already used by another schedule.")
