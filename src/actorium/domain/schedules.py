"""Schedules, their actions, and what callers may say of them. docs: automation, section 3."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from actorium.domain.actors import check_name, merge_task_options
from actorium.domain.cron import check_expression, is_timezone
from actorium.domain.errors import ApiError, ErrorType, refused
from actorium.domain.inputs import RunInput
from actorium.domain.json_texts import mend
from actorium.kit import new_id

MAX_SCHEDULES = 100
MAX_TARGETS = 10
"""Most actions of one kind in a schedule. docs: platform limits."""
MAX_LOG_ENTRIES = 1000
RUN_ACTOR, RUN_ACTOR_TASK = "RUN_ACTOR", "RUN_ACTOR_TASK"
DEFAULT_NAME = "my-schedule"
_DEFAULT_TITLE = "My Schedule"
_LONGEST = {"title": 200, "description": 5000}
_DEFAULT_CONTENT_TYPE = "application/json; charset=utf-8"


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """What a schedule does: run ``target_id``, an Actor or task. Input and options are those of the API."""

    id: str
    type: str
    target_id: str
    run_input: dict[str, str] | None = None
    run_options: dict[str, Any] | None = None
    input: dict[str, Any] | None = None


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule. ``next_run_at`` is ``None`` while it is disabled."""

    id: str
    user_id: str
    name: str
    title: str | None
    description: str | None
    cron_expression: str
    timezone: str
    is_enabled: bool
    is_exclusive: bool
    notify_email: bool
    actions: tuple[Action, ...]
    created_at: int
    modified_at: int
    next_run_at: int | None = None
    last_run_at: int | None = None


class Tick(msgspec.Struct, frozen=True):
    """One firing of a schedule that is not done with yet; ``is_manual`` was asked for with ``invoke``."""

    id: str
    schedule_id: str
    scheduled_at: int
    is_manual: bool


class LogEntry(msgspec.Struct, frozen=True):
    """A line of a schedule's log; ``level`` is INFO, WARNING or ERROR."""

    created_at: int
    level: str
    message: str


def new_schedule(user_id: str, now: int) -> Schedule:
    """A schedule as it is when its owner says nothing; the name may be taken."""
    return Schedule(
        id=new_id(),
        user_id=user_id,
        name=DEFAULT_NAME,
        title=_DEFAULT_TITLE,
        description=None,
        cron_expression="@daily",
        timezone="UTC",
        is_enabled=False,
        is_exclusive=True,
        notify_email=True,
        actions=(),
        created_at=now,
        modified_at=now,
    )


def free_name(taken: Collection[str]) -> str:
    """``my-schedule``, ``my-schedule-1``, ...: the first that is not among ``taken`` (in lower case)."""
    number, name = 0, DEFAULT_NAME
    while name in taken:
        number += 1
        name = f"{DEFAULT_NAME}-{number}"
    return name


def changed(schedule: Schedule, body: dict[str, Any]) -> Schedule:
    """``schedule`` with what ``body`` names, its actions left as they are. Raises 400."""
    changes: dict[str, Any] = {}
    if body.get("name") is not None:
        if not isinstance(body["name"], str):
            raise refused("Field name must be a string.")
        changes["name"] = check_name(body["name"])
    for name, longest in _LONGEST.items():
        if name in body:
            changes[name] = _text(name, body[name], longest)
    if body.get("cronExpression") is not None:
        if not isinstance(body["cronExpression"], str):
            raise refused("Field cronExpression must be a string.")
        check_expression(body["cronExpression"])
        changes["cron_expression"] = body["cronExpression"]
    if body.get("timezone") is not None:
        if not isinstance(body["timezone"], str) or not is_timezone(body["timezone"]):
            raise refused(
                f"Field timezone has an invalid value {body['timezone']!r:.80}: timezone is not an allowed value. "
                "It must be an IANA time zone such as Europe/Prague."
            )
        changes["timezone"] = body["timezone"]
    for name, field in (("isEnabled", "is_enabled"), ("isExclusive", "is_exclusive")):
        if body.get(name) is not None:
            changes[field] = _flag(name, body[name])
    notifications = body.get("notifications")
    if notifications is not None:
        if not isinstance(notifications, dict):
            raise refused("Field notifications must be an object.")
        if notifications.get("email") is not None:
            changes["notify_email"] = _flag("notifications.email", notifications["email"])
    return msgspec.structs.replace(schedule, **changes)


def actions_of(value: object, current: tuple[Action, ...]) -> tuple[Action, ...]:
    """The actions of a body; one with the id of a ``current`` one keeps it. Targets are as given. Raises 400, 403."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise refused("Field actions must be an array of objects.")
    known, actions = {action.id for action in current}, []
    for item in value:
        action = _action(item, item["id"] if item.get("id") in known else new_id())
        known.discard(action.id)
        actions.append(action)
    for kind, words in ((RUN_ACTOR, "Actors"), (RUN_ACTOR_TASK, "Actor tasks")):
        if sum(action.type == kind for action in actions) > MAX_TARGETS:
            raise ApiError(ErrorType.TOO_MANY_VALUES, f"Schedule can have at most {MAX_TARGETS} {words}.")
    return tuple(actions)


def _action(item: dict[str, Any], action_id: str) -> Action:
    kind = item.get("type")
    if kind == RUN_ACTOR:
        options = item.get("runOptions")
        return Action(
            id=action_id,
            type=RUN_ACTOR,
            target_id=_target("actorId", item.get("actorId")),
            run_input=_run_input(item.get("runInput")),
            run_options=None if options is None else merge_task_options({}, options),
        )
    if kind == RUN_ACTOR_TASK:
        return Action(
            id=action_id,
            type=RUN_ACTOR_TASK,
            target_id=_target("actorTaskId", item.get("actorTaskId")),
            input=_task_input(item.get("input")),
        )
    raise refused(f"Field actions.type has an invalid value {kind!r:.80}: it must be {RUN_ACTOR} or {RUN_ACTOR_TASK}.")


def _target(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise refused(f"Field actions.{name} is required and must be a string.")
    return value


def _run_input(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise refused("Field actions.runInput must be an object with body and contentType.")
    body, content_type = value.get("body"), value.get("contentType")
    if body is None:
        return None
    if not isinstance(body, str):
        raise refused("Field actions.runInput.body must be a string.")
    if content_type is not None and not isinstance(content_type, str):
        raise refused("Field actions.runInput.contentType must be a string.")
    return {"body": body, "contentType": content_type or _DEFAULT_CONTENT_TYPE}


def _task_input(value: object) -> dict[str, Any] | None:
    """An object, or a text that holds one: the typings of the JavaScript client say so."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(mend(value.encode()))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise refused("Field actions.input must be an object, or a string that holds a JSON object.") from error
    if value is not None and not isinstance(value, dict):
        raise refused("Field actions.input must be an object, or a string that holds a JSON object.")
    return value


def _text(name: str, value: object, longest: int) -> str | None:
    if value is not None and not isinstance(value, str):
        raise refused(f"Field {name} must be a string or null.")
    if value is not None and len(value) > longest:
        raise refused(f"Field {name} has {len(value)} characters: it must have at most {longest}.")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise refused(f"Field {name} must be a boolean.")
    return value


def input_of(action: Action) -> RunInput | None:
    """What a run of an action gets as its input."""
    if action.run_input is not None:
        return RunInput(action.run_input["body"].encode(), action.run_input["contentType"])
    if action.input is not None:
        return RunInput(msgspec.json.encode(action.input), _DEFAULT_CONTENT_TYPE)
    return None
