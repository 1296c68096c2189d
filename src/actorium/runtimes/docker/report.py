"""A look at an engine, for ``doctor``."""

from __future__ import annotations

import aiodocker
import msgspec

from actorium.runtimes.docker.engine import DockerEngine


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
    text = f"{info.get('ServerVersion', 'unknown')} at {engine.url}, storage driver {info.get('Driver', 'unknown')}"
    return EngineReport(True, f"{text}; cannot limit {', '.join(missing)}" if missing else text)
