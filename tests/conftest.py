"""Flags that add what needs more than Python: in CI a missing dependency is a failure, never a skip."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more of the machine and its other work than of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

pytest_plugins = ["support.databases", "support.docker", "support.properties"]

_FLAGS = {"docker": "--docker", "postgres": "--postgres", "s3": "--s3", "node": "--node", "long": "--long"}


def pytest_addoption(parser: pytest.Parser) -> None:
    for marker, flag in _FLAGS.items():
        parser.addoption(flag, action="store_true", help=f"also run the tests marked {marker}")
    parser.addoption("--fault-rounds", type=int, default=3, help="rounds of each fault test")
    parser.addoption("--fault-minutes", type=float, default=0, help="how long random requests and faults go on instead")
    parser.addoption("--fault-seed", type=int, default=20_260_301, help="seed of the sequences of requests and faults")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for marker, flag in _FLAGS.items():
            if item.get_closest_marker(marker) and not config.getoption(flag):
                item.add_marker(pytest.mark.skip(reason=f"needs {flag}"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long values, some of them random, are called by their length: every worker must give a test the same name."""
    return f"{argname}-{len(val)}" if isinstance(val, bytes | str) and len(val) > 60 else None
