"""A builder that finishes when the test says so."""

from __future__ import annotations

import asyncio
from typing import Any

from actorium.builders import BuildOutput, BuildSpec, WriteLog


class FakeBuilder:
    """``under_way`` are the builds it works on, oldest first; ``most`` is how many there were at once."""

    def __init__(self) -> None:
        self.under_way: dict[str, asyncio.Event] = {}
        self.most = 0
        self.cancelled: list[str] = []
        self.removed: list[dict[str, Any]] = []

    async def build(self, spec: BuildSpec, write_log: WriteLog) -> BuildOutput:
        done = self.under_way[spec.build_id] = asyncio.Event()
        self.most = max(self.most, len(self.under_way))
        write_log(b"building\n")
        try:
            await done.wait()
        except asyncio.CancelledError:
            self.cancelled.append(spec.build_id)
            raise
        finally:
            del self.under_way[spec.build_id]
        return BuildOutput("native", {"of": spec.build_id}, 1)

    def finish(self, build_id: str) -> None:
        self.under_way[build_id].set()

    async def remove(self, _kind: str, state: dict[str, Any]) -> None:
        self.removed.append(state)
