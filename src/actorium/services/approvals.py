"""Users' approvals of Actors that are not theirs and ask for full permissions."""

from __future__ import annotations

from actorium.domain.models import Actor
from actorium.kit import Clock
from actorium.services.access import Principal
from actorium.services.permissions import insufficient
from actorium.storage import permission_approvals
from actorium.storage.db import Database, Tx


class Approvals:
    """Gives and takes back approvals."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def approve(self, principal: Principal, actor: Actor) -> None:
        """Let runs of an Actor do all that the caller can. Raises 403 for a run: only users can agree to that."""
        if principal.run_id is not None:
            raise insufficient("only a user can approve an Actor, not a run.")
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Actor:
            await permission_approvals.approve(tx, principal.user_id, actor.id, now)
            return actor

        await self._db.write("approve permissions", op)

    async def withdraw(self, principal: Principal, actor: Actor) -> None:
        """Take the approval back; live runs go on as they are."""

        async def op(tx: Tx) -> Actor:
            await permission_approvals.withdraw(tx, principal.user_id, actor.id)
            return actor

        await self._db.write("withdraw approval", op)
