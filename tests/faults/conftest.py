"""Real servers that are killed, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.databases import new_postgres_database
from support.platform import Platform


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Platform]:
    env = {}
    if request.param == "postgres":
        env["ACTORIUM_DATABASE_URL"] = new_postgres_database(request.getfixturevalue("postgres_server"))
    found = Platform(tmp_path / "data", env=env).start()
    found.first_token()
    yield found
    found.stop()
