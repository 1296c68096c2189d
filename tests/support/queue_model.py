"""A request queue as plain as can be: lists, dictionaries and the rules of the platform, nothing of our own code.

A request's place is ``(moment, after, number)``: a lock that expires at a moment comes before what is added at it.
Places of the back sort ascending, places of the front descending, and the front comes first.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Caller = tuple[str | None, str | None]
"""The client key and the run of a caller."""

Place = tuple[int, int, int]


class Refused(Exception):
    """The platform refuses; the argument is the error's type."""


def id_of(unique_key: str) -> str:
    digest = base64.b64encode(hashlib.sha256(unique_key.encode()).digest()).decode()
    return re.sub(r"[+/=]", "", digest)[:15]


def json_text(fields: dict[str, Any]) -> str:
    """Compact, as the stock clients send it."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def iso(at_ms: int) -> str:
    """A time of the test's year."""
    seconds, millis = divmod(at_ms - 1_767_225_600_000, 1000)
    days, second = divmod(seconds, 86_400)
    assert 0 <= days < 31
    return f"2026-01-{days + 1:02d}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{millis:03d}Z"


@dataclass
class Lock:
    expires_at: int
    by: Caller

    def is_of(self, caller: Caller) -> bool:
        return any(mine is not None and mine == its for mine, its in zip(caller, self.by, strict=True))


@dataclass
class Kept:
    """A request in the queue. ``sent`` is what the client sent of it, without state."""

    sent: dict[str, Any]
    handled_at: str | None
    is_front: bool = False
    place: Place = (0, 0, 0)
    lock: Lock | None = None

    @property
    def size_bytes(self) -> int:
        return len(json_text(self.sent).encode())


@dataclass
class QueueModel:
    """The queue. Every method takes the time first and who calls second, and raises before it changes anything."""

    kept: dict[str, Kept] = field(default_factory=dict)
    counters: dict[str, int] = field(
        default_factory=lambda: {
            "read_count": 0, "write_count": 0, "delete_count": 0, "head_item_read_count": 0,
        }
    )  # fmt: skip
    had_multiple_clients: bool = False
    content_changed_at: int = 0
    _first: str | None = None
    _is_called: bool = False
    _numbers: Callable[[], int] = field(default_factory=lambda: itertools.count().__next__)

    def counts(self) -> dict[str, int]:
        """Every number the queue shows of itself."""
        return {
            **self.counters,
            "total_count": len(self.kept),
            "handled_count": sum(one.handled_at is not None for one in self.kept.values()),
            "had_multiple_clients": int(self.had_multiple_clients),
            "storage_bytes": sum(one.size_bytes for one in self.kept.values()),
        }

    def add(self, now: int, caller: Caller, requests: Sequence[dict[str, Any]], *, forefront: bool) -> list[Any]:
        self._called(caller)
        results = []
        for request in requests:
            found_id = id_of(request["uniqueKey"])
            before = self.kept.get(found_id)
            if before is None:
                self._keep(now, found_id, request, is_front=forefront)
            results.append((found_id, before is not None, before is not None and before.handled_at is not None))
            self.counters["write_count"] += 1
        return results

    def put(self, now: int, caller: Caller, request: dict[str, Any], *, forefront: bool) -> Any:
        self._called(caller)
        found_id = id_of(request["uniqueKey"])
        before = self.kept.get(found_id)
        self._keep(now, found_id, request, is_front=forefront)
        self.counters["write_count"] += 1
        return found_id, before is not None, before is not None and before.handled_at is not None

    def delete(self, now: int, caller: Caller, wanted_id: str) -> None:
        if wanted_id not in self.kept:
            raise Refused("record-not-found")
        self.delete_batch(now, caller, [wanted_id])

    def delete_batch(self, now: int, caller: Caller, wanted_ids: Iterable[str]) -> None:
        self._called(caller)
        for wanted_id in wanted_ids:
            if self.kept.pop(wanted_id, None) is not None:
                self.counters["delete_count"] += 1
                self.counters["write_count"] += 1
                self.content_changed_at = now

    def get(self, now: int, wanted_id: str) -> dict[str, Any]:
        if wanted_id not in self.kept:
            raise Refused("record-not-found")
        self.counters["read_count"] += 1
        return self._shown(now, wanted_id)

    def list(
        self, now: int, caller: Caller, *, after: str | None, limit: int, locked: bool, pending: bool
    ) -> list[dict[str, Any]]:
        self._called(caller)
        found = []
        for wanted_id in sorted(self.kept):
            is_pending = self.kept[wanted_id].handled_at is None
            is_wanted = not (locked or pending) or (pending and is_pending) or (locked and self._lock(now, wanted_id))
            if is_wanted and (after is None or wanted_id > after):
                found.append(self._shown(now, wanted_id))
        self.counters["read_count"] += len(found[:limit])
        return found[:limit]

    def head(self, now: int, caller: Caller, limit: int) -> tuple[list[dict[str, Any]], bool]:
        self._called(caller)
        found = self.available(now)[:limit]
        self.counters["head_item_read_count"] += len(found)
        return [self._head_item(one) for one in found], self.had_multiple_clients

    def lock_head(self, now: int, caller: Caller, *, limit: int, lock_secs: int) -> Any:
        """The requests, whether any of the queue is locked afterwards, whether it had several clients, the expiry."""
        self._called(caller)
        found = self.available(now)[:limit]
        expires_at = now + lock_secs * 1000
        self._place_together(found, expires_at, 0)
        for one in found:
            self.kept[one].lock = Lock(expires_at, caller)
            self.counters["write_count"] += 1
        has_locked = any(self._lock(now, one) is not None for one in self.kept)
        return [self._head_item(one) for one in found], has_locked, self.had_multiple_clients, expires_at

    def prolong_lock(self, now: int, caller: Caller, wanted_id: str, *, lock_secs: int, forefront: bool) -> int:
        lock = self._held(now, wanted_id)
        if lock is None or not lock.is_of(caller):
            raise Refused("request-handled-or-locked")
        self._called(caller)
        lock.expires_at = now + lock_secs * 1000
        self._place(self.kept[wanted_id], lock.expires_at, 0, is_front=forefront)
        self.counters["write_count"] += 1
        return lock.expires_at

    def delete_lock(self, now: int, caller: Caller, wanted_id: str, *, forefront: bool) -> None:
        lock = self._held(now, wanted_id)
        if lock is not None and not lock.is_of(caller):
            raise Refused("request-handled-or-locked")
        self._called(caller)
        self.kept[wanted_id].lock = None
        self._place(self.kept[wanted_id], now, 1, is_front=forefront)
        self.counters["write_count"] += 1

    def unlock(self, now: int, caller: Caller) -> int:
        self._called(caller)
        mine = [one for one in self.kept if (lock := self._lock(now, one)) is not None and lock.is_of(caller)]
        mine.sort(key=self._rank)
        self._place_together(mine, now, 1)
        for one in mine:
            self.kept[one].lock = None
            self.counters["write_count"] += 1
        return len(mine)

    def next_expiry(self, now: int) -> int | None:
        """When the next lock expires."""
        return min((lock.expires_at for one in self.kept if (lock := self._lock(now, one)) is not None), default=None)

    def held(self, now: int) -> dict[str, Caller]:
        """Who holds which request."""
        return {one: lock.by for one in self.kept if (lock := self._lock(now, one)) is not None}

    def state(self) -> Any:
        """Everything the future depends on, comparable."""
        order = sorted(self.kept, key=self._rank)
        kept = [(one, repr(self.kept[one].sent), self.kept[one].handled_at, self.kept[one].is_front,
                 self.kept[one].place[:2], repr(self.kept[one].lock)) for one in order]  # fmt: skip
        return kept, sorted(self.counts().items()), self._is_called, self._first

    def available(self, now: int) -> list[str]:
        """Ids of the requests that are neither handled nor locked, in order."""
        found = [one for one, kept in self.kept.items() if kept.handled_at is None and self._lock(now, one) is None]
        return sorted(found, key=self._rank)

    def _rank(self, wanted_id: str) -> tuple[int, ...]:
        one = self.kept[wanted_id]
        return (0, *(-part for part in one.place)) if one.is_front else (1, *one.place)

    def _keep(self, now: int, found_id: str, request: dict[str, Any], *, is_front: bool) -> None:
        sent = {key: value for key, value in request.items() if key not in ("id", "handledAt")}
        self.kept[found_id] = Kept(sent, request.get("handledAt"))
        self._place(self.kept[found_id], now, 1, is_front=is_front)
        self.content_changed_at = now

    def _place(self, one: Kept, moment: int, after: int, *, is_front: bool) -> None:
        one.is_front, one.place = is_front, (moment, after, self._numbers())

    def _place_together(self, ids: Sequence[str], moment: int, after: int) -> None:
        """Move requests to a new place at their end of the queue; among themselves they keep their order."""
        for one in [*(i for i in ids if not self.kept[i].is_front), *(i for i in ids[::-1] if self.kept[i].is_front)]:
            self._place(self.kept[one], moment, after, is_front=self.kept[one].is_front)

    def _held(self, now: int, wanted_id: str) -> Lock | None:
        if wanted_id not in self.kept:
            raise Refused("record-not-found")
        if self.kept[wanted_id].handled_at is not None:
            raise Refused("request-handled-or-locked")
        return self._lock(now, wanted_id)

    def _lock(self, now: int, wanted_id: str) -> Lock | None:
        lock = self.kept[wanted_id].lock
        return lock if lock is not None and lock.expires_at > now else None

    def _called(self, caller: Caller) -> None:
        """A call without a key comes from a client of its own."""
        key = caller[0]
        if self._is_called and (key is None or key != self._first):
            self.had_multiple_clients = True
        if not self._is_called:
            self._is_called, self._first = True, key

    def _head_item(self, wanted_id: str) -> dict[str, Any]:
        sent = self.kept[wanted_id].sent
        named = {name: sent[name] for name in ("uniqueKey", "url")}
        return {"id": wanted_id, **named, "method": sent.get("method", "GET"), "retryCount": sent.get("retryCount", 0)}

    def _shown(self, now: int, wanted_id: str) -> dict[str, Any]:
        one = self.kept[wanted_id]
        shown: dict[str, Any] = {
            "id": wanted_id,
            "method": "GET",
            "retryCount": 0,
            "noRetry": False,
            "errorMessages": [],
            "headers": {},
            "userData": {},
            **one.sent,
        }
        if one.handled_at is not None:
            shown["handledAt"] = one.handled_at
        elif (lock := self._lock(now, wanted_id)) is not None:
            shown |= {"lockExpiresAt": iso(lock.expires_at), "lockByClient": lock.by[0]}
        return shown
