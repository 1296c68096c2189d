"""Tokens with a scope. docs: integrations/programming/api, scoped tokens."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from actorium.api.http import Route
from actorium.domain.models import JobStatus, Run
from actorium.domain.requests import request_id
from support.actors import add_actor
from support.program import ACTOR_ID, TASK_ID, Program
from support.storage_kinds import message
from support.storage_server import Answer, error

S = JobStatus
REFUSED = (403, "insufficient-permissions")
REQUEST_ID = request_id("a")
REQUEST = {"url": "http://a.example", "uniqueKey": "a"}

OPEN = re.compile(r"users_me_get|user_get|store_get|actorium_health_get|actorium_signIn_.*|tools_.*")
NEVER = re.compile(
    r"actors_post|actor_(put|delete)|actor_version_(put|post|delete)|actor_versions_post|actor_version_envVars?_(post|put)"
    r"|actor_version_envVar_delete|users_me_limits_put|actorium_(?!runs_abort_post|run_migrate_post|health_get|signIn_).*"
    r"|actor(Task)?_runs_last_metamorph_post"
)
NEEDS: dict[str, dict[str, list[str]]] = {
    r"actors_get|actor_get|actor_versions?_get|actor_version_envVars?_get|actor_validateInput_post"
    r"|actors?_builds?_get|actor_build_default_get|actorBuilds?_(log_)?get|actor(Build)?_openapi_json_get": {
        "actors": ["READ"]
    },
    r"actors_builds_post|actorBuild_delete|actorBuild_abort_post|actors_build_abort_post": {"actors": ["BUILD"]},
    r"actors_runs_post|actor_runSync.*": {"actors": ["RUN"]},
    r"actorTask_runs_post|actorTask_runSync.*": {"actors": ["RUN"], "tasks": ["READ"]},
    r"actorRuns_get|actors_runs?_get|actorRun_(log_)?get|log_get|actor_runs_last_(log_)?get"
    r"|actorTask_(runs_)?(last_)?(log_)?get(?<!actorTask_get)": {"actors": ["VIEW_RUNS"]},
    r"(actors_run|actorRun)_(put|delete|abort_post|reboot_post|metamorph_post)|Post(Charge|Resurrect)Run"
    r"|actor_run_resurrect_post|actor(Task)?_runs_last_(abort|reboot)_post|actorium_run_migrate_post": {
        "actors": ["RUN", "VIEW_RUNS"]
    },
    r"actorium_runs_abort_post": {"actors": ["RUN"]},
    r"actorTasks?_get|actorTask_input_get": {"tasks": ["READ"]},
    r"actorTasks_post": {"tasks": ["CREATE"]},
    r"actorTask_(input_)?(put|delete)": {"tasks": ["WRITE"]},
    r"schedules?_(log_)?get": {"schedules": ["READ"]},
    r"schedules_post": {"schedules": ["CREATE"]},
    r"schedule_(put|delete|invoke_post)": {"schedules": ["WRITE"]},
    r"webhooks?_get|webhook(_webhook)?Dispatch(es)?_get|actor(Task)?_webhooks_get": {"webhooks": ["READ"]},
    r"webhooks_post": {"webhooks": ["CREATE"], "actors": ["VIEW_RUNS"]},
    r"webhook_(put|delete|test_post)": {"webhooks": ["WRITE"]},
    r"users_me_(limits|usage_monthly)_get": {"account": ["READ"]},
    **{
        pattern: {kind: [right]}
        for kind in ("datasets", "keyValueStores", "requestQueues")
        for pattern, right in (
            (rf"{kind}_get", "READ"),
            (rf"{kind}_post", "CREATE"),
            (rf"(actor(Task)?_?[rR]uns?_(last_)?)?{kind[:-1]}_(.+_)?(get|head)", "READ"),
            (rf"(actor(Task)?_?[rR]uns?_(last_)?)?{kind[:-1]}_(.+_)?(put|post|delete)", "WRITE"),
        )
    },
}
"""What operations need, account-wide. Every operation is in exactly one of the three."""


async def token_of(program: Program, scope: dict[str, Any] | None, by: str = "jane") -> str:
    """The text of a new token with this scope."""
    answer = await program.request(
        "POST",
        "/actorium/tokens",
        json.dumps({"name": "scoped", "scope": scope}).encode(),
        {"Content-Type": "application/json"},
        program.token(by),
    )
    assert answer.status == 201, answer.body
    text: str = json.loads(answer.body)["data"]["token"]
    return text


async def send(program: Program, token: str, method: str, path: str, body: Any = None) -> Answer:
    raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"} if raw is not None else {}
    return await program.request(method, f"/v2{path}", raw, kind, token)


async def ask(program: Program, token: str, method: str, path: str, body: Any = None) -> Any:
    answer = await send(program, token, method, path, body)
    assert answer.status < 300, answer.body
    return json.loads(answer.body)["data"] if answer.body else None


def needs_of(operation: str) -> dict[str, list[str]] | None:
    """What an operation needs, ``{}`` for nothing, ``None`` for more than any scope gives."""
    found: list[dict[str, list[str]] | None] = [
        needs for pattern, needs in NEEDS.items() if re.fullmatch(pattern, operation)
    ]
    found += [{}] if OPEN.fullmatch(operation) else []
    found += [None] if NEVER.fullmatch(operation) else []
    assert len(found) == 1, (operation, found)
    return found[0]


BODIES: dict[str, Any] = {
    "dataset_items_post": {"n": 1},
    "requestQueue_requests_post": REQUEST,
    "requestQueue_requests_batch_post": [REQUEST],
    "requestQueue_requests_batch_delete": [{"id": REQUEST_ID}],
    "requestQueue_request_put": {"id": REQUEST_ID, **REQUEST},
    "webhooks_post": {
        "eventTypes": ["ACTOR.RUN.SUCCEEDED"],
        "requestUrl": "http://a.example",
        "condition": {"actorId": ACTOR_ID},
    },
    "actorTasks_post": {"actId": ACTOR_ID},
}


async def call(program: Program, token: str, route: Route, values: dict[str, str]) -> Answer:
    path = re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], "x" * 17), route.path)
    body = BODIES.get(re.sub(r"^(actorRun_|actor_runs_last_|actorTask_runs_last_)", "", route.operation_id))
    if body is None and route.method in ("PUT", "POST") and "record" not in route.operation_id:
        body = {}
    query = {"lock_post": "?lockSecs=10", "lock_put": "?lockSecs=10", "metamorph_post": f"?targetActorId={ACTOR_ID}"}
    path += next((text for end, text in query.items() if route.operation_id.endswith(end)), "")
    raw = None if body is None else json.dumps(body).encode()
    return await program.request(route.method, path, raw, {"Content-Type": "application/json"} if raw else {}, token)


async def test_every_route_asks_a_scope_for_the_right_it_needs(program: Program) -> None:
    run = await program.run(S.RUNNING)
    of_task = await program.ask("POST", f"/actor-tasks/{TASK_ID}/runs")
    webhook = await program.ask("POST", "/webhooks", BODIES["webhooks_post"])
    names = {"datasetId": "datasets", "storeId": "key-value-stores", "queueId": "request-queues"}
    builds = await program.ask("GET", f"/actors/{ACTOR_ID}/builds")
    values = {
        **{name: (await program.ask("POST", f"/{kind}"))["id"] for name, kind in names.items()},
        "actorId": ACTOR_ID,
        "actorTaskId": TASK_ID,
        "runId": run.id,
        "buildOrRunId": run.id,
        "buildId": builds["items"][0]["id"],
        "scheduleId": (await program.ask("POST", "/schedules"))["id"],
        "webhookId": webhook["id"],
        "dispatchId": (await program.ask("POST", f"/webhooks/{webhook['id']}/test"))["id"],
        "versionNumber": "0.1",
        "envVarName": "X",
        "userId": "jane",
        "recordKey": "k",
        "requestId": REQUEST_ID,
        "tokenId": "x" * 17,
    }
    assert of_task["id"]
    nothing, tokens = await token_of(program, {}), dict[str, str]()
    routes = sorted(program.platform.api.router.routes, key=lambda route: route.method == "DELETE")
    assert len(routes) > 230
    for route in routes:
        if needs_of(route.operation_id) != {}:
            refused = await call(program, nothing, route, values)
            assert refused.status == 403, (route.operation_id, refused.status, refused.body)
            assert route.method == "HEAD" or error(refused) == REFUSED, route.operation_id
    for route in routes:
        needs = needs_of(route.operation_id)
        if needs is None or "_runSync" in route.operation_id:
            continue  # those wait for a run that nothing starts here
        key = json.dumps(needs)
        if key not in tokens:
            tokens[key] = await token_of(program, {"account": needs})
        allowed = await call(program, tokens[key], route, values)
        assert allowed.status < 500, (route.operation_id, allowed.body)
        assert b"token-not-provided" not in allowed.body, (route.operation_id, allowed.body)
        if route.operation_id != "PostChargeRun":  # which is for the run itself alone
            assert b"insufficient-permissions" not in allowed.body, (route.operation_id, allowed.body)
            assert route.method != "HEAD" or allowed.status != 403, route.operation_id


async def test_rights_of_single_resources(program: Program) -> None:
    mine = (await program.ask("POST", "/datasets?name=mine"))["id"]
    other = (await program.ask("POST", "/datasets?name=other"))["id"]
    for reference in (mine, "~mine", "jane~mine"):
        reads = await token_of(program, {"resources": [{"type": "datasets", "id": reference, "permissions": ["READ"]}]})
    for path in (mine, "~mine", "jane~mine"):
        assert (await send(program, reads, "GET", f"/datasets/{path}/items")).status == 200
        assert error(await send(program, reads, "POST", f"/datasets/{path}/items", {"n": 1})) == REFUSED
    for path in (other, "~other"):
        assert error(await send(program, reads, "GET", f"/datasets/{path}/items")) == REFUSED
    assert error(await send(program, reads, "GET", "/datasets")) == REFUSED
    assert error(await send(program, reads, "GET", "/datasets/nothing")) == (404, "record-not-found")
    assert (await ask(program, reads, "POST", "/datasets?name=Mine"))["id"] == mine, "it may be read"
    assert error(await send(program, reads, "POST", "/datasets?name=other")) == REFUSED
    assert error(await send(program, reads, "POST", "/datasets")) == REFUSED
    writes = await token_of(program, {"resources": [{"type": "datasets", "id": mine, "permissions": ["WRITE"]}]})
    assert (await send(program, writes, "POST", f"/datasets/{mine}/items", {"n": 1})).status == 201
    assert await program.ask("GET", f"/datasets/{mine}/items") == [{"n": 1}]


async def test_what_anybody_may_read_a_token_may_read_too(program: Program) -> None:
    shared = (await program.ask("POST", "/datasets?name=shared"))["id"]
    of_john = (await program.ask("POST", "/datasets?name=shared", by="john"))["id"]
    token = await token_of(program, {})
    for dataset, owner in ((shared, "jane"), (of_john, "john")):
        assert (await send(program, token, "GET", f"/datasets/{dataset}")).status in (403, 404)
        await program.ask("PUT", f"/datasets/{dataset}", {"generalAccess": "ANYONE_WITH_ID_CAN_READ"}, by=owner)
        got = await ask(program, token, "GET", f"/datasets/{dataset}")
        assert "urlSigningSecretKey" not in got or got["urlSigningSecretKey"] is None
        assert error(await send(program, token, "POST", f"/datasets/{dataset}/items", {"n": 1})) == REFUSED
    public = await add_actor(program, "public", owner="john", isPublic=True)
    assert (await send(program, token, "GET", f"/actors/{public}")).status == 200
    assert error(await send(program, token, "POST", f"/actors/{public}/runs")) == REFUSED


async def test_a_token_may_use_what_it_creates(program: Program) -> None:
    token = await token_of(program, {"account": {"datasets": ["CREATE"], "tasks": ["CREATE"], "schedules": ["CREATE"]}})
    made = await ask(program, token, "POST", "/datasets?name=made")
    assert (await send(program, token, "POST", f"/datasets/{made['id']}/items", {"n": 1})).status == 201
    assert (await ask(program, token, "POST", "/datasets?name=made"))["id"] == made["id"]
    task = await ask(program, token, "POST", "/actor-tasks", {"actId": ACTOR_ID, "name": "made"})
    await ask(program, token, "PUT", f"/actor-tasks/{task['id']}", {"title": "x"})
    schedule = await ask(program, token, "POST", "/schedules", {"name": "made"})
    await ask(program, token, "PUT", "/schedules/~made", {"isEnabled": False})
    other = await token_of(program, {"account": {"datasets": ["CREATE"]}})
    for path in (f"/datasets/{made['id']}", f"/actor-tasks/{task['id']}", f"/schedules/{schedule['id']}"):
        assert error(await send(program, other, "GET", path)) == REFUSED
        assert (await send(program, token, "DELETE", path)).status == 204
    theirs = await program.ask("POST", "/datasets?name=theirs")
    assert error(await send(program, token, "POST", "/datasets?name=theirs")) == REFUSED
    assert error(await send(program, token, "GET", f"/datasets/{theirs['id']}")) == REFUSED


async def started(program: Program, token: str, **asked: Any) -> Run:
    run = await ask(program, token, "POST", f"/actors/{ACTOR_ID}/runs", asked or None)
    return await program.platform.runs.get(program.people["jane"], run["id"])


async def test_a_token_and_the_runs_it_starts(program: Program) -> None:
    token = await token_of(program, {"account": {"actors": ["RUN"]}})
    other = await program.run(S.RUNNING)
    run = await started(program, token)
    for path in (f"/actor-runs/{run.id}", f"/datasets/{run.default_dataset_id}", f"/actor-runs/{run.id}/dataset/items"):
        assert (await send(program, token, "GET", path)).status == 200, path
    assert (await send(program, token, "POST", f"/actor-runs/{run.id}/abort")).status == 200
    for path in (f"/actor-runs/{other.id}", f"/datasets/{other.default_dataset_id}", f"/logs/{other.id}"):
        assert error(await send(program, token, "GET", path)) == REFUSED, path
    assert error(await send(program, token, "POST", f"/actor-runs/{other.id}/abort")) == REFUSED
    views = await token_of(program, {"account": {"actors": ["VIEW_RUNS"]}})
    assert (await send(program, views, "GET", f"/datasets/{other.default_dataset_id}")).status == 200
    assert error(await send(program, views, "POST", f"/datasets/{other.default_dataset_id}/items", {"n": 1})) == REFUSED
    bare = await token_of(program, {"account": {"actors": ["VIEW_RUNS"]}, "runStorages": False})
    assert (await send(program, bare, "GET", f"/actor-runs/{other.id}")).status == 200
    for path in (f"/datasets/{other.default_dataset_id}", f"/actor-runs/{other.id}/dataset/items"):
        assert error(await send(program, bare, "GET", path)) == REFUSED
    # A run that was started with full access may do all that its user may.
    assert (await program.send("GET", "/datasets", by=run)).status == 200


async def test_runs_of_a_restricted_token_have_its_scope(program: Program) -> None:
    secret = await program.ask("POST", "/datasets?name=secret")
    scope = {"account": {"actors": ["RUN"], "datasets": ["CREATE"]}, "runAccess": "RESTRICTED"}
    token = await token_of(program, scope)
    run = await started(program, token)
    child = (await program.ask("POST", f"/actors/{ACTOR_ID}/runs", by=run))["id"]
    child_run = await program.platform.runs.get(program.people["jane"], child)
    for by in (run, child_run):
        assert error(await program.send("GET", f"/datasets/{secret['id']}", by=by)) == REFUSED
        assert error(await program.send("GET", "/actor-runs", by=by)) == REFUSED
        await program.ask("POST", f"/datasets/{by.default_dataset_id}/items", {"n": 1}, by=by)
        await program.ask("PUT", f"/actor-runs/{by.id}", {"statusMessage": "x"}, by=by)
        made = await program.ask("POST", "/datasets", by=by)
        assert (await send(program, token, "GET", f"/datasets/{made['id']}")).status == 200
    free = await program.run(S.SUCCEEDED)
    both = await token_of(program, {**scope, "account": {"actors": ["RUN", "VIEW_RUNS"]}})
    resurrect = f"/actor-runs/{free.id}/resurrect"
    assert error(await send(program, both, "POST", resurrect)) == REFUSED, "its token could do more"
    unbound = await token_of(program, {"account": {"actors": ["RUN", "VIEW_RUNS"]}})
    assert (await send(program, unbound, "POST", resurrect)).status == 200
    place = f"/actorium/standby/{ACTOR_ID}/"
    await program.ask("PUT", f"/actors/{ACTOR_ID}", {"actorStandby": {"isEnabled": True}})
    refused = await program.request("GET", place, None, {}, token)
    assert refused.status == 403, refused.body


async def test_schedules_and_webhooks_reach_no_further_than_their_maker(program: Program) -> None:
    other = await add_actor(program, "other")
    scope = {
        "account": {"schedules": ["CREATE"], "webhooks": ["CREATE"]},
        "resources": [{"type": "actors", "id": ACTOR_ID, "permissions": ["RUN", "VIEW_RUNS"]}],
    }
    token = await token_of(program, scope)

    def actions(actor: str) -> dict[str, Any]:
        return {"actions": [{"type": "RUN_ACTOR", "actorId": actor}]}

    schedule = await ask(program, token, "POST", "/schedules", actions(ACTOR_ID))
    assert error(await send(program, token, "POST", "/schedules", actions(other))) == REFUSED
    assert error(await send(program, token, "PUT", f"/schedules/{schedule['id']}", actions(other))) == REFUSED
    task = {"actions": [{"type": "RUN_ACTOR_TASK", "actorTaskId": TASK_ID}]}
    assert error(await send(program, token, "POST", "/schedules", task)) == REFUSED
    restricted = await token_of(program, {**scope, "runAccess": "RESTRICTED"})
    assert error(await send(program, restricted, "POST", "/schedules", actions(ACTOR_ID))) == REFUSED
    webhook = await ask(program, token, "POST", "/webhooks", BODIES["webhooks_post"])
    for condition in ({"actorId": other}, {"actorTaskId": TASK_ID}):
        body = {**BODIES["webhooks_post"], "condition": condition}
        assert error(await send(program, token, "POST", "/webhooks", body)) == REFUSED
    # What is sent to this server in the webhook's name has the scope, and ends with the token.
    delivery = program.platform.delivery
    made = await program.platform.webhooks.get(program.people["jane"], webhook["id"])
    scoped_token_id = await delivery._scoped_token_of(made)
    by_webhook = program.platform.access.user_token(made.user_id, scoped_token_id)
    assert (await send(program, by_webhook, "GET", f"/actors/{ACTOR_ID}")).status == 200
    assert error(await send(program, by_webhook, "GET", f"/actors/{other}")) == REFUSED
    assert (await program.request("GET", "/actorium/tokens", token=by_webhook)).status == 403
    await program.platform.accounts.revoke_token(token)
    program.platform.access.forget()
    assert (await send(program, by_webhook, "GET", f"/actors/{ACTOR_ID}")).status == 401


async def test_a_rotated_token_keeps_its_scope_and_what_it_made(program: Program) -> None:
    old = await token_of(program, {"account": {"datasets": ["CREATE"]}})
    made = await ask(program, old, "POST", "/datasets")
    tokens = json.loads((await program.request("GET", "/actorium/tokens", token=program.token("jane"))).body)["data"]
    token_id = next(one["id"] for one in tokens["items"] if one["name"] == "scoped")
    rotate = f"/actorium/tokens/{token_id}/rotate"
    assert (await program.request("POST", rotate, token=program.token("john"))).status == 404
    rotated = await program.request("POST", rotate, token=program.token("jane"))
    new = json.loads(rotated.body)["data"]
    assert new["scope"]["account"] == {"datasets": ["CREATE"]}
    assert (await send(program, new["token"], "GET", f"/datasets/{made['id']}")).status == 200
    assert error(await send(program, new["token"], "GET", "/datasets")) == REFUSED


async def test_managing_tokens(program: Program) -> None:
    jane = program.token("jane")
    answer = await program.request(
        "POST",
        "/actorium/tokens",
        json.dumps({"name": "ci", "expiresAt": "2100-01-31T12:00:00.000Z"}).encode(),
        {"Content-Type": "application/json"},
        jane,
    )
    made = json.loads(answer.body)["data"]
    assert (made["name"], made["expiresAt"], made["scope"]) == ("ci", "2100-01-31T12:00:00.000Z", None)
    assert (await send(program, made["token"], "GET", "/users/me")).status == 200
    listed = await program.request("GET", "/actorium/tokens", token=jane)
    assert made["token"].encode() not in listed.body
    assert {one["name"] for one in json.loads(listed.body)["data"]["items"]} == {"tests", "ci"}
    assert (
        await program.request("DELETE", f"/actorium/tokens/{made['id']}", token=program.token("john"))
    ).status == 404
    assert (await program.request("DELETE", f"/actorium/tokens/{made['id']}", token=jane)).status == 204
    program.platform.access.forget()
    assert (await send(program, made["token"], "GET", "/users/me")).status == 401
    run = await program.run(S.RUNNING)
    by_run = await program.request("GET", "/actorium/tokens", token=program.token(run))
    assert error(by_run) == REFUSED, "a run makes no tokens that outlive it"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": ""}, "name"),
        ({"name": "x", "scopes": {}}, "scopes"),
        ({"name": "x", "expiresAt": "soon"}, "expiresAt"),
        ({"name": "x", "expiresAt": "2001-01-01T00:00:00Z"}, "future"),
        ({"name": "x", "scope": []}, "scope"),
        ({"name": "x", "scope": {"account": {"actors": ["WRITE"]}}}, "scope.account.actors"),
        ({"name": "x", "scope": {"account": {"things": []}}}, "things"),
        ({"name": "x", "scope": {"runAccess": "SOME"}}, "scope.runAccess"),
        ({"name": "x", "scope": {"runStorages": 1}}, "scope.runStorages"),
        ({"name": "x", "scope": {"resources": [{"type": "datasets", "permissions": ["READ"]}]}}, "resources[0].id"),
        ({"name": "x", "scope": {"resources": [{"type": "account", "id": "x", "permissions": ["READ"]}]}}, "account"),
        ({"name": "x", "scope": {"resources": [{"type": "tasks", "id": "x", "permissions": ["CREATE"]}]}}, "CREATE"),
    ],
)
async def test_wrong_tokens_are_refused_by_name(program: Program, body: dict[str, Any], said: str) -> None:
    answer = await program.request(
        "POST",
        "/actorium/tokens",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        program.token("jane"),
    )
    assert error(answer) == (400, "invalid-request")
    assert said in message(answer)
