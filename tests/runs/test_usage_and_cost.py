"""Section 1 of the runs page, usage: twelve services, their cost, transfer, and figures that are final at the end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actorium.domain.models import JobStatus, Run
from actorium.domain.usage import UsageService
from actorium.domain.usage import shown as shown_quantities
from actorium.settings import SettingError, load_settings
from actorium.storage import jobs
from actorium.storage.db import Tx
from support.program import ACTOR_ID, Program

PRICES = (
    "ACTOR_COMPUTE_UNITS=0.3,KEY_VALUE_STORE_READS=0.000005,KEY_VALUE_STORE_WRITES=0.00005,DATASET_WRITES=0.000005,"
    "REQUEST_QUEUE_READS=0.000004,REQUEST_QUEUE_WRITES=0.00002,DATA_TRANSFER_INTERNAL_GBYTES=0.05,"
    "DATA_TRANSFER_EXTERNAL_GBYTES=0.2"
)
HOUR = 3600.0


@pytest.fixture
async def priced(tmp_path: Path, database_url: str) -> AsyncIterator[Program]:
    found = Program(tmp_path / "data", database_url, usage_prices_usd=PRICES)
    await found.start()
    yield found
    await found.stop()


async def begin(program: Program, run: Run) -> None:
    """The engine's write at the start of a process."""
    now = program.clock.now_ms()

    async def op(tx: Tx) -> None:
        await jobs.transition(tx, run.id, {JobStatus.READY}, JobStatus.RUNNING, running_at=now)
        await jobs.insert_attempt(tx, f"attempt-{run.id}-{now}", run.id, now, {})

    await program.platform.db.write("begin", op)


async def end(program: Program, run: Run, *, lost: bool = False) -> Run | None:
    """The engine's last write, with everything used; ``lost``: somebody else was first."""
    now = program.clock.now_ms()

    async def op(tx: Tx) -> Run | None:
        if lost:
            return None
        current = await jobs.get_run(tx, run.id)
        assert current is not None and current.running_at is not None
        await jobs.finish_attempt(tx, f"attempt-{run.id}-{current.running_at}", now, {})
        return await jobs.transition(
            tx, run.id, {JobStatus.RUNNING}, JobStatus.SUCCEEDED, finished_at=now, running_at=None
        )

    return await program.platform.reads.usage.settle(run.id, "end", op)


async def shown(program: Program, run: Run, by: str = "jane") -> dict[str, Any]:
    found: dict[str, Any] = await program.ask("GET", f"/actor-runs/{run.id}", by=by)
    return found


async def work(program: Program, run: Run) -> None:
    """10 items, 2 records, 1 read, 3 requests, one look at the head, all by the run's token."""
    store, queue = run.default_key_value_store_id, run.default_request_queue_id
    await program.ask("POST", f"/datasets/{run.default_dataset_id}/items", [{}] * 10, by=run)
    for key in "AB":
        await program.ask("PUT", f"/key-value-stores/{store}/records/{key}", b"x" * 1000, by=run)
    await program.send("GET", f"/key-value-stores/{store}/records/A", by=run)
    for number in range(3):
        body = {"url": f"http://x/{number}", "uniqueKey": str(number)}
        await program.ask("POST", f"/request-queues/{queue}/requests", body, by=run)
    await program.ask("GET", f"/request-queues/{queue}/head", by=run)


WORK = {
    "DATASET_WRITES": 10,
    "KEY_VALUE_STORE_WRITES": 2,
    "KEY_VALUE_STORE_READS": 1,
    "REQUEST_QUEUE_WRITES": 3,
    "REQUEST_QUEUE_READS": 3,
}
COST = {
    "DATASET_WRITES": 0.00005,
    "KEY_VALUE_STORE_WRITES": 0.0001,
    "KEY_VALUE_STORE_READS": 0.000005,
    "REQUEST_QUEUE_WRITES": 0.00006,
    "REQUEST_QUEUE_READS": 0.000012,
}


def without(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in usage.items() if value and name not in names}


async def test_every_service_has_quantity_and_cost(priced: Program) -> None:
    run = await priced.run()
    await begin(priced, run)
    await work(priced, run)
    priced.clock.advance(2 * HOUR)
    found = await shown(priced, run)
    names = {service.value for service in UsageService}
    assert len(names) == 12
    assert set(found["usage"]) == set(found["usageUsd"]) == names
    assert without(found["usage"], "DATA_TRANSFER_INTERNAL_GBYTES") == {**WORK, "ACTOR_COMPUTE_UNITS": 2}
    assert without(found["usageUsd"], "DATA_TRANSFER_INTERNAL_GBYTES") == {**COST, "ACTOR_COMPUTE_UNITS": 0.6}
    transfer = found["usage"]["DATA_TRANSFER_INTERNAL_GBYTES"]
    assert found["usageUsd"]["DATA_TRANSFER_INTERNAL_GBYTES"] == pytest.approx(transfer * 0.05, abs=1e-9)
    assert found["usageTotalUsd"] == pytest.approx(sum(found["usageUsd"].values()), abs=1e-12)
    for count in ("PROXY_SERPS", "DATASET_READS", "DATASET_WRITES"):
        assert isinstance(found["usage"][count], int), "a fraction is refused by the Python client"
    listed = (await priced.ask("GET", "/actor-runs"))["items"][0]
    assert listed["usageTotalUsd"] == found["usageTotalUsd"]
    of_actor = (await priced.ask("GET", f"/actors/{ACTOR_ID}/runs"))["items"][0]
    assert of_actor["usageTotalUsd"] == found["usageTotalUsd"]


async def test_without_prices_everything_costs_nothing(program: Program) -> None:
    run = await program.run()
    await work(program, run)
    found = await shown(program, run)
    assert without(found["usage"], "DATA_TRANSFER_INTERNAL_GBYTES") == WORK
    assert set(found["usageUsd"].values()) == {0.0}
    assert isinstance(found["usageTotalUsd"], float)
    assert (await program.ask("GET", "/actor-runs"))["items"][0]["usageTotalUsd"] == 0.0


async def figures(program: Program, run: Run) -> dict[str, Any]:
    found = await shown(program, run)
    return {name: found[name] for name in ("usage", "usageUsd", "usageTotalUsd", "stats", "finishedAt")}


async def test_figures_are_final_with_the_final_status(priced: Program) -> None:
    """They survive a crash right after, without any flush, and nothing is counted twice by a later one."""
    run, other = await priced.run(), await priced.run()
    for one in (run, other):
        await begin(priced, one)
        await work(priced, one)
    priced.clock.advance(HOUR)
    assert await end(priced, run) is not None
    final = await figures(priced, run)
    assert without(final["usage"], "DATA_TRANSFER_INTERNAL_GBYTES") == {**WORK, "ACTOR_COMPUTE_UNITS": 1}
    await priced.crash()
    await priced.start()
    assert await figures(priced, run) == final
    assert "DATASET_WRITES" not in without((await shown(priced, other))["usage"]), "the other's were pending"
    await priced.platform.reads.flush()
    priced.clock.advance(HOUR)
    assert await figures(priced, run) == final


async def test_an_end_that_is_not_written_keeps_what_is_pending(priced: Program) -> None:
    run = await priced.run()
    await begin(priced, run)
    await work(priced, run)
    before = await shown(priced, run)
    assert await end(priced, run, lost=True) is None
    await priced.platform.db.write("break", lambda tx: tx.execute("ALTER TABLE run_usage RENAME TO elsewhere"))
    with pytest.raises(Exception, match="run_usage"):
        await end(priced, run)
    await priced.platform.db.write("mend", lambda tx: tx.execute("ALTER TABLE elsewhere RENAME TO run_usage"))
    assert await shown(priced, run) == before
    await end(priced, run)
    assert (await shown(priced, run))["usage"] == before["usage"]


async def test_an_end_goes_on_when_its_caller_is_cancelled(priced: Program) -> None:
    run = await priced.run()
    await begin(priced, run)
    await work(priced, run)
    before = await shown(priced, run)
    ending = asyncio.create_task(end(priced, run))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    await priced.platform.reads.flush()
    after = await shown(priced, run)
    assert (after["status"], after["usage"]) == ("SUCCEEDED", before["usage"]), "once, not twice"


async def test_whoever_looks_while_runs_end_sees_everything_once(priced: Program) -> None:
    runs = [await priced.run() for _ in range(20)]
    for run in runs:
        await begin(priced, run)
        await priced.ask("POST", f"/datasets/{run.default_dataset_id}/items", [{}] * 3, by=run)
    expected = {run.id: (await shown(priced, run))["usage"] for run in runs}

    async def look(run: Run) -> None:
        for _ in range(5):
            assert (await shown(priced, run))["usage"] == expected[run.id]

    async def flush() -> None:
        for _ in range(10):
            await priced.platform.reads.flush()

    await asyncio.gather(flush(), *(look(run) for run in runs), *(end(priced, run) for run in runs))
    assert {run.id: (await shown(priced, run))["usage"] for run in runs} == expected


async def test_whoever_looks_while_an_end_is_being_written_waits_for_it(priced: Program, database_url: str) -> None:
    if database_url:
        pytest.skip("only SQLite has a thread of its own for writes, which a test can hold")
    run = await priced.run()
    await priced.ask("POST", f"/datasets/{run.default_dataset_id}/items", [{}] * 3, by=run)
    expected = (await shown(priced, run))["usage"]
    entered, gate = threading.Event(), threading.Event()

    async def held(tx: Tx) -> bool:
        entered.set()
        return gate.wait(60)

    ending = asyncio.create_task(priced.platform.reads.usage.settle(run.id, "held", held))
    await asyncio.to_thread(entered.wait, 60)
    looking = asyncio.create_task(priced.platform.reads.usage.of_runs([run]))
    await asyncio.wait({looking}, timeout=0.2)
    gate.set()
    assert shown_quantities((await looking)[run.id]) == expected
    assert await ending


async def test_calls_in_the_grace_of_the_token_are_added(priced: Program) -> None:
    run = await priced.run()
    await begin(priced, run)
    await end(priced, run)
    before = (await shown(priced, run))["usage"]
    await priced.ask("POST", f"/datasets/{run.default_dataset_id}/items", {}, by=run)
    after = (await shown(priced, run))["usage"]
    assert after["DATASET_WRITES"] == before["DATASET_WRITES"] + 1
    priced.clock.advance(16)
    assert (await priced.send("POST", f"/datasets/{run.default_dataset_id}/items", {}, by=run)).status == 401
    assert (await shown(priced, run))["usage"] == after


async def test_memory_that_changed_is_paid_for_as_it_was(priced: Program) -> None:
    run = await priced.run()
    await begin(priced, run)
    priced.clock.advance(HOUR)
    await end(priced, run)
    await priced.ask("POST", f"/actor-runs/{run.id}/resurrect?memory=4096")
    await begin(priced, run)
    priced.clock.advance(HOUR)
    assert (await shown(priced, run))["usage"]["ACTOR_COMPUTE_UNITS"] == 5
    await end(priced, run)
    found = await shown(priced, run)
    assert (found["usage"]["ACTOR_COMPUTE_UNITS"], found["usageUsd"]["ACTOR_COMPUTE_UNITS"]) == (5, 1.5)
    month = await priced.ask("GET", "/users/me/usage/monthly")
    assert month["monthlyServiceUsage"]["ACTOR_COMPUTE_UNITS"]["quantity"] == 5


async def test_transfer_is_the_bodies_of_calls_and_answers(program: Program) -> None:
    run = await program.run()
    before = (await shown(program, run))["usage"]["DATA_TRANSFER_INTERNAL_GBYTES"]
    assert before == 0
    moved = 0
    body = json.dumps([{"text": "x" * 5000}] * 4).encode()
    for method, path, sent in (
        ("POST", f"/datasets/{run.default_dataset_id}/items", body),
        ("GET", f"/datasets/{run.default_dataset_id}/items", None),
        ("GET", f"/datasets/{run.default_dataset_id}/items?format=csv", None),
        ("PUT", f"/key-value-stores/{run.default_key_value_store_id}/records/A", b"x" * 300_000),
        ("GET", f"/key-value-stores/{run.default_key_value_store_id}/records/A", None),
        ("GET", f"/key-value-stores/{run.default_key_value_store_id}/records/none", None),
        ("HEAD", f"/key-value-stores/{run.default_key_value_store_id}/records/A", None),
        ("DELETE", f"/key-value-stores/{run.default_key_value_store_id}/records/A", None),
        ("GET", f"/actor-runs/{run.id}", None),
    ):
        answer = await program.send(method, path, sent, by=run)
        moved += len(sent or b"") + len(answer.body)
    found = (await shown(program, run))["usage"]
    assert found["DATA_TRANSFER_INTERNAL_GBYTES"] == moved / 10**9
    assert found["DATA_TRANSFER_EXTERNAL_GBYTES"] == 0
    month = (await program.ask("GET", "/users/me/usage/monthly"))["monthlyServiceUsage"]
    assert month["DATA_TRANSFER_INTERNAL_GBYTES"]["quantity"] == moved / 10**9
    outside = month["DATA_TRANSFER_EXTERNAL_GBYTES"]["quantity"]
    assert outside > 0, "what users' own tokens move"
    await program.send("PUT", f"/key-value-stores/{run.default_key_value_store_id}/records/B", b"x" * 1_000_000)
    limits = (await program.ask("GET", "/users/me/limits"))["current"]
    assert limits["monthlyExternalDataTransferGbytes"] >= outside + 0.001


async def test_the_month_has_prices(priced: Program) -> None:
    run = await priced.run()
    await begin(priced, run)
    await work(priced, run)
    priced.clock.advance(30 * HOUR)
    found = await priced.ask("GET", "/users/me/usage/monthly")
    units = found["monthlyServiceUsage"]["ACTOR_COMPUTE_UNITS"]
    assert units == {
        "quantity": 30,
        "baseAmountUsd": 9,
        "baseUnitPriceUsd": 0.3,
        "amountAfterVolumeDiscountUsd": 9,
        "priceTiers": [],
    }
    services = sum(service["baseAmountUsd"] for service in found["monthlyServiceUsage"].values())
    for total in ("totalUsageCreditsUsdBeforeVolumeDiscount", "totalUsageCreditsUsdAfterVolumeDiscount"):
        assert found[total] == pytest.approx(services, abs=1e-8)
    assert sum(day["totalUsageCreditsUsd"] for day in found["dailyServiceUsages"]) == pytest.approx(services, abs=1e-8)
    current = (await priced.ask("GET", "/users/me/limits"))["current"]
    assert current["monthlyUsageUsd"] == pytest.approx(services, abs=1e-6)
    assert (await priced.ask("GET", "/users/me/limits", by="john"))["current"]["monthlyUsageUsd"] < 0.001


def test_prices_name_services(tmp_path: Path) -> None:
    def read(text: str) -> Any:
        return load_settings({"data_dir": str(tmp_path), "usage_prices_usd": text}, {}).usage_prices_usd

    everything = ",".join(f"{service.value}=1" for service in UsageService)
    assert read(everything) == dict.fromkeys((service.value for service in UsageService), 1.0)
    assert read("") == {}
    assert read(" dataset_reads = 0.5 , ") == {"DATASET_READS": 0.5}
    for wrong in (
        "CPU=1",
        "DATASET_READS=-1",
        "DATASET_READS=free",
        "DATASET_READS",
        "DATASET_READS=1,DATASET_READS=2",
    ):
        with pytest.raises(SettingError, match="usage_prices_usd"):
            read(wrong)
