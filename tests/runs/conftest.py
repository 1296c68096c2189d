"""Runs over the API: the whole program, on a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.live_program import LiveProgram
from support.program import Program


@pytest.fixture
async def program(tmp_path: Path, database_url: str) -> AsyncIterator[Program]:
    """A server with the users jane and john and an Actor of jane's, whose runs stay READY."""
    found = Program(tmp_path / "data", database_url)
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def live(tmp_path: Path, database_url: str) -> AsyncIterator[LiveProgram]:
    """The same with the run engine; nothing happens to a run's process but what the test makes happen."""
    found = LiveProgram(tmp_path / "data", database_url)
    await found.start()
    yield found
    await found.stop()
