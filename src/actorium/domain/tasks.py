"""The rules for tasks: names, titles, inputs, and how a task's options and input join those of a call."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from actorium.domain.actors import MAX_NAME, MAX_TEXTS, check_length
from actorium.domain.errors import ApiError, ErrorType, refused
from actorium.domain.inputs import RunInput, is_json
from actorium.domain.json_texts import mend

MAX_TASKS = 5000
_MAX_TEXTS = {"title": MAX_TEXTS["title"], "description": MAX_TEXTS["description"]}


def free_name(actor_name: str, taken: Collection[str]) -> str:
    """``<actor>-task``, ``<actor>-task-1``, ...: the first that is not among ``taken`` (in lower case)."""
    number = 0
    while True:
        ending = "-task" if number == 0 else f"-task-{number}"
        name = actor_name[: MAX_NAME - len(ending)].rstrip("-") + ending
        if name.lower() not in taken:
            return name
        number += 1


def title_of(name: str) -> str:
    """``my-actor-task`` -> ``My Actor Task``."""
    return " ".join(word[:1].upper() + word[1:] for word in name.split("-") if word)


def check_texts(body: dict[str, Any]) -> dict[str, Any]:
    """The descriptive fields that ``body`` sets, checked."""
    fields = {}
    for key, most in _MAX_TEXTS.items():
        if key in body:
            if body[key] is not None and not isinstance(body[key], str):
                raise refused(f"Field {key} must be a string or null, got {body[key]!r:.80}.")
            fields[key] = check_length(key, body[key], most)
    if not isinstance(body.get("isPublic"), bool | None):
        raise refused(f"Field isPublic must be a boolean or null, got {body['isPublic']!r:.80}.")
    return fields


def check_input(value: object) -> dict[str, Any]:
    """A task's input: an object. Raises 403 as the platform does."""
    if not isinstance(value, dict):
        raise ApiError(
            ErrorType.INPUT_JSON_NOT_OBJECT, f'Actor task input must be object, got "{_kind(value)}" instead.'
        )
    return value


def joined_input(task_input: dict[str, Any] | None, body: RunInput | None) -> RunInput | None:
    """The input of a run of a task: the body's keys over the task's. Raises 403 for a body that is no JSON object."""
    if body is None or not body.data.strip():
        return None if task_input is None else as_run_input(task_input)
    if not is_json(body.content_type):
        raise ApiError(
            ErrorType.INPUT_JSON_NOT_OBJECT,
            f'Provided input must have content type "application/json", got {body.content_type[:80]!r} instead.',
        )
    try:
        value = msgspec.json.decode(mend(body.data))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(
            ErrorType.RUN_INPUT_BODY_NOT_VALID_JSON,
            f"The run input has content type application/json, but it is not valid JSON: {error}",
        ) from error
    except RecursionError as error:
        raise ApiError(ErrorType.INVALID_INPUT, "The run input is nested too deeply.") from error
    # The Python client sends "null" for no input.
    if value is None:
        return None if task_input is None else as_run_input(task_input)
    if not isinstance(value, dict):
        raise ApiError(ErrorType.INPUT_JSON_NOT_OBJECT, f'Provided input must be object, got "{_kind(value)}" instead.')
    return as_run_input({**(task_input or {}), **value})


def as_run_input(task_input: dict[str, Any]) -> RunInput:
    """A task's input as the body of a start call."""
    return RunInput(msgspec.json.encode(task_input), "application/json; charset=utf-8")


def prefilled(input_schema: str | None) -> dict[str, Any] | None:
    """The input of a new task that comes without one. docs: actors, section 5.3."""
    if input_schema is None:
        return None
    properties = msgspec.json.decode(input_schema).get("properties") or {}
    values: dict[str, Any] = {}
    for name, field in properties.items():
        if not isinstance(field, dict):
            continue
        key = "default" if field.get("type") == "boolean" or field.get("editor") == "hidden" else "prefill"
        if key in field:
            values[name] = field[key]
    return values


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {list: "array", str: "string", bool: "boolean"}.get(type(value), "number")
