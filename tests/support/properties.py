"""How long property tests search: the same examples every time, or with ``--examples`` more, and random ones."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings

_USUAL = 100
_TIMEOUT_SECS = 300


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--examples", type=int, default=1, help="how many times as many examples property tests try")


def pytest_configure(config: pytest.Config) -> None:
    times = config.getoption("--examples")
    # Without the phase that explains a failure, which takes minutes where examples use a database.
    phases = [phase for phase in Phase if phase is not Phase.explain]
    settings.register_profile(
        "actorium", max_examples=_USUAL * times, derandomize=times == 1, deadline=None, phases=phases
    )
    settings.load_profile("actorium")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Many examples, and the search for a smaller failing one, take longer than one test does."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.timeout(_TIMEOUT_SECS * config.getoption("--examples")))


def share(of_usual: float) -> settings:
    """For examples that cost more or less than usual: this part of as many. They may share fixtures."""
    return settings(
        max_examples=max(1, round(settings.default.max_examples * of_usual)),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
