"""The process runtime against bare processes: start, abort, output, memory, at 0 and at 200 live runs.

Run ``python bench/runtime_start.py``. The bare figures are measured in the same run, in turn with ours;
only the ratios carry over to another machine. ``BENCH_LIVE`` and ``BENCH_ROUNDS`` change the sizes.
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from actorium.kit import new_id
from actorium.runtimes import Handle, Image, RunSpec
from actorium.runtimes.process import ProcessRuntime

LIVE = int(os.environ.get("BENCH_LIVE", "200"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "100"))
IDLE_SECS = 5.0
FLOOD_BYTES = 100_000_000
FLOODS = 8
SLEEP = ["/bin/sleep", "600"]
FLOOD = [
    sys.executable,
    "-I",
    "-S",
    "-c",
    f"import os\nblock = (b'x' * 99 + b'\\n') * 655\nfor _ in range({FLOOD_BYTES} // len(block)): os.write(1, block)",
]


async def no_checkpoint(handle: Handle) -> None:
    pass


class Bench:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "attempts"
        self.app_dir = folder / "app"
        (self.app_dir / "src").mkdir(parents=True)
        for number in range(10):
            (self.app_dir / "src" / f"file{number}.py").write_text("x = 1\n" * 100)
        self.runtime = ProcessRuntime(self.root)

    async def start(self, command: list[str]) -> Handle:
        image = Image("native", {"app_dir": str(self.app_dir), "command": command})
        return await self.runtime.start(RunSpec(new_id(), new_id(), image, {}, 1024, 1024), no_checkpoint)

    def keeper_of(self, handle: Handle) -> int:
        return int(str((self.root / handle.attempt_id / "claim").readlink()).split(":")[1])

    async def latencies(self, title: str) -> None:
        bare_starts, bare_ends, starts, ends, times_20 = [], [], [], [], []
        for _ in range(ROUNDS):
            at = time.perf_counter()
            process = subprocess.Popen(SLEEP, start_new_session=True, stdin=subprocess.DEVNULL)
            bare_starts.append(time.perf_counter() - at)
            at = time.perf_counter()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            bare_ends.append(time.perf_counter() - at)
            at = time.perf_counter()
            handle = await self.start(SLEEP)
            starts.append(time.perf_counter() - at)
            at = time.perf_counter()
            await self.runtime.stop(handle, 0)
            ends.append(time.perf_counter() - at)
            await self.runtime.remove(handle)
        for _ in range(5):
            at = time.perf_counter()
            handles = await asyncio.gather(*(self.start(SLEEP) for _ in range(20)))
            times_20.append((time.perf_counter() - at) / 20)
            await asyncio.gather(*(self.runtime.stop(handle, 0) for handle in handles))
        print(title)
        for name, ours, bare in (("start", starts, bare_starts), ("stop(0)", ends, bare_ends)):
            print(f"  {name:8} {both(ours)} ms, bare {both(bare)} ms, ratio of p50 {p(ours, 50) / p(bare, 50):.1f}")
        print(f"  20 starts at once: {p(times_20, 50) * 1e3:.2f} ms each")

    async def flood(self, count: int) -> tuple[float, float]:
        """Bytes per second of ``count`` floods read at once, and the event loop's longest delay in milliseconds."""
        longest, done = 0.0, False

        async def tick() -> None:
            nonlocal longest
            while not done:
                at = time.perf_counter()
                await asyncio.sleep(0.001)
                longest = max(longest, time.perf_counter() - at - 0.001)

        async def one() -> int:
            handle = await self.start(FLOOD)
            total = sum([len(chunk.data) async for chunk in self.runtime.logs(handle, 0)])
            await self.runtime.remove(handle)
            return total

        ticking = asyncio.create_task(tick())
        at = time.perf_counter()
        total = sum(await asyncio.gather(*(one() for _ in range(count))))
        secs = time.perf_counter() - at
        done = True
        await ticking
        return total / secs, longest * 1000

    async def output(self) -> None:
        process = subprocess.Popen(FLOOD, stdout=subprocess.PIPE)
        assert process.stdout is not None
        at = time.perf_counter()
        bare = 0
        while data := os.read(process.stdout.fileno(), 65536):
            bare += len(data)
        bare_rate = bare / (time.perf_counter() - at)
        process.stdout.close()
        process.wait()
        rate, delay = await self.flood(1)
        print(
            f"output of 1 run: {rate / 1e8:.2f} M lines/s of 100 bytes, bare pipe {bare_rate / 1e8:.2f} M, "
            f"ratio {rate / bare_rate:.2f}, loop delayed {delay:.1f} ms at most"
        )
        rate, delay = await self.flood(FLOODS)
        print(f"output of {FLOODS} runs: {rate / 1e8:.2f} M lines/s, loop delayed {delay:.1f} ms at most")

    def keepers(self, handles: list[Handle]) -> None:
        pids = [self.keeper_of(handle) for handle in handles]
        before = sum(map(cpu_secs, pids))
        time.sleep(IDLE_SECS)
        used = (sum(map(cpu_secs, pids)) - before) / IDLE_SECS
        private = sorted(map(private_bytes, pids))
        print(
            f"private memory of a keeper: median {private[len(private) // 2] / 1e6:.2f} MB, "
            f"largest {private[-1] / 1e6:.2f} MB; all {len(pids)} use {used:.3f} of a core"
        )


def p(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def both(values: list[float]) -> str:
    return f"p50 {p(values, 50) * 1e3:.2f} p99 {p(values, 99) * 1e3:.2f}"


def cpu_secs(pid: int) -> float:
    # In nanoseconds: an idle keeper uses less than the clock ticks of stat can show.
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


async def main() -> None:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, Linux {platform.release()}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        await bench.runtime.open()
        await bench.latencies("no live runs")
        await bench.output()
        handles = [await bench.start(SLEEP) for _ in range(LIVE)]
        bench.keepers(handles)
        await bench.latencies(f"{LIVE} live runs")
        at = time.perf_counter()
        await asyncio.gather(*(bench.runtime.stop(handle, 0) for handle in handles))
        print(f"stop of all {LIVE} at once: {(time.perf_counter() - at) * 1000:.0f} ms")
        await bench.runtime.close()


uvloop.run(main())
