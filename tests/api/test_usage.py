"""What calls use is counted exactly, for the run and the user whose token made them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from actorium.domain.models import JobStatus, Run
from actorium.domain.requests import request_id
from actorium.domain.usage import DAY_MS
from actorium.storage import jobs
from actorium.storage.db import Tx
from support.program import Program
from support.storage_server import error

_UNITS = "ACTOR_COMPUTE_UNITS"
_ALL = {
    f"{kind}_{what}" for kind in ("DATASET", "KEY_VALUE_STORE", "REQUEST_QUEUE") for what in ("READS", "WRITES")
} | {"KEY_VALUE_STORE_LISTS", _UNITS, "PROXY_SERPS"}
_TRANSFERS = {
    f"{kind}_GBYTES" for kind in ("DATA_TRANSFER_INTERNAL", "DATA_TRANSFER_EXTERNAL", "PROXY_RESIDENTIAL_TRANSFER")
}
_ALL |= _TRANSFERS


async def used(program: Program, run: Run) -> dict[str, Any]:
    """What the run used, without what is 0 and without transfer."""
    shown = (await program.ask("GET", f"/actor-runs/{run.id}"))["usage"]
    assert set(shown) == _ALL
    return {name: quantity for name, quantity in shown.items() if quantity and name not in _TRANSFERS}


async def month(program: Program, query: str = "", by: str = "jane") -> dict[str, Any]:
    """What a user used in a month, without what is 0 and without transfer."""
    shown = await program.ask("GET", f"/users/me/usage/monthly{query}", by=by)
    assert set(shown["monthlyServiceUsage"]) == _ALL
    found = {name: item["quantity"] for name, item in shown["monthlyServiceUsage"].items() if item["quantity"]}
    return {name: quantity for name, quantity in found.items() if name not in _TRANSFERS}


def a_request(key: str, **more: Any) -> dict[str, Any]:
    return {"url": f"http://site/{key}", "uniqueKey": key, **more}


def request_path(run: Run, key: str, rest: str = "") -> str:
    return f"/request-queues/{run.default_request_queue_id}/requests/{request_id(key)}{rest}"


async def test_datasets(program: Program) -> None:
    run = await program.run()
    items = f"/datasets/{run.default_dataset_id}/items"
    for body in ({"n": 0}, [{"n": n} for n in range(1, 10)], []):
        await program.ask("POST", items, body, by=run)
    assert await used(program, run) == {"DATASET_WRITES": 10}
    for query, rows in (
        ("", 10),
        ("?limit=3", 3),
        ("?offset=8", 2),
        ("?offset=50", 0),
        ("?desc=1&limit=4", 4),
        ("?skipEmpty=1&fields=none", 10),
        ("?unwind=n", 10),
        ("?format=csv&limit=5", 5),
        ("?format=xlsx&omit=n", 10),
    ):
        before = (await used(program, run)).get("DATASET_READS", 0)
        await program.send("GET", items + query, by=run)
        assert (await used(program, run)).get("DATASET_READS", 0) - before == rows, query
    before = await used(program, run)
    await program.send("HEAD", items, by=run)
    for method, path, body in (
        ("POST", items, b"[{}, 1]"),
        ("POST", items, b"{"),
        ("POST", f"/datasets/{'x' * 17}/items", b"{}"),
        ("GET", f"{items}?limit=x", None),
    ):
        assert (await program.send(method, path, body, by=run)).status >= 400
    await program.ask("GET", f"/datasets/{run.default_dataset_id}", by=run)
    await program.ask("GET", f"/actor-runs/{run.id}/dataset/statistics", by=run)
    assert await used(program, run) == before
    await program.ask("POST", f"/actor-runs/{run.id}/dataset/items", {"by": "alias"}, by=run)
    assert (await used(program, run))["DATASET_WRITES"] == 11


async def test_records(program: Program) -> None:
    run = await program.run()
    store = f"/key-value-stores/{run.default_key_value_store_id}"
    await program.ask("PUT", f"{store}/records/A", b"small", by=run)
    await program.ask("POST", f"{store}/records/B", b"x" * 100_000, by=run)
    await program.ask("PUT", f"{store}/records/A", b"again", by=run)
    await program.ask("DELETE", f"{store}/records/none", by=run)
    for method in ("GET", "HEAD"):
        await program.send(method, f"{store}/records/A", by=run)
    for query in ("", "?limit=1", "?prefix=B"):
        await program.ask("GET", f"{store}/keys{query}", by=run)
    expected = {"KEY_VALUE_STORE_WRITES": 4, "KEY_VALUE_STORE_READS": 2, "KEY_VALUE_STORE_LISTS": 3}
    assert await used(program, run) == expected
    for method, path in (
        ("GET", f"{store}/records/none"),
        ("GET", f"{store}/records/not%20a%20key"),
        ("PUT", f"{store}/records/not%20a%20key"),
        ("DELETE", f"/key-value-stores/{'x' * 17}/records/A"),
        ("GET", f"{store}/keys?limit=x"),
    ):
        assert (await program.send(method, path, by=run)).status >= 400, path
    assert await used(program, run) == expected
    stats = (await program.ask("GET", store))["stats"]
    assert (stats["readCount"], stats["writeCount"], stats["deleteCount"], stats["listCount"]) == (2, 4, 1, 3)


async def test_requests(program: Program) -> None:
    run = await program.run()
    queue = f"/request-queues/{run.default_request_queue_id}"
    writes = reads = 0

    async def expect(method: str, path: str, body: Any = None, *, wrote: int = 0, read: int = 0) -> None:
        nonlocal writes, reads
        await program.ask(method, path, body, by=run)
        writes, reads = writes + wrote, reads + read
        now = await used(program, run)
        counted = (now.get("REQUEST_QUEUE_WRITES", 0), now.get("REQUEST_QUEUE_READS", 0))
        assert counted == (writes, reads), f"{method} {path}"

    await expect("POST", f"{queue}/requests", a_request("1"), wrote=1)
    await expect("POST", f"{queue}/requests", a_request("1"), wrote=1)
    await expect("POST", f"{queue}/requests/batch", [a_request(str(n)) for n in (1, 2, 3, 3)], wrote=4)
    await expect("PUT", request_path(run, "1"), a_request("1", id=request_id("1")), wrote=1)
    await expect("PUT", request_path(run, "4"), a_request("4", id=request_id("4")), wrote=1)
    await expect("GET", request_path(run, "1"), read=1)
    await expect("GET", f"{queue}/requests", read=4)
    await expect("GET", f"{queue}/requests?limit=2", read=2)
    await expect("GET", f"{queue}/head?limit=3", read=3)
    await expect("POST", f"{queue}/head/lock?lockSecs=60&limit=2&clientKey=me", wrote=2)
    await expect("GET", f"{queue}/head", read=2)
    await expect("PUT", request_path(run, "2", "/lock?lockSecs=60&clientKey=me"), wrote=1)
    await expect("DELETE", request_path(run, "2", "/lock?clientKey=me"), wrote=1)
    await expect("POST", f"{queue}/requests/unlock?clientKey=me", wrote=1)
    await expect("POST", f"{queue}/requests/unlock?clientKey=me")
    await expect("DELETE", request_path(run, "4"), wrote=1)
    await expect("DELETE", f"{queue}/requests/batch", [{"uniqueKey": "1"}, {"uniqueKey": "none"}], wrote=1)
    await expect("GET", queue)
    for method, path, body in (
        ("GET", request_path(run, "none"), None),
        ("DELETE", request_path(run, "none"), None),
        ("POST", f"{queue}/requests", {"url": "http://x"}),
        ("POST", f"{queue}/requests/batch", [a_request("8"), {"url": "http://x"}]),
        ("PUT", request_path(run, "2"), a_request("3")),
        ("PUT", request_path(run, "2", "/lock?lockSecs=60&clientKey=me"), None),
        ("POST", f"{queue}/head/lock?limit=2", None),
    ):
        assert (await program.send(method, path, body, by=run)).status in (400, 404), path
    await expect("GET", queue)
    stats = (await program.ask("GET", queue))["stats"]
    assert (stats["writeCount"], stats["readCount"], stats["headItemReadCount"]) == (writes, reads - 5, 5)


async def test_uses_belong_to_whoever_called(program: Program) -> None:
    first, second = await program.run(), await program.run()
    items = f"/datasets/{first.default_dataset_id}/items"
    await program.ask("POST", items, [{}, {}], by=first)
    await program.ask("POST", items, [{}] * 3, by=second)
    await program.ask("POST", items, [{}] * 5, by="jane")
    await program.ask("PUT", f"/datasets/{first.default_dataset_id}", {"generalAccess": "ANYONE_WITH_ID_CAN_READ"})
    await program.ask("GET", items, by="john")
    await program.ask("GET", items, by=None)
    assert await used(program, first) == {"DATASET_WRITES": 2}
    assert await used(program, second) == {"DATASET_WRITES": 3}
    assert await month(program) == {"DATASET_WRITES": 10}
    assert await month(program, by="john") == {"DATASET_READS": 10}
    assert (await program.ask("GET", f"/datasets/{first.default_dataset_id}"))["stats"]["readCount"] == 20


async def test_only_the_owner_sees_what_a_run_used(program: Program) -> None:
    run = await program.run(general_access="ANYONE_WITH_ID_CAN_READ")
    fields = {"usage", "usageUsd", "usageTotalUsd"}
    own = await program.ask("GET", f"/actor-runs/{run.id}")
    assert own["usageUsd"] == dict.fromkeys(_ALL, 0.0)
    assert own["usageTotalUsd"] == 0.0
    for caller in ("john", None):
        assert not fields & set(await program.ask("GET", f"/actor-runs/{run.id}", by=caller))


async def test_concurrent_calls_flushes_and_reads_agree(program: Program) -> None:
    runs = [await program.run(), await program.run()]
    seen: list[int] = []

    async def push(number: int) -> None:
        run = runs[number % 2]
        await program.ask("POST", f"/datasets/{runs[0].default_dataset_id}/items", [{}] * 2, by=run)
        if number % 5 == 0:
            await program.platform.reads.flush()

    async def look() -> None:
        seen.extend([(await month(program)).get("DATASET_WRITES", 0) for _ in range(15)])

    await asyncio.gather(look(), *(push(number) for number in range(40)))
    assert seen == sorted(seen), "nothing vanishes while it is written down"
    assert [await used(program, run) for run in runs] == [{"DATASET_WRITES": 40}] * 2
    assert await month(program) == {"DATASET_WRITES": 80}


async def test_a_restart_loses_nothing_and_a_crash_only_what_is_pending(program: Program) -> None:
    run = await program.run()
    items = f"/datasets/{run.default_dataset_id}/items"
    await program.ask("POST", items, [{}] * 3, by=run)
    await program.stop()
    await program.start()
    assert await used(program, run) == {"DATASET_WRITES": 3}
    await program.ask("POST", items, {}, by=run)
    await program.platform.reads.flush()
    await program.ask("POST", items, {}, by=run)
    assert await used(program, run) == {"DATASET_WRITES": 5}
    await program.crash()
    await program.start()
    assert await used(program, run) == {"DATASET_WRITES": 4}
    assert await month(program) == {"DATASET_WRITES": 4}


async def test_servers_on_one_database_add_up(program: Program, tmp_path: Path, database_url: str) -> None:
    if not database_url:
        pytest.skip("a SQLite database has one server")
    run = await program.run()
    other = Program(tmp_path / "data", database_url)
    other.people = program.people
    await other.start()
    path = f"/datasets/{run.default_dataset_id}/items"
    await asyncio.gather(*(one.ask("POST", path, {}, by=run) for one in (program, other) for _ in range(10)))
    await asyncio.gather(program.platform.reads.flush(), other.platform.reads.flush())
    assert await used(program, run) == await used(other, run) == {"DATASET_WRITES": 20}
    assert await month(other) == {"DATASET_WRITES": 20}
    await other.stop()


async def test_what_fails_to_be_written_down_is_kept(program: Program) -> None:
    run = await program.run()
    await program.ask("POST", f"/datasets/{run.default_dataset_id}/items", {}, by=run)
    await program.platform.db.write("break", lambda tx: tx.execute("ALTER TABLE user_usage RENAME TO elsewhere"))
    with pytest.raises(Exception, match="user_usage"):
        await program.platform.reads.flush()
    await program.ask("POST", f"/datasets/{run.default_dataset_id}/items", {}, by=run)
    await program.platform.db.write("mend", lambda tx: tx.execute("ALTER TABLE elsewhere RENAME TO user_usage"))
    await program.platform.reads.flush()
    assert await used(program, run) == {"DATASET_WRITES": 2}
    assert await month(program) == {"DATASET_WRITES": 2}


async def test_a_deleted_run_takes_its_rows_along(program: Program) -> None:
    run = await program.run(JobStatus.SUCCEEDED)
    for written in (True, False):
        await program.ask("POST", f"/datasets/{run.default_dataset_id}/items", {}, by=run)
        if written:
            await program.platform.reads.flush()
    await program.ask("DELETE", f"/actor-runs/{run.id}")
    await program.platform.reads.flush()

    async def op(tx: Tx) -> int:
        return len(await tx.fetch("SELECT 1 AS one FROM run_usage WHERE run_id = ?", run.id))

    assert await program.platform.db.read("count", op) == 0
    assert await month(program) == {"DATASET_WRITES": 2}, "the user has used it all the same"


async def test_months_and_days(program: Program) -> None:
    assert await month(program) == {}
    run = await program.run()
    for items in (1, 2, 4):
        await program.ask("POST", f"/datasets/{run.default_dataset_id}/items", [{}] * items)
        program.clock.advance(DAY_MS / 1000)
    await program.platform.reads.flush()
    shown = await program.ask("GET", "/users/me/usage/monthly")
    assert shown["usageCycle"] == {"startAt": "2026-01-01T00:00:00.000Z", "endAt": "2026-01-31T23:59:59.999Z"}
    days = [(day["date"], day["serviceUsage"]["DATASET_WRITES"]["quantity"]) for day in shown["dailyServiceUsages"]]
    assert days == [(f"2026-01-{day:02}T00:00:00.000Z", items) for day, items in ((1, 1), (2, 2), (3, 4), (4, 0))]
    assert await month(program, "?date=2026-01-31") == {"DATASET_WRITES": 7}
    program.clock.advance(40 * DAY_MS / 1000)
    assert await month(program) == {}
    assert await month(program, "?date=2026-01-02") == {"DATASET_WRITES": 7}
    past = await program.ask("GET", "/users/me/usage/monthly?date=2024-02-29")
    assert past["usageCycle"]["endAt"] == "2024-02-29T23:59:59.999Z"
    assert len(past["dailyServiceUsages"]) == 29
    future = await program.ask("GET", "/users/me/usage/monthly?date=9999-12-31")
    assert future["dailyServiceUsages"] == []
    for date in ("2026-02-30", "yesterday", "2026-01", "2026-01-01T00:00:00Z", "10000-01-01"):
        refused = await program.send("GET", f"/users/me/usage/monthly?date={date}")
        assert error(refused) == (400, "invalid-request"), date
        assert "date" in json.loads(refused.body)["error"]["message"]


async def test_compute_units_are_those_of_processes(program: Program) -> None:
    """Ended attempts are booked on their days, also of deleted runs; live ones count until now."""
    begin = program.clock.now_ms() + DAY_MS - 3_600_000
    db = program.platform.db
    ended, live = await program.run(), await program.run()

    async def live_then_end(tx: Tx) -> None:
        for run, attempt in ((ended, "attempt-1"), (live, "attempt-2")):
            await jobs.transition(tx, run.id, {JobStatus.READY}, JobStatus.RUNNING, running_at=begin)
            await jobs.insert_attempt(tx, attempt, run.id, begin, {})
        for _ in range(2):  # the second time it has ended already
            await jobs.finish_attempt(tx, "attempt-1", begin + 2 * 3_600_000, {})
        await jobs.transition(tx, ended.id, {JobStatus.RUNNING}, JobStatus.SUCCEEDED, running_at=None)

    await db.write("attempts", live_then_end)
    await program.ask("DELETE", f"/actor-runs/{ended.id}")
    program.clock.advance((begin - program.clock.now_ms()) / 1000 + 3 * 3600)
    shown = await program.ask("GET", "/users/me/usage/monthly")
    assert shown["monthlyServiceUsage"][_UNITS]["quantity"] == 5
    assert [day["serviceUsage"][_UNITS]["quantity"] for day in shown["dailyServiceUsages"]] == [2, 3]
    limits = await program.ask("GET", "/users/me/limits")
    assert limits["current"]["monthlyActorComputeUnits"] == 5
    assert (await used(program, live))[_UNITS] == 3


async def test_the_stock_client_reads_it(program: Program) -> None:
    run = await program.run()
    client = program.client(program.token(run))
    await client.dataset(run.default_dataset_id).push_items([{"n": 1}, {"n": 2}])
    assert [item async for item in client.dataset(run.default_dataset_id).iterate_items()] == [{"n": 1}, {"n": 2}]
    await client.key_value_store(run.default_key_value_store_id).set_record("A", {})
    await client.request_queue(run.default_request_queue_id).add_request(a_request("1"))
    found = await program.client(program.token("jane")).run(run.id).get()
    assert found is not None and found.usage is not None and found.usage_usd is not None
    usage = found.usage
    assert (usage.dataset_writes, usage.dataset_reads) == (2, 2)
    assert (usage.key_value_store_writes, usage.request_queue_writes, usage.actor_compute_units) == (1, 1, 0)
    assert found.usage_usd.dataset_writes == 0.0
    monthly = await program.client(program.token("jane")).user().monthly_usage()
    assert monthly is not None
    assert monthly.monthly_service_usage["DATASET_WRITES"].quantity == 2
    assert monthly.daily_service_usages[0].service_usage["KEY_VALUE_STORE_WRITES"].quantity == 1
