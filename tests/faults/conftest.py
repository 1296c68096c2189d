"""Real servers that are killed, on SQLite and on PostgreSQL, and a disk that is soon full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.databases import new_postgres_database
from support.platform import Platform


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if minutes := config.getoption("--fault-minutes"):
        for item in items:
            if item.name.startswith("test_random_requests_and_kills"):
                item.add_marker(pytest.mark.timeout(minutes * 60 + 600), append=False)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Platform]:
    env = {}
    if request.param == "postgres":
        env["ACTORIUM_DATABASE_URL"] = new_postgres_database(request.getfixturevalue("postgres_server"))
    found = Platform(tmp_path / "data", env=env).start()
    found.first_token()
    yield found
    found.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MB; only root may make one."""
    if os.geteuid() != 0:
        assert not os.environ.get("CI"), "the disk tests need root"
        pytest.skip("only root may mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
