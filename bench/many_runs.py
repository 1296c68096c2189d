"""Five hundred live runs on one server, and what reads of the API take meanwhile.

``python bench/many_runs.py`` prints how long it takes until ``BENCH_MANY`` runs (500) are alive, how long until they
are over, and the times of reads while they start, live and end, as three clients see them.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

from servers import Server, start_ours

from runs import build, ended, row, start

COUNT = int(os.environ.get("BENCH_MANY", "500"))
LIVE_SECS = 10
READERS = 3


class Readers:
    """Clients that read one thing after the other; ``phase`` is what their times are put down to."""

    def __init__(self, server: Server, paths: list[str]) -> None:
        self.phase = ""
        self.times: dict[str, list[float]] = {}
        self._server = server
        self._paths = paths
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._read) for _ in range(READERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        for path in itertools.cycle(self._paths):
            if self._stopping.wait(0.01):
                return
            began, phase = time.perf_counter(), self.phase
            self._server.call("GET", path)
            self.times.setdefault(phase, []).append(time.perf_counter() - began)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="actorium-bench-"))
    server = start_ours(folder, max_concurrent_runs="1000", max_total_memory_mbytes="1000000")
    try:
        go = folder / "go"
        code = f"import os, time\nprint('begun', flush=True)\nwhile not os.path.exists({str(go)!r}): time.sleep(0.5)\n"
        dockerfile = 'FROM apify/actor-python:3.11\nCOPY . ./\nCMD ["python", "-S", "-u", "main.py"]\n'
        actor = build(server, "waiting", {"Dockerfile": dockerfile, "main.py": code})
        first = server.call("POST", f"/v2/actors/{actor}/runs?memory=128")
        readers = Readers(
            server,
            [
                f"/v2/actor-runs/{first['id']}",
                "/v2/actor-runs?limit=10&desc=1",
                f"/v2/logs/{first['id']}",
                f"/v2/datasets/{first['defaultDatasetId']}",
                "/v2/users/me/limits",
            ],
        )
        readers.phase = "starting"
        readers.start()
        began = time.perf_counter()
        runs = [first["id"], *(start(server, actor) for _ in range(COUNT - 1))]
        while server.call("GET", "/v2/actor-runs?status=READY&limit=1")["total"]:
            time.sleep(0.05)
        print(f"{COUNT} runs alive after {time.perf_counter() - began:.1f} s, server {server.rss_mbytes():.0f} MB")
        readers.phase = "alive"
        time.sleep(LIVE_SECS)
        readers.phase = "ending"
        began = time.perf_counter()
        go.touch()
        statuses = [ended(server, run) for run in runs]
        print(f"all over after {time.perf_counter() - began:.1f} s, {statuses.count('SUCCEEDED')} SUCCEEDED")
        readers.stop()
        for phase, times in readers.times.items():
            row(f"reads while they are {phase} ({len(times)})", times)
    finally:
        server.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
