"""Stock clients of a real server; every test of this folder runs with the sync and the async one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.databases import database_kinds, new_postgres_database
from support.platform import TOKEN, Platform
from support.stock_clients import FORMS, stock_clients


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "platform" in metafunc.fixturenames:
        metafunc.parametrize("platform", database_kinds(metafunc.config), indirect=True, scope="session")


@pytest.fixture(scope="session")
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One server for all tests of a worker and a database."""
    env = {}
    if request.param == "postgres":
        env["ACTORIUM_DATABASE_URL"] = new_postgres_database(request.getfixturevalue("postgres_server"))
    found = Platform(tmp_path_factory.mktemp("storages") / "data", env=env).start()
    found.first_token()
    yield found
    found.stop()


@pytest.fixture(params=FORMS)
def client_of(request: pytest.FixtureRequest, platform: Platform) -> Iterator[Callable[[str | None], Any]]:
    """Makes clients of one form for a token."""
    with stock_clients(request.param, platform.url) as made:
        yield made


@pytest.fixture
def client(client_of: Callable[[str | None], Any]) -> Any:
    """The first user's client."""
    return client_of(TOKEN)


@pytest.fixture
def anonymous(client_of: Callable[[str | None], Any]) -> Any:
    """A client without a token."""
    return client_of(None)


@pytest.fixture
def name() -> str:
    """A storage name that nothing else has."""
    return f"s-{uuid.uuid4().hex[:20]}"


@pytest.fixture(scope="session")
def only_lister(platform: Platform) -> str:
    """The token of a user who owns nothing."""
    platform.cli("users", "add", "lister")
    return platform.cli("tokens", "create", "lister", "--token", "listers-own-token-for-tests").strip()
