"""The machine's clock is set by an hour while runs live: they have as much time left as before. FakeClock only."""

from __future__ import annotations

import asyncio
import time

import pytest

from actorium.domain.models import JobStatus, Run
from actorium.kit import SystemClock
from engine.conftest import Engine

_HOUR = 3600.0
both_ways = pytest.mark.parametrize("hours", [1, -1])


async def set_clock(engine: Engine, run: Run, hours: int) -> None:
    """Set the machine's clock and wait until the engine has taken it over; half a second passes meanwhile."""
    moved = (await engine.get(run)).queued_at + hours * 3_600_000
    for _ in range(10):  # whoever has just been woken by the clock goes to sleep again
        await asyncio.sleep(0)
    engine.clock.set(hours * _HOUR)
    engine.clock.advance(0.5)
    await engine.settle(lambda: engine.clock.step_ms() == 0)
    await engine.until(run, lambda now: now.queued_at == moved)


async def status(engine: Engine, run: Run) -> JobStatus:
    await engine.quiet()
    return (await engine.get(run)).status


@both_ways
async def test_a_window_stays_thirty_seconds(engine: Engine, hours: int) -> None:
    run, process = await engine.running()
    await engine.runs.abort(run, gracefully=True)
    await engine.settle(lambda: engine.events.names() == ["aborting", "persistState"])
    engine.clock.advance(10)
    await set_clock(engine, run, hours)
    engine.clock.advance(19)
    assert (await status(engine, run), process.signals) == (JobStatus.ABORTING, [])
    engine.clock.advance(1)
    assert (await engine.ended(run)).status is JobStatus.ABORTED
    assert process.signals == ["TERM"]
    assert engine.events.names() == ["aborting", "persistState"]


@both_ways
async def test_a_timeout_stays_what_it_is_and_so_does_what_was_used(engine: Engine, hours: int) -> None:
    run, process = await engine.running(timeout_secs=60)
    engine.clock.advance(20)
    await set_clock(engine, run, hours)
    engine.clock.advance(39)
    assert await status(engine, run) is JobStatus.RUNNING
    engine.clock.advance(1)
    done = await engine.ended(run)
    assert (done.status, process.signals) == (JobStatus.TIMED_OUT, ["TERM"])
    assert 60_000 <= done.stats.duration_millis < 62_000
    assert done.finished_at is not None
    assert abs(done.finished_at - run.started_at - hours * 3_600_000) < 62_000, "the time of day is the new one"


@both_ways
async def test_a_restart_keeps_its_pause_and_its_history(engine: Engine, hours: int) -> None:
    run, process = await engine.running(restart_on_error=True)
    engine.runtime.end(process, code=1)
    second = await engine.process_of(run, 2)
    engine.runtime.end(second, code=1)
    await engine.quiet()
    await set_clock(engine, run, hours)
    engine.clock.advance(1)
    third = await engine.process_of(run, 3)
    current = await engine.until(run, lambda now: now.stats.restart_count == 2)
    assert current.status is JobStatus.RUNNING
    engine.runtime.end(third, code=0)
    assert (await engine.ended(run)).status is JobStatus.SUCCEEDED


@both_ways
async def test_a_reboot_is_still_told_from_an_exit(engine: Engine, hours: int) -> None:
    engine.runtime.ignores_term = True
    run, _process = await engine.running()
    await set_clock(engine, run, hours)
    await engine.runs.reboot(run)
    await engine.process_of(run, 2)
    assert (await engine.until(run, lambda now: now.stats.reboot_count == 1)).status is JobStatus.RUNNING


def test_the_machines_clock_goes_on_until_the_step_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, real, wall = SystemClock(), time.time_ns, [0.0]
    monkeypatch.setattr(time, "time_ns", lambda: real() + int(wall[0] * 1e9))
    before = clock.now_ms()
    wall[0] = 0.4
    assert clock.now_ms() >= before + 400, "a small correction"
    wall[0] = _HOUR
    step = clock.step_ms()
    assert abs(step - 3_599_600) < 500
    assert clock.now_ms() < before + 3_000_000
    clock.take_step(step)
    assert clock.now_ms() >= before + 3_599_000
    assert abs(clock.step_ms()) < 500
