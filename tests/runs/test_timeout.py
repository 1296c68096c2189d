"""The timeout is a budget of the run: it begins with the first process and passes on to the next ones."""

from __future__ import annotations

from support.live_program import LiveProgram


async def test_waiting_in_ready_costs_nothing(live: LiveProgram) -> None:
    await live.platform.supervisor.stop()
    run = await live.begin("timeout=60")
    live.clock.advance(1000)
    await live.restart()
    await live.process_of(run)
    await live.quiet()
    live.clock.advance(59)
    await live.quiet()
    assert (await live.get(run))["status"] == "RUNNING"
    live.clock.advance(1)
    assert (await live.ended(run))["status"] == "TIMED-OUT"


async def test_sigterm_then_sigkill_and_no_events(live: LiveProgram) -> None:
    live.runtime.ignores_term = True
    run, process = await live.running("timeout=60")
    live.clock.advance(60)
    await live.settle(lambda: process.signals == ["TERM"])
    await live.quiet()
    assert (await live.get(run))["status"] == "TIMING-OUT"
    live.clock.advance(5)
    done = await live.ended(run)
    assert (done["status"], process.signals, live.events.sent) == ("TIMED-OUT", ["TERM", "KILL"], [])


async def test_a_new_process_gets_the_rest_but_at_least_a_second(live: LiveProgram) -> None:
    run, first = await live.running("timeout=60")
    live.clock.advance(59.5)
    await live.ask("POST", f"/actor-runs/{run['id']}/reboot")
    second = await live.process_of(run, 2)
    await live.until(run, lambda now: now["stats"]["rebootCount"] == 1)
    assert second.spec.env["ACTOR_TIMEOUT_AT"] > first.spec.env["ACTOR_TIMEOUT_AT"]
    live.clock.advance(0.9)
    await live.quiet()
    assert (await live.get(run))["status"] == "RUNNING"
    live.clock.advance(0.1)
    assert (await live.ended(run))["status"] == "TIMED-OUT"


async def test_zero_is_no_limit(live: LiveProgram) -> None:
    run, process = await live.running("timeout=0")
    assert "ACTOR_TIMEOUT_AT" not in process.spec.env
    live.clock.advance(10_000_000)
    await live.quiet()
    current = await live.get(run)
    assert (current["status"], current["options"]["timeoutSecs"]) == ("RUNNING", 0)


async def test_it_survives_the_server(live: LiveProgram) -> None:
    run, process = await live.running("timeout=60")
    await live.platform.supervisor.stop()
    live.clock.advance(100)
    await live.restart()
    assert (await live.ended(run))["status"] == "TIMED-OUT"
    assert process.signals == ["TERM"]
