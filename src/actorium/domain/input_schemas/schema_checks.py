"""Whether an input schema is one: the check a build makes. Its first fault fails the build. docs: input_schema."""

from __future__ import annotations

from typing import Any

from actorium.domain.input_schemas.fields import closed, definition_of, kind_of_field, one_of
from actorium.domain.input_schemas.messages import object_at, sentence, types_of
from actorium.domain.javascript_patterns import compile_pattern
from actorium.domain.json_schemas import Found, compile_schema, found_violations

_TEXT = {"type": "string"}
_ROOT = closed(
    {
        "$schema": _TEXT,
        "title": _TEXT,
        "schemaVersion": {"type": "integer", "minimum": 1, "maximum": 1},
        "description": _TEXT,
        "type": one_of("object"),
        "required": {"type": "array", "items": _TEXT, "uniqueItems": True},
        "additionalProperties": {"type": "boolean"},
        "properties": {"type": "object"},
    },
    ["title", "type", "properties", "schemaVersion"],
)
_ORDER = ("required", "properties", "additionalProperties")
_RETIRED = ("patternKey", "patternValue")


class InputSchemaError(ValueError):
    """What is wrong with an input schema, in the platform's words."""


def check_input_schema(schema: dict[str, Any]) -> list[str]:
    """Refuse what is not an input schema. Returns warnings. Raises ``InputSchemaError`` with the first fault."""
    _check(_ROOT, schema, "schema")
    checker = _FieldChecker()
    for name, field in schema["properties"].items():
        checker.check(field, name, is_sub=False)
    for name in schema.get("required", []):
        if name not in schema["properties"]:
            raise InputSchemaError(
                f"Field schema.properties.{name} does not exist, but it is specified in schema.required. "
                "Either define the field or remove it from schema.required."
            )
    return checker.warnings


class _FieldChecker:
    """Walks through the fields, each after its sub-fields."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def check(self, field: Any, path: str, *, is_sub: bool) -> None:
        kind = kind_of_field(field, is_sub=is_sub) if isinstance(field, dict) else None
        if kind is None:
            raise _broken(
                f"Field schema.properties.{path} is not matching any input schema type definition. "
                "Please make sure that it's type is valid."
            )
        if kind.type == "object" and field.get("editor") != "proxy":
            self._check_properties(field, path)
        elif kind.type == "array":
            self._check_items(field, path)
        _check(definition_of(field, kind, is_sub=is_sub), field, f"schema.properties.{path}")
        for keyword in ("pattern", *_RETIRED):
            if keyword in field:
                _check_pattern(field[keyword], f"{path}.{keyword}")
        self.warnings += [
            f"Property schema.properties.{path}.{keyword} of the input schema is deprecated: use pattern in the "
            "field's items or properties instead."
            for keyword in _RETIRED
            if keyword in field
        ]

    def _check_properties(self, field: dict[str, Any], path: str) -> None:
        properties = field.get("properties")
        for name, sub in properties.items() if isinstance(properties, dict) else ():
            self.check(sub, f"{path}.{name}", is_sub=True)

    def _check_items(self, field: dict[str, Any], path: str) -> None:
        items = field.get("items")
        if not isinstance(items, dict):
            return
        if items.get("type") == "array":
            self._check_items(items, f"{path}.items")
        elif items.get("type") == "object" and field.get("editor") in (None, "json", "schemaBased", "hidden"):
            self._check_properties(items, f"{path}.items")
        else:
            parts = items.get("properties")
            for name, part in {**(parts if isinstance(parts, dict) else {}), "": items}.items():
                if isinstance(part, dict) and isinstance(part.get("pattern"), str):
                    _check_pattern(part["pattern"], f"{path}.items{f'.{name}' if name else ''}.pattern")


def _check(definition: dict[str, Any], value: Any, root: str) -> None:
    found = found_violations(compile_schema(definition), value)
    if found:
        names = list(definition["properties"])

        def rank(one: Found) -> tuple[int, int]:
            keyword = next(part for part in one[1] if part in _ORDER)
            return _ORDER.index(str(keyword)), names.index(str(one[0][0])) if keyword == "properties" else 0

        path, schema_path, violation = min(found, key=rank)
        if violation["keyword"] == "type":
            violation = {**violation, "message": f"must be {types_of(object_at(definition, schema_path[:-1]))}"}
        raise _broken(sentence(root, path, violation))


def _check_pattern(pattern: str, path: str) -> None:
    try:
        compile_pattern(pattern)
    except ValueError as error:
        raise _broken(f'The regular expression "{pattern}" in field schema.properties.{path} must be valid.') from error


def _broken(reason: str) -> InputSchemaError:
    return InputSchemaError(f"Input schema is not valid ({reason})")
