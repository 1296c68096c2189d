"""Schedules fire: ticks, exclusiveness, missed times, crashes, many at once. Automation, sections 3.2 and 3.3."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actorium.domain.models import JobStatus
from actorium.domain.schedules import MAX_LOG_ENTRIES, Action, new_schedule
from actorium.engine.schedules import Scheduler
from actorium.storage import jobs, schedules
from actorium.storage.db import Tx
from support.program import ACTOR_ID, TASK_ID, Program

RUN_ACTOR = {"type": "RUN_ACTOR", "actorId": ACTOR_ID, "runOptions": {"memoryMbytes": 128}}
RUN_TASK = {"type": "RUN_ACTOR_TASK", "actorTaskId": TASK_ID}


class Site:
    """The program with a scheduler."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.scheduler = program.platform.scheduler

    async def schedule(self, cron: str = "* * * * *", **fields: Any) -> dict[str, Any]:
        body = {"cronExpression": cron, "isEnabled": True, "actions": [RUN_ACTOR], **fields}
        made: dict[str, Any] = await self.program.ask("POST", "/schedules", body)
        return made

    async def quiet(self) -> None:
        """Until nothing is due and every tick is done with."""
        now = self.program.clock.now_ms()

        async def busy(tx: Tx) -> bool:
            due = await schedules.list_due(tx, now, 1)
            return bool(due) or await tx.fetchrow("SELECT 1 FROM schedule_ticks") is not None

        async with asyncio.timeout(100):
            while await self.program.platform.db.read("busy", busy):
                await asyncio.sleep(0)

    async def advance(self, secs: float) -> None:
        self.program.clock.advance(secs)
        await self.quiet()

    async def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.program.ask("GET", "/actor-runs"))["items"]
        return found

    async def log(self, schedule: dict[str, Any]) -> list[tuple[str, str]]:
        entries = await self.program.ask("GET", f"/schedules/{schedule['id']}/log")
        return [(entry["level"], entry["message"]) for entry in entries]

    async def end_runs(self, to: JobStatus = JobStatus.SUCCEEDED) -> None:
        """Every live run comes to this status."""

        async def op(tx: Tx) -> None:
            for row in await tx.fetch("SELECT id FROM runs WHERE finished_at IS NULL"):
                await jobs.transition(tx, row["id"], {JobStatus.READY}, JobStatus.RUNNING)
                await jobs.transition(tx, row["id"], {JobStatus.RUNNING}, to)

        await self.program.platform.db.write("end runs", op)

    async def another(self, name: str) -> Scheduler:
        """One more server on the same database."""
        platform = self.program.platform
        other = Scheduler(platform.db, self.program.clock, platform.signals, platform.starts, platform.tasks, name)
        await other.start()
        return other


@pytest.fixture
async def site(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    program = Program(tmp_path / "data", database_url)
    await program.start()
    found = Site(program)
    await found.scheduler.start()
    yield found
    await found.scheduler.stop()
    await program.stop()


async def test_a_tick_starts_a_run_with_its_input_options_and_meta(site: Site) -> None:
    actions = [
        {
            **RUN_ACTOR,
            "runInput": {"body": "some text", "contentType": "text/plain"},
            "runOptions": {"memoryMbytes": 256, "timeoutSecs": 7, "restartOnError": True, "maxItems": 5},
        }
    ]
    made = await site.schedule("*/5 * * * *", actions=actions)
    await site.advance(299)
    assert await site.runs() == []
    await site.advance(1)
    (listed,) = await site.runs()
    run = await site.program.ask("GET", f"/actor-runs/{listed['id']}")
    assert run["meta"]["origin"] == "SCHEDULER"
    assert run["meta"]["scheduleId"] == made["id"]
    assert run["meta"]["scheduledAt"] == "2026-01-01T00:05:00.000Z"
    assert run["meta"]["scheduledAct2Id"] == made["actions"][0]["id"]
    options = run["options"]
    assert (options["memoryMbytes"], options["timeoutSecs"], options["maxItems"]) == (256, 7, 5)
    assert options["restartOnError"] is True
    record = await site.program.send("GET", f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT")
    assert (record.body, record.headers["Content-Type"]) == (b"some text", "text/plain")
    shown = await site.program.ask("GET", f"/schedules/{made['id']}")
    assert (shown["lastRunAt"], shown["nextRunAt"]) == ("2026-01-01T00:05:00.000Z", "2026-01-01T00:10:00.000Z")
    assert await site.log(made) == [("INFO", "Schedule invoked")]


async def test_a_tick_starts_a_task_with_its_input_joined(site: Site) -> None:
    await site.program.ask("PUT", f"/actor-tasks/{TASK_ID}/input", {"a": 1, "b": 2})
    await site.program.ask("PUT", f"/actor-tasks/{TASK_ID}", {"options": {"memoryMbytes": 512}})
    made = await site.schedule(actions=[{**RUN_TASK, "input": {"b": 3}}])
    await site.advance(60)
    (listed,) = await site.runs()
    run = await site.program.ask("GET", f"/actor-runs/{listed['id']}")
    assert (run["actorTaskId"], run["options"]["memoryMbytes"]) == (TASK_ID, 512)
    assert run["meta"]["scheduledActorTaskId"] == made["actions"][0]["id"]
    path = f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT"
    assert await site.program.ask("GET", path) == {"a": 1, "b": 3}


async def test_an_exclusive_action_waits_for_its_own_run_only(site: Site) -> None:
    made = await site.schedule(actions=[RUN_ACTOR, RUN_TASK])
    await site.schedule(name="other")
    await site.program.run(JobStatus.RUNNING)
    await site.advance(60)
    assert len(await site.runs()) == 4
    await site.advance(60)
    assert len(await site.runs()) == 4
    assert await site.log(made) == [
        ("INFO", "Schedule invoked"),
        ("WARNING", f'Skipping Actor "{ACTOR_ID}", it must be exclusive but previous run is still running'),
        ("WARNING", f'Skipping Actor task "{TASK_ID}", it must be exclusive but previous run is still running'),
        ("INFO", "Schedule invoked"),
    ]
    await site.end_runs(JobStatus.ABORTING)
    await site.advance(60)
    assert len(await site.runs()) == 7, "a run that is being aborted counts as over"


async def test_without_exclusiveness_runs_pile_up(site: Site) -> None:
    await site.schedule(isExclusive=False)
    for _ in range(3):
        await site.advance(60)
    assert len(await site.runs()) == 3


async def test_what_cannot_be_started_is_logged_and_the_rest_is_started(site: Site) -> None:
    broken = {**RUN_ACTOR, "runOptions": {"build": "nope"}}
    made = await site.schedule(actions=[broken, RUN_TASK])
    await site.advance(60)
    assert [run["actorTaskId"] for run in await site.runs()] == [TASK_ID]
    (level, message), last = await site.log(made)
    assert level == "ERROR" and message.startswith(f'Cannot start Actor "{ACTOR_ID}": Build with tag "nope"')
    assert last == ("INFO", "Schedule invoked")


async def test_invoke(site: Site) -> None:
    made = await site.schedule("@yearly", isEnabled=False)
    answer = await site.program.send("POST", f"/schedules/{made['id']}/invoke")
    assert (answer.status, answer.body) == (201, b"{}")
    await site.quiet()
    assert len(await site.runs()) == 1
    assert await site.log(made) == [("INFO", "Schedule invoked manually")]
    shown = await site.program.ask("GET", f"/schedules/{made['id']}")
    assert (shown["lastRunAt"], shown["nextRunAt"]) == (None, None)
    await site.program.ask("POST", f"/schedules/{made['id']}/invoke")
    await site.quiet()
    assert len(await site.runs()) == 1, "exclusive also when it is invoked"


async def test_disabled_changed_and_deleted(site: Site) -> None:
    disabled, deleted = await site.schedule(isExclusive=False), await site.schedule(name="gone")
    await site.program.ask("PUT", f"/schedules/{disabled['id']}", {"isEnabled": False})
    await site.program.ask("DELETE", f"/schedules/{deleted['id']}")
    await site.advance(120)
    assert await site.runs() == []
    changes = {"isEnabled": True, "cronExpression": "30 * * * *"}
    shown = await site.program.ask("PUT", f"/schedules/{disabled['id']}", changes)
    assert shown["nextRunAt"] == "2026-01-01T00:30:00.000Z"
    await site.advance(27 * 60)
    assert await site.runs() == []
    await site.advance(60)
    assert len(await site.runs()) == 1


async def test_missed_times_are_made_up_for_once(site: Site) -> None:
    made = await site.schedule(isExclusive=False)
    await site.scheduler.stop()
    site.program.clock.advance(3 * 3600 + 30)
    await site.scheduler.start()
    await site.quiet()
    assert len(await site.runs()) == 1
    shown = await site.program.ask("GET", f"/schedules/{made['id']}")
    assert shown["nextRunAt"] == "2026-01-01T03:01:00.000Z"
    await site.advance(30)
    assert len(await site.runs()) == 2


async def test_a_server_that_dies_between_tick_and_start_loses_nothing(site: Site) -> None:
    await site.schedule(isExclusive=False, actions=[RUN_ACTOR, RUN_ACTOR, RUN_ACTOR])
    begun, real_start = 0, site.program.platform.starts.start

    async def dies_after_one(*args: Any, **kwargs: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun > 1:
            await asyncio.Event().wait()
        return await real_start(*args, **kwargs)

    site.scheduler._starts.start = dies_after_one  # type: ignore[method-assign]
    site.program.clock.advance(60)
    async with asyncio.timeout(20):
        while begun < 2:
            await asyncio.sleep(0)
    # A crash: nothing is released.
    await site.scheduler._tasks.stop()
    site.scheduler._starts.start = real_start  # type: ignore[method-assign]
    assert len(await site.runs()) == 1
    other = await site.another("other")
    site.program.clock.advance(30)
    assert len(await site.runs()) == 1, "the lease is not over"
    await other.stop()
    again = await site.another(site.scheduler._server_name)
    await site.quiet()
    first = [run for run in await site.runs() if run["startedAt"] < "2026-01-01T00:02"]
    assert len(first) == 3, "each action once, the first one not again"
    await again.stop()


async def test_another_server_takes_over_when_the_lease_is_over(site: Site) -> None:
    await site.schedule("0 * * * *", isExclusive=False)

    async def hangs(*args: Any, **kwargs: Any) -> Any:
        await asyncio.Event().wait()

    real_start = site.program.platform.starts.start
    site.scheduler._starts.start = hangs  # type: ignore[method-assign]
    site.program.clock.advance(3600)
    async with asyncio.timeout(20):
        while not site.scheduler._under_way:
            await asyncio.sleep(0)
    await site.scheduler._tasks.stop()
    site.scheduler._starts.start = real_start  # type: ignore[method-assign]
    other = await site.another("other")
    await site.advance(121)
    assert len(await site.runs()) == 1
    await other.stop()


async def test_two_servers_fire_each_time_once(site: Site) -> None:
    other = await site.another("other")
    for number in range(10):
        await site.schedule(name=f"number-{number}", isExclusive=False)
    for _ in range(3):
        await site.advance(60)
    assert len(await site.runs()) == 30
    await other.stop()


async def test_the_log_keeps_the_newest_entries(site: Site) -> None:
    made = await site.schedule("@yearly", actions=[])

    async def op(tx: Tx) -> None:
        await tx.execute("UPDATE schedules SET last_log_no = 5000 WHERE id = ?", made["id"])
        rows = [(made["id"], number, number, "INFO", str(number)) for number in range(4001, 5001)]
        await tx.executemany("INSERT INTO schedule_log VALUES (?, ?, ?, ?, ?)", rows)

    await site.program.platform.db.write("fill the log", op)
    await site.program.ask("POST", f"/schedules/{made['id']}/invoke")
    await site.quiet()
    entries = await site.log(made)
    assert len(entries) == MAX_LOG_ENTRIES
    assert (entries[0][1], entries[-1][1]) == ("4002", "Schedule invoked manually")


async def test_a_year_in_seconds(site: Site) -> None:
    """A schedule of every day at 02:30 in Prague: 365 runs, each at its time, through both changes of the clocks."""
    made = await site.schedule("30 2 * * *", timezone="Europe/Prague", isExclusive=False)
    begun = time.monotonic()
    at, fired = site.program.clock.now_ms(), 0
    while at < 1_767_225_600_000 + 365 * 86_400_000:
        row = await site.program.platform.schedules.resolve(site.program.people["jane"], made["id"])
        assert row.next_run_at is not None
        await site.advance((row.next_run_at - at) / 1000)
        at, fired = site.program.clock.now_ms(), fired + 1

    async def op(tx: Tx) -> list[str]:
        rows = await tx.fetch("SELECT meta_json, started_at FROM runs ORDER BY started_at")
        return [row["started_at"] for row in rows]

    started = await site.program.platform.db.read("starts", op)
    assert len(started) == fired == 366
    gaps = {later - earlier for earlier, later in itertools.pairwise(int(one) for one in started)}
    hour = 3_600_000
    assert gaps == {24 * hour, 24 * hour + hour // 2, 23 * hour + hour // 2, 25 * hour} or gaps <= {
        23 * hour, 23 * hour + hour // 2, 24 * hour, 24 * hour - hour // 2, 25 * hour,
    }  # fmt: skip
    assert time.monotonic() - begun < 100


@pytest.mark.long
async def test_ten_thousand_in_the_same_minute(site: Site) -> None:
    count, clock = 10_000, site.program.clock
    jane = site.program.people["jane"]
    due_at = clock.now_ms() + 60_000

    async def op(tx: Tx) -> None:
        for number in range(count):
            schedule = new_schedule(jane.user_id, clock.now_ms())
            await schedules.insert_schedule(
                tx,
                type(schedule)(
                    **{
                        **{name: getattr(schedule, name) for name in schedule.__struct_fields__},
                        "name": f"number-{number}",
                        "cron_expression": "* * * * *",
                        "is_enabled": True,
                        "actions": (
                            Action(
                                id=f"{number:017}",
                                type="RUN_ACTOR",
                                target_id=ACTOR_ID,
                                run_options={"memoryMbytes": 128},
                            ),
                        ),
                        "next_run_at": due_at,
                    }
                ),
            )

    await site.program.platform.db.write("schedules", op)
    other = await site.another("other")
    begun = time.monotonic()
    clock.advance(60)
    await site.quiet()
    took = time.monotonic() - begun

    async def fired(tx: Tx) -> tuple[int, int]:
        row = await tx.fetchrow("SELECT COUNT(*) AS n, COUNT(DISTINCT schedule_action_id) AS m FROM runs")
        assert row is not None
        return row["n"], row["m"]

    assert await site.program.platform.db.read("fired", fired) == (count, count)
    print(f"10,000 schedules in {took:.1f} s")
    await other.stop()
