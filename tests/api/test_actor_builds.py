"""Builds as sections 3.1 to 3.4 of the specification of Actors say: fields, life, OpenAPI document, retention."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actorium.domain.models import Build, JobStatus
from actorium.domain.times import DAY_MS
from actorium.services.retention import Retention, RetentionRules
from actorium.storage import builds
from actorium.storage.db import Tx
from support.checked import CheckedProgram
from support.program import ACTOR_ID
from support.storage_server import Answer, error

ABSENT = (404, "record-not-found")
FILES = [{"name": "main.py", "format": "TEXT", "content": "secret source"}, {"name": "empty", "folder": True}]
SCHEMA = {
    "title": "Input",
    "type": "object",
    "schemaVersion": 1,
    "properties": {
        "url": {"title": "U", "type": "string", "description": "d", "editor": "textfield", "prefill": "http://a"},
        "list": {"title": "L", "type": "array", "description": "d", "editor": "json"},
    },
    "required": ["url"],
}


def message(answer: Answer) -> str:
    return str(json.loads(answer.body)["error"]["message"])


async def add_version(program: CheckedProgram, number: str = "0.5", **fields: Any) -> None:
    body = {"versionNumber": number, "sourceType": "SOURCE_FILES", "sourceFiles": FILES, **fields}
    await program.ask("POST", f"/actors/{ACTOR_ID}/versions", body)


async def start(program: CheckedProgram, query: str = "version=0.5") -> dict[str, Any]:
    program.clock.advance(1)
    made: dict[str, Any] = await program.ask("POST", f"/actors/{ACTOR_ID}/builds?{query}")
    return made


async def end(program: CheckedProgram, build: dict[str, Any], status: JobStatus, **fields: Any) -> None:
    """What the engine does with a build."""

    async def op(tx: Tx) -> None:
        now = program.clock.now_ms()
        await builds.transition(tx, build["id"], {JobStatus.READY}, JobStatus.RUNNING, running_at=now)
        if status is not JobStatus.RUNNING:
            finished = await builds.transition(
                tx, build["id"], {JobStatus.RUNNING}, status, finished_at=now + 1500, exit_code=0, **fields
            )
            assert isinstance(finished, Build)

    await program.platform.db.write("end build", op)


async def test_a_new_build_has_every_field(checked: CheckedProgram) -> None:
    await add_version(checked, buildTag="beta")
    headers = {"X-Apify-Request-Origin": "CLI", "User-Agent": "tests"}
    answer = await checked.send(
        "POST", f"/actors/{ACTOR_ID}/builds?version=0.5&useCache=1&betaPackages=1", headers=headers
    )
    assert answer.status == 201
    made = json.loads(answer.body)["data"]
    assert answer.headers["Location"] == f"{checked.url}/v2/actor-builds/{made['id']}"
    assert (made["status"], made["buildNumber"], made["buildNumberInt"]) == ("READY", "0.5.1", 500_001)
    assert (made["actId"], made["userId"]) == (ACTOR_ID, checked.people["jane"].user_id)
    assert made["meta"] == {"origin": "CLI", "clientIp": "127.0.0.1", "userAgent": "tests"}
    assert made["options"] == {"useCache": True, "betaPackages": True, "memoryMbytes": 4096, "diskMbytes": 8192}
    assert made["finishedAt"] is None
    assert made["actVersion"] == {
        "sourceType": "SOURCE_FILES",
        "versionNumber": "0.5",
        "buildTag": "beta",
        "sourceFiles": FILES,
    }
    assert made["stats"]["durationMillis"] == 0
    assert made["usageTotalUsd"] == 0
    definition = {"actorSpecification": 1, "name": "counter", "version": "0.5", "input": SCHEMA}
    await end(
        checked,
        made,
        JobStatus.SUCCEEDED,
        actor_definition=definition,
        input_schema=json.dumps(SCHEMA),
        readme="# Read",
        changelog="# Changed",
        image_size_bytes=77,
    )
    for path in (f"/actor-builds/{made['id']}", f"/actors/{ACTOR_ID}/builds/{made['id']}"):
        built = await checked.ask("GET", path)
        assert (built["status"], built["readme"], built["changelog"]) == ("SUCCEEDED", "# Read", "# Changed")
        assert json.loads(built["inputSchema"]) == SCHEMA, "a text, as the platform gives it"
        assert built["actorDefinition"] == definition
        assert (built["stats"]["runTimeSecs"], built["stats"]["imageSizeBytes"]) == (1.5, 77)
        assert built["stats"]["computeUnits"] == pytest.approx(4 * 1.5 / 3600)
        assert built["usage"]["ACTOR_COMPUTE_UNITS"] == built["stats"]["computeUnits"]


async def test_what_is_refused(checked: CheckedProgram) -> None:
    await add_version(checked)
    for query, expected, named in (
        ("", (400, "invalid-request"), "version"),
        ("version=", (400, "invalid-request"), "version"),
        ("version=9.9", ABSENT, "Version"),
        ("version=nonsense", ABSENT, "Version"),
        ("version=0.5&tag=a+b", (400, "schema-validation"), "tag"),
        (f"version=0.5&tag={'a' * 31}", (400, "schema-validation"), "tag"),
        ("version=0.5&useCache=perhaps", (400, "invalid-request"), "useCache"),
        ("version=0.5&betaPackages=2", (400, "invalid-request"), "betaPackages"),
        ("version=0.5&waitForFinish=-1", (400, "invalid-request"), "waitForFinish"),
    ):
        answer = await checked.send("POST", f"/actors/{ACTOR_ID}/builds?{query}")
        assert error(answer) == expected, query
        assert named in message(answer), query
    assert (await checked.ask("GET", f"/actors/{ACTOR_ID}/builds"))["total"] == 1
    for tail in ("", "/log", "/openapi.json"):
        assert error(await checked.send("GET", f"/actor-builds/{'x' * 17}{tail}")) == ABSENT
    other = await checked.ask("POST", "/actors", {"name": "other"})
    build = (await checked.ask("GET", f"/actors/{ACTOR_ID}/builds"))["items"][0]["id"]
    assert error(await checked.send("GET", f"/actors/{other['id']}/builds/{build}")) == ABSENT


async def test_numbers_count_per_version_and_are_never_used_again(checked: CheckedProgram) -> None:
    await add_version(checked)
    await add_version(checked, "12.34")
    assert [(await start(checked))["buildNumber"] for _ in range(2)] == ["0.5.1", "0.5.2"]
    other = await start(checked, "version=12.34")
    assert (other["buildNumber"], other["buildNumberInt"]) == ("12.34.1", 123_400_001)
    newest = await start(checked)
    await checked.ask("POST", f"/actor-builds/{newest['id']}/abort")
    assert (await checked.send("DELETE", f"/actor-builds/{newest['id']}")).status == 204
    assert (await start(checked))["buildNumber"] == "0.5.4"
    assert (await checked.ask("GET", f"/actors/{ACTOR_ID}"))["stats"]["totalBuilds"] == 5


async def test_lists_are_light_and_in_order(checked: CheckedProgram) -> None:
    await add_version(checked)
    made = [await start(checked) for _ in range(3)]
    for path in ("/actor-builds", f"/actors/{ACTOR_ID}/builds"):
        listed = await checked.ask("GET", f"{path}?desc=1&limit=2&offset=1")
        assert [item["id"] for item in listed["items"]] == [made[1]["id"], made[0]["id"]]
        assert (listed["total"], listed["count"], listed["offset"], listed["limit"]) == (4, 2, 1, 2)
        assert not {"actVersion", "readme", "actorDefinition", "inputSchema"} & listed["items"][0].keys()
        assert listed["items"][0]["usageTotalUsd"] == 0
        assert [item["buildNumber"] for item in (await checked.ask("GET", path))["items"]][-1] == "0.5.3"
        assert (await checked.ask("GET", f"{path}?offset=7"))["items"] == []
        assert error(await checked.send("GET", f"{path}?limit=x")) == (400, "invalid-request")
    assert (await checked.ask("GET", "/actor-builds", by="john"))["total"] == 0


async def test_the_default_build(checked: CheckedProgram) -> None:
    path = f"/actors/{ACTOR_ID}"
    first = await checked.ask("GET", f"{path}/builds/default")
    assert first["buildNumber"] == "0.1.1"
    await add_version(checked)
    built = await start(checked)
    await end(checked, built, JobStatus.SUCCEEDED)
    await checked.ask("PUT", path, {"defaultRunOptions": {"build": "0.5.1"}})
    assert (await checked.ask("GET", f"{path}/builds/default"))["id"] == built["id"]
    for build, expected in (
        ("nothing", (403, "unknown-build-tag")),
        ("0.5.9", (403, "build-not-found")),
        ((await start(checked))["buildNumber"], (403, "invalid-build")),
    ):
        await checked.ask("PUT", path, {"defaultRunOptions": {"build": build}})
        for tail in ("default", "default/openapi.json"):
            answer = await checked.send("GET", f"{path}/builds/{tail}")
            assert error(answer) == expected
    await checked.ask("PUT", path, {"defaultRunOptions": {"build": "nothing"}})
    answer = await checked.send("GET", f"{path}/builds/default")
    assert message(answer) == 'Build with tag "nothing" was not found. Has the Actor been built already?'


async def test_abort_and_deletion(checked: CheckedProgram) -> None:
    await add_version(checked)
    waiting, running = await start(checked), await start(checked)
    for root in ("/actor-builds", f"/actors/{ACTOR_ID}/builds"):
        aborted = await checked.ask("POST", f"{root}/{waiting['id']}/abort")
        assert aborted["status"] == "ABORTED"
        assert aborted["finishedAt"] is not None
    await end(checked, running, JobStatus.RUNNING)
    answer = await checked.send("DELETE", f"/actor-builds/{running['id']}")
    assert error(answer) == (400, "deleting-unfinished-build")
    assert message(answer) == "Deleting unfinished build while running is not allowed"
    assert (await checked.ask("POST", f"/actor-builds/{running['id']}/abort"))["status"] == "ABORTING"
    assert (await checked.ask("POST", f"/actor-builds/{running['id']}/abort"))["status"] == "ABORTING"
    assert error(await checked.send("DELETE", f"/actor-builds/{running['id']}")) == (400, "deleting-unfinished-build")
    tagged = (await checked.ask("GET", f"/actors/{ACTOR_ID}"))["taggedBuilds"]["latest"]["buildId"]
    assert error(await checked.send("DELETE", f"/actor-builds/{tagged}")) == (400, "deleting-default-build")
    succeeded = await start(checked)
    await end(checked, succeeded, JobStatus.SUCCEEDED)
    await checked.ask("PUT", f"/actors/{ACTOR_ID}", {"taggedBuilds": {"beta": {"buildId": succeeded["id"]}}})
    assert (await checked.ask("POST", f"/actor-builds/{succeeded['id']}/abort"))["status"] == "SUCCEEDED"
    assert (await checked.send("DELETE", f"/actor-builds/{succeeded['id']}")).status == 204
    assert set((await checked.ask("GET", f"/actors/{ACTOR_ID}"))["taggedBuilds"]) == {"latest"}
    assert error(await checked.send("GET", f"/actor-builds/{succeeded['id']}/log")) == ABSENT
    answer = await checked.send("PUT", f"/actors/{ACTOR_ID}", {"taggedBuilds": {"x": {"buildId": waiting["id"]}}})
    assert error(answer) == (403, "invalid-build"), "it has not succeeded"


async def test_what_others_see(checked: CheckedProgram) -> None:
    await add_version(checked, envVars=[{"name": "A", "value": "plain value"}])
    made = await start(checked)
    await end(checked, made, JobStatus.SUCCEEDED)
    paths = [f"/actor-builds/{made['id']}", f"/actors/{ACTOR_ID}/builds/{made['id']}"]
    for path in paths:
        assert error(await checked.send("GET", path, by="john")) == ABSENT
    await checked.ask("PUT", f"/actors/{ACTOR_ID}", {"isPublic": True, "title": "C", "categories": ["AI"]})
    for by in ("john", None):
        for path in (*paths, f"/actors/{ACTOR_ID}/builds/default"):
            seen = await checked.ask("GET", path, by=by)
            assert seen["status"] == "SUCCEEDED"
            assert not {"usage", "usageUsd", "usageTotalUsd"} & seen.keys()
            assert "secret source" not in json.dumps(seen) and "plain value" not in json.dumps(seen)
    assert error(await checked.send("POST", f"{paths[0]}/abort", by="john")) == ABSENT
    assert error(await checked.send("DELETE", paths[0], by="john")) == ABSENT


async def test_openapi_document(checked: CheckedProgram) -> None:
    await add_version(checked)
    made = await start(checked)
    for path in (f"/actor-builds/{made['id']}", f"/actors/{ACTOR_ID}/builds/{made['id']}"):
        assert error(await checked.send("GET", f"{path}/openapi.json")) == ABSENT
    await end(checked, made, JobStatus.SUCCEEDED, input_schema=json.dumps(SCHEMA))
    await checked.ask(
        "PUT",
        f"/actors/{ACTOR_ID}",
        {"title": "Counter", "description": "Counts", "defaultRunOptions": {"build": "0.5.1"}},
    )
    documents = [
        await checked.ask("GET", f"{path}/openapi.json")
        for path in (
            f"/actor-builds/{made['id']}",
            f"/actors/jane~counter/builds/{made['id']}",
            f"/acts/{ACTOR_ID}/builds/default",
        )
    ]
    assert documents[0] == documents[1] == documents[2]
    document = documents[0]
    assert document["openapi"] == "3.0.1"
    assert document["info"] == {
        "title": "Counter",
        "description": "Counts",
        "version": "0.5",
        "x-build-id": made["id"],
    }
    assert document["servers"] == [{"url": f"{checked.url}/v2"}]
    assert set(document["paths"]) == {
        f"/acts/jane~counter/{tail}" for tail in ("run-sync-get-dataset-items", "runs", "run-sync")
    }
    for path, item in document["paths"].items():
        operation = item["post"]
        assert operation["requestBody"]["content"]["application/json"]["schema"] == {
            "$ref": "#/components/schemas/inputSchema"
        }
        assert [parameter["name"] for parameter in operation["parameters"]] == ["token"]
        assert operation["x-openai-isConsequential"] is False
        assert checked.platform.api.router.find(f"/v2{path}") is not None
    schema = document["components"]["schemas"]["inputSchema"]
    assert schema["required"] == ["url"]
    assert schema["properties"]["url"] == {"type": "string", "title": "U", "description": "d"}
    assert schema["properties"]["list"]["items"] == {}
    free = (await checked.ask("GET", f"/actor-builds/{await latest(checked)}/openapi.json"))["components"]["schemas"]
    assert free["inputSchema"] == {"type": "object"}


async def latest(program: CheckedProgram) -> str:
    return str((await program.ask("GET", f"/actors/{ACTOR_ID}"))["taggedBuilds"]["latest"]["buildId"])


async def test_builds_that_nothing_uses_are_removed(checked: CheckedProgram) -> None:
    await add_version(checked)
    kept = {await latest(checked): "tagged"}
    made = [await start(checked) for _ in range(7)]
    for build in made[:-1]:
        await end(checked, build, JobStatus.SUCCEEDED)
    path = f"/actors/{ACTOR_ID}"
    await checked.ask("PUT", path, {"defaultRunOptions": {"build": made[0]["buildNumber"]}})
    await checked.ask("POST", "/actor-tasks", {"actId": ACTOR_ID, "options": {"build": made[1]["buildNumber"]}})
    await checked.ask("POST", f"{path}/runs?build={made[2]['buildNumber']}")
    checked.clock.advance(50 * DAY_MS / 1000)
    used = await checked.ask("POST", f"{path}/runs?build={made[3]['buildNumber']}")
    await checked.ask("POST", f"/actor-runs/{used['id']}/abort")
    kept |= {made[0]["id"]: "default", made[1]["id"]: "task", made[2]["id"]: "live run", made[3]["id"]: "late run"}
    kept |= {made[6]["id"]: "not over"}
    checked.clock.advance(45 * DAY_MS / 1000)
    platform = checked.platform
    await platform.retention.sweep()
    assert (await checked.ask("GET", f"{path}/builds"))["total"] == 8
    rules = RetentionRules(untagged_build_days=90)
    due = Retention(platform.db, checked.clock, platform.builds, platform.logs, rules)
    listed = set((await due.expired(100)).build_ids)
    await due.sweep()
    left = {item["id"] for item in (await checked.ask("GET", f"{path}/builds"))["items"]}
    assert left == set(kept)
    assert listed == {build["id"] for build in made} - left
