"""Calls to a request queue as data: drawn at random, made to the service, and made to the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from actorium.domain.errors import ApiError
from actorium.domain.requests import Client, parse_request, request_object
from actorium.domain.storages import StorageKind
from actorium.services.access import Principal
from actorium.services.request_queues import RequestQueues
from actorium.services.storages import ReadCounts, Storages
from actorium.storage.db import Database
from fakes.clock import FakeClock
from support.queue_model import Caller, QueueModel, Refused, id_of, json_text

CallToQueue = tuple[str, dict[str, Any]]

_CALLERS: list[Caller] = [
    ("a", None), ("b", None), (None, None), ("a", "run1"), ("c", "run1"), (None, "run1"), ("d", "run2"),
]  # fmt: skip
KEYS = [f"k{number}" if number % 3 else f"ž💛{number}" for number in range(6)]
_callers = st.sampled_from(_CALLERS)
_ids = st.sampled_from([id_of(key) for key in KEYS])
_lock_secs = st.sampled_from([1, 2, 60, 86_400])
_flags = st.booleans()


@st.composite
def _requests(draw: st.DrawFn) -> dict[str, Any]:
    key = draw(st.sampled_from(KEYS))
    more: dict[str, Any] = draw(
        st.sampled_from(
            [{}, {}, {"handledAt": "2026-01-01T00:00:00.000Z"}, {"id": id_of(key), "method": "POST", "retryCount": 2},
             {"userData": {"ü": "\u0000💛", "deep": [{"n": None}]}}]
        )
    )  # fmt: skip
    return {"uniqueKey": key, "url": f"http://site/{key}", **more}


def _call(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[CallToQueue]:
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


_batches = st.lists(_requests(), min_size=1, max_size=4) | st.lists(_requests(), min_size=20, max_size=25)
_add = _call("add", caller=_callers, requests=_batches, forefront=_flags)
_put = _call("put", caller=_callers, request=_requests(), forefront=_flags)
_lock_head = _call("lock_head", caller=_callers, limit=st.sampled_from([1, 2, 4, 25]), lock_secs=_lock_secs)
_delete = _call("delete", caller=_callers, wanted_id=_ids)
# The id of these is one that is locked, where any is; with "own" its holder calls, with "run" another key of its run.
_aims = st.sampled_from(["any", "locked", "own", "run"])
_on_locks = st.one_of(
    _call("prolong_lock", caller=_callers, wanted_id=_ids, aim=_aims, lock_secs=_lock_secs, forefront=_flags),
    _call("delete_lock", caller=_callers, wanted_id=_ids, aim=_aims, forefront=_flags),
    _call("unlock", caller=_callers),
)
_reads = st.one_of(
    _call("get", wanted_id=_ids),
    _call(
        "list",
        caller=_callers,
        after=st.none() | _ids,
        limit=st.sampled_from([1, 2, 5, 10_000]),
        locked=_flags,
        pending=_flags,
    ),
    _call("head", caller=_callers, limit=st.sampled_from([1, 3, 1000])),
)
_delete_batch = _call("delete_batch", caller=_callers, wanted_ids=st.lists(_ids, min_size=1, max_size=4))

changes = st.one_of(_add, _put, _lock_head, _lock_head, _on_locks, _on_locks, _delete)
calls = st.one_of(changes, changes, _delete_batch, _reads)
waits = st.sampled_from([("wait", 1), ("wait", 1000), ("expiry", 0), ("expiry", 0), ("expiry", 1)])


def aimed(model: QueueModel, now: int, call: CallToQueue) -> CallToQueue:
    """The call with what it is aimed at."""
    name, arguments = call
    aim = arguments.get("aim", "any")
    rest = {key: value for key, value in arguments.items() if key != "aim"}
    held = model.held(now)
    if aim != "any" and held:
        wanted = min(held, key=lambda one: (one < rest["wanted_id"], one))
        caller = {"own": held[wanted], "run": ("other", held[wanted][1])}.get(aim, rest["caller"])
        rest |= {"wanted_id": wanted, "caller": caller}
    return name, rest


def wait(clock: FakeClock, model: QueueModel, how: tuple[str, int]) -> None:
    """Move the clock by milliseconds, or to (or 1 ms before) the moment the next lock expires."""
    kind, millis = how
    expires_at = model.next_expiry(clock.now_ms())
    if kind == "wait":
        clock.advance(millis / 1000)
    elif expires_at is not None:
        clock.advance((expires_at - millis - clock.now_ms()) / 1000)


def call_model(model: QueueModel, now: int, call: CallToQueue) -> Any:
    """What the model gives; the error's type where it refuses."""
    try:
        return getattr(model, call[0])(now, **call[1])
    except Refused as refused:
        return str(refused)


class RealQueue:
    """A new queue of the service; its methods give what those of the model give."""

    def __init__(self, db: Database, owner: Principal, clock: FakeClock) -> None:
        self.clock, self.owner = clock, owner
        reads = ReadCounts(db, clock)
        self._queues = RequestQueues(db, clock, reads)
        self._storages = Storages(db, clock, reads)
        self.id = ""
        self.modified_at = clock.now_ms()

    async def create(self) -> None:
        created, _ = await self._storages.get_or_create(self.owner, StorageKind.REQUEST_QUEUE, None, None)
        self.id = created.id

    async def call(self, call: CallToQueue) -> Any:
        """What the service gives; the error's type where it refuses."""
        try:
            return await getattr(self, call[0])(**call[1])
        except ApiError as error:
            return error.type.code

    async def counts(self) -> dict[str, int]:
        return (await self._storages.resolve(self.owner, StorageKind.REQUEST_QUEUE, self.id)).counters

    async def add(self, caller: Caller, requests: Sequence[dict[str, Any]], *, forefront: bool) -> Any:
        parsed = [parse_request(json_text(request).encode()) for request in requests]
        added = await self._queues.add(self.owner, self.id, Client(*caller), parsed, forefront=forefront)
        assert [one.unique_key for one in added] == [request["uniqueKey"] for request in requests]
        return [(one.id, one.was_already_present, one.was_already_handled) for one in added]

    async def put(self, caller: Caller, request: dict[str, Any], *, forefront: bool) -> Any:
        parsed = parse_request(json_text(request).encode())
        one = await self._queues.put(self.owner, self.id, Client(*caller), parsed, forefront=forefront)
        return one.id, one.was_already_present, one.was_already_handled

    async def delete(self, caller: Caller, wanted_id: str) -> None:
        await self._queues.delete(self.owner, self.id, Client(*caller), wanted_id)

    async def delete_batch(self, caller: Caller, wanted_ids: Sequence[str]) -> None:
        await self._queues.delete_batch(self.owner, self.id, Client(*caller), wanted_ids)

    async def get(self, wanted_id: str) -> Any:
        found, now = await self._queues.get(self.owner, self.id, wanted_id)
        return json.loads(bytes(request_object(found, now)))

    async def list(self, caller: Caller, **arguments: Any) -> Any:
        found, now = await self._queues.list(self.owner, self.id, Client(*caller), **arguments)
        return [json.loads(bytes(request_object(one, now))) for one in found]

    async def head(self, caller: Caller, limit: int) -> Any:
        found = await self._queues.head(self.owner, self.id, Client(*caller), limit)
        self.modified_at = found.queue_modified_at
        return [json.loads(item) for item in found.items], found.had_multiple_clients

    async def lock_head(self, caller: Caller, *, limit: int, lock_secs: int) -> Any:
        found = await self._queues.lock_head(self.owner, self.id, Client(*caller), limit=limit, lock_secs=lock_secs)
        self.modified_at = found.queue_modified_at
        items = [json.loads(item) for item in found.items]
        return items, found.has_locked_requests, found.had_multiple_clients, found.lock_expires_at

    async def prolong_lock(self, caller: Caller, wanted_id: str, **arguments: Any) -> Any:
        return await self._queues.prolong_lock(self.owner, self.id, Client(*caller), wanted_id, **arguments)

    async def delete_lock(self, caller: Caller, wanted_id: str, *, forefront: bool) -> None:
        await self._queues.delete_lock(self.owner, self.id, Client(*caller), wanted_id, forefront=forefront)

    async def unlock(self, caller: Caller) -> Any:
        return await self._queues.unlock(self.owner, self.id, Client(*caller))
