"""Limits of memory and concurrent runs over the API: waiting, refusing, and what a waiting run says."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actorium.domain.errors import ApiError
from actorium.domain.models import JobStatus
from actorium.storage import jobs
from actorium.storage.db import Tx
from support.openapi import given_document
from support.program import ACTOR_ID, Program
from support.storage_kinds import message
from support.storage_server import error

S = JobStatus
RUNS = f"/actors/{ACTOR_ID}/runs"


@pytest.fixture
async def small(tmp_path: Path, database_url: str) -> AsyncIterator[Program]:
    """A server with 4 GB and 5 places for runs; half of that for each user. It queues."""
    found = Program(tmp_path / "data", database_url, **LIMITS)
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def strict(tmp_path: Path, database_url: str) -> AsyncIterator[Program]:
    """The same, which refuses."""
    found = Program(tmp_path / "data", database_url, **LIMITS, when_limits_are_reached="reject")
    await found.start()
    yield found
    await found.stop()


LIMITS = {
    "max_total_memory_mbytes": 4096,
    "max_concurrent_runs": 5,
    "max_user_memory_mbytes": 2048,
    "max_user_concurrent_runs": 3,
}


async def test_a_waiting_run_says_what_for_and_where_it_stands(small: Program) -> None:
    await small.run(S.RUNNING)
    await small.run(S.RUNNING)
    small.clock.advance(0.001)
    third = await small.ask("POST", f"{RUNS}?memory=1024")
    small.clock.advance(0.001)
    fourth = await small.ask("POST", f"{RUNS}?memory=512")
    assert (third["status"], third.get("statusMessage")) == ("READY", None), "most start at once and say nothing"
    small.clock.advance(1)
    said = [(await small.ask("GET", f"/actor-runs/{run['id']}"))["statusMessage"] for run in (third, fourth)]
    assert said == [
        "Waiting for 1,024 MB of your 2,048 MB of memory: position 1 of 2 in your queue.",
        "Waiting for 512 MB of your 2,048 MB of memory: position 2 of 2 in your queue.",
    ]
    small.clock.advance(0.001)
    urgent = await small.ask("POST", f"{RUNS}?memory=256&priority=7")
    assert urgent["options"]["priority"] == 7
    assert "priority" not in third["options"]
    small.clock.advance(1)
    said = [(await small.ask("GET", f"/actor-runs/{run['id']}"))["statusMessage"] for run in (urgent, fourth)]
    assert said[0].endswith("position 1 of 3 in your queue.")
    assert said[1].endswith("position 3 of 3 in your queue.")
    aborted = await small.ask("POST", f"/actor-runs/{urgent['id']}/abort")
    assert (aborted["status"], aborted.get("statusMessage")) == ("ABORTED", None), "what it waited for is not kept"


async def test_what_a_waiting_run_waits_for(small: Program) -> None:
    async def said() -> str:
        run = await small.ask("POST", f"{RUNS}?memory=128")
        small.clock.advance(1)
        text: str = (await small.ask("GET", f"/actor-runs/{run['id']}"))["statusMessage"]
        await small.ask("POST", f"/actor-runs/{run['id']}/abort")
        return text.partition(":")[0]

    assert await said() == "Waiting for its turn"
    for _ in range(3):
        await small.run(S.RUNNING)
    assert await said() == "Waiting for one of your 3 runs to end"
    jane = small.people["jane"].user_id
    await small.platform.accounts.set_limits("jane", {"max_concurrent_runs": 9, "max_memory_mbytes": 9999})
    assert await said() == "Waiting for its turn", "9,999 MB are cut to the 4,096 of the machine"
    await small.run(S.RUNNING)
    assert await said() == "Waiting for 128 MB of your 4,096 MB of memory"
    assert (await small.platform.accounts.get_limits(jane)).max_concurrent_runs == 9


async def test_a_child_that_has_to_wait_for_its_parents_says_so(small: Program) -> None:
    root = await small.run(S.RUNNING)
    child = await small.ask("POST", f"{RUNS}?memory=512", by=root)
    by_child = await small.platform.runs.get(small.people["jane"], child["id"])

    async def to_running(tx: Tx) -> None:
        await jobs.transition(tx, by_child.id, {S.READY}, S.RUNNING)

    await small.platform.db.write("start child", to_running)
    large = await small.ask("POST", f"{RUNS}?memory=1024", by=by_child)
    small_one = await small.ask("POST", f"{RUNS}?memory=512", by=by_child)
    small.clock.advance(1)
    said = [(await small.ask("GET", f"/actor-runs/{run['id']}"))["statusMessage"] for run in (large, small_one)]
    assert said[0].startswith(
        "Waiting for 1,024 MB of your 2,048 MB of memory while the runs that started it hold 1,536 MB: "
    )
    assert said[1].startswith("Waiting for its turn: ")


@pytest.mark.parametrize("value", ["101", "-101", "1.5", "high"])
async def test_priority_out_of_range_is_refused(small: Program, value: str) -> None:
    answer = await small.send("POST", f"{RUNS}?priority={value}")
    assert error(answer) == (400, "invalid-request")
    assert "priority" in message(answer)
    assert value in message(answer)


@pytest.mark.parametrize("by_user", [True, False])
async def test_a_run_that_could_never_fit_is_refused_in_either_mode(small: Program, *, by_user: bool) -> None:
    if not by_user:
        await small.platform.accounts.set_limits("jane", {"max_memory_mbytes": 100_000})
    limit = 2048 if by_user else 4096
    answer = await small.send("POST", f"{RUNS}?memory={limit * 2}")
    assert error(answer) == (402, "actor-memory-limit-exceeded")
    assert message(answer).startswith(
        f"By launching this job you will exceed the memory limit of {limit} MB for all your Actor runs and builds"
    )
    done = await small.run(S.SUCCEEDED)
    answer = await small.send("POST", f"/actor-runs/{done.id}/resurrect?memory={limit * 2}")
    assert error(answer) == (402, "actor-memory-limit-exceeded")
    assert (await small.ask("GET", f"/actor-runs/{done.id}"))["status"] == "SUCCEEDED"
    assert (await small.ask("GET", "/actor-runs"))["total"] == 1, "nothing is left of a refused start"


async def test_rejecting_counts_waiting_runs_too(strict: Program) -> None:
    await strict.ask("POST", f"{RUNS}?memory=1024")
    await strict.run(S.RUNNING)
    answer = await strict.send("POST", f"{RUNS}?memory=128")
    assert error(answer) == (402, "actor-memory-limit-exceeded")
    assert message(answer).startswith(
        "By launching this job you will exceed the memory limit of 2048 MB for all your Actor runs and builds "
        "(currently used: 2048 MB, requested: 128 MB)."
    )
    assert (await strict.send("POST", f"{RUNS}?memory=128", by="john")).status == 404, "not John's Actor"


async def test_rejecting_limits_concurrent_runs_and_resurrection(strict: Program) -> None:
    done = await strict.run(S.SUCCEEDED)
    for _ in range(3):
        last = await strict.ask("POST", f"{RUNS}?memory=128")
    for path in (f"{RUNS}?memory=128", f"/actor-runs/{done.id}/resurrect?memory=128"):
        answer = await strict.send("POST", path)
        assert error(answer) == (403, "concurrent-runs-limit-exceeded"), path
        assert message(answer) == "By launching this job you will exceed your limit of 3 concurrent Actor runs."
    assert error(await strict.send("POST", f"/actor-runs/{done.id}/resurrect?memory=2048"))[0] == 402
    await strict.ask("POST", f"/actor-runs/{last['id']}/abort")
    assert (await strict.ask("POST", f"/actor-runs/{done.id}/resurrect?memory=128"))["status"] == "READY"


async def test_rejecting_holds_with_many_starts_at_once(strict: Program) -> None:
    answers = await asyncio.gather(*(strict.send("POST", f"{RUNS}?memory=128") for _ in range(12)))
    assert sorted(answer.status for answer in answers) == [201] * 3 + [403] * 9


async def test_limits_show_what_is_allowed_and_used(small: Program) -> None:
    await small.run(S.RUNNING)
    await small.run()
    document = given_document() if os.environ.get("ACTORIUM_OPENAPI") else None
    shown = await small.ask("GET", "/users/me/limits")
    assert (shown["limits"]["maxActorMemoryGbytes"], shown["limits"]["maxConcurrentActorJobs"]) == (2.0, 3)
    assert (shown["current"]["actorMemoryGbytes"], shown["current"]["activeActorJobCount"]) == (1.0, 1)
    await small.platform.accounts.set_limits("jane", {"max_memory_mbytes": 1024})
    put = await small.send("PUT", "/users/me/limits", {"maxMonthlyUsageUsd": 12.5, "dataRetentionDays": 90})
    assert (put.status, put.body) == (201, b"{}")
    got = await small.send("GET", "/users/me/limits")
    if document is not None:
        assert document.problems("users_me_limits_put", put) == []
        assert document.problems("users_me_limits_get", got) == []
    shown = (await small.ask("GET", "/users/me/limits"))["limits"]
    assert (shown["maxActorMemoryGbytes"], shown["maxConcurrentActorJobs"]) == (1.0, 3)
    assert (shown["maxMonthlyUsageUsd"], shown["dataRetentionDays"]) == (12.5, 90)
    assert (await small.ask("GET", "/users/me"))["plan"]["maxActorMemoryGbytes"] == 1.0
    assert (await small.ask("GET", "/users/me/limits", by="john"))["limits"]["maxActorMemoryGbytes"] == 2.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("maxMonthlyUsageUsd", -1),
        ("maxMonthlyUsageUsd", "5"),
        ("maxMonthlyUsageUsd", True),
        ("maxMonthlyUsageUsd", 1e300),
        ("dataRetentionDays", 0),
        ("dataRetentionDays", 1.5),
        ("dataRetentionDays", "90"),
        ("dataRetentionDays", 10**12),
    ],
)
async def test_limits_out_of_range_are_refused(small: Program, field: str, value: object) -> None:
    answer = await small.send("PUT", "/users/me/limits", {field: value})
    assert error(answer) == (400, "invalid-request")
    assert field in message(answer)


def test_the_administrator_sets_limits_with_the_cli(tmp_path: Path) -> None:
    def actorium(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "actorium", *args, "--data-dir", str(tmp_path)]
        environ = {**os.environ, "COLUMNS": "200"}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ, check=False)

    assert actorium("users", "add", "alice").returncode == 0
    done = actorium("users", "limits", "alice", "--memory-mbytes", "8192", "--concurrent-runs", "20")
    assert done.returncode == 0, done.stderr
    assert "8192" in done.stdout
    shown = actorium("users", "limits", "alice", "--memory-mbytes", "default")
    assert "as the settings say" in shown.stdout
    assert "20" in shown.stdout
    assert "8192" not in shown.stdout
    refused = actorium("users", "limits", "alice", "--concurrent-runs", "many")
    assert refused.returncode == 1
    assert "many" in refused.stderr


@pytest.mark.parametrize("change", [{"max_memory_mbytes": 127}, {"max_concurrent_runs": -1}])
async def test_limits_of_a_user_out_of_range_are_refused(small: Program, change: dict[str, int]) -> None:
    (name, value) = next(iter(change.items()))
    with pytest.raises(ApiError, match=f"{name} has an invalid value {value}"):
        await small.platform.accounts.set_limits("jane", {name: value})
    with pytest.raises(ApiError, match="User was not found"):
        await small.platform.accounts.set_limits("nobody", {})
