"""Input schemas as a build checks them: actors, sections 5.1 to 5.4."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from actorium.domain.input_schemas.fields import KINDS
from actorium.domain.input_schemas.schema_checks import InputSchemaError, check_input_schema

Fields = dict[str, Any]


def schema(properties: Fields, **root: Any) -> Fields:
    return {"title": "T", "type": "object", "schemaVersion": 1, "properties": properties, **root}


def field(type_: str, editor: str | None = None, **keywords: Any) -> Fields:
    made = {"title": "T", "description": "D", "type": type_, **keywords}
    return made if editor is None else {**made, "editor": editor}


def fault(of: Fields) -> str:
    before = copy.deepcopy(of)
    with pytest.raises(InputSchemaError) as error:
        check_input_schema(of)
    assert of == before
    return str(error.value)


def fault_of_field(of: Fields) -> str:
    """What is wrong with the field ``k``, without the words around it."""
    words = fault(schema({"k": of}))
    start = "Input schema is not valid ("
    assert words.startswith(start), words
    return words[len(start) : -1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": None}, "Field schema.title is required"),
        ({"schemaVersion": None}, "Field schema.schemaVersion is required"),
        ({"title": 3}, "Field schema.title must be string"),
        ({"type": "array"}, 'Field schema.type must be equal to one of the allowed values: "object"'),
        ({"schemaVersion": 2}, "Field schema.schemaVersion must be <= 1"),
        ({"schemaVersion": "1"}, "Field schema.schemaVersion must be integer"),
        ({"properties": []}, "Field schema.properties must be object"),
        ({"required": ["a", "a"]}, "Field schema.required must NOT have duplicate items"),
        ({"required": [1]}, "Field schema.required.0 must be string"),
        ({"additionalProperties": {}}, "Field schema.additionalProperties must be boolean"),
        ({"extra": 1}, "Property schema.extra is not allowed."),
        ({"properties": {"a": "text"}}, "Field schema.properties.a is not matching any input schema type definition. "
         "Please make sure that it's type is valid."),
    ],
)  # fmt: skip
def test_the_root(change: Fields, message: str) -> None:
    changed = {**schema({}), **change}
    assert fault({key: value for key, value in changed.items() if value is not None}) == (
        f"Input schema is not valid ({message})"
    )


def test_required_fields_exist() -> None:
    assert fault(schema({}, required=["b"])) == (
        "Field schema.properties.b does not exist, but it is specified in schema.required. "
        "Either define the field or remove it from schema.required."
    )


OWN = {
    "enum": {"enum": ["a"]},
    "string resource": {"resourceType": "dataset"},
    "array resource": {"resourceType": "dataset"},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_field_has_its_editors(name: str) -> None:
    kind = KINDS[name]
    own: Fields = {**OWN.get(name, {}), **({"isSecret": True} if name.startswith("secret") else {})}
    for editor in kind.editors:
        suggested = {"enumSuggestedValues": ["a"]} if (name, editor) == ("string", "select") else {}
        items = {"items": {"type": "string", "enum": ["a"]}} if (name, editor) == ("array", "select") else {}
        assert check_input_schema(schema({"k": field(kind.type, editor, **own, **suggested, **items)})) == []
    allowed = ", ".join(f'"{editor}"' for editor in kind.editors)
    assert fault_of_field(field(kind.type, "other", **own)) == (
        f"Field schema.properties.k.editor must be equal to one of the allowed values: {allowed}"
    )
    without = field(kind.type, **own)
    if kind.needs_editor:
        assert fault_of_field(without) == "Field schema.properties.k.editor is required"
        if not name.startswith("secret"):
            assert check_input_schema(schema({"o": field("object", "json", properties={"k": without})})) == []
    else:
        assert check_input_schema(schema({"k": without})) == []
    for keyword in ("title", "description"):
        whole = field(kind.type, kind.editors[0], **own)
        del whole[keyword]
        assert fault_of_field(whole) == f"Field schema.properties.k.{keyword} is required"


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (field("text"), "Field schema.properties.k is not matching any input schema type definition. "
         "Please make sure that it's type is valid."),
        (field("string", "textfield", other=1), "Property schema.properties.k.other is not allowed."),
        (field("string", "textfield", pattern="["),
         'The regular expression "[" in field schema.properties.k.pattern must be valid.'),
        (field("string", "textfield", minLength="1"), "Field schema.properties.k.minLength must be integer"),
        (field("string", "textfield", default=1), "Field schema.properties.k.default must be string"),
        (field("string", "textfield", default=None), "Field schema.properties.k.default must be string"),
        (field("string", "textfield", prefill=1), "Field schema.properties.k.prefill must be string"),
        (field("string", "textfield", dateType="absolute"), "Property schema.properties.k.dateType is not allowed."),
        (field("string", "datepicker", dateType="x"), "Field schema.properties.k.dateType must be equal to one of the "
         'allowed values: "absolute", "relative", "absoluteOrRelative"'),
        (field("string", "select"), "Field schema.properties.k.enumSuggestedValues is required"),
        (field("string", enum=[1]), "Field schema.properties.k.enum.0 must be string"),
        (field("string", enum=["a", "a"]), "Field schema.properties.k.enum must NOT have duplicate items"),
        (field("string", enum=["a"], pattern="a"), "Property schema.properties.k.pattern is not allowed."),
        (field("string", "textfield", errorMessage={"pattern": 1}),
         "Field schema.properties.k.errorMessage.pattern must be string"),
        (field("string", "textfield", errorMessage={"other": ""}),
         "Property schema.properties.k.errorMessage.other is not allowed."),
        (field("string", "textarea", isSecret=True, default="x"),
         "Property schema.properties.k.default is not allowed."),
        (field("string", "textarea", isSecret=True, pattern="x"),
         "Property schema.properties.k.pattern is not allowed."),
        (field("object", "json", isSecret=True, default={}), "Property schema.properties.k.default is not allowed."),
        (field("array", "json", isSecret=True, default=[]), "Property schema.properties.k.default is not allowed."),
        (field("integer", isSecret=True), "Property schema.properties.k.isSecret is not allowed."),
        (field("integer", minimum=1.5), "Field schema.properties.k.minimum must be integer"),
        (field("integer", unit=1), "Field schema.properties.k.unit must be string"),
        (field("number", default="1"), "Field schema.properties.k.default must be number"),
        (field("boolean", minimum=1), "Property schema.properties.k.minimum is not allowed."),
        (field("boolean", sectionCaption=1), "Field schema.properties.k.sectionCaption must be string"),
        (field("array", "select"), None),
        (field("array", "select", items={"type": "string"}), "Field schema.properties.k.items.enum is required"),
        (field("array", "stringList", items={"type": "integer"}),
         'Field schema.properties.k.items.type must be equal to one of the allowed values: "string"'),
        (field("array", "stringList", items={"type": "string", "pattern": "("}),
         'The regular expression "(" in field schema.properties.k.items.pattern must be valid.'),
        (field("array", "keyValue", items={"type": "object", "properties": {"key": {"type": "string"}}}),
         "Field schema.properties.k.items.properties.value is required"),
        (field("array", "globs", items={"type": "object", "properties": {"url": {"type": "string"}}}),
         "Property schema.properties.k.items.properties.url is not allowed."),
        (field("array", "json", items={"type": "array", "items": {"type": "date"}}),
         "Field schema.properties.k.items.items.type must be equal to one of the allowed values: "
         '"object", "array", "string", "integer", "number", "boolean"'),
        (field("array", "json", items={"type": "object", "properties": {"s": field("string", minLength=True)}}),
         "Field schema.properties.k.items.s.minLength must be integer"),
        (field("object", "json", properties={"s": field("string", "schemaBased")}),
         "Field schema.properties.k.s.editor must be equal to one of the allowed values: "
         '"javascript", "python", "textfield", "textarea", "datepicker", "select", "fileupload", "hidden"'),
        (field("object", "json",
               properties={"s": field("object", properties={"t": field("string", sectionCaption="")})}),
         "Property schema.properties.k.s.t.sectionCaption is not allowed."),
        (field("object", "json", properties={"s": field("string", isSecret=True)}),
         "Property schema.properties.k.s.isSecret is not allowed."),
        (field("object", "proxy", properties={"other": {"type": "string"}}),
         "Property schema.properties.k.properties.other is not allowed."),
        (field("string", resourceType="dataset", resourcePermissions=["WRITE"]),
         "Field schema.properties.k.resourcePermissions must contain at least 1 valid item(s)"),
        (field("string", resourceType="dataset", resourcePermissions=["READ"], default="x"),
         "Property schema.properties.k.default is not allowed."),
        (field("string", resourceType="mcpConnector"), "Field schema.properties.k.mcpServers is required"),
        (field("string", resourceType="actor"), "Field schema.properties.k.resourceType must be equal to one of the "
         'allowed values: "dataset", "keyValueStore", "requestQueue", "mcpConnector"'),
    ],
)  # fmt: skip
def test_fields(of: Fields, message: str | None) -> None:
    if message is None:
        assert check_input_schema(schema({"k": of})) == []
    else:
        assert fault_of_field(of) == message


def test_fields_of_several_types() -> None:
    several = field("string", "json") | {"type": ["string", "array"]}
    assert check_input_schema(schema({"k": several | {"default": ["x"]}})) == []
    assert fault_of_field({**several, "type": ["string", "text"]}).startswith(
        "Field schema.properties.k.type.1 must be"
    )
    assert "is not matching any" in fault_of_field(field("object", "json", properties={"s": several}))


def test_null_is_a_default_only_where_it_is_a_value() -> None:
    nullable = field("string", "textfield", default=None, nullable=True)
    assert check_input_schema(schema({"k": nullable})) == []
    assert fault_of_field({**nullable, "nullable": False}) == "Field schema.properties.k.default must be string"


def test_patterns_are_those_of_javascript() -> None:
    for pattern in (r"^[\w-.]+$", r"(?<year>\d{4})-\k<year>", r"a{,3}", r"\_\-", r"[^]", r"(?<=a+)b", r"\/x"):
        assert check_input_schema(schema({"k": field("string", "textfield", pattern=pattern)})) == []


def test_retired_patterns_still_count_and_warn() -> None:
    old = field("array", "keyValue", patternKey="^a$", patternValue="b")
    warnings = check_input_schema(schema({"k": old}))
    assert [warning.split(" ")[1] for warning in warnings] == [
        "schema.properties.k.patternKey",
        "schema.properties.k.patternValue",
    ]
    assert fault_of_field({**old, "patternKey": "("}) == (
        'The regular expression "(" in field schema.properties.k.patternKey must be valid.'
    )


def test_a_sub_field_is_looked_at_before_its_field() -> None:
    both = field("object", "json", other=1, properties={"s": field("string", wrong=1)})
    assert fault_of_field(both) == "Property schema.properties.k.s.wrong is not allowed."
