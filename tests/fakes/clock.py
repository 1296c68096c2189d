"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class FakeClock:
    """Time moves only by ``advance``; sleepers wake in the order of their deadlines."""

    def __init__(self, now_ms: int = 1_767_225_600_000) -> None:
        self._now_ms = now_ms
        self._step_ms = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    def now_ms(self) -> int:
        return self._now_ms

    def step_ms(self) -> int:
        return self._step_ms

    def take_step(self, step_ms: int) -> None:
        self._now_ms += step_ms
        self._step_ms -= step_ms
        self._sleepers = [(at_ms + step_ms, number, future) for at_ms, number, future in self._sleepers]

    def set(self, secs: float) -> None:
        """Somebody sets the machine's clock, by so much."""
        self._step_ms += round(secs * 1000)

    async def sleep(self, secs: float) -> None:
        await self.sleep_until(self._now_ms + round(secs * 1000))

    async def sleep_until(self, at_ms: int) -> None:
        if at_ms <= self._now_ms:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (at_ms, next(self._count), future))
        await future

    def advance(self, secs: float) -> None:
        """Move time forward and wake whoever's time has come."""
        target = self._now_ms + round(secs * 1000)
        while self._sleepers and self._sleepers[0][0] <= target:
            at_ms, _, future = heapq.heappop(self._sleepers)
            self._now_ms = max(self._now_ms, at_ms)
            if not future.done():
                future.set_result(None)
        self._now_ms = target
