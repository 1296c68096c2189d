"""Input schemas and inputs of any shape: what fits, and that nothing else than a refusal ever comes of them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.input_schemas.schema_checks import InputSchemaError, check_input_schema
from actorium.domain.inputs import RunInput, complete_input
from actorium.domain.javascript_patterns import compile_pattern

Fields = dict[str, Any]
_JSON = "application/json"
_names = st.sampled_from(["a", "b", "c", "x.y", "ä/~", ""])
_scalars = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([2**53 + 1, 10**30, 1.5, "", "a", "abc", "é"])
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3), max_leaves=8
)
_WORDS = {"title": "T", "description": "D"}


def _keywords(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Fields]:
    return st.fixed_dictionaries({}, optional=optional)


def _field(type_: str, *keywords: st.SearchStrategy[Fields]) -> st.SearchStrategy[Fields]:
    def joined(found: tuple[Fields, ...]) -> Fields:
        made = {"type": type_, **_WORDS}
        for one in found:
            made |= one
        return made

    return st.tuples(*keywords).map(joined)


_counts = st.integers(0, 3)
_leaves = st.one_of(
    _field(
        "string",
        _keywords(minLength=_counts, maxLength=_counts, pattern=st.sampled_from(["^a", "b$", "[^a]", r"^\w*$", "é"])),
    ),
    _field("string", st.lists(st.sampled_from(["a", "abc", "é"]), min_size=1, unique=True).map(lambda e: {"enum": e})),
    _field("integer", _keywords(minimum=st.integers(-3, 3), maximum=st.integers(-3, 3))),
    _field("number", _keywords(minimum=st.sampled_from([-1.5, 0, 2]), maximum=st.sampled_from([0.5, 2**53]))),
    _field("boolean"),
)


def _nested(inner: st.SearchStrategy[Fields]) -> st.SearchStrategy[Fields]:
    properties = st.dictionaries(_names, inner, max_size=3)
    items = properties.map(lambda found: {"type": "object", "properties": found}) | st.sampled_from(
        [
            {"type": "string", "minLength": 2},
            {"type": "integer", "minimum": 0},
            {"type": "array", "items": {"type": "string"}},
        ]
    )
    return _field(
        "object",
        _keywords(
            properties=properties,
            additionalProperties=st.booleans(),
            required=st.lists(_names, unique=True, max_size=2),
            minProperties=_counts,
            maxProperties=_counts,
        ),
    ) | _field("array", _keywords(items=items, minItems=_counts, maxItems=_counts, uniqueItems=st.booleans()))


_EDITORS = {"string": "textfield", "array": "json", "object": "json"}


def _at_the_top(field: Fields) -> Fields:
    editor = _EDITORS.get(field["type"])
    return field if editor is None or "enum" in field else {**field, "editor": editor}


_fields = st.recursive(_leaves, _nested, max_leaves=5).map(_at_the_top)
_schemas = st.fixed_dictionaries(
    {
        "title": st.just("T"),
        "type": st.just("object"),
        "schemaVersion": st.just(1),
        "properties": st.dictionaries(_names, _fields, min_size=1, max_size=3),
    },
    optional={"additionalProperties": st.booleans()},
)
_inputs = st.dictionaries(_names, _values, max_size=4)


def refusal(schema: Fields, value: Any) -> tuple[ErrorType, str] | None:
    """What a start says of an input; ``None`` when it is taken."""
    try:
        complete_input(json.dumps(schema), RunInput(json.dumps(value).encode(), _JSON))
    except ApiError as error:
        return error.type, error.message
    return None


@given(_schemas, _inputs)
def test_an_input_fits_as_json_schema_says(schema: Fields, value: Fields) -> None:
    assert check_input_schema(schema) == []
    refused = refusal(schema, value)
    assert (refused is None) == Draft7Validator(schema).is_valid(value), refused
    if refused is not None:
        assert refused[0] is ErrorType.INVALID_INPUT
        assert refused[1].startswith(("Input is not valid: Field input.", "Input is not valid: Property input."))


@given(_schemas, _inputs, st.data())
def test_required_fields_are_there(schema: Fields, value: Fields, data: st.DataObject) -> None:
    required = data.draw(st.lists(st.sampled_from(sorted(schema["properties"])), unique=True))
    refused = refusal({**schema, "required": required}, value)
    missing = [name for name in required if name not in value]
    if missing:
        assert refused == (ErrorType.INVALID_INPUT, f"Input is not valid: Field input.{missing[0]} is required")
    elif any(schema["properties"][name]["type"] == "array" and value[name] == [] for name in required):
        assert refused is not None
    else:
        assert (refused is None) == Draft7Validator(schema).is_valid(value)


@given(_schemas, _inputs, st.data())
def test_defaults_fill_what_is_absent_and_nothing_else(schema: Fields, value: Fields, data: st.DataObject) -> None:
    names = data.draw(st.sets(st.sampled_from(sorted(schema["properties"]))))
    defaults = {name: data.draw(_values) for name in names}
    free = {name: {**_WORDS, "default": defaults[name]} if name in names else _WORDS for name in schema["properties"]}
    body = RunInput(json.dumps(value).encode(), _JSON)
    completed = complete_input(json.dumps({"properties": free}), body)
    assert completed.stored is not None
    assert json.loads(completed.stored.data) == {**defaults, **value}
    assert complete_input(json.dumps({"properties": free}), completed.stored).stored is completed.stored


_KEYWORDS = (
    *("type", "title", "description", "editor", "properties", "items", "required", "enum", "default", "nullable"),
    *("pattern", "minLength", "minItems", "isSecret", "resourceType", "errorMessage", "additionalProperties"),
    *("patternKey", "patternValue", "$ref", "$schema"),
)
_wild = st.recursive(
    st.sampled_from(["string", "array", "object", "json", "select", "proxy", "(", "", 1, -1, 1.5, None, True, [], {}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYWORDS), inner, max_size=6),
    max_leaves=12,
)


@given(st.dictionaries(_names, _wild, max_size=2), st.dictionaries(_names, _values, max_size=3), st.booleans())
def test_any_schema_is_taken_or_refused(properties: Fields, value: Fields, with_required: bool) -> None:
    schema = {"title": "T", "type": "object", "schemaVersion": 1, "properties": properties}
    if with_required:
        schema["required"] = [*properties, "z"][:1]
    try:
        check_input_schema(schema)
        allowed = {ErrorType.INVALID_INPUT}
    except InputSchemaError:
        allowed = {ErrorType.INVALID_INPUT, ErrorType.INVALID_INPUT_SCHEMA}
    refused = refusal(schema, value)
    assert refused is None or refused[0] in allowed


@given(
    st.text(alphabet="ab(){}[]?*+|^$.\\-/dwsbuk<>:=!0123,é&~", max_size=12), st.text(alphabet="ab-d0\n{}", max_size=8)
)
def test_any_pattern_is_compiled_or_refused(pattern: str, text: str) -> None:
    try:
        found = compile_pattern(pattern).is_valid(text)
    except ValueError:
        return
    if re.fullmatch(r"[ab0]*", pattern):
        assert found == (pattern in text)


@pytest.mark.parametrize("body", [b'{"a":' * 150 + b"1" + b"}" * 150, b'{"a":"' + b"x" * 5_000_000 + b'"}'])
def test_large_and_deep_inputs_pass(body: bytes) -> None:
    schema = json.dumps({"properties": {"b": {**_WORDS, "type": "string", "default": "x"}}})
    stored = complete_input(schema, RunInput(body, _JSON)).stored
    assert stored is not None
    assert stored.data == body[:-1] + b',"b":"x"}'
