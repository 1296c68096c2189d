"""Payload and headers templates: JSON with ``{{variables}}``. docs: automation, section 4.3."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from actorium.domain.json_texts import is_too_deep, mend

VARIABLES = ("userId", "createdAt", "eventType", "eventData", "resource", "globals")
DEFAULT_PAYLOAD_TEMPLATE = """{
    "userId": {{userId}},
    "createdAt": {{createdAt}},
    "eventType": {{eventType}},
    "eventData": {{eventData}},
    "resource": {{resource}}
}"""

INVALID_VARIABLE = "Invalid variable enclosed in double curly braces. See the docs for valid variables."
INVALID_JSON = "Aside from variables enclosed in double curly braces, the template must be valid JSON."

_MAX_FILLED_IN = 16 * 1024 * 1024
"""Most characters of a payload: a variable may be in a template many times."""

_encode = msgspec.json.Encoder().encode
_TOKEN = re.compile(r'\\.|"|\{\{|\\', re.DOTALL)
_WHOLE = re.compile(r"\{\{([a-zA-Z0-9.]+)\}\}")
_CONTEXT_OF_A_CHECK: dict[str, Any] = {
    "userId": "user",
    "createdAt": "2026-01-01T00:00:00.000Z",
    "eventType": "TEST",
    "eventData": {},
    "resource": {},
    "globals": {"dateISO": "2026-01-01T00:00:00.000Z", "dateUnix": 1},
}


class TemplateError(ValueError):
    """A template that cannot be filled in; the message is for its author."""


def check_template(template: str, *, interpolate: bool, is_object: bool = False) -> None:
    """Fill in a template once to see whether it can be. Raises ``TemplateError``."""
    value = fill_in(template, _CONTEXT_OF_A_CHECK, interpolate=interpolate)
    if is_object and not isinstance(value, dict):
        raise TemplateError("The template must be a JSON object.")


def fill_in(template: str, context: Mapping[str, Any], *, interpolate: bool) -> Any:
    """The JSON value of a template; with ``interpolate`` variables within strings are filled in too.

    ``context`` has JSON values by variable. Raises ``TemplateError``.
    """
    text = _with_variables(template, context).encode(errors="replace")
    try:
        value = msgspec.json.decode(mend(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TemplateError(INVALID_JSON) from error
    if is_too_deep(text):
        raise TemplateError("The template is nested too deeply.")
    return _interpolated(value, context) if interpolate else value


def _with_variables(template: str, context: Mapping[str, Any]) -> str:
    """``template`` with each variable outside of JSON strings as JSON; one within a string stays as it is.

    The platform's own code tries to parse the text before each replacement, which comes to the same: a text with a
    variable outside of a string is no JSON.
    """
    pieces, position, in_string, length = [], 0, False, len(template)
    encoded: dict[str, str] = {}
    while (match := _TOKEN.search(template, position)) is not None:
        pieces.append(template[position : match.start()])
        token, position = match[0], match.end()
        end = template.find("}}", position) if token == "{{" and not in_string else -1  # noqa: S105  no password
        if end < 0:
            pieces.append(token)
            in_string ^= token == '"'  # noqa: S105  no password
            continue
        name, position = template[position:end], end + 2
        if name not in encoded:
            encoded[name] = _json_of(_value(name, context))
        pieces.append(encoded[name])
        length += len(encoded[name])
        if length > _MAX_FILLED_IN:
            raise TemplateError(f"The filled in template has more than {_MAX_FILLED_IN} characters.")
    return "".join([*pieces, template[position:]])


def _json_of(value: Any) -> str:
    # Also false, 0 and "" become null; an empty list or object does not.
    return "null" if value is None or value in (False, 0, "") else _encode(value).decode()


def _value(name: str, context: Mapping[str, Any]) -> Any:
    """The value of a dotted path, ``None`` where something on the way is missing."""
    variable, *members = name.split(".")
    if variable not in VARIABLES:
        raise TemplateError(INVALID_VARIABLE)
    value = context.get(variable)
    for member in members:
        if isinstance(value, dict):
            value = value.get(member)
        elif isinstance(value, list) and member.isascii() and member.isdigit() and len(member) < 10:
            value = value[int(member)] if int(member) < len(value) else None
        else:
            return None
    return value


def _interpolated(value: Any, context: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        whole = _WHOLE.fullmatch(value)
        if whole is not None:
            return _value(whole[1], context)
        return _WHOLE.sub(lambda match: _text_of(_value(match[1], context)), value)
    if isinstance(value, list):
        return [_interpolated(item, context) for item in value]
    if isinstance(value, dict):
        return {key: _interpolated(item, context) for key, item in value.items()}
    return value


def _text_of(value: Any) -> str:
    """A value within a text, as JavaScript writes it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "[object Object]"
    if isinstance(value, list):
        return ",".join("" if item is None else _text_of(item) for item in value)
    return _encode(int(value) if isinstance(value, float) and value.is_integer() else value).decode()
