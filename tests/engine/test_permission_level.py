"""The level of permissions as the process sees it."""

from __future__ import annotations

import pytest

from engine.conftest import Engine


@pytest.mark.parametrize("level", ["LIMITED_PERMISSIONS", "FULL_PERMISSIONS"])
async def test_the_process_is_told_the_level_of_its_run(engine: Engine, level: str) -> None:
    _, process = await engine.running(force_permission_level=level)
    assert process.spec.env["ACTOR_PERMISSION_LEVEL"] == level
