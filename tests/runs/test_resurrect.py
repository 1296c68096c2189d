"""Resurrection: what stays, what is reset, what is refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from actorium.storage.db import Tx
from support.live_program import LiveProgram
from support.openapi import given_document
from support.program import ACTOR_ID
from support.storage_server import error


async def over(live: LiveProgram, query: str = "", code: int = 1) -> dict[str, Any]:
    run, process = await live.running(query)
    live.clock.advance(10)
    live.runtime.end(process, code=code)
    return await live.ended(run)


async def resurrect(live: LiveProgram, run: dict[str, Any], query: str = "") -> dict[str, Any]:
    answer = await live.send("POST", f"/actor-runs/{run['id']}/resurrect?{query}")
    assert answer.status == 200, answer.body
    return dict(json.loads(answer.body)["data"])


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED"])
async def test_from_every_end(live: LiveProgram, status: str) -> None:
    run, process = await live.running("timeout=60")
    if status == "TIMED-OUT":
        live.clock.advance(60)
    elif status == "ABORTED":
        await live.ask("POST", f"/actor-runs/{run['id']}/abort")
    else:
        live.runtime.end(process, code=int(status == "FAILED"))
    done = await live.ended(run)
    assert done["status"] == status
    again = await resurrect(live, run)
    assert again["statusMessage"] == f"The Actor has been resurrected from {status} status."
    second = await live.process_of(run, 2)
    assert f"ACTOR: Resurrecting Actor run from {status} status." in await live.log(run)
    live.runtime.end(second, code=0)
    assert (await live.ended(run))["status"] == "SUCCEEDED"


async def test_what_stays_and_what_is_reset(live: LiveProgram) -> None:
    before = await over(live, "timeout=60&memory=512&maxItems=5&restartOnError=0")
    live.clock.advance(1000)
    after = await resurrect(live, before)
    kept = (
        "id actId userId startedAt buildId buildNumber "
        "meta options defaultDatasetId defaultKeyValueStoreId defaultRequestQueueId storageIds containerUrl"
    )
    for name in kept.split():
        assert after[name] == before[name], name
    assert (after["status"], after["finishedAt"], after["exitCode"]) == ("READY", None, None)
    assert (after["isStatusMessageTerminal"], after["stats"]["resurrectCount"]) == (None, 1)
    await live.process_of(before, 2)
    running = await live.until(before, lambda now: now["status"] == "RUNNING")
    assert running["stats"]["durationMillis"] == 10_000, "the time in between does not count"
    await live.quiet()
    live.clock.advance(59)
    await live.quiet()
    assert (await live.get(before))["status"] == "RUNNING", "a full new budget"
    live.clock.advance(1)
    assert (await live.ended(before))["status"] == "TIMED-OUT"


async def test_every_option_may_change(live: LiveProgram) -> None:
    run = await over(live, "timeout=60&memory=512")
    query = "memory=1024&timeout=77&maxItems=9&maxTotalChargeUsd=2.5&restartOnError=1&build=0.1.1"
    options = (await resurrect(live, run, query))["options"]
    assert (options["memoryMbytes"], options["diskMbytes"], options["timeoutSecs"]) == (1024, 2048, 77)
    assert (options["maxItems"], options["maxTotalChargeUsd"], options["restartOnError"]) == (9, 2.5, True)
    assert options["build"] == "0.1.1"
    env = (await live.process_of(run, 2)).spec.env
    assert (env["ACTOR_MEMORY_MBYTES"], env["ACTOR_MAX_TOTAL_CHARGE_USD"]) == ("1024", "2.5")


async def test_the_cost_cap_rises_or_is_lifted(live: LiveProgram) -> None:
    run = await over(live, "maxTotalChargeUsd=5")
    path = f"/actor-runs/{run['id']}/resurrect?maxTotalChargeUsd="
    refused = await live.send("POST", f"{path}4.99")
    assert error(refused) == (400, "parameters-mismatched")
    assert json.loads(refused.body)["error"]["message"] == (
        "Parameters mismatched: Maximum cost per run cannot be decreased when resurrecting run"
    )
    lifted = await live.ask("POST", f"{path}0")
    assert "maxTotalChargeUsd" not in lifted["options"], "never 0: Python Actors would charge nothing"
    assert "ACTOR_MAX_TOTAL_CHARGE_USD" not in (await live.process_of(run, 2)).spec.env


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("memory=0", "memory"),
        ("memory=300", "memory"),
        ("timeout=-1", "timeout"),
        ("timeout=x", "timeout"),
        ("restartOnError=perhaps", "restartOnError"),
    ],
)
async def test_bad_figures_are_refused(live: LiveProgram, query: str, wrong: str) -> None:
    run = await over(live)
    refused = await live.send("POST", f"/actor-runs/{run['id']}/resurrect?{query}")
    assert error(refused) == (400, "invalid-request")
    assert wrong in json.loads(refused.body)["error"]["message"]
    assert (await live.get(run))["status"] == "FAILED"


async def test_other_refusals(live: LiveProgram) -> None:
    run, process = await live.running()
    path = f"/actor-runs/{run['id']}/resurrect"
    refused = await live.send("POST", path)
    assert error(refused) == (400, "invalid-input")
    assert json.loads(refused.body)["error"]["message"] == "Cannot resurrect an Actor run with the RUNNING status"
    live.runtime.end(process, code=0)
    await live.ended(run)
    assert error(await live.send("POST", f"{path}?build=nope")) == (403, "unknown-build-tag")
    assert error(await live.send("POST", f"{path}?build=9.9.9")) == (403, "build-not-found")
    assert error(await live.send("POST", f"{path}?maxItems=0")) == (400, "max-items-must-be-greater-than-zero")
    assert error(await live.send("POST", path, by="john")) == (404, "record-not-found")
    assert (await live.get(run))["status"] == "SUCCEEDED"


async def test_of_two_at_once_one_wins(live: LiveProgram) -> None:
    run = await over(live)
    path = f"/actor-runs/{run['id']}/resurrect"
    answers = await asyncio.gather(*(live.send("POST", path) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [200, 400, 400, 400]
    current = await live.until(run, lambda now: now["status"] == "RUNNING")
    assert current["stats"]["resurrectCount"] == 1


async def test_the_deprecated_route(live: LiveProgram) -> None:
    document = given_document()
    run = await over(live)
    answer = await live.send("POST", f"/acts/{ACTOR_ID}/runs/{run['id']}/resurrect?memory=256")
    assert document.problems("actor_run_resurrect_post", answer) == []
    assert json.loads(answer.body)["data"]["options"]["memoryMbytes"] == 256
    live.runtime.end(await live.process_of(run, 2), code=0)
    await live.ended(run)
    answer = await live.send("POST", f"/actor-runs/{run['id']}/resurrect")
    assert document.problems("PostResurrectRun", answer) == []


async def test_memory_stays_within_the_bounds_of_the_runs_own_build(live: LiveProgram) -> None:
    async def op(tx: Tx) -> None:
        definition = json.dumps({"minMemoryMbytes": 256, "maxMemoryMbytes": 1024})
        await tx.execute("UPDATE builds SET actor_definition_json = ?", definition)

    await live.platform.db.write("bounds", op)
    run = await over(live, "memory=512")
    for asked, given in ((4096, 1024), (128, 256)):
        again = await resurrect(live, run, f"memory={asked}")
        assert (again["options"]["memoryMbytes"], again["options"]["diskMbytes"]) == (given, 2 * given)
        live.runtime.end(await live.process_of(run, 2 if asked == 4096 else 3), code=1)
        await live.ended(run)
