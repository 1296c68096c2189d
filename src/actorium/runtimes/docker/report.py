"""A look at an engine, for ``doctor``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiodocker
import msgspec

from actorium.runtimes.docker.engine import DockerEngine

# docs: Docker, docker container run --storage-opt.
_LIMIT_DISK = frozenset({"btrfs", "zfs", "devicemapper", "windowsfilter"})
_MAY_LIMIT_DISK = frozenset({("overlay2", "xfs"), ("vfs", "xfs")})


class EngineReport(msgspec.Struct, frozen=True):
    """Whether an engine can be used, and a line about it."""

    is_usable: bool
    text: str


async def examine(engine: DockerEngine) -> EngineReport:
    """Ask the engine what it is and what it can limit; closes ``engine``."""
    try:
        info = await engine.call("GET", "info", timeout_secs=10)
    except ConnectionError as error:
        return EngineReport(False, str(error))
    except (aiodocker.DockerError, ValueError) as error:
        return EngineReport(False, f"the Docker engine at {engine.url} refuses: {error}")
    finally:
        await engine.close()
    return EngineReport(True, describe(info, engine.url))


def describe(info: Mapping[str, Any], url: str) -> str:
    """What ``info``, the engine's own description, says of it and of the limits it cannot keep."""
    missing = [
        what
        for key, what in (
            ("MemoryLimit", "memory"),
            ("SwapLimit", "swap"),
            ("CpuCfsQuota", "CPU"),
            ("PidsLimit", "processes"),
        )
        if not info.get(key, True)
    ]
    driver = info.get("Driver", "unknown")
    file_system = dict(info.get("DriverStatus") or ()).get("Backing Filesystem", "unknown")
    text = f"{info.get('ServerVersion', 'unknown')} at {url}, storage driver {driver}"
    if driver == "overlay2":
        text += f" on {file_system}"
    if driver not in _LIMIT_DISK and (driver, file_system) not in _MAY_LIMIT_DISK:
        missing.append("disk")
    if missing:
        text += f"; cannot limit {', '.join(missing)}"
    if (driver, file_system) in _MAY_LIMIT_DISK:
        text += "; limits disk where its file system is mounted with pquota"
    return text + ("; containers outlive its restarts" if info.get("LiveRestoreEnabled") else "")
