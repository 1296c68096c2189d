"""Runs through the API of a real server, beside bare processes in the same run.

``python bench/runs.py`` prints: answer to a start, start to first line, abort to committed end, starts per
second, at no and at ``BENCH_LIVE`` live runs; memory of the idle server and its time to the first answer.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from servers import Server, start_ours

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "40"))
LIVE = int(os.environ.get("BENCH_LIVE", "200"))
NOW = "import time; print(time.time_ns(), flush=True)"


def build(server: Server, name: str, files: dict[str, str]) -> str:
    sources = [{"name": path, "format": "TEXT", "content": text} for path, text in files.items()]
    version = {"versionNumber": "0.0", "sourceType": "SOURCE_FILES", "buildTag": "latest", "sourceFiles": sources}
    actor = server.call("POST", "/v2/actors", {"name": name, "versions": [version]})
    made = server.call("POST", f"/v2/actors/{actor['id']}/builds?version=0.0&waitForFinish=60")
    while made["finishedAt"] is None:
        made = server.call("GET", f"/v2/actor-builds/{made['id']}?waitForFinish=60")
    assert made["status"] == "SUCCEEDED", server.call("GET", f"/v2/logs/{made['id']}")
    return str(actor["id"])


def start(server: Server, actor: str, memory_mbytes: int = 128) -> str:
    return str(server.call("POST", f"/v2/actors/{actor}/runs?memory={memory_mbytes}")["id"])


def ended(server: Server, run_id: str) -> str:
    return str(server.call("GET", f"/v2/actor-runs/{run_id}?waitForFinish=60")["status"])


def millis(values: list[float]) -> str:
    ordered = sorted(values)
    return f"p50 {statistics.median(ordered) * 1000:8.2f} ms   p99 {ordered[int(len(ordered) * 0.99)] * 1000:8.2f} ms"


def row(title: str, values: list[float], floor: list[float] | None = None) -> None:
    ratio = f"   {statistics.median(values) / statistics.median(floor):6.2f} x floor" if floor else ""
    print(f"  {title:44} {millis(values)}{ratio}")


def repeated(act: Callable[[], float], rounds: int = ROUNDS) -> list[float]:
    act()
    return [act() for _ in range(rounds)]


def first_line_bare(command: list[str]) -> float:
    began = time.time_ns()
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    return (int(printed) - began) / 1e9


def kill_bare() -> float:
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    began = time.perf_counter()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return time.perf_counter() - began


def first_line(server: Server, actor: str) -> float:
    began = time.time_ns()
    run_id = start(server, actor)
    assert ended(server, run_id) == "SUCCEEDED"
    line = server.call("GET", f"/v2/logs/{run_id}").splitlines()[0]
    return (int(line.rpartition(" ")[2]) - began) / 1e9


def answer(server: Server, actor: str) -> float:
    began = time.perf_counter()
    run_id = start(server, actor)
    passed = time.perf_counter() - began
    ended(server, run_id)
    return passed


def abort(server: Server, sleeper: str) -> float:
    run_id = start(server, sleeper)
    while server.call("GET", f"/v2/actor-runs/{run_id}")["status"] != "RUNNING":
        pass
    began = time.perf_counter()
    status = server.call("POST", f"/v2/actor-runs/{run_id}/abort")["status"]
    if status != "ABORTED":
        assert ended(server, run_id) == "ABORTED"
    return time.perf_counter() - began


def starts_per_sec(act: Callable[[], object], count: int, threads: int) -> float:
    left = list(range(count))

    def work() -> None:
        while left:
            left.pop()
            act()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return count / (time.perf_counter() - began)


def private_mbytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


def table(server: Server, actors: dict[str, str], floors: dict[str, list[float]]) -> None:
    row("POST run answered", repeated(lambda: answer(server, actors["date"])))
    row("POST to process (its own clock: date)", repeated(lambda: first_line(server, actors["date"])), floors["date"])
    row("POST to first line, Python", repeated(lambda: first_line(server, actors["python"])), floors["python"])
    if "node" in actors:
        row("POST to first line, Node.js", repeated(lambda: first_line(server, actors["node"])), floors["node"])
    row("immediate abort to committed end", repeated(lambda: abort(server, actors["sleep"])), floors["kill"])


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="actorium-bench-"))
    server = start_ours(folder, max_concurrent_runs="1000", max_total_memory_mbytes="1000000")
    try:
        time.sleep(2)
        print(
            f"interpreter: {sys.version.split()[0]}   idle server: {server.rss_mbytes():.0f} MB RSS, "
            f"first answer after {server.first_answer_secs:.2f} s"
        )
        python = sys.executable
        base = "FROM apify/actor-python:3.11\nCOPY . ./\n"
        actors = {
            "date": build(server, "date", {"Dockerfile": base + 'CMD ["date", "+%s%N"]\n', "x": "x"}),
            "python": build(
                server, "python", {"Dockerfile": base + 'CMD ["python", "-S", "main.py"]\n', "main.py": NOW}
            ),
            "sleep": build(server, "sleep", {"Dockerfile": base + 'CMD ["sleep", "600"]\n', "x": "x"}),
        }
        node = shutil.which("node")
        node_code = "console.log(`${BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6))}`)"
        if node:
            dockerfile = 'FROM apify/actor-node:20\nCOPY . ./\nCMD ["node", "main.js"]\n'
            actors["node"] = build(server, "node", {"Dockerfile": dockerfile, "main.js": node_code})
        floors = {
            "date": repeated(lambda: first_line_bare(["date", "+%s%N"])),
            "python": repeated(lambda: first_line_bare([python, "-S", "-c", NOW])),
            "kill": repeated(kill_bare),
        }
        if node:
            (folder / "main.js").write_text(node_code)
            floors["node"] = repeated(lambda: first_line_bare([node, str(folder / "main.js")]))
        print("bare processes")
        for name, values in floors.items():
            row(name, values)
        print("no other run alive")
        table(server, actors, floors)
        ours = starts_per_sec(lambda: ended(server, start(server, actors["date"])), 200, 8)
        bare = starts_per_sec(lambda: subprocess.run(["date"], stdout=subprocess.DEVNULL, check=True), 200, 8)
        print(f"  runs started and finished per second {ours:17.0f}      bare {bare:.0f}   {ours / bare:6.2f} of bare")
        print(f"{LIVE} runs alive")
        alive = [start(server, actors["sleep"]) for _ in range(LIVE)]
        while any(server.call("GET", f"/v2/actor-runs/{run_id}")["status"] != "RUNNING" for run_id in alive[-8:]):
            time.sleep(0.05)
        time.sleep(2)
        table(server, actors, floors)
        print(f"  server: {server.rss_mbytes():.0f} MB RSS")
        for run_id in alive:
            server.call("POST", f"/v2/actor-runs/{run_id}/abort")
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
