"""Migration: a window to save state, then a new process on the same storages."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from support.live_program import LiveProgram
from support.platform import Platform, processes_of, python_actor, wait_for
from support.storage_server import Answer, error


async def migrate(live: LiveProgram, run: dict[str, Any], by: str = "jane") -> Answer:
    return await live.request("POST", f"/actorium/runs/{run['id']}/migrate", token=live.token(by))


async def asked(live: LiveProgram, query: str = "") -> tuple[dict[str, Any], Any]:
    """A run that was told of its migration."""
    run, process = await live.running(query)
    answer = await migrate(live, run)
    assert (answer.status, json.loads(answer.body)["data"]["status"]) == (200, "RUNNING")
    await live.settle(lambda: "migrating" in live.events.names(run["id"]))
    return run, process


async def test_it_tells_the_process_waits_30_s_and_starts_another(live: LiveProgram) -> None:
    run, process = await asked(live, "timeout=100")
    ((_, _, told),) = live.events.sent
    assert told == {"timeRemainingSecs": 30.0}
    assert live.events.pending[run["id"]] == ["migrating"]
    live.clock.advance(29.999)
    await live.quiet()
    assert process.signals == []
    live.clock.advance(0.001)
    second = await live.process_of(run, 2)
    assert process.signals == ["TERM"]
    current = await live.until(run, lambda now: now["stats"]["migrationCount"] == 1)
    assert (current["status"], current["stats"]["rebootCount"]) == ("RUNNING", 0)
    env = second.spec.env
    assert env["ACTOR_DEFAULT_DATASET_ID"] == process.spec.env["ACTOR_DEFAULT_DATASET_ID"]
    assert env["ACTOR_TIMEOUT_AT"] == process.spec.env["ACTOR_TIMEOUT_AT"], "the budget is the run's"


async def test_a_second_request_joins_the_open_window(live: LiveProgram) -> None:
    run, process = await asked(live)
    live.clock.advance(20)
    assert (await migrate(live, run)).status == 200
    await live.quiet()
    assert live.events.names(run["id"]) == ["migrating"]
    live.clock.advance(10)
    await live.process_of(run, 2)
    assert process.signals == ["TERM"]


@pytest.mark.parametrize(("code", "status"), [(0, "SUCCEEDED"), (3, "FAILED")])
async def test_a_process_that_exits_by_itself_inside_the_window_has_finished(
    live: LiveProgram, code: int, status: str
) -> None:
    run, process = await asked(live)
    live.clock.advance(10)
    live.runtime.end(process, code=code)
    done = await live.ended(run)
    assert (done["status"], done["exitCode"], done["stats"]["migrationCount"]) == (status, code, 0)


async def test_a_failure_inside_the_window_is_restarted_where_that_is_wanted(live: LiveProgram) -> None:
    run, process = await asked(live, "restartOnError=1")
    live.runtime.end(process, code=3)
    await live.process_of(run, 2)
    current = await live.until(run, lambda now: now["stats"]["restartCount"] == 1)
    assert current["stats"]["migrationCount"] == 0


async def test_a_reboot_in_the_window_is_the_pending_move(live: LiveProgram) -> None:
    """JavaScript Actors reboot when they are told of a migration."""
    run, _process = await asked(live)
    await live.ask("POST", f"/actor-runs/{run['id']}/reboot")
    await live.process_of(run, 2)
    current = await live.until(run, lambda now: now["stats"]["migrationCount"] == 1)
    assert (current["stats"]["rebootCount"], current["status"]) == (0, "RUNNING")
    await live.quiet()
    live.clock.advance(60)
    await live.quiet()
    assert len(live.runtime.processes) == 2, "the window is over"


async def test_abort_wins_over_a_migration(live: LiveProgram) -> None:
    run, _process = await asked(live)
    await live.ask("POST", f"/actor-runs/{run['id']}/abort")
    assert (await live.ended(run))["status"] == "ABORTED"
    assert len(live.runtime.processes) == 1


async def test_an_aborting_run_does_not_migrate_and_a_waiting_one_needs_not(live: LiveProgram) -> None:
    run, process = await live.running()
    await live.ask("POST", f"/actor-runs/{run['id']}/abort?gracefully=1")
    answer = await migrate(live, run)
    assert (answer.status, json.loads(answer.body)["data"]["status"]) == (200, "ABORTING")
    live.runtime.end(process, code=0)
    assert (await live.ended(run))["status"] == "ABORTED"
    assert error(await migrate(live, run)) == (403, "job-finished")
    await live.platform.supervisor.stop()
    waiting = await live.begin()
    assert json.loads((await migrate(live, waiting)).body)["data"]["status"] == "READY"


async def test_only_the_owner_may(live: LiveProgram) -> None:
    run, process = await live.running()
    assert error(await migrate(live, run, by="john")) == (404, "record-not-found")
    assert error(await live.request("POST", f"/actorium/runs/{'x' * 17}/migrate", token=live.token("jane"))) == (
        404,
        "record-not-found",
    )
    assert process.exit is None


async def test_a_new_server_ends_the_window_of_the_old_one(live: LiveProgram) -> None:
    run, process = await asked(live)
    await live.platform.supervisor.stop()
    live.clock.advance(20)
    await live.restart()
    await live.settle(lambda: "migrating" in live.events.names(run["id"]))
    assert live.events.sent[-1][2] == {"timeRemainingSecs": 10.0}
    await live.quiet()
    live.clock.advance(10)
    await live.process_of(run, 2)
    assert process.signals == ["TERM"]


async def drained(live: LiveProgram) -> int:
    """What the command line does, without a signal to the engine."""
    left = await live.platform.migrations.drain()
    await live.quiet()
    live.clock.advance(1)
    await live.quiet()
    return left


async def test_a_drain_takes_all_runs_off_and_starts_none(live: LiveProgram) -> None:
    run, process = await live.running()
    assert await drained(live) == 1
    await live.settle(lambda: "migrating" in live.events.names(run["id"]))
    waiting = await live.begin()
    await live.quiet()
    live.clock.advance(30)
    await live.settle(lambda: process.signals == ["TERM"])
    await live.until(run, lambda now: live.platform.supervisor.live_count == 0)
    assert await drained(live) == 0
    assert ((await live.get(run))["status"], (await live.get(waiting))["status"]) == ("RUNNING", "READY")
    assert len(live.runtime.processes) == 1
    await live.restart()
    await live.quiet()
    assert len(live.runtime.processes) == 1, "a restart of the server does not end the drain"
    assert await live.platform.migrations.end_drain()
    assert not await live.platform.migrations.end_drain()
    await live.quiet()
    live.clock.advance(1)
    await live.process_of(run, 2)
    await live.process_of(waiting)
    current = await live.until(run, lambda now: now["stats"]["migrationCount"] == 1)
    assert current["status"] == "RUNNING"


async def test_a_run_that_was_taken_off_can_be_aborted(live: LiveProgram) -> None:
    run, _ = await live.running()
    await drained(live)
    await live.quiet()
    live.clock.advance(30)
    await live.until(run, lambda now: live.platform.supervisor.live_count == 0)
    await live.ask("POST", f"/actor-runs/{run['id']}/abort?gracefully=1")
    await live.quiet()
    live.clock.advance(1)
    assert (await live.ended(run))["status"] == "ABORTED"


async def test_a_lost_signal_is_made_good_by_the_next_look(live: LiveProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    run, process = await live.running()
    await live.quiet()
    monkeypatch.setattr(live.platform.signals, "send", lambda _topic: None)
    await live.ask("POST", f"/actor-runs/{run['id']}/abort")
    await live.quiet()
    assert process.exit is None
    live.clock.advance(1)
    assert (await live.ended(run))["status"] == "ABORTED"


_COUNTER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("begin")
time.sleep(600)
"""


@pytest.mark.xdist_group("faults")
def test_the_command_line_drains_a_real_server(tmp_path: Any) -> None:
    platform = Platform(tmp_path / "data", env={"ACTORIUM_REQUESTED_MIGRATION_WINDOW_SECS": "0.2"}).start()
    try:
        platform.first_token()
        actor = platform.build_actor("sleeper", python_actor(_COUNTER))
        run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=128")
        wait_for(lambda: "begin" in platform.log_lines(run["id"]))
        assert "No run has a process" in platform.cli("drain")
        assert processes_of(run["id"]) == []
        waiting = platform.call("POST", f"/v2/actors/{actor}/runs?memory=128")
        assert platform.run(run["id"])["status"] == "RUNNING"
        assert platform.run(waiting["id"])["status"] == "READY"
        threading.Event().wait(1.5)
        assert platform.run(waiting["id"])["status"] == "READY"
        assert "starts runs again" in platform.cli("drain", "--end")
        assert "not drained" in platform.cli("drain", "--end")
        wait_for(lambda: platform.log_lines(run["id"]).count("begin") == 2)
        wait_for(lambda: "begin" in platform.log_lines(waiting["id"]))
        assert platform.run(run["id"])["stats"]["migrationCount"] == 1
        for one in (run, waiting):
            platform.call("POST", f"/v2/actor-runs/{one['id']}/abort")
            assert platform.ended(one["id"])["status"] == "ABORTED"
    finally:
        platform.stop()
