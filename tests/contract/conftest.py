"""One real server for all contract tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.platform import Platform, python_actor

SLEEPER = "import time\nprint('ready')\ntime.sleep(600)\n"


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    found = Platform(tmp_path_factory.mktemp("contract") / "data", "--set", "max_log_mbytes=8").start()
    found.first_token()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def sleeper(platform: Platform) -> str:
    """An Actor that does nothing for ten minutes."""
    return platform.build_actor("sleeper", python_actor(SLEEPER))


@pytest.fixture(scope="session")
def echo(platform: Platform) -> str:
    """An Actor that prints and ends."""
    return platform.build_actor("echo", python_actor("print('hello')\n"))
