"""Storages when they are large: ``python bench/storage_scale.py [sqlite] [postgres]``.

Pages deep in a dataset of 10,000,000 items, exports of a dataset of 1 GB beside a copy of as many bytes through
bare Starlette, a queue of 1,000,000 requests beside queues of 1,000, and 16 clients that lock one queue's requests.
``BENCH_SCALE`` shrinks or grows all of it, ``BENCH_ONLY`` names the parts to measure.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import load
import msgspec
from floor import request_id
from load import request
from servers import TOKEN, Server, for_each_database
from storages import batches, filled_queue, new, queue_request

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
ONLY = os.environ.get("BENCH_ONLY", "")
ROUNDS = 7
SMALL = 1000


def deep_pages(server: Server) -> None:
    """Reading 100 items at the end of many."""
    total = int(10_000_000 * SCALE)
    path = f"{new(server, 'datasets')}/items"
    body = msgspec.json.encode([{"n": n} for n in range(20_000)])
    load.run(server, [request("POST", path, body)] * -(-total // 20_000), connections=2)
    pages = {offset: request("GET", f"{path}?offset={offset}&limit=100") for offset in (0, total - 100)}
    took: dict[int, list[float]] = {offset: [] for offset in pages}
    for _ in range(ROUNDS):
        for offset, page in pages.items():
            result = load.run(server, [page] * 200, connections=1)
            took[offset].append(statistics.median(result.latencies))
    first, last = (statistics.median(values) for values in took.values())
    print(
        f"  100 items at offset 0 {first * 1000:.2f} ms, at {total - 100:,} {last * 1000:.2f} ms: {last / first:.2f} x"
    )


def _download(server: Server, path: str) -> tuple[int, float]:
    """Size and time of an answer, which is read and thrown away."""
    connection = http.client.HTTPConnection(server.address.netloc)
    began = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    size, buffer = 0, bytearray(1 << 20)
    while got := answer.readinto(buffer):
        size += got
    connection.close()
    return size, time.perf_counter() - began


def exports(server: Server, floor: Server) -> None:
    """A large dataset in every way it can be read, and what that takes."""
    path, bare = f"{new(server, 'datasets')}/items", new(floor, "datasets")
    item = {"url": "https://example.com/product/1", "title": "A product", "price": 10.5, "stock": 7, "text": "x" * 880}
    pushes = int(130 * SCALE)
    body = msgspec.json.encode([item] * 8000)
    load.run(server, [request("POST", path, body)] * pushes, connections=2)
    load.run(floor, [request("POST", f"{bare}/items", body)] * pushes, connections=2)
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(pushes):
            file.write(body)
        file.flush()
        rows = f"{bare}/export?step=8000&count={8000 * pushes}"
        _exports(server, floor, path, {"a copy": f"/copy?file={file.name}", "the floor's rows": rows})


def _exports(server: Server, floor: Server, path: str, peers: dict[str, str]) -> None:
    for format_ in ("json", "jsonl", "csv", "xlsx"):
        server.forget_peak()
        size, secs = _download(server, f"{path}?format={format_}")
        ratios = ""
        if format_ in ("json", "jsonl"):
            took: dict[str, list[float]] = {"ours": [], **{name: [] for name in peers}}
            for _ in range(5):
                took["ours"].append(_download(server, f"{path}?format={format_}")[1])
                for name, peer in peers.items():
                    took[name].append(_download(floor, peer)[1])
            secs = statistics.median(took["ours"])
            ratios = "".join(f", {statistics.median(took[name]) / secs:.2f} of the speed of {name}" for name in peers)
        print(
            f"  {format_:5} {size / 1e6:6.0f} MB in {secs:6.1f} s ({size / 1e6 / secs:5.0f} MB/s){ratios}, "
            f"at most {server.peak_mbytes():.0f} MB resident",
            flush=True,
        )


def large_queue(server: Server, floor: Server) -> None:
    """The calls of a crawl on a large queue and on small ones, in turns; and how much slower adds to the floor get."""
    total = int(1_000_000 * SCALE)
    bare = filled_queue(floor, total)
    large = filled_queue(server, total)
    added = total
    speeds: dict[str, dict[str, list[float]]] = {call: {"small": [], "large": []} for call in ("add", "lock", "handle")}
    for _ in range(ROUNDS):
        for which, queue in (("small", filled_queue(server, SMALL)), ("large", large)):
            found = _crawl(server, queue, added)
            added += SMALL
            for call, per_sec in found.items():
                speeds[call][which].append(per_sec)
    added = total
    bare_speeds: dict[str, list[float]] = {"small": [], "large": []}
    for _ in range(ROUNDS):
        for which, queue in (("small", filled_queue(floor, SMALL)), ("large", bare)):
            bare_speeds[which].append(load.run(floor, batches(queue, SMALL // 25, added)).per_sec)
            added += SMALL
    for call, found in (*speeds.items(), ("floor", bare_speeds)):
        at_large, at_small = statistics.median(found["large"]), statistics.median(found["small"])
        print(
            f"  {call:6} with {total:,} requests {at_large:6.0f}/s, with {SMALL:,} {at_small:6.0f}/s: "
            f"{at_large / at_small:.2f} x"
        )


def _crawl(server: Server, queue: str, first_new: int) -> dict[str, float]:
    """Lock 1,000 requests, handle them, add as many: calls per second of each."""
    count = SMALL // 25
    locks = load.run(server, [request("POST", f"{queue}/head/lock?limit=25&lockSecs=600&clientKey=bench")] * count)
    keys = [item["uniqueKey"] for body in locks.bodies for item in json.loads(body)["data"]["items"]]
    assert len(set(keys)) == SMALL
    handled = []
    for key in keys:
        number = int(key.rpartition("/")[2])
        sent = {**queue_request(number), "id": request_id(key), "handledAt": "2026-01-01T00:00:00.000Z"}
        handled.append(request("PUT", f"{queue}/requests/{sent['id']}?clientKey=bench", msgspec.json.encode(sent)))
    return {
        "lock": locks.per_sec,
        "handle": load.run(server, handled).per_sec,
        "add": load.run(server, batches(queue, count, first_new)).per_sec,
    }


def many_lockers(server: Server) -> None:
    """16 clients, each locking 25 at a time until nothing is left."""
    count = int(20_000 * SCALE) // 400 * 400
    queue = filled_queue(server, count)
    paths = [f"{queue}/head/lock?limit=25&lockSecs=600&clientKey=client-{n % 16}" for n in range(count // 25)]
    result = load.run(server, [request("POST", path) for path in paths], connections=16)
    ids = [item["id"] for body in result.bodies for item in json.loads(body)["data"]["items"]]
    full = sum(body.count(b'"lockExpiresAt"') == 25 for body in result.bodies)
    print(
        f"  16 clients: {full} of {len(paths)} batches full, {len(ids) - len(set(ids))} locked twice, "
        f"{count - len(set(ids))} lost, {result.per_sec:.0f} batches/s"
    )


def measure(ours: Server, floor: Server) -> None:
    """Everything."""
    parts: dict[str, Callable[[], None]] = {
        "lockers": lambda: many_lockers(ours),
        "queue": lambda: large_queue(ours, floor),
        "pages": lambda: deep_pages(ours),
        "exports": lambda: exports(ours, floor),
    }
    for name, part in parts.items():
        if not ONLY or name in ONLY.split(","):
            part()


if __name__ == "__main__":
    for_each_database(measure)
