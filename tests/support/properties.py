"""How long property tests search: the same examples every time, or with ``--examples`` more, and random ones."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings

_USUAL = 100


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


def share(of_usual: float) -> settings:
    """For examples that cost more or less than usual: this part of as many. They may share fixtures."""
    return settings(
        max_examples=max(1, round(settings.default.max_examples * of_usual)),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
