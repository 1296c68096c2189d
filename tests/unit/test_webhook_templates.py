"""Templates of webhooks as section 4.3 of the specification of automation says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorium.domain.webhook_templates import (
    DEFAULT_PAYLOAD_TEMPLATE,
    INVALID_JSON,
    INVALID_VARIABLE,
    TemplateError,
    check_template,
    fill_in,
)

CONTEXT: dict[str, Any] = {
    "userId": "jane",
    "createdAt": "2026-01-01T00:00:00.000Z",
    "eventType": "ACTOR.RUN.SUCCEEDED",
    "eventData": {
        "actorId": "A",
        "zero": 0,
        "no": False,
        "empty": "",
        "none": None,
        "list": [1, {"a": 2}],
        "nothing": {},
    },
    "resource": {"quote": 'say "hi" \\', "braces": "{{userId}}", "deep": {"er": 1.5, "whole": 2.0}},
    "globals": {"dateISO": "2026-01-02T00:00:00.000Z", "dateUnix": 1},
}


def filled(template: str, *, interpolate: bool = False) -> Any:
    return fill_in(template, CONTEXT, interpolate=interpolate)


def test_the_default_has_every_variable() -> None:
    assert filled(DEFAULT_PAYLOAD_TEMPLATE) == {
        name: CONTEXT[name] for name in ("userId", "createdAt", "eventType", "eventData", "resource")
    }


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ('{"a": {{userId}}}', {"a": "jane"}),
        ("{{eventData.list}}", [1, {"a": 2}]),
        ("{{eventData.list.1.a}}", 2),
        ('{"a": {{resource.deep.er}}, "b": {{resource.deep.er}}}', {"a": 1.5, "b": 1.5}),
        # Whatever JavaScript holds for false becomes null; an empty object does not.
        ("[{{eventData.zero}},{{eventData.no}},{{eventData.empty}},{{eventData.none}}]", [None] * 4),
        ("[{{eventData.nothing}}]", [{}]),
        # What is missing becomes null, however deep.
        ("[{{eventData.missing}},{{eventData.missing.deeper}},{{userId.length.x}},{{eventData.list.9}}]", [None] * 4),
        ("{{globals.dateISO}}", "2026-01-02T00:00:00.000Z"),
        # Within a string nothing is replaced, nor in what a variable brought along.
        ('{"a": "{{userId}} {{no.such}}"}', {"a": "{{userId}} {{no.such}}"}),
        ('["\\"{{userId}}", {{userId}}]', ['"{{userId}}', "jane"]),
        ("[{{resource.braces}}, {{resource.quote}}, {{userId}}]", ["{{userId}}", 'say "hi" \\', "jane"]),
        ("{{{userId}}: 1}".replace("{{{", "{ {{"), {"jane": 1}),
        ('{"no": "variables"}', {"no": "variables"}),
    ],
)
def test_variables_outside_of_strings(template: str, value: Any) -> None:
    assert filled(template) == value


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ('"{{userId}}"', "jane"),
        ('["{{eventData.zero}}", "{{eventData.no}}", "{{eventData.list}}"]', [0, False, [1, {"a": 2}]]),
        ('"id: {{userId}}!"', "id: jane!"),
        ('"{{eventData}} {{eventData.none}} {{eventData.list}}"', "[object Object] null 1,[object Object]"),
        ('"{{resource.deep.er}} {{resource.deep.whole}} {{eventData.no}}"', "1.5 2 false"),
        ('{"{{userId}}": {"deep": ["{{eventType}} x"]}}', {"{{userId}}": {"deep": ["ACTOR.RUN.SUCCEEDED x"]}}),
        ('"{{ userId }}"', "{{ userId }}"),
    ],
)
def test_variables_within_strings(template: str, value: Any) -> None:
    assert filled(template, interpolate=True) == value
    assert filled(template) == json.loads(template)


@pytest.mark.parametrize(
    ("template", "interpolate", "message"),
    [
        ('{"a": {{foo}}}', False, INVALID_VARIABLE),
        ('{"a": {{foo.userId}}}', False, INVALID_VARIABLE),
        ('{"a": {{ userId }}}', False, INVALID_VARIABLE),
        ('{"a": "{{foo}}"}', True, INVALID_VARIABLE),
        ('{"a": {{userId}}', False, INVALID_JSON),
        ('{"a": {{userId}', False, INVALID_JSON),
        ("{a: 1}", False, INVALID_JSON),
        ("[" * 100_000, False, INVALID_JSON),
        ("[NaN]", False, INVALID_JSON),
    ],
)
def test_what_is_no_template(template: str, interpolate: bool, message: str) -> None:
    with pytest.raises(TemplateError) as error:
        check_template(template, interpolate=interpolate)
    assert str(error.value) == message


def test_a_template_of_headers_is_an_object() -> None:
    check_template('{"X-Run": {{resource.id}}}', interpolate=False, is_object=True)
    with pytest.raises(TemplateError, match="must be a JSON object"):
        check_template("[]", interpolate=False, is_object=True)


def test_the_size_of_what_is_filled_in_is_bounded() -> None:
    many = "[" + ",".join(["{{resource}}"] * 70_000) + "]"
    with pytest.raises(TemplateError, match="more than"):
        fill_in(many, {"resource": {"text": "x" * 1000}}, interpolate=False)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def reference(template: str, context: dict[str, Any]) -> Any:
    """The platform's own algorithm, word for word: parse, else replace the next variable, and again."""
    text, start = template, 0
    while True:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            at = text.find("{{", start)
            end = text.find("}}", at)
            assert at >= 0 <= end, "no variable is left"
            quotes, escaped = 0, False
            for char in text[:at]:
                quotes += char == '"' and not escaped
                escaped = char == "\\" and not escaped
            if quotes % 2 == 0:
                value: Any = context
                for name in text[at + 2 : end].split("."):
                    value = value.get(name) if isinstance(value, dict) else None
                is_falsy = value is None or value in (False, 0, "")
                text = text[:at] + ("null" if is_falsy else json.dumps(value)) + text[end + 2 :]
            start = at + 1


@given(resource=JSON, event_data=JSON, literal=JSON)
def test_any_value_comes_out_as_it_went_in(resource: Any, event_data: Any, literal: Any) -> None:
    context = {"resource": resource, "eventData": event_data, "userId": "u"}
    template = (
        '{"a": {{resource}}, "b": [{{eventData}}, ' + json.dumps(literal) + ', {{userId}}], "c": "{{resource}}", '
        '"d": {{resource.a}}, "e": {{missing}}}'
    ).replace("{{missing}}", "{{globals.none}}")
    expected = reference(template, context)
    assert fill_in(template, context, interpolate=False) == expected


@given(st.text(alphabet='{}"\\abuserId.[]:, ', max_size=60))
def test_no_text_does_anything_but_fill_in_or_say_why_not(template: str) -> None:
    for interpolate in (False, True):
        assert problem(template, interpolate=interpolate) in (None, INVALID_JSON, INVALID_VARIABLE)


def problem(template: str, *, interpolate: bool) -> str | None:
    try:
        fill_in(template, CONTEXT, interpolate=interpolate)
    except TemplateError as error:
        return str(error)
    return None
