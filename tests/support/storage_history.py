"""What clients of storages were told, and whether what the server has later is one of the states that allows."""

from __future__ import annotations

import base64
import hashlib
import http.client
import random
import threading
import urllib.error
from dataclasses import dataclass, field
from typing import Any

from support.platform import Platform, Refused

LOCK_SECS = 3600
_GONE = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def value_of(text: str, size: int) -> bytes:
    """The value of a record that is known by its text."""
    return (text.encode() + b"/" + hashlib.sha256(text.encode()).hexdigest().encode() * (size // 64 + 1))[:size]


@dataclass
class Storages:
    """The storages the clients share."""

    dataset: str
    store: str
    queue: str


@dataclass
class History:
    """What one client asked for. Keys are its own, so the order of its calls is the order of their effects."""

    pushes: dict[str, int] = field(default_factory=dict)
    """Size of each acknowledged push."""
    open_pushes: dict[str, int] = field(default_factory=dict)
    records: dict[str, list[bytes | None]] = field(default_factory=dict)
    """Values each key may have now; ``None`` is none."""
    requests: dict[str, set[str]] = field(default_factory=dict)
    """States each request may be in now: ``absent``, ``pending``, ``handled``."""
    locked: set[str] = field(default_factory=set)
    """Ids handed to this client; their locks outlast the test."""


class Client(threading.Thread):
    """Writes to the storages until the server is gone. An answer of 500 counts as none: what it did is not known."""

    def __init__(self, platform: Platform, storages: Storages, name: str, seed: int, history: History) -> None:
        super().__init__(name=name)
        self._platform = platform
        self._storages = storages
        self._random = random.Random(seed)
        self._count = 0
        self.history = history
        self.refusals: list[Refused] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        acts = (self._push, self._push, self._put, self._put, self._delete_record)
        acts += (self._add, self._add_batch, self._lock, self._handle, self._delete_request)
        while not self.stopping.is_set():
            self._count += 1
            try:
                self._random.choice(acts)(f"{self.name}-{self._count}")
            except Refused as error:
                if error.status < 500:
                    self.refusals.append(error)
            except _GONE:
                return

    def _call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        return self._platform.call(method, f"/v2{path}", body, **options)

    def _push(self, name: str) -> None:
        # The last one is so large that it goes into a blob.
        count, length = self._random.choice([(1, 50), (1, 50), (2, 50), (40, 50), (500, 50), (3, 800_000)])
        items = [{"push": name, "n": number, "of": count, "text": "x" * length} for number in range(count)]
        self.history.open_pushes[name] = count
        body = items if count > 1 else items[0]
        self._call("POST", f"/datasets/{self._storages.dataset}/items", body)
        del self.history.open_pushes[name]
        self.history.pushes[name] = count

    def _put(self, name: str) -> None:
        key = f"{self.name}-{self._random.randrange(4)}"
        size = self._random.choice([20, 1000, 64 * 1024, 64 * 1024 + 1, 300_000, 1_300_000])
        value = value_of(name, size)
        self.history.records.setdefault(key, [None]).append(value)
        headers = {"Content-Type": "application/octet-stream"}
        self._call("PUT", f"/key-value-stores/{self._storages.store}/records/{key}", value, headers=headers)
        self.history.records[key] = [value]

    def _delete_record(self, _name: str) -> None:
        key = f"{self.name}-{self._random.randrange(4)}"
        self.history.records.setdefault(key, [None]).append(None)
        self._call("DELETE", f"/key-value-stores/{self._storages.store}/records/{key}")
        self.history.records[key] = [None]

    def _queue(self, path: str) -> str:
        return f"/request-queues/{self._storages.queue}{path}clientKey={self.name}"

    def _add(self, name: str) -> None:
        self.history.requests[name] = {"absent", "pending"}
        self._call("POST", self._queue("/requests?"), _request(name))
        self.history.requests[name] = {"pending"}

    def _add_batch(self, name: str) -> None:
        names = [f"{name}-{number}" for number in range(self._random.choice([2, 25]))]
        for each in names:
            self.history.requests[each] = {"absent", "pending"}
        self._call("POST", self._queue("/requests/batch?"), [_request(each) for each in names])
        for each in names:
            self.history.requests[each] = {"pending"}

    def _lock(self, _name: str) -> None:
        found = self._call("POST", self._queue(f"/head/lock?lockSecs={LOCK_SECS}&limit=5&"))
        self.history.locked |= {item["uniqueKey"] for item in found["items"]}

    def _handle(self, _name: str) -> None:
        self._finish("handled")

    def _delete_request(self, _name: str) -> None:
        self._finish("absent")

    def _finish(self, state: str) -> None:
        mine = sorted(name for name, states in self.history.requests.items() if states == {"pending"})
        if not mine:
            return
        name = self._random.choice(mine)
        self.history.requests[name] = {"pending", state}
        path = self._queue(f"/requests/{request_id(name)}?")
        if state == "handled":
            self._call("PUT", path, {**_request(name), "handledAt": "2026-01-01T00:00:00.000Z"})
        else:
            self._call("DELETE", path)
        self.history.requests[name] = {state}


def request_id(unique_key: str) -> str:
    """The id of a request, as clients compute it."""
    text = base64.b64encode(hashlib.sha256(unique_key.encode()).digest()).decode()
    return "".join(letter for letter in text if letter not in "+/=")[:15]


def _request(name: str) -> dict[str, Any]:
    return {"uniqueKey": name, "url": f"http://example.com/{name}", "userData": {"text": "y" * 100}}


def check(platform: Platform, storages: Storages, histories: list[History]) -> None:
    """Hold what the server has against what the clients were told; what was undecided is decided from here on."""
    _check_items(platform, storages.dataset, histories)
    _check_records(platform, storages.store, histories)
    _check_requests(platform, storages.queue, histories)


def _check_items(platform: Platform, dataset: str, histories: list[History]) -> None:
    items = platform.call("GET", f"/v2/datasets/{dataset}/items")
    found: dict[str, int] = {}
    position = 0
    while position < len(items):
        name, count = items[position]["push"], items[position]["of"]
        numbers = [(item["push"], item["n"]) for item in items[position : position + count]]
        assert numbers == [(name, number) for number in range(count)], f"push {name} is whole and in one piece"
        assert name not in found, f"push {name} is there twice"
        found[name] = count
        position += count
    told = {name: count for history in histories for name, count in history.pushes.items()}
    undecided = {name: count for history in histories for name, count in history.open_pushes.items()}
    assert told.items() <= found.items(), f"lost pushes: {sorted(told.keys() - found.keys())[:5]}"
    assert found.items() <= (told | undecided).items()
    for history in histories:
        history.pushes |= {name: count for name, count in history.open_pushes.items() if name in found}
        history.open_pushes.clear()
    shown = platform.call("GET", f"/v2/datasets/{dataset}")
    assert shown["itemCount"] == shown["cleanItemCount"] == len(items)


def _check_records(platform: Platform, store: str, histories: list[History]) -> None:
    keys = platform.call("GET", f"/v2/key-value-stores/{store}/keys")["items"]
    sizes = {item["key"]: item["size"] for item in keys}
    for history in histories:
        for key, values in history.records.items():
            found = record(platform, store, key)
            assert found in values, f"record {key} is none of the {len(values)} it can be"
            assert sizes.get(key) == (None if found is None else len(found))
            history.records[key] = [found]
    stored = platform.call("GET", f"/v2/key-value-stores/{store}")["stats"]["storageBytes"]
    assert stored == sum(sizes.values())


def record(platform: Platform, store: str, key: str) -> bytes | None:
    """A record's bytes; ``None`` when there is none."""
    try:
        text: str = platform.call("GET", f"/v2/key-value-stores/{store}/records/{key}")
    except Refused as error:
        if error.status == 404:
            return None
        raise
    return text.encode()


def _check_requests(platform: Platform, queue: str, histories: list[History]) -> None:
    found: dict[str, str] = {}
    cursor = ""
    while cursor is not None:
        page = platform.call("GET", f"/v2/request-queues/{queue}/requests?limit=2000&clientKey=check{cursor}")
        found |= {item["uniqueKey"]: "handled" if item.get("handledAt") else "pending" for item in page["items"]}
        cursor = f"&cursor={page['nextCursor']}" if page.get("nextCursor") else None
    for history in histories:
        for name, states in history.requests.items():
            assert found.get(name, "absent") in states, f"request {name} is {found.get(name, 'absent')}, not {states}"
            history.requests[name] = {found.get(name, "absent")}
    known = {name for history in histories for name in history.requests}
    assert found.keys() <= known
    handed = [name for history in histories for name in history.locked]
    assert len(handed) == len(set(handed)), "a locked request was handed out twice"
    shown = platform.call("GET", f"/v2/request-queues/{queue}")
    handled = sum(state == "handled" for state in found.values())
    assert (shown["totalRequestCount"], shown["handledRequestCount"]) == (len(found), handled)
    assert shown["pendingRequestCount"] == len(found) - handled
    head = platform.call("GET", f"/v2/request-queues/{queue}/head?limit=1000&clientKey=check")["items"]
    free = {name for name, state in found.items() if state == "pending"} - set(handed)
    # A call that had no answer may have locked requests nobody knows of.
    assert {item["uniqueKey"] for item in head} <= free
