"""A run that reaches maxTotalChargeUsd ends like a graceful abort, whatever happens to the server meanwhile."""

from __future__ import annotations

import msgspec

from actorium.domain.models import JobStatus, Run
from actorium.services.access import Principal
from actorium.storage import catalog
from actorium.storage.db import Tx
from engine.conftest import BOB, Engine
from fakes.runtime import FakeProcess

S = JobStatus


async def stopped(engine: Engine) -> tuple[Run, FakeProcess]:
    """A run that has charged all it may, and whose process was told."""
    event = {"eventTitle": "Page", "eventDescription": "A page", "eventPriceUsd": 0.1}
    info = {
        "pricingModel": "PAY_PER_EVENT",
        "apifyMarginPercentage": 0,
        "createdAt": "2025-01-01T00:00:00.000Z",
        "startedAt": "2025-01-01T00:00:00.000Z",
        "pricingPerEvent": {"actorChargeEvents": {"page": event}},
    }

    async def price(tx: Tx) -> None:
        await catalog.update_actor(tx, msgspec.structs.replace(engine.actor, fields={"pricingInfos": [info]}))

    await engine.db.write("price", price)
    run, process = await engine.running(memory_mbytes=128, max_total_charge_usd=0.3)
    itself = Principal(BOB.user_id, BOB.username, f"run:{run.id}", run.id)
    await engine.charging.charge(itself, run.id, {"eventName": "page", "count": 3}, "key")
    await engine.settle(lambda: engine.events.names() == ["aborting", "persistState"])
    return run, process


async def test_it_has_its_window_and_is_then_aborted(engine: Engine) -> None:
    run, process = await stopped(engine)
    engine.clock.advance(29)
    await engine.quiet()
    assert process.signals == [], "30 seconds to save its state"
    engine.clock.advance(1)
    ended = await engine.ended(run)
    assert process.signals == ["TERM"]
    assert (ended.status, ended.charged_event_counts) == (S.ABORTED, {"page": 3})
    assert ended.charging_stopped_at is not None
    assert ended.status_message is not None and "maximum cost" in ended.status_message
    assert "maximum cost" in await engine.log(run)


async def test_one_that_exits_by_itself_is_aborted_all_the_same(engine: Engine) -> None:
    run, process = await stopped(engine)
    engine.runtime.end(process, code=0)
    ended = await engine.ended(run)
    assert (ended.status, ended.exit_code) == (S.ABORTED, 0)
    assert ended.status_message is not None and "maximum cost" in ended.status_message


async def test_a_server_that_dies_in_the_window_ends_it_later(engine: Engine) -> None:
    run, _ = await stopped(engine)
    await engine.restart()
    await engine.until(run, lambda current: current.status is S.ABORTING)
    engine.clock.advance(30)
    assert (await engine.ended(run)).status is S.ABORTED
