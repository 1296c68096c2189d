"""Run input: what a build's input schema makes of the body of a start call."""

from __future__ import annotations

from typing import Any

import msgspec

from actorium.domain.errors import ApiError, ErrorType


class RunInput(msgspec.Struct, frozen=True):
    """A body and its content type, as stored in the record ``INPUT``."""

    data: bytes
    content_type: str


def is_json(content_type: str) -> bool:
    """Whether the media type is ``application/json``, parameters ignored."""
    return content_type.partition(";")[0].strip().lower() == "application/json"


def complete_input(schema_json: str | None, body: RunInput | None) -> RunInput | None:
    """The input to store: as it came, or with the schema's defaults put in. ``None`` = no record.

    Raises 400 ``run-input-body-not-valid-json`` or ``invalid-input``. docs: runs, section 4.2.
    """
    if schema_json is None:
        return _unchecked(body)
    value = _object(body)
    properties = msgspec.json.decode(schema_json).get("properties") or {}
    completed = apply_defaults(properties, value)
    if completed == value and body is not None and body.data.strip() not in (b"", b"null"):
        return body
    return RunInput(msgspec.json.encode(completed), "application/json; charset=utf-8")


def _unchecked(body: RunInput | None) -> RunInput | None:
    if body is None or not is_json(body.content_type):
        return body
    text = body.data.strip()
    # The Python client sends "null" for no input.
    if text in (b"", b"null"):
        return None
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(
            ErrorType.RUN_INPUT_BODY_NOT_VALID_JSON,
            f"The run input has content type application/json, but it is not valid JSON: {error}",
        ) from error
    return body


def _object(body: RunInput | None) -> dict[str, Any]:
    if body is None or not body.data.strip():
        return {}
    if not is_json(body.content_type):
        raise ApiError(ErrorType.INVALID_INPUT, 'Actor input must have content type "application/json".')
    try:
        value = msgspec.json.decode(body.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(ErrorType.INVALID_INPUT, f"Cannot parse input JSON body: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        kind = {list: "array", str: "string", bool: "boolean"}.get(type(value), "number")
        raise ApiError(ErrorType.INVALID_INPUT, f'The input JSON must be object, got "{kind}" instead.')
    return value


def apply_defaults(properties: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """``value`` with the defaults of absent fields; ``null`` counts as a value. docs: actors, section 5.3."""
    completed = dict(value)
    for name, field in properties.items():
        if not isinstance(field, dict):
            continue
        if name not in value:
            default = _default(field)
            if default is not _NONE:
                completed[name] = default
        elif isinstance(value[name], list):
            completed[name] = _complete_items(field, value[name])
    return completed


_NONE = object()


def _default(field: dict[str, Any]) -> Any:
    inner = field.get("properties")
    if field.get("type") == "object" and isinstance(inner, dict):
        merged = {name: default for name, sub in inner.items() if (default := _default(sub)) is not _NONE}
        own = field.get("default")
        merged.update(own if isinstance(own, dict) else {})
        return merged or (own if "default" in field else _NONE)
    return field.get("default", _NONE)


def _complete_items(field: dict[str, Any], items: list[Any]) -> list[Any]:
    schema = field.get("items")
    inner = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(inner, dict):
        return items
    return [apply_defaults(inner, item) if isinstance(item, dict) else item for item in items]
