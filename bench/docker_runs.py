"""Runs in containers through the API of a real server, beside plain ``docker run`` in the same run.

Needs Docker's command line and an engine (``DOCKER_HOST``) that has the base image in ``BENCH_DOCKER_IMAGE``
(default ``apify/actor-python:3.11``) with a shell and ``date``. Prints: start to first output, abort or kill to
the end, starts per second.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from servers import Server, start_ours

from runs import build, ended, repeated, row, start, starts_per_sec

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "15"))
IMAGE = os.environ.get("BENCH_DOCKER_IMAGE", "apify/actor-python:3.11")
_DATE = ["date", "+%s000000000"]
_LIMITS = ["--memory", "128m", "--init", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


def finished_bare() -> float:
    began = time.perf_counter()
    docker("run", "--rm", *_LIMITS, IMAGE, *_DATE)
    return time.perf_counter() - began


def killed_bare() -> float:
    name = docker("run", "--detach", *_LIMITS, IMAGE, "sleep", "600").strip()
    waiting = threading.Thread(target=docker, args=("wait", name))
    waiting.start()
    began = time.perf_counter()
    docker("kill", name)
    waiting.join()
    passed = time.perf_counter() - began
    docker("rm", name)
    return passed


def aborted(server: Server, actor: str) -> float:
    run_id = start(server, actor)
    # RUNNING comes with the decision to start; only output tells that the container is there.
    while "ready" not in server.call("GET", f"/v2/logs/{run_id}"):
        time.sleep(0.01)
    began = time.perf_counter()
    server.call("POST", f"/v2/actor-runs/{run_id}/abort")
    assert ended(server, run_id) == "ABORTED"
    return time.perf_counter() - began


def main() -> int:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        print("no Docker engine: not measured")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="actorium-bench-"))
    server = start_ours(folder, builder="docker", docker_host=os.environ.get("DOCKER_HOST", ""))
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

        bare, kills = repeated(finished_bare, ROUNDS), repeated(killed_bare, ROUNDS)
        row("docker run --rm", bare)
        row("docker kill until docker wait returns", kills)
        row("POST until the run has finished", repeated(finished, ROUNDS), bare)
        row("immediate abort to committed end", repeated(lambda: aborted(server, sleeper), ROUNDS), kills)
        ours = starts_per_sec(lambda: ended(server, start(server, quick)), 2 * ROUNDS, 4)
        plain = starts_per_sec(finished_bare, 2 * ROUNDS, 4)
        print(
            f"  runs started and finished per second {ours:7.2f}   docker run {plain:7.2f}   {ours / plain:6.2f} of it"
        )
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
