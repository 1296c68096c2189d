"""Runs through the API of a real server, beside bare processes in the same run.

``python bench/runs.py`` prints: answer to a start, start to first line, abort to committed end, starts per
second, at no and at ``BENCH_LIVE`` live runs; memory of the idle server and its time to the first answer.
"""

from __future__ import annotations

import http.client
import json
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
from typing import Any
from urllib.parse import urlsplit

TOKEN = "a-token-for-the-benchmark"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "40"))
LIVE = int(os.environ.get("BENCH_LIVE", "200"))
NOW = "import time; print(time.time_ns(), flush=True)"


class Server:
    """``actorium serve`` as a process, with one kept-alive connection per thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._local = threading.local()
        began = time.perf_counter()
        log = (folder / "server.log").open("w")
        command = [sys.executable, "-m", "actorium", "up", "--data-dir", str(folder / "data"), "--port", "0"]
        command += ["--token", TOKEN, "--set", "max_concurrent_runs=1000", "--set", "max_total_memory_mbytes=1000000"]
        self.process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "ACTORIUM_LOG_FORMAT": "json"}
        )
        while '"server started"' not in (text := (folder / "server.log").read_text()):
            assert self.process.poll() is None, text
            time.sleep(0.002)
        start = text.index('"url": "') + len('"url": "')
        self.address = urlsplit(text[start : text.index('"', start)])
        self.call("GET", "/actorium/health")
        self.first_answer_secs = time.perf_counter() - began

    def call(self, method: str, path: str, body: Any = None) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(self.address.netloc)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status < 400, text
        return json.loads(text).get("data") if "json" in answer.headers["content-type"] else text.decode()

    def build(self, name: str, files: dict[str, str]) -> str:
        sources = [{"name": path, "format": "TEXT", "content": text} for path, text in files.items()]
        version = {"versionNumber": "0.0", "sourceType": "SOURCE_FILES", "buildTag": "latest", "sourceFiles": sources}
        actor = self.call("POST", "/v2/actors", {"name": name, "versions": [version]})
        build = self.call("POST", f"/v2/actors/{actor['id']}/builds?version=0.0&waitForFinish=60")
        while build["finishedAt"] is None:
            build = self.call("GET", f"/v2/actor-builds/{build['id']}?waitForFinish=60")
        assert build["status"] == "SUCCEEDED", self.call("GET", f"/v2/logs/{build['id']}")
        return str(actor["id"])

    def start(self, actor: str) -> str:
        return str(self.call("POST", f"/v2/actors/{actor}/runs?memory=128")["id"])

    def ended(self, run_id: str) -> str:
        return str(self.call("GET", f"/v2/actor-runs/{run_id}?waitForFinish=60")["status"])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


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
    run_id = server.start(actor)
    assert server.ended(run_id) == "SUCCEEDED"
    line = server.call("GET", f"/v2/logs/{run_id}").splitlines()[0]
    return (int(line.rpartition(" ")[2]) - began) / 1e9


def answer(server: Server, actor: str) -> float:
    began = time.perf_counter()
    run_id = server.start(actor)
    passed = time.perf_counter() - began
    server.ended(run_id)
    return passed


def abort(server: Server, sleeper: str) -> float:
    run_id = server.start(sleeper)
    while server.call("GET", f"/v2/actor-runs/{run_id}")["status"] != "RUNNING":
        pass
    began = time.perf_counter()
    status = server.call("POST", f"/v2/actor-runs/{run_id}/abort")["status"]
    if status != "ABORTED":
        assert server.ended(run_id) == "ABORTED"
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


def rss_mbytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError


def table(server: Server, actors: dict[str, str], floors: dict[str, list[float]]) -> None:
    row("POST run answered", repeated(lambda: answer(server, actors["date"])))
    row("POST to process (its own clock: date)", repeated(lambda: first_line(server, actors["date"])), floors["date"])
    row("POST to first line, Python", repeated(lambda: first_line(server, actors["python"])), floors["python"])
    if "node" in actors:
        row("POST to first line, Node.js", repeated(lambda: first_line(server, actors["node"])), floors["node"])
    row("immediate abort to committed end", repeated(lambda: abort(server, actors["sleep"])), floors["kill"])


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="actorium-bench-"))
    server = Server(folder)
    try:
        time.sleep(2)
        print(
            f"interpreter: {sys.version.split()[0]}   idle server: {rss_mbytes(server.process.pid):.0f} MB RSS, "
            f"first answer after {server.first_answer_secs:.2f} s"
        )
        python = sys.executable
        base = "FROM apify/actor-python:3.11\nCOPY . ./\n"
        actors = {
            "date": server.build("date", {"Dockerfile": base + 'CMD ["date", "+%s%N"]\n', "x": "x"}),
            "python": server.build(
                "python", {"Dockerfile": base + 'CMD ["python", "-S", "main.py"]\n', "main.py": NOW}
            ),
            "sleep": server.build("sleep", {"Dockerfile": base + 'CMD ["sleep", "600"]\n', "x": "x"}),
        }
        node = shutil.which("node")
        node_code = "console.log(`${BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6))}`)"
        if node:
            dockerfile = 'FROM apify/actor-node:20\nCOPY . ./\nCMD ["node", "main.js"]\n'
            actors["node"] = server.build("node", {"Dockerfile": dockerfile, "main.js": node_code})
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
        ours = starts_per_sec(lambda: server.ended(server.start(actors["date"])), 200, 8)
        bare = starts_per_sec(lambda: subprocess.run(["date"], stdout=subprocess.DEVNULL, check=True), 200, 8)
        print(f"  runs started and finished per second {ours:17.0f}      bare {bare:.0f}   {ours / bare:6.2f} of bare")
        print(f"{LIVE} runs alive")
        alive = [server.start(actors["sleep"]) for _ in range(LIVE)]
        while any(server.call("GET", f"/v2/actor-runs/{run_id}")["status"] != "RUNNING" for run_id in alive[-8:]):
            time.sleep(0.05)
        time.sleep(2)
        table(server, actors, floors)
        print(f"  server: {rss_mbytes(server.process.pid):.0f} MB RSS")
        for run_id in alive:
            server.call("POST", f"/v2/actor-runs/{run_id}/abort")
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
