"""Whether an input fits an input schema, in the words of the platform. docs: actors, section 5.5."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.input_schemas.field_checks import check_field
from actorium.domain.input_schemas.messages import object_at, sentence, types_of
from actorium.domain.input_secrets import is_encrypted_for
from actorium.domain.javascript_patterns import translate
from actorium.domain.json_schemas import Found, Validator, compile_schema, first_violation, found_violations
from actorium.domain.json_texts import MAX_DEPTH, is_too_deep

_MAX_RANKED_BYTES = 4096
_AJV_ORDER = (
    "type",
    "maximum",
    "minimum",
    "maxLength",
    "minLength",
    "pattern",
    "enum",
    "maxItems",
    "minItems",
    "items",
    "uniqueItems",
    "maxProperties",
    "minProperties",
    "required",
    "additionalProperties",
    "properties",
)
"""In which order Ajv looks at keywords: it tells what it finds first."""


class InputSchema(msgspec.Struct, frozen=True):
    """An input schema made ready for use. ``needed`` are the required fields without a default."""

    properties: dict[str, dict[str, Any]]
    required: tuple[str, ...]
    needed: tuple[str, ...]
    is_closed: bool
    validators: dict[str, Validator]

    @property
    def secret_fields(self) -> dict[str, dict[str, Any]]:
        """The fields whose values are kept secret."""
        return {name: field for name, field in self.properties.items() if field.get("isSecret")}


@lru_cache(maxsize=64)
def read_input_schema(schema_json: str) -> InputSchema:
    """The input schema of a build. Raises 400 ``invalid-input-schema``."""
    try:
        return _read(schema_json)
    except (ValueError, TypeError, RecursionError, msgspec.ValidationError) as error:
        raise ApiError(ErrorType.INVALID_INPUT_SCHEMA, f"Input schema is not valid: {str(error)[:500]}") from error


def has_secrets(schema_json: str | None) -> bool:
    """Whether a build's input schema has secret fields; one that is broken has none."""
    if schema_json is None:
        return False
    try:
        return bool(read_input_schema(schema_json).secret_fields)
    except ApiError:
        return False


class _Root(msgspec.Struct):
    properties: dict[str, dict[str, Any]]
    required: tuple[str, ...] = ()
    additionalProperties: bool = True  # noqa: N815  the name is the schema's


def _read(schema_json: str) -> InputSchema:
    if is_too_deep(schema_json.encode()):
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    root = msgspec.json.decode(schema_json, type=_Root)
    validators = {}
    for name, field in root.properties.items():
        schema = _readable(field)
        if field.get("type") == "array" and name in root.required:
            schema["minItems"] = max(1, schema.get("minItems", 1))
        try:
            validators[name] = compile_schema(schema)
        except ValueError as error:
            raise ValueError(f"field {name}: {error}") from error
    return InputSchema(
        properties=root.properties,
        required=root.required,
        needed=tuple(name for name in root.required if "default" not in root.properties.get(name, {})),
        is_closed=not root.additionalProperties,
        validators=validators,
    )


def _readable(schema: Any) -> Any:
    """``schema`` for the validator: with ``nullable`` as a type, and patterns that it understands."""
    if not isinstance(schema, dict):
        return schema
    readable = {key: value for key, value in schema.items() if key != "$schema"}
    if schema.get("nullable") is True and "type" in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        readable["type"] = [*types, *({"null"} - set(types))]
    if isinstance(schema.get("pattern"), str):
        readable["pattern"] = translate(schema["pattern"])
    for key in ("items", "additionalProperties"):
        if key in schema:
            readable[key] = _readable(schema[key])
    if isinstance(schema.get("properties"), dict):
        readable["properties"] = {name: _readable(sub) for name, sub in schema["properties"].items()}
    return readable


def check_input(schema: InputSchema, value: dict[str, Any]) -> None:
    """Refuse an input that does not fit. Raises 400 ``invalid-input``."""
    found = list(_problems(schema, value))
    if found:
        raise ApiError(ErrorType.INVALID_INPUT, f"Input is not valid: {', '.join(found)}")


def _problems(schema: InputSchema, value: dict[str, Any]) -> Iterator[str]:
    """What breaks the schema first, as Ajv stops there, and then everything that only the platform looks for."""
    first = next(_violations(schema, value), None)
    if first is not None:
        yield first
    for name, field in schema.properties.items():
        yield from check_field(name, field, value.get(name), is_required=name in schema.required)


def _violations(schema: InputSchema, value: dict[str, Any]) -> Iterator[str]:
    yield from (f"Field input.{name} is required" for name in schema.needed if name not in value)
    if schema.is_closed:
        yield from (f"Property input.{name} is not allowed." for name in value if name not in schema.properties)
    for name, field in schema.properties.items():
        if name not in value or (field.get("isSecret") and is_encrypted_for(value[name], field.get("type"))):
            continue
        found = first_violation(schema.validators[name], value[name])
        if found is not None and len(msgspec.json.encode(value[name])) <= _MAX_RANKED_BYTES:
            found = min(found_violations(schema.validators[name], value[name]), key=_ajv_rank)
        if found is not None:
            yield _words(field, name, value[name], found)


def _ajv_rank(found: Found) -> list[tuple[int, str]]:
    return [
        (_AJV_ORDER.index(str(part)) if part in _AJV_ORDER else 0, "" if part in _AJV_ORDER else str(part))
        for part in found[1]
    ]


def _words(field: dict[str, Any], name: str, value: Any, found: Found) -> str:
    path, schema_path, violation = found
    place = object_at(field, schema_path[:-1])
    keyword = str(schema_path[-1])
    own = place.get("errorMessage")
    if isinstance(own, dict) and isinstance(own.get(keyword), str):
        return str(own[keyword])
    # The validator knows the schema in its own spelling; people know the Actor's.
    if keyword == "additionalProperties" and not violation["params"]:
        # Where no property is allowed the validator names none.
        violation = {**violation, "params": {"additionalProperty": next(iter(object_at(value, path)), "")}}
    if keyword == "type":
        violation = {**violation, "message": f"must be {types_of(place)}"}
    elif keyword == "pattern" and "pattern" in place:
        violation = {**violation, "message": f'must match pattern "{place["pattern"]}"'}
    return sentence("input", [name, *path], violation)
