"""``kill -9`` of the server: nothing acknowledged is lost, every run ends as it should, no process is left."""

from __future__ import annotations

import http.client
import random
import signal
import threading
import time
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from support.platform import Platform, processes_of, python_actor, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600), pytest.mark.xdist_group("faults")]

_COUNTER = """
import sys, time, json, os, urllib.request
for number in range(1, 41):
    print("line", number)
    time.sleep(0.01)
"""

_STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(1, b"child\\n")
            time.sleep(1000)
        os._exit(0)
os.write(1, b"ready\\n")
time.sleep(1000)
"""


class Client(threading.Thread):
    """Starts and aborts runs until the server is gone; remembers what was acknowledged, and what was only asked."""

    def __init__(self, platform: Platform, actors: list[str], seed: int) -> None:
        super().__init__()
        self.platform = platform
        self.actors = actors
        self.random = random.Random(seed)
        self.started: dict[str, str] = {}
        self.aborted: set[str] = set()
        self.unanswered: set[str] = set()

    def run(self) -> None:
        try:
            while True:
                self._act()
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError):
            return

    def _act(self) -> None:
        actor = self.random.choice(self.actors)
        run = self.platform.call("POST", f"/v2/actors/{actor}/runs?memory=128")
        self.started[run["id"]] = actor
        time.sleep(self.random.random() * 0.2)
        if actor == self.actors[1] or self.random.random() < 0.4:
            gracefully = self.random.choice(["", "?gracefully=1"])
            self.unanswered.add(run["id"])
            answer = self.platform.call("POST", f"/v2/actor-runs/{run['id']}/abort{gracefully}")
            self.unanswered.remove(run["id"])
            if answer["status"] in ("ABORTING", "ABORTED"):
                self.aborted.add(run["id"])


def test_killed_at_random_moments(platform: Platform, request: pytest.FixtureRequest) -> None:
    rounds = request.config.getoption("--fault-rounds")
    seed = 20_260_101
    actors = [
        platform.build_actor("counter", python_actor(_COUNTER)),
        platform.build_actor("stubborn", python_actor(_STUBBORN)),
    ]
    started: dict[str, str] = {}
    aborted: set[str] = set()
    unanswered: set[str] = set()
    for round_ in range(rounds):
        clients = [Client(platform, actors, seed + 10 * round_ + n) for n in range(3)]
        for client in clients:
            client.start()
        time.sleep(random.Random(seed + round_).random() * 1.2 + 0.05)
        platform.kill()
        for client in clients:
            client.join()
            started |= client.started
            aborted |= client.aborted
            unanswered |= client.unanswered
        platform.start()
    for run_id, actor in started.items():
        if actor == actors[1] and run_id not in aborted:
            platform.call("POST", f"/v2/actor-runs/{run_id}/abort")
            aborted.add(run_id)
        elif run_id in aborted and platform.run(run_id)["status"] == "ABORTING":
            platform.call("POST", f"/v2/actor-runs/{run_id}/abort")
    assert len(started) >= rounds
    for run_id, actor in started.items():
        ends = {"ABORTED"} if run_id in aborted else {"SUCCEEDED"}
        if run_id in unanswered:
            ends |= {"ABORTED"}
        _check(platform, platform.ended(run_id), is_counter=actor == actors[0], ends=ends)


def _check(platform: Platform, run: dict[str, Any], *, is_counter: bool, ends: set[str]) -> None:
    assert run["status"] in ends, run
    assert processes_of(run["id"]) == []
    assert run["finishedAt"] >= run["startedAt"]
    if is_counter:
        numbers = [int(line.split()[1]) for line in platform.log_lines(run["id"]) if line.startswith("line ")]
        wanted = list(range(1, 41))
        if run["status"] == "SUCCEEDED":
            assert numbers == wanted, "every line once and in order"
        else:
            assert numbers == wanted[: len(numbers)]


def test_killed_between_aborting_and_aborted(platform: Platform) -> None:
    """The graceful window goes on over the crash, and its end still ends every process."""
    actor = platform.build_actor("stubborn", python_actor(_STUBBORN))
    run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=128")
    wait_for(lambda: platform.log_lines(run["id"]).count("child") == 3)
    assert platform.call("POST", f"/v2/actor-runs/{run['id']}/abort?gracefully=1")["status"] == "ABORTING"
    platform.kill()
    assert len(processes_of(run["id"])) == 4, "the run survives its server"
    platform.start()
    assert platform.run(run["id"])["status"] == "ABORTING"
    assert platform.call("POST", f"/v2/actor-runs/{run['id']}/abort")["status"] in ("ABORTING", "ABORTED")
    assert platform.ended(run["id"])["status"] == "ABORTED"
    assert processes_of(run["id"]) == []


def test_a_run_survives_the_server_and_its_log_is_whole(platform: Platform, tmp_path: Path) -> None:
    enough = tmp_path / "enough"
    code = (
        f"import itertools, os, time\nfor n in itertools.count():\n    print('n', n)\n    time.sleep(0.01)\n"
        f"    if os.path.exists({str(enough)!r}):\n        break\n"
    )
    actor = platform.build_actor("long", python_actor(code))
    run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=128")
    for _ in range(3):
        seen = len(platform.log_lines(run["id"]))
        wait_for(lambda seen=seen: len(platform.log_lines(run["id"])) > seen)
        platform.kill()
        platform.start()
    enough.touch()
    ended = platform.ended(run["id"])
    assert ended["status"] == "SUCCEEDED"
    assert ended["stats"]["migrationCount"] == 0
    lines = platform.log_lines(run["id"])
    assert lines == [f"n {n}" for n in range(len(lines))]
    assert ended["stats"]["durationMillis"] >= 10 * len(lines)


def test_sigterm_leaves_runs_alone_and_interrupt_migrates_them(platform: Platform) -> None:
    code = "import time\nprint('begin')\ntime.sleep(600)\n"
    actor = platform.build_actor("sleeper", python_actor(code))
    run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=128")
    wait_for(lambda: "begin" in platform.log_lines(run["id"]))
    (before,) = processes_of(run["id"])
    platform.stop(signal.SIGTERM)
    assert processes_of(run["id"]) == [before]
    platform.start()
    assert processes_of(run["id"]) == [before]
    platform.stop()

    migrating = Platform(platform.data_dir, "--stop-runs", "--set", "migration_window_secs=0.2", env=platform.env)
    migrating.start()
    assert processes_of(run["id"]) == [before]
    migrating.stop(signal.SIGINT)
    assert processes_of(run["id"]) == []
    platform.start()
    wait_for(lambda: platform.log_lines(run["id"]).count("begin") == 2)
    current = platform.run(run["id"])
    assert (current["status"], current["stats"]["migrationCount"]) == ("RUNNING", 1)
    platform.call("POST", f"/v2/actor-runs/{run['id']}/abort")
    assert platform.ended(run["id"])["status"] == "ABORTED"


def test_a_build_cut_off_by_a_crash_starts_again(platform: Platform) -> None:
    files = python_actor("print('built')\n")
    files["Dockerfile"] = files["Dockerfile"].replace("COPY . ./", "COPY . ./\nRUN pip install six")
    sources = [{"name": path, "format": "TEXT", "content": text} for path, text in files.items()]
    version = {"versionNumber": "0.0", "sourceType": "SOURCE_FILES", "buildTag": "latest", "sourceFiles": sources}
    actor = platform.call("POST", "/v2/actors", {"name": "crash-build", "versions": [version]})
    build = platform.call("POST", f"/v2/actors/{actor['id']}/builds?version=0.0")
    wait_for(lambda: platform.call("GET", f"/v2/actor-builds/{build['id']}")["status"] != "READY")
    platform.kill()
    platform.start()
    wait_for(lambda: platform.call("GET", f"/v2/actor-builds/{build['id']}?waitForFinish=10")["finishedAt"])
    built = platform.call("GET", f"/v2/actor-builds/{build['id']}")
    assert built["status"] == "SUCCEEDED", platform.log_lines(build["id"])
    tagged = platform.call("GET", f"/v2/actors/{actor['id']}")["taggedBuilds"]["latest"]
    assert tagged["buildId"] == build["id"]


def test_a_second_server_on_the_same_directory_is_refused(platform: Platform) -> None:
    second = Platform(platform.data_dir)
    with pytest.raises(AssertionError, match=f"process {platform.pid}.*is using the data directory"):
        second.start()
    assert platform.call("GET", "/actorium/health")["status"] == "ok"
