"""A full disk: refusals that say so, nothing half-stored, and work goes on when there is space again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.platform import Platform, Refused, processes_of, python_actor, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("disk"), pytest.mark.timeout(200)]


def pushes_until_refused(platform: Platform, dataset: str, item: dict[str, str]) -> tuple[int, Refused]:
    for stored in range(100):
        try:
            platform.call("POST", f"/v2/datasets/{dataset}/items", item)
        except Refused as error:
            return stored, error
    raise AssertionError("100 pushes fit a disk that has no room for 10")


def test_writes_are_refused_and_go_on_later(small_disk: Path) -> None:
    platform = Platform(small_disk / "data").start()
    try:
        platform.first_token()
        actor = platform.build_actor("writer", python_actor("print('hello')\n"))
        dataset = platform.call("POST", "/v2/datasets?name=full")["id"]
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            free = os.statvfs(small_disk)
            file.write(b"x" * (free.f_bavail * free.f_frsize - 3_000_000))
        item = {"text": "y" * 400_000}
        stored, error = pushes_until_refused(platform, dataset, item)
        assert (error.status, error.type) == (507, "out-of-disk-space")
        assert "no disk space" in error.message
        assert platform.call("GET", f"/v2/datasets/{dataset}")["itemCount"] == stored
        filler.unlink()
        platform.call("POST", f"/v2/datasets/{dataset}/items", item)
        assert platform.call("GET", f"/v2/datasets/{dataset}")["itemCount"] == stored + 1
        run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=128")
        assert platform.ended(run["id"])["status"] == "SUCCEEDED"
        assert platform.log_lines(run["id"]) == ["hello"]
    finally:
        platform.stop()


def test_a_run_whose_output_finds_no_space_ends_when_there_is_some(small_disk: Path) -> None:
    platform = Platform(small_disk / "data").start()
    try:
        platform.first_token()
        code = "import os, time\nfor n in range(300):\n    os.write(1, b'x' * 99_999 + b'\\n')\ntime.sleep(0.5)\n"
        actor = platform.build_actor("flood", python_actor(code))
        filler = small_disk / "filler"
        free = os.statvfs(small_disk)
        with filler.open("wb") as file:
            file.write(b"x" * max(0, free.f_bavail * free.f_frsize - 8_000_000))
        run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=128")
        wait_for(lambda: platform.run(run["id"])["status"] != "READY")
        # Its end is written when there is space for that: the output may have taken the last of it.
        wait_for(lambda: processes_of(run["id"]) == [])
        filler.unlink()
        ended = platform.ended(run["id"])
        assert ended["status"] == "SUCCEEDED", "a full disk does not stop the process"
        assert platform.call("GET", "/actorium/health")["status"] == "ok"
    finally:
        platform.stop()
