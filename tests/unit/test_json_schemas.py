"""Violations of JSON schemas in Ajv's words."""

from __future__ import annotations

from typing import Any

import pytest

from actorium.domain.json_schemas import compile_schema, violations


@pytest.mark.parametrize(
    ("schema", "value", "keyword", "params", "message"),
    [
        ({"type": "string"}, 1, "type", {"type": "string"}, "must be string"),
        ({"type": ["string", "null"]}, 1, "type", {"type": ["null", "string"]}, "must be null,string"),
        ({"required": ["a"]}, {}, "required", {"missingProperty": "a"}, "must have required property 'a'"),
        ({"additionalProperties": False}, {"x": 1}, "additionalProperties", {}, "must NOT have additional properties"),
        ({"properties": {}, "additionalProperties": False}, {"x": 1}, "additionalProperties",
         {"additionalProperty": "x"},
         "must NOT have additional properties"),
        ({"enum": [1, 2]}, 3, "enum", {"allowedValues": [1, 2]}, "must be equal to one of the allowed values"),
        ({"const": 1}, 3, "const", {"allowedValue": 1}, "must be equal to constant"),
        ({"minimum": 3}, 1, "minimum", {"comparison": ">=", "limit": 3}, "must be >= 3"),
        ({"exclusiveMaximum": 3}, 3, "exclusiveMaximum", {"comparison": "<", "limit": 3}, "must be < 3"),
        ({"minLength": 2}, "a", "minLength", {"limit": 2}, "must NOT have fewer than 2 characters"),
        ({"maxItems": 1}, [1, 2], "maxItems", {"limit": 1}, "must NOT have more than 1 items"),
        ({"maxProperties": 0}, {"a": 1}, "maxProperties", {"limit": 0}, "must NOT have more than 0 properties"),
        ({"pattern": "^a"}, "b", "pattern", {"pattern": "^a"}, 'must match pattern "^a"'),
        ({"format": "email"}, "b", "format", {"format": "email"}, 'must match format "email"'),
        ({"multipleOf": 2}, 3, "multipleOf", {"multipleOf": 2}, "must be multiple of 2"),
        ({"uniqueItems": True}, [1, 1], "uniqueItems", {}, "must NOT have duplicate items"),
        ({"anyOf": [{"type": "string"}]}, 1, "anyOf", {}, "must match a schema in anyOf"),
        ({"oneOf": [{}, {}]}, 1, "oneOf", {}, "must match exactly one schema in oneOf"),
        ({"not": {}}, 1, "not", {}, "must NOT be valid"),
    ],
)  # fmt: skip
def test_words(schema: Any, value: Any, keyword: str, params: Any, message: str) -> None:
    (found,) = violations(compile_schema({"properties": {"a/~b": schema}}), {"a/~b": value})
    assert found == {
        "instancePath": "/a~1~0b",
        "schemaPath": f"/properties/a~1~0b/{keyword}",
        "keyword": keyword,
        "params": params,
        "message": message,
    }


def test_each_additional_property_is_one_violation() -> None:
    found = violations(compile_schema({"properties": {"z": {}}, "additionalProperties": False}), {"x": 1, "y": 2})
    assert sorted(one["params"]["additionalProperty"] for one in found) == ["x", "y"]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "nope"}, "/type"),
        ({"properties": {"a": {"minLength": "x"}}}, "/properties/a/minLength"),
        ({"pattern": "("}, "regex"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"$ref": "http://127.0.0.1:1/other.json"}, "other.json"),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, "draft-07"),
    ],
)
def test_a_broken_schema_is_refused(schema: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compile_schema(schema)
