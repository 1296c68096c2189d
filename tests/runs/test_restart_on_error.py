"""Restart on error: three in a rolling minute, with pauses, over restarts of the server."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.runtime import FakeProcess
from support.live_program import LiveProgram


async def fail(live: LiveProgram, process: FakeProcess, pause_secs: float = 0) -> None:
    live.runtime.end(process, code=1)
    await live.quiet()
    live.clock.advance(pause_secs)


async def test_the_process_is_replaced_on_the_same_storages(live: LiveProgram) -> None:
    run, first = await live.running("restartOnError=1")
    await fail(live, first)
    second = await live.process_of(run, 2)
    for name in ("ACTOR_DEFAULT_DATASET_ID", "ACTOR_DEFAULT_KEY_VALUE_STORE_ID", "APIFY_TOKEN"):
        assert second.spec.env[name] == first.spec.env[name]
    assert second.spec.env["ACTOR_RESTART_ON_ERROR"] == "1"
    current = await live.until(run, lambda now: now["stats"]["restartCount"] == 1)
    assert (current["status"], current["exitCode"]) == ("RUNNING", None)
    assert "ACTOR: The process failed; restarting it, as restartOnError is set." in await live.log(run)
    live.runtime.end(second, code=0)
    assert (await live.ended(run))["status"] == "SUCCEEDED"


async def test_pauses_grow_and_the_fourth_failure_in_a_minute_is_the_end(live: LiveProgram) -> None:
    run, process = await live.running("restartOnError=1")
    for number, pause_secs in ((2, 0), (3, 1), (4, 2)):
        live.runtime.end(process, code=1)
        await live.quiet()
        if pause_secs:
            live.clock.advance(pause_secs - 0.001)
            await live.quiet()
            assert len(live.runtime.processes) == number - 1
            live.clock.advance(0.001)
        process = await live.process_of(run, number)
        await live.quiet()
    live.runtime.end(process, code=7)
    done = await live.ended(run)
    assert (done["status"], done["exitCode"], done["stats"]["restartCount"]) == ("FAILED", 7, 3)


async def test_the_limit_rolls(live: LiveProgram) -> None:
    run, process = await live.running("restartOnError=1")
    for number in range(2, 8):
        await fail(live, process, 2)
        process = await live.process_of(run, number)
        await live.quiet()
        live.clock.advance(25)
    assert (await live.get(run))["stats"]["restartCount"] == 6


async def test_the_history_survives_the_server(live: LiveProgram) -> None:
    run, process = await live.running("restartOnError=1")
    for number in (2, 3, 4):
        await fail(live, process, 2)
        process = await live.process_of(run, number)
        await live.quiet()
        await live.restart()
    await fail(live, process)
    assert (await live.ended(run))["status"] == "FAILED"


async def test_a_failure_while_no_server_ran_is_restarted(live: LiveProgram) -> None:
    run, process = await live.running("restartOnError=1")
    await live.platform.supervisor.stop()
    live.runtime.end(process, code=1)
    await live.restart()
    await live.process_of(run, 2)
    current = await live.until(run, lambda now: now["stats"]["restartCount"] == 1)
    assert current["stats"]["migrationCount"] == 0


async def test_an_abort_in_the_pause_ends_it(live: LiveProgram) -> None:
    run, process = await live.running("restartOnError=1")
    await fail(live, process)
    second = await live.process_of(run, 2)
    await live.quiet()
    await fail(live, second)
    await live.ask("POST", f"/actor-runs/{run['id']}/abort?gracefully=1")
    done = await live.ended(run)
    assert (done["status"], done["exitCode"], len(live.runtime.processes)) == ("ABORTED", 1, 2)


@pytest.mark.parametrize("how", ["exits 0", "times out", "aborts"])
async def test_nothing_but_an_error_restarts(live: LiveProgram, how: str) -> None:
    run, process = await live.running("restartOnError=1&timeout=60")
    if how == "exits 0":
        live.runtime.end(process, code=0)
    elif how == "times out":
        live.clock.advance(60)
    else:
        await live.ask("POST", f"/actor-runs/{run['id']}/abort?gracefully=1")
        live.runtime.end(process, code=1)
    done = await live.ended(run)
    assert (done["stats"]["restartCount"], len(live.runtime.processes)) == (0, 1)


async def test_a_resurrection_begins_a_new_history(live: LiveProgram) -> None:
    run, process = await live.running("restartOnError=1")
    for number in (2, 3, 4):
        await fail(live, process, 2)
        process = await live.process_of(run, number)
        await live.quiet()
    await fail(live, process)
    await live.ended(run)
    await live.ask("POST", f"/actor-runs/{run['id']}/resurrect")
    await fail(live, await live.process_of(run, 5))
    await live.process_of(run, 6)
    current: dict[str, Any] = await live.until(run, lambda now: now["stats"]["restartCount"] == 4)
    assert current["status"] == "RUNNING"
