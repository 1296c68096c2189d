"""Every method and argument of the stock request queue client."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from apify_client.errors import ApifyApiError

from actorium.domain.requests import request_id

pytestmark = [pytest.mark.xdist_group("storages")]

ABSENT = "A" * 17
MINUTE = timedelta(minutes=1)


def request(key: str, **more: Any) -> dict[str, Any]:
    return {"url": f"http://site/{key}", "uniqueKey": key, **more}


def keys(found: Any) -> list[str]:
    return [item.unique_key for item in getattr(found, "items", found)]


def refusal(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(ApifyApiError) as error:
        call()
    return error.value.status_code, error.value.type


@pytest.fixture
def queue_id(client: Any) -> str:
    return str(client.request_queues().get_or_create().id)


@pytest.fixture
def queue(client: Any, queue_id: str) -> Any:
    """An empty queue as one client sees it."""
    return client.request_queue(queue_id, client_key="the-first-client")


@pytest.fixture
def other(client: Any, queue_id: str) -> Any:
    """The same queue as another client sees it."""
    return client.request_queue(queue_id, client_key="the-second-client")


def test_add_and_get(queue: Any) -> None:
    full = request(
        "full",
        method="POST",
        payload='{"a": 1}',
        headers={"X-A": "b"},
        userData={"deep": [{"x": None}], "__crawlee": {"state": 4}},
        retryCount=3,
        noRetry=True,
        errorMessages=["first", "second"],
        loadedUrl="http://site/loaded",
        label="kept",
    )
    added = queue.add_request(full)
    assert (added.request_id, added.was_already_present, added.was_already_handled) == (
        request_id("full"),
        False,
        False,
    )
    found = queue.get_request(added.request_id)
    shown = found.model_dump(by_alias=True)
    assert {key: shown[key] for key in full} == full
    assert found.id == added.request_id
    assert found.handled_at is None
    small = queue.get_request(queue.add_request(request("small")).request_id)
    assert (small.method, small.retry_count, small.no_retry, small.error_messages) == ("GET", 0, False, [])
    assert (small.headers, small.user_data.model_dump(), small.handled_at) == ({}, {}, None)
    again = queue.add_request(request("small", userData={"new": 1}), forefront=True)
    assert (again.request_id, again.was_already_present, again.was_already_handled) == (small.id, True, False)
    assert queue.get_request(small.id).user_data == small.user_data, "an added twin changes nothing"
    assert keys(queue.list_head()) == ["full", "small"]
    assert queue.get_request("absent") is None
    handled = queue.add_request(request("done", handledAt=dt.datetime.now(dt.UTC)))
    assert not handled.was_already_handled
    assert queue.add_request(request("done")).was_already_handled
    info = queue.get()
    assert (info.total_request_count, info.handled_request_count, info.pending_request_count) == (3, 1, 2)


def test_order_at_both_ends(queue: Any) -> None:
    queue.add_request(request("1"))
    queue.add_request(request("2"), forefront=False)
    queue.add_request(request("front-1"), forefront=True)
    queue.batch_add_requests([request("front-2"), request("front-3")], forefront=True)
    queue.batch_add_requests([request("3"), request("4")], forefront=False)
    expected = ["front-3", "front-2", "front-1", "1", "2", "3", "4"]
    assert keys(queue.list_head()) == expected
    assert keys(queue.list_head(limit=2)) == expected[:2]
    assert queue.list_head(limit=5000).limit == 1000
    queue.update_request({**request("1"), "id": request_id("1")})
    queue.update_request({**request("4"), "id": request_id("4")}, forefront=True)
    assert keys(queue.list_head()) == ["4", "front-3", "front-2", "front-1", "2", "3", "1"]


def test_batches(queue: Any) -> None:
    added = queue.batch_add_requests([request(str(n)) for n in range(60)], max_parallel=1)
    assert keys(added.processed_requests) == [str(n) for n in range(60)]
    assert not any(one.was_already_present for one in added.processed_requests)
    assert added.unprocessed_requests == []
    again = queue.batch_add_requests([request("59"), request("60"), request("60")])
    assert [one.was_already_present for one in again.processed_requests] == [True, False, True]
    assert keys(queue.list_head(limit=100)) == [str(n) for n in range(61)]
    gone = queue.batch_delete_requests([{"uniqueKey": "0"}, {"id": request_id("1")}, {"uniqueKey": "never"}])
    assert [one.unique_key for one in gone.processed_requests] == ["0", None, "never"]
    assert gone.unprocessed_requests == []
    assert queue.get().total_request_count == 59
    assert refusal(lambda: queue.batch_delete_requests([{"uniqueKey": "2"}] * 26)) == (400, "invalid-request")
    assert queue.get().total_request_count == 59
    big = queue.batch_add_requests([request(f"big-{n}", payload="x" * 4_000_000) for n in range(3)])
    assert len(big.processed_requests) == 3


def test_a_large_batch_is_added_in_parallel(client_of: Callable[[str | None], Any], client: Any, queue_id: str) -> None:
    queue = client.request_queue(queue_id)
    if type(client).__name__ == "ApifyClient":
        with pytest.raises(NotImplementedError):
            queue.batch_add_requests([request("1")], max_parallel=5)
        return
    added = queue.batch_add_requests([request(str(n)) for n in range(200)], max_parallel=5)
    assert sorted(keys(added.processed_requests), key=int) == [str(n) for n in range(200)]
    assert queue.get().total_request_count == 200


def test_update_is_replace_or_add(queue: Any) -> None:
    added = queue.add_request(request("1", userData={"old": 1}, label="old"))
    changed = queue.update_request({**request("1", userData={"new": 1}), "id": added.request_id})
    assert (changed.request_id, changed.was_already_present, changed.was_already_handled) == (
        added.request_id,
        True,
        False,
    )
    found = queue.get_request(added.request_id).model_dump(by_alias=True)
    assert found["userData"] == {"new": 1}
    assert "label" not in found
    when = dt.datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=dt.UTC)
    handled = {**request("1"), "id": added.request_id, "handledAt": when}
    assert not queue.update_request(handled).was_already_handled
    assert queue.update_request(handled).was_already_handled
    assert queue.get_request(added.request_id).handled_at == when
    assert keys(queue.list_head()) == []
    assert queue.get().handled_request_count == 1
    back = queue.update_request({**request("1"), "id": added.request_id}, forefront=False)
    assert back.was_already_handled
    assert (queue.get().handled_request_count, keys(queue.list_head())) == (0, ["1"])
    new = queue.update_request({**request("2"), "id": request_id("2")})
    assert (new.was_already_present, new.was_already_handled) == (False, False)
    wrong = {**request("3"), "id": request_id("2")}
    assert refusal(lambda: queue.update_request(wrong)) == (400, "request-id-invalid")
    assert queue.get().total_request_count == 2


def test_delete(queue: Any) -> None:
    queue.batch_add_requests([request(str(n)) for n in range(3)])
    queue.update_request({**request("0"), "id": request_id("0"), "handledAt": dt.datetime.now(dt.UTC)})
    queue.delete_request(request_id("0"))
    queue.delete_request(request_id("1"))
    info = queue.get()
    assert (info.total_request_count, info.handled_request_count, info.pending_request_count) == (1, 0, 1)
    assert keys(queue.list_head()) == ["2"]
    assert refusal(lambda: queue.delete_request(request_id("0"))) == (404, "record-not-found")


def test_locks(queue: Any, other: Any) -> None:
    # One by one: the async client sends batches in parallel unless told otherwise.
    queue.batch_add_requests([request(str(n)) for n in range(40)], max_parallel=1)
    before = dt.datetime.now(dt.UTC)
    locked = queue.list_and_lock_head(lock_duration=MINUTE, limit=3)
    assert (keys(locked), locked.limit, locked.lock_secs) == (["0", "1", "2"], 3, 60)
    assert locked.client_key == "the-first-client"
    assert locked.queue_has_locked_requests
    assert all(before + MINUTE / 2 < item.lock_expires_at < before + 2 * MINUTE for item in locked.items)
    theirs = other.list_and_lock_head(lock_duration=MINUTE)
    assert keys(theirs) == [str(n) for n in range(3, 28)], "at most 25"
    assert theirs.had_multiple_clients
    assert keys(other.list_head(limit=100)) == [str(n) for n in range(28, 40)]
    assert len(keys(queue.list_and_lock_head(lock_duration=MINUTE, limit=100))) == 12
    assert keys(queue.list_and_lock_head(lock_duration=MINUTE)) == []

    longer = queue.prolong_request_lock(request_id("0"), lock_duration=5 * MINUTE, forefront=True)
    assert longer.lock_expires_at > before + 4 * MINUTE
    for refused in (
        lambda: other.prolong_request_lock(request_id("0"), lock_duration=MINUTE),
        lambda: other.delete_request_lock(request_id("0")),
    ):
        assert refusal(refused) == (400, "request-handled-or-locked")
    shown = other.get_request(request_id("0")).model_dump(by_alias=True)
    assert shown["lockByClient"] == "the-first-client"
    assert shown["lockExpiresAt"] is not None
    queue.delete_request_lock(request_id("0"))
    queue.delete_request_lock(request_id("1"), forefront=True)
    assert keys(other.list_head()) == ["1", "0"]
    queue.delete_request_lock(request_id("1"), forefront=False)
    assert keys(other.list_head()) == ["0", "1"], "an unlocked request may be moved"
    assert other.unlock_requests().unlocked_count == 25
    assert queue.unlock_requests().unlocked_count == 13
    assert queue.unlock_requests().unlocked_count == 0
    assert len(keys(queue.list_head(limit=100))) == 40
    for secs in (0, 86_401):
        duration = timedelta(seconds=secs)
        assert refusal(lambda duration=duration: queue.list_and_lock_head(lock_duration=duration))[0] == 400
    for call in (
        lambda: queue.prolong_request_lock("absent", lock_duration=MINUTE),
        lambda: queue.delete_request_lock("absent"),
    ):
        assert refusal(call) == (404, "record-not-found")


def test_handling_ends_a_lock(queue: Any, other: Any) -> None:
    queue.batch_add_requests([request("1"), request("2")])
    queue.list_and_lock_head(lock_duration=MINUTE)
    queue.update_request({**request("1"), "id": request_id("1"), "handledAt": dt.datetime.now(dt.UTC)})
    assert other.list_and_lock_head(lock_duration=MINUTE).queue_has_locked_requests
    locked = queue.get_request(request_id("2"))
    assert locked.model_dump(by_alias=True)["lockByClient"] == "the-first-client"
    queue.update_request(locked)
    assert "lockByClient" not in queue.get_request(request_id("2")).model_dump(by_alias=True)
    reclaimed = other.list_and_lock_head(lock_duration=MINUTE)
    assert keys(reclaimed) == ["2"], "an update without handledAt gives the request back"
    other.update_request({**request("2"), "id": request_id("2"), "handledAt": dt.datetime.now(dt.UTC)})
    assert not queue.list_and_lock_head(lock_duration=MINUTE).queue_has_locked_requests
    for call in (
        lambda: queue.prolong_request_lock(request_id("1"), lock_duration=MINUTE),
        lambda: queue.delete_request_lock(request_id("1")),
    ):
        assert refusal(call) == (400, "request-handled-or-locked")


def test_lists(queue: Any) -> None:
    queue.batch_add_requests([request(str(n), userData={"n": n}) for n in range(10)])
    by_id = sorted((str(n) for n in range(10)), key=request_id)
    whole = queue.list_requests()
    assert (keys(whole), whole.limit, whole.next_cursor) == (by_id, 10_000, None)
    assert all(item.user_data.model_dump()["n"] == int(item.unique_key) for item in whole.items)
    assert queue.list_requests(limit=20_000).limit == 10_000
    first = queue.list_requests(limit=4)
    assert keys(first) == by_id[:4]
    second = queue.list_requests(limit=4, cursor=first.next_cursor)
    assert (keys(second), second.cursor) == (by_id[4:8], first.next_cursor)
    third = queue.list_requests(limit=4, cursor=second.next_cursor)
    assert (keys(third), third.next_cursor) == (by_id[8:], None)
    locked = keys(queue.list_and_lock_head(lock_duration=MINUTE, limit=3))
    handled = {**request("9"), "id": request_id("9"), "handledAt": dt.datetime.now(dt.UTC)}
    queue.update_request(handled)
    assert sorted(keys(queue.list_requests(filter=["locked"]))) == sorted(locked)
    assert set(keys(queue.list_requests(filter=["pending"]))) == set(by_id) - {"9"}, "a locked request is pending too"
    assert set(keys(queue.list_requests(filter=["pending", "locked"]))) == set(by_id) - {"9"}
    for chunk_size in (1, 3, 10, 50):
        assert keys(list(queue.iterate_requests(chunk_size=chunk_size))) == by_id
        assert keys(list(queue.iterate_requests(chunk_size=chunk_size, limit=5))) == by_id[:5]
        rest = list(queue.iterate_requests(chunk_size=chunk_size, cursor=first.next_cursor))
        assert keys(rest) == by_id[4:]
        assert len(list(queue.iterate_requests(chunk_size=chunk_size, filter=["locked"]))) == 3
    assert refusal(lambda: queue.list_requests(cursor="!")) == (400, "invalid-request")


def test_clients_are_counted(queue: Any, other: Any) -> None:
    queue.add_request(request("1"))
    head = queue.list_head()
    assert not head.had_multiple_clients
    assert dt.datetime.now(dt.UTC) - head.queue_modified_at < timedelta(minutes=5)
    assert not other.get().had_multiple_clients, "reading the metadata is nobody's visit"
    assert other.list_head().had_multiple_clients
    assert queue.list_head().had_multiple_clients
    assert queue.get().had_multiple_clients


def test_client_keys_are_checked(client: Any, queue_id: str) -> None:
    queue = client.request_queue(queue_id, client_key="k" * 33)
    for call in (queue.list_head, lambda: queue.add_request(request("1")), queue.unlock_requests, queue.list_requests):
        assert refusal(call) == (400, "invalid-client-key")


def test_missing_queues(client: Any) -> None:
    queue = client.request_queue(ABSENT, client_key="somebody")
    assert queue.get_request(request_id("1")) is None
    for call in (
        queue.list_head,
        queue.list_requests,
        queue.unlock_requests,
        lambda: queue.add_request(request("1")),
        lambda: queue.batch_add_requests([request("1")]),
        lambda: queue.batch_delete_requests([{"uniqueKey": "1"}]),
        lambda: queue.update_request({**request("1"), "id": request_id("1")}),
        lambda: queue.delete_request(request_id("1")),
        lambda: queue.list_and_lock_head(lock_duration=MINUTE),
        lambda: queue.prolong_request_lock(request_id("1"), lock_duration=MINUTE),
        lambda: queue.delete_request_lock(request_id("1")),
    ):
        assert refusal(call) == (404, "record-not-found")
