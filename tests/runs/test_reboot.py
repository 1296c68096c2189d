"""Reboot: a new process with the same image, environment and storages."""

from __future__ import annotations

import json

from support.live_program import LiveProgram
from support.openapi import given_document
from support.program import ACTOR_ID
from support.storage_server import error


async def test_the_process_is_killed_and_another_started(live: LiveProgram) -> None:
    run, first = await live.running("timeout=60")
    answered = await live.ask("POST", f"/actor-runs/{run['id']}/reboot")
    assert answered["status"] == "RUNNING"
    second = await live.process_of(run, 2)
    assert (first.signals, live.events.names(run["id"])) == (["KILL"], [])
    same = {name: value for name, value in first.spec.env.items() if "PORT" not in name and "URL" not in name}
    assert {name: second.spec.env[name] for name in same} == same
    current = await live.until(run, lambda now: now["stats"]["rebootCount"] == 1)
    assert (current["status"], current["startedAt"]) == ("RUNNING", run["startedAt"])


async def test_called_by_the_run_itself_it_is_answered_before_the_kill(live: LiveProgram) -> None:
    run, first = await live.running()
    token = first.spec.env["APIFY_TOKEN"]
    answer = await live.request("POST", f"/v2/actor-runs/{run['id']}/reboot", token=token)
    assert (answer.status, json.loads(answer.body)["data"]["status"]) == (200, "RUNNING")
    await live.process_of(run, 2)
    again = await live.request("GET", f"/v2/actor-runs/{run['id']}", token=token)
    assert again.status == 200, "the token is the run's, not the process's"


async def test_a_finished_run_is_403_job_finished(live: LiveProgram) -> None:
    run, process = await live.running()
    live.runtime.end(process, code=0)
    await live.ended(run)
    refused = await live.send("POST", f"/actor-runs/{run['id']}/reboot")
    assert error(refused) == (403, "job-finished")
    assert json.loads(refused.body)["error"]["message"] == "Actor job is already finished."


async def test_a_run_that_waits_or_is_aborted_is_left_alone(live: LiveProgram) -> None:
    run, process = await live.running()
    await live.ask("POST", f"/actor-runs/{run['id']}/abort?gracefully=1")
    assert (await live.ask("POST", f"/actor-runs/{run['id']}/reboot"))["status"] == "ABORTING"
    await live.quiet()
    assert process.signals == []
    live.runtime.end(process, code=0)
    assert (await live.ended(run))["status"] == "ABORTED"
    assert len(live.runtime.processes) == 1
    assert (await live.get(run))["stats"]["rebootCount"] == 0
    await live.platform.supervisor.stop()
    waiting = await live.begin()
    shown = await live.ask("POST", f"/actor-runs/{waiting['id']}/reboot")
    assert (shown["status"], shown["stats"]["rebootCount"]) == ("READY", 0)


async def test_reboots_that_are_asked_for_at_once_are_one(live: LiveProgram) -> None:
    """``rebootCount`` counts the processes that were replaced."""
    run, first = await live.running()
    await live.platform.supervisor.stop()
    for _ in range(3):
        await live.ask("POST", f"/actor-runs/{run['id']}/reboot")
    await live.restart()
    await live.process_of(run, 2)
    current = await live.until(run, lambda now: now["stats"]["rebootCount"])
    await live.quiet()
    assert (current["stats"]["rebootCount"], len(live.runtime.processes), first.signals) == (1, 2, ["KILL"])


async def test_the_count_stays_over_the_end_and_a_resurrection(live: LiveProgram) -> None:
    run, _ = await live.running()
    await live.ask("POST", f"/actor-runs/{run['id']}/reboot")
    live.runtime.end(await live.process_of(run, 2), code=1)
    assert (await live.ended(run))["stats"]["rebootCount"] == 1
    await live.ask("POST", f"/actor-runs/{run['id']}/resurrect")
    await live.process_of(run, 3)
    await live.ask("POST", f"/actor-runs/{run['id']}/reboot")
    await live.process_of(run, 4)
    await live.until(run, lambda now: now["stats"]["rebootCount"] == 2)


async def test_an_exit_before_the_reboot_is_the_end(live: LiveProgram) -> None:
    run, process = await live.running()
    await live.platform.supervisor.stop()
    live.runtime.end(process, code=0)
    live.clock.advance(1)
    assert (await live.ask("POST", f"/actor-runs/{run['id']}/reboot"))["status"] == "RUNNING"
    await live.restart()
    done = await live.ended(run)
    assert (done["status"], done["stats"]["rebootCount"], len(live.runtime.processes)) == ("SUCCEEDED", 0, 1)


async def test_a_server_killed_in_between_starts_the_new_process(live: LiveProgram) -> None:
    run, first = await live.running()
    await live.platform.supervisor.stop()
    await live.ask("POST", f"/actor-runs/{run['id']}/reboot")
    await live.restart()
    await live.process_of(run, 2)
    current = await live.until(run, lambda now: now["stats"]["rebootCount"] == 1)
    assert (current["status"], first.signals) == ("RUNNING", ["KILL"])


async def test_the_last_run(live: LiveProgram) -> None:
    document = given_document()
    task = await live.ask("POST", "/actor-tasks", {"actId": ACTOR_ID, "name": "reboots"})
    run = await live.ask("POST", f"/actor-tasks/{task['id']}/runs")
    await live.until(run, lambda now: now["status"] == "RUNNING")
    for number, (path, operation) in enumerate(
        (
            (f"/actor-runs/{run['id']}", "actorRun_reboot_post"),
            (f"/actors/{ACTOR_ID}/runs/last", "actor_runs_last_reboot_post"),
            (f"/actor-tasks/{task['id']}/runs/last", "actorTask_runs_last_reboot_post"),
        ),
        start=2,
    ):
        answer = await live.send("POST", f"{path}/reboot?status=RUNNING")
        assert document.problems(operation, answer) == []
        await live.process_of(run, number)
        await live.quiet()
    other = await live.send("POST", f"/actors/{ACTOR_ID}/runs/last/reboot?status=FAILED")
    assert error(other) == (404, "record-not-found")
