"""Calls to a request queue at the same moment: what comes out must be what some order of them gives."""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorium.services.access import Principal
from actorium.storage.db import Database
from fakes.clock import FakeClock
from support.databases import AddUser
from support.properties import share
from support.queue_calls import KEYS, CallToQueue, RealQueue, aimed, call_model, changes, wait, waits
from support.queue_model import Caller, QueueModel, id_of

_EVERYTHING: dict[str, Any] = {"caller": ("a", None), "limit": 1000}


@pytest.fixture
async def owner(add_user: AddUser) -> Principal:
    return await add_user("U" * 17, "owner")


class Race:
    """A real queue, and every model that fits what came out so far."""

    def __init__(self, database: Database, owner: Principal) -> None:
        self.clock = FakeClock()
        self.real = RealQueue(database, owner, self.clock)
        self.models = [QueueModel(content_changed_at=self.clock.now_ms())]

    async def at_once(self, calls: list[CallToQueue]) -> None:
        """Make the calls together; some order of them must explain all results and all counts."""
        now = self.clock.now_ms()
        calls = [aimed(self.models[0], now, call) for call in calls]
        results = await asyncio.gather(*(self.real.call(call) for call in calls))
        counts = await self.real.counts()
        fitting: dict[str, QueueModel] = {}
        for model, order in itertools.product(self.models, itertools.permutations(range(len(calls)))):
            tried = copy.deepcopy(model)
            if all(call_model(tried, now, calls[n]) == results[n] for n in order) and tried.counts() == counts:
                fitting.setdefault(repr(tried.state()), tried)
        assert fitting, f"no order of {calls} gives {results} and {counts}"
        self.models = list(fitting.values())


@share(1)
@given(
    filled=st.integers(0, len(KEYS)),
    rounds=st.lists(st.lists(changes, min_size=2, max_size=4) | waits, max_size=6),
)
async def test_calls_at_once_are_as_if_one_came_after_the_other(
    database: Database, owner: Principal, filled: int, rounds: list[Any]
) -> None:
    race = Race(database, owner)
    await race.real.create()
    first = [{"uniqueKey": key, "url": "http://site"} for key in KEYS[:filled]]
    if first:
        await race.at_once([("add", {"caller": ("a", None), "requests": first, "forefront": False})])
    for calls in rounds:
        if isinstance(calls, tuple):
            wait(race.clock, race.models[0], calls)
        else:
            await race.at_once(calls)
    await race.at_once([("head", _EVERYTHING)])
    race.clock.advance(2 * 86_400)
    await race.at_once([("head", _EVERYTHING)])
    await race.at_once([("list", {**_EVERYTHING, "after": None, "locked": False, "pending": False})])


@share(0.1)
@given(batches=st.lists(st.lists(st.sampled_from(KEYS), min_size=1, max_size=25), min_size=2, max_size=16))
async def test_a_request_added_by_many_at_once_is_new_to_one_of_them(
    database: Database, owner: Principal, batches: list[list[str]]
) -> None:
    real = RealQueue(database, owner, FakeClock())
    await real.create()

    async def add(number: int, keys: list[str]) -> list[Any]:
        requests = [{"uniqueKey": key, "url": "http://site"} for key in keys]
        added: list[Any] = await real.add((f"c{number}", None), requests, forefront=number % 2 == 0)
        return added

    results = await asyncio.gather(*(add(number, keys) for number, keys in enumerate(batches)))
    new = [request_id for added in results for request_id, was_present, _ in added if not was_present]
    assert sorted(new) == sorted({id_of(key) for keys in batches for key in keys})
    counts = await real.counts()
    assert (counts["total_count"], counts["write_count"]) == (len(new), sum(map(len, batches)))


@share(0.05)
@given(seed=st.integers(0, 2**32))
async def test_nobody_gets_what_another_holds(database: Database, owner: Principal, seed: int) -> None:
    """Sixteen clients lock, prolong, handle, give back and let expire; the model of it is who holds what until when."""
    chance = random.Random(seed)
    clock = FakeClock()
    real = RealQueue(database, owner, clock)
    await real.create()
    keys = [f"r{number}" for number in range(100)]
    for start in range(0, len(keys), 25):
        requests = [{"uniqueKey": key, "url": "http://site"} for key in keys[start : start + 25]]
        await real.add(("seed", None), requests, forefront=False)
    held: dict[str, tuple[Caller, int]] = {}
    handled: set[str] = set()

    async def work(caller: Caller) -> None:
        lock_secs, limit = chance.choice([1, 5, 30]), chance.choice([1, 5, 25])
        items, has_locked, _, expires_at = await real.lock_head(caller, limit=limit, lock_secs=lock_secs)
        assert has_locked or not items
        mine = [item["id"] for item in items]
        for one in mine:
            holder, until = held.get(one, (caller, 0))
            assert until <= clock.now_ms(), f"{caller} got {one}, which {holder} holds until {until}"
            assert one not in handled
            held[one] = (caller, expires_at)
        for one in mine:
            what = chance.choice(["handle", "prolong", "give back", "keep", "keep"])
            if what == "handle":
                key = next(item["uniqueKey"] for item in items if item["id"] == one)
                done = {"uniqueKey": key, "url": "http://site", "handledAt": "2026-01-01T00:00:00.000Z"}
                assert await real.put(caller, done, forefront=False) == (one, True, False)
                handled.add(one)
            elif what == "prolong":
                held[one] = (caller, await real.prolong_lock(caller, one, lock_secs=60, forefront=False))
            elif what == "give back":
                # Whoever gets it next may do so before this call returns.
                del held[one]
                await real.delete_lock(caller, one, forefront=chance.random() < 0.5)

    for _ in range(6):
        await asyncio.gather(*(work((f"client{number}", None)) for number in range(16)))
        counts = await real.counts()
        assert (counts["total_count"], counts["handled_count"]) == (100, len(handled))
        now = clock.now_ms()
        listed = await real.list(("client0", None), after=None, limit=1000, locked=True, pending=False)
        assert {one["id"] for one in listed} == {one for one, (_, until) in held.items() if until > now} - handled
        clock.advance(chance.choice([0.999, 1, 4, 5, 60]))


async def test_an_expired_lock_is_anyones_at_that_moment_and_then_no_longer_its_holders(
    database: Database, owner: Principal
) -> None:
    clock = FakeClock()
    real = RealQueue(database, owner, clock)
    await real.create()
    await real.add(("a", None), [{"uniqueKey": "1", "url": "u"}], forefront=False)
    (item,), *_ = await real.lock_head(("a", None), limit=1, lock_secs=10)
    clock.advance(9.999)
    assert (await real.lock_head(("b", None), limit=1, lock_secs=10))[0] == []
    clock.advance(0.001)
    prolong = ("prolong_lock", {"caller": ("a", None), "wanted_id": item["id"], "lock_secs": 10, "forefront": False})
    take = ("lock_head", {"caller": ("b", None), "limit": 1, "lock_secs": 10})
    prolonged, (taken, *_) = await asyncio.gather(real.call(prolong), real.call(take))
    assert (prolonged, [one["id"] for one in taken]) == ("request-handled-or-locked", [item["id"]])
    assert await real.call(prolong) == "request-handled-or-locked"
    assert await real.call(("delete_lock", {"caller": ("a", None), "wanted_id": item["id"], "forefront": False})) == (
        "request-handled-or-locked"
    )
    assert await real.unlock(("a", None)) == 0
    assert await real.unlock(("b", None)) == 1
