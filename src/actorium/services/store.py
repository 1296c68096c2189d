"""The store: the public Actors of this server."""

from __future__ import annotations

from collections.abc import Sequence

from actorium.domain.store import RECENT_DAYS, StoreActor, StoreQuery, select
from actorium.domain.times import DAY_MS
from actorium.kit import Clock
from actorium.storage import store
from actorium.storage.db import Database, Tx


class Store:
    """The store service."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def now_ms(self) -> int:
        """The time prices are looked at."""
        return self._clock.now_ms()

    async def search(self, query: StoreQuery, *, offset: int, limit: int) -> tuple[Sequence[StoreActor], int]:
        """A page of the public Actors that ``query`` means, and their total number. openapi: store_get."""
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Sequence[StoreActor]:
            return await store.list_public_actors(
                tx, now=now, since=now - RECENT_DAYS * DAY_MS, with_readmes=bool(query.search)
            )

        found = select(await self._db.read("search store", op), query, now)
        return found[offset : offset + limit], len(found)
