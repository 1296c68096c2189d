"""Keeps apart reading the database and writing down what was collected in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from actorium.storage.db import Database, Tx

T = TypeVar("T")


class Flushes:
    """The flushes of one collector. They come one after the other and are not to be cancelled.

    A flush that is cancelled may be committed all the same, and what it wrote would be written a second time.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = asyncio.Lock()
        self._count = 0

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A flush: no other one begins before its end."""
        async with self._lock:
            self._count += 1
            yield

    async def ended(self) -> None:
        """Return once no flush is under way; none begins before the caller awaits something."""
        async with self._lock:
            return

    async def read(self, description: str, op: Callable[[Tx], Awaitable[T]]) -> T:
        """What the database has, without a flush meanwhile: added to what is pending now, it is all there is."""
        while True:
            async with self._lock:
                before = self._count
            found = await self._db.read(description, op)
            if self._count == before:
                return found
