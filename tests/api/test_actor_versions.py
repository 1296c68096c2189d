"""Versions and environment variables as section 2 of the specification of Actors says."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from actorium.domain.versions import MAX_SOURCE_BYTES, MAX_VERSIONS
from support.checked import CheckedProgram
from support.program import ACTOR_ID
from support.storage_server import Answer, error

ABSENT = (404, "record-not-found")
VERSIONS = f"/actors/{ACTOR_ID}/versions"
FILES = [
    {"name": "main.py", "format": "TEXT", "content": "print(1)"},
    {"name": "a/b.bin", "format": "BASE64", "content": base64.b64encode(b"\0\xff").decode()},
    {"name": "empty", "folder": True},
]


def message(answer: Answer) -> str:
    return str(json.loads(answer.body)["error"]["message"])


def body(number: str = "0.5", **fields: Any) -> dict[str, Any]:
    return {"versionNumber": number, "sourceType": "SOURCE_FILES", "sourceFiles": FILES, **fields}


async def create(program: CheckedProgram, number: str = "0.5", **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = await program.ask("POST", VERSIONS, body(number, **fields))
    return made


async def test_create_read_update_delete(checked: CheckedProgram) -> None:
    answer = await checked.send("POST", VERSIONS, body(applyEnvVarsToBuild=True, unknown=1))
    assert answer.status == 201
    assert answer.headers["Location"] == f"{checked.url}/v2{VERSIONS}/0.5"
    made = json.loads(answer.body)["data"]
    assert made == {
        "versionNumber": "0.5",
        "sourceType": "SOURCE_FILES",
        "sourceFiles": FILES,
        "envVars": [],
        "applyEnvVarsToBuild": True,
        "buildTag": None,
    }
    path = f"{VERSIONS}/0.5"
    assert await checked.ask("GET", path) == made
    assert await checked.ask("PUT", path, {}) == made
    for method in ("PUT", "POST"):
        changed = await checked.ask(method, path, {"buildTag": f"tag-{method.lower()}", "versionNumber": "0.5"})
        assert changed == {**made, "buildTag": f"tag-{method.lower()}"}
    assert (await checked.ask("PUT", path, {"buildTag": None}))["buildTag"] is None
    answer = await checked.send("PUT", path, {"versionNumber": "0.6"})
    assert error(answer) == (400, "invalid-request")
    answer = await checked.send("POST", VERSIONS, body())
    assert error(answer) == (403, "version-already-exists")
    assert message(answer) == "Version with this number already exists"
    assert (await checked.send("DELETE", path)).status == 204
    for method in ("GET", "PUT", "POST", "DELETE"):
        assert error(await checked.send(method, path, {})) == ABSENT


async def test_lists_are_in_order_and_without_sources(checked: CheckedProgram) -> None:
    for number in ("10.0", "0.9", "0.10"):
        await create(checked, number)
    listed = await checked.ask("GET", VERSIONS)
    assert [item["versionNumber"] for item in listed["items"]] == ["0.9", "0.10", "10.0"]
    assert (listed["total"], listed["count"]) == (3, 3)
    assert all("sourceFiles" not in item for item in listed["items"])


@pytest.mark.parametrize(
    ("fields", "expected", "named"),
    [
        ({"versionNumber": None}, (400, "invalid-request"), "versionNumber"),
        ({"versionNumber": "1"}, (400, "invalid-request"), "MAJOR.MINOR"),
        ({"versionNumber": "100.0"}, (400, "invalid-request"), "99"),
        ({"versionNumber": "01.0"}, (400, "invalid-request"), "MAJOR.MINOR"),
        ({"sourceType": "FTP"}, (400, "schema-validation"), "TARBALL"),
        ({"sourceType": None}, (400, "schema-validation"), "sourceType"),
        ({"sourceFiles": {}}, (400, "schema-validation"), "sourceFiles"),
        ({"sourceFiles": [{"content": "x"}]}, (400, "schema-validation"), "sourceFiles[0].name"),
        ({"sourceFiles": [{"name": "../x"}]}, (400, "schema-validation"), "../x"),
        ({"sourceFiles": [{"name": "/etc/x"}]}, (400, "schema-validation"), "relative"),
        ({"sourceFiles": [{"name": "a\\b"}]}, (400, "schema-validation"), "name"),
        ({"sourceFiles": [{"name": "x" * 256}]}, (400, "schema-validation"), "255"),
        ({"sourceFiles": [{"name": "x", "format": "HEX"}]}, (400, "schema-validation"), "BASE64"),
        ({"sourceFiles": [{"name": "x", "content": 5}]}, (400, "schema-validation"), "content"),
        ({"sourceType": "GIT_REPO"}, (400, "schema-validation"), "gitRepoUrl"),
        ({"sourceType": "GIT_REPO", "gitRepoUrl": "no url"}, (400, "schema-validation"), "gitRepoUrl"),
        ({"sourceType": "TARBALL", "tarballUrl": "ftp://x"}, (400, "schema-validation"), "tarballUrl"),
        ({"sourceType": "GITHUB_GIST", "gitHubGistUrl": "https://x"}, (400, "schema-validation"), "gitHubGistUrl"),
        ({"buildTag": "no tag"}, (400, "schema-validation"), "buildTag"),
        ({"applyEnvVarsToBuild": "x"}, (400, "schema-validation"), "applyEnvVarsToBuild"),
        ({"envVars": {}}, (400, "schema-validation"), "envVars"),
        ({"envVars": [{"value": "x"}]}, (400, "schema-validation"), "envVars[0].name"),
        ({"envVars": [{"name": "A=B", "value": "x"}]}, (400, "schema-validation"), "'='"),
        ({"envVars": [{"name": "x" * 101, "value": "x"}]}, (400, "schema-validation"), "100"),
        ({"envVars": [{"name": "A", "value": "x" * 50_001}]}, (400, "schema-validation"), "50000"),
        ({"envVars": [{"name": "A", "value": 5}]}, (400, "schema-validation"), "value"),
        ({"envVars": [{"name": "A", "isSecret": "x"}]}, (400, "schema-validation"), "isSecret"),
        ({"envVars": [{"name": f"A{n}"} for n in range(101)]}, (400, "schema-validation"), "100"),
    ],
)
async def test_values_that_are_refused(
    checked: CheckedProgram, fields: dict[str, Any], expected: tuple[int, str], named: str
) -> None:
    answer = await checked.send("POST", VERSIONS, {**body(), **fields})
    assert error(answer) == expected
    assert named in message(answer)
    assert (await checked.ask("GET", VERSIONS))["total"] == 0


async def test_source_types_replace_one_another(checked: CheckedProgram) -> None:
    await create(checked)
    path = f"{VERSIONS}/0.5"
    for kind, field, url in (
        ("GIT_REPO", "gitRepoUrl", "https://example.com/a.git#main:sub/dir"),
        ("TARBALL", "tarballUrl", "https://example.com/a.zip"),
        ("GITHUB_GIST", "gitHubGistUrl", f"https://gist.github.com/jane/{'a' * 32}"),
    ):
        changed = await checked.ask("PUT", path, {"sourceType": kind, field: url})
        assert (changed["sourceType"], changed[field]) == (kind, url)
        assert "sourceFiles" not in changed
        assert (await checked.ask("PUT", path, {"buildTag": "x"}))[field] == url
    changed = await checked.ask("PUT", path, {"sourceType": "SOURCE_FILES", "sourceFiles": FILES[:1]})
    assert changed["sourceFiles"] == FILES[:1]


async def test_sources_have_limits(checked: CheckedProgram) -> None:
    most = {"name": "big", "content": "ä" + "x" * (MAX_SOURCE_BYTES - 2)}
    made = await create(checked, sourceFiles=[most, {"name": "dup", "content": ""}, {"name": "dup"}])
    assert [file["name"] for file in made["sourceFiles"]] == ["big", "dup"]
    answer = await checked.send("POST", VERSIONS, body("0.6", sourceFiles=[most, {"name": "x", "content": "x"}]))
    assert error(answer) == (413, "request-too-large")
    for number in range(1, 10):
        await create(checked, f"1.{number}", sourceFiles=[most])
    answer = await checked.send("POST", VERSIONS, body("1.99", sourceFiles=[most]))
    assert error(answer) == (403, "versions-size-exceeded")
    assert "The limit on the combined size of all versions has been exceeded" in message(answer)
    many = [body(f"2.{number}", sourceFiles=[]) for number in range(MAX_VERSIONS)]
    answer = await checked.send("PUT", f"/actors/{ACTOR_ID}", {"versions": [*many, body()]})
    assert error(answer) == (403, "too-many-versions")
    assert str(MAX_VERSIONS) in message(answer)
    replaced = await checked.ask("PUT", f"/actors/{ACTOR_ID}", {"versions": [body("3.0")]})
    assert [item["versionNumber"] for item in replaced["versions"]] == ["3.0"], "the whole list is replaced"


async def test_parallel_writes_take_turns(checked: CheckedProgram) -> None:
    numbers = [f"{n}.0" for n in range(12)]
    answers = await asyncio.gather(
        *(checked.send("POST", VERSIONS, body(number, sourceFiles=[])) for number in numbers),
        *(checked.send("PUT", f"/actors/{ACTOR_ID}", {"description": f"d{n}"}) for n in range(4)),
    )
    assert {answer.status for answer in answers} == {200, 201}
    assert (await checked.ask("GET", VERSIONS))["total"] == 12
    env_vars = f"{VERSIONS}/0.0/env-vars"
    answers = await asyncio.gather(
        *(checked.send("POST", env_vars, {"name": f"V{n}", "value": "1"}) for n in range(12))
    )
    assert {answer.status for answer in answers} == {201}
    assert (await checked.ask("GET", env_vars))["total"] == 12


async def test_environment_variables(checked: CheckedProgram) -> None:
    await create(checked)
    path = f"{VERSIONS}/0.5/env-vars"
    answer = await checked.send("POST", path, {"name": "A", "value": "1"})
    assert answer.status == 201
    assert json.loads(answer.body)["data"] == {"name": "A", "value": "1", "isSecret": False}
    assert answer.headers["Location"] == f"{checked.url}/v2{path}/A"
    assert error(await checked.send("POST", path, {"name": "A", "value": "2"})) == (403, "env-var-already-exists")
    await checked.ask("POST", path, {"name": "with space/ä", "value": ""})
    assert (await checked.ask("GET", f"{path}/with%20space%2F%C3%A4"))["value"] == ""
    assert await checked.ask("PUT", f"{path}/A", {"value": "3"}) == {"name": "A", "value": "3", "isSecret": False}
    assert (await checked.ask("POST", f"{path}/A", {"name": "B"}))["value"] == "3"
    answer = await checked.send("PUT", f"{path}/B", {"name": "with space/ä", "value": "x"})
    assert error(answer) == (403, "cannot-rename-env-var")
    listed = await checked.ask("GET", f"{path}?offset=1&limit=1")
    assert [item["name"] for item in listed["items"]] == ["with space/ä"]
    assert (listed["total"], listed["count"], listed["offset"]) == (2, 1, 1)
    assert (await checked.send("DELETE", f"{path}/B")).status == 204
    for method in ("GET", "PUT", "DELETE"):
        answer = await checked.send(method, f"{path}/B", {"value": "1"})
        assert error(answer) == ABSENT
        assert message(answer) == "Environment variable was not found"
    for given in ({}, {"name": ""}, {"name": "A=B"}, {"name": "N", "value": "\0"}, {"name": "N", "isSecret": 1}):
        assert error(await checked.send("POST", path, given)) == (400, "schema-validation"), given


async def test_secrets_are_never_shown(checked: CheckedProgram) -> None:
    made = await create(checked, envVars=[{"name": "S", "value": "hidden value", "isSecret": True}])
    first = made["envVars"][0]
    assert first.keys() == {"name", "isSecret", "valueHash"}
    path = f"{VERSIONS}/0.5"
    assert await checked.ask("GET", f"{path}/env-vars/S") == {"name": "S", "isSecret": True}

    async def hash_now() -> str:
        return str((await checked.ask("GET", path))["envVars"][0]["valueHash"])

    await checked.ask("PUT", path, {"envVars": [{"name": "S", "isSecret": True}]})
    assert await hash_now() == first["valueHash"], "no value keeps the stored one"
    await checked.ask("PUT", f"{path}/env-vars/S", {"name": "S"})
    assert await hash_now() == first["valueHash"]
    await checked.ask("PUT", f"{path}/env-vars/S", {"name": "S", "value": "other"})
    assert await hash_now() != first["valueHash"]
    assert (await checked.ask("GET", f"{path}/env-vars/S"))["isSecret"] is True, "an omitted flag keeps the secret"
    plain = await checked.ask("PUT", f"{path}/env-vars/S", {"name": "S", "isSecret": False})
    assert plain == {"name": "S", "value": "", "isSecret": False}, "a secret's value does not turn plain"
    for shown in (path, VERSIONS, f"/actors/{ACTOR_ID}", f"{path}/env-vars"):
        assert "hidden value" not in json.dumps(await checked.ask("GET", shown))
