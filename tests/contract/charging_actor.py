"""The Actor of ``test_sdk_charging.py``; its input names the scenario."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from apify import Actor
from apify_client import ApifyClientAsync


async def unpriced() -> dict[str, Any]:
    """Charging does nothing."""
    result = await Actor.charge("page")
    info = Actor.get_charging_manager().get_pricing_info()
    return {"is_pay_per_event": info.is_pay_per_event, "charged": result.charged_count}


async def charge() -> dict[str, Any]:
    """Events by themselves, one key twice, items with and without an event."""
    manager = Actor.get_charging_manager()
    before = {name: manager.get_charged_event_count(name) for name in ("page", "apify-actor-start")}
    run = await Actor.apify_client.run(Actor.configuration.actor_run_id).get()
    resurrections = run.stats.resurrect_count
    assert (await Actor.charge("page", count=2)).charged_count == 2
    for _ in range(2):
        await Actor.charge("page", count=3, idempotency_key=f"the-same-{resurrections}")
    await Actor.push_data([{"n": n} for n in range(3)], charged_event_name="result")
    await Actor.push_data({"n": 3})
    info = manager.get_pricing_info()
    return {
        "is_pay_per_event": info.is_pay_per_event,
        "prices": {name: float(price) for name, price in info.per_event_prices.items()},
        "before": before,
        "total_usd": float(manager.calculate_total_charged_amount()),
    }


async def limit() -> dict[str, Any]:
    """Charge until the SDK says that there is no more."""
    charged, reached = 0, False
    while not reached:
        result = await Actor.charge("page")
        charged += result.charged_count
        reached = result.event_charge_limit_reached
    beyond = await Actor.charge("page")
    assert beyond.charged_count == 0
    maximum = Actor.get_charging_manager().get_max_total_charge_usd()
    return {"charged": charged, "reached": reached, "max_usd": float(maximum)}


async def push() -> dict[str, Any]:
    """More items than the limit allows."""
    result = await Actor.push_data([{"n": n} for n in range(20)], charged_event_name="result")
    return {"charged": result.charged_count if result else 0}


async def client() -> dict[str, Any]:
    """The client of the API instead of the SDK."""
    own = ApifyClientAsync(os.environ["APIFY_TOKEN"], api_url=os.environ["APIFY_API_BASE_URL"].rstrip("/"))
    run = own.run(os.environ["ACTOR_RUN_ID"])
    await run.charge("page", count=2, idempotency_key="once")
    await run.charge("page", count=2, idempotency_key="once")
    await run.charge("page")
    return {}


async def work() -> dict[str, Any]:
    """A bit of everything that is counted."""
    await Actor.push_data([{"n": n, "pad": "é" * 100} for n in range(250)])
    await Actor.push_data({"n": 250})
    dataset = await Actor.open_dataset()
    await dataset.get_data(limit=7, offset=3)
    assert len([item async for item in dataset.iterate_items()]) == 251
    store = await Actor.open_key_value_store()
    for key in "ABC":
        await store.set_value(key, {"key": key, "pad": "x" * 3000})
    assert await store.get_value("A")
    assert await store.get_value("none") is None
    await store.set_value("A", None)
    [key async for key in store.iterate_keys()]
    queue = await Actor.open_request_queue()
    await queue.add_request("http://x/first")
    await queue.add_requests([f"http://x/{number}" for number in range(40)])
    while (request := await queue.fetch_next_request()) is not None:
        await queue.mark_request_as_handled(request)
    return {}


async def main() -> None:
    async with Actor:
        scenario = (await Actor.get_input())["scenario"]
        told = await globals()[scenario]()
        await Actor.set_value("OUTPUT", told)


asyncio.run(main())
