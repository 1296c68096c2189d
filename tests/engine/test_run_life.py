"""A run's life: start, finish, timeouts, queueing, resurrection, restarts of run and server."""

from __future__ import annotations

import asyncio

import pytest

from actorium.domain.errors import ApiError
from actorium.domain.models import Attempt, JobStatus, Wanted
from actorium.services.run_options import StartOptions
from actorium.services.runs import MessageUpdate
from actorium.storage import jobs
from actorium.storage.db import Tx
from engine.conftest import BOB, Engine

S = JobStatus


async def test_a_run_starts_succeeds_and_leaves_nothing_behind(engine: Engine) -> None:
    run, process = await engine.running()
    engine.runtime.write(process, b"hello\nwor")
    engine.runtime.write(process, b"ld")
    engine.clock.advance(2.5)
    engine.runtime.end(process, code=0)
    done = await engine.ended(run)
    assert (done.status, done.exit_code) == (S.SUCCEEDED, 0)
    assert done.finished_at == engine.clock.now_ms()
    assert done.stats.duration_millis == 2500
    assert done.stats.mem_max_bytes == 60_000_000
    assert done.stats.mem_current_bytes == 0
    assert done.stats.cpu_secs == 0.5
    text = await engine.log(run)
    assert [line.partition("Z ")[2] for line in text.splitlines()] == ["hello", "world"]
    await engine.settle(lambda: run.id in engine.events.closed)
    engine.clock.advance(1)
    await engine.settle(lambda: process.removed)


async def test_the_environment_says_who_and_where(engine: Engine) -> None:
    run, process = await engine.running(memory_mbytes=512, timeout_secs=60)
    env = process.spec.env
    assert env["ACTOR_RUN_ID"] == env["APIFY_ACTOR_RUN_ID"] == run.id
    assert env["APIFY_DEDICATED_CPUS"] == "0.125"
    assert env["ACTOR_MEMORY_MBYTES"] == "512"
    assert env["ACTOR_FULL_NAME"] == "bob/counter"
    assert env["ACTOR_BUILD_TAGS"] == "latest"
    assert env["ACTOR_TIMEOUT_AT"].endswith("Z")
    assert "ACTOR_TASK_ID" not in env
    assert all(env.values()), "an empty variable crashes the Python SDK"


async def test_a_failing_process_fails_the_run_with_a_reason(engine: Engine) -> None:
    run, process = await engine.running()
    engine.runtime.end(process, code=7)
    done = await engine.ended(run)
    assert (done.status, done.exit_code) == (S.FAILED, 7)
    assert done.status_message == "The Actor's process ended with exit code 7."
    assert "exit code 7" in await engine.log(run)


async def test_a_terminal_message_of_the_actor_stays(engine: Engine) -> None:
    run, process = await engine.running()
    await engine.runs.update(run, MessageUpdate(True, "No pages found", True))
    engine.runtime.end(process, code=1)
    assert (await engine.ended(run)).status_message == "No pages found"


async def test_memory_is_named_as_the_reason(engine: Engine) -> None:
    run, process = await engine.running(memory_mbytes=256)
    engine.runtime.end(process, signal=9, oom_killed=True)
    done = await engine.ended(run)
    assert (done.status, done.exit_code) == (S.FAILED, 137)
    assert "more than 256 MB" in (done.status_message or "")


async def test_a_run_that_cannot_start_fails(engine: Engine) -> None:
    engine.runtime.start_error = "no such program"
    run = await engine.start()
    done = await engine.ended(run)
    assert done.status is S.FAILED
    assert done.exit_code is None
    assert done.status_message == "Cannot start run: no such program"

    async def op(tx: Tx) -> list[Attempt]:
        return await jobs.list_attempts(tx, run.id)

    (attempt,) = await engine.db.read("attempts", op)
    assert attempt.finished_at is not None


async def test_timeout_sends_sigterm_then_sigkill_and_ends_timed_out(engine: Engine) -> None:
    engine.runtime.ignores_term = True
    run, process = await engine.running(timeout_secs=60)
    engine.clock.advance(59)
    await engine.quiet()
    assert process.signals == []
    engine.clock.advance(1)
    await engine.until(run, lambda current: current.status is S.TIMING_OUT)
    await engine.settle(lambda: process.signals == ["TERM"])
    await engine.quiet()
    engine.clock.advance(5)
    done = await engine.ended(run)
    assert process.signals == ["TERM", "KILL"]
    assert done.status is S.TIMED_OUT
    assert "60 seconds" in (done.status_message or "")


async def test_runs_wait_for_memory_in_order(engine: Engine) -> None:
    first, first_process = await engine.running(memory_mbytes=2048)
    second, _ = await engine.running(memory_mbytes=2048)
    third = await engine.start(memory_mbytes=1024)
    await engine.quiet()
    assert (await engine.get(third)).status is S.READY
    assert second.status is S.RUNNING
    engine.runtime.end(first_process, code=0)
    await engine.ended(first)
    await engine.until(third, lambda current: current.status is S.RUNNING)


async def test_a_run_that_can_never_fit_is_refused(engine: Engine) -> None:
    with pytest.raises(ApiError) as error:
        await engine.start(memory_mbytes=8192)
    assert error.value.type.code == "actor-memory-limit-exceeded"
    assert "4096 MB" in error.value.message


async def test_restart_on_error_starts_anew_and_counts(engine: Engine) -> None:
    run, process = await engine.running(restart_on_error=True)
    for number in (2, 3, 4):
        engine.runtime.end(process, code=1)
        await engine.quiet()
        engine.clock.advance(number - 2)
        process = await engine.process_of(run, number)
    engine.runtime.end(process, code=1)
    done = await engine.ended(run)
    assert done.status is S.FAILED
    assert done.stats.restart_count == 3


async def test_resurrect_continues_on_the_same_storages_with_a_new_budget(engine: Engine) -> None:
    run, process = await engine.running(timeout_secs=60)
    engine.runtime.write(process, b"first life\n")
    engine.clock.advance(10)
    engine.runtime.end(process, code=1)
    failed = await engine.ended(run)
    engine.clock.advance(1000)
    ready = await engine.runs.resurrect(failed, StartOptions())
    assert ready.status is S.READY
    assert ready.status_message == "The Actor has been resurrected from FAILED status."
    assert (ready.finished_at, ready.exit_code) == (None, None)
    second = await engine.process_of(run, 2)
    running = await engine.until(run, lambda current: current.status is S.RUNNING)
    assert running.timeout_at == engine.clock.now_ms() + 60_000
    assert second.spec.env["ACTOR_DEFAULT_DATASET_ID"] == process.spec.env["ACTOR_DEFAULT_DATASET_ID"]
    engine.runtime.write(second, b"second life\n")
    engine.clock.advance(5)
    engine.runtime.end(second, code=0)
    done = await engine.ended(run)
    assert done.status is S.SUCCEEDED
    assert done.started_at == run.started_at
    assert done.stats.resurrect_count == 1
    assert done.stats.duration_millis == 15_000
    texts = [line.partition("Z ")[2] for line in (await engine.log(run)).splitlines()]
    assert texts[0] == "first life"
    assert "ACTOR: Resurrecting Actor run from FAILED status." in texts
    assert texts[-1] == "second life"


async def test_only_a_finished_run_is_resurrected_and_only_once(engine: Engine) -> None:
    run, process = await engine.running()
    with pytest.raises(ApiError, match="Cannot resurrect an Actor run with the RUNNING status"):
        await engine.runs.resurrect(run, StartOptions())
    engine.runtime.end(process, code=0)
    done = await engine.ended(run)
    results = await asyncio.gather(
        *(engine.runs.resurrect(done, StartOptions()) for _ in range(2)), return_exceptions=True
    )
    assert sorted(isinstance(result, ApiError) for result in results) == [False, True]


async def test_a_new_server_attaches_to_a_live_process(engine: Engine) -> None:
    run, process = await engine.running()
    await engine.restart()
    await engine.quiet()
    assert len(engine.runtime.processes) == 1, "no second process"
    engine.runtime.write(process, b"still here\n")
    engine.runtime.end(process, code=0)
    done = await engine.ended(run)
    assert done.status is S.SUCCEEDED
    assert done.stats.migration_count == 0
    assert "still here" in await engine.log(run)


async def test_an_exit_while_no_server_ran_is_taken_in(engine: Engine) -> None:
    run, process = await engine.running()
    await engine.supervisor.stop()
    engine.runtime.write(process, b"last words\n")
    engine.runtime.end(process, code=3)
    await engine.restart()
    done = await engine.ended(run)
    assert (done.status, done.exit_code) == (S.FAILED, 3)
    assert "last words" in await engine.log(run)


async def test_a_vanished_process_is_started_again_as_a_migration(engine: Engine) -> None:
    run, process = await engine.running()
    await engine.supervisor.stop()
    engine.runtime.vanish(process)
    await engine.restart()
    second = await engine.process_of(run)
    assert second is not process
    current = await engine.until(run, lambda now: now.stats.migration_count == 1)
    assert current.status is S.RUNNING


async def test_an_attempt_nobody_knows_is_ended(engine: Engine) -> None:
    run, process = await engine.running()
    await engine.supervisor.stop()

    async def forget(tx: object) -> None:
        await tx.execute("DELETE FROM attempts WHERE run_id = ?", run.id)  # type: ignore[attr-defined]

    await engine.db.write("forget", forget)
    await engine.restart()
    await engine.settle(lambda: process.removed)
    assert process.signals == ["KILL"]


async def test_draining_migrates_runs_and_the_next_server_continues_them(engine: Engine) -> None:
    run, process = await engine.running(timeout_secs=100)
    engine.clock.advance(10)
    await engine.migrations.migrate_all(5)
    draining = asyncio.create_task(engine.supervisor.drain())
    await engine.settle(lambda: "migrating" in engine.events.names())
    waiting = await engine.start()
    await engine.quiet()
    assert process.exit is None
    engine.clock.advance(5)
    await draining
    assert process.signals == ["TERM"]
    parked = await engine.get(run)
    assert (parked.status, parked.wanted) == (S.RUNNING, Wanted.MIGRATE)
    assert (await engine.get(waiting)).status is S.READY
    engine.clock.advance(3600)
    await engine.restart()
    await engine.process_of(run, 2)
    current = await engine.until(run, lambda now: now.wanted is Wanted.RUN)
    assert current.stats.migration_count == 1
    assert current.timeout_at == engine.clock.now_ms() + 85_000, "the time without a server is not counted"


async def test_reboot_replaces_the_process(engine: Engine) -> None:
    run, process = await engine.running()
    await engine.runs.reboot(run)
    second = await engine.process_of(run, 2)
    assert process.signals == ["KILL"]
    current = await engine.until(run, lambda now: now.stats.reboot_count == 1)
    assert current.status is S.RUNNING
    engine.runtime.end(second, code=0)
    done = await engine.ended(run)
    with pytest.raises(ApiError) as error:
        await engine.runs.reboot(done)
    assert error.value.type.code == "job-finished"


async def test_a_run_is_deleted_only_when_over(engine: Engine) -> None:
    run, process = await engine.running()
    with pytest.raises(ApiError) as error:
        await engine.runs.delete(run)
    assert error.value.type.code == "cannot-remove-running-run"
    engine.runtime.end(process, code=0)
    await engine.runs.delete(await engine.ended(run))
    with pytest.raises(ApiError) as error:
        await engine.runs.get(BOB, run.id)
    assert error.value.type.code == "record-not-found"


async def test_waiting_ends_with_the_run_or_with_the_time(engine: Engine) -> None:
    run, process = await engine.running()
    waiting = asyncio.create_task(engine.runs.wait(run, 999_999))
    await engine.quiet()
    engine.runtime.end(process, code=0)
    assert (await waiting).status is S.SUCCEEDED
    other, _ = await engine.running()
    waiting = asyncio.create_task(engine.runs.wait(other, 999_999))
    await engine.quiet()
    engine.clock.advance(60)
    assert (await waiting).status is S.RUNNING
