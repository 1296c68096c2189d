"""Builders and runtimes for the tests of every one of their kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actorium.runtimes.docker.engine import DockerEngine
from conformance.docker_harness import DockerHarness, Workshop


@pytest.fixture
async def workshop(docker: DockerEngine, docker_url: str, tmp_path: Path) -> AsyncIterator[Workshop]:
    harness = DockerHarness(docker_url, tmp_path / "docker")
    await harness.runtime.open()
    found = Workshop(docker, harness, tmp_path / "builds")
    await found.builder.open()
    yield found
    await harness.close()
    for output in found.built:
        await found.builder.remove(output.state)
    assert not (tmp_path / "builds").exists() or list((tmp_path / "builds").iterdir()) == []
