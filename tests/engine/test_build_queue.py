"""Builds wait for their turn, and end with their Actor (specification of Actors, sections 1.3 and 3.3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from actorium.engine.builds import BuildEngine
from fakes.builders import FakeBuilder
from support.program import ACTOR_ID, Program
from support.storage_server import error

VERSION = {"versionNumber": "0.2", "sourceType": "SOURCE_FILES", "buildTag": "latest", "sourceFiles": []}


class Builds:
    """A program whose builds are made by ``builder``, at most two at once."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.builder = FakeBuilder()

    async def start(self) -> None:
        engine: BuildEngine = self.program.platform.build_engine
        engine._builder = self.builder
        await self.program.ask("POST", f"/actors/{ACTOR_ID}/versions", VERSION)
        await engine.start()

    async def begin(self) -> str:
        # A time of its own, which gives it its place in the queue.
        self.program.clock.advance(0.001)
        made = await self.program.ask("POST", f"/actors/{ACTOR_ID}/builds?version=0.2")
        return str(made["id"])

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0)

    async def status(self, build_id: str, wanted: str) -> None:
        async with asyncio.timeout(30):
            while (await self.program.ask("GET", f"/actor-builds/{build_id}"))["status"] != wanted:
                await asyncio.sleep(0)


@pytest.fixture
async def builds(tmp_path: Path, database_url: str) -> AsyncIterator[Builds]:
    program = Program(tmp_path / "data", database_url, max_concurrent_builds=2)
    await program.start()
    found = Builds(program)
    await found.start()
    yield found
    await program.platform.build_engine.stop()
    await program.stop()


async def test_builds_beyond_the_limit_wait_their_turn(builds: Builds) -> None:
    first, second, third, fourth = [await builds.begin() for _ in range(4)]
    await builds.until(lambda: set(builds.builder.under_way) == {first, second})
    for waiting in (third, fourth):
        await builds.status(waiting, "READY")
    assert (await builds.program.ask("POST", f"/actor-builds/{third}/abort"))["status"] == "ABORTED"
    builds.builder.finish(second)
    await builds.status(second, "SUCCEEDED")
    await builds.until(lambda: set(builds.builder.under_way) == {first, fourth})
    builds.builder.finish(first)
    builds.builder.finish(fourth)
    await builds.status(fourth, "SUCCEEDED")
    await builds.status(first, "SUCCEEDED")
    assert builds.builder.most == 2
    assert builds.builder.cancelled == []


async def test_an_actor_is_deleted_while_it_builds(builds: Builds) -> None:
    running, other, waiting = [await builds.begin() for _ in range(3)]
    await builds.until(lambda: len(builds.builder.under_way) == 2)
    await builds.program.ask("DELETE", f"/actors/{ACTOR_ID}")
    await builds.until(lambda: sorted(builds.builder.cancelled) == sorted([running, other]))
    async with asyncio.timeout(30):
        for build_id in (running, other, waiting):
            while (answer := await builds.program.send("GET", f"/actor-builds/{build_id}")).status == 200:
                await asyncio.sleep(0)
            assert error(answer) == (404, "record-not-found")
            assert error(await builds.program.send("GET", f"/logs/{build_id}")) == (404, "record-not-found")
    assert (await builds.program.ask("GET", "/actor-builds"))["total"] == 0
