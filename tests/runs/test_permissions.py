"""What the token of a run with limited permissions may do, how runs get their level, and approval."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actorium.api.http import Route
from actorium.domain.models import JobStatus, Run
from actorium.domain.requests import request_id
from support.actors import add_actor
from support.program import ACTOR_ID, Program
from support.storage_kinds import message
from support.storage_server import Answer, error

S = JobStatus
REFUSED = (403, "insufficient-permissions")
LIMITED, FULL = "LIMITED_PERMISSIONS", "FULL_PERMISSIONS"

OPEN = {
    "users_me_get",
    "user_get",
    "actorium_health_get",
    "datasets_post",
    "keyValueStores_post",
    "requestQueues_post",
}
"""Operations that ask for nothing of anybody's."""
OWN_RUN = {
    "actorRun_get",
    "actorRun_put",
    "actorRun_abort_post",
    "actorRun_reboot_post",
    "actorRun_log_get",
    "log_get",
    "actorRun_metamorph_post",
    "PostChargeRun",
    "actors_runs_post",
}
"""Operations that work on the own run, and starts of limited Actors."""
ONE_STORAGE = re.compile(r"(actorRun_)?(dataset|keyValueStore|requestQueue)_")
"""Operations that work on a storage within reach. All others are refused, whatever they point at."""
NOT_WALKED = re.compile(r"tools_|actor_runSync")
"""Open too: the first ask for nothing of anybody's, the others wait for a run that nothing starts here."""

REQUEST_ID = request_id("a")
BODIES: dict[str, Any] = {
    "dataset_items_post": {"n": 1},
    "requestQueue_requests_post": {"url": "http://a.example", "uniqueKey": "a"},
    "requestQueue_requests_batch_post": [{"url": "http://a.example", "uniqueKey": "a"}],
    "requestQueue_requests_batch_delete": [{"id": REQUEST_ID}],
    "requestQueue_request_put": {"id": REQUEST_ID, "url": "http://a.example", "uniqueKey": "a"},
}


@pytest.fixture
async def approving(tmp_path: Path, database_url: str) -> AsyncIterator[Program]:
    """A server on which others' Actors with full permissions need an approval."""
    found = Program(tmp_path / "data", database_url, approve_full_permissions="true")
    await found.start()
    yield found
    await found.stop()


async def limited_run(program: Program, status: S = S.RUNNING) -> Run:
    """A run of jane's, of an Actor with limited permissions."""
    await program.ask("PUT", f"/actors/{ACTOR_ID}", {"actorPermissionLevel": LIMITED})
    return await program.run(status)


async def get_run(program: Program, run_id: str) -> Run:
    return await program.platform.runs.get(program.people["jane"], run_id)


async def call(program: Program, route: Route, values: dict[str, str], run: Run) -> Answer:
    """A call of ``route`` with the run's token; what its path names is taken from ``values``."""
    path = re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], "x" * 17), route.path)
    body = BODIES.get(route.operation_id.removeprefix("actorRun_"))
    if body is None and route.method in ("PUT", "POST") and "record" not in route.operation_id:
        body = {}
    if route.operation_id.endswith("_lock_post") or route.operation_id.endswith("_lock_put"):
        path += "?lockSecs=10"
    if route.operation_id == "actorRun_metamorph_post":
        path += f"?targetActorId={values['actorId']}"
    return await program.request(
        route.method,
        path,
        None if body is None else json.dumps(body).encode(),
        {} if body is None else {"Content-Type": "application/json"},
        program.token(run),
    )


async def test_every_route_answers_a_limited_run_as_the_table_says(program: Program) -> None:
    full_actor = await add_actor(program, "full", actorPermissionLevel=FULL)
    run = await limited_run(program)
    task = await program.ask("POST", "/actor-tasks", {"actId": ACTOR_ID, "name": "task"})
    other = await program.ask("POST", f"/actors/{full_actor}/runs")
    builds = await program.ask("GET", f"/actors/{ACTOR_ID}/builds")
    common = {
        "actorTaskId": task["id"],
        "buildId": builds["items"][0]["id"],
        "versionNumber": "0.1",
        "envVarName": "X",
        "userId": "jane",
        "recordKey": "k",
        "requestId": REQUEST_ID,
    }
    names = {"datasetId": "datasets", "storeId": "key-value-stores", "queueId": "request-queues"}
    theirs = {name: (await program.ask("POST", f"/{kind}"))["id"] for name, kind in names.items()}
    foreign = {**common, **theirs, "runId": other["id"], "buildOrRunId": other["id"], "actorId": full_actor}
    fresh, mine = run, theirs
    routes = program.platform.api.router.routes
    assert len(routes) > 150
    for route in routes:
        operation = route.operation_id
        if NOT_WALKED.match(operation):
            continue
        far = await call(program, route, foreign, run)
        expected = far.status < 300 if operation in OPEN else far.status == 403
        assert expected, (operation, far.status, far.body)
        if operation not in OPEN and route.method != "HEAD":
            assert error(far) == REFUSED, (operation, far.body)
        is_open = operation in OPEN | OWN_RUN or ONE_STORAGE.match(operation) is not None
        if is_open:
            # Fresh ones each time, as some operations delete what they are pointed at.
            fresh = await program.run(S.RUNNING)
            mine = {name: (await program.ask("POST", f"/{kind}", by=fresh))["id"] for name, kind in names.items()}
        near = {**common, **mine, "runId": fresh.id, "buildOrRunId": fresh.id, "actorId": ACTOR_ID}
        close = await call(program, route, near, fresh)
        assert (close.status != 403) is is_open, (operation, close.status, close.body)
        assert close.status < 500, (operation, close.body)


async def test_nothing_is_changed_by_what_is_refused(program: Program) -> None:
    run = await limited_run(program)
    store = await program.ask("POST", "/key-value-stores?name=config")
    await program.ask("PUT", f"/key-value-stores/{store['id']}/records/k", b"before")
    for path in (store["id"], "~config", "jane~config"):
        refused = await program.send("PUT", f"/key-value-stores/{path}/records/k", b"after", by=run)
        assert error(refused) == REFUSED
        assert "limited permissions" in message(refused)
        assert error(await program.send("PUT", f"/key-value-stores/{path}/records/k", b"x" * 90_000, by=run)) == REFUSED
        assert error(await program.send("DELETE", f"/key-value-stores/{path}/records/k", by=run)) == REFUSED
        assert error(await program.send("GET", f"/key-value-stores/{path}/records/k", by=run)) == REFUSED
    assert (await program.send("GET", f"/key-value-stores/{store['id']}/records/k")).body == b"before"
    assert error(await program.send("POST", "/key-value-stores?name=config", by=run)) == REFUSED


@pytest.mark.parametrize("kind", ["datasets", "key-value-stores", "request-queues"])
async def test_storages_of_earlier_runs_of_the_same_actor(program: Program, kind: str) -> None:
    key = {"datasets": "default_dataset_id", "key-value-stores": "default_key_value_store_id"}.get(
        kind, "default_request_queue_id"
    )
    earlier = await program.run(S.RUNNING)
    named = await program.ask("POST", f"/{kind}?name=state", by=earlier)
    run = await limited_run(program)
    for reference in (named["id"], "~state", getattr(earlier, key), getattr(run, key)):
        assert (await program.ask("GET", f"/{kind}/{reference}", by=run))["id"]
        await program.ask("PUT", f"/{kind}/{reference}", {"title": "mine"}, by=run)
    assert (await program.ask("POST", f"/{kind}?name=state", by=run))["id"] == named["id"]
    other_actor = await add_actor(program, "other", actorPermissionLevel=LIMITED)
    stranger = await get_run(program, (await program.ask("POST", f"/actors/{other_actor}/runs"))["id"])
    for reference in (named["id"], "~state", getattr(run, key)):
        assert error(await program.send("GET", f"/{kind}/{reference}", by=stranger)) == REFUSED
        assert error(await program.send("DELETE", f"/{kind}/{reference}", by=stranger)) == REFUSED


async def test_what_everybody_may_read_a_limited_run_may_read_too(program: Program) -> None:
    run = await limited_run(program)
    shared = await program.ask("POST", "/datasets?name=shared")
    await program.ask("PUT", f"/datasets/{shared['id']}", {"generalAccess": "ANYONE_WITH_ID_CAN_READ"})
    assert (await program.send("GET", f"/datasets/{shared['id']}/items", by=run)).status == 200
    assert error(await program.send("POST", f"/datasets/{shared['id']}/items", {"n": 1}, by=run)) == REFUSED
    assert error(await program.send("GET", "/datasets/~shared/items", by=run)) == REFUSED


async def test_a_limited_run_starts_limited_actors_and_reads_their_results(program: Program) -> None:
    full_actor = await add_actor(program, "full", actorPermissionLevel=FULL)
    limited_actor = await add_actor(program, "limited", actorPermissionLevel=LIMITED)
    run = await limited_run(program)
    refused = await program.send("POST", f"/actors/{full_actor}/runs", by=run)
    assert error(refused) == REFUSED
    assert (
        await program.send("POST", f"/actors/{full_actor}/runs?forcePermissionLevel={LIMITED}", by=run)
    ).status == 201
    forced = await program.send("POST", f"/actors/{limited_actor}/runs?forcePermissionLevel={FULL}", by=run)
    assert error(forced) == REFUSED
    child = await program.ask("POST", f"/actors/{limited_actor}/runs", by=run)
    assert (await program.ask("GET", f"/actor-runs/{child['id']}", by=run))["id"] == child["id"]
    assert (await program.send("GET", f"/actor-runs/{child['id']}/log", by=run)).status == 200
    dataset = f"/datasets/{child['defaultDatasetId']}"
    await program.ask("POST", f"{dataset}/items", {"n": 1}, by=await get_run(program, child["id"]))
    assert await program.ask("GET", f"{dataset}/items", by=run) == [{"n": 1}]
    assert (await program.send("GET", f"/actor-runs/{child['id']}/dataset/items", by=run)).status == 200
    assert error(await program.send("POST", f"{dataset}/items", {"n": 2}, by=run)) == REFUSED
    assert error(await program.send("POST", f"/actor-runs/{child['id']}/abort", by=run)) == REFUSED
    assert error(await program.send("PUT", f"/actor-runs/{child['id']}", {"statusMessage": "x"}, by=run)) == REFUSED
    sibling = await limited_run(program)
    assert error(await program.send("GET", f"/actor-runs/{child['id']}", by=sibling)) == REFUSED


SCHEMA = {
    "title": "in",
    "type": "object",
    "schemaVersion": 1,
    "properties": {
        "source": {"title": "s", "type": "string", "resourceType": "dataset", "resourcePermissions": ["READ"]},
        "target": {"title": "t", "type": "string", "resourceType": "dataset", "resourcePermissions": ["READ", "WRITE"]},
        "stores": {"title": "l", "type": "array", "resourceType": "keyValueStore", "resourcePermissions": ["READ"]},
        "plain": {"title": "p", "type": "string"},
    },
}


async def test_the_input_hands_storages_to_a_limited_run(program: Program) -> None:
    actor = await add_actor(program, "chooser", input_schema=SCHEMA, actorPermissionLevel=LIMITED)
    source, target, plain = [await program.ask("POST", f"/datasets?name={name}") for name in ("src", "dst", "plain")]
    store, named = [await program.ask("POST", f"/key-value-stores?name={name}") for name in ("one", "two")]
    body = {"source": source["id"], "target": "dst", "stores": [store["id"], "jane~two"], "plain": plain["id"]}
    started = await program.ask("POST", f"/actors/{actor}/runs", body)
    run = await get_run(program, started["id"])
    for path in (f"datasets/{source['id']}", f"datasets/{target['id']}", "datasets/~src", "datasets/~dst"):
        assert (await program.send("GET", f"/{path}/items", by=run)).status == 200, path
    for one in (store, named):
        assert (await program.send("GET", f"/key-value-stores/{one['id']}/keys", by=run)).status == 200
        assert error(await program.send("PUT", f"/key-value-stores/{one['id']}/records/k", b"x", by=run)) == REFUSED
    assert (await program.send("POST", f"/datasets/{target['id']}/items", {"n": 1}, by=run)).status == 201
    assert error(await program.send("POST", f"/datasets/{source['id']}/items", {"n": 1}, by=run)) == REFUSED
    assert error(await program.send("GET", f"/datasets/{plain['id']}/items", by=run)) == REFUSED


async def test_run_sync_starts_limited_actors_only(program: Program) -> None:
    full_actor = await add_actor(program, "full", actorPermissionLevel=FULL)
    run = await limited_run(program)
    for path in ("run-sync", "run-sync-get-dataset-items"):
        for method in ("GET", "POST"):
            assert error(await program.send(method, f"/actors/{full_actor}/{path}", by=run)) == REFUSED


async def test_a_limited_run_hands_on_no_more_than_it_has(program: Program) -> None:
    actor = await add_actor(program, "chooser", input_schema=SCHEMA, actorPermissionLevel=LIMITED)
    readable, hidden = await program.ask("POST", "/datasets"), await program.ask("POST", "/datasets")
    first = await get_run(
        program, (await program.ask("POST", f"/actors/{actor}/runs", {"source": readable["id"]}))["id"]
    )
    for target, may_read in ((readable["id"], True), (hidden["id"], False), ("nothing", False)):
        child = await program.ask("POST", f"/actors/{actor}/runs", {"target": target}, by=first)
        by = await get_run(program, child["id"])
        answer = await program.send("GET", f"/datasets/{target}/items", by=by)
        assert (answer.status == 200) is may_read
        assert (await program.send("POST", f"/datasets/{target}/items", {"n": 1}, by=by)).status in (403, 404)
    of_john = await program.ask("POST", "/datasets", by="john")
    child = await program.ask("POST", f"/actors/{actor}/runs", {"target": of_john["id"]})
    answer = await program.send("GET", f"/datasets/{of_john['id']}/items", by=await get_run(program, child["id"]))
    assert error(answer) == (404, "record-not-found")


async def test_a_queue_granted_for_reading_is_only_read(program: Program) -> None:
    schema = {"properties": {"q": {"type": "string", "resourceType": "requestQueue", "resourcePermissions": ["READ"]}}}
    actor = await add_actor(program, "reader", input_schema=schema, actorPermissionLevel=LIMITED)
    queue = await program.ask("POST", "/request-queues")
    run = await get_run(program, (await program.ask("POST", f"/actors/{actor}/runs", {"q": queue["id"]}))["id"])
    await program.ask("GET", f"/request-queues/{queue['id']}/head", by=run)
    assert error(await program.send("POST", f"/request-queues/{queue['id']}/head/lock?lockSecs=9", by=run)) == REFUSED


async def test_changes_of_others_in_the_same_commit_open_nothing(program: Program) -> None:
    """Calls on one queue share what was read of it within a transaction."""
    run = await limited_run(program)
    queue = (await program.ask("POST", "/request-queues"))["id"]
    store = (await program.ask("POST", "/key-value-stores"))["id"]
    for n in range(5):
        request = {"url": f"http://a.example/{n}", "uniqueKey": str(n)}
        answers = await asyncio.gather(
            *(program.send("POST", f"/request-queues/{queue}/requests", request) for _ in range(4)),
            *(program.send("PUT", f"/key-value-stores/{store}/records/k{n}", b"x") for n in range(4)),
            *(program.send("POST", f"/request-queues/{queue}/requests", request, by=run) for _ in range(4)),
            *(program.send("PUT", f"/key-value-stores/{store}/records/k", b"x", by=run) for _ in range(4)),
        )
        assert {answer.status for answer in answers[:8]} <= {200, 201}
        assert {error(answer) for answer in answers[8:]} == {REFUSED}


async def test_logs_of_builds_are_out_of_reach(program: Program) -> None:
    run = await limited_run(program)
    build = (await program.ask("GET", f"/actors/{ACTOR_ID}/builds"))["items"][0]["id"]
    assert (await program.send("GET", f"/logs/{build}")).status == 200
    assert error(await program.send("GET", f"/logs/{build}", by=run)) == REFUSED
    await program.ask("PUT", f"/actors/{ACTOR_ID}", {"isPublic": True, "title": "t", "categories": ["AI"]})
    assert (await program.send("GET", f"/logs/{build}", by=run)).status == 200


def metamorph(run: Run, target: str) -> str:
    return f"/actor-runs/{run.id}/metamorph?targetActorId={target}"


async def test_a_limited_run_metamorphs_into_limited_actors_only(program: Program) -> None:
    full_actor = await add_actor(program, "full", actorPermissionLevel=FULL)
    target = await add_actor(program, "target", input_schema=SCHEMA, actorPermissionLevel=LIMITED)
    run = await limited_run(program)
    source = await program.ask("POST", "/datasets?name=source")
    for by in (run, "jane"):
        assert error(await program.send("POST", metamorph(run, full_actor), by=by)) == REFUSED
    assert (await get_run(program, run.id)).metamorphs == ()
    await program.ask("POST", metamorph(run, target), {"source": source["id"]}, by=run)
    assert error(await program.send("GET", f"/datasets/{source['id']}", by=run)) == REFUSED, "it had no right to give"
    await program.ask("POST", metamorph(run, target), {"source": source["id"]})
    assert (await program.send("GET", f"/datasets/{source['id']}", by=run)).status == 200
    assert (await program.send("PUT", f"/datasets/{run.default_dataset_id}", {"title": "x"}, by=run)).status == 200
    assert error(await program.send("POST", metamorph(await limited_run(program), target), by=run)) == REFUSED


async def test_a_full_run_that_becomes_limited_is_limited_at_once(program: Program) -> None:
    target = await add_actor(program, "target", actorPermissionLevel=LIMITED)
    run = await program.run(S.RUNNING)
    assert (await program.send("GET", "/datasets", by=run)).status == 200
    await program.ask("POST", metamorph(run, target), by=run)
    assert error(await program.send("GET", "/datasets", by=run)) == REFUSED
    assert (await get_run(program, run.id)).permission_level.value == LIMITED


async def test_metamorphs_into_others_full_actors_need_an_approval(approving: Program) -> None:
    target = await add_actor(approving, "public", owner="john", isPublic=True, actorPermissionLevel=FULL)
    run = await approving.run(S.RUNNING)
    refused = await approving.send("POST", metamorph(run, target))
    assert error(refused) == (403, "full-permission-actor-not-approved")
    assert (await approving.send("POST", metamorph(run, target), by=run)).status == 200


async def test_a_full_run_may_do_what_its_user_may(program: Program) -> None:
    run = await program.run(S.RUNNING)
    private = await program.ask("POST", "/datasets?name=private")
    assert (await program.ask("GET", f"/datasets/{private['id']}", by=run))["id"] == private["id"]
    for path in ("/actor-runs", "/datasets", "/actors", f"/actors/{ACTOR_ID}", "/users/me/limits"):
        assert (await program.send("GET", path, by=run)).status == 200, path


async def test_where_the_level_of_a_run_comes_from(program: Program) -> None:
    by_options = await add_actor(
        program, "options", run_options={"forcePermissionLevel": LIMITED}, actorPermissionLevel=FULL
    )
    limited = await add_actor(program, "limited", actorPermissionLevel=LIMITED)
    silent = await add_actor(program, "silent")

    async def level(path: str) -> str:
        return (await get_run(program, (await program.ask("POST", path))["id"])).permission_level.value

    assert await level(f"/actors/{silent}/runs") == FULL
    assert await level(f"/actors/{limited}/runs") == LIMITED
    assert await level(f"/actors/{by_options}/runs") == LIMITED
    assert await level(f"/actors/{by_options}/runs?forcePermissionLevel={FULL}") == FULL
    assert await level(f"/actors/{silent}/runs?forcePermissionLevel={LIMITED}") == LIMITED
    answer = await program.send("POST", f"/actors/{silent}/runs?forcePermissionLevel=SOME")
    assert error(answer) == (400, "invalid-request")
    assert "forcePermissionLevel" in message(answer)


async def test_a_later_change_of_the_actor_leaves_live_runs_alone(program: Program) -> None:
    run = await limited_run(program)
    await program.ask("PUT", f"/actors/{ACTOR_ID}", {"actorPermissionLevel": FULL})
    program.clock.advance(10)
    assert error(await program.send("GET", "/actor-runs", by=run)) == REFUSED


async def test_what_a_limited_run_learns_of_its_user(program: Program) -> None:
    run = await limited_run(program)
    me = await program.ask("GET", "/users/me", by=run)
    assert me.keys() >= {"id", "username", "isPaying", "proxy", "profile", "plan", "effectivePlatformFeatures"}
    assert "email" not in me


async def test_the_default_level_of_new_actors_is_a_setting(tmp_path: Path, database_url: str) -> None:
    program = Program(tmp_path / "data", database_url, default_permission_level=LIMITED)
    await program.start()
    made = await program.ask("POST", "/actors", {"name": "new"})
    assert made["actorPermissionLevel"] == LIMITED
    said = await program.ask("POST", "/actors", {"name": "other", "actorPermissionLevel": FULL})
    assert said["actorPermissionLevel"] == FULL
    await program.stop()


async def test_others_full_actors_need_an_approval(approving: Program) -> None:
    actor = await add_actor(approving, "public", isPublic=True, actorPermissionLevel=FULL)
    runs, approval = f"/actors/{actor}/runs", f"/actorium/actors/{actor}/approve-full-permissions"
    john = approving.token("john")
    refused = await approving.send("POST", runs, by="john")
    assert error(refused) == (403, "full-permission-actor-not-approved")
    data = json.loads(refused.body)["error"]["data"]
    assert data == {"approvalUrl": f"{approving.url}/actors/{actor}?approvePermissions=true"}
    assert (await approving.send("POST", f"{runs}?forcePermissionLevel={LIMITED}", by="john")).status == 201
    assert (await approving.send("POST", runs)).status == 201, "an own Actor needs none"
    assert (await approving.request("POST", approval, token=john)).status == 200
    assert (await approving.request("POST", approval, token=john)).status == 200
    child_of_full = await approving.ask("POST", runs, by="john")
    assert (await approving.request("DELETE", approval, token=john)).status == 204
    assert error(await approving.send("POST", runs, by="john")) == (403, "full-permission-actor-not-approved")
    run = await approving.platform.runs.get(approving.people["john"], child_of_full["id"])
    assert (await approving.send("POST", runs, by=run)).status == 201, "runs with full permissions need none"
    by_run = await approving.request("POST", approval, token=approving.token(run))
    assert error(by_run) == REFUSED
    assert error(await approving.send("POST", runs, by="john"))[0] == 403


async def test_without_the_setting_nobody_needs_an_approval(program: Program) -> None:
    actor = await add_actor(program, "public", isPublic=True, actorPermissionLevel=FULL)
    assert (await program.send("POST", f"/actors/{actor}/runs", by="john")).status == 201
