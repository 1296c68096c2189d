"""How storages end, and the times that tell of their use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actorium.domain.models import JobStatus
from actorium.storage.db import Tx
from support.program import Program
from support.storage_kinds import (
    ABSENT,
    DAY_SECS,
    KINDS,
    each_kind,
    new,
)
from support.storage_server import data, error


async def rows(program: Program) -> dict[str, int]:
    tables = ("datasets", "key_value_stores", "request_queues", "dataset_blocks", "records", "requests")
    tables += ("storage_garbage", "blob_garbage")

    async def op(tx: Tx) -> dict[str, int]:
        found = {}
        for table in tables:
            row = await tx.fetchrow(f"SELECT COUNT(*) AS n FROM {table}")
            assert row is not None
            found[table] = row["n"]
        return {table: count for table, count in found.items() if count}

    return await program.platform.db.read("count rows", op)


def blob_files(tmp_path: Path) -> int:
    return sum(path.is_file() for path in (tmp_path / "data" / "blobs").rglob("*"))


async def fill(program: Program, ids: dict[str, str]) -> None:
    await program.ask("POST", f"/datasets/{ids['datasets']}/items", [{"n": 1}])
    for key, size in (("small", 10), ("large", 100_000)):
        await program.ask("PUT", f"/key-value-stores/{ids['key-value-stores']}/records/{key}", b"x" * size)
    for key in "ab":
        requests = f"/request-queues/{ids['request-queues']}/requests"
        await program.ask("POST", requests, {"url": key, "uniqueKey": key})


async def test_deletes_leave_nothing(program: Program, tmp_path: Path) -> None:
    ids = {kind: (await new(program, kind, "?name=gone"))["id"] for kind in KINDS}
    await fill(program, ids)
    assert blob_files(tmp_path) == 1
    for kind, storage_id in ids.items():
        answer = await program.send("DELETE", f"/{kind}/~GONE")
        assert (answer.status, answer.body) == (204, b"")
        for method, reference in (("GET", storage_id), ("DELETE", storage_id), ("DELETE", "~gone"), ("PUT", "~gone")):
            assert error(await program.send(method, f"/{kind}/{reference}")) == ABSENT
        tails = {"datasets": "/items", "key-value-stores": "/records/small", "request-queues": "/head"}
        assert error(await program.send("GET", f"/{kind}/{storage_id}{tails[kind]}")) == ABSENT
        assert data(await program.send("POST", f"/{kind}?name=gone"))["id"] != storage_id
        await program.ask("DELETE", f"/{kind}/~gone")
    await program.platform.housekeeping.sweep()
    assert await rows(program) == {}
    assert blob_files(tmp_path) == 0


async def test_emptying_goes_on_in_the_next_process(program: Program, tmp_path: Path) -> None:
    ids = {kind: (await new(program, kind))["id"] for kind in KINDS}
    await fill(program, ids)
    for kind, storage_id in ids.items():
        await program.ask("DELETE", f"/{kind}/{storage_id}")
    sweeping = asyncio.create_task(program.platform.housekeeping.sweep())
    while (await rows(program)).get("storage_garbage") == 3:
        await asyncio.sleep(0)
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
    await program.crash()
    await program.start()
    await program.platform.housekeeping.sweep()
    assert await rows(program) == {}
    assert blob_files(tmp_path) == 0


async def test_a_sweep_that_meets_a_broken_disk_ends_later(program: Program, tmp_path: Path) -> None:
    """The blob's row stays until its object is gone."""
    store = (await new(program, "key-value-stores"))["id"]
    await program.ask("PUT", f"/key-value-stores/{store}/records/K", b"x" * 100_000)
    await program.ask("DELETE", f"/key-value-stores/{store}")
    folder = next(path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file())
    content = folder.read_bytes()
    folder.unlink()
    folder.mkdir()  # no file can be deleted here now
    with pytest.raises(OSError, match=folder.name):
        await program.platform.housekeeping.sweep()
    assert await rows(program) == {"blob_garbage": 1}
    folder.rmdir()
    folder.write_bytes(content)
    await program.crash()
    await program.start()
    await program.platform.housekeeping.sweep()
    assert await rows(program) == {}
    assert blob_files(tmp_path) == 0


async def test_a_deleted_run_takes_its_unnamed_storages_along(program: Program, tmp_path: Path) -> None:
    run = await program.run(JobStatus.SUCCEEDED)
    ids = dict(
        zip(
            KINDS,
            (run.default_dataset_id, run.default_key_value_store_id, run.default_request_queue_id),
            strict=True,
        )
    )
    await fill(program, ids)
    await program.ask("PUT", f"/datasets/{ids['datasets']}", {"name": "kept"})
    await program.ask("DELETE", f"/actor-runs/{run.id}")
    await program.platform.housekeeping.sweep()
    assert await rows(program) == {"datasets": 1, "dataset_blocks": 1}
    assert blob_files(tmp_path) == 0
    kept = await program.ask("GET", "/datasets/~kept")
    assert (kept["id"], kept["actRunId"]) == (ids["datasets"], run.id)


@pytest.fixture
async def forgetful(tmp_path: Path, database_url: str) -> AsyncIterator[Program]:
    """A program that lets unnamed storages expire after a week without use."""
    found = Program(tmp_path / "data", database_url, unnamed_storage_days=7)
    await found.start()
    yield found
    await found.stop()


async def test_unnamed_storages_expire_by_the_setting(forgetful: Program, tmp_path: Path) -> None:
    program = forgetful
    run = await program.run()
    names = ("unused", "read", "written", "named", "unnamed-late")
    ids: dict[str, dict[str, str]] = {name: {} for name in names}
    for kind in KINDS:
        for name in names:
            ids[name][kind] = (await new(program, kind, "?name=late" if name == "unnamed-late" else ""))["id"]
    for found in ids.values():
        await fill(program, found)
    program.clock.advance(6 * DAY_SECS)
    await fill(program, ids["written"])
    await program.ask("GET", f"/datasets/{ids['read']['datasets']}/items")
    await program.send("GET", f"/key-value-stores/{ids['read']['key-value-stores']}/records/small")
    await program.ask("GET", f"/request-queues/{ids['read']['request-queues']}/head")
    for kind in KINDS:
        await program.ask("PUT", f"/{kind}/{ids['named'][kind]}", {"name": "now-named"})
        await program.ask("PUT", f"/{kind}/{ids['unnamed-late'][kind]}", {"name": None})
    await program.platform.reads.flush()

    async def left() -> dict[str, list[str]]:
        await program.platform.retention.sweep()
        await program.platform.housekeeping.sweep()
        return {
            name: [kind for kind in KINDS if (await program.send("GET", f"/{kind}/{found[kind]}")).status == 200]
            for name, found in ids.items()
        }

    assert await left() == dict.fromkeys(names, KINDS)
    program.clock.advance(DAY_SECS + 1)
    assert await left() == {**dict.fromkeys(names, KINDS), "unused": []}
    program.clock.advance(6 * DAY_SECS)
    assert await left() == {name: KINDS if name == "named" else [] for name in names}
    program.clock.advance(1000 * DAY_SECS)
    assert (await left())["named"] == KINDS
    assert (await program.ask("GET", f"/datasets/{run.default_dataset_id}"))["actRunId"] == run.id
    assert blob_files(tmp_path) == 1


async def test_lists_of_queues_tell_when_they_expire(forgetful: Program) -> None:
    program = forgetful
    run = await program.run()
    unnamed, named = await new(program, "request-queues"), await new(program, "request-queues", "?name=named")
    program.clock.advance(DAY_SECS)
    await program.ask("GET", f"/request-queues/{unnamed['id']}/head")
    listed = (await program.ask("GET", "/request-queues?unnamed=1"))["items"]
    expected = {unnamed["id"]: "2026-01-09T00:00:00.001Z", named["id"]: None, run.default_request_queue_id: None}
    assert {item["id"]: item.get("expireAt") for item in listed} == expected
    for kind in KINDS[:2]:
        await new(program, kind)
        assert "expireAt" not in (await program.ask("GET", f"/{kind}?unnamed=1"))["items"][-1]


async def test_by_default_nothing_expires(program: Program) -> None:
    for kind in KINDS:
        await new(program, kind)
    program.clock.advance(10_000 * DAY_SECS)
    await program.platform.housekeeping.sweep()
    assert [(await program.ask("GET", f"/{kind}?unnamed=1"))["total"] for kind in KINDS] == [1, 1, 1]


@each_kind
async def test_reads_move_accessed_at_and_writes_modified_at(program: Program, kind: str) -> None:
    made = await new(program, kind)
    path = f"/{kind}/{made['id']}"
    write = {
        "datasets": ("POST", "/items", {"n": 1}),
        "key-value-stores": ("PUT", "/records/K", b"x"),
        "request-queues": ("POST", "/requests", {"url": "u", "uniqueKey": "u"}),
    }[kind]
    reads = {
        "datasets": ["/items"],
        "key-value-stores": ["/keys", "/records/K", "/records/none"],
        "request-queues": ["/head", "/requests", "/requests/none"],
    }[kind]

    async def times() -> tuple[str, str, str]:
        found = await program.ask("GET", path)
        return found["createdAt"], found["modifiedAt"], found["accessedAt"]

    created = made["createdAt"]
    assert await times() == (created, created, created)
    program.clock.advance(1)
    assert await times() == (created, created, created), "to look at the metadata is no use of the storage"
    await program.ask(write[0], path + write[1], write[2])
    written = (await times())[1]
    assert written > created
    assert await times() == (created, written, written)
    last = written
    for tail in reads:
        program.clock.advance(1)
        await program.send("GET", path + tail)
        now = await times()
        assert now[:2] == (created, written), tail
        assert now[2] > last, tail
        last = now[2]
    program.clock.advance(1)
    await program.ask("PUT", path, {"title": "x"})
    changed = await times()
    assert changed[1] == changed[2] > last


@pytest.mark.parametrize("kind", KINDS[:2])
async def test_a_read_is_no_write(program: Program, kind: str) -> None:
    """What reads change is in memory until it is flushed."""
    made = await new(program, kind)
    table = kind.replace("-", "_")

    async def stored() -> tuple[int, int]:
        async def op(tx: Tx) -> Any:
            return await tx.fetchrow(f"SELECT accessed_at, read_count FROM {table}")

        row = await program.platform.db.read("look", op)
        return row["accessed_at"], row["read_count"]

    content = ("POST", "/items", {"n": 1}) if kind == "datasets" else ("PUT", "/records/K", b"x")
    await program.ask(content[0], f"/{kind}/{made['id']}{content[1]}", content[2])
    before = await stored()
    program.clock.advance(1)
    for _ in range(3):
        await program.send("GET", f"/{kind}/{made['id']}{content[1]}")
    assert await stored() == before
    await program.platform.reads.flush()
    assert await stored() == (before[0] + 1000, before[1] + 3)
