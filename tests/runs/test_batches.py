"""Aborting and resurrecting many runs with one call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.live_program import LiveProgram
from support.program import ACTOR_ID
from support.storage_server import Answer, error


async def post(live: LiveProgram, verb: str, body: Any, by: str | None = "jane") -> Answer:
    raw = json.dumps(body).encode()
    return await live.request(
        "POST", f"/actorium/runs/{verb}", raw, {"Content-Type": "application/json"}, live.token(by)
    )


async def done(live: LiveProgram, verb: str, body: Any) -> dict[str, str | None]:
    """What became of each run."""
    answer = await post(live, verb, body)
    assert answer.status == 200, answer.body
    found = json.loads(answer.body)["data"]
    assert found["count"] == len(found["items"])
    assert found["hasMore"] is False
    return {one["id"]: one["error"]["type"] if "error" in one else one["status"] for one in found["items"]}


async def several(live: LiveProgram, count: int = 3) -> list[dict[str, Any]]:
    runs = []
    for _ in range(count):
        live.clock.advance(1)
        run = await live.begin("memory=128")
        runs.append(await live.until(run, lambda now: now["status"] == "RUNNING"))
    return runs


async def test_all_of_an_actor_that_are_not_over_are_aborted(live: LiveProgram) -> None:
    runs = await several(live)
    live.runtime.end(await live.process_of(runs[0]), code=0)
    await live.ended(runs[0])
    found = await done(live, "abort", {"actorId": "jane~counter"})
    assert found == {runs[1]["id"]: "ABORTING", runs[2]["id"]: "ABORTING"}
    assert [(await live.ended(run))["status"] for run in runs] == ["SUCCEEDED", "ABORTED", "ABORTED"]


async def test_gracefully_gives_each_its_window(live: LiveProgram) -> None:
    runs = await several(live, 2)
    await done(live, "abort", {"status": "RUNNING", "gracefully": True})
    for run in runs:
        await live.settle(lambda run=run: live.events.names(run["id"]) == ["aborting", "persistState"])
    await live.quiet()
    live.clock.advance(30)
    for run in runs:
        assert (await live.ended(run))["status"] == "ABORTED"


async def test_every_filter_counts(live: LiveProgram) -> None:
    task = await live.ask("POST", "/actor-tasks", {"actId": ACTOR_ID, "name": "batch"})
    runs = await several(live)
    of_task = await live.ask("POST", f"/actor-tasks/{task['id']}/runs?memory=128")
    await live.until(of_task, lambda now: now["status"] == "RUNNING")
    assert set(await done(live, "abort", {"taskId": task["id"]})) == {of_task["id"]}
    assert set(await done(live, "abort", {"startedBefore": runs[0]["startedAt"]})) == {runs[0]["id"]}
    ids = [runs[1]["id"], runs[2]["id"]]
    assert await done(live, "abort", {"ids": ids, "startedBefore": runs[1]["startedAt"]}) == {ids[0]: "ABORTING"}
    assert await done(live, "abort", {"status": ["READY"]}) == {}
    assert (await live.get(runs[2]))["status"] == "RUNNING"


async def test_each_id_has_its_own_result(live: LiveProgram) -> None:
    (run,) = await several(live, 1)
    live.runtime.end(await live.process_of(run), code=0)
    await live.ended(run)
    nobody = "x" * 17
    assert await done(live, "abort", {"ids": [run["id"], nobody, run["id"]]}) == {
        run["id"]: "SUCCEEDED",
        nobody: "record-not-found",
    }


async def test_what_failed_is_resurrected(live: LiveProgram) -> None:
    runs = await several(live)
    for run, code in zip(runs, (0, 1, 2), strict=True):
        live.runtime.end(await live.process_of(run), code=code)
        await live.ended(run)
    (alive,) = await several(live, 1)
    assert await done(live, "resurrect", {"actorId": ACTOR_ID}) == {runs[1]["id"]: "READY", runs[2]["id"]: "READY"}
    for run in runs[1:]:
        current = await live.until(run, lambda now: now["status"] == "RUNNING")
        assert current["stats"]["resurrectCount"] == 1
    assert await done(live, "resurrect", {"ids": [runs[0]["id"], alive["id"]]}) == {
        runs[0]["id"]: "READY",
        alive["id"]: "invalid-input",
    }


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "ids"),
        ({"ids": []}, "ids"),
        ({"ids": [1]}, "ids"),
        ({"ids": ["x"] * 1001}, "1001"),
        ({"status": "DONE"}, "DONE"),
        ({"startedBefore": "soon"}, "startedBefore"),
        ({"actorid": ACTOR_ID}, "actorid"),
        ({"ids": ["x"], "gracefully": "yes"}, "gracefully"),
        ({"actorId": 5}, "actorId"),
        ([], "object"),
    ],
)
async def test_what_is_not_clear_is_refused(live: LiveProgram, body: Any, names: str) -> None:
    (run,) = await several(live, 1)
    refused = await post(live, "abort", body)
    assert error(refused) == (400, "invalid-request")
    assert names in json.loads(refused.body)["error"]["message"]
    assert (await live.get(run))["status"] == "RUNNING"


async def test_only_own_runs_are_meant(live: LiveProgram) -> None:
    (run,) = await several(live, 1)
    answer = await post(live, "abort", {"status": "RUNNING"}, by="john")
    assert json.loads(answer.body)["data"]["items"] == []
    answer = await post(live, "abort", {"ids": [run["id"]]}, by="john")
    assert json.loads(answer.body)["data"]["items"][0]["error"]["type"] == "record-not-found"
    assert error(await post(live, "abort", {"ids": [run["id"]]}, by=None)) == (401, "token-not-provided")
    assert error(await post(live, "abort", {"actorId": "nobody~nothing"})) == (404, "record-not-found")
    assert (await live.get(run))["status"] == "RUNNING"
