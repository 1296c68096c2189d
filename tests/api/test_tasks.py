"""Tasks as section 6 of the specification of Actors says: fields, names, input, options, runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actorium.domain.models import Build, JobStatus
from actorium.domain.tasks import MAX_TASKS, free_name
from actorium.storage import builds, tasks
from actorium.storage.db import Tx
from support.checked import CheckedProgram
from support.program import ACTOR_ID
from support.storage_server import Answer, error

SCHEMA = {
    "title": "Input",
    "type": "object",
    "schemaVersion": 1,
    "properties": {
        "url": {"title": "U", "type": "string", "description": "d", "editor": "textfield", "prefill": "http://a"},
        "deep": {"title": "D", "type": "boolean", "description": "d", "default": True, "prefill": False},
        "hidden": {"title": "H", "type": "string", "description": "d", "editor": "hidden", "default": "x"},
        "plain": {"title": "P", "type": "integer", "description": "d", "default": 7},
    },
}
ABSENT = (404, "record-not-found")


def message(answer: Answer) -> str:
    return str(json.loads(answer.body)["error"]["message"])


async def give_schema(program: CheckedProgram, schema: dict[str, Any] | None = SCHEMA) -> None:
    """The Actor's build gets an input schema."""

    async def op(tx: Tx) -> None:
        text = None if schema is None else json.dumps(schema)
        await tx.execute("UPDATE builds SET input_schema = ? WHERE actor_id = ?", text, ACTOR_ID)

    await program.platform.db.write("schema", op)


async def add_build(program: CheckedProgram, number: str, tag: str | None = None) -> None:
    """One more build of the Actor that has succeeded."""

    async def op(tx: Tx) -> None:
        first = await builds.find_build(tx, ACTOR_ID, "0.1.1")
        assert isinstance(first, Build)
        fields = {name: getattr(first, name) for name in first.__struct_fields__}
        build_id = number.replace(".", "").ljust(17, "b")
        await builds.insert_build(tx, Build(**{**fields, "id": build_id, "build_number": number}))
        if tag is not None:
            await builds.set_tag(tx, ACTOR_ID, tag, build_id)

    await program.platform.db.write("build", op)


async def task(program: CheckedProgram, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = await program.ask("POST", "/actor-tasks", {"actId": ACTOR_ID, **fields})
    return made


async def input_of(program: CheckedProgram, run: dict[str, Any]) -> Any:
    return await program.ask("GET", f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT")


async def test_a_new_task_has_what_was_sent_and_the_rest_derived(checked: CheckedProgram) -> None:
    answer = await checked.send("POST", "/actor-tasks", {"actId": "counter", "name": "my-first-task", "unknown": 1})
    assert answer.status == 201
    made = json.loads(answer.body)["data"]
    assert answer.headers["Location"] == f"{checked.url}/v2/actor-tasks/{made['id']}"
    assert (made["actId"], made["userId"]) == (ACTOR_ID, checked.people["jane"].user_id)
    assert (made["name"], made["title"], made["username"]) == ("my-first-task", "My First Task", "jane")
    assert (made["options"], made["input"], made["actorStandby"]) == (None, None, None)
    assert made["stats"] == {"totalRuns": 0}
    assert made["createdAt"] == made["modifiedAt"]
    assert await checked.ask("GET", f"/actor-tasks/{made['id']}") == made
    full = await task(
        checked,
        name="full",
        title="Own",
        description="What for",
        options={"memoryMbytes": 256, "timeoutSecs": 5, "maxItems": 3, "maxTotalChargeUsd": 0.5, "build": "0.1.1"},
        input={"a": [1]},
        actorStandby={"isEnabled": True, "idleTimeoutSecs": 60},
    )
    assert (full["title"], full["description"], full["input"]) == ("Own", "What for", {"a": [1]})
    assert full["options"]["build"] == "0.1.1"
    assert full["actorStandby"]["idleTimeoutSecs"] == 60
    assert full["actorStandby"]["memoryMbytes"] == 1024


async def test_names_that_are_not_given_are_made(checked: CheckedProgram) -> None:
    names = [(await task(checked))["name"] for _ in range(3)]
    assert names == ["counter-task-1", "counter-task-2", "counter-task-3"], "counter-task exists"
    assert free_name("a" * 63, {"a" * 58 + "-task"}) == "a" * 56 + "-task-1"


async def test_names_are_unique_per_user_in_any_case(checked: CheckedProgram) -> None:
    made = await task(checked, name="One-Name")
    for name in ("one-name", "ONE-NAME"):
        answer = await checked.send("POST", "/actor-tasks", {"actId": ACTOR_ID, "name": name})
        assert error(answer) == (409, "actor-task-name-not-unique")
    other = await task(checked, name="other")
    assert error(await checked.send("PUT", f"/actor-tasks/{other['id']}", {"name": "one-name"})) == (
        409,
        "actor-task-name-not-unique",
    )
    assert (await checked.ask("PUT", f"/actor-tasks/{made['id']}", {"name": "one-name"}))["name"] == "one-name"
    for name in ("ab", "a" * 64, "-abc", "abc-", "a_b", "a b c", ""):
        answer = await checked.send("POST", "/actor-tasks", {"actId": ACTOR_ID, "name": name})
        assert error(answer) == (400, "schema-validation"), name
        assert "name" in message(answer)
    answer = await checked.send("POST", "/actor-tasks", {"actId": ACTOR_ID, "name": 5})
    assert error(answer) == (400, "invalid-request")


async def test_a_task_is_found_by_every_form_of_its_name(checked: CheckedProgram) -> None:
    made = await task(checked, name="My-Task")
    user_id = checked.people["jane"].user_id
    for reference in (made["id"], "jane~my-task", "JANE~MY-TASK", f"{user_id}~my-task", "~My-Task", "my-task"):
        assert (await checked.ask("GET", f"/actor-tasks/{reference}"))["id"] == made["id"], reference
    assert error(await checked.send("GET", "/actor-tasks/jane~")) == (400, "invalid-request")
    for reference in ("jane~nothing", "nobody~my-task", "x" * 17, "nothing"):
        answer = await checked.send("GET", f"/actor-tasks/{reference}")
        assert error(answer) == ABSENT
        assert message(answer) == "Actor task was not found"
    run = await checked.ask("POST", "/actor-tasks/jane~my-task/runs")
    assert (await checked.ask("GET", "/actor-tasks/~my-task/runs/last"))["id"] == run["id"]
    dataset = await checked.ask("GET", "/actor-tasks/jane~my-task/runs/last/dataset")
    assert dataset["id"] == run["defaultDatasetId"]


async def test_nobody_else_gets_at_a_task(checked: CheckedProgram) -> None:
    made = await task(checked, name="private", input={"a": 1})
    calls = (
        ("GET", "", None),
        ("PUT", "", {"title": "x"}),
        ("DELETE", "", None),
        ("GET", "/input", None),
        ("PUT", "/input", {"a": 2}),
        ("GET", "/runs", None),
        ("POST", "/runs", None),
        ("GET", "/runs/last", None),
        ("POST", "/runs/last/abort", None),
    )
    for reference in (made["id"], "jane~private"):
        for method, tail, body in calls:
            path = f"/actor-tasks/{reference}{tail}"
            assert error(await checked.send(method, path, body, by="john")) == ABSENT, path
            assert error(await checked.send(method, path, body, by=None)) == (401, "token-not-provided"), path
    answer = await checked.send("POST", "/actor-tasks", {"actId": ACTOR_ID}, by="john")
    assert error(answer) == ABSENT, "the Actor is private"
    assert (await checked.ask("GET", "/actor-tasks", by="john"))["total"] == 0


async def test_bodies_that_are_refused(checked: CheckedProgram) -> None:
    made = await task(checked, name="target", title="T")
    for body, kind, named in (
        ({}, "invalid-request", "actId"),
        ({"actId": 5}, "invalid-request", "actId"),
        ([], "invalid-request", "JSON object"),
        ({"actId": ACTOR_ID, "title": 5}, "schema-validation", "title"),
        ({"actId": ACTOR_ID, "description": []}, "schema-validation", "description"),
        ({"actId": ACTOR_ID, "title": "x" * 64}, "schema-validation", "title can have at most 63"),
        ({"actId": ACTOR_ID, "description": "x" * 301}, "schema-validation", "description can have at most 300"),
        ({"actId": ACTOR_ID, "options": 5}, "schema-validation", "options"),
        ({"actId": ACTOR_ID, "options": {"nothing": 1}}, "schema-validation", "options.nothing"),
        ({"actId": ACTOR_ID, "options": {"memoryMbytes": 1000}}, "schema-validation", "power of two"),
        ({"actId": ACTOR_ID, "options": {"timeoutSecs": -1}}, "schema-validation", "timeoutSecs"),
        ({"actId": ACTOR_ID, "options": {"maxItems": 1.5}}, "schema-validation", "maxItems"),
        ({"actId": ACTOR_ID, "options": {"restartOnError": "yes"}}, "schema-validation", "restartOnError"),
        ({"actId": ACTOR_ID, "options": {"build": "not a tag!"}}, "schema-validation", "build tag or number"),
        ({"actId": ACTOR_ID, "actorStandby": {"nothing": 1}}, "invalid-request", "actorStandby.nothing"),
        ({"actId": ACTOR_ID, "isPublic": True}, "cannot-publish-actor-task", "publish"),
    ):
        answer = await checked.send("POST", "/actor-tasks", body)
        assert error(answer) == (400, kind), body
        assert named in message(answer), body
        if isinstance(body, dict) and "actId" in body and body["actId"] == ACTOR_ID:
            answer = await checked.send("PUT", f"/actor-tasks/{made['id']}", body)
            assert error(answer) == (400, kind), body
    for value, kind in (([], "array"), ("x", "string"), (5, "number"), (True, "boolean")):
        for method, path in (("POST", "/actor-tasks"), ("PUT", f"/actor-tasks/{made['id']}")):
            answer = await checked.send(method, path, {"actId": ACTOR_ID, "input": value})
            assert error(answer) == (403, "input-json-not-object")
            assert message(answer) == f'Actor task input must be object, got "{kind}" instead.'
    for build, kind in (("beta", "unknown-build-tag"), ("7.7.7", "build-not-found")):
        for method, path in (("POST", "/actor-tasks"), ("PUT", f"/actor-tasks/{made['id']}")):
            answer = await checked.send(method, path, {"actId": ACTOR_ID, "options": {"build": build}})
            assert error(answer) == (403, kind)
    assert error(await checked.send("POST", "/actor-tasks", {"actId": "x" * 17})) == ABSENT
    assert await checked.ask("GET", f"/actor-tasks/{made['id']}") == made, "nothing was changed"


async def test_updates_change_what_they_name(checked: CheckedProgram) -> None:
    made = await task(
        checked, name="changing", options={"memoryMbytes": 256, "timeoutSecs": 9}, input={"a": 1, "b": {"c": 2}}
    )
    path = f"/actor-tasks/{made['id']}"
    checked.clock.advance(1)
    same = await checked.ask("PUT", path, {"options": {}, "actorStandby": {}, "name": None})
    assert {**same, "modifiedAt": made["modifiedAt"]} == made
    assert same["modifiedAt"] > made["modifiedAt"]
    changed = await checked.ask("PUT", path, {"options": {"timeoutSecs": None, "maxItems": 5}, "title": None})
    assert (changed["options"], changed["title"]) == ({"memoryMbytes": 256, "maxItems": 5}, None)
    assert changed["input"] == made["input"]
    changed = await checked.ask("PUT", path, {"input": {"z": 1}, "actorStandby": {"isEnabled": True}})
    assert changed["input"] == {"z": 1}, "an input is replaced as a whole here"
    assert changed["actorStandby"]["isEnabled"] is True
    changed = await checked.ask("PUT", path, {"actorStandby": {"idleTimeoutSecs": 30}})
    assert (changed["actorStandby"]["isEnabled"], changed["actorStandby"]["idleTimeoutSecs"]) == (True, 30)
    changed = await checked.ask("PUT", path, {"input": None, "options": None, "actorStandby": None})
    assert (changed["input"], changed["options"], changed["actorStandby"]) == (None, None, None)
    assert (await checked.ask("PUT", path, {"isPublic": False}))["isPublic"] is False


async def test_input_is_bare_and_merged_key_by_key(checked: CheckedProgram) -> None:
    made = await task(checked, name="inputs", input={"a": 1, "b": {"c": 2, "d": 3}})
    path = f"/actor-tasks/{made['id']}/input"
    assert await checked.ask("GET", path) == {"a": 1, "b": {"c": 2, "d": 3}}
    assert await checked.ask("PUT", path, {"b": {"c": 9}, "e": None}) == {"a": 1, "b": {"c": 9}, "e": None}
    assert await checked.ask("PUT", path, {}) == {"a": 1, "b": {"c": 9}, "e": None}
    for value, kind in (([1], "array"), (None, "null"), ("x", "string"), (1, "number")):
        answer = await checked.send("PUT", path, json.dumps(value).encode())
        assert error(answer) == (403, "input-json-not-object")
        assert message(answer) == f'Actor task input must be object, got "{kind}" instead.'
    assert error(await checked.send("PUT", path, b"{")) == (400, "invalid-request")
    assert await checked.ask("GET", f"/actor-tasks/{(await task(checked))['id']}/input") == {}


async def test_a_task_without_input_gets_the_prefill_of_the_schema(checked: CheckedProgram) -> None:
    await give_schema(checked)
    assert (await task(checked))["input"] == {"url": "http://a", "deep": True, "hidden": "x"}
    assert (await task(checked, input={}))["input"] == {}


async def test_inputs_are_checked_against_the_build(checked: CheckedProgram) -> None:
    await give_schema(checked)
    made = await task(checked, input={"url": "http://b"})
    run = await checked.ask("POST", f"/actor-tasks/{made['id']}/runs", {"deep": False})
    assert await input_of(checked, run) == {"url": "http://b", "deep": False, "hidden": "x", "plain": 7}
    run = await checked.ask("POST", f"/actor-tasks/{made['id']}/runs")
    assert await input_of(checked, run) == {"url": "http://b", "deep": True, "hidden": "x", "plain": 7}


async def test_runs_join_input_of_call_and_task(checked: CheckedProgram) -> None:
    made = await task(checked, name="joined", input={"a": 1, "b": {"c": 2}})
    runs = f"/actor-tasks/{made['id']}/runs"
    for body, stored in (
        (None, {"a": 1, "b": {"c": 2}}),
        (b"", {"a": 1, "b": {"c": 2}}),
        (b"null", {"a": 1, "b": {"c": 2}}),
        ({}, {"a": 1, "b": {"c": 2}}),
        ({"b": {}, "z": None}, {"a": 1, "b": {}, "z": None}),
    ):
        run = await checked.ask("POST", runs, body)
        assert await input_of(checked, run) == stored, body
        assert run["actorTaskId"] == made["id"]
    for value, kind in (([1], "array"), ("x", "string"), (1, "number")):
        answer = await checked.send("POST", runs, json.dumps(value).encode())
        assert error(answer) == (403, "input-json-not-object")
        assert message(answer) == f'Provided input must be object, got "{kind}" instead.'
    answer = await checked.send("POST", runs, b"a=1", headers={"Content-Type": "text/plain"})
    assert error(answer) == (403, "input-json-not-object")
    assert error(await checked.send("POST", runs, b"{")) == (400, "run-input-body-not-valid-json")
    assert (await checked.ask("GET", runs))["total"] == 5, "what is refused starts nothing"
    assert (await checked.ask("GET", f"/actor-tasks/{made['id']}"))["input"] == {"a": 1, "b": {"c": 2}}
    empty = await task(checked, name="no-input")
    run = await checked.ask("POST", f"/actor-tasks/{empty['id']}/runs")
    missing = await checked.send("GET", f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT")
    assert error(missing) == ABSENT


async def test_options_of_call_come_before_task_before_actor(checked: CheckedProgram) -> None:
    await add_build(checked, "0.1.2", tag="beta")
    await checked.ask(
        "PUT",
        f"/actors/{ACTOR_ID}",
        {"defaultRunOptions": {"memoryMbytes": 2048, "timeoutSecs": 11, "maxItems": 1, "restartOnError": True}},
    )
    made = await task(checked, name="opt", options={"memoryMbytes": 512, "timeoutSecs": 22, "build": "beta"})
    runs = f"/actor-tasks/{made['id']}/runs"
    options = (await checked.ask("POST", runs))["options"]
    assert (options["build"], options["memoryMbytes"], options["timeoutSecs"]) == ("beta", 512, 22)
    assert (options["maxItems"], options["restartOnError"]) == (1, True)
    run = await checked.ask("POST", f"{runs}?memory=256&timeout=33&build=0.1.1&maxItems=7&restartOnError=0")
    options = run["options"]
    assert (options["build"], options["memoryMbytes"], options["timeoutSecs"]) == ("0.1.1", 256, 33)
    assert (options["maxItems"], options["restartOnError"], run["buildNumber"]) == (7, False, "0.1.1")
    await checked.ask("PUT", f"/actor-tasks/{made['id']}", {"options": None})
    options = (await checked.ask("POST", runs))["options"]
    assert (options["build"], options["memoryMbytes"], options["timeoutSecs"]) == ("latest", 2048, 11)


async def test_statistics_and_lists_of_runs(checked: CheckedProgram) -> None:
    made = await task(checked, name="counted")
    path = f"/actor-tasks/{made['id']}"
    assert error(await checked.send("GET", f"{path}/runs/last")) == ABSENT
    started = []
    for _ in range(3):
        checked.clock.advance(1)
        started.append(await checked.ask("POST", f"{path}/runs"))
    await checked.run()
    listed = await checked.ask("GET", f"{path}/runs?desc=1&limit=2")
    assert [item["id"] for item in listed["items"]] == [started[2]["id"], started[1]["id"]]
    assert (listed["total"], listed["count"], {item["actorTaskId"] for item in listed["items"]}) == (3, 2, {made["id"]})
    assert (await checked.ask("GET", f"{path}/runs?status=SUCCEEDED"))["total"] == 0
    stats = (await checked.ask("GET", path))["stats"]
    assert stats == {"totalRuns": 3, "lastRunStartedAt": started[2]["startedAt"]}
    assert (await checked.ask("GET", f"{path}/runs/last"))["id"] == started[2]["id"]
    assert (await checked.ask("POST", f"{path}/runs/last/abort"))["status"] == "ABORTED"
    assert (await checked.ask("GET", f"{path}/runs/last?status=READY"))["id"] == started[1]["id"]
    assert (await checked.send("GET", f"{path}/runs/last/log")).status == 200
    assert error(await checked.send("POST", f"{path}/runs/last/reboot")) == (403, "job-finished")
    await checked.ask("DELETE", f"/actor-runs/{started[2]['id']}")
    assert (await checked.ask("GET", path))["stats"]["totalRuns"] == 3, "runs that were started stay counted"


async def test_list(checked: CheckedProgram) -> None:
    made = []
    for number in range(4):
        checked.clock.advance(1)
        made.append(await task(checked, name=f"listed-{number}", input={"a": 1}))
    listed = await checked.ask("GET", "/actor-tasks?offset=1&limit=2")
    assert [item["name"] for item in listed["items"]] == ["listed-0", "listed-1"]
    assert (listed["total"], listed["offset"], listed["limit"], listed["count"], listed["desc"]) == (5, 1, 2, 2, False)
    newest = await checked.ask("GET", "/actor-tasks?desc=1&limit=1")
    assert newest["items"][0]["id"] == made[3]["id"]
    assert newest["items"][0]["actName"] == "counter"
    assert newest["items"][0]["actUsername"] == "jane"
    assert not {"input", "options"} & newest["items"][0].keys()
    assert (await checked.ask("GET", "/actor-tasks?offset=9"))["items"] == []


async def test_deletion_ends_the_runs_and_keeps_them(checked: CheckedProgram) -> None:
    made = await task(checked, name="leaving")
    path = f"/actor-tasks/{made['id']}"
    run = await checked.ask("POST", f"{path}/runs")
    other = await checked.run()
    assert (await checked.send("DELETE", path)).status == 204
    assert error(await checked.send("GET", path)) == ABSENT
    assert error(await checked.send("DELETE", path)) == ABSENT
    assert error(await checked.send("GET", f"{path}/runs/last")) == ABSENT
    left = await checked.ask("GET", f"/actor-runs/{run['id']}")
    assert (left["status"], left["actorTaskId"]) == ("ABORTED", made["id"])
    assert (await checked.ask("GET", f"/actor-runs/{other.id}"))["status"] == JobStatus.READY
    again = await task(checked, name="leaving")
    assert again["id"] != made["id"]


async def test_a_deleted_actor_takes_its_owners_tasks_along(checked: CheckedProgram) -> None:
    actor = f"/actors/{ACTOR_ID}"
    await checked.ask("PUT", actor, {"isPublic": True, "title": "Counter", "categories": ["OTHER"]})
    mine = await task(checked, name="mine")
    theirs = await checked.ask("POST", "/actor-tasks", {"actId": "jane~counter", "name": "theirs"}, by="john")
    await checked.ask("DELETE", actor)
    assert error(await checked.send("GET", f"/actor-tasks/{mine['id']}")) == ABSENT
    listed = (await checked.ask("GET", "/actor-tasks", by="john"))["items"]
    assert [(item["id"], item["actName"]) for item in listed] == [(theirs["id"], None)]
    answer = await checked.send("POST", f"/actor-tasks/{theirs['id']}/runs", by="john")
    assert error(answer) == ABSENT
    assert message(answer) == "Actor was not found"


async def test_there_is_a_limit(checked: CheckedProgram) -> None:
    async def op(tx: Tx) -> None:
        rows = [
            (f"t{number:016}", f"filler-{number}") for number in range(MAX_TASKS - await tasks.count_tasks(tx, user))
        ]
        await tx.executemany(
            "INSERT INTO tasks (id, user_id, actor_id, name, name_key, created_at, modified_at, fields_json) "
            f"VALUES (?, '{user}', '{ACTOR_ID}', ?, ?, 0, 0, '{{}}')",
            [(task_id, name, name) for task_id, name in rows],
        )

    user = checked.people["jane"].user_id
    await checked.platform.db.write("fill", op)
    answer = await checked.send("POST", "/actor-tasks", {"actId": ACTOR_ID, "name": "one-too-many"})
    assert error(answer) == (403, "too-many-actor-tasks")
    limits = await checked.ask("GET", "/users/me/limits")
    assert limits["limits"]["maxActorTaskCount"] == limits["current"]["actorTaskCount"] == MAX_TASKS


@pytest.mark.parametrize("depth", [100, 5000])
async def test_deep_inputs_never_break_the_server(checked: CheckedProgram, depth: int) -> None:
    made = await task(checked, name="deep")
    body = b'{"a":' * depth + b"1" + b"}" * depth
    for method, tail in (("PUT", "/input"), ("POST", "/runs")):
        answer = await checked.send(method, f"/actor-tasks/{made['id']}{tail}", body)
        assert answer.status in (200, 201, 400), answer.body
