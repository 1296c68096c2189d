"""Abort over the API: every row of its tables. docs: runs, section 3."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from support.live_program import LiveProgram
from support.openapi import given_document
from support.program import ACTOR_ID
from support.storage_server import error


async def abort(live: LiveProgram, run: dict[str, Any], query: str = "") -> dict[str, Any]:
    answer: dict[str, Any] = await live.ask("POST", f"/actor-runs/{run['id']}/abort{query}")
    return answer


@pytest.mark.parametrize("value", ["gracefully=1", "gracefully=true", "gracefully", "gracefully="])
async def test_every_spelling_of_gracefully(live: LiveProgram, value: str) -> None:
    run, process = await live.running()
    assert (await abort(live, run, f"?{value}"))["status"] == "ABORTING"
    await live.settle(lambda: live.events.names(run["id"]) == ["aborting", "persistState"])
    assert [data for _, _, data in live.events.sent] == [{}, {"isMigrating": False}]
    live.clock.advance(29.9)
    await live.quiet()
    assert process.signals == []
    live.clock.advance(0.1)
    assert (await live.ended(run))["status"] == "ABORTED"


@pytest.mark.parametrize("value", ["", "?gracefully=0", "?gracefully=false"])
async def test_at_once(live: LiveProgram, value: str) -> None:
    run, process = await live.running()
    assert (await abort(live, run, value))["status"] in ("ABORTING", "ABORTED")
    done = await live.ended(run)
    assert (done["status"], process.signals, live.events.sent) == ("ABORTED", ["KILL"], [])


async def test_a_wrong_flag_aborts_nothing(live: LiveProgram) -> None:
    run, process = await live.running()
    assert error(await live.send("POST", f"/actor-runs/{run['id']}/abort?gracefully=maybe")) == (400, "invalid-request")
    await live.quiet()
    assert process.signals == []


@pytest.mark.parametrize(
    ("first", "second", "signals"),
    [
        ("?gracefully=1", "?gracefully=1", []),
        ("?gracefully=1", "", ["KILL"]),
        ("", "?gracefully=1", ["KILL"]),
    ],
)
async def test_second_calls(live: LiveProgram, first: str, second: str, signals: list[str]) -> None:
    """The command line relies on it: the second Ctrl-C is immediate."""
    run, process = await live.running()
    await abort(live, run, first)
    live.clock.advance(20)
    await abort(live, run, second)
    await live.quiet()
    assert process.signals == signals
    live.clock.advance(10)
    assert (await live.ended(run))["status"] == "ABORTED"


async def test_a_finished_run_is_200_and_unchanged(live: LiveProgram) -> None:
    run, process = await live.running()
    live.runtime.end(process, code=2)
    done = await live.ended(run)
    assert await abort(live, run) == done
    assert await abort(live, run, "?gracefully=1") == done


async def test_unknown_and_foreign_runs(live: LiveProgram) -> None:
    run, _ = await live.running()
    unknown = await live.send("POST", f"/actor-runs/{'x' * 17}/abort")
    assert error(unknown) == (404, "record-not-found")
    assert json.loads(unknown.body)["error"]["message"] == "Actor run was not found"
    assert error(await live.send("POST", f"/actor-runs/{run['id']}/abort", by="john")) == (404, "record-not-found")
    other = await live.ask("POST", "/actors", {"name": "other"})
    of_other = await live.send("POST", f"/actors/{other['id']}/runs/{run['id']}/abort")
    assert error(of_other) == (404, "record-not-found"), "it must belong to the Actor"


async def test_every_route(live: LiveProgram) -> None:
    document = given_document()
    task = await live.ask("POST", "/actor-tasks", {"actId": ACTOR_ID, "name": "aborts"})
    for path, operation in (
        ("/actor-runs/{id}", "actorRun_abort_post"),
        (f"/actors/{ACTOR_ID}/runs/{{id}}", "actors_run_abort_post"),
        (f"/acts/{ACTOR_ID}/runs/last", "actor_runs_last_abort_post"),
        (f"/actor-tasks/{task['id']}/runs/last", "actorTask_runs_last_abort_post"),
    ):
        live.clock.advance(1)
        run = await live.ask("POST", f"/actor-tasks/{task['id']}/runs?memory=128")
        await live.process_of(run)
        answer = await live.send("POST", f"{path.format(id=run['id'])}/abort")
        assert document.problems(operation, answer) == []
        assert json.loads(answer.body)["data"]["id"] == run["id"]
        assert (await live.ended(run))["status"] == "ABORTED"


async def test_the_run_may_use_its_token_until_its_process_is_gone(live: LiveProgram) -> None:
    run, process = await live.running()
    await abort(live, run, "?gracefully=1")
    token = process.spec.env["APIFY_TOKEN"]
    body = b'{"statusMessage": "saving"}'
    headers = {"Content-Type": "application/json"}
    answer = await live.request("PUT", f"/v2/actor-runs/{run['id']}", body, headers, token)
    assert (answer.status, json.loads(answer.body)["data"]["statusMessage"]) == (200, "saving")
    live.runtime.end(process, code=0)
    done = await live.ended(run)
    assert (done["status"], done["statusMessage"]) == ("ABORTED", "saving")


async def test_many_at_once(live: LiveProgram) -> None:
    run, _ = await live.running()
    path = f"/actor-runs/{run['id']}/abort"
    answers = await asyncio.gather(*(live.send("POST", path + query) for query in ("", "?gracefully=1") * 5))
    assert {answer.status for answer in answers} == {200}
    assert (await live.ended(run))["status"] == "ABORTED"
