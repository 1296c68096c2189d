"""Reading runs: one, the last, lists. docs: runs, section 4.3."""

from __future__ import annotations

import json

import pytest

from support.live_program import LiveProgram
from support.openapi import given_document
from support.program import ACTOR_ID
from support.storage_server import error

RUNS = f"/actors/{ACTOR_ID}/runs"


async def test_lists_are_paged_and_sorted_by_start(live: LiveProgram) -> None:
    document = given_document()
    ids = []
    for _ in range(5):
        live.clock.advance(1)
        ids.append((await live.begin("memory=128"))["id"])
    for path, operation in (("/actor-runs", "actorRuns_get"), (RUNS, "actors_runs_get")):
        answer = await live.send("GET", f"{path}?offset=1&limit=3")
        assert document.problems(operation, answer) == []
        page = json.loads(answer.body)["data"]
        assert [item["id"] for item in page["items"]] == ids[1:4]
        assert (page["total"], page["offset"], page["limit"], page["count"], page["desc"]) == (5, 1, 3, 3, False)
        assert all(isinstance(item["usageTotalUsd"], int | float) for item in page["items"])
        newest = await live.ask("GET", f"{path}?desc=1&limit=1")
        assert [item["id"] for item in newest["items"]] == [ids[-1]]
    assert (await live.ask("GET", "/actor-runs", by="john"))["total"] == 0


async def test_filters(live: LiveProgram) -> None:
    first, process = await live.running("memory=128")
    live.runtime.end(process, code=1)
    await live.ended(first)
    live.clock.advance(10)
    second, _ = await live.running("memory=128")
    for query, expected in (
        ("status=FAILED", [first]),
        ("status=FAILED,RUNNING", [first, second]),
        ("status=READY", []),
        (f"startedAfter={second['startedAt']}", [second]),
        (f"startedBefore={first['startedAt']}", [first]),
    ):
        found = await live.ask("GET", f"{RUNS}?{query}")
        assert [item["id"] for item in found["items"]] == [run["id"] for run in expected], query
    for query in ("status=DONE", "startedAfter=soon", "offset=-1", "limit=x", "desc=maybe"):
        assert error(await live.send("GET", f"{RUNS}?{query}")) == (400, "invalid-request"), query


async def test_the_last_run_includes_waiting_ones_and_fits_the_filters(live: LiveProgram) -> None:
    last = f"{RUNS}/last"
    assert error(await live.send("GET", last)) == (404, "record-not-found")
    first, process = await live.running("memory=128")
    live.runtime.end(process, code=1)
    await live.ended(first)
    live.clock.advance(1)
    await live.platform.supervisor.stop()
    waiting = await live.begin("memory=128")
    assert (await live.ask("GET", last))["id"] == waiting["id"]
    assert (await live.ask("GET", f"{last}?status=FAILED&origin=API"))["id"] == first["id"]
    for query, message in (
        ("status=FAILED,READY", "Status parameter has an invalid value"),
        ("origin=HOME", "Origin parameter has an invalid value"),
    ):
        refused = await live.send("GET", f"{last}?{query}")
        assert error(refused) == (400, "invalid-request")
        assert json.loads(refused.body)["error"]["message"] == message
    assert error(await live.send("GET", last, by=None)) == (401, "token-not-provided")


async def test_the_log_of_the_last_run(live: LiveProgram) -> None:
    run, process = await live.running()
    live.runtime.write(process, b"hello\n")
    live.runtime.end(process, code=0)
    await live.ended(run)
    answer = await live.send("GET", f"{RUNS}/last/log?status=SUCCEEDED")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.body.endswith(b"Z hello\n")
    assert error(await live.send("GET", f"{RUNS}/last/log?status=FAILED")) == (404, "record-not-found")


@pytest.mark.parametrize(
    "path", ["/actor-runs/{id}", f"/actors/{ACTOR_ID}/runs/{{id}}", "/acts/jane~counter/runs/{id}"]
)
async def test_one_run_by_every_path(live: LiveProgram, path: str) -> None:
    run, _ = await live.running()
    answer = await live.send("GET", path.format(id=run["id"]))
    operation = "actorRun_get" if path.startswith("/actor-runs") else "actors_run_get"
    assert given_document().problems(operation, answer) == []
    assert error(await live.send("GET", path.format(id="x" * 17))) == (404, "record-not-found")
    assert error(await live.send("GET", path.format(id=run["id"]), by="john")) == (404, "record-not-found")
