"""Runs in containers through the API of a real server, beside the same containers made through the engine's API alone.

Needs an engine (``DOCKER_HOST``, a unix socket) that has the base image in ``BENCH_DOCKER_IMAGE`` (default
``apify/actor-python:3.11``) with a shell and ``date``. Prints: start to the end of ``date``, abort or kill to the end
at no and at ``BENCH_LIVE_CONTAINERS`` live ones, starts per second.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from servers import Server, start_ours

from runs import build, ended, repeated, row, start, starts_per_sec

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "15"))
LIVE = int(os.environ.get("BENCH_LIVE_CONTAINERS", "200"))
IMAGE = os.environ.get("BENCH_DOCKER_IMAGE", "apify/actor-python:3.11")
_DATE = ["date", "+%s000000000"]
_SLEEP = ["sleep", "600"]
# What a container of ours has too: see runtimes/docker/containers.py.
_HOST = {
    "Init": True,
    "Memory": 128 << 20,
    "MemorySwap": 128 << 20,
    "PidsLimit": 4096,
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    "NetworkMode": "actorium",
}


class _Connection(http.client.HTTPConnection):
    """HTTP to a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class Engine:
    """The engine's API, one kept-alive connection for each thread."""

    def __init__(self, url: str) -> None:
        self._path = url.removeprefix("unix://")
        self._local = threading.local()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _Connection(self._path)
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status < 400, data
        return json.loads(data) if data.strip() else None

    def begin(self, command: list[str]) -> str:
        body = {"Image": IMAGE, "Cmd": command, "HostConfig": _HOST}
        name = str(self.call("POST", "/containers/create", body)["Id"])
        self.call("POST", f"/containers/{name}/start")
        return name

    def finished(self) -> float:
        began = time.perf_counter()
        name = self.begin(_DATE)
        self.call("POST", f"/containers/{name}/wait")
        passed = time.perf_counter() - began
        self.call("DELETE", f"/containers/{name}?v=1")
        return passed

    def killed(self) -> float:
        name = self.begin(_SLEEP)
        began = time.perf_counter()
        self.call("POST", f"/containers/{name}/kill")
        self.call("POST", f"/containers/{name}/wait")
        passed = time.perf_counter() - began
        self.call("DELETE", f"/containers/{name}?v=1")
        return passed


def aborted(server: Server, actor: str) -> float:
    run_id = start(server, actor)
    has_begun(server, run_id)
    began = time.perf_counter()
    server.call("POST", f"/v2/actor-runs/{run_id}/abort")
    assert ended(server, run_id) == "ABORTED"
    return time.perf_counter() - began


def has_begun(server: Server, run_id: str) -> None:
    # RUNNING comes with the decision to start; only output tells that the container is there.
    while "ready" not in server.call("GET", f"/v2/logs/{run_id}"):
        time.sleep(0.01)


def main() -> int:
    url = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    engine = Engine(url)
    try:
        version = engine.call("GET", "/version")["Version"]
    except OSError:
        print("no Docker engine: not measured")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="actorium-bench-"))
    limits = {"max_concurrent_runs": "1000", "max_total_memory_mbytes": "1000000"}
    server = start_ours(folder, builder="docker", docker_host=url, **limits)
    alive: list[str] = []
    try:
        base = f"FROM {IMAGE}\nCOPY . ./\n"
        quick = build(server, "quick", {"Dockerfile": base + f'CMD ["{_DATE[0]}", "{_DATE[1]}"]\n', "x": "x"})
        sleeper = build(
            server, "sleeper", {"Dockerfile": base + 'CMD ["sh", "-c", "echo ready; exec sleep 600"]\n', "x": "x"}
        )

        def finished() -> float:
            began = time.perf_counter()
            assert ended(server, start(server, quick)) == "SUCCEEDED"
            return time.perf_counter() - began

        finished()
        print(f"Docker {version}; no other container alive")
        bare, kills = repeated(engine.finished, ROUNDS), repeated(engine.killed, ROUNDS)
        row("engine alone: create, start, wait", bare)
        row("engine alone: kill until wait returns", kills)
        row("POST until the run has finished", repeated(finished, ROUNDS), bare)
        row("immediate abort to committed end", repeated(lambda: aborted(server, sleeper), ROUNDS), kills)
        ours = starts_per_sec(lambda: ended(server, start(server, quick)), 2 * ROUNDS, 4)
        plain = starts_per_sec(engine.finished, 2 * ROUNDS, 4)
        print(f"  runs per second, 4 at once {ours:17.2f}   engine alone {plain:7.2f}   {ours / plain:6.2f} of it")
        began = time.perf_counter()
        alive = [start(server, sleeper) for _ in range(LIVE)]
        for run_id in alive:
            has_begun(server, run_id)
        print(f"{LIVE} containers alive ({LIVE / (time.perf_counter() - began):.2f} started per second)")
        time.sleep(5)
        busy, passed = server.cpu_secs(), time.perf_counter()
        time.sleep(10)
        print(f"  server: {(server.cpu_secs() - busy) / (time.perf_counter() - passed):.2f} of a core while they sleep")
        kills = repeated(engine.killed, ROUNDS)
        row("engine alone: kill until wait returns", kills)
        row("immediate abort to committed end", repeated(lambda: aborted(server, sleeper), ROUNDS), kills)
    finally:
        for run_id in alive:
            server.call("POST", f"/v2/actor-runs/{run_id}/abort")
        for run_id in alive:
            ended(server, run_id)
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
