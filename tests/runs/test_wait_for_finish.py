"""``waitForFinish``: returns with the end of the run, after at most 60 s, and never refuses a long wait."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from actorium.services.topics import job_topic
from support.live_program import LiveProgram
from support.program import ACTOR_ID
from support.storage_server import error


async def waited_for(live: LiveProgram, run: dict[str, Any], calls: int = 1) -> None:
    """Return once so many calls wait for the run's end: they come from threads, whenever those get their turn."""
    await live.settle(lambda: len(live.platform.signals._waiters.get(job_topic(run["id"]), ())) == calls)
    await live.quiet()


async def test_it_returns_with_the_end_of_the_run(live: LiveProgram) -> None:
    run, process = await live.running()
    waiting = [
        asyncio.create_task(live.ask("GET", f"{path}?waitForFinish=999999"))
        for path in (
            f"/actor-runs/{run['id']}",
            f"/actors/{ACTOR_ID}/runs/{run['id']}",
            f"/actors/{ACTOR_ID}/runs/last",
        )
    ]
    await waited_for(live, run, len(waiting))
    assert not any(task.done() for task in waiting)
    live.runtime.end(process, code=0)
    assert {(await task)["status"] for task in waiting} == {"SUCCEEDED"}


async def test_more_than_60_s_is_cut_not_refused(live: LiveProgram) -> None:
    run, _ = await live.running()
    waiting = asyncio.create_task(live.ask("GET", f"/actor-runs/{run['id']}?waitForFinish=999999"))
    await waited_for(live, run)
    live.clock.advance(59.9)
    await live.quiet()
    assert not waiting.done()
    live.clock.advance(0.2)
    assert (await waiting)["status"] == "RUNNING"


@pytest.mark.parametrize("value", ["-1", "now", "nan", "inf"])
async def test_nonsense_is_refused_and_starts_nothing(live: LiveProgram, value: str) -> None:
    refused = await live.send("POST", f"/actors/{ACTOR_ID}/runs?waitForFinish={value}")
    assert error(refused) == (400, "invalid-request")
    assert "waitForFinish" in json.loads(refused.body)["error"]["message"]
    assert (await live.ask("GET", "/actor-runs"))["total"] == 0


async def test_a_start_waits_too_and_zero_does_not(live: LiveProgram) -> None:
    assert (await live.begin("waitForFinish=0"))["status"] == "READY"
    starting = asyncio.create_task(live.begin("waitForFinish=30"))
    await live.settle(lambda: len(live.runtime.processes) == 2)
    live.runtime.end(live.runtime.newest, code=1)
    assert (await starting)["status"] == "FAILED"


async def test_a_run_that_is_over_is_answered_at_once(live: LiveProgram) -> None:
    run, process = await live.running()
    live.runtime.end(process, code=0)
    await live.ended(run)
    assert (await live.ask("GET", f"/actor-runs/{run['id']}?waitForFinish=60"))["status"] == "SUCCEEDED"
