"""The Docker runtime: the contract, isolation, output and losses, on a real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from conformance.docker_harness import DockerHarness
from conformance.runtimes import SCENARIOS, Harness

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]


@pytest.fixture
async def harness(docker_url: str, tmp_path: Path) -> AsyncIterator[DockerHarness]:
    with blockbuster_ctx("actorium"):
        found = DockerHarness(docker_url, tmp_path)
        await found.runtime.open()
        yield found
        await found.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_contract(harness: DockerHarness, scenario: Callable[[Harness], Awaitable[None]]) -> None:
    await scenario(harness)
