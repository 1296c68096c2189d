"""``Idempotency-Key`` on calls that start a run: the same call again is answered with the same run."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from support.live_program import LiveProgram
from support.program import ACTOR_ID, Program
from support.storage_server import Answer, error

RUNS = f"/actors/{ACTOR_ID}/runs"


async def start(program: Program, key: str, path: str = RUNS, body: Any = None, by: str = "jane") -> Answer:
    return await program.send("POST", path, body, by=by, headers={"Idempotency-Key": key})


def run_id(answer: Answer) -> str:
    assert answer.status == 201, answer.body
    return str(json.loads(answer.body)["data"]["id"])


async def total(program: Program) -> int:
    return int((await program.ask("GET", "/actor-runs"))["total"])


async def test_the_same_call_again_is_the_same_run_over_a_restart(live: LiveProgram) -> None:
    first = await start(live, "key-1", f"{RUNS}?memory=512&timeout=60", {"a": 1})
    again = await start(live, "key-1", f"{RUNS}?timeout=60&memory=512&waitForFinish=0", {"a": 1})
    assert run_id(first) == run_id(again)
    assert first.headers["Location"] == again.headers["Location"]
    process = await live.process_of({"id": run_id(first)})
    live.runtime.end(process, code=0)
    await live.ended({"id": run_id(first)})
    await live.restart()
    last = await start(live, "key-1", f"{RUNS}?memory=512&timeout=60", {"a": 1})
    assert run_id(last) == run_id(first)
    assert json.loads(last.body)["data"]["status"] == "SUCCEEDED", "the run as it is now"
    assert await total(live) == 1
    assert len(live.runtime.processes) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{RUNS}?memory=256", {"a": 1}),
        (f"{RUNS}?memory=512&build=latest", {"a": 1}),
        (f"{RUNS}?memory=512", {"a": 2}),
        (f"{RUNS}?memory=512", None),
        ("/acts/jane~counter/runs?memory=512", {"a": 1}),
    ],
)
async def test_another_call_with_the_key_is_refused(program: Program, path: str, body: Any) -> None:
    first = run_id(await start(program, "key-2", f"{RUNS}?memory=512", {"a": 1}))
    refused = await start(program, "key-2", path, body)
    assert error(refused) == (409, "invalid-idempotency-key")
    said = json.loads(refused.body)["error"]
    assert "'key-2'" in said["message"] and first in said["message"]
    assert said["data"] == {"runId": first}
    assert await total(program) == 1


async def test_keys_belong_to_their_user(program: Program) -> None:
    await program.ask("PUT", f"/actors/{ACTOR_ID}", {"isPublic": True, "title": "Counter", "categories": ["AI"]})
    mine = run_id(await start(program, "shared"))
    assert run_id(await start(program, "shared", by="john")) != mine


async def test_many_at_once_start_one_run(program: Program) -> None:
    answers = await asyncio.gather(*(start(program, "at-once", body={"n": 1}) for _ in range(12)))
    assert len({run_id(answer) for answer in answers}) == 1
    assert await total(program) == 1


async def test_a_key_is_forgotten_after_a_day_and_with_its_run(live: LiveProgram) -> None:
    first = run_id(await start(live, "daily"))
    live.clock.advance(24 * 3600 - 1)
    assert run_id(await start(live, "daily")) == first
    live.clock.advance(1.001)
    second = run_id(await start(live, "daily"))
    assert second != first
    live.runtime.end(await live.process_of({"id": second}), code=0)
    await live.ended({"id": second})
    await live.ask("DELETE", f"/actor-runs/{second}")
    assert run_id(await start(live, "daily")) not in (first, second)


async def test_a_refused_start_leaves_no_key(program: Program) -> None:
    assert error(await start(program, "k", f"{RUNS}?memory=100")) == (400, "invalid-request")
    assert error(await start(program, "k", RUNS, b"{")) == (400, "run-input-body-not-valid-json")
    run_id(await start(program, "k"))


@pytest.mark.parametrize("key", ["", "x" * 257, "a\tb"])
async def test_a_malformed_key_is_refused(program: Program, key: str) -> None:
    refused = await start(program, key)
    assert error(refused) == (400, "invalid-request")
    assert "Idempotency-Key" in json.loads(refused.body)["error"]["message"]
    assert await total(program) == 0


async def test_tasks_and_run_sync_have_keys_too(live: LiveProgram) -> None:
    task = await live.ask("POST", "/actor-tasks", {"actId": ACTOR_ID, "name": "keyed", "input": {"a": 1}})
    runs = f"/actor-tasks/{task['id']}/runs"
    first = run_id(await start(live, "t", runs))
    assert run_id(await start(live, "t", runs)) == first
    assert error(await start(live, "t")) == (409, "invalid-idempotency-key")
    sync = f"/actors/{ACTOR_ID}/run-sync"
    call = asyncio.create_task(start(live, "s", sync))
    await live.settle(lambda: len(live.runtime.processes) == 2)
    live.runtime.end(live.runtime.newest, code=0)
    assert (await call).status == 201
    assert (await start(live, "s", sync)).status == 201
    assert await total(live) == 2
