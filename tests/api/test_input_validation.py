"""Inputs at the start of a run, at a task and at validate-input: actors, section 5.5; runs, section 4.2."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actorium.storage.db import Tx
from support.checked import CheckedProgram
from support.program import ACTOR_ID
from support.storage_server import Answer

Fields = dict[str, Any]
VALIDATE = f"/actors/{ACTOR_ID}/validate-input"
RUNS = f"/actors/{ACTOR_ID}/runs"


def field(type_: str, editor: str | None = None, **keywords: Any) -> Fields:
    made = {"title": "T", "description": "D", "type": type_, **keywords}
    return made if editor is None else {**made, "editor": editor}


def schema(properties: Fields, **root: Any) -> Fields:
    return {"title": "T", "type": "object", "schemaVersion": 1, "properties": properties, **root}


async def use(program: CheckedProgram, given: Fields | str) -> None:
    """The Actor's build gets an input schema, without the check that a build makes."""

    async def op(tx: Tx) -> None:
        text = given if isinstance(given, str) else json.dumps(given)
        await tx.execute("UPDATE builds SET input_schema = ? WHERE actor_id = ?", text, ACTOR_ID)

    await program.platform.db.write("schema", op)


def refusal(answer: Answer) -> tuple[int, str, str]:
    error = json.loads(answer.body)["error"]
    return answer.status, error["type"], error["message"]


async def stored_input(program: CheckedProgram, run: Fields) -> bytes:
    answer = await program.send("GET", f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT")
    assert answer.status == 200
    return answer.body


PAIRS = [{"key": "a1", "value": "x"}, {"key": "b", "value": "y"}, {"value": "z"}]
CASES: list[tuple[Fields, Any, str | None]] = [
    (field("string"), 3, "Field input.k must be string"),
    (field("string"), None, "Field input.k must be string"),
    (field("string", nullable=True), None, None),
    (field("object", properties={"a": field("array", items=field("object", properties={"b": field("string")}))}),
     {"a": [{"b": 1}]}, "Field input.k.a.0.b must be string"),
    (field("integer"), 1.5, "Field input.k must be integer"),
    (field("integer"), 1.0, None),
    (field("integer", minimum=1), 0, "Field input.k must be >= 1"),
    (field("integer", maximum=2**60), 2**60 + 1, f"Field input.k must be <= {2**60}"),
    (field("integer"), 10**40, None),
    (field("string", minLength=3), "ab", "Field input.k must NOT have fewer than 3 characters"),
    (field("string", maxLength=2), "äöü", "Field input.k must NOT have more than 2 characters"),
    (field("string", pattern=r"^[\w-.]+$"), "a b", r'Field input.k must match pattern "^[\w-.]+$"'),
    (field("string", pattern="b$"), "ab", None),
    (field("string", pattern="x", errorMessage={"pattern": "Say x!"}), "a", "Say x!"),
    (field("string", errorMessage={"type": "A text, please"}), 1, "A text, please"),
    (field("string", enum=["a", "b"]), "c", 'Field input.k must be equal to one of the allowed values: "a", "b"'),
    (field("array", minItems=2), [1], "Field input.k must NOT have fewer than 2 items"),
    (field("array", uniqueItems=True), [{"a": 1}, {"a": 1}], "Field input.k must NOT have duplicate items"),
    (field("object", minProperties=1), {}, "Field input.k must NOT have fewer than 1 properties"),
    (field("object", additionalProperties=False, properties={"a": field("string")}), {"b": 1},
     "Property input.k.b is not allowed."),
    (field("object", additionalProperties=False), {"b": 1, "c": 2}, "Property input.k.b is not allowed."),
    (field("object", properties={"": field("object", properties={"c": field("object", additionalProperties=False)})}),
     {"": {"c": {"q": 1}}}, "Property input.k.c. is not allowed."),
    (field("object", required=["a"], properties={"a": field("string")}), {}, "Field input.k.a is required"),
    (field("array", "requestListSources"),
     [{"url": "ftp://a"}, {"url": "HTTP://a"}, {"requestsFromUrl": "http://b"}, {}],
     "Items in input.k at positions [0,3] do not contain valid URLs"),
    (field("array", "keyValue", patternKey="^[a-z]$"), PAIRS,
     'Keys in input.k at positions [0,2] must match regular expression "^[a-z]$"'),
    (field("array", "keyValue", patternValue="x|z"), PAIRS,
     'Values in input.k at positions [1] must match regular expression "x|z"'),
    (field("array", "keyValue", patternValue="x", errorMessage={"patternValue": "Only x"}), PAIRS, "Only x"),
    (field("array", "stringList", patternValue="^a"), ["a", "b", "a"],
     'Values in input.k at positions [1] must match regular expression "^a"'),
    (field("object", "json", patternKey="^a"), {"b": "", "a": "", "c": ""},
     'Keys [b,c] in input.k must match regular expression "^a'),
    (field("object", "json", patternValue="^a"), {"x": "a", "y": 1},
     'Keys [y] in input.k must have string value which matches regular expression "^a"'),
    (field("object", "proxy"), {}, None),
    (field("object", "proxy"), {"proxyUrls": ["http://u:p@a.b:80", "http://a"]},
     'Proxy URL "http://a" has invalid format, it must be '
     "socks[4|4a|5|5h]|http[s]://[username[:password]]@hostname:port."),
    (field("object", "proxy"), {"useApifyProxy": True, "apifyProxyCountry": "XX"},
     'Country code "XX" is invalid. Only ISO 3166-1 alpha-2 country codes are supported.'),
    (field("object", "proxy"), {"apifyProxyCountry": "US"},
     "The country for Apify Proxy can be specified only when using Apify Proxy."),
    (field("object", "proxy"), {"useApifyProxy": True, "apifyProxyCountry": "US"}, None),
]  # fmt: skip


async def test_messages(checked: CheckedProgram) -> None:
    for of, value, message in CASES:
        await use(checked, schema({"k": of}))
        answer = await checked.send("POST", VALIDATE, {"k": value})
        if message is None:
            assert (answer.status, answer.body) == (200, b'{"valid":true}'), (of, value)
        else:
            assert refusal(answer) == (400, "invalid-input", f"Input is not valid: {message}"), (of, value)


async def test_required_and_unknown_fields(checked: CheckedProgram) -> None:
    fields = {
        "a": field("string"),
        "b": field("string", default="x"),
        "l": field("array", "json"),
        "p": field("object", "proxy"),
    }
    for required, given, message in (
        (["a"], {}, "Field input.a is required"),
        (["b"], {}, None),
        (["l"], {"l": []}, "Field input.l must NOT have fewer than 1 items"),
        (["p"], {"p": {}}, "Field input.p is required. Please provide custom proxy URLs or use Apify Proxy."),
        ([], {"z": 1}, "Property input.z is not allowed."),
        (["a", "p"], {"a": 1, "p": {}}, "Field input.a must be string, Field input.p is required. "
         "Please provide custom proxy URLs or use Apify Proxy."),
    ):  # fmt: skip
        await use(checked, schema(fields, required=required, additionalProperties=False))
        answer = await checked.send("POST", VALIDATE, given)
        if message is None:
            assert answer.status == 200
        else:
            assert refusal(answer) == (400, "invalid-input", f"Input is not valid: {message}")


@pytest.mark.parametrize(
    ("data", "content_type", "message"),
    [
        (b"{", "application/json", "Cannot parse input JSON body: Input data was truncated"),
        (b'{"a": "\xff"}', "application/json", "Cannot parse input JSON body: "),
        (b"[1]", "application/json; charset=utf-8", 'The input JSON must be object, got "array" instead.'),
        (b"3", "APPLICATION/JSON", 'The input JSON must be object, got "number" instead.'),
        (b"{}", "text/plain", 'Actor input must have content type "application/json".'),
        (b"[" * 201 + b"]" * 201, "application/json", "Cannot parse input JSON body: it is nested more than 200"),
        (b"[" * 100_000, "application/json", "Cannot parse input JSON body: "),
    ],
)
async def test_bodies_that_are_no_objects(
    checked: CheckedProgram, data: bytes, content_type: str, message: str
) -> None:
    await use(checked, schema({}))
    for path in (VALIDATE, RUNS):
        answer = await checked.send("POST", path, data, headers={"Content-Type": content_type})
        status, type_, said = refusal(answer)
        assert (status, type_) == (400, "invalid-input")
        assert said.startswith(message)


async def test_a_start_completes_the_input_and_changes_nothing_else(checked: CheckedProgram) -> None:
    await use(
        checked,
        schema(
            {
                "a": field("integer", default=1, nullable=True),
                "o": field("object", properties={"x": field("integer", default=2)}),
                "l": field("array", items={"type": "object", "properties": {"k": field("integer", default=3)}}),
            }
        ),
    )
    for given, stored in (
        (b"", b'{"a":1,"o":{"x":2}}'),
        (b"null", b'{"a":1,"o":{"x":2}}'),
        (b'{"a": null, "o": {}, "l": [{}, {"k": 5}]}', b'{"a":null,"o":{},"l":[{"k":3},{"k":5}]}'),
        (b'{ "a" : 2, "o":{} }', b'{ "a" : 2, "o":{} }'),
        (
            b'{"n": 12345678901234567890.12345, "e":1e400, "l":[{"v":0.1000}]}',
            b'{"n":12345678901234567890.12345,"e":1e400,"l":[{"v":0.1000,"k":3}],"a":1,"o":{"x":2}}',
        ),
        (b'{"s": "\\ud800", "a": 1, "o": {}}', b'{"s": "\\ud800", "a": 1, "o": {}}'),
        (b'{"s":"\\ud83d\\ude00\\ud800","o":{}}', b'{"s":"\\ud83d\\ude00\\ufffd","o":{},"a":1}'),
    ):
        answer = await checked.send("POST", RUNS, given, headers={"Content-Type": "application/json"})
        assert answer.status == 201, answer.body
        run = json.loads(answer.body)["data"]
        assert await stored_input(checked, run) == stored
        assert run["stats"]["inputBodyLen"] == len(stored)


async def test_a_refused_input_starts_nothing(checked: CheckedProgram) -> None:
    await use(checked, schema({"k": field("string")}))
    answer = await checked.send("POST", RUNS, {"k": 1})
    assert refusal(answer) == (400, "invalid-input", "Input is not valid: Field input.k must be string")
    assert (await checked.ask("GET", "/actor-runs"))["total"] == 0


async def test_without_a_schema_anything_is_valid(checked: CheckedProgram) -> None:
    for data, content_type in ((b"\x00", "application/octet-stream"), (b"[1]", "text/plain"), (b"", "text/plain")):
        answer = await checked.send("POST", VALIDATE, data, headers={"Content-Type": content_type})
        assert (answer.status, answer.body) == (200, b'{"valid":true}')
        started = await checked.send("POST", RUNS, data, headers={"Content-Type": content_type})
        assert started.status == 201
        if data:
            assert await stored_input(checked, json.loads(started.body)["data"]) == data


@pytest.mark.parametrize(
    "broken",
    [
        "[]",
        "{",
        '{"properties": 3}',
        '{"properties": {"a": 3}}',
        '{"properties": {"a": {"type": "text"}}}',
        '{"properties": {"a": {"pattern": "("}}}',
        '{"properties": {"a": {"type": "array", "minItems": "x"}}, "required": ["a"]}',
        '{"properties": {"a": {"$ref": "http://example.com/x.json"}}}',
        '{"properties": {"a": ' + '{"properties": {"a": ' * 300 + "{}" + "}}" * 300 + "}}",
    ],
)
async def test_a_broken_schema_says_so(checked: CheckedProgram, broken: str) -> None:
    await use(checked, broken)
    for path in (VALIDATE, RUNS):
        status, type_, message = refusal(await checked.send("POST", path, {"a": "x"}))
        assert (status, type_) == (400, "invalid-input-schema")
        assert message.startswith("Input schema is not valid: ")


async def test_the_build_is_the_latest_or_the_one_asked_for(checked: CheckedProgram) -> None:
    await use(checked, schema({"k": field("string")}))
    bad = {"k": 1}
    assert refusal(await checked.send("POST", f"{VALIDATE}?build=0.1.1", bad))[1] == "invalid-input"
    assert refusal(await checked.send("POST", f"{VALIDATE}?build=beta", bad))[:2] == (403, "unknown-build-tag")
    assert refusal(await checked.send("POST", f"{VALIDATE}?build=0.1.9", bad))[:2] == (403, "build-not-found")
    assert refusal(await checked.send("POST", "/actors/nothing/validate-input", bad))[:2] == (404, "record-not-found")
    assert refusal(await checked.send("POST", VALIDATE, bad, by=None))[0] == 401
    assert (await checked.send("POST", "/acts/counter/validate-input", {"k": "x"})).status == 200


async def test_patterns_and_numbers_of_inputs_are_bounded(checked: CheckedProgram) -> None:
    evil = "^(?=a)(a|a)*(?<x>b)\\k<x>$"
    await use(checked, schema({"k": field("string", pattern=evil), "l": field("array", items={"type": "string"})}))
    answer = await checked.send("POST", VALIDATE, {"k": "a" * 100_000})
    assert refusal(answer)[2] == f'Input is not valid: Field input.k must match pattern "{evil}"'
    answer = await checked.send("POST", VALIDATE, b'{"l": [' + b"1," * 1_000_000 + b"1]}")
    assert refusal(answer)[2] == "Input is not valid: Field input.l.0 must be string"
    await use(checked, schema({"l": field("array", "requestListSources")}))
    answer = await checked.send("POST", VALIDATE, {"l": [1] * 100_000})
    assert len(answer.body) < 1000
