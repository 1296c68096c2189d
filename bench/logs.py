"""Speed of the log store: lines of 100 bytes per second, and how long the event loop is held up meanwhile.

Run ``python bench/logs.py``. The floor is the same splitting, stamping and writing in a bare loop, measured in the
same run; only the ratio to it carries over to another machine.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from actorium.domain.log_lines import Splitter, stamp, stamped
from actorium.storage.logs import LogStore

LINE = b"x" * 99 + b"\n"
CHUNK = LINE * 655
"""What a read of a 64 KB pipe gives."""
SECS = float(os.environ.get("BENCH_SECS", "3"))
AT_MS = 1_788_167_605_123


def floor(root: Path) -> float:
    splitter, lines = Splitter(), 0
    start = time.perf_counter()
    with (root / "floor.log").open("wb", buffering=0) as file:
        while time.perf_counter() - start < SECS:
            file.write(stamped(splitter.feed(CHUNK), stamp(AT_MS)))
            lines += 655
    elapsed = time.perf_counter() - start
    (root / "floor.log").unlink()
    return lines / elapsed


async def late(delays: list[float]) -> None:
    while True:
        due = time.perf_counter() + 0.001
        await asyncio.sleep(0.001)
        delays.append(time.perf_counter() - due)


async def flood(store: LogStore, job_id: str) -> int:
    lines, end = 0, time.perf_counter() + SECS
    while time.perf_counter() < end:
        await store.append(job_id, AT_MS, CHUNK, position=f"a:{lines}")
        lines += 655
        await asyncio.sleep(0)
    await store.finish(job_id)
    return lines


async def follow(store: LogStore, job_id: str) -> int:
    return sum([lines.count(b"\n") async for lines in store.follow(job_id)])


async def measure(root: Path, floods: int, followers: int) -> tuple[float, list[float]]:
    store = LogStore(root)
    delays: list[float] = []
    ticker = asyncio.create_task(late(delays))
    start = time.perf_counter()
    for number in range(floods):
        store.open(f"run{number}")
    readers = [asyncio.create_task(follow(store, f"run{number}")) for number in range(floods) for _ in range(followers)]
    counts = await asyncio.gather(*(flood(store, f"run{number}") for number in range(floods)))
    seen = await asyncio.gather(*readers)
    elapsed = time.perf_counter() - start
    ticker.cancel()
    if sum(seen) != followers * sum(counts):
        raise SystemExit("a follower missed lines")
    for number in range(floods):
        await store.delete(f"run{number}")
    await store.stop()
    return sum(counts) / elapsed, sorted(delays)


async def latency(root: Path) -> list[float]:
    store = LogStore(root)
    store.open("run0")
    follower = store.follow("run0")
    seen = []
    for number in range(1000):
        start = time.perf_counter()
        await store.append("run0", AT_MS, LINE, position=f"a:{number}")
        await anext(follower)
        seen.append((time.perf_counter() - start) * 1000)
    await follower.aclose()
    await store.stop()
    return sorted(seen)


def main() -> None:
    print(sys.version.split()[0], platform.python_compiler(), f"{os.cpu_count()} CPUs, lines of 100 bytes")
    with tempfile.TemporaryDirectory() as folder:
        base = floor(Path(folder))
        print(f"floor                     {base / 1e6:6.2f} M lines/s")
        for floods, followers in ((1, 0), (1, 1), (8, 0), (8, 1)):
            rate, delays = uvloop.run(measure(Path(folder) / f"{floods}-{followers}", floods, followers))
            p50, p99, worst = (delays[int((len(delays) - 1) * part)] * 1000 for part in (0.5, 0.99, 1))
            print(
                f"{floods} floods, {followers} followers each {rate / 1e6:6.2f} M lines/s "
                f"{rate / base:5.2f} of the floor, loop late p50 {p50:.1f} p99 {p99:.1f} max {worst:.1f} ms"
            )
        seen_ms = uvloop.run(latency(Path(folder) / "latency"))
        print(f"append to follower        p50 {seen_ms[500]:.2f} p99 {seen_ms[990]:.2f} max {seen_ms[-1]:.2f} ms")


if __name__ == "__main__":
    main()
