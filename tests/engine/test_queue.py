"""Waiting for memory, on the real database: what starts next when a run ends."""

from __future__ import annotations

import msgspec

from actorium.domain.models import JobStatus, Meta, Run, User
from actorium.domain.queueing import Capacity, Use
from actorium.engine.supervisor import Supervisor
from actorium.services.access import Principal
from actorium.services.run_options import StartOptions
from actorium.storage import accounts, catalog, jobs, run_queue, user_limits
from actorium.storage.db import Tx
from engine.conftest import BOB, Engine

S = JobStatus
EVE = Principal("eveeveeveeveeveev", "eve", "token")


async def add_eve(engine: Engine) -> None:
    """A second user, who may use Bob's Actor."""

    async def op(tx: Tx) -> None:
        await accounts.insert_user(tx, User(EVE.user_id, EVE.username, "eve@example.com", 0))
        await catalog.update_actor(tx, msgspec.structs.replace(engine.actor, fields={"isPublic": True}))

    await engine.db.write("add eve", op)


async def start(engine: Engine, who: Principal = BOB, memory_mbytes: int = 1024, priority: int = 0) -> Run:
    engine.clock.advance(0.001)
    asked = StartOptions(memory_mbytes=memory_mbytes, priority=priority)
    return await engine.starts.start(who, engine.actor.id, asked, None, Meta("API"))


async def end_newest_of(engine: Engine, run: Run) -> None:
    engine.runtime.end(await engine.process_of(run), code=0)
    await engine.ended(run)


async def running(engine: Engine, runs: list[Run]) -> list[bool]:
    await engine.quiet()
    return [(await engine.get(run)).status is S.RUNNING for run in runs]


async def fill(engine: Engine) -> Run:
    """A run of Bob's that holds all the memory there is."""
    run, _ = await engine.running(memory_mbytes=4096)
    return run


async def test_a_user_with_many_waiting_runs_does_not_starve_another(engine: Engine) -> None:
    await add_eve(engine)
    first = await fill(engine)
    bobs = [await start(engine) for _ in range(12)]
    eves = [await start(engine, EVE) for _ in range(2)]
    assert not any(await running(engine, bobs + eves))
    await end_newest_of(engine, first)
    await engine.settle(lambda: len(engine.runtime.processes) == 5)
    assert await running(engine, eves) == [True, True]
    assert await running(engine, bobs) == [True, True] + [False] * 10


async def test_larger_priority_first_then_age(engine: Engine) -> None:
    first = await fill(engine)
    low, old, new, high = [await start(engine, memory_mbytes=2048, priority=p) for p in (-1, 0, 0, 5)]
    await end_newest_of(engine, first)
    await engine.settle(lambda: len(engine.runtime.processes) == 3)
    assert await running(engine, [high, old, new, low]) == [True, True, False, False]
    await end_newest_of(engine, high)
    await engine.settle(lambda: len(engine.runtime.processes) == 4)
    assert await running(engine, [new, low]) == [True, False]


async def test_a_large_run_is_overtaken_for_a_minute_and_then_no_more(engine: Engine) -> None:
    small, _ = await engine.running(memory_mbytes=1024)
    large = await start(engine, memory_mbytes=4096)
    overtaking = await start(engine, memory_mbytes=1024)
    await engine.process_of(overtaking)
    engine.clock.advance(60)
    late = await start(engine, memory_mbytes=1024)
    assert await running(engine, [large, late]) == [False, False]
    await end_newest_of(engine, small)
    assert await running(engine, [large, late]) == [False, False], "memory is kept for the large run"
    await end_newest_of(engine, overtaking)
    await engine.process_of(large)
    assert await running(engine, [large, late]) == [True, False]


async def test_a_limit_of_the_users_own_holds_up_only_that_user(engine: Engine) -> None:
    await add_eve(engine)

    async def op(tx: Tx) -> None:
        await user_limits.update(tx, BOB.user_id, {"max_concurrent_runs": 1, "max_memory_mbytes": 2048})

    await engine.db.write("limit bob", op)
    first, second = await start(engine), await start(engine)
    await engine.process_of(first)
    engine.clock.advance(100)
    eves = await start(engine, EVE)
    await engine.process_of(eves)
    assert await running(engine, [first, second, eves]) == [True, False, True]
    await end_newest_of(engine, first)
    await engine.process_of(second)


async def test_a_resurrected_run_queues_up_behind(engine: Engine) -> None:
    old = await start(engine)
    await end_newest_of(engine, old)
    first = await fill(engine)
    engine.clock.advance(1)
    waiting = await start(engine, memory_mbytes=4096)
    engine.clock.advance(1)
    again = await engine.runs.resurrect(await engine.get(old), StartOptions(memory_mbytes=4096))
    assert again.status is S.READY
    await end_newest_of(engine, first)
    await engine.process_of(waiting)
    assert await running(engine, [waiting, again]) == [True, False]
    await end_newest_of(engine, waiting)
    await engine.process_of(again, 2)


async def test_runs_of_an_earlier_server_count_and_wait_on(engine: Engine) -> None:
    first = await fill(engine)
    waiting = await start(engine)
    await engine.restart()
    assert await running(engine, [first, waiting]) == [True, False]
    await end_newest_of(engine, first)
    await engine.process_of(waiting)


async def test_picking_up_reads_only_what_can_start(engine: Engine) -> None:
    """With 10,000 waiting runs neither index nor list is read as a whole."""
    await engine.supervisor.stop()
    template = await start(engine)

    async def many(tx: Tx) -> None:
        for n in range(10_000):
            run = msgspec.structs.replace(
                template, id=f"waiting{n:010}", container_slug=f"waiting{n}", user_id=f"user{n % 7:013}", queued_at=n
            )
            await jobs.insert_run(tx, run)

    await engine.db.write("many", many)
    rows: list[int] = []

    async def read(tx: Tx) -> None:
        counted = CountingTx(tx, rows)
        users = await run_queue.list_waiting_users(counted)
        assert len(users) == 8
        for user_id in users:
            assert len(await run_queue.list_waiting(counted, user_id, 5)) in (1, 5)

    await engine.db.read("read", read)
    assert sum(rows) == 8 + 1 + 7 * 5
    whose = "FROM runs WHERE status = 'READY' AND user_id = 'x'"
    for query in (
        "SELECT MIN(user_id) FROM runs WHERE status = 'READY'",
        f"SELECT id {whose} ORDER BY queue_rank, queued_at, id LIMIT 5",
        f"SELECT COUNT(*) {whose} AND (queue_rank, queued_at, id) < (1, 2, 'y')",
    ):
        if engine.db.name == "sqlite":
            text = await explained(engine, query)
            assert "runs_waiting" in text, text
            assert "TEMP B-TREE" not in text, text
    tuned = msgspec.structs.replace(engine.parts.settings, capacity=Capacity(Use(4096, 10), Use(4096, 10)))
    engine.supervisor = Supervisor(msgspec.structs.replace(engine.parts, settings=tuned))
    await engine.supervisor.start()
    await engine.settle(lambda: engine.supervisor.live_count > 0)


class CountingTx:
    """Passes statements on and notes how many rows came back."""

    def __init__(self, tx: Tx, rows: list[int]) -> None:
        self._tx = tx
        self._rows = rows

    def __getattr__(self, name: str) -> object:
        return getattr(self._tx, name)

    async def fetch(self, sql: str, *args: object) -> object:
        found = await self._tx.fetch(sql, *args)
        self._rows.append(len(found))
        return found


async def explained(engine: Engine, query: str) -> str:
    async def op(tx: Tx) -> str:
        return "\n".join(row["detail"] for row in await tx.fetch(f"EXPLAIN QUERY PLAN {query}"))

    return await engine.db.read("explain", op)
