"""The request queue engine: order, locks, counts, on every database."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorium.domain.errors import ApiError
from actorium.domain.requests import Client, NewRequest, decode_cursor, encode_cursor, parse_request, request_id
from actorium.domain.storages import Reference, StorageKind
from actorium.services.access import Principal
from actorium.services.request_queues import RequestQueues
from actorium.services.storages import ReadCounts, Storages
from actorium.storage import queues
from actorium.storage.db import Database, Tx
from actorium.storage.sqlite import SqliteDatabase
from fakes.clock import FakeClock

A, B = Client("client-a"), Client("client-b")


class Desk:
    """A queue, its service and a clock."""

    def __init__(self, db: Database, clock: FakeClock, owner: Principal, queue_id: str) -> None:
        self.db, self.clock, self.owner, self.id = db, clock, owner, queue_id
        self.reads = ReadCounts(db, clock)
        self.queues = RequestQueues(db, clock, self.reads)

    async def add(self, *names: str, forefront: bool = False, client: Client = A) -> list[Any]:
        requests = [a_request(name) for name in names]
        return list(await self.queues.add(self.owner, self.id, client, requests, forefront=forefront))

    async def head(self, limit: int = 100) -> list[str]:
        found = await self.queues.head(self.owner, self.id, A, limit)
        return [json.loads(item)["uniqueKey"] for item in found.items]

    async def lock(self, limit: int = 25, secs: int = 60, client: Client = A) -> list[str]:
        found = await self.queues.lock_head(self.owner, self.id, client, limit=limit, lock_secs=secs)
        return [json.loads(item)["uniqueKey"] for item in found.items]

    async def handle(self, name: str, client: Client = A) -> Any:
        request = a_request(name, handledAt="2026-01-01T00:00:00.000Z")
        return await self.queues.put(self.owner, self.id, client, request, forefront=False)

    async def counts(self) -> dict[str, int]:
        found = await Storages(self.db, self.clock, self.reads).resolve(self.owner, StorageKind.REQUEST_QUEUE, self.id)
        return found.counters


def a_request(name: str, **fields: Any) -> NewRequest:
    return parse_request(json.dumps({"uniqueKey": name, "url": f"http://x/{name}", **fields}).encode())


@pytest.fixture
async def desk(database: Database, add_user: Callable[[str, str], Awaitable[Principal]]) -> AsyncIterator[Desk]:
    clock = FakeClock()
    owner = await add_user("U" * 17, "owner")
    storages = Storages(database, clock, ReadCounts(database, clock))
    queue, _ = await storages.get_or_create(owner, StorageKind.REQUEST_QUEUE, None, None)
    return Desk(database, clock, owner, queue.id)


def test_ids_are_those_clients_compute() -> None:
    assert request_id("http://example.com") == "8OamqXBCpPHxyH9"
    assert request_id("https://crawlee.dev/") == "FRyCGCDqkwxqk6u"
    assert request_id("GET(abc):https://example.com/\u00fcn\u00efcode") == "1lG5iWZqOwHtqYA"


@given(st.text(min_size=1))
def test_ids_for_any_text(text: str) -> None:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()).decode()
    assert request_id(text) == re.sub(r"[+/=]", "", digest)[:15]
    assert decode_cursor(encode_cursor(request_id(text))) == request_id(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"{", "JSON"),
        (b"[]", "JSON object"),
        (b'{"url": "u"}', "uniqueKey"),
        (b'{"uniqueKey": "k"}', "url"),
        (b'{"uniqueKey": "k", "url": "u", "retryCount": -1}', "retryCount"),
        (b'{"uniqueKey": "k", "url": "u", "userData": "x"}', "userData"),
        (b'{"uniqueKey": "k", "url": "u", "handledAt": "soon"}', "handledAt"),
        (b'{"uniqueKey": "k", "url": "u", "id": "wrong"}', "ID"),
    ],
)
def test_wrong_requests_are_named(text: bytes, named: str) -> None:
    with pytest.raises(ApiError, match=named):
        parse_request(text)


async def test_order_is_first_in_first_out_and_forefront_last_in_first_out(desk: Desk) -> None:
    await desk.add("p1", forefront=True)
    await desk.add("p2", forefront=True)
    await desk.add("1", "2", "3")
    assert await desk.head() == ["p2", "p1", "1", "2", "3"]
    assert await desk.head(2) == ["p2", "p1"]


async def test_the_same_unique_key_changes_nothing(desk: Desk) -> None:
    await desk.add("a", "b")
    again, new = await desk.add("a", "c", forefront=True)
    assert (again.was_already_present, again.was_already_handled) == (True, False)
    assert not new.was_already_present
    await desk.handle("a")
    (handled,) = await desk.add("a")
    assert (handled.was_already_present, handled.was_already_handled) == (True, True)
    assert await desk.head() == ["c", "b"]
    twice = await desk.add("d", "d")
    assert [one.was_already_present for one in twice] == [False, True]
    assert (await desk.counts())["total_count"] == 4


async def test_locked_requests_are_nobody_elses_until_the_lock_expires(desk: Desk) -> None:
    await desk.add("1", "2", "3")
    assert await desk.lock(2) == ["1", "2"]
    assert await desk.lock(2, client=B) == ["3"]
    assert await desk.lock() == []
    assert await desk.head() == []
    desk.clock.advance(60.001)
    await desk.add("4")
    assert await desk.lock() == ["1", "2", "3", "4"]


async def test_an_expired_lock_of_the_front_stays_in_front(desk: Desk) -> None:
    await desk.add("1")
    await desk.add("front", forefront=True)
    assert await desk.lock(1) == ["front"]
    desk.clock.advance(61)
    await desk.add("2")
    assert await desk.head() == ["front", "1", "2"]


async def test_each_lock_keeps_its_request_back_only_until_it_expires(desk: Desk) -> None:
    await desk.add("long", "short")
    await desk.lock(1, secs=86_400)
    await desk.lock(1, secs=1)
    desk.clock.advance(1)
    await desk.add("later")
    assert await desk.head() == ["short", "later"], "a long lock does not hold others back"


async def test_locks_that_expire_together_keep_the_order_in_which_they_were_taken(desk: Desk) -> None:
    await desk.add("1", "2", "3")
    await desk.lock(1, secs=2)
    await desk.lock(1, secs=1)
    desk.clock.advance(1)
    await desk.lock(1, secs=1)
    desk.clock.advance(1)
    await desk.add("4")
    assert await desk.head() == ["2", "1", "3", "4"]


async def test_a_lock_reads_only_what_it_locks_also_when_the_statistics_know_nothing_of_the_queue(
    desk: Desk, add_user: Callable[[str, str], Awaitable[Principal]]
) -> None:
    if desk.db.name != "postgres":
        return  # SQLite plans without statistics
    owner = await add_user("V" * 17, "other")
    other, _ = await Storages(desk.db, desk.clock, desk.reads).get_or_create(
        owner, StorageKind.REQUEST_QUEUE, None, None
    )
    old = Desk(desk.db, desk.clock, owner, other.id)
    for start in range(0, 2000, 500):
        await old.add(*(f"old-{n}" for n in range(start, start + 500)))

    async def analyze(tx: Tx) -> None:
        await tx.execute("ANALYZE requests")

    await desk.db.write("analyze", analyze)
    await desk.add(*(f"new-{n}" for n in range(500)))

    async def lock_and_look(tx: Tx) -> tuple[int, int]:
        queue = await queues.open_for_change(tx, Reference(desk.id, id=desk.id), desk.owner.user_id)
        assert queue is not None
        locked = await queues.lock_head(tx, queue, A, limit=25, lock_secs=60, now=desk.clock.now_ms())
        row = await tx.fetchrow(
            "SELECT seq_tup_read + idx_tup_fetch AS seen FROM pg_stat_xact_user_tables WHERE relname = 'requests'"
        )
        assert row is not None
        return len(locked), row["seen"]

    count, seen = await desk.db.write("lock and look", lock_and_look)
    assert count == 25
    assert seen <= 100


async def test_locks_belong_to_a_client_key_or_a_run(desk: Desk) -> None:
    await desk.add("1")
    mine = Client("first", "run-1")
    await desk.lock(client=mine)
    wanted = request_id("1")
    with pytest.raises(ApiError) as error:
        await desk.queues.prolong_lock(desk.owner, desk.id, B, wanted, lock_secs=9, forefront=False)
    assert error.value.type.code == "request-handled-or-locked"
    with pytest.raises(ApiError):
        await desk.queues.delete_lock(desk.owner, desk.id, Client(None), wanted, forefront=False)
    later = Client("another-process", "run-1")
    expires = await desk.queues.prolong_lock(desk.owner, desk.id, later, wanted, lock_secs=90, forefront=False)
    assert expires == desk.clock.now_ms() + 90_000
    desk.clock.advance(80)
    assert await desk.head() == []
    await desk.queues.delete_lock(desk.owner, desk.id, later, wanted, forefront=True)
    assert await desk.head() == ["1"]
    with pytest.raises(ApiError):
        await desk.queues.prolong_lock(desk.owner, desk.id, mine, wanted, lock_secs=9, forefront=False)


async def test_unlock_releases_all_of_the_client_and_the_run(desk: Desk) -> None:
    await desk.add("1", "2", "3", "4")
    await desk.lock(1, client=Client("x", "run-1"))
    await desk.lock(1, client=Client("y", "run-1"))
    await desk.lock(1, client=B)
    assert await desk.queues.unlock(desk.owner, desk.id, Client("x", "run-1")) == 2
    assert sorted(await desk.head()) == ["1", "2", "4"]
    assert await desk.queues.unlock(desk.owner, desk.id, B) == 1
    assert await desk.queues.unlock(desk.owner, desk.id, B) == 0


async def test_put_releases_the_lock_and_queues_again(desk: Desk) -> None:
    await desk.add("1", "2")
    await desk.lock(1)
    changed = await desk.queues.put(desk.owner, desk.id, A, a_request("1", retryCount=1), forefront=False)
    assert (changed.was_already_present, changed.was_already_handled) == (True, False)
    assert await desk.head() == ["2", "1"]
    assert (await desk.handle("1")).was_already_handled is False
    assert (await desk.handle("1")).was_already_handled is True
    assert await desk.head() == ["2"]
    back = await desk.queues.put(desk.owner, desk.id, A, a_request("1"), forefront=True)
    assert back.was_already_handled is True
    assert await desk.head() == ["1", "2"]
    created = await desk.queues.put(desk.owner, desk.id, A, a_request("new"), forefront=False)
    assert created.was_already_present is False
    counts = await desk.counts()
    assert (counts["total_count"], counts["handled_count"]) == (3, 0)


async def test_locked_requests_are_reported_exactly(desk: Desk) -> None:
    await desk.add("1")
    first = await desk.queues.lock_head(desk.owner, desk.id, A, limit=25, lock_secs=10)
    assert first.has_locked_requests
    second = await desk.queues.lock_head(desk.owner, desk.id, B, limit=25, lock_secs=10)
    assert (list(second.items), second.has_locked_requests) == ([], True)
    await desk.handle("1")
    third = await desk.queues.lock_head(desk.owner, desk.id, B, limit=25, lock_secs=10)
    assert not third.has_locked_requests


async def test_several_clients_are_noticed_for_good(desk: Desk) -> None:
    async def had_multiple() -> bool:
        return bool((await desk.counts())["had_multiple_clients"])

    await desk.add("1", client=A)
    await desk.queues.get(desk.owner, desk.id, request_id("1"))
    assert not await had_multiple()
    await desk.queues.head(desk.owner, desk.id, Client(None), 10)
    assert await had_multiple()
    await desk.add("2", client=A)
    assert await had_multiple()


async def test_delete_and_batch_delete(desk: Desk) -> None:
    await desk.add("1", "2", "3")
    await desk.handle("2")
    await desk.queues.delete(desk.owner, desk.id, A, request_id("1"))
    with pytest.raises(ApiError) as error:
        await desk.queues.delete(desk.owner, desk.id, A, request_id("1"))
    assert error.value.type.code == "record-not-found"
    await desk.queues.delete_batch(desk.owner, desk.id, A, [request_id("2"), request_id("nothing")])
    counts = await desk.counts()
    assert (counts["total_count"], counts["handled_count"]) == (1, 0)


async def test_sixteen_clients_get_every_request_once(desk: Desk) -> None:
    for start in range(0, 800, 25):
        await desk.add(*(f"r{number}" for number in range(start, start + 25)))
    taken: list[str] = []
    sizes: list[int] = []

    async def work(number: int) -> None:
        client = Client(f"client-{number}")
        while batch := await desk.lock(25, client=client):
            sizes.append(len(batch))
            taken.extend(batch)
            for name in batch[:3]:
                await desk.handle(name, client)

    await asyncio.gather(*(work(number) for number in range(16)))
    assert sorted(taken) == sorted(f"r{number}" for number in range(800))
    assert set(sizes) == {25}, "full batches"
    counts = await desk.counts()
    assert (counts["total_count"], counts["handled_count"]) == (800, 96)


async def test_unknown_fields_and_large_numbers_come_back(desk: Desk) -> None:
    from actorium.domain.requests import request_object

    text = b'{"uniqueKey":"k","url":"u","userData":{"n":12345678901234567890123,"__crawlee":{"a":null}},"label":"x"}'
    await desk.queues.add(desk.owner, desk.id, A, [parse_request(text)], forefront=False)
    found, now = await desk.queues.get(desk.owner, desk.id, request_id("k"))
    shown = bytes(request_object(found, now)).decode()
    assert '"userData":{"n":12345678901234567890123,"__crawlee":{"a":null}}' in shown
    assert '"label":"x"' in shown
    assert "null" not in shown.replace('{"a":null}', ""), "Crawlee refuses null fields"


async def test_sizes_are_bytes(desk: Desk) -> None:
    text = '{"uniqueKey":"💛","url":"u","method":"GET"}'
    await desk.queues.add(desk.owner, desk.id, A, [parse_request(text.encode())], forefront=False)
    assert (await desk.counts())["storage_bytes"] == len(text.encode())
    longer = text.replace("}", ',"label":"ž"}')
    await desk.queues.put(desk.owner, desk.id, A, parse_request(longer.encode()), forefront=False)
    assert (await desk.counts())["storage_bytes"] == len(longer.encode())
    await desk.queues.delete(desk.owner, desk.id, A, request_id("💛"))
    assert (await desk.counts())["storage_bytes"] == 0


async def test_the_head_needs_no_sort_and_no_scan(desk: Desk) -> None:
    """With many handled and locked requests the index still gives the head at once."""
    if not isinstance(desk.db, SqliteDatabase):
        pytest.skip("reads SQLite's query plan")

    async def plan(tx: Tx) -> list[str]:
        rows = await tx.fetch(
            "EXPLAIN QUERY PLAN SELECT id FROM requests WHERE queue_id = ? AND order_no IS NOT NULL "
            "AND (lock_expires_at IS NULL OR lock_expires_at <= ?) ORDER BY order_no LIMIT 25",
            desk.id,
            1,
        )
        return [row["detail"] for row in rows]

    (detail,) = await desk.db.read("plan", plan)
    assert "USING INDEX requests_by_order" in detail
