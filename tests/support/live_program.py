"""The whole program with its run engine, on a clock the test moves and with processes the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from actorium.engine.supervisor import Supervisor
from fakes.events import RecordedEvents
from fakes.runtime import FakeProcess, FakeRuntime
from support.activity import Activity
from support.program import ACTOR_ID, Program

ENDED = {"SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED"}


class LiveProgram(Program):
    """A ``Program`` that executes its runs with a ``FakeRuntime``."""

    runtime: FakeRuntime
    events: RecordedEvents

    async def start(self) -> None:
        await super().start()
        self.activity = Activity(self.platform.db)
        self.runtime = getattr(self, "runtime", None) or FakeRuntime(self.clock)
        self.events = RecordedEvents()
        parts = self.platform.supervisor._parts
        parts = msgspec.structs.replace(
            parts, runtime=self.runtime, events=self.events, find_web_server=self._find_web_server
        )
        self.platform.supervisor = Supervisor(parts)
        await self.platform.supervisor.start()

    @staticmethod
    async def _find_web_server(_host: str, _port: int) -> str | None:
        return None

    async def crash(self) -> None:
        await self.platform.supervisor.stop()
        await super().crash()

    async def restart(self) -> None:
        """``kill -9`` of the server and a new one on the same data; processes go on meanwhile."""
        await self.crash()
        await self.start()

    async def begin(self, query: str = "", body: Any = None, **more: Any) -> dict[str, Any]:
        """Start a run through the API."""
        answer: dict[str, Any] = await self.ask("POST", f"/actors/{ACTOR_ID}/runs?{query}", body, **more)
        return answer

    async def running(self, query: str = "") -> tuple[dict[str, Any], FakeProcess]:
        """A run whose process exists."""
        run = await self.begin(query)
        process = await self.process_of(run)
        return await self.until(run, lambda now: now["status"] == "RUNNING"), process

    async def process_of(self, run: dict[str, Any], number: int = 1) -> FakeProcess:
        """The ``number``-th process of a run, once it exists."""

        def found() -> list[FakeProcess]:
            return [one for one in self.runtime.processes.values() if one.spec.run_id == run["id"]]

        await self.settle(lambda: len(found()) >= number)
        return found()[number - 1]

    async def get(self, run: dict[str, Any]) -> dict[str, Any]:
        """The run as it is now."""
        found: dict[str, Any] = await self.ask("GET", f"/actor-runs/{run['id']}")
        return found

    async def until(self, run: dict[str, Any], condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The run once ``condition`` holds."""
        async with asyncio.timeout(30):
            while not condition(found := await self.get(run)):
                await asyncio.sleep(0)
        return found

    async def ended(self, run: dict[str, Any]) -> dict[str, Any]:
        """The run once it is over."""
        return await self.until(run, lambda now: now["status"] in ENDED)

    async def settle(self, condition: Callable[[], Any]) -> None:
        """Return once ``condition`` holds."""
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0)

    async def quiet(self) -> None:
        """Let everything that can happen at this time happen."""
        await self.activity.end()

    async def log(self, run: dict[str, Any]) -> list[str]:
        """The log's lines without their times."""
        text = await self.ask("GET", f"/logs/{run['id']}?raw=1")
        return [line.partition("Z ")[2] for line in (text or b"").decode().splitlines()]
