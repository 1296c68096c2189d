"""Input schemas and inputs are taken and refused as by the validator of the stock command line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest

from actorium.domain.errors import ApiError
from actorium.domain.input_schemas.fields import KINDS
from actorium.domain.input_schemas.schema_checks import InputSchemaError, check_input_schema
from actorium.domain.inputs import RunInput, complete_input

pytestmark = [pytest.mark.node, pytest.mark.timeout(400)]
_SCRIPT = Path(__file__).parent / "input_schema_rules.mjs"
_SCHEMAS, _INPUTS = 200, 5

Fields = dict[str, Any]
_VALUES: list[Any] = [
    *("", "a", "abc", 0, 1, 5, 1.5, True, False, None, [], ["a"], ["a", "a"], [1], {}, {"a": 1}),
    *({"key": "k", "value": "v"}, [{"url": "http://a.b"}], [{"url": "x"}], [{"key": "k", "value": "v"}]),
    *({"useApifyProxy": True}, {"useApifyProxy": True, "apifyProxyCountry": "ZZ"}, {"proxyUrls": ["x"]}),
    *({"proxyUrls": ["http://a.b:80"]}, [{"a": 1, "b": "x"}], "ENCRYPTED_VALUE:abc:def", "ENCRYPTED_JSON:abc:def"),
]
_EDITORS = sorted({editor for kind in KINDS.values() for editor in kind.editors})
_CHANGES: list[tuple[str, Any]] = [
    *(("isSecret", True), ("isSecret", 1), ("enum", ["a"]), ("enum", []), ("items", {"type": "string"}), ("items", 1)),
    *(("properties", {"a": {"type": "string"}}), ("default", None), ("default", "a"), ("prefill", 1), ("pattern", "(")),
    *(("pattern", r"[\w-.]"), ("minLength", "x"), ("unit", "MB"), ("dateType", "absolute"), ("enumTitles", ["A"])),
    *(("enumSuggestedValues", ["a"]), ("resourceType", "dataset"), ("resourcePermissions", ["READ"])),
    *(("resourcePermissions", ["WRITE"]), ("sectionCaption", "S"), ("other", 1), ("title", 1), ("nullable", True)),
    *(("nullable", 0), ("errorMessage", {"type": "own"}), ("errorMessage", {"other": ""}), ("groupCaption", "G")),
    *(("required", ["a", "a"]), ("required", ["a"]), ("type", "text"), ("type", ["string"]), ("minimum", 1.5)),
]
_ITEMS: list[Fields] = [
    {"type": "string", "minLength": 2},
    {"type": "integer", "minimum": 1},
    {"type": "array", "items": {"type": "string"}},
]


def _field(random: Random, *, depth: int) -> Fields:
    """A field with the rules of one kind, and one time in four with something changed in it."""
    name, kind = random.choice(list(KINDS.items()))
    made: Fields = {"type": kind.type, "title": "T", "description": "D"}
    if kind.needs_editor or random.random() < 0.5:
        made["editor"] = random.choice(kind.editors)
    editor = made.get("editor")
    if name == "enum":
        made["enum"] = ["a", "b"]
    elif name.startswith("secret"):
        made["isSecret"] = True
    elif name.endswith("resource"):
        made["resourceType"] = random.choice(["dataset", "keyValueStore", "requestQueue"])
    elif name == "string" and editor == "select":
        made["enumSuggestedValues"] = ["a"]
    elif name == "array":
        made["items"] = {"type": "string", "enum": ["a"]} if editor == "select" else random.choice(_ITEMS)
        if editor in ("stringList", "fileupload"):
            made["items"] = {"type": "string", "pattern": "^a"}
        elif editor not in (None, "json", "schemaBased", "hidden", "select"):
            del made["items"]
    if kind.type == "object" and editor != "proxy" and depth < 2:
        names = random.sample(["a", "b"], random.randint(0, 2))
        made["properties"] = {name: _field(random, depth=depth + 1) for name in names}
        if random.random() < 0.3:
            made["additionalProperties"] = False
    if random.random() < 0.25:
        if random.random() < 0.3:
            del made[random.choice(list(made))]
        elif random.random() < 0.3:
            made["editor"] = random.choice(_EDITORS)
        else:
            key, value = random.choice(_CHANGES)
            made[key] = value
    return made


def _schema(random: Random) -> Fields:
    names = random.sample(["x", "y"], random.randint(1, 2))
    made: Fields = {"title": "T", "type": "object", "schemaVersion": 1}
    made["properties"] = {name: _field(random, depth=0) for name in names}
    if random.random() < 0.3:
        made["required"] = [random.choice([*names, "z"]) if random.random() < 0.2 else names[0]]
    if random.random() < 0.3:
        made["additionalProperties"] = random.random() < 0.5
    return made


def _refused_input(schema: Fields, value: Fields) -> str | None:
    try:
        complete_input(json.dumps(schema), RunInput(json.dumps(value).encode(), "application/json"))
    except ApiError as error:
        return error.message
    return None


def test_verdicts(node_modules: Path) -> None:
    random = Random(7)
    jobs = [
        (schema, [{name: random.choice(_VALUES) for name in schema["properties"]} for _ in range(_INPUTS)])
        for schema in (_schema(random) for _ in range(_SCHEMAS))
    ]
    command = ["node", str(_SCRIPT), str(node_modules.parent)]
    done = subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    verdicts = {"schema taken": 0, "schema refused": 0, "input taken": 0, "input refused": 0}
    for (schema, inputs), (refused, messages) in zip(jobs, json.loads(done.stdout), strict=True):
        try:
            check_input_schema(schema)
            ours = None
        except InputSchemaError as error:
            ours = str(error)
        assert (ours is None) == (refused is None), (schema, ours, refused)
        verdicts["schema taken" if ours is None else "schema refused"] += 1
        for value, said in zip(inputs, messages, strict=False):
            found = _refused_input(schema, value)
            assert (found is None) == (said == []), (schema, value, found, said)
            verdicts["input taken" if found is None else "input refused"] += 1
    assert min(verdicts.values()) >= 20, verdicts
