"""The audit log: every change of a resource has its entry, in the change's own transaction."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from actorium.domain.audit import ACTIONS
from actorium.domain.models import JobStatus
from support.actors import add_actor
from support.program import ACTOR_ID, TASK_ID, Program
from support.storage_server import error

DAY_SECS = 24 * 3600
WEBHOOK = {
    "eventTypes": ["ACTOR.RUN.SUCCEEDED"],
    "requestUrl": "http://a.example",
    "condition": {"actorId": ACTOR_ID},
}
ONLY_COMMANDS = {"user.create", "user.delete", "user.set-role"}
"""What no route does: see test_accounts_of_the_command_line."""


async def entries(program: Program, query: str = "", by: str = "jane") -> list[dict[str, Any]]:
    answer = await program.request("GET", f"/actorium/audit-log?{query}", token=program.token(by))
    assert answer.status == 200, answer.body
    items: list[dict[str, Any]] = json.loads(answer.body)["data"]["items"]
    return items


async def newest(program: Program) -> tuple[str, str, str]:
    entry = (await entries(program, "limit=1"))[0]
    return entry["action"], entry["resourceId"], entry["outcome"]


async def test_every_change_has_its_entry(program: Program) -> None:
    seen = set()

    async def does(action: str, method: str, path: str, body: Any = None, resource: str | None = None) -> Any:
        program.clock.advance(1)
        answer = await program.request(
            method,
            path if path.startswith("/actorium") else f"/v2{path}",
            None if body is None else json.dumps(body).encode(),
            {} if body is None else {"Content-Type": "application/json"},
            program.token("jane"),
        )
        assert answer.status < 300, (action, answer.body)
        found = json.loads(answer.body) if answer.body else {}
        made = found.get("data", found)
        last = await newest(program)
        assert last == (action, resource or made["id"], "success")
        seen.add(action)
        return made

    actor = await does("actor.create", "POST", "/actors", {"name": "made"})
    path = f"/actors/{actor['id']}"
    await does("actor.update", "PUT", "/actors/~made", {"title": "x"}, resource=actor["id"])
    version = {"versionNumber": "0.1", "sourceType": "SOURCE_FILES", "sourceFiles": []}
    await does("actor.change-version", "POST", f"{path}/versions", version, resource=actor["id"])
    build = await does("build.start", "POST", f"{path}/builds?version=0.1")
    await does("build.abort", "POST", f"/actor-builds/{build['id']}/abort")
    await does("build.delete", "DELETE", f"/actor-builds/{build['id']}", resource=build["id"])
    await does("actor.delete", "DELETE", "/actors/~made", resource=actor["id"])
    full = await add_actor(program, "full", owner="john", isPublic=True)
    approval = f"/actorium/actors/{full}/approve-full-permissions"
    await does("actor.approve", "POST", approval, resource=full)
    await does("actor.withdraw-approval", "DELETE", approval, resource=full)
    run = await does("run.start", "POST", f"/actors/{ACTOR_ID}/runs")
    await does("run.update", "PUT", f"/actor-runs/{run['id']}", {"generalAccess": "RESTRICTED"})
    metamorph = f"/actor-runs/{run['id']}/metamorph?targetActorId={ACTOR_ID}"
    await does("run.metamorph", "POST", metamorph)
    await does("run.reboot", "POST", f"/actor-runs/{run['id']}/reboot")
    await does("run.migrate", "POST", f"/actorium/runs/{run['id']}/migrate")
    await does("run.abort", "POST", f"/actor-runs/{run['id']}/abort")
    await does("run.resurrect", "POST", f"/actor-runs/{run['id']}/resurrect")
    await does("run.abort", "POST", f"/actors/{ACTOR_ID}/runs/last/abort")
    await does("run.delete", "DELETE", f"/actor-runs/{run['id']}", resource=run["id"])
    await does("run.start", "POST", f"/actor-tasks/{TASK_ID}/runs")
    task = await does("task.create", "POST", "/actor-tasks", {"actId": ACTOR_ID, "name": "tsk"})
    await does("task.update", "PUT", f"/actor-tasks/{task['id']}/input", {"n": 1}, resource=task["id"])
    await does("task.delete", "DELETE", "/actor-tasks/~tsk", resource=task["id"])
    schedule = await does("schedule.create", "POST", "/schedules", {"name": "sch"})
    await does("schedule.update", "PUT", "/schedules/~sch", {"title": "x"}, resource=schedule["id"])
    await does("schedule.invoke", "POST", "/schedules/~sch/invoke", resource=schedule["id"])
    await does("schedule.delete", "DELETE", "/schedules/~sch", resource=schedule["id"])
    webhook = await does("webhook.create", "POST", "/webhooks", WEBHOOK)
    await does("webhook.update", "PUT", f"/webhooks/{webhook['id']}", {"isEnabled": False})
    await does("dispatch.test", "POST", f"/webhooks/{webhook['id']}/test")
    await does("webhook.delete", "DELETE", f"/webhooks/{webhook['id']}", resource=webhook["id"])
    for kind, noun in (
        ("datasets", "dataset"),
        ("key-value-stores", "key-value-store"),
        ("request-queues", "request-queue"),
    ):
        made = await does(f"{noun}.create", "POST", f"/{kind}?name=n")
        await does(f"{noun}.update", "PUT", f"/{kind}/~n", {"name": "m"}, resource=made["id"])
        await does(f"{noun}.delete", "DELETE", f"/{kind}/~m", resource=made["id"])
    jane = program.people["jane"].user_id
    await does("user.set-limits", "PUT", "/users/me/limits", {"dataRetentionDays": 9}, resource=jane)
    token = await does("token.create", "POST", "/actorium/tokens", {"name": "x"})
    rotated = await does("token.rotate", "POST", f"/actorium/tokens/{token['id']}/rotate")
    await does("token.revoke", "DELETE", f"/actorium/tokens/{rotated['id']}", resource=rotated["id"])
    assert seen == {action.name for action in ACTIONS.values()} - ONLY_COMMANDS


async def test_what_an_entry_tells(program: Program) -> None:
    made = await program.send("POST", "/datasets?name=one", headers={"User-Agent": "curl/8 " + "x" * 600})
    dataset_id = json.loads(made.body)["data"]["id"]
    (entry,) = await entries(program)
    assert entry["at"].endswith("Z")
    assert len(entry["userAgent"]) == 500
    jane = program.people["jane"]
    assert {name: value for name, value in entry.items() if name not in ("id", "at", "userAgent")} == {
        "userId": jane.user_id,
        "username": "jane",
        "tokenId": jane.token_id,
        "runId": None,
        "operation": "datasets_post",
        "action": "dataset.create",
        "resourceType": "dataset",
        "resourceId": dataset_id,
        "outcome": "success",
        "clientIp": "127.0.0.1",
    }
    run = await program.run(JobStatus.RUNNING)
    child = await program.ask("POST", f"/actors/{ACTOR_ID}/runs", by=run)
    (by_run,) = await entries(program, f"runId={run.id}")
    assert (by_run["action"], by_run["resourceId"]) == ("run.start", child["id"])


async def test_contents_and_what_changes_nothing_are_not_logged(program: Program) -> None:
    dataset = (await program.ask("POST", "/datasets?name=one"))["id"]
    store = (await program.ask("POST", "/key-value-stores"))["id"]
    queue = (await program.ask("POST", "/request-queues"))["id"]
    before = await entries(program)
    await program.ask("POST", "/datasets?name=one")
    await program.ask("POST", f"/datasets/{dataset}/items", {"n": 1})
    await program.ask("PUT", f"/key-value-stores/{store}/records/k", {"n": 1})
    await program.ask("POST", f"/request-queues/{queue}/requests", {"url": "http://a.example", "uniqueKey": "a"})
    run = await program.run(JobStatus.RUNNING)
    await program.ask("PUT", f"/actor-runs/{run.id}", {"statusMessage": "x"}, by=run)
    await program.ask("GET", "/datasets")
    assert await entries(program) == before


async def test_what_was_refused_or_failed_is_logged(program: Program) -> None:
    await program.ask("POST", "/datasets?name=one")
    two = await program.ask("POST", "/datasets?name=two")
    program.clock.advance(1)
    taken = await program.send("PUT", f"/datasets/{two['id']}", {"name": "one"})
    assert taken.status == 409
    assert await newest(program) == ("dataset.update", two["id"], "name-not-unique")
    run = await program.run(JobStatus.RUNNING)
    program.clock.advance(1)
    assert (await program.send("DELETE", f"/actor-runs/{run.id}")).status == 400
    assert await newest(program) == ("run.delete", run.id, "cannot-remove-running-run")
    await program.ask("PUT", f"/actors/{ACTOR_ID}", {"actorPermissionLevel": "LIMITED_PERMISSIONS"})
    limited = await program.run(JobStatus.RUNNING)
    program.clock.advance(1)
    assert (await program.send("DELETE", f"/actors/{ACTOR_ID}", by=limited)).status == 403
    assert await newest(program) == ("call.refuse", ACTOR_ID, "insufficient-permissions")
    (refusal,) = await entries(program, "outcome=insufficient-permissions")
    assert (refusal["operation"], refusal["runId"]) == ("actor_delete", limited.id)


async def test_a_change_that_is_not_committed_has_no_entry(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry is part of the transaction: without it the change does not happen either."""

    async def fail(*_: object) -> None:
        raise OSError("no entry")

    monkeypatch.setattr("actorium.storage.audit_log.insert", fail)
    assert (await program.send("POST", "/datasets?name=one")).status == 500
    monkeypatch.undo()
    assert (await program.ask("GET", "/datasets"))["total"] == 0
    assert await entries(program) == []


async def test_filters_pages_and_who_sees_what(program: Program) -> None:
    for name in "abc":
        program.clock.advance(60)
        await program.ask("POST", f"/datasets?name={name}")
    of_john = await program.ask("POST", "/datasets?name=j", by="john")
    found = await entries(program)
    assert [one["username"] for one in found] == ["jane"] * 3
    middle = found[1]
    assert await entries(program, f"resourceId={middle['resourceId']}") == [middle]
    assert await entries(program, f"after={middle['at']}&before={found[0]['at']}") == [middle]
    assert await entries(program, "action=run.start") == []
    pages, cursor = [], ""
    for _ in range(2):
        answer = await program.request("GET", f"/actorium/audit-log?limit=2{cursor}", token=program.token("jane"))
        page = json.loads(answer.body)["data"]
        pages += page["items"]
        cursor = f"&cursor={page['nextCursor']}"
    assert pages == found
    assert page["nextCursor"] is None
    john = program.people["john"].user_id
    by_jane = await program.request("GET", f"/actorium/audit-log?userId={john}", token=program.token("jane"))
    assert error(by_jane) == (403, "insufficient-permissions")
    for wrong in ("format=xml", "cursor=x", "after=soon"):
        answer = await program.request("GET", f"/actorium/audit-log?{wrong}", token=program.token("jane"))
        assert error(answer) == (400, "invalid-request"), wrong
    await program.platform.accounts.set_role("jane", "ADMIN")
    assert [one["resourceId"] for one in await entries(program, f"userId={john}")] == [of_john["id"]]
    assert len(await entries(program)) == 4


async def test_export(program: Program) -> None:
    for name in ("a", "b"):
        await program.ask("POST", f"/datasets?name={name}", by="jane")
    await program.send("PUT", "/datasets/~a", {"title": "x"}, headers={"User-Agent": "=cmd()"})
    jane = program.token("jane")
    lines = (await program.request("GET", "/actorium/audit-log?format=jsonl", token=jane)).body.splitlines()
    shown = await entries(program)
    assert [json.loads(line) for line in lines] == shown
    answer = await program.request("GET", "/actorium/audit-log?format=csv", token=jane)
    assert answer.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [row["resourceId"] for row in rows] == [one["resourceId"] for one in shown]
    assert "'=cmd()" in {row["userAgent"] for row in rows}, "no formula for a spreadsheet"


async def test_old_entries_go(tmp_path: Path, database_url: str) -> None:
    program = Program(tmp_path / "data", database_url, audit_log_days=2)
    await program.start()
    await program.ask("POST", "/datasets?name=old")
    program.clock.advance(DAY_SECS)
    new = await program.ask("POST", "/datasets?name=new")
    program.clock.advance(DAY_SECS + 1)
    await program.platform.audit_log.clean_up()
    assert [one["resourceId"] for one in await entries(program)] == [new["id"]]
    await program.stop()
