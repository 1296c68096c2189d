"""How long finished runs are kept, with logs and storages. docs: automation and account, section 10."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actorium.cli.main import app
from actorium.domain.models import JobStatus, Run
from actorium.domain.times import DAY_MS
from support.program import ACTOR_ID, Program

S = JobStatus
DAY_SECS = DAY_MS // 1000


@pytest.fixture
async def keeping(tmp_path: Path, database_url: str) -> AsyncIterator[Program]:
    """A server that keeps finished runs for 30 days."""
    found = Program(tmp_path / "data", database_url, finished_run_days=30)
    await found.start()
    yield found
    await found.stop()


async def finished(program: Program, **columns: int) -> Run:
    run = await program.run(S.SUCCEEDED, **{"finished_at": program.clock.now_ms(), **columns})
    await program.platform.logs.append(run.id, program.clock.now_ms(), b"hello\n")
    await program.platform.logs.finish(run.id)
    return run


async def ids(program: Program) -> list[str]:
    return [run["id"] for run in (await program.ask("GET", f"/actors/{ACTOR_ID}/runs"))["items"]]


async def test_runs_beyond_the_newest_ten_expire_with_log_and_storages(keeping: Program) -> None:
    pinned, live = await finished(keeping), await keeping.run(S.RUNNING)
    await keeping.ask("PUT", f"/datasets/{pinned.default_dataset_id}", {"name": "to-keep"})
    old = [await finished(keeping) for _ in range(3)]
    keeping.clock.advance(DAY_SECS)
    late = await finished(keeping)
    newest = [await finished(keeping) for _ in range(10)]
    everything = await ids(keeping)
    retention = keeping.platform.retention
    keeping.clock.advance(29 * DAY_SECS - 1)
    await retention.sweep()
    assert await ids(keeping) == everything, "not before their time"

    keeping.clock.advance(2)
    assert [run.id for run in (await retention.expired(100)).runs] == [run.id for run in old]
    assert await ids(keeping) == everything, "a look deletes nothing"
    await retention.sweep()
    kept = [pinned.id, live.id, late.id, *(run.id for run in newest)]
    assert await ids(keeping) == kept
    assert (await keeping.send("GET", f"/datasets/{old[0].default_dataset_id}")).status == 404
    assert (await keeping.send("GET", f"/request-queues/{old[0].default_request_queue_id}")).status == 404
    assert await keeping.platform.logs.size(old[0].id) == 0
    assert await keeping.platform.logs.size(late.id) > 0
    assert (await keeping.send("GET", f"/key-value-stores/{late.default_key_value_store_id}")).status == 200

    keeping.clock.advance(900 * DAY_SECS)
    await retention.sweep()
    assert await ids(keeping) == [pinned.id, live.id, *(run.id for run in newest)], "the newest ten never expire"


async def test_a_users_own_days_take_the_place_of_the_setting(keeping: Program) -> None:
    assert (await keeping.ask("GET", "/users/me/limits"))["limits"]["dataRetentionDays"] == 30
    old = [await finished(keeping) for _ in range(12)]
    await keeping.send("PUT", "/users/me/limits", {"dataRetentionDays": 90})
    keeping.clock.advance(80 * DAY_SECS)
    await keeping.platform.retention.sweep()
    assert len(await ids(keeping)) == 12
    await keeping.send("PUT", "/users/me/limits", {"dataRetentionDays": 60})
    await keeping.platform.retention.sweep()
    assert await ids(keeping) == [run.id for run in old[2:]]


async def test_a_log_left_by_a_crash_goes_after_the_restart(keeping: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    old = [await finished(keeping) for _ in range(11)]
    keeping.clock.advance(31 * DAY_SECS)

    async def crash(_job_id: str) -> None:
        raise OSError("the machine is off")

    monkeypatch.setattr(keeping.platform.logs, "delete", crash)
    with pytest.raises(OSError, match="off"):
        await keeping.platform.retention.sweep()
    await keeping.crash()
    await keeping.start()
    assert old[0].id not in await ids(keeping)
    assert await keeping.platform.logs.size(old[0].id) > 0
    await keeping.platform.retention.sweep()
    assert await keeping.platform.logs.size(old[0].id) == 0


async def test_the_command_lists_and_deletes_beside_a_server(
    keeping: Program, tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    long_ago = [1_500_000_000_000 + number for number in range(11)]
    old = [await finished(keeping, started_at=at, finished_at=at) for at in long_ago]
    given = ["--data-dir", str(tmp_path / "data"), "--set", f"database_url={database_url}"]

    async def cleanup(*flags: str) -> str:
        command = ["cleanup", *flags, *given, "--set", "finished_run_days=1"]
        await asyncio.to_thread(app, command, result_action="return_value")
        return capsys.readouterr().out

    listed = await cleanup("--dry-run")
    assert old[0].id in listed
    assert old[1].id not in listed
    assert len(await ids(keeping)) == 11
    assert old[0].id in await cleanup()
    assert await ids(keeping) == [run.id for run in old[1:]]
    assert await keeping.platform.logs.size(old[0].id) == 0
