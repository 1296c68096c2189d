"""What is said of an input or an input schema that is not right: the platform's sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

_MAX_LISTED = 100


def sentence(root: str, path: Sequence[str | int], violation: dict[str, Any]) -> str:
    """One of Ajv's errors as the platform words it. ``root`` is ``input`` or the place in the schema."""
    keyword, params = violation["keyword"], violation["params"]
    if keyword == "required":
        return f"Field {_place(root, [*path, params['missingProperty']])} is required"
    if keyword == "additionalProperties":
        return f"Property {_place(root, [*path, params['additionalProperty']])} is not allowed."
    message = violation["message"]
    if keyword == "enum":
        message += ": " + ", ".join(f'"{_text(value)}"' for value in params["allowedValues"])
    return f"Field {_place(root, path)} {message}"


def object_at(value: Any, path: Sequence[str | int]) -> dict[str, Any]:
    """The object at a path of the validator's, which leaves out empty names: then there may be nothing."""
    try:
        for part in path:
            value = value[part]
    except (LookupError, TypeError):
        return {}
    return value if isinstance(value, dict) else {}


def types_of(schema: dict[str, Any]) -> str:
    """The types that a schema allows, as they are written there."""
    types = schema.get("type", "of another type")
    return ",".join(types) if isinstance(types, list) else str(types)


def listed(values: Sequence[object]) -> str:
    """Positions or keys, not more than anybody reads."""
    shown = [str(value) for value in values[:_MAX_LISTED]]
    return ",".join([*shown, "..."] if len(values) > _MAX_LISTED else shown)


def kind_of(value: object) -> str:
    """The JSON type of a value, in the words of the messages."""
    for kind, name in ((bool, "boolean"), (str, "string"), (list, "array"), (dict, "object"), (int | float, "number")):
        if isinstance(value, kind):
            return name
    return "null"


def _place(root: str, path: Sequence[str | int]) -> str:
    return ".".join([root, *(str(part) for part in path)])


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
