"""What ``doctor`` says of a Docker engine's limits, by the engine's own description."""

from __future__ import annotations

from typing import Any

import pytest

from actorium.runtimes.docker.report import describe

_ALL = {"MemoryLimit": True, "SwapLimit": True, "CpuCfsQuota": True, "PidsLimit": True, "ServerVersion": "20.10.24"}


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"Driver": "btrfs"}, "storage driver btrfs"),
        (
            {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]], "LiveRestoreEnabled": True},
            "storage driver overlay2 on extfs; cannot limit disk; containers outlive its restarts",
        ),
        (
            {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "xfs"]], "SwapLimit": False},
            "storage driver overlay2 on xfs; cannot limit swap; limits disk where its file system is mounted with "
            "pquota",
        ),
        ({"Driver": "overlayfs", "DriverStatus": None}, "storage driver overlayfs; cannot limit disk"),
    ],
)
def test_limits(info: dict[str, Any], said: str) -> None:
    assert describe({**_ALL, **info}, "unix:///x") == f"20.10.24 at unix:///x, {said}"
