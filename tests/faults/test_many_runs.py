"""Five hundred runs at once on one server: all end as they should, every read is answered, and nothing is left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.platform import Platform, attempts_alive, python_actor, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(900), pytest.mark.xdist_group("faults")]

_COUNT = 500
_SECS = 300.0
_CODE = """
import os, sys, time
print("begun", flush=True)
while not os.path.exists(@GO@):
    time.sleep(0.5)
print("ended", flush=True)
sys.exit(int(os.environ["ACTOR_MEMORY_MBYTES"]) == 256)
"""


def test_five_hundred_runs_at_once(tmp_path: Path) -> None:
    """Every tenth fails (it has 256 MB), every tenth times out, every tenth is aborted, all others succeed."""
    flags = {"max_concurrent_runs": _COUNT, "max_total_memory_mbytes": 1 << 20}
    settings = [word for name, value in flags.items() for word in ("--set", f"{name}={value}")]
    platform = Platform(tmp_path / "data", *settings).start()
    try:
        platform.first_token()
        go = tmp_path / "go"
        actor = platform.build_actor("waiting", python_actor(_CODE.replace("@GO@", repr(str(go)))))
        with ThreadPoolExecutor(8) as clients:
            runs = list(clients.map(lambda number: _start(platform, actor, number), range(_COUNT)))

            def statuses() -> list[str]:
                listed = platform.call("GET", "/v2/actor-runs?limit=1000")["items"]
                return [run["status"] for run in listed]

            wait_for(lambda: statuses().count("READY") == 0, _SECS)
            # They wait for a file: only those that time out may be over.
            assert statuses().count("RUNNING") >= _COUNT - _COUNT // 10
            aborted = [run for number, run in enumerate(runs) if number % 10 == 3]
            list(clients.map(lambda run: platform.call("POST", f"/v2/actor-runs/{run}/abort"), aborted))
            wait_for(lambda: statuses().count("TIMED-OUT") == _COUNT // 10, _SECS)
            go.touch()
            ended = dict(zip(runs, clients.map(lambda run: platform.ended(run, _SECS), runs), strict=True))
            logs = dict(zip(runs, clients.map(platform.log_lines, runs), strict=True))
        for number, run in enumerate(runs):
            expected = {1: "FAILED", 2: "TIMED-OUT", 3: "ABORTED"}.get(number % 10, "SUCCEEDED")
            assert ended[run]["status"] == expected, (number, ended[run])
            lines, whole = [line for line in logs[run] if not line.startswith("ACTOR: ")], ["begun", "ended"]
            is_cut = expected in ("TIMED-OUT", "ABORTED")
            assert lines == (whole[: len(lines)] if is_cut else whole), (number, logs[run])
        assert attempts_alive().keys() & {*runs} == set()
        wait_for(lambda: list((platform.data_dir / "runs").iterdir()) == [], _SECS)
    finally:
        platform.stop()


def _start(platform: Platform, actor: str, number: int) -> str:
    options = {1: "memory=256", 2: "memory=128&timeout=15"}.get(number % 10, "memory=128")
    return str(platform.call("POST", f"/v2/actors/{actor}/runs?{options}")["id"])
