"""Standby runs in the engine: readiness, idle shutdown, retirement. docs: runs, section 8."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actorium.domain.models import Actor, Build, JobStatus, Meta, Origin, Run, StandbyTerms, StopReason, Wanted
from actorium.engine.standby import StandbyRetirement
from actorium.services.run_options import StartOptions
from actorium.storage import builds, catalog, standby
from actorium.storage.db import Tx
from engine.conftest import BOB, Engine
from fakes.runtime import FakeProcess

IDLE_SECS = 60
IDLE_LINE = "ACTOR: Actor Standby server was idle for too long, finishing run."


async def standby_run(engine: Engine) -> tuple[Run, FakeProcess]:
    """A Standby run whose server answers."""
    engine.web_servers.answer = True
    run = await engine.starts.start(
        BOB,
        engine.actor.id,
        StartOptions(timeout_secs=0, memory_mbytes=256),
        None,
        Meta(Origin.STANDBY),
        standby=StandbyTerms(3, 4, IDLE_SECS),
        with_input=False,
    )
    process = await engine.process_of(run)
    return await engine.until(run, lambda current: current.is_container_server_ready), process


async def use(engine: Engine, run: Run) -> None:
    """What the edge notes of a request."""
    now = engine.clock.now_ms()

    async def op(tx: Tx) -> None:
        await standby.put_off_idle(tx, run.id, now + IDLE_SECS * 1000, now)

    await engine.db.write("use", op)


async def advance(engine: Engine, secs: float) -> None:
    await engine.quiet()
    engine.clock.advance(secs)
    await engine.quiet()


async def test_the_probe_goes_on_until_the_server_answers(engine: Engine) -> None:
    run, process = await engine.running()
    port = int(process.spec.env["ACTOR_WEB_SERVER_PORT"])
    assert run.web_server_port == port and not run.is_container_server_ready
    await engine.settle(lambda: engine.web_servers.asked == [port])
    for _ in range(30):
        await advance(engine, 1)
    # It slows down: most runs have no server at all.
    assert 8 <= len(engine.web_servers.asked) <= 14
    engine.web_servers.up.add(port)
    await advance(engine, 5)
    await engine.until(run, lambda current: current.is_container_server_ready)
    asked = len(engine.web_servers.asked)
    await advance(engine, 60)
    assert len(engine.web_servers.asked) == asked
    engine.runtime.end(process, code=0)
    assert not (await engine.ended(run)).is_container_server_ready


async def test_a_standby_run_has_its_origin_no_timeout_and_no_input(engine: Engine) -> None:
    run, process = await standby_run(engine)
    assert process.spec.env["APIFY_META_ORIGIN"] == "STANDBY"
    assert "ACTOR_TIMEOUT_AT" not in process.spec.env
    assert (run.options.timeout_secs, run.options.memory_mbytes, run.stats.input_body_len) == (0, 256, 0)
    assert run.idle_at == engine.clock.now_ms() + IDLE_SECS * 1000


async def test_an_idle_run_hears_of_it_is_stopped_after_15_s_killed_after_30_s_and_succeeds(engine: Engine) -> None:
    engine.runtime.ignores_term = True
    run, process = await standby_run(engine)
    await advance(engine, IDLE_SECS - 1)
    assert (await engine.get(run)).wanted is Wanted.RUN
    await advance(engine, 1)
    await engine.settle(lambda: engine.events.names() == ["aborting", "persistState"])
    stopping = await engine.get(run)
    assert (stopping.status, stopping.stop_reason) == (JobStatus.RUNNING, StopReason.IDLE)
    assert IDLE_LINE in await engine.log(run)
    await advance(engine, 14.5)
    assert process.signals == []
    await advance(engine, 0.5)
    await engine.settle(lambda: process.signals == ["TERM"])
    await advance(engine, 14.5)
    assert process.signals == ["TERM"]
    await advance(engine, 0.5)
    await engine.settle(lambda: process.signals == ["TERM", "KILL"])
    done = await engine.ended(run)
    assert (done.status, done.exit_code, done.status_message) == (JobStatus.SUCCEEDED, 137, None)


@pytest.mark.parametrize("code", [0, 1, 91])
async def test_an_idle_run_that_exits_succeeds_whatever_its_code(engine: Engine, code: int) -> None:
    run, process = await standby_run(engine)
    await advance(engine, IDLE_SECS)
    await engine.settle(lambda: "aborting" in engine.events.names())
    engine.runtime.end(process, code=code)
    done = await engine.ended(run)
    assert (done.status, done.exit_code) == (JobStatus.SUCCEEDED, code)


async def test_before_it_is_idle_the_exit_code_counts(engine: Engine) -> None:
    run, process = await standby_run(engine)
    engine.runtime.end(process, code=1)
    assert (await engine.ended(run)).status is JobStatus.FAILED


async def test_use_puts_the_end_off(engine: Engine) -> None:
    run, _ = await standby_run(engine)
    for _ in range(5):
        await advance(engine, IDLE_SECS - 1)
        await use(engine, run)
    assert (await engine.get(run)).wanted is Wanted.RUN
    await advance(engine, IDLE_SECS)
    await engine.until(run, lambda current: current.wanted is Wanted.STOP)
    # Too late: a run that is being ended is not kept by a request.
    await use(engine, run)
    assert (await engine.get(run)).wanted is Wanted.STOP


async def test_a_server_that_never_answers_is_idle_in_the_end(engine: Engine) -> None:
    run = await engine.starts.start(
        BOB, engine.actor.id, StartOptions(), None, Meta(Origin.STANDBY), standby=StandbyTerms(3, 4, IDLE_SECS)
    )
    process = await engine.process_of(run)
    await advance(engine, 180 + IDLE_SECS - 1)
    assert (await engine.get(run)).wanted is Wanted.RUN
    await advance(engine, 1)
    await engine.until(run, lambda current: current.wanted is Wanted.STOP)
    engine.runtime.end(process, code=0)
    await engine.ended(run)


async def test_an_abort_wins_over_the_idle_end(engine: Engine) -> None:
    run, process = await standby_run(engine)
    await advance(engine, IDLE_SECS)
    await engine.until(run, lambda current: current.wanted is Wanted.STOP)
    await engine.runs.abort(await engine.get(run), gracefully=False)
    done = await engine.ended(run)
    assert (done.status, process.signals) == (JobStatus.ABORTED, ["KILL"])


async def test_a_reboot_does_not_undo_the_idle_end(engine: Engine) -> None:
    run, process = await standby_run(engine)
    await advance(engine, IDLE_SECS)
    await engine.until(run, lambda current: current.wanted is Wanted.STOP)
    await engine.runs.reboot(await engine.get(run))
    engine.runtime.end(process, code=0)
    assert (await engine.ended(run)).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("at_secs", [IDLE_SECS - 1, IDLE_SECS, IDLE_SECS + 15, IDLE_SECS + 29])
async def test_the_end_goes_on_after_a_crash_of_the_server_at_any_time(engine: Engine, at_secs: int) -> None:
    engine.runtime.ignores_term = True
    run, process = await standby_run(engine)
    started = engine.clock.now_ms()
    for at in (IDLE_SECS - 1, IDLE_SECS, IDLE_SECS + 15, IDLE_SECS + 29):
        await advance(engine, (started + at * 1000 - engine.clock.now_ms()) / 1000)
        # Time may not go on before what is due has happened.
        if at >= IDLE_SECS:
            await engine.until(run, lambda current: current.wanted is Wanted.STOP)
        if at >= IDLE_SECS + 15:
            await engine.settle(lambda: "TERM" in process.signals)
        if at == at_secs:
            await engine.restart()
            if at >= IDLE_SECS + 15:
                await engine.settle(lambda: process.signals.count("TERM") == 2)
            await engine.quiet()
    await advance(engine, 1)
    done = await engine.ended(run)
    assert done.status is JobStatus.SUCCEEDED
    assert process.signals[-1] == "KILL"
    assert done.finished_at == started + (IDLE_SECS + 30) * 1000


async def test_a_reboot_asks_the_new_process_anew(engine: Engine) -> None:
    run, _ = await standby_run(engine)
    engine.web_servers.answer = False
    await engine.runs.reboot(run)
    second = await engine.process_of(run, 2)
    current = await engine.until(run, lambda current: current.stats.reboot_count == 1)
    assert not current.is_container_server_ready
    engine.web_servers.up.add(int(second.spec.env["ACTOR_WEB_SERVER_PORT"]))
    await advance(engine, 1)
    await engine.until(run, lambda current: current.is_container_server_ready)


async def change_actor(engine: Engine, **standby_fields: Any) -> Actor:
    fields = {**engine.actor.fields, "actorStandby": {"isEnabled": True, **standby_fields}}
    actor = msgspec.structs.replace(engine.actor, fields=fields)

    async def op(tx: Tx) -> None:
        await catalog.update_actor(tx, actor)

    await engine.db.write("change Actor", op)
    return actor


async def new_build(engine: Engine, tag: str = "latest") -> None:
    async def op(tx: Tx) -> None:
        first = await builds.find_build(tx, engine.actor.id, "0.1.1")
        assert isinstance(first, Build)
        second = msgspec.structs.replace(first, id="secondsecondsecond"[:17], build_number="0.1.2")
        await builds.insert_build(tx, second)
        await builds.set_tag(tx, engine.actor.id, tag, second.id)

    await engine.db.write("new build", op)


async def test_a_new_build_retires_runs_once_their_requests_are_served(engine: Engine) -> None:
    await change_actor(engine)
    run, process = await standby_run(engine)
    retirement = StandbyRetirement(engine.db, engine.clock, engine.signals)
    await retirement.retire_outdated()
    assert not (await engine.get(run)).is_retired
    await new_build(engine)
    await retirement.retire_outdated()
    assert (await engine.get(run)).is_retired
    for _ in range(4):  # a request under way keeps it
        await advance(engine, 5)
        await use(engine, run)
    assert (await engine.get(run)).wanted is Wanted.RUN
    await advance(engine, 10)
    await engine.until(run, lambda current: current.wanted is Wanted.STOP)
    assert "ACTOR: Actor Standby server was replaced, finishing run." in await engine.log(run)
    engine.runtime.end(process, code=0)
    assert (await engine.ended(run)).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize(("fields", "is_retired"), [({"build": "beta"}, False), ({"isEnabled": False}, True)])
async def test_what_is_retired_follows_the_configuration(
    engine: Engine, fields: dict[str, Any], is_retired: bool
) -> None:
    await change_actor(engine, **fields)
    run, _ = await standby_run(engine)
    await new_build(engine)
    await StandbyRetirement(engine.db, engine.clock, engine.signals).retire_outdated()
    assert (await engine.get(run)).is_retired is is_retired


async def test_two_runs_never_share_a_port(engine: Engine) -> None:
    ports = set()
    for _ in range(10):
        _, process = await engine.running(memory_mbytes=256)
        ports.add(process.spec.env["ACTOR_WEB_SERVER_PORT"])
    assert len(ports) == 10
