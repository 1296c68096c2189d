"""The ten rules for races between what is asked of a run and what happens to it. docs: runs, section 2."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actorium.domain.models import JobStatus, Meta, StandbyTerms
from actorium.domain.standby import START_MS
from actorium.services.run_options import StartOptions
from actorium.storage import jobs
from actorium.storage.db import Tx
from support.live_program import ENDED, LiveProgram
from support.program import ACTOR_ID
from support.storage_server import error


def at_checkpoint(live: LiveProgram) -> asyncio.Event:
    """From now on new processes stop right before they exist, until the event is set."""
    live.runtime.before_checkpoint = asyncio.Event()
    live.runtime.reached_checkpoint.clear()
    return live.runtime.before_checkpoint


async def abort(live: LiveProgram, run: dict[str, Any], query: str = "") -> dict[str, Any]:
    answer: dict[str, Any] = await live.ask("POST", f"/actor-runs/{run['id']}/abort{query}")
    return answer


async def test_1_a_transition_from_another_status_changes_nothing(live: LiveProgram) -> None:
    run, process = await live.running()
    live.runtime.end(process, code=0)
    done = await live.ended(run)

    async def op(tx: Tx) -> Any:
        return await jobs.transition(tx, run["id"], {JobStatus.RUNNING}, JobStatus.ABORTING)

    assert await live.platform.db.write("lose", op) is None
    assert await live.get(run) == done


@pytest.mark.parametrize("code", [0, 1, 91, 137])
async def test_2_aborting_ends_aborted_whatever_the_exit_code(live: LiveProgram, code: int) -> None:
    run, process = await live.running("restartOnError=1")
    await abort(live, run, "?gracefully=1")
    live.runtime.end(process, code=code)
    done = await live.ended(run)
    assert (done["status"], done["exitCode"], done["stats"]["restartCount"]) == ("ABORTED", code, 0)


async def test_3_exit_first_then_the_abort_returns_the_finished_run(live: LiveProgram) -> None:
    run, process = await live.running()
    live.runtime.end(process, code=0)
    done = await live.ended(run)
    for query in ("", "?gracefully=1"):
        assert await abort(live, run, query) == done


async def test_3_abort_first_then_the_exit_is_aborted(live: LiveProgram) -> None:
    run, process = await live.running()
    await live.platform.supervisor.stop()
    await abort(live, run)
    live.runtime.end(process, code=0)
    await live.restart()
    assert (await live.ended(run))["status"] == "ABORTED"


@pytest.mark.parametrize("why", ["restart", "reboot", "migration"])
async def test_4_an_abort_while_the_process_is_replaced_wins(live: LiveProgram, why: str) -> None:
    run, process = await live.running("restartOnError=1")
    go_on = at_checkpoint(live)
    if why == "restart":
        live.runtime.end(process, code=1)
    elif why == "reboot":
        await live.ask("POST", f"/actor-runs/{run['id']}/reboot")
    else:
        await live.request("POST", f"/actorium/runs/{run['id']}/migrate", token=live.token("jane"))
        await live.quiet()
        live.clock.advance(30)
    await asyncio.wait_for(live.runtime.reached_checkpoint.wait(), 20)
    await abort(live, run, "?gracefully=1")
    go_on.set()
    done = await live.ended(run)
    assert done["status"] == "ABORTED"
    assert len(live.runtime.processes) == 1
    live.clock.advance(1)
    await live.settle(lambda: process.removed)


async def test_4_an_abort_right_after_the_new_process_started_ends_it(live: LiveProgram) -> None:
    run, _ = await live.running()
    await live.ask("POST", f"/actor-runs/{run['id']}/reboot")
    second = await live.process_of(run, 2)
    await abort(live, run)
    assert (await live.ended(run))["status"] == "ABORTED"
    assert second.signals == ["KILL"]


async def test_5_an_abort_of_a_waiting_run_that_is_being_started(live: LiveProgram) -> None:
    go_on = at_checkpoint(live)
    run = await live.begin()
    await asyncio.wait_for(live.runtime.reached_checkpoint.wait(), 20)
    aborted = await abort(live, run)
    assert (aborted["status"], aborted["exitCode"]) == ("ABORTED", None)
    assert aborted["finishedAt"] is not None
    go_on.set()
    await live.quiet()
    assert live.runtime.processes == {}
    assert await live.get(run) == aborted


async def test_6_an_abort_may_follow_a_timeout_under_way(live: LiveProgram) -> None:
    live.runtime.ignores_term = True
    run, process = await live.running("timeout=60")
    live.clock.advance(60)
    await live.until(run, lambda now: now["status"] == "TIMING-OUT")
    aborted = await abort(live, run, "?gracefully=1")
    assert aborted["status"] == "ABORTING"
    assert live.events.names(run["id"]) == [], "no new window"
    await live.quiet()
    live.clock.advance(5)
    assert (await live.ended(run))["status"] == "ABORTED"
    assert process.signals[-1] == "KILL"


async def test_6_an_exit_by_itself_while_timing_out_is_timed_out(live: LiveProgram) -> None:
    live.runtime.ignores_term = True
    run, process = await live.running("timeout=60")
    live.clock.advance(60)
    await live.until(run, lambda now: now["status"] == "TIMING-OUT")
    live.runtime.end(process, code=0)
    done = await live.ended(run)
    assert (done["status"], done["exitCode"]) == ("TIMED-OUT", 0)
    assert await abort(live, run) == done, "TIMED-OUT is final"


async def test_6_a_timeout_after_an_abort_changes_nothing(live: LiveProgram) -> None:
    live.runtime.ignores_term = True
    run, process = await live.running("timeout=60")
    live.clock.advance(59)
    await abort(live, run, "?gracefully=1")
    await live.settle(lambda: live.events.names(run["id"]))
    live.clock.advance(1)
    await live.quiet()
    assert ((await live.get(run))["status"], process.signals) == ("ABORTING", [])
    live.runtime.end(process, code=0)
    assert (await live.ended(run))["status"] == "ABORTED"


async def test_7_who_sees_the_end_finds_log_and_figures_complete(live: LiveProgram) -> None:
    run, process = await live.running()
    for number in range(500):
        live.runtime.write(process, b"line %d\n" % number)
    live.runtime.write(process, b"cut off")
    live.clock.advance(3)
    live.runtime.end(process, code=0)
    done = await live.ended(run)
    assert (await live.log(run)) == [*(f"line {number}" for number in range(500)), "cut off"]
    stats = done["stats"]
    assert (stats["durationMillis"], stats["memCurrentBytes"], stats["cpuCurrentUsage"]) == (3000, 0, 0)
    assert (stats["memMaxBytes"], stats["computeUnits"]) == (60_000_000, 1 * 3000 / 3_600_000)
    await live.settle(lambda: live.events.closed == [run["id"]])
    live.clock.advance(60)
    assert await live.get(run) == done, "nothing moves afterwards"


async def test_8_a_deletion_and_a_resurrection_at_once(live: LiveProgram) -> None:
    for _ in range(5):
        run, process = await live.running("memory=128")
        live.runtime.end(process, code=0)
        await live.ended(run)
        path = f"/actor-runs/{run['id']}"
        deleted, revived = await asyncio.gather(live.send("DELETE", path), live.send("POST", f"{path}/resurrect"))
        if deleted.status == 204:
            assert error(revived) == (404, "record-not-found")
        else:
            assert (error(deleted), revived.status) == ((400, "cannot-remove-running-run"), 200)
            await live.process_of(run, 2)


async def test_9_a_new_server_takes_over_what_lives_and_continues_what_vanished(live: LiveProgram) -> None:
    lives, living = await live.running("memory=128")
    ends, ending = await live.running("memory=128")
    gone, vanishing = await live.running("memory=128")
    await live.platform.supervisor.stop()
    waits = await live.begin("memory=128")
    live.runtime.end(ending, code=4)
    live.runtime.vanish(vanishing)
    await live.restart()
    done = await live.ended(ends)
    assert (done["status"], done["exitCode"]) == ("FAILED", 4)
    await live.process_of(gone)
    await live.process_of(waits)
    current = await live.until(gone, lambda now: now["stats"]["migrationCount"] == 1)
    assert current["status"] == "RUNNING"
    live.runtime.end(living, code=0)
    done = await live.ended(lives)
    assert (done["status"], done["stats"]["migrationCount"]) == ("SUCCEEDED", 0)


async def test_10_a_wound_down_standby_run_succeeds_whatever_its_exit_code(live: LiveProgram) -> None:
    """More of it is in ``tests/engine/test_standby.py``."""
    jane, terms = live.people["jane"], StandbyTerms(3, 4, 300)
    started = await live.platform.starts.start(jane, ACTOR_ID, StartOptions(), None, Meta("STANDBY"), standby=terms)
    run = await live.until({"id": started.id}, lambda now: now["status"] == "RUNNING")
    process = await live.process_of(run)
    await live.ask("PUT", f"/actor-runs/{run['id']}", {"statusMessage": "serving"})
    await live.quiet()
    live.clock.advance(300 + START_MS / 1000)
    await live.settle(lambda: live.events.names(run["id"]) == ["aborting", "persistState"])
    live.runtime.end(process, code=91)
    done = await live.ended(run)
    assert (done["status"], done["exitCode"], done["statusMessage"]) == ("SUCCEEDED", 91, "serving")


async def test_no_final_status_while_a_process_lives(live: LiveProgram) -> None:
    """ABORTED is only ever written after the whole tree is confirmed gone."""
    live.runtime.ignores_term = True
    run, process = await live.running()
    await abort(live, run, "?gracefully=1")
    await live.quiet()
    live.clock.advance(30)
    await live.settle(lambda: process.signals == ["TERM"])
    await live.quiet()
    assert (await live.get(run))["status"] not in ENDED
    live.clock.advance(5)
    assert (await live.ended(run))["status"] == "ABORTED"
