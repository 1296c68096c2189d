"""Aborts of what an aborted run has started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from actorium.domain.models import JobStatus, Meta, Run, StopReason
from actorium.engine.child_aborts import ChildAborts
from actorium.services.access import Principal
from actorium.services.run_options import StartOptions
from actorium.storage import jobs
from actorium.storage.db import Tx
from engine.conftest import BOB, Engine

S = JobStatus


async def child_of(engine: Engine, parent: Run, memory_mbytes: int = 128) -> Run:
    by = Principal(BOB.user_id, BOB.username, f"run:{parent.id}", parent.id)
    return await engine.starts.start(
        by, engine.actor.id, StartOptions(memory_mbytes=memory_mbytes), None, Meta("ACTOR")
    )


@pytest.fixture
async def child_aborts(engine: Engine) -> AsyncIterator[ChildAborts]:
    made = ChildAborts(engine.db, engine.signals, engine.runs)
    yield made
    await made.stop()


async def marked(engine: Engine) -> list[str]:
    return [run.id for run in await engine.db.read("marked", jobs.list_runs_with_children_to_abort)]


async def test_the_whole_tree_is_aborted_and_nothing_else(engine: Engine, child_aborts: ChildAborts) -> None:
    await child_aborts.start()
    root, _ = await engine.running(memory_mbytes=128)
    stranger, _ = await engine.running(memory_mbytes=128)
    child = await child_of(engine, root)
    middle = await child_of(engine, root)
    below_middle = await child_of(engine, middle)
    waiting = await child_of(engine, child, 4096)
    for run in (child, middle, below_middle):
        await engine.process_of(run)
    engine.runtime.end(await engine.process_of(middle), code=0)
    assert (await engine.ended(middle)).status is S.SUCCEEDED
    await engine.runs.abort(root, gracefully=False)
    for run in (root, child, below_middle, waiting):
        assert (await engine.ended(run)).status is S.ABORTED, run
    assert (await engine.get(middle)).status is S.SUCCEEDED
    assert (await engine.get(stranger)).status is S.RUNNING
    async with asyncio.timeout(20):
        while await marked(engine):
            await asyncio.sleep(0)


async def test_a_graceful_abort_is_graceful_below_and_escalates_below(
    engine: Engine, child_aborts: ChildAborts
) -> None:
    await child_aborts.start()
    root, _ = await engine.running(memory_mbytes=128)
    child = await child_of(engine, root)
    process = await engine.process_of(child)
    await engine.until(child, lambda run: run.status is S.RUNNING)
    await engine.runs.abort(root, gracefully=True)
    current = await engine.until(child, lambda run: run.status is S.ABORTING)
    assert current.stop_reason is StopReason.GRACEFUL_ABORT
    assert process.signals == []
    await engine.runs.abort(root, gracefully=False)
    assert (await engine.ended(child)).status is S.ABORTED
    assert process.signals == ["KILL"]


async def test_a_server_that_dies_right_after_the_abort_does_it_later(
    engine: Engine, child_aborts: ChildAborts
) -> None:
    root, _ = await engine.running(memory_mbytes=128)
    child = await child_of(engine, root)
    await engine.process_of(child)
    await engine.runs.abort(root, gracefully=False)
    assert (await engine.ended(root)).status is S.ABORTED
    assert (await engine.get(child)).status is not S.ABORTED, "nobody has aborted it yet"
    assert await marked(engine) == [root.id]
    await engine.restart()
    await child_aborts.start()
    assert (await engine.ended(child)).status is S.ABORTED


async def test_what_an_aborted_run_starts_is_aborted_too(engine: Engine, child_aborts: ChildAborts) -> None:
    await child_aborts.start()
    root, _ = await engine.running(memory_mbytes=128)
    await engine.runs.abort(root, gracefully=True)
    async with asyncio.timeout(20):
        while await marked(engine):
            await asyncio.sleep(0)
    late = await child_of(engine, root)
    await engine.until(late, lambda run: run.status in (S.ABORTING, S.ABORTED))
    engine.clock.advance(30)  # for one that had a process already
    assert (await engine.ended(late)).status is S.ABORTED


async def test_a_wish_that_comes_while_the_last_is_carried_out_is_kept(engine: Engine) -> None:
    root, _ = await engine.running(memory_mbytes=128)
    await engine.runs.abort(root, gracefully=True)
    seen = (await engine.db.read("marked", jobs.list_runs_with_children_to_abort))[0]
    await child_of(engine, root)

    async def done(tx: Tx) -> None:
        await jobs.note_children_aborted(tx, seen)

    await engine.db.write("done", done)
    assert await marked(engine) == [root.id]
    newer = msgspec.structs.replace(seen, abort_children_at=(await engine.get(root)).abort_children_at)
    assert newer.abort_children_at is not None
    assert seen.abort_children_at is not None
    assert newer.abort_children_at > seen.abort_children_at


@pytest.mark.parametrize("code", [0, 1])
async def test_children_outlive_a_parent_that_ends_by_itself(
    engine: Engine, child_aborts: ChildAborts, code: int
) -> None:
    await child_aborts.start()
    root, process = await engine.running(memory_mbytes=128)
    child = await child_of(engine, root)
    await engine.process_of(child)
    engine.runtime.end(process, code=code)
    await engine.ended(root)
    await engine.quiet()
    assert (await engine.get(child)).status is S.RUNNING
