"""Web servers of runs that answer when the test says so."""

from __future__ import annotations


class FakeWebServers:
    """``answer``: every one does; else those of the ports in ``up``."""

    def __init__(self) -> None:
        self.answer = False
        self.up: set[int] = set()
        self.asked: list[int] = []

    async def find(self, host: str, port: int) -> str | None:
        self.asked.append(port)
        return host if self.answer or port in self.up else None
