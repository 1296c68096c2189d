"""Every hot call of the storages beside the bare floor in one run: ``python bench/storages.py [sqlite] [postgres]``.

Ours and the floor get the same requests over the same 32 connections in turns; a figure is the median of the
rounds. ``BENCH_SCALE`` multiplies the number of requests in a round, ``BENCH_ONLY`` names calls to measure.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable

import load
import msgspec
from floor import request_id
from load import Result, request
from servers import Server, for_each_database

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SCALE = float(os.environ.get("BENCH_SCALE", "1"))
ONLY = os.environ.get("BENCH_ONLY", "")

ITEM = json.dumps({"url": "https://example.com/product/1", "title": "A product", "price": 10.5, "text": "x" * 900})
HUNDRED = ("[" + ",".join([ITEM] * 100) + "]").encode()
RECORD = os.urandom(10_240)


def queue_request(n: int) -> dict[str, object]:
    url = f"https://example.com/products/{n}"
    return {"url": url, "uniqueKey": url, "method": "GET", "userData": {"label": "DETAIL", "page": n}}


def new(server: Server, kind: str) -> str:
    found = server.call("POST", f"/v2/{kind}")["id"]
    return f"/v2/{kind}/{found}"


def batches(queue: str, count: int, first: int = 0) -> list[bytes]:
    """``count`` batch adds of 25 new requests."""
    return [
        request(
            "POST",
            f"{queue}/requests/batch",
            msgspec.json.encode([queue_request(n) for n in range(first + 25 * k, first + 25 * k + 25)]),
        )
        for k in range(count)
    ]


def filled_queue(server: Server, count: int) -> str:
    queue = new(server, "request-queues")
    load.run(server, batches(queue, -(-count // 25)))
    return queue


def noop(server: Server, count: int) -> Result:
    return load.run(server, [request("GET", "/v2/users/me")] * count)


def push_one(server: Server, count: int) -> Result:
    path = f"{new(server, 'datasets')}/items"
    return load.run(server, [request("POST", path, ITEM.encode())] * count)


def push_hundred(server: Server, count: int) -> Result:
    path = f"{new(server, 'datasets')}/items"
    return load.run(server, [request("POST", path, HUNDRED)] * count)


def read_thousand(server: Server, count: int) -> Result:
    path = f"{new(server, 'datasets')}/items"
    load.run(server, [request("POST", path, HUNDRED)] * 20, connections=1)
    return load.run(server, [request("GET", f"{path}?offset=500&limit=1000")] * count, connections=1)


def add_one(server: Server, count: int) -> Result:
    path = f"{new(server, 'request-queues')}/requests"
    return load.run(server, [request("POST", path, msgspec.json.encode(queue_request(n))) for n in range(count)])


def add_25(server: Server, count: int) -> Result:
    return load.run(server, batches(new(server, "request-queues"), count))


def lock_25(server: Server, count: int) -> Result:
    path = f"{filled_queue(server, count * 25)}/head/lock?limit=25&lockSecs=60&clientKey=bench"
    result = load.run(server, [request("POST", path)] * count)
    assert all(body.count(b'"uniqueKey"') == 25 for body in result.bodies), "every batch is full"
    return result


def handle(server: Server, count: int) -> Result:
    queue = filled_queue(server, count)
    requests = []
    for n in range(count):
        body = {**queue_request(n), "id": request_id(f"https://example.com/products/{n}"), "retryCount": 0}
        body["handledAt"] = "2026-01-01T00:00:00.000Z"
        requests.append(request("PUT", f"{queue}/requests/{body['id']}?clientKey=bench", msgspec.json.encode(body)))
    return load.run(server, requests)


def put_record(server: Server, count: int) -> Result:
    store = new(server, "key-value-stores")
    requests = [request("PUT", f"{store}/records/key-{n}", RECORD, "application/octet-stream") for n in range(count)]
    return load.run(server, requests)


def get_record(server: Server, count: int) -> Result:
    store = new(server, "key-value-stores")
    record = f"{store}/records/key"
    load.run(server, [request("PUT", record, RECORD, "application/octet-stream")], connections=1)
    return load.run(server, [request("GET", record)] * count)


CALLS: dict[str, tuple[str, int, Callable[[Server, int], Result]]] = {
    "noop": ("no-op, authenticated JSON", 8000, noop),
    "push1": ("push 1 item of 1 KB", 6000, push_one),
    "push100": ("push 100", 700, push_hundred),
    "read1000": ("1,000 items as JSON, 1 connection", 250, read_thousand),
    "add1": ("queue add of 1", 6000, add_one),
    "add25": ("queue add of 25", 1000, add_25),
    "lock25": ("head/lock of 25", 800, lock_25),
    "handle": ("mark handled", 6000, handle),
    "put": ("record put 10 KB", 5000, put_record),
    "get": ("record get 10 KB", 8000, get_record),
}


def measure(ours: Server, floor: Server) -> None:
    print(f"  32 connections, median of {ROUNDS} rounds")
    print("  call                                    ours/s   floor/s   ratio    ours, CPU   floor, CPU")
    for name, (title, count, call) in CALLS.items():
        if ONLY and name not in ONLY.split(","):
            continue
        results: dict[str, list[Result]] = {"ours": [], "floor": []}
        for number in range(ROUNDS + 1):
            for who, server in (("floor", floor), ("ours", ours)):
                result = call(server, int(count * SCALE))
                if number:
                    results[who].append(result)
        per_sec = {who: statistics.median(result.per_sec for result in found) for who, found in results.items()}
        cpu = {who: statistics.median(result.cpu_micros for result in found) for who, found in results.items()}
        print(
            f"  {title:36} {per_sec['ours']:9.0f} {per_sec['floor']:9.0f} {per_sec['ours'] / per_sec['floor']:7.2f} "
            f"{cpu['ours']:9.0f} µs {cpu['floor']:9.0f} µs",
            flush=True,
        )


if __name__ == "__main__":
    for_each_database(measure)
