"""Actors as section 1 of their specification says: fields, options, lists, names, tags, Standby, deletion."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from actorium.domain.actors import CATEGORIES, MAX_ACTORS
from actorium.domain.models import JobStatus, Meta
from actorium.services.run_options import StartOptions
from actorium.storage.db import Tx
from support.checked import CheckedProgram
from support.program import ACTOR_ID
from support.storage_server import Answer, error

ABSENT = (404, "record-not-found")
FORBIDDEN = (403, "insufficient-permissions")
FILES = [{"name": "main.py", "format": "TEXT", "content": "secret source"}]
PUBLIC = {"isPublic": True, "title": "Counter", "categories": ["OTHER"]}


def message(answer: Answer) -> str:
    return str(json.loads(answer.body)["error"]["message"])


def version(number: str = "0.0", **fields: Any) -> dict[str, Any]:
    return {"versionNumber": number, "sourceType": "SOURCE_FILES", "sourceFiles": FILES, **fields}


async def create(program: CheckedProgram, name: str = "fresh", **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = await program.ask("POST", "/actors", {"name": name, **fields})
    return made


async def test_a_new_actor_has_every_field(checked: CheckedProgram) -> None:
    answer = await checked.send("POST", "/actors", {"name": "Fresh", "unknownField": {"a": 1}})
    assert answer.status == 201
    made = json.loads(answer.body)["data"]
    assert answer.headers["Location"] == f"{checked.url}/v2/actors/{made['id']}"
    expected = {
        "name": "Fresh",
        "username": "jane",
        "userId": checked.people["jane"].user_id,
        "isPublic": False,
        "isDeprecated": False,
        "isSourceCodeHidden": True,
        "versions": [],
        "defaultRunOptions": {"build": "latest", "timeoutSecs": 3600, "memoryMbytes": 1024, "restartOnError": False},
        "exampleRunInput": None,
        "taggedBuilds": {},
        "pricingInfos": [],
        "categories": [],
        "notice": "NONE",
        "restartOnError": False,
        "actorStandby": None,
        "standbyUrl": None,
    }
    assert {key: made.get(key, "missing") for key in expected} == expected
    assert made["deploymentKey"].startswith("ssh-ed25519 AAAA")
    assert made["createdAt"] == made["modifiedAt"]
    assert made["stats"]["totalRuns"] == made["stats"]["totalBuilds"] == 0
    assert "lastRunStartedAt" not in made["stats"]
    assert await checked.ask("GET", f"/actors/{made['id']}") == made


async def test_every_field_is_stored_changed_and_cleared(checked: CheckedProgram) -> None:
    texts = {
        name: f"the {name}" for name in ("title", "description", "seoTitle", "seoDescription", "readmeSummary")
    } | {"pictureUrl": "https://example.com/a.png", "notice": "UNDER_MAINTENANCE"}
    flags = dict.fromkeys(
        ("isDeprecated", "isCritical", "isGeneric", "hasNoDataset", "isAnonymouslyRunnable", "isPublic"), True
    )
    others = {
        "isSourceCodeHidden": False,
        "categories": ["AI", "MCP_SERVERS"],
        "exampleRunInput": {"body": '{"a": 1}', "contentType": "application/json"},
        "actorPermissionLevel": "LIMITED_PERMISSIONS",
    }
    made = await create(checked, **texts, **flags, **others)
    everything = {**texts, **flags, **others}
    assert {name: made[name] for name in everything} == everything
    path = f"/actors/{made['id']}"
    same = await checked.ask("PUT", path, {"defaultRunOptions": {}, "actorStandby": {}, "exampleRunInput": {}})
    assert {name: same[name] for name in everything} == everything, "empty objects change nothing"
    assert (same["defaultRunOptions"], same["actorStandby"]) == (made["defaultRunOptions"], None)
    await checked.ask("PUT", path, {"isPublic": False})
    cleared = await checked.ask("PUT", path, {**dict.fromkeys(texts), "exampleRunInput": None, "categories": None})
    assert {cleared.get(name) for name in texts} == {None, "NONE"}
    assert (cleared["exampleRunInput"], cleared["categories"]) == (None, [])
    assert cleared["isDeprecated"] is True


@pytest.mark.parametrize(
    ("body", "kind", "named"),
    [
        ({"title": 5}, "schema-validation", "title"),
        ({"isPublic": "yes"}, "schema-validation", "isPublic"),
        ({"isPublic": True}, "cannot-publish-actor", "title"),
        ({"isPublic": True, "title": "T"}, "cannot-publish-actor", "categories"),
        ({"isPublic": True, "title": "T", "categories": []}, "cannot-publish-actor", "categories"),
        ({"categories": "AI"}, "schema-validation", "categories"),
        ({"categories": ["AI", "NOTHING"]}, "schema-validation", "NOTHING"),
        ({"categories": [{}]}, "schema-validation", "categories"),
        ({"notice": "LOST"}, "schema-validation", "UNDER_MAINTENANCE"),
        ({"pictureUrl": "no url"}, "invalid-picture-url", "pictureUrl"),
        ({"pictureUrl": "javascript:alert(1)"}, "invalid-picture-url", "pictureUrl"),
        ({"pictureUrl": "http://[::"}, "invalid-picture-url", "pictureUrl"),
        ({"actorPermissionLevel": "ALL"}, "schema-validation", "LIMITED_PERMISSIONS"),
        ({"exampleRunInput": {"body": {}}}, "schema-validation", "exampleRunInput.body"),
        ({"exampleRunInput": "x"}, "schema-validation", "exampleRunInput"),
        ({"defaultRunOptions": {"build": "not a tag!"}}, "schema-validation", 'e.g. "latest" or "1.2.34".'),
        ({"defaultRunOptions": {"build": "a" * 31}}, "schema-validation", "build tag or number"),
        (
            {"defaultRunOptions": {"memoryMbytes": 1000}},
            "schema-validation",
            "Memory needs to be a power of two, like 512, 1024, 2048, 4096, etc.",
        ),
        ({"defaultRunOptions": {"memoryMbytes": 64}}, "schema-validation", "memoryMbytes"),
        ({"defaultRunOptions": {"memoryMbytes": 65536}}, "schema-validation", "memoryMbytes"),
        ({"defaultRunOptions": {"timeoutSecs": -1}}, "schema-validation", "timeoutSecs"),
        ({"defaultRunOptions": {"timeoutSecs": 1_000_000_000}}, "schema-validation", "999999999"),
        ({"defaultRunOptions": {"maxItems": -1}}, "schema-validation", "maxItems"),
        ({"defaultRunOptions": {"maxTotalChargeUsd": "1"}}, "schema-validation", "maxTotalChargeUsd"),
        ({"defaultRunOptions": {"restartOnError": 1}}, "schema-validation", "restartOnError"),
        ({"defaultRunOptions": {"forcePermissionLevel": "NO"}}, "schema-validation", "forcePermissionLevel"),
        ({"defaultRunOptions": {"color": 1}}, "schema-validation", "color is not allowed by the schema"),
        ({"defaultRunOptions": []}, "schema-validation", "defaultRunOptions"),
        ({"restartOnError": "x"}, "schema-validation", "restartOnError"),
        (
            {"actorStandby": {"desiredRequestsPerActorRun": 9}},
            "invalid-request",
            "Max requests must be greater than or equal to desired requests.",
        ),
        ({"actorStandby": {"desiredRequestsPerActorRun": 0}}, "invalid-request", "desiredRequestsPerActorRun"),
        ({"actorStandby": {"idleTimeoutSecs": 4}}, "invalid-request", "idleTimeoutSecs"),
        ({"actorStandby": {"memoryMbytes": 1000}}, "invalid-request", "power of two"),
        ({"actorStandby": {"isEnabled": 1}}, "invalid-request", "boolean"),
        ({"actorStandby": {"build": "!"}}, "invalid-request", "build"),
        ({"actorStandby": {"color": 1}}, "invalid-request", "actorStandby.color"),
        ({"taggedBuilds": []}, "schema-validation", "taggedBuilds"),
        ({"taggedBuilds": {"beta": 5}}, "schema-validation", "taggedBuilds.beta"),
        ({"title": "x" * 64}, "schema-validation", "title can have at most 63 characters, got 64"),
        ({"description": "x" * 301}, "schema-validation", "description"),
        ({"seoTitle": "x" * 61}, "schema-validation", "seoTitle"),
        ({"seoDescription": "x" * 201}, "schema-validation", "seoDescription"),
        ({"categories": ["AI", "GAMES", "JOBS", "NEWS"]}, "schema-validation", "at most 3 categories, got 4"),
        ({"versions": {}}, "schema-validation", "versions"),
        ({"versions": [{"versionNumber": "1"}]}, "invalid-request", "versionNumber"),
        ({"versions": [version(), version()]}, "schema-validation", "twice"),
    ],
)
async def test_values_that_are_refused(checked: CheckedProgram, body: dict[str, Any], kind: str, named: str) -> None:
    before = await create(checked, "before")
    for method, path in (("POST", "/actors"), ("PUT", f"/actors/{before['id']}")):
        if method == "POST" and "taggedBuilds" in body:
            continue
        answer = await checked.send(method, path, {"name": "before" if method == "PUT" else "after", **body})
        assert error(answer) == (400, kind)
        assert named in message(answer)
    assert await checked.ask("GET", f"/actors/{before['id']}") == before
    assert error(await checked.send("GET", "/actors/after")) == ABSENT


async def test_run_options_are_merged_key_by_key(checked: CheckedProgram) -> None:
    made = await create(checked, defaultRunOptions={"memoryMbytes": 512, "isMaxTotalChargeUsdSetByUser": True})
    defaults = {"build": "latest", "timeoutSecs": 3600, "memoryMbytes": 1024, "restartOnError": False}
    assert made["defaultRunOptions"] == {**defaults, "memoryMbytes": 512}
    path = f"/actors/{made['id']}"
    changed = await checked.ask(
        "PUT", path, {"defaultRunOptions": {"timeoutSecs": 0, "maxItems": 5, "build": "1.2.34", "restartOnError": True}}
    )
    assert changed["defaultRunOptions"] == {
        "build": "1.2.34",
        "timeoutSecs": 0,
        "memoryMbytes": 512,
        "restartOnError": True,
        "maxItems": 5,
    }
    assert changed["restartOnError"] is True
    changed = await checked.ask("PUT", path, {"defaultRunOptions": dict.fromkeys(changed["defaultRunOptions"])})
    assert changed["defaultRunOptions"] == defaults
    assert (await checked.ask("PUT", path, {"restartOnError": True}))["defaultRunOptions"]["restartOnError"] is True


async def test_settings_apply_where_an_actor_says_nothing(checked: CheckedProgram) -> None:
    run = await checked.ask("POST", f"/actors/{ACTOR_ID}/runs")
    assert (run["options"]["memoryMbytes"], run["options"]["timeoutSecs"]) == (1024, 3600)
    await checked.ask("PUT", f"/actors/{ACTOR_ID}", {"defaultRunOptions": {"memoryMbytes": 256, "timeoutSecs": 7}})
    run = await checked.ask("POST", f"/actors/{ACTOR_ID}/runs")
    assert (run["options"]["memoryMbytes"], run["options"]["timeoutSecs"]) == (256, 7)


async def test_names(checked: CheckedProgram) -> None:
    made = await create(checked, "Some-Name")
    for name in ("some-name", "SOME-NAME"):
        answer = await checked.send("POST", "/actors", {"name": name})
        assert error(answer) == (409, "actor-name-not-unique")
    answer = await checked.send("PUT", f"/actors/{ACTOR_ID}", {"name": "some-NAME"})
    assert error(answer) == (409, "actor-name-not-unique")
    assert (await checked.ask("PUT", f"/actors/{made['id']}", {"name": "some-name"}))["name"] == "some-name"
    assert (await checked.send("POST", "/actors", {"name": "some-name"}, by="john")).status == 201
    for name in ("ab", "a" * 64, "-abc", "abc-", "a_b", "a.b.c", "", "ä-name"):
        answer = await checked.send("POST", "/actors", {"name": name})
        assert error(answer) == (400, "schema-validation"), name
        assert "name" in message(answer)
    for body in ({}, {"name": None}, {"name": 5}):
        assert error(await checked.send("POST", "/actors", body)) == (400, "invalid-request")
    for body in (b"[]", b"5", b"{"):
        assert error(await checked.send("POST", "/actors", body)) == (400, "invalid-request")


async def test_one_of_many_at_once_gets_a_name(checked: CheckedProgram) -> None:
    answers = await asyncio.gather(*(checked.send("POST", "/actors", {"name": "raced"}) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [201, *[409] * 7]
    assert {error(answer)[1] for answer in answers if answer.status == 409} == {"actor-name-not-unique"}


async def test_an_actor_is_found_by_every_form_of_its_name(checked: CheckedProgram) -> None:
    user_id = checked.people["jane"].user_id
    for reference in (ACTOR_ID, "jane~counter", "JANE~COUNTER", f"{user_id}~counter", "~Counter", "counter"):
        for root in ("actors", "acts"):
            assert (await checked.ask("GET", f"/{root}/{reference}"))["id"] == ACTOR_ID, reference
    for reference in ("jane~", "~"):
        answer = await checked.send("GET", f"/actors/{reference}")
        assert error(answer) == (400, "invalid-request")
        assert message(answer) == "Resource name parameter cannot be empty"
    for reference in ("jane~nothing", "nobody~counter", "x" * 17, "john~counter"):
        assert error(await checked.send("GET", f"/actors/{reference}")) == ABSENT


async def test_lists(checked: CheckedProgram) -> None:
    made = []
    for number in range(3):
        checked.clock.advance(1)
        made.append(await create(checked, f"listed-{number}", title=f"T{number}"))
    listed = await checked.ask("GET", "/actors?my=1")
    assert [item["name"] for item in listed["items"]] == ["counter", "listed-0", "listed-1", "listed-2"]
    assert (listed["total"], listed["count"], listed["offset"], listed["limit"]) == (4, 4, 0, 1000)
    page = await checked.ask("GET", "/actors?desc=1&limit=2&offset=1")
    assert [item["name"] for item in page["items"]] == ["listed-1", "listed-0"]
    assert (page["total"], page["count"], page["desc"]) == (4, 2, True)
    assert (await checked.ask("GET", "/actors?offset=10"))["items"] == []
    await checked.run()
    checked.clock.advance(1)
    run = await checked.run()
    latest = await checked.ask("GET", "/actors?sortBy=stats.lastRunStartedAt&desc=1")
    assert latest["items"][0]["id"] == ACTOR_ID
    assert latest["items"][0]["stats"]["totalRuns"] == 2
    assert (
        latest["items"][0]["stats"]["lastRunStartedAt"]
        == (await checked.ask("GET", f"/actor-runs/{run.id}"))["startedAt"]
    )
    assert latest["items"][1]["stats"]["totalRuns"] == 0
    for query in ("sortBy=name", "offset=-1", "limit=x", "my=perhaps", "desc=x"):
        answer = await checked.send("GET", f"/actors?{query}")
        assert error(answer) == (400, "invalid-request")
        assert query.partition("=")[0] in message(answer)


async def test_lists_have_what_others_made_and_the_caller_ran(checked: CheckedProgram) -> None:
    await checked.ask("PUT", f"/actors/{ACTOR_ID}", PUBLIC)
    assert (await checked.ask("GET", "/actors", by="john"))["total"] == 0
    await checked.ask("POST", "/actors/jane~counter/runs", by="john")
    listed = await checked.ask("GET", "/actors", by="john")
    assert [(item["id"], item["username"]) for item in listed["items"]] == [(ACTOR_ID, "jane")]
    assert (await checked.ask("GET", "/actors?my=1", by="john"))["total"] == 0


async def test_statistics_are_exact_and_outlive_deleted_runs(checked: CheckedProgram) -> None:
    path = f"/actors/{ACTOR_ID}"
    await checked.ask("PUT", path, PUBLIC)
    runs = [await checked.run(JobStatus.SUCCEEDED) for _ in range(3)]
    checked.clock.advance(20 * 86_400)
    asked = StartOptions()
    await checked.platform.starts.start(checked.people["john"], ACTOR_ID, asked, None, Meta("API"))
    stats = (await checked.ask("GET", path))["stats"]
    assert (stats["totalRuns"], stats["totalUsers"]) == (4, 2)
    assert (stats["totalUsers7Days"], stats["totalUsers30Days"], stats["totalUsers90Days"]) == (1, 2, 2)
    for run in runs:
        await checked.ask("DELETE", f"/actor-runs/{run.id}")
    assert (await checked.ask("GET", path))["stats"] == stats


async def test_a_public_actor_says_how_others_runs_of_a_month_ended(checked: CheckedProgram) -> None:
    path = f"/actors/{ACTOR_ID}"
    assert "publicActorRunStats30Days" not in (await checked.ask("GET", path))["stats"], "it is not public"
    await checked.ask("PUT", path, PUBLIC)
    statuses = [JobStatus.SUCCEEDED, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.READY]
    await checked.run(JobStatus.SUCCEEDED, user_id=checked.people["john"].user_id)
    checked.clock.advance(31 * 86_400)
    for status in statuses:
        await checked.run(status, user_id=checked.people["john"].user_id)
    await checked.run(JobStatus.FAILED)
    expected = {"ABORTED": 0, "FAILED": 1, "SUCCEEDED": 2, "TIMED-OUT": 0, "TOTAL": 4}
    for stats in (
        (await checked.ask("GET", path, by="john"))["stats"],
        (await checked.ask("GET", "/actors"))["items"][0]["stats"],
        (await checked.ask("GET", "/store", by=None))["items"][0]["stats"],
    ):
        assert stats["publicActorRunStats30Days"] == expected


async def test_what_others_and_anonymous_callers_see(checked: CheckedProgram) -> None:
    made = await create(
        checked,
        "shown",
        versions=[version(envVars=[{"name": "A", "value": "plain"}, {"name": "S", "value": "s", "isSecret": True}])],
        **{**PUBLIC, "isPublic": False},
    )
    path = f"/actors/{made['id']}"
    assert error(await checked.send("GET", path, by="john")) == ABSENT
    assert error(await checked.send("GET", path, by=None)) == ABSENT
    await checked.ask("PUT", path, {"isPublic": True})
    for by in ("john", None):
        seen = await checked.ask("GET", path, by=by)
        assert seen["name"] == "shown"
        assert seen["versions"] == [
            {"versionNumber": "0.0", "sourceType": "SOURCE_FILES", "applyEnvVarsToBuild": False, "buildTag": None}
        ]
        assert "deploymentKey" not in seen
        assert "secret source" not in json.dumps(seen)
    for method, tail, body in (
        ("PUT", "", {"title": "x"}),
        ("DELETE", "", None),
        ("GET", "/versions", None),
        ("GET", "/versions/0.0", None),
        ("PUT", "/versions/0.0", {"buildTag": "x"}),
        ("DELETE", "/versions/0.0", None),
        ("GET", "/versions/0.0/env-vars", None),
        ("GET", "/versions/0.0/env-vars/A", None),
        ("POST", "/builds?version=0.0", None),
        ("GET", "/builds", None),
    ):
        assert error(await checked.send(method, f"{path}{tail}", body, by="john")) == FORBIDDEN, tail
        assert error(await checked.send(method, f"{path}{tail}", body, by=None)) == (401, "token-not-provided")
    assert (await checked.ask("GET", path))["versions"][0]["sourceFiles"] == FILES


async def test_tags(checked: CheckedProgram) -> None:
    path = f"/actors/{ACTOR_ID}"
    before = await checked.ask("GET", path)
    build_id = before["taggedBuilds"]["latest"]["buildId"]
    assert before["taggedBuilds"]["latest"]["buildNumberInt"] == 100_001
    changed = await checked.ask("PUT", path, {"taggedBuilds": {"beta": {"buildId": build_id}}})
    assert set(changed["taggedBuilds"]) == {"latest", "beta"}
    assert changed["taggedBuilds"]["beta"] == changed["taggedBuilds"]["latest"]
    changed = await checked.ask("PUT", path, {"taggedBuilds": {"latest": None, "gone": None}})
    assert set(changed["taggedBuilds"]) == {"beta"}
    other = await create(checked, "other")
    for actor, build in ((ACTOR_ID, "x" * 17), (other["id"], build_id)):
        answer = await checked.send("PUT", f"/actors/{actor}", {"taggedBuilds": {"latest": {"buildId": build}}})
        assert error(answer) == ABSENT
        assert message(answer) == "Build was not found"
    for tag in ("", "a b", "a" * 31, "-a"):
        answer = await checked.send("PUT", path, {"taggedBuilds": {tag: {"buildId": build_id}}})
        assert error(answer) == (400, "schema-validation"), tag


async def test_only_explicit_writes_change_modified_at(checked: CheckedProgram) -> None:
    made = await create(checked, "dated", versions=[version()])
    path = f"/actors/{made['id']}"
    stamps = [made["modifiedAt"]]
    for method, tail, body in (
        ("PUT", "", {"title": "x"}),
        ("POST", "/versions", version("0.1")),
        ("PUT", "/versions/0.1", {"buildTag": "beta"}),
        ("POST", "/versions/0.1/env-vars", {"name": "A", "value": "1"}),
        ("PUT", "/versions/0.1/env-vars/A", {"name": "A", "value": "2"}),
        ("DELETE", "/versions/0.1/env-vars/A", None),
        ("DELETE", "/versions/0.1", None),
    ):
        checked.clock.advance(1)
        await checked.ask(method, f"{path}{tail}", body)
        stamps.append((await checked.ask("GET", path))["modifiedAt"])
    assert stamps == sorted(set(stamps))
    checked.clock.advance(1)
    build = await checked.ask("POST", f"{path}/builds?version=0.0")
    await checked.ask("POST", f"/actor-builds/{build['id']}/abort")
    await checked.ask("POST", f"/actors/{ACTOR_ID}/runs")
    assert error(await checked.send("PUT", path, {"title": 5})) == (400, "schema-validation")
    assert (await checked.ask("GET", path))["modifiedAt"] == stamps[-1]


async def test_standby(checked: CheckedProgram) -> None:
    definition = json.dumps({"actorSpecification": 1, "name": "x", "version": "0.0", "usesStandbyMode": True})
    files = [{"name": ".actor/actor.json", "format": "TEXT", "content": definition}]
    made = await create(checked, "by-definition", versions=[version(sourceFiles=files)])
    assert made["actorStandby"]["isEnabled"] is True
    assert made["actorStandby"] == {
        "isEnabled": True,
        "disableStandbyFieldsOverride": False,
        "tenancy": "SINGLE_TENANT",
        "desiredRequestsPerActorRun": 3,
        "maxRequestsPerActorRun": 4,
        "idleTimeoutSecs": 300,
        "build": "latest",
        "memoryMbytes": 1024,
        "shouldPassActorInput": False,
    }
    explicit = await create(
        checked, "explicit", versions=[version(sourceFiles=files)], actorStandby={"isEnabled": False}
    )
    assert explicit["actorStandby"]["isEnabled"] is False
    later = await create(checked, "later", actorStandby={"idleTimeoutSecs": 77})
    path = f"/actors/{later['id']}"
    await checked.ask("POST", f"{path}/versions", version("0.1"))
    assert (await checked.ask("GET", path))["actorStandby"]["isEnabled"] is False
    await checked.ask("POST", f"{path}/versions", version("0.2", sourceFiles=files))
    standby = (await checked.ask("GET", path))["actorStandby"]
    assert (standby["isEnabled"], standby["idleTimeoutSecs"]) == (True, 77)
    changed = await checked.ask(
        "PUT", path, {"actorStandby": {"isEnabled": False, "isConsoleAuthEnabled": True, "isTokenlessEnabled": True}}
    )
    assert changed["actorStandby"]["isEnabled"] is False
    assert changed["actorStandby"].keys() == standby.keys()


async def test_the_definition_of_a_new_actor_gets_its_name(checked: CheckedProgram) -> None:
    text = '{\n    // the name\n    "actorSpecification": 1, "name": "template", "version": "0.0", "title": "Ä"\n}'
    files = [{"name": ".actor/actor.json", "format": "TEXT", "content": text}, *FILES]
    made = await create(checked, "renamed", versions=[version(sourceFiles=files)])
    stored = {file["name"]: file["content"] for file in made["versions"][0]["sourceFiles"]}
    assert json.loads(stored[".actor/actor.json"]) == {
        "actorSpecification": 1,
        "name": "renamed",
        "version": "0.0",
        "title": "Ä",
    }
    assert stored["main.py"] == "secret source"
    for content in ("{", "[]", '{"name": "broken"}'):
        files = [{"name": ".actor/actor.json", "format": "TEXT", "content": content}]
        made = await create(checked, "broken", versions=[version(sourceFiles=files)])
        assert made["versions"][0]["sourceFiles"][0]["content"] == content, "as it came"
        await checked.ask("DELETE", f"/actors/{made['id']}")


async def test_deletion(checked: CheckedProgram) -> None:
    path = f"/actors/{ACTOR_ID}"
    run = await checked.run()
    done = await checked.run(JobStatus.SUCCEEDED)
    await checked.ask("POST", f"{path}/versions", version("0.5"))
    waiting = await checked.ask("POST", f"{path}/builds?version=0.5")
    builds = [item["id"] for item in (await checked.ask("GET", f"{path}/builds"))["items"]]
    assert waiting["id"] in builds and len(builds) == 2
    assert (await checked.send("DELETE", path)).status == 204
    assert error(await checked.send("GET", path)) == ABSENT
    assert error(await checked.send("DELETE", path)) == ABSENT
    for build_id in builds:
        assert error(await checked.send("GET", f"/actor-builds/{build_id}")) == ABSENT
    assert (await checked.ask("GET", "/actor-builds"))["total"] == 0
    assert (await checked.ask("GET", f"/actor-runs/{run.id}"))["status"] == "ABORTED"
    assert (await checked.ask("GET", f"/actor-runs/{done.id}"))["status"] == "SUCCEEDED"
    assert (await checked.send("GET", f"/datasets/{done.default_dataset_id}")).status == 200
    assert (await create(checked, "counter"))["stats"]["totalRuns"] == 0


async def test_there_is_a_limit(checked: CheckedProgram) -> None:
    user = checked.people["jane"].user_id

    async def op(tx: Tx) -> None:
        await tx.executemany(
            "INSERT INTO actors (id, user_id, name, name_key, created_at, modified_at, default_run_options_json, "
            f"fields_json) VALUES (?, '{user}', ?, ?, 0, 0, '{{}}', '{{}}')",
            [(f"a{number:016}", f"filler-{number}", f"filler-{number}") for number in range(MAX_ACTORS - 1)],
        )

    await checked.platform.db.write("fill", op)
    answer = await checked.send("POST", "/actors", {"name": "one-too-many"})
    assert error(answer) == (403, "too-many-actors")
    assert str(MAX_ACTORS) in message(answer)


async def test_pricing_of_a_new_actor_must_be_empty(checked: CheckedProgram) -> None:
    assert (await create(checked, "free", pricingInfos=[]))["pricingInfos"] == []
    answer = await checked.send("POST", "/actors", {"name": "paid", "pricingInfos": [{"pricingModel": "FREE"}]})
    assert error(answer) == (400, "invalid-request")


def test_categories_are_those_of_the_platform() -> None:
    assert len(CATEGORIES) == len(set(CATEGORIES)) == 25
