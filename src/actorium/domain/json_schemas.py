"""JSON schemas of draft 7, and what breaks them in the words of the validator the platform uses (Ajv)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jsonschema_rs import Draft7Validator, FancyRegexOptions, ValidationError, ValidationErrorKind

Validator = Draft7Validator

_DRAFT_7 = "http://json-schema.org/draft-07/schema"
_LARGEST = 1.7976931348623157e308
_PATTERNS = FancyRegexOptions(backtrack_limit=100_000)
"""A pattern that tries more for one text does not match it: no pattern may hold the server up."""


def compile_schema(schema: Any) -> Validator:
    """A validator for ``schema``. Raises ``ValueError`` saying what is wrong with it and where.

    References lead nowhere but inside the schema: nothing is fetched.
    """
    declared = schema.get("$schema") if isinstance(schema, dict) else None
    if declared is not None and str(declared).rstrip("#") != _DRAFT_7:
        raise ValueError(f"$schema must be {_DRAFT_7}#, or left out, but is {declared!r}")
    try:
        return Draft7Validator(schema, validate_formats=True, retriever=_refuse, pattern_options=_PATTERNS)
    except ValidationError as error:
        where = _pointer(error.instance_path)
        raise ValueError(f"{error.message}{f', at {where}' if where else ''}") from error


def finite_float(text: str) -> float:
    """The number of a JSON text for comparing with bounds, kept finite."""
    return max(-_LARGEST, min(float(text), _LARGEST))


def _refuse(address: str) -> Any:
    raise ValueError(f"{address} is outside of the schema")


def violations(validator: Validator, value: Any) -> list[dict[str, Any]]:
    """Everything in ``value`` that breaks the schema, each as Ajv's error object."""
    return [found for error in validator.iter_errors(value) for found in _described(error)]


Found = tuple[list[str | int], list[str | int], dict[str, Any]]
"""The path to the value, the path to the keyword in the schema, and Ajv's error object."""


def first_violation(validator: Validator, value: Any) -> Found | None:
    """What breaks the schema first; the rest is not looked for, which is quick however much there is."""
    try:
        validator.validate(value)
    except ValidationError as error:
        return _found(error)
    return None


def found_violations(validator: Validator, value: Any) -> list[Found]:
    """Everything in a small ``value`` that breaks the schema."""
    return [_found(error) for error in validator.iter_errors(value)]


def _found(error: ValidationError) -> Found:
    return list(error.instance_path), list(error.schema_path), next(_described(error))


def _pointer(path: Sequence[str | int]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _described(error: ValidationError) -> Iterator[dict[str, Any]]:
    keyword = error.kind.name
    if keyword == "falseSchema" and error.schema_path[-1:] == ["additionalProperties"]:
        # A schema without any property: the library stops at the first one and does not name it.
        keyword = "additionalProperties"
    for params, message in _words(error, keyword):
        yield {
            "instancePath": _pointer(error.instance_path),
            "schemaPath": _pointer(error.schema_path),
            "keyword": keyword,
            "params": params,
            "message": message,
        }


_COMPARISONS = {
    "minimum": ">=",
    "maximum": "<=",
    "exclusiveMinimum": ">",
    "exclusiveMaximum": "<",
}
_SIZES = {
    "minLength": ("fewer", "characters"),
    "maxLength": ("more", "characters"),
    "minItems": ("fewer", "items"),
    "maxItems": ("more", "items"),
    "minProperties": ("fewer", "properties"),
    "maxProperties": ("more", "properties"),
}
_Words = tuple[dict[str, Any], str]


def _words(error: ValidationError, name: str) -> list[_Words]:
    kind = error.kind
    if name == "additionalProperties" and isinstance(kind, ValidationErrorKind.FalseSchema):
        return [({}, "must NOT have additional properties")]
    if name in _COMPARISONS and hasattr(kind, "limit"):
        comparison = _COMPARISONS[name]
        return [({"comparison": comparison, "limit": kind.limit}, f"must be {comparison} {_number(kind.limit)}")]
    if name in _SIZES and hasattr(kind, "limit"):
        amount, what = _SIZES[name]
        return [({"limit": kind.limit}, f"must NOT have {amount} than {kind.limit} {what}")]
    say = _SAYINGS.get(type(kind))
    return say(kind) if say is not None else [({}, error.message)]


def _number(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _type(kind: Any) -> list[_Words]:
    types = ",".join(kind.types)
    return [({"type": types if len(kind.types) == 1 else kind.types}, f"must be {types}")]


_SAYINGS: dict[type, Callable[[Any], list[_Words]]] = {
    ValidationErrorKind.AdditionalItems: lambda kind: [
        ({"limit": kind.limit}, f"must NOT have more than {kind.limit} items")
    ],
    ValidationErrorKind.AdditionalProperties: lambda kind: [
        ({"additionalProperty": name}, "must NOT have additional properties") for name in kind.unexpected
    ],
    ValidationErrorKind.AnyOf: lambda _: [({}, "must match a schema in anyOf")],
    ValidationErrorKind.Constant: lambda kind: [({"allowedValue": kind.expected_value}, "must be equal to constant")],
    ValidationErrorKind.Contains: lambda _: [({"minContains": 1}, "must contain at least 1 valid item(s)")],
    ValidationErrorKind.Enum: lambda kind: [
        ({"allowedValues": kind.options}, "must be equal to one of the allowed values")
    ],
    ValidationErrorKind.FalseSchema: lambda _: [({}, "boolean schema is false")],
    ValidationErrorKind.Format: lambda kind: [({"format": kind.format}, f'must match format "{kind.format}"')],
    ValidationErrorKind.MultipleOf: lambda kind: [
        ({"multipleOf": kind.multiple_of}, f"must be multiple of {_number(kind.multiple_of)}")
    ],
    ValidationErrorKind.Not: lambda _: [({}, "must NOT be valid")],
    ValidationErrorKind.OneOfMultipleValid: lambda _: [({}, "must match exactly one schema in oneOf")],
    ValidationErrorKind.OneOfNotValid: lambda _: [({}, "must match exactly one schema in oneOf")],
    ValidationErrorKind.Pattern: lambda kind: [({"pattern": kind.pattern}, f'must match pattern "{kind.pattern}"')],
    ValidationErrorKind.Required: lambda kind: [
        ({"missingProperty": kind.property}, f"must have required property '{kind.property}'")
    ],
    ValidationErrorKind.Type: _type,
    ValidationErrorKind.UniqueItems: lambda _: [({}, "must NOT have duplicate items")],
}
