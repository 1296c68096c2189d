"""Budgets of what services cost: a run's (maxTotalUsageUsd), and a user's month (account page, section 5)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actorium.domain.models import JobStatus, Meta, Run
from actorium.services.run_options import StartOptions
from actorium.storage import jobs
from actorium.storage.db import Tx
from support.program import ACTOR_ID, Program
from support.storage_server import error

HOUR = 3600.0
RUNS = f"/actors/{ACTOR_ID}/runs"


@pytest.fixture
def settings() -> dict[str, object]:
    return {}


@pytest.fixture
async def program(tmp_path: Path, database_url: str, settings: dict[str, object]) -> AsyncIterator[Program]:
    prices = "ACTOR_COMPUTE_UNITS=1,DATASET_WRITES=0.1"
    found = Program(tmp_path / "data", database_url, usage_prices_usd=prices, **settings)
    await found.start()
    yield found
    await found.stop()


async def running(program: Program, **options: Any) -> Run:
    asked = StartOptions(memory_mbytes=1024, **options)
    run = await program.platform.starts.start(program.people["jane"], ACTOR_ID, asked, None, Meta("API"))
    now = program.clock.now_ms()

    async def op(tx: Tx) -> Run | None:
        await jobs.insert_attempt(tx, f"attempt-{run.id}", run.id, now, {})
        return await jobs.transition(tx, run.id, {JobStatus.READY}, JobStatus.RUNNING, running_at=now)

    made = await program.platform.db.write("run", op)
    assert made is not None
    return made


async def shown(program: Program, run: Run) -> dict[str, Any]:
    found: dict[str, Any] = await program.ask("GET", f"/actor-runs/{run.id}")
    return found


async def status_after_check(program: Program, run: Run) -> str:
    await program.platform.budgets.check_runs()
    return str((await shown(program, run))["status"])


async def end(program: Program, run: Run) -> None:
    now = program.clock.now_ms()

    async def op(tx: Tx) -> Run | None:
        await jobs.finish_attempt(tx, f"attempt-{run.id}", now, {})
        current = await jobs.get_run(tx, run.id)
        assert current is not None
        last = JobStatus.ABORTED if current.status is JobStatus.ABORTING else JobStatus.SUCCEEDED
        return await jobs.transition(tx, run.id, {current.status}, last, finished_at=now, running_at=None)

    await program.platform.reads.usage.settle(run.id, "end", op)


async def test_a_run_is_aborted_gracefully_at_its_budget(program: Program) -> None:
    run, free = await running(program, max_total_usage_usd=1.5), await running(program)
    assert (await shown(program, run))["options"]["maxTotalUsageUsd"] == 1.5
    assert "maxTotalUsageUsd" not in (await shown(program, free))["options"]
    program.clock.advance(HOUR)
    await program.ask("POST", f"/datasets/{run.default_dataset_id}/items", [{}] * 4, by=run)
    assert await status_after_check(program, run) == "RUNNING", "1.4 of 1.5"
    await program.ask("POST", f"/datasets/{run.default_dataset_id}/items", {}, by=run)
    assert await status_after_check(program, run) == "ABORTING"
    found = await shown(program, run)
    assert found["isStatusMessageTerminal"] is True
    assert "$1.5" in found["statusMessage"] and "maxTotalUsageUsd" in found["statusMessage"]
    assert "chargingStoppedAt" not in found

    async def op(tx: Tx) -> Run | None:
        return await jobs.get_run(tx, run.id)

    row = await program.platform.db.read("row", op)
    assert row is not None and row.stop_at == program.clock.now_ms() + 30_000
    assert (await shown(program, free))["status"] == "RUNNING"
    assert "budget" in (await program.send("GET", f"/actor-runs/{run.id}/log")).body.decode()


async def test_a_budget_by_the_api_and_at_a_resurrection(program: Program) -> None:
    for value in ("0", "-1", "x", "nan"):
        refused = await program.send("POST", f"{RUNS}?maxTotalUsageUsd={value}")
        assert error(refused) == (400, "invalid-request")
        assert "maxTotalUsageUsd" in json.loads(refused.body)["error"]["message"]
    started = await program.ask("POST", f"{RUNS}?memory=1024&maxTotalUsageUsd=0.25")
    assert started["options"]["maxTotalUsageUsd"] == 0.25
    run = await running(program, max_total_usage_usd=0.5)
    program.clock.advance(HOUR)
    assert await status_after_check(program, run) == "ABORTING"
    await end(program, run)
    path = f"/actor-runs/{run.id}/resurrect"
    assert (await program.ask("POST", f"{path}?maxTotalUsageUsd=3"))["options"]["maxTotalUsageUsd"] == 3
    await program.ask("POST", f"/actor-runs/{run.id}/abort")
    assert "maxTotalUsageUsd" not in (await program.ask("POST", f"{path}?maxTotalUsageUsd=0"))["options"]


async def test_the_charge_limit_can_include_what_services_cost(program: Program) -> None:
    event = {"eventTitle": "Page", "eventDescription": "A page", "eventPriceUsd": 0.5}
    for paid_by_user, status in ((True, "ABORTING"), (False, "RUNNING")):
        program.clock.advance(1)
        info = {
            "pricingModel": "PAY_PER_EVENT",
            "pricingPerEvent": {"actorChargeEvents": {"page": event}},
            "isPPEPlatformUsagePaidByUser": paid_by_user,
        }
        current = (await program.ask("GET", f"/actors/{ACTOR_ID}"))["pricingInfos"]
        await program.ask("PUT", f"/actors/{ACTOR_ID}", {"pricingInfos": [*current, info]})
        run = await running(program, max_total_charge_usd=1.5)
        headers = {"idempotency-key": "k"}
        sent = {"eventName": "page", "count": 1}
        await program.send("POST", f"/actor-runs/{run.id}/charge", sent, by=run, headers=headers)
        assert await status_after_check(program, run) == "RUNNING"
        program.clock.advance(HOUR)
        assert await status_after_check(program, run) == status
        found = await shown(program, run)
        assert found["platformUsageBillingModel"] == ("USER" if paid_by_user else "DEVELOPER")
        assert found["usageTotalUsd"] == (1.5 if paid_by_user else 0.5)
        assert ("chargingStoppedAt" in found) is paid_by_user


async def test_a_used_up_month_refuses_new_starts(program: Program) -> None:
    run = await running(program)
    assert (await program.send("PUT", "/users/me/limits", {"maxMonthlyUsageUsd": 2})).status == 201
    program.clock.advance(1.5 * HOUR)
    other = await program.ask("POST", f"{RUNS}?memory=1024")
    await program.ask("POST", f"/actor-runs/{other['id']}/abort")
    program.clock.advance(HOUR)
    limits = await program.ask("GET", "/users/me/limits")
    assert (limits["limits"]["maxMonthlyUsageUsd"], limits["current"]["monthlyUsageUsd"]) == (2, 2.5)
    refused = await program.send("POST", f"{RUNS}?memory=1024")
    assert error(refused) == (402, "platform-feature-disabled")
    message = json.loads(refused.body)["error"]["message"]
    assert message.startswith("Monthly usage hard limit exceeded")
    assert "$2.5 of $2" in message and "2026-02-01T00:00:00.000Z" in message
    assert error(await program.send("POST", f"/actor-runs/{other['id']}/resurrect")) == (
        402,
        "platform-feature-disabled",
    )
    assert await status_after_check(program, run) == "RUNNING", "live runs go on"
    await program.ask("PUT", "/users/me/limits", {"maxMonthlyUsageUsd": 3})
    await program.ask("POST", f"{RUNS}?memory=1024")
    await end(program, run)
    program.clock.advance(31 * 24 * HOUR)
    await program.ask("PUT", "/users/me/limits", {"maxMonthlyUsageUsd": 0.5})
    await program.ask("POST", f"{RUNS}?memory=1024")


@pytest.mark.parametrize("settings", [{"max_monthly_usage_usd": "2", "abort_runs_at_monthly_limit": "true"}])
async def test_a_limit_for_everybody_that_aborts_live_runs(program: Program) -> None:
    run = await running(program)
    assert (await program.ask("GET", "/users/me/limits"))["limits"]["maxMonthlyUsageUsd"] == 2
    program.clock.advance(HOUR)
    assert await status_after_check(program, run) == "RUNNING"
    program.clock.advance(HOUR)
    assert await status_after_check(program, run) == "ABORTING"
    assert (await shown(program, run))["statusMessage"].startswith("Monthly usage hard limit exceeded")
    assert error(await program.send("POST", RUNS)) == (402, "platform-feature-disabled")
    await program.ask("PUT", "/users/me/limits", {"maxMonthlyUsageUsd": 100})
    await program.ask("POST", f"{RUNS}?memory=1024")


async def test_the_server_looks_at_budgets_by_itself(program: Program) -> None:
    run = await running(program, max_total_usage_usd=0.5)
    await program.platform.budgets.start()
    program.clock.advance(HOUR)
    async with asyncio.timeout(20):
        while (await shown(program, run))["status"] != "ABORTING":
            program.clock.advance(1)
    await program.platform.budgets.stop()
