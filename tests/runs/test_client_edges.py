"""What official clients, SDKs and the command line break on. docs: runs, section 11; the numbers are its own.

Where to find the others: 4 in ``tests/engine/test_events.py``, 5 in ``test_wait_for_finish.py`` and
``tests/contract/test_errors.py``, 7 in ``test_run_sync.py``, 9 in ``test_update_delete.py``, 11 in
``tests/api/test_logs.py``, 14 in ``test_abort.py``, 15 in ``test_reboot.py``, ``test_metamorph.py`` and
``test_state_machine.py`` (rule 2).
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import brotli
import pytest
from apify_client._models import ListOfRuns
from apify_client._models import Run as ClientRun

from actorium.domain.models import JobStatus, Run
from actorium.storage import jobs
from actorium.storage.db import Tx
from support.live_program import LiveProgram
from support.program import ACTOR_ID, TASK_ID, Program
from support.storage_server import error

RUNS = f"/actors/{ACTOR_ID}/runs"
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_EVENTS = {"page": {"eventTitle": "Page", "eventDescription": "A page", "eventPriceUsd": 0.5}}
_PRICING = {"pricingModel": "PAY_PER_EVENT", "pricingPerEvent": {"actorChargeEvents": _EVENTS}}


def fields_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of an answer with its value, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from fields_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from fields_of(inner)


async def walk(live: LiveProgram) -> AsyncIterator[dict[str, Any]]:
    """The answers about runs in every status, with everything a run can have."""
    await live.ask("PUT", f"/actors/{ACTOR_ID}", {"pricingInfos": [_PRICING]})
    await live.platform.supervisor.stop()
    waiting = await live.begin("memory=128")
    yield waiting
    yield await live.ask("POST", f"/actor-runs/{waiting['id']}/abort")
    await live.restart()
    run, process = await live.running("memory=128&timeout=60&maxItems=3&maxTotalChargeUsd=9")
    yield run
    yield await live.ask("PUT", f"/actor-runs/{run['id']}", {"statusMessage": "a", "isStatusMessageTerminal": True})
    yield await live.ask("PUT", f"/actor-runs/{run['id']}", {"statusMessage": "a"})
    yield await live.ask("POST", f"/actor-runs/{run['id']}/metamorph?targetActorId={ACTOR_ID}", {})
    process = await live.process_of(run, 2)
    live.clock.advance(6)
    await live.until(run, lambda now: now["stats"]["cpuMaxUsage"] is not None)
    yield await live.get(run)
    live.runtime.end(process, code=91)
    yield await live.ended(run)
    live.runtime.ignores_term = True
    yield await live.ask("POST", f"/actor-runs/{run['id']}/resurrect")
    process = await live.process_of(run, 3)
    await live.until(run, lambda now: now["status"] == "RUNNING")
    await live.quiet()
    live.clock.advance(60)
    yield await live.until(run, lambda now: now["status"] == "TIMING-OUT")
    live.runtime.end(process, code=0)
    yield await live.ended(run)
    await live.ask("POST", f"/actor-runs/{run['id']}/resurrect")
    process = await live.process_of(run, 4)
    await live.until(run, lambda now: now["status"] == "RUNNING")
    yield await live.ask("POST", f"/actor-runs/{run['id']}/abort?gracefully=1")
    live.runtime.end(process, code=0)
    yield await live.ended(run)
    run, process = await live.running("memory=128&timeout=0")
    live.runtime.end(process, code=0)
    yield await live.ended(run)


async def test_1_10_12_every_run_is_one_that_clients_can_read(live: LiveProgram) -> None:
    """1: the Python SDK's models. 10: every key that ends in ``At``. 12: what ``apify runs info`` calculates with."""
    seen = set()
    async for run in walk(live):
        seen.add(run["status"])
        ClientRun.model_validate(run)
        for key, value in fields_of(run):
            if key.endswith("At") and value is not None:
                assert isinstance(value, str), key
                assert _DATE.fullmatch(value), key
            assert value != "", key
        for name in ("cpuAvgUsage", "cpuMaxUsage", "memAvgBytes", "memMaxBytes", "durationMillis", "computeUnits"):
            assert isinstance(run["stats"][name], int | float), name
        assert isinstance(run["options"]["timeoutSecs"], int)
        assert {"exitCode", "generalAccess", "userId", "storageIds"} <= run.keys()
        major, minor, patch = map(int, run["buildNumber"].split("."))
        assert (major < 100, minor < 100, patch >= 1) == (True, True, True)
        queue = await live.ask("GET", f"/request-queues/{run['defaultRequestQueueId']}")
        assert queue["handledRequestCount"] == 0
    assert seen == set(JobStatus)


async def test_2_lists_have_a_number_for_what_each_run_costs(program: Program) -> None:
    for status in (JobStatus.READY, JobStatus.RUNNING, JobStatus.ABORTING, JobStatus.FAILED):
        await program.run(status)
    await program.ask("POST", f"/actor-tasks/{TASK_ID}/runs?memory=128")
    for path, count in (("/actor-runs", 5), (RUNS, 5), (f"/actor-tasks/{TASK_ID}/runs", 1)):
        page = await program.ask("GET", path)
        assert [type(item["usageTotalUsd"]) for item in page["items"]] == [float] * count
        ListOfRuns.model_validate(page)


async def test_3_13_no_variable_is_empty_and_those_of_the_command_line_are_there(live: LiveProgram) -> None:
    run = await live.begin("timeout=0")
    env = (await live.process_of(run)).spec.env
    assert [name for name, value in env.items() if value == ""] == []
    absent = {"ACTOR_TIMEOUT_AT", "ACTOR_MAX_TOTAL_CHARGE_USD", "ACTOR_MAX_PAID_DATASET_ITEMS", "ACTOR_TASK_ID"}
    assert not (absent | {"APIFY_ACTOR_PRICING_INFO", "APIFY_CHARGED_ACTOR_EVENT_COUNTS"}) & env.keys()
    assert env["ACTOR_DEFAULT_DATASET_ID"] == run["defaultDatasetId"]
    assert env["ACTOR_DEFAULT_KEY_VALUE_STORE_ID"] == run["defaultKeyValueStoreId"]
    assert env["APIFY_ACTOR_RUN_ID"] == run["id"]


_VERBS = {
    "abort": ("POST", "/abort", None),
    "graceful abort": ("POST", "/abort?gracefully=1", None),
    "reboot": ("POST", "/reboot", None),
    "metamorph": ("POST", f"/metamorph?targetActorId={ACTOR_ID}", None),
    "resurrect": ("POST", "/resurrect", None),
    "update": ("PUT", "", {"statusMessage": "a"}),
    "delete": ("DELETE", "", None),
}


async def run_in(program: Program, status: JobStatus) -> Run:
    before = {JobStatus.ABORTED: JobStatus.ABORTING, JobStatus.TIMED_OUT: JobStatus.TIMING_OUT}.get(status)
    run = await program.run(before or status)
    if before is not None:

        async def op(tx: Tx) -> Any:
            return await jobs.transition(tx, run.id, {before}, status, finished_at=program.clock.now_ms())

        await program.platform.db.write("end", op)
    return run


@pytest.mark.parametrize("status", list(JobStatus))
async def test_6_a_state_conflict_is_never_one_that_clients_retry(program: Program, status: JobStatus) -> None:
    """Clients retry 429 and 5xx for minutes; what is refused changes nothing."""
    for verb, (method, tail, body) in _VERBS.items():
        run = await run_in(program, status)
        before = await program.ask("GET", f"/actor-runs/{run.id}")
        answer = await program.send(method, f"/actor-runs/{run.id}{tail}", body)
        assert answer.status in (200, 204, 400, 403), (verb, answer.status)
        if answer.status >= 400:
            assert error(answer)[1] in ("cannot-remove-running-run", "job-finished", "invalid-input"), verb
            assert await program.ask("GET", f"/actor-runs/{run.id}") == before, verb


async def test_6_a_deleted_run_is_404_for_every_verb(program: Program) -> None:
    run = await program.run(JobStatus.SUCCEEDED)
    await program.ask("DELETE", f"/actor-runs/{run.id}")
    for verb, (method, tail, body) in _VERBS.items():
        assert error(await program.send(method, f"/actor-runs/{run.id}{tail}", body)) == (404, "record-not-found"), verb


@pytest.mark.parametrize("root", ["actors", "acts"])
async def test_8_compressed_bodies_both_roots_and_all_spellings_of_a_boolean(program: Program, root: str) -> None:
    for spelling, expected in (("1", True), ("true", True), ("", True), ("0", False), ("false", False)):
        body = brotli.compress(json.dumps({"text": "x" * 2000}).encode())
        headers = {"Content-Encoding": "br", "Content-Type": "application/json"}
        path = f"/{root}/{ACTOR_ID}/runs?memory=128&restartOnError={spelling}"
        run = json.loads((await program.send("POST", path, body, headers=headers)).body)["data"]
        assert run["options"]["restartOnError"] is expected, spelling
        stored = await program.ask("GET", f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT")
        assert stored == {"text": "x" * 2000}


async def test_16_the_last_message_comes_with_the_final_status(live: LiveProgram) -> None:
    """The MCP server reads the run once more after its end, and nothing later."""
    run, process = await live.running()
    live.runtime.end(process, code=3)
    first = await live.until(run, lambda now: now["finishedAt"] is not None)
    assert first["statusMessage"].startswith("The Actor's process ended with exit code 3")
    assert set(first["storageIds"]) == {"datasets", "keyValueStores", "requestQueues"}

    async def op(tx: Tx) -> Any:
        return await jobs.get_run(tx, run["id"])

    written = await live.platform.db.read("run", op)
    assert (written.status, written.status_message) == (JobStatus.FAILED, first["statusMessage"])
