"""Sections 10 and 4.7 of the runs page: charging for events and items, the limit, idempotency, resurrection."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from actorium.domain.models import JobStatus, Meta, Run
from actorium.domain.times import iso
from actorium.services.run_options import StartOptions
from actorium.storage import jobs
from actorium.storage.db import Tx
from support.openapi import given_document
from support.program import ACTOR_ID, Program
from support.storage_server import Answer, error

START, ITEM = "apify-actor-start", "apify-default-dataset-item"


def event(price: float, **more: Any) -> dict[str, Any]:
    return {"eventTitle": f"Costs {price}", "eventDescription": "Something", "eventPriceUsd": price, **more}


async def price(program: Program, events: dict[str, Any] | None = None, **info: Any) -> None:
    """Add a pricing to the Actor: paid per event where ``events`` are given."""
    current = (await program.ask("GET", f"/actors/{ACTOR_ID}"))["pricingInfos"]
    if events is not None:
        info |= {"pricingModel": "PAY_PER_EVENT", "pricingPerEvent": {"actorChargeEvents": events}}
    program.clock.advance(1)
    await program.ask("PUT", f"/actors/{ACTOR_ID}", {"pricingInfos": [*current, info]})


async def start(program: Program, query: str = "", status: int = 201) -> Any:
    answer = await program.send("POST", f"/actors/{ACTOR_ID}/runs{query}")
    assert answer.status == status, answer.body
    return json.loads(answer.body).get("data")


async def running(program: Program, limit: float | None = None, memory: int = 1024, **options: Any) -> Run:
    """A RUNNING run, as the engine would have made it."""
    asked = StartOptions(memory_mbytes=memory, max_total_charge_usd=limit, **options)
    run = await program.platform.starts.start(program.people["jane"], ACTOR_ID, asked, None, Meta("API"))
    now = program.clock.now_ms()

    async def op(tx: Tx) -> Run | None:
        return await jobs.transition(tx, run.id, {JobStatus.READY}, JobStatus.RUNNING, running_at=now)

    made = await program.platform.db.write("run", op)
    assert made is not None
    return made


_keys = iter(range(10**9))


async def charge(
    program: Program, run: Run, name: str, count: Any = 1, key: str | None = None, by: Any = "itself"
) -> Answer:
    headers = {"idempotency-key": f"key-{next(_keys)}" if key is None else key}
    body = {"eventName": name, "count": count}
    caller = run if by == "itself" else by
    return await program.send("POST", f"/actor-runs/{run.id}/charge", body, by=caller, headers=headers)


async def charged(program: Program, run: Run, name: str, count: int = 1, key: str | None = None) -> None:
    answer = await charge(program, run, name, count, key)
    assert (answer.status, answer.body) == (201, b"{}")


async def shown(program: Program, run: Run) -> dict[str, Any]:
    found: dict[str, Any] = await program.ask("GET", f"/actor-runs/{run.id}")
    return found


async def push(program: Program, run: Run, count: int, by: Any = "jane") -> None:
    await program.ask("POST", f"/datasets/{run.default_dataset_id}/items", [{}] * count, by=by)


async def test_a_run_begins_with_its_events_and_the_start(program: Program) -> None:
    await price(program, {"page": event(0.1), START: event(0.01), ITEM: event(0.001)})
    for memory, starts in ((128, 1), (1024, 1), (2048, 2), (4096, 4)):
        program.clock.advance(1)
        run = await start(program, f"?memory={memory}")
        assert run["chargedEventCounts"] == {"page": 0, START: starts, ITEM: 0}
        assert run["eventUsage"][START] == {"eventTitle": "Costs 0.01", "eventTotalUsd": starts * 0.01}
        assert run["usageTotalUsd"] == starts * 0.01
        assert run["platformUsageBillingModel"] == "DEVELOPER"
        assert run["pricingInfo"]["pricingModel"] == "PAY_PER_EVENT"
        assert {"apifyMarginPercentage", "createdAt", "startedAt"} <= set(run["pricingInfo"])
    listed = (await program.ask("GET", "/actor-runs?desc=1&limit=1"))["items"][0]
    assert listed["usageTotalUsd"] == 0.04


async def test_an_actor_without_prices_charges_nothing(program: Program) -> None:
    run = await running(program, limit=0.5)
    found = await shown(program, run)
    assert not {"pricingInfo", "chargedEventCounts", "eventUsage", "chargingStoppedAt"} & set(found)
    assert found["platformUsageBillingModel"] == "USER"
    assert error(await charge(program, run, "page")) == (405, "cannot-charge-non-pay-per-event-actor")
    await push(program, run, 3)
    assert (await shown(program, run))["status"] == "RUNNING"


async def test_refusals_come_in_the_platforms_order(program: Program) -> None:
    free = await running(program)
    await price(program, {"page": event(0.1)})
    run = await running(program)
    other = await running(program)
    for caller in ("jane", other):
        assert error(await charge(program, run, "apify-x", count=0, key="", by=caller)) == (
            403,
            "insufficient-permissions",
        )
    assert error(await charge(program, run, "page", by="john")) == (404, "record-not-found")
    assert error(await charge(program, run, "page", by=None)) == (401, "token-not-provided")
    for count in (0, -1, 10_000_001, 1.5, "3", True, [1]):
        refused = await charge(program, run, "apify-x", count=count)
        assert error(refused) == (400, "invalid-request")
        assert "count" in json.loads(refused.body)["error"]["message"]
    assert error(await charge(program, run, "apify-x", key="")) == (400, "invalid-request")
    assert error(await charge(program, run, "page", key="k" * 501)) == (400, "invalid-request")
    assert error(await charge(program, run, "")) == (400, "invalid-request")
    for name in ("apify-actor-start", "apify-x"):
        assert error(await charge(program, free, name)) == (405, "cannot-charge-apify-event")
    assert error(await charge(program, free, "page")) == (405, "cannot-charge-non-pay-per-event-actor")
    assert error(await charge(program, run, "other")) == (404, "record-not-found")
    path = f"/actor-runs/{run.id}/charge"
    for body in (b"[]", b"{", b'"x"'):
        sent = await program.send("POST", path, body, by=run, headers={"idempotency-key": "k"})
        assert error(sent) == (400, "invalid-request")
    assert (await shown(program, run))["chargedEventCounts"] == {"page": 0}


async def test_a_key_charges_once_in_three_minutes_even_after_a_crash(program: Program) -> None:
    await price(program, {"page": event(0.1), "scroll": event(0.1)})
    run, other = await running(program), await running(program)
    await asyncio.gather(*(charged(program, run, "page", 2, key="same") for _ in range(10)))
    await charged(program, run, "scroll", 5, key="same")
    await charged(program, other, "page", 1, key="same")
    await program.crash()
    await program.start()
    await charged(program, run, "page", 2, key="same")
    program.clock.advance(179.999)
    await charged(program, run, "page", 2, key="same")
    assert (await shown(program, run))["chargedEventCounts"] == {"page": 2, "scroll": 0}
    program.clock.advance(0.001)
    await charged(program, run, "page", 2, key="same")
    assert (await shown(program, run))["chargedEventCounts"] == {"page": 4, "scroll": 0}
    assert (await shown(program, other))["chargedEventCounts"] == {"page": 1, "scroll": 0}


async def test_charges_at_once_are_all_counted(program: Program) -> None:
    await price(program, {"page": event(0.1), ITEM: event(0.001)})
    run = await running(program)
    calls = [charged(program, run, "page", number) for number in range(1, 21)]
    calls += [push(program, run, 3, by=run) for _ in range(20)]
    await asyncio.gather(*calls)
    found = await shown(program, run)
    assert found["chargedEventCounts"] == {"page": 210, ITEM: 60}
    assert found["usageTotalUsd"] == 21.06
    assert found["eventUsage"]["page"]["eventTotalUsd"] == 21


async def test_reaching_the_limit_aborts_gracefully_in_the_same_write(program: Program) -> None:
    await price(program, {"page": event(0.1), "scroll": event(0.01)})
    run = await running(program, limit=0.3)
    await charged(program, run, "page", 2)
    before = await shown(program, run)
    assert (before["status"], "chargingStoppedAt" in before) == ("RUNNING", False)
    await charged(program, run, "page")
    stopped = await shown(program, run)
    assert stopped["status"] == "ABORTING"
    assert stopped["chargingStoppedAt"] == iso(program.clock.now_ms())
    assert stopped["isStatusMessageTerminal"] is True
    assert "$0.3" in stopped["statusMessage"]

    async def op(tx: Tx) -> Run | None:
        return await jobs.get_run(tx, run.id)

    row = await program.platform.db.read("row", op)
    assert row is not None and row.stop_at == program.clock.now_ms() + 30_000
    await program.ask("PUT", f"/actor-runs/{run.id}", {"statusMessage": "The Actor's own"}, by=run)
    assert (await shown(program, run))["statusMessage"] == stopped["statusMessage"]
    program.clock.advance(5)
    await charged(program, run, "scroll", 7)
    after = await shown(program, run)
    assert after["chargedEventCounts"] == {"page": 3, "scroll": 7}, "charges beyond the limit are accepted"
    assert after["chargingStoppedAt"] == stopped["chargingStoppedAt"]
    assert "maximum cost" in (await program.send("GET", f"/actor-runs/{run.id}/log")).body.decode()


async def test_items_of_anybody_count_and_reach_the_limit(program: Program) -> None:
    await price(program, {ITEM: event(0.1)})
    run = await running(program, limit=1)
    await push(program, run, 2, by="jane")
    await push(program, run, 3, by=run)
    await program.ask("POST", f"/actor-runs/{run.id}/dataset/items", {}, by=run)
    assert (await program.send("POST", f"/datasets/{run.default_dataset_id}/items", b"[1]", by=run)).status == 400
    await push(program, run, 0, by=run)
    other = (await program.ask("POST", "/datasets", by=run))["id"]
    await program.ask("POST", f"/datasets/{other}/items", [{}] * 50, by=run)
    found = await shown(program, run)
    assert (found["chargedEventCounts"], found["status"]) == ({ITEM: 6}, "RUNNING")
    await push(program, run, 4, by=run)
    found = await shown(program, run)
    assert (found["chargedEventCounts"], found["status"]) == ({ITEM: 10}, "ABORTING")
    await push(program, run, 1, by=run)
    assert (await shown(program, run))["chargedEventCounts"] == {ITEM: 11}
    assert (await program.ask("GET", f"/datasets/{run.default_dataset_id}"))["itemCount"] == 11


async def test_a_start_that_costs_too_much_never_runs(program: Program) -> None:
    await price(program, {START: event(0.5)})
    run = await start(program, "?memory=1024&maxTotalChargeUsd=0.5")
    assert (run["status"], run["chargedEventCounts"]) == ("ABORTED", {START: 1})
    assert run["finishedAt"] and run["chargingStoppedAt"] and "maximum cost" in run["statusMessage"]
    assert (await start(program, "?memory=1024&maxTotalChargeUsd=0.51"))["status"] == "READY"


async def test_charging_goes_on_after_the_end(program: Program) -> None:
    await price(program, {"page": event(0.1)})
    run = await running(program, limit=0.2)
    ended = program.clock.now_ms()

    async def end(tx: Tx) -> None:
        await jobs.transition(tx, run.id, {JobStatus.RUNNING}, JobStatus.SUCCEEDED, finished_at=ended, running_at=None)

    await program.platform.db.write("end", end)
    await charged(program, run, "page", 3)
    found = await shown(program, run)
    assert (found["status"], found["chargedEventCounts"]) == ("SUCCEEDED", {"page": 3})
    assert "statusMessage" not in found
    assert "chargingStoppedAt" in found


async def test_a_one_time_event_is_charged_once(program: Program) -> None:
    await price(program, {"setup": event(0.5, isOneTimeEvent=True)})
    run = await running(program)
    await charged(program, run, "setup", 3)
    await charged(program, run, "setup")
    assert (await shown(program, run))["chargedEventCounts"] == {"setup": 1}


async def test_later_prices_do_not_reprice_a_run(program: Program) -> None:
    await price(program, {"page": event(0.1)})
    run = await running(program)
    await price(program, {"page": event(9), "new": event(1)})
    await charged(program, run, "page")
    assert error(await charge(program, run, "new")) == (404, "record-not-found")
    assert (await shown(program, run))["usageTotalUsd"] == 0.1
    assert (await start(program))["chargedEventCounts"] == {"page": 0, "new": 0}


async def test_a_resurrected_run_pays_its_start_again_and_may_raise_the_limit(program: Program) -> None:
    await price(program, {"page": event(0.1), START: event(0.01)})
    run = await running(program, limit=0.5, memory=2048)
    await charged(program, run, "page", 5)
    stopped = program.clock.now_ms()

    async def end(tx: Tx) -> None:
        await jobs.transition(tx, run.id, {JobStatus.ABORTING}, JobStatus.ABORTED, finished_at=stopped, running_at=None)

    await program.platform.db.write("end", end)
    path = f"/actor-runs/{run.id}/resurrect"
    lower = await program.send("POST", f"{path}?maxTotalChargeUsd=0.4")
    assert error(lower) == (400, "parameters-mismatched")
    again = await program.ask("POST", f"{path}?maxTotalChargeUsd=1")
    assert (again["status"], again["options"]["maxTotalChargeUsd"]) == ("READY", 1)
    assert again["chargedEventCounts"] == {"page": 5, START: 4}
    assert "chargingStoppedAt" not in again
    await program.ask("POST", f"/actor-runs/{run.id}/abort")
    beyond = await program.ask("POST", path)
    assert (beyond["status"], beyond["chargedEventCounts"][START]) == ("READY", 6)
    await program.ask("POST", f"/actor-runs/{run.id}/abort")
    lifted = await program.ask("POST", f"{path}?maxTotalChargeUsd=0")
    assert "maxTotalChargeUsd" not in lifted["options"], "a lifted limit is absent, not 0"
    assert lifted["status"] == "READY"


async def test_a_resurrection_beyond_the_limit_ends_at_once(program: Program) -> None:
    await price(program, {START: event(0.3)})
    run = await running(program, limit=0.5)
    await program.ask("POST", f"/actor-runs/{run.id}/abort")
    ended = program.clock.now_ms()

    async def end(tx: Tx) -> None:
        await jobs.transition(tx, run.id, {JobStatus.ABORTING}, JobStatus.ABORTED, finished_at=ended)

    await program.platform.db.write("end", end)
    again = await program.ask("POST", f"/actor-runs/{run.id}/resurrect")
    assert (again["status"], again["chargedEventCounts"]) == ("ABORTED", {START: 2})
    assert "maximum cost" in again["statusMessage"]


async def test_minimum_and_values_of_the_limit(program: Program) -> None:
    await price(program, {"page": event(0.1)}, minimalMaxTotalChargeUsd=0.5)
    path = f"/actors/{ACTOR_ID}/runs?maxTotalChargeUsd"
    assert error(await program.send("POST", f"{path}=0.4")) == (400, "max-total-charge-usd-below-minimum")
    assert error(await program.send("POST", f"{path}=0")) == (400, "max-total-charge-usd-must-be-greater-than-zero")
    assert error(await program.send("POST", f"{path}=x")) == (400, "invalid-request")
    assert (await program.ask("POST", f"{path}=0.5"))["options"]["maxTotalChargeUsd"] == 0.5
    await start(program)


async def test_items_with_a_price_are_charged_up_to_max_items(program: Program) -> None:
    await price(program, pricingModel="PRICE_PER_DATASET_ITEM", unitName="result", pricePerUnitUsd=0.01)
    run = await running(program, max_items=5)
    await push(program, run, 4)
    found = await shown(program, run)
    assert (found["usageTotalUsd"], found["options"]["maxItems"]) == (0.04, 5)
    assert "chargedEventCounts" not in found
    await push(program, run, 4)
    found = await shown(program, run)
    assert (found["usageTotalUsd"], found["status"]) == (0.05, "RUNNING")
    assert (await program.ask("GET", f"/datasets/{run.default_dataset_id}"))["itemCount"] == 8
    free = await running(program)
    await push(program, free, 8)
    assert (await shown(program, free))["usageTotalUsd"] == 0.08


async def test_prices_of_tiers_are_flat_in_the_run(program: Program) -> None:
    tiered = {"eventTitle": "Page", "eventDescription": "A page"}
    tiered["eventTieredPricingUsd"] = {  # type: ignore[assignment]
        tier: {"tieredEventPriceUsd": usd} for tier, usd in (("BRONZE", 0.2), ("FREE", 0.3), ("GOLD", 0.1))
    }
    await price(program, {"page": tiered})
    run = await running(program)
    flat = (await shown(program, run))["pricingInfo"]["pricingPerEvent"]["actorChargeEvents"]["page"]
    assert flat == {"eventTitle": "Page", "eventDescription": "A page", "eventPriceUsd": 0.3}
    await charged(program, run, "page")
    assert (await shown(program, run))["usageTotalUsd"] == 0.3
    assert (await program.ask("GET", f"/actors/{ACTOR_ID}"))["pricingInfos"][0]["pricingPerEvent"][
        "actorChargeEvents"
    ] == {"page": tiered}


async def test_two_servers_count_together(program: Program, tmp_path: Any, database_url: str) -> None:
    if not database_url:
        pytest.skip("a SQLite database has one server")
    await price(program, {"page": event(0.1), ITEM: event(0.001)})
    run = await running(program, limit=100)
    other = Program(tmp_path / "data", database_url)
    other.people = program.people
    await other.start()
    calls = [charged(one, run, "page") for one in (program, other) for _ in range(10)]
    calls += [push(one, run, 2) for one in (program, other) for _ in range(10)]
    calls += [charged(one, run, "page", key="once") for one in (program, other)]
    await asyncio.gather(*calls)
    assert (await shown(other, run))["chargedEventCounts"] == {"page": 21, ITEM: 40}
    await other.stop()


async def test_answers_are_as_the_document_says(program: Program) -> None:
    document = given_document()
    free = await running(program)
    await price(program, {"page": event(0.1), START: event(0.01), ITEM: event(0.001)}, minimalMaxTotalChargeUsd=0.05)
    run = await running(program, limit=1)
    for answer, status in (
        (await charge(program, run, "page"), 201),
        (await charge(program, run, "page", key=""), 400),
        (await charge(program, run, "page", by=None), 401),
        (await charge(program, run, "page", by="jane"), 403),
        (await charge(program, run, "other"), 404),
        (await charge(program, run, "apify-x"), 405),
        (await charge(program, free, "page"), 405),
    ):
        assert answer.status == status
        assert document.problems("PostChargeRun", answer) == []
    await charged(program, run, "page", 9)
    for operation, path in (
        ("actorRun_get", f"/actor-runs/{run.id}"),
        ("actorRuns_get", "/actor-runs"),
        ("actor_runs_last_get", f"/actors/{ACTOR_ID}/runs/last"),
        ("users_me_usage_monthly_get", "/users/me/usage/monthly"),
        ("users_me_limits_get", "/users/me/limits"),
    ):
        answer = await program.send("GET", path)
        assert (answer.status, document.problems(operation, answer)) == (200, [])
    below = await program.send("POST", f"/actors/{ACTOR_ID}/runs?maxTotalChargeUsd=0.01")
    assert (below.status, document.problems("actors_runs_post", below)) == (400, [])
