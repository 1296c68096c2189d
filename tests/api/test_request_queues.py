"""Request queues over HTTP: every operation, its refusals, who may do what."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from actorium.domain.requests import request_id
from actorium.domain.storages import DefaultStorageIds
from api.test_datasets import data, error
from support.storage_server import Answer, StorageServer

_JSON = {"Content-Type": "application/json; charset=utf-8"}


async def new_queue(server: StorageServer, query: str = "") -> str:
    found: str = data(await server.request("POST", f"/v2/request-queues{query}"))["id"]
    return found


async def ask(
    server: StorageServer, method: str, path: str, body: Any = None, token: str | None = "jane-token"
) -> Answer:
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return await server.request(method, f"/v2/request-queues/{path}", raw, _JSON if raw else {}, token)


def request(key: str, **more: Any) -> dict[str, Any]:
    return {"url": f"http://site/{key}", "uniqueKey": key, **more}


async def test_the_stock_client_drives_a_queue(server: StorageServer) -> None:
    info = await server.client().request_queues().get_or_create(name="driven")
    queue = server.client().request_queue(info.id, client_key="first-client")
    added = await queue.add_request(request("1", userData={"deep": [{"x": None}]}, headers={"A": "b"}, label="kept"))
    assert (added.was_already_present, added.was_already_handled) == (False, False)
    again = await queue.add_request(request("1", userData={}), forefront=True)
    assert (again.request_id, again.was_already_present) == (added.request_id, True)
    batch = await queue.batch_add_requests([request(str(n)) for n in range(1, 26)])
    assert [one.was_already_present for one in batch.processed_requests] == [True] + [False] * 24
    await queue.batch_add_requests([request(str(n)) for n in range(26, 31)])
    stored = await queue.get_request(added.request_id)
    assert stored.model_dump(by_alias=True)["label"] == "kept"
    locked = await queue.list_and_lock_head(lock_duration=timedelta(seconds=60), limit=25)
    assert [one.unique_key for one in locked.items] == [str(n) for n in range(1, 26)]
    assert locked.queue_has_locked_requests
    rest = await queue.list_head()
    assert [one.unique_key for one in rest.items] == ["26", "27", "28", "29", "30"]
    assert not rest.had_multiple_clients
    longer = await queue.prolong_request_lock(added.request_id, lock_duration=timedelta(seconds=120))
    assert longer.lock_expires_at > locked.items[0].lock_expires_at
    await queue.delete_request_lock(request_id("2"), forefront=True)
    assert (await queue.list_head(limit=1)).items[0].unique_key == "2"
    assert (await queue.unlock_requests()).unlocked_count == 24
    done = await queue.update_request({**request("1"), "id": added.request_id, "handledAt": "2026-01-02T03:04:05.678Z"})
    assert (done.was_already_present, done.was_already_handled) == (True, False)
    handled = data(await ask(server, "GET", f"{info.id}/requests/{added.request_id}"))
    assert handled["handledAt"] == "2026-01-02T03:04:05.678Z"
    pending = await queue.list_requests(filter=["pending"], limit=10)
    assert len(pending.items) == 10
    more = await queue.list_requests(filter=["pending"], limit=100, cursor=pending.next_cursor)
    assert len(more.items) == 19
    gone = await queue.batch_delete_requests([{"uniqueKey": "3"}, {"id": request_id("4")}, {"uniqueKey": "none"}])
    assert len(gone.processed_requests) == 3
    await queue.delete_request(request_id("5"))
    now = await queue.get()
    assert (now.total_request_count, now.handled_request_count, now.pending_request_count) == (27, 1, 26)
    stats = now.stats.model_dump(by_alias=True)
    assert stats["deleteCount"] == 3
    await queue.delete()
    assert await queue.get() is None


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "type_", "said"),
    [
        ("POST", "requests", b"{", 400, "invalid-request", "JSON"),
        ("POST", "requests", [], 400, "invalid-request", "object"),
        ("POST", "requests", {"url": "http://x"}, 400, "invalid-request", "uniqueKey"),
        ("POST", "requests", {"uniqueKey": "x"}, 400, "invalid-request", "url"),
        ("POST", "requests", {"uniqueKey": "x", "url": 1}, 400, "invalid-request", "url"),
        ("POST", "requests", {"uniqueKey": "x", "url": "u", "userData": "{}"}, 400, "invalid-request", "userData"),
        ("POST", "requests", {"uniqueKey": "x", "url": "u", "retryCount": -1}, 400, "invalid-request", "retryCount"),
        ("POST", "requests", {"uniqueKey": "x", "url": "u", "handledAt": "soon"}, 400, "invalid-request", "handledAt"),
        ("POST", "requests", {"uniqueKey": "x", "url": "u", "id": "wrong"}, 400, "request-id-invalid", "uniqueKey"),
        ("POST", "requests?clientKey=", request("x"), 400, "invalid-client-key", "clientKey"),
        ("POST", f"requests?clientKey={'k' * 33}", request("x"), 400, "invalid-client-key", "32"),
        ("POST", "requests?forefront=maybe", request("x"), 400, "invalid-request", "forefront"),
        ("POST", "requests/batch", [], 400, "invalid-request", "1 to 25"),
        ("POST", "requests/batch", [request(str(n)) for n in range(26)], 400, "invalid-request", "26"),
        ("POST", "requests/batch", [request("1"), {"url": "u"}], 400, "invalid-request", "Item [1] "),
        ("DELETE", "requests/batch", [{"url": "u"}], 400, "invalid-request", "[0]"),
        ("PUT", "requests/wrong", request("x"), 400, "request-id-invalid", "uniqueKey"),
        ("GET", "requests/absent", None, 404, "record-not-found", "Request"),
        ("DELETE", "requests/absent", None, 404, "record-not-found", "Request"),
        ("PUT", "requests/absent/lock?lockSecs=1", None, 404, "record-not-found", "Request"),
        ("DELETE", "requests/absent/lock", None, 404, "record-not-found", "Request"),
        ("PUT", f"requests/{request_id('1')}/lock", None, 400, "invalid-request", "lockSecs"),
        ("PUT", f"requests/{request_id('1')}/lock?lockSecs=5", None, 400, "request-handled-or-locked", "locked"),
        ("POST", "head/lock", None, 400, "invalid-request", "lockSecs"),
        ("POST", "head/lock?lockSecs=0", None, 400, "invalid-request", "lockSecs"),
        ("POST", "head/lock?lockSecs=86401", None, 400, "invalid-request", "86400"),
        ("GET", "head?limit=-1", None, 400, "invalid-request", "limit"),
        ("GET", "requests?cursor=!!", None, 400, "invalid-request", "cursor"),
        ("GET", "requests?filter=handled", None, 400, "invalid-request", "filter"),
        ("GET", "requests?exclusiveStartId=a&filter=locked", None, 400, "invalid-request", "exclusiveStartId"),
        ("PATCH", "requests", None, 405, "method-not-allowed", "POST"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named_and_changes_nothing(
    server: StorageServer, method: str, path: str, body: Any, status: int, type_: str, said: str
) -> None:
    queue = await new_queue(server)
    await ask(server, "POST", f"{queue}/requests", request("1"))
    answer = await ask(server, method, f"{queue}/{path}", body)
    assert error(answer) == (status, type_)
    assert said in json.loads(answer.body)["error"]["message"]
    info = data(await ask(server, "GET", queue))
    assert (info["totalRequestCount"], info["handledRequestCount"]) == (1, 0)


async def test_a_batch_over_the_limit_is_refused_whole(server: StorageServer) -> None:
    queue = await new_queue(server)
    answer = await ask(server, "POST", f"{queue}/requests/batch", [request("1"), request("2", payload="x" * 9_500_000)])
    assert error(answer) == (413, "request-too-large")
    assert data(await ask(server, "GET", queue))["totalRequestCount"] == 0


async def test_lists_end_with_a_short_page(server: StorageServer) -> None:
    queue = await new_queue(server)
    await ask(server, "POST", f"{queue}/requests/batch", [request(str(n)) for n in range(10)])
    first = data(await ask(server, "GET", f"{queue}/requests?limit=10"))
    cursor = first["nextCursor"]
    assert json.loads(base64.urlsafe_b64decode(cursor + "==")) == {"requestId": first["items"][-1]["id"]}
    second = data(await ask(server, "GET", f"{queue}/requests?limit=10&cursor={cursor}"))
    assert (second["items"], "nextCursor" in second) == ([], False)
    by_id = data(await ask(server, "GET", f"{queue}/requests?limit=4&exclusiveStartId={first['items'][3]['id']}"))
    assert [one["id"] for one in by_id["items"]] == [one["id"] for one in first["items"][4:8]]
    await ask(server, "POST", f"{queue}/head/lock?lockSecs=60&limit=3")
    locked = data(await ask(server, "GET", f"{queue}/requests?filter=locked"))["items"]
    assert len(locked) == 3
    assert all(one["lockExpiresAt"] and one["lockByClient"] is None for one in locked)
    assert len(data(await ask(server, "GET", f"{queue}/requests?filter=locked,pending"))["items"]) == 10


async def test_only_calls_about_content_count_as_clients(server: StorageServer) -> None:
    queue = await new_queue(server)
    await ask(server, "POST", f"{queue}/requests?clientKey=a", request("1"))
    for path in (queue, f"{queue}/requests/{request_id('1')}"):
        await ask(server, "GET", path)
    assert data(await ask(server, "GET", f"{queue}/head?clientKey=a"))["hadMultipleClients"] is False
    assert data(await ask(server, "GET", f"{queue}/head"))["hadMultipleClients"] is True
    assert data(await ask(server, "GET", queue))["hadMultipleClients"] is True


async def test_others_read_what_is_shared_and_change_nothing(server: StorageServer) -> None:
    queue = await new_queue(server, "?name=shared")
    await ask(server, "POST", f"{queue}/requests?clientKey=a", request("1"))
    reads = (queue, f"{queue}/head", f"{queue}/requests", f"{queue}/requests/{request_id('1')}")
    changes = (
        ("POST", "requests", request("2")),
        ("POST", "head/lock?lockSecs=5", None),
        ("DELETE", f"requests/{request_id('1')}", None),
        ("POST", "requests/unlock", None),
    )
    for token in (None, "john-token"):
        for path in reads:
            assert (await ask(server, "GET", path, token=token)).status in (401, 403, 404)
    await ask(server, "PUT", queue, {"generalAccess": "ANYONE_WITH_NAME_CAN_READ"})
    for token in (None, "john-token"):
        for path in (*reads, "jane~shared/head"):
            assert (await ask(server, "GET", path, token=token)).status == 200, path
        for method, path, body in changes:
            assert (await ask(server, method, f"{queue}/{path}", body, token)).status in (401, 403, 404)
    info = data(await ask(server, "GET", queue))
    assert (info["totalRequestCount"], info["hadMultipleClients"]) == (1, False)


async def test_paths_of_a_run(server: StorageServer) -> None:
    queue = await new_queue(server)
    server.runs["run"] = DefaultStorageIds("d" * 17, "k" * 17, queue)
    for prefix in ("actor-runs/run", "actors/run/runs/last"):
        added = await server.request(
            "POST", f"/v2/{prefix}/request-queue/requests", json.dumps(request(prefix)).encode(), _JSON
        )
        assert added.status == 201
        head = data(await server.request("GET", f"/v2/{prefix}/request-queue/head?status=RUNNING"))
        assert head["items"][-1]["uniqueKey"] == prefix
        locked = await server.request("POST", f"/v2/{prefix}/request-queue/head/lock?lockSecs=1&limit=1")
        assert locked.status == 201
    assert data(await server.request("GET", "/v2/actor-runs/run/request-queue"))["totalRequestCount"] == 2


async def test_text_of_every_kind(server: StorageServer) -> None:
    queue = await new_queue(server)
    key = "žluť 💛 \u0000 \u2028"
    body = (
        json.dumps({"url": "u", "uniqueKey": key, "userData": {"n": 1}})
        .replace("1}", "12345678901234567890.10}")
        .encode()
    )
    added = data(await ask(server, "POST", f"{queue}/requests", body))
    assert added["requestId"] == request_id(key)
    found = await ask(server, "GET", f"{queue}/requests/{added['requestId']}")
    assert b"12345678901234567890.10" in found.body
    assert data(found)["uniqueKey"] == key
    lone = data(await ask(server, "POST", f"{queue}/requests", rb'{"url":"u","uniqueKey":"\ud800"}'))
    assert lone["requestId"] == request_id("\ufffd")


async def test_clients_at_once_share_a_queue(server: StorageServer) -> None:
    queue = await new_queue(server)
    for start in range(0, 200, 25):
        await ask(server, "POST", f"{queue}/requests/batch", [request(str(n)) for n in range(start, start + 25)])
    answers = await asyncio.gather(
        *(ask(server, "POST", f"{queue}/head/lock?lockSecs=60&limit=25&clientKey=c{n}") for n in range(8))
    )
    batches = [[item["id"] for item in data(answer)["items"]] for answer in answers]
    assert [len(batch) for batch in batches] == [25] * 8
    assert len({found for batch in batches for found in batch}) == 200
    names = await asyncio.gather(*(server.request("POST", "/v2/request-queues?name=raced") for _ in range(8)))
    assert sorted(answer.status for answer in names) == [200] * 7 + [201]
