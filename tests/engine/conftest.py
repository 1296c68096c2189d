"""The run engine on a real database, with a runtime and a clock the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from actorium.domain.models import Actor, JobStatus, Meta, Run, User
from actorium.domain.queueing import Capacity, Use
from actorium.domain.secrets import Vault
from actorium.domain.web_addresses import WebAddresses
from actorium.engine.parts import EngineSettings, Parts
from actorium.engine.ports import Ports
from actorium.engine.supervisor import Supervisor
from actorium.kit import Signals
from actorium.services.access import Access, Principal
from actorium.services.actors import Actors
from actorium.services.budgets import Budgets, BudgetSettings
from actorium.services.builds import Builds
from actorium.services.charging import Charging
from actorium.services.run_inputs import RunInputs
from actorium.services.run_migrations import RunMigrations
from actorium.services.run_options import RunSettings, StartOptions
from actorium.services.run_starts import RunStarts
from actorium.services.run_stops import PlatformStops
from actorium.services.runs import Runs
from actorium.services.usage import Usage
from actorium.storage import accounts, builds, catalog, jobs
from actorium.storage.accounts import AccountReader
from actorium.storage.db import Database, Tx
from actorium.storage.logs import LogStore
from fakes.builds import finished_build
from fakes.clock import FakeClock
from fakes.events import RecordedEvents
from fakes.runtime import FakeProcess, FakeRuntime
from fakes.web_servers import FakeWebServers
from support.activity import Activity

CAPACITY = Capacity(Use(4096, 10), Use(4096, 10))
BOB = Principal("bobbobbobbobbobbo", "bob", "token")


@dataclass
class Engine:
    """Everything a test of the engine handles."""

    clock: FakeClock
    runtime: FakeRuntime
    events: RecordedEvents
    db: Database
    logs: LogStore
    starts: RunStarts
    runs: Runs
    charging: Charging
    migrations: RunMigrations
    signals: Signals
    parts: Parts
    actor: Actor
    web_servers: FakeWebServers
    activity: Activity
    supervisor: Supervisor = field(init=False)

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self.parts)

    async def start(self, **options: Any) -> Run:
        return await self.starts.start(BOB, self.actor.id, StartOptions(**options), None, Meta("API"))

    async def running(self, **options: Any) -> tuple[Run, FakeProcess]:
        """A run whose process exists."""
        run = await self.start(**options)
        process = await self.process_of(run)
        return await self.until(run, lambda current: current.status is JobStatus.RUNNING), process

    async def process_of(self, run: Run, number: int = 1) -> FakeProcess:
        """The ``number``-th process of a run, once it exists."""

        def found() -> list[FakeProcess]:
            return [one for one in self.runtime.processes.values() if one.spec.run_id == run.id]

        await self.settle(lambda: len(found()) >= number)
        return found()[number - 1]

    async def get(self, run: Run) -> Run:
        async def op(tx: Tx) -> Run | None:
            return await jobs.get_run(tx, run.id)

        current = await self.db.read("get", op)
        assert current is not None
        return current

    async def until(self, run: Run, condition: Callable[[Run], bool]) -> Run:
        async with asyncio.timeout(20):
            while not condition(current := await self.get(run)):
                await asyncio.sleep(0)
        return current

    async def ended(self, run: Run) -> Run:
        return await self.until(run, lambda current: current.status.is_terminal)

    async def settle(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0)

    async def quiet(self) -> None:
        """Let everything that can happen at this time happen."""
        await self.activity.end()

    async def restart(self) -> None:
        """A new supervisor, as after a crash of the server."""
        await self.supervisor.stop()
        self.supervisor = Supervisor(self.parts)
        await self.supervisor.start()

    async def log(self, run: Run) -> str:
        return "".join([lines.decode() async for lines in self.logs.read_lines(run.id)])


@pytest.fixture
async def engine(database: Database, tmp_path: Path) -> AsyncIterator[Engine]:
    clock = FakeClock()
    signals = Signals()
    db, activity = database, Activity(database)
    logs = LogStore(tmp_path / "logs")
    await logs.start()
    vault = Vault(b"k" * 32)

    async def no_runs(_actor_id: str, _build_ids: Sequence[str]) -> None:
        return

    actors, build_service = Actors(db, clock, vault, no_runs, {}), Builds(db, clock, signals, logs)
    now = clock.now_ms()
    actor = Actor("actoractoractoract"[:17], BOB.user_id, "counter", now, now, {"build": "latest"}, {})
    build = finished_build(actor, now)

    async def prepare(tx: Tx) -> None:
        await accounts.insert_user(tx, User(BOB.user_id, BOB.username, "bob@example.com", now))
        await catalog.insert_actor(tx, actor)
        await builds.insert_build(tx, build)
        await builds.set_tag(tx, actor.id, "latest", build.id)

    await db.write("prepare", prepare)
    settings = RunSettings(1024, 0, CAPACITY, 30, abort_children_with_parent=True)
    inputs = RunInputs(db, clock, vault)
    usage = Usage(db, clock)
    stops = PlatformStops(clock, signals, logs, settings)
    charging = Charging(db, clock, usage, stops)
    budgets = Budgets(db, clock, usage, charging, stops, BudgetSettings(0, abort_runs_at_monthly_limit=False))
    starts = RunStarts(db, clock, signals, actors, build_service, logs, charging, budgets, inputs, settings)
    runs = Runs(db, clock, signals, actors, build_service, logs, charging, budgets, settings)
    runtime, events, servers = FakeRuntime(clock), RecordedEvents(), FakeWebServers()
    parts = Parts(
        db=db,
        clock=clock,
        signals=signals,
        runtime=runtime,
        logs=logs,
        events=events,
        usage=usage,
        settings=EngineSettings(5, CAPACITY, "http://127.0.0.1:1", "http://127.0.0.1:1"),
        run_token=Access(AccountReader(db), clock, b"k" * 32).run_token,
        open_secret=vault.open,
        events_url=lambda run, _: f"ws://127.0.0.1:1/{run.id}",
        ports=Ports(20000, 29999),
        addresses=WebAddresses.of("http://127.0.0.1:1", "", ""),
        find_web_server=servers.find,
    )
    migrations = RunMigrations(db, clock, signals, 30)
    made = Engine(
        clock, runtime, events, db, logs, starts, runs, charging, migrations, signals, parts, actor, servers, activity
    )
    await made.supervisor.start()
    yield made
    await made.supervisor.stop()
    await logs.stop()
