"""Any sequence of calls to a request queue gives what a plain model of the platform's rules gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorium.services.access import Principal
from actorium.storage.db import Database
from fakes.clock import FakeClock
from support.databases import AddUser
from support.properties import share
from support.queue_calls import KEYS, CallToQueue, RealQueue, aimed, call_model, calls, wait, waits
from support.queue_model import QueueModel


@pytest.fixture
async def owner(add_user: AddUser) -> Principal:
    return await add_user("U" * 17, "owner")


@share(2)
@given(
    filled=st.lists(st.booleans(), max_size=len(KEYS)),
    steps=st.lists(st.lists(waits | calls | calls | calls), max_size=8),
)
async def test_any_calls_agree_with_the_model(
    database: Database, owner: Principal, filled: list[bool], steps: list[list[Any]]
) -> None:
    clock = FakeClock()
    real, model = RealQueue(database, owner, clock), QueueModel(content_changed_at=clock.now_ms())
    await real.create()

    async def both(call: CallToQueue) -> None:
        name, arguments = aimed(model, clock.now_ms(), call)
        assert await real.call((name, arguments)) == call_model(model, clock.now_ms(), (name, arguments))
        assert await real.counts() == model.counts()
        if "head" in name:
            assert model.content_changed_at <= real.modified_at <= clock.now_ms()

    for key, forefront in zip(KEYS, filled, strict=False):
        request = {"uniqueKey": key, "url": "http://site"}
        await both(("add", {"caller": ("a", None), "requests": [request], "forefront": forefront}))
    for step in [one for part in steps for one in part]:
        if step[0] in ("wait", "expiry"):
            wait(clock, model, step)
        else:
            await both(step)
    # At last every lock expires, one after the other; this shows the order of all that is left.
    everything = {"caller": ("a", None), "limit": 1000}
    await both(("head", everything))
    while model.next_expiry(clock.now_ms()) is not None:
        wait(clock, model, ("expiry", 0))
        await both(("head", everything))
    await both(("list", {**everything, "after": None, "locked": False, "pending": False}))
