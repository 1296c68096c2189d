"""Whether a program on a standing clock still has something to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from actorium.storage.db import Database

T = TypeVar("T")
_CALM_TURNS = 50


class Activity:
    """Counts the work of a program outside its event loop: database operations, and calls in threads.

    What remains are callbacks, timers of the test's clock, and sockets of this process, which are readable as soon as
    they were written to. So a number of turns of the loop in which no such work began or went on is the end of it all.
    """

    def __init__(self, database: Database) -> None:
        self._under_way = 0
        self._begun = 0
        loop = asyncio.get_running_loop()
        for owner, name in ((database, "read"), (database, "write"), (loop, "run_in_executor")):
            setattr(owner, name, self._counted(getattr(owner, name)))

    async def end(self) -> None:
        """Return once everything that can happen at this time has happened."""
        calm = 0
        async with asyncio.timeout(30):
            while calm < _CALM_TURNS:
                begun = self._begun
                # In a pause without work the turns are free; while there is some, its threads need the interpreter.
                await asyncio.sleep(0.001 if self._under_way else 0)
                calm = 0 if self._under_way or self._begun != begun else calm + 1

    def _counted(self, function: Callable[..., Awaitable[T]]) -> Callable[..., asyncio.Future[T]]:
        def call(*args: Any, **kwargs: Any) -> asyncio.Future[T]:
            work = asyncio.ensure_future(function(*args, **kwargs))
            self._begun += 1
            self._under_way += 1
            work.add_done_callback(self._done)
            return work

        return call

    def _done(self, _work: object) -> None:
        self._under_way -= 1
