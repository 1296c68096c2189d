"""``run-sync`` and ``run-sync-get-dataset-items``: start, wait at most 300 s, answer with the result."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from support.live_program import LiveProgram
from support.openapi import given_document
from support.program import ACTOR_ID
from support.storage_server import Answer, error

SYNC = f"/actors/{ACTOR_ID}/run-sync"
ITEMS = f"{SYNC}-get-dataset-items"


async def begun(
    live: LiveProgram, path: str, method: str = "POST", body: Any = None, **more: Any
) -> tuple[asyncio.Task[Answer], dict[str, Any]]:
    """A call that waits, and the run it has started."""
    before = (await live.ask("GET", "/actor-runs"))["total"]
    live.clock.advance(0.001)
    call = asyncio.create_task(live.send(method, path, body, **more))
    while (found := await live.ask("GET", "/actor-runs?desc=1"))["total"] == before:
        assert not call.done(), call.result().body
        await asyncio.sleep(0)
    run = found["items"][0]
    await live.process_of(run)
    return call, run


async def finish(live: LiveProgram, run: dict[str, Any], code: int = 0) -> None:
    live.runtime.end(await live.process_of(run), code=code)


async def put(live: LiveProgram, run: dict[str, Any], key: str, value: bytes, content_type: str) -> None:
    path = f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/{key}"
    answer = await live.send("PUT", path, value, headers={"Content-Type": content_type})
    assert answer.status == 201


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_the_record_output_is_answered_as_it_was_stored(live: LiveProgram, method: str) -> None:
    call, run = await begun(live, SYNC, method, b'{"a": 1}' if method == "POST" else None)
    await put(live, run, "OUTPUT", b"<p>\xff</p>", "text/html; charset=latin-1")
    await finish(live, run)
    answer = await call
    assert (answer.status, answer.body) == (201, b"<p>\xff</p>")
    assert answer.headers["Content-Type"] == "text/html; charset=latin-1"
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    input_path = f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT"
    stored = await live.send("GET", input_path)
    assert (stored.status, stored.body) == ((200, b'{"a": 1}') if method == "POST" else (404, stored.body))


async def test_another_record_is_answered_where_its_key_is_given(live: LiveProgram) -> None:
    call, run = await begun(live, f"{SYNC}?outputRecordKey=REPORT&memory=512&timeout=77")
    assert (await live.get(run))["options"]["memoryMbytes"] == 512
    assert (await live.get(run))["options"]["timeoutSecs"] == 77
    await put(live, run, "REPORT", b'{"done":true}', "application/json")
    await finish(live, run)
    answer = await call
    assert (answer.status, json.loads(answer.body)) == (201, {"done": True})


async def test_a_missing_record_is_an_empty_201(live: LiveProgram) -> None:
    call, run = await begun(live, SYNC)
    await finish(live, run)
    answer = await call
    assert (answer.status, answer.body) == (201, b"")
    assert answer.headers["Content-Type"].startswith("text/plain")


async def test_conditions_and_ranges_are_not_about_a_result_that_does_not_exist_yet(live: LiveProgram) -> None:
    headers = {"Range": "bytes=0-0", "If-Match": '"x"', "If-None-Match": "*"}
    call, run = await begun(live, SYNC, headers=headers)
    await put(live, run, "OUTPUT", b"whole", "text/plain")
    await finish(live, run)
    answer = await call
    assert (answer.status, answer.body) == (201, b"whole")


@pytest.mark.parametrize("path", [SYNC, ITEMS])
async def test_a_run_that_does_not_succeed_is_400_run_failed(live: LiveProgram, path: str) -> None:
    call, run = await begun(live, path)
    await finish(live, run, 1)
    answer = await call
    assert error(answer) == (400, "run-failed")
    assert json.loads(answer.body)["error"]["message"] == (
        f"Actor run did not succeed (run ID: {run['id']}, status: FAILED)."
    )
    call, run = await begun(live, path)
    await live.ask("POST", f"/actor-runs/{run['id']}/abort")
    answer = await call
    assert "status: ABORTED" in json.loads(answer.body)["error"]["message"]


@pytest.mark.parametrize("path", [SYNC, ITEMS])
async def test_after_300_s_the_answer_is_408_and_the_run_goes_on(live: LiveProgram, path: str) -> None:
    call, run = await begun(live, path, "GET")
    await live.quiet()
    live.clock.advance(299.9)
    await live.quiet()
    assert not call.done()
    live.clock.advance(0.1)
    answer = await call
    assert error(answer) == (408, "run-timeout-exceeded")
    assert json.loads(answer.body)["error"]["message"] == (
        "Actor run exceeded the timeout of 300 seconds for this API endpoint"
    )
    assert run["id"] not in str(answer.headers)
    assert (await live.get(run))["status"] == "RUNNING"
    await finish(live, run)
    assert (await live.ended(run))["status"] == "SUCCEEDED"


async def test_a_client_that_goes_away_does_not_abort_the_run(live: LiveProgram) -> None:
    with socket.create_connection(("127.0.0.1", live.port)) as connection:
        head = f"POST /v2{SYNC} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {live.token('jane')}\r\n"
        connection.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())
        while not (found := (await live.ask("GET", "/actor-runs"))["items"]):
            await asyncio.sleep(0)
        process = await live.process_of(found[0])
    await live.quiet()
    assert process.exit is None
    await finish(live, found[0])
    assert (await live.ended(found[0]))["status"] == "SUCCEEDED"


async def test_items_come_in_every_form_their_own_route_has(live: LiveProgram) -> None:
    items = [{"n": n, "#hidden": n, "tags": [{"t": "a"}, {"t": "b"}]} for n in range(5)]
    for query, rows in (
        ("", items),
        ("?clean=1&fields=n&desc=1&limit=2", [{"n": 4}, {"n": 3}]),
        ("?unwind=tags&fields=t&limit=2&offset=1", None),
    ):
        call, run = await begun(live, ITEMS + query)
        await live.ask("POST", f"/datasets/{run['defaultDatasetId']}/items", items)
        await finish(live, run)
        answer = await call
        same = await live.send("GET", f"/datasets/{run['defaultDatasetId']}/items{query}")
        assert (answer.status, answer.body) == (201, same.body), query
        assert rows is None or json.loads(answer.body) == rows
        for name in ("Offset", "Limit", "Count", "Total", "Desc"):
            header = f"X-Apify-Pagination-{name}"
            assert answer.headers[header] == same.headers[header]
    call, run = await begun(live, ITEMS + "?format=csv&fields=n&memory=256", "GET")
    await live.ask("POST", f"/datasets/{run['defaultDatasetId']}/items", items)
    await finish(live, run)
    answer = await call
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert answer.body.decode().split()[0].endswith("n") or "n" in answer.body.decode()
    assert (await live.get(run))["options"]["memoryMbytes"] == 256


async def test_a_dataset_deleted_meanwhile_is_named(live: LiveProgram) -> None:
    call, run = await begun(live, ITEMS)
    await live.ask("DELETE", f"/datasets/{run['defaultDatasetId']}")
    await finish(live, run)
    assert error(await call) == (400, "default-dataset-not-found")


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("?format=yaml", "format"),
        ("?limit=-1", "limit"),
        ("?offset=x", "offset"),
        ("?desc=maybe", "desc"),
        ("?clean=2", "clean"),
        ("?memory=100", "memory"),
        ("?timeout=-1", "timeout"),
    ],
)
async def test_a_wrong_parameter_is_refused_before_a_run_is_started(live: LiveProgram, query: str, wrong: str) -> None:
    answer = await live.send("POST", ITEMS + query)
    assert error(answer) == (400, "invalid-request")
    assert wrong in json.loads(answer.body)["error"]["message"]
    assert (await live.ask("GET", "/actor-runs"))["total"] == 0


async def test_what_else_starts_no_run(live: LiveProgram) -> None:
    assert error(await live.send("POST", f"{SYNC}?outputRecordKey=a/b")) == (400, "invalid-record-key")
    assert error(await live.send("GET", f"/actors/{'x' * 17}/run-sync")) == (404, "record-not-found")
    assert error(await live.send("GET", SYNC, by=None)) == (401, "token-not-provided")
    assert error(await live.send("POST", SYNC, b"{")) == (400, "run-input-body-not-valid-json")
    assert (await live.send("HEAD", SYNC)).status == 405
    assert (await live.ask("GET", "/actor-runs"))["total"] == 0


async def test_waiting_is_not_waitforfinish_and_acts_is_the_old_name(live: LiveProgram) -> None:
    call, run = await begun(live, SYNC.replace("actors", "acts") + "?waitForFinish=1")
    await live.quiet()
    live.clock.advance(61)
    await live.quiet()
    assert not call.done()
    await finish(live, run)
    assert (await call).status == 201


async def test_answers_are_as_documented(live: LiveProgram) -> None:
    document = given_document()
    for path, operation in ((SYNC, "actor_runSync"), (ITEMS, "actor_runSyncGetDatasetItems")):
        for method in ("POST", "GET"):
            for code in (0, 1):
                call, run = await begun(live, path, method)
                await put(live, run, "OUTPUT", b"{}", "application/json")
                await finish(live, run, code)
                assert document.problems(f"{operation}_{method.lower()}", await call) == []


async def test_a_task_is_run_with_its_input_under_that_of_the_call(live: LiveProgram) -> None:
    task = await live.ask("POST", "/actor-tasks", {"actId": ACTOR_ID, "name": "sync-task", "input": {"a": 1, "b": 1}})
    for method, body, stored in (("POST", {"b": 2}, {"a": 1, "b": 2}), ("GET", None, {"a": 1, "b": 1})):
        call, run = await begun(live, f"/actor-tasks/{task['id']}/run-sync", method, body)
        assert run["actorTaskId"] == task["id"]
        record = await live.send("GET", f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT")
        assert json.loads(record.body) == stored
        await put(live, run, "OUTPUT", b"done", "text/plain")
        await finish(live, run)
        answer = await call
        assert (answer.status, answer.body) == (201, b"done")
    call, run = await begun(live, "/actor-tasks/jane~sync-task/run-sync-get-dataset-items", "GET")
    await finish(live, run)
    assert (await call).body == b"[]"
