"""Abort: every row of the platform's tables, and the races."""

from __future__ import annotations

import asyncio

import pytest

from actorium.domain.models import JobStatus, StopReason
from actorium.services.run_options import StartOptions
from engine.conftest import Engine

S = JobStatus


async def test_immediate_abort_kills_and_ends_aborted(engine: Engine) -> None:
    run, process = await engine.running()
    answered = await engine.runs.abort(run, gracefully=False)
    assert answered.status is S.ABORTING
    done = await engine.ended(run)
    assert done.status is S.ABORTED
    assert process.signals == ["KILL"]
    assert (done.exit_code, done.status_message) == (137, None)
    assert engine.events.names() == []


async def test_graceful_abort_sends_events_in_order_and_waits_thirty_seconds(engine: Engine) -> None:
    run, process = await engine.running()
    answered = await engine.runs.abort(run, gracefully=True)
    assert answered.status is S.ABORTING
    await engine.settle(lambda: engine.events.names() == ["aborting", "persistState"])
    assert [data for _, name, data in engine.events.sent if name == "persistState"] == [{"isMigrating": False}]
    assert engine.events.pending[run.id] == ["aborting", "persistState"]
    engine.clock.advance(29.999)
    await engine.quiet()
    assert process.signals == []
    engine.clock.advance(0.001)
    done = await engine.ended(run)
    assert done.status is S.ABORTED
    assert process.signals == ["TERM"]
    assert run.id not in engine.events.pending


async def test_a_process_that_ignores_sigterm_is_killed_five_seconds_later(engine: Engine) -> None:
    engine.runtime.ignores_term = True
    run, process = await engine.running()
    await engine.runs.abort(run, gracefully=True)
    await engine.settle(lambda: bool(engine.events.names()))
    await engine.quiet()
    engine.clock.advance(30)
    await engine.settle(lambda: process.signals == ["TERM"])
    await engine.quiet()
    assert (await engine.get(run)).status is S.ABORTING, "ABORTED only once the process is gone"
    engine.clock.advance(5)
    assert (await engine.ended(run)).status is S.ABORTED
    assert process.signals == ["TERM", "KILL"]


@pytest.mark.parametrize("code", [0, 1, 91])
async def test_an_exit_inside_the_window_ends_aborted_at_once(engine: Engine, code: int) -> None:
    run, process = await engine.running(restart_on_error=True)
    await engine.runs.abort(run, gracefully=True)
    engine.runtime.end(process, code=code)
    done = await engine.ended(run)
    assert (done.status, done.exit_code) == (S.ABORTED, code)
    assert done.stats.restart_count == 0


async def test_graceful_after_graceful_joins_the_window(engine: Engine) -> None:
    run, process = await engine.running()
    first = await engine.runs.abort(run, gracefully=True)
    engine.clock.advance(20)
    second = await engine.runs.abort(run, gracefully=True)
    assert second.stop_at == first.stop_at
    await engine.quiet()
    assert engine.events.names() == ["aborting", "persistState"]
    engine.clock.advance(10)
    assert (await engine.ended(run)).status is S.ABORTED
    assert process.signals == ["TERM"]


async def test_immediate_after_graceful_escalates(engine: Engine) -> None:
    run, process = await engine.running()
    await engine.runs.abort(run, gracefully=True)
    await engine.settle(lambda: bool(engine.events.names()))
    await engine.runs.abort(run, gracefully=False)
    assert (await engine.ended(run)).status is S.ABORTED
    assert process.signals == ["KILL"]


async def test_immediate_during_the_signal_ladder_kills(engine: Engine) -> None:
    engine.runtime.ignores_term = True
    run, process = await engine.running()
    await engine.runs.abort(run, gracefully=True)
    await engine.settle(lambda: bool(engine.events.names()))
    await engine.quiet()
    engine.clock.advance(30)
    await engine.settle(lambda: process.signals == ["TERM"])
    await engine.runs.abort(run, gracefully=False)
    assert (await engine.ended(run)).status is S.ABORTED
    assert process.signals == ["TERM", "KILL"]


async def test_graceful_after_immediate_changes_nothing(engine: Engine) -> None:
    run, process = await engine.running()
    first = await engine.runs.abort(run, gracefully=False)
    second = await engine.runs.abort(run, gracefully=True)
    assert second.status in (S.ABORTING, S.ABORTED)
    assert first.stop_reason is StopReason.ABORT
    assert (await engine.ended(run)).status is S.ABORTED
    assert process.signals == ["KILL"]
    assert engine.events.names() == []


@pytest.mark.parametrize("gracefully", [True, False])
async def test_abort_of_a_waiting_run_ends_it_without_a_process(engine: Engine, gracefully: bool) -> None:
    await engine.running(memory_mbytes=4096)
    waiting = await engine.start()
    aborted = await engine.runs.abort(waiting, gracefully=gracefully)
    assert aborted.status is S.ABORTED
    assert aborted.finished_at == engine.clock.now_ms()
    assert aborted.exit_code is None
    await engine.quiet()
    assert len(engine.runtime.processes) == 1


@pytest.mark.parametrize("gracefully", [True, False])
async def test_abort_while_timing_out_has_no_new_window(engine: Engine, gracefully: bool) -> None:
    engine.runtime.ignores_term = True
    run, process = await engine.running(timeout_secs=10)
    engine.clock.advance(10)
    await engine.settle(lambda: process.signals == ["TERM"])
    answered = await engine.runs.abort(run, gracefully=gracefully)
    assert answered.status is S.ABORTING
    assert answered.stop_at == engine.clock.now_ms()
    await engine.quiet()
    if gracefully:
        engine.clock.advance(5)
    assert (await engine.ended(run)).status is S.ABORTED
    assert engine.events.names() == []


@pytest.mark.parametrize("gracefully", [True, False])
@pytest.mark.parametrize("code", [0, 1])
async def test_abort_of_a_finished_run_changes_nothing(engine: Engine, gracefully: bool, code: int) -> None:
    run, process = await engine.running()
    engine.runtime.end(process, code=code)
    done = await engine.ended(run)
    again = await engine.runs.abort(done, gracefully=gracefully)
    assert again == done


async def test_abort_between_claim_and_process_wins(engine: Engine) -> None:
    engine.runtime.before_checkpoint = asyncio.Event()
    run = await engine.start()
    await asyncio.wait_for(engine.runtime.reached_checkpoint.wait(), 20)
    aborted = await engine.runs.abort(run, gracefully=False)
    assert aborted.status is S.ABORTED
    engine.runtime.before_checkpoint.set()
    await engine.quiet()
    assert engine.runtime.processes == {}
    assert (await engine.get(run)).status is S.ABORTED


async def test_abort_wins_over_a_restart_under_way(engine: Engine) -> None:
    run, process = await engine.running(restart_on_error=True)
    engine.runtime.before_checkpoint = asyncio.Event()
    engine.runtime.reached_checkpoint.clear()
    engine.runtime.end(process, code=1)
    await asyncio.wait_for(engine.runtime.reached_checkpoint.wait(), 20)
    await engine.runs.abort(run, gracefully=True)
    engine.runtime.before_checkpoint.set()
    done = await engine.ended(run)
    assert done.status is S.ABORTED
    assert len(engine.runtime.processes) == 1


async def test_abort_wins_over_a_migration(engine: Engine) -> None:
    run, process = await engine.running()
    await engine.migrations.migrate_all(5)
    await engine.settle(lambda: "migrating" in engine.events.names())
    await engine.runs.abort(run, gracefully=False)
    assert (await engine.ended(run)).status is S.ABORTED
    assert process.signals == ["KILL"]


async def test_a_new_server_finishes_a_graceful_abort_on_the_old_deadline(engine: Engine) -> None:
    run, process = await engine.running()
    await engine.runs.abort(run, gracefully=True)
    await engine.settle(lambda: bool(engine.events.names()))
    await engine.supervisor.stop()
    engine.clock.advance(20)
    await engine.restart()
    await engine.settle(lambda: engine.events.names().count("aborting") == 2)
    await engine.quiet()
    assert process.signals == []
    engine.clock.advance(10)
    assert (await engine.ended(run)).status is S.ABORTED
    assert process.signals == ["TERM"]


async def test_two_aborts_at_once_end_it_once(engine: Engine) -> None:
    run, _ = await engine.running()
    answers = await asyncio.gather(*(engine.runs.abort(run, gracefully=g) for g in (True, False, True, False)))
    assert all(answer.status in (S.ABORTING, S.ABORTED) for answer in answers)
    done = await engine.ended(run)
    assert done.status is S.ABORTED
    assert engine.events.closed.count(run.id) <= 1


async def test_an_aborted_run_is_resurrected(engine: Engine) -> None:
    run, _ = await engine.running()
    await engine.runs.abort(run, gracefully=False)
    await engine.runs.resurrect(await engine.ended(run), StartOptions())
    second = await engine.process_of(run, 2)
    engine.runtime.end(second, code=0)
    done = await engine.until(run, lambda current: current.status is S.SUCCEEDED)
    assert done.stats.resurrect_count == 1
