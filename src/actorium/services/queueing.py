"""Whether a run may start or wait, and what it waits for."""

from __future__ import annotations

import msgspec

from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.models import JobStatus, Run
from actorium.domain.queueing import Capacity, Use
from actorium.kit import Clock
from actorium.storage import accounts, run_queue, user_limits
from actorium.storage.db import Database, Tx
from actorium.storage.run_queue import Place

_SILENT_MS = 1000
"""So long a READY run says nothing: most start at once."""


async def admit(tx: Tx, capacity: Capacity, user_id: str, memory_mbytes: int) -> None:
    """Refuse a run of a user that could never start, and, where the server does not queue, one that cannot start now.

    Raises 402 ``actor-memory-limit-exceeded``, 403 ``concurrent-runs-limit-exceeded``. docs: runs, section 4.1.
    """
    limit = capacity.of_user(await user_limits.get(tx, user_id))
    if memory_mbytes > limit.memory_mbytes:
        raise ApiError(
            ErrorType.ACTOR_MEMORY_LIMIT_EXCEEDED,
            f"By launching this job you will exceed the memory limit of {limit.memory_mbytes} MB for all your Actor "
            f"runs and builds: it requests {memory_mbytes} MB, so it could never start here.",
        )
    if capacity.queues:
        return
    # Starts of one user take turns, so that no two of them see the same free place.
    await accounts.lock_user(tx, user_id)
    for used, most in (
        (await run_queue.in_use(tx, user_id, waiting_too=True), limit),
        (await run_queue.in_use(tx, waiting_too=True), capacity.machine),
    ):
        _check_fits(used, most, memory_mbytes)


def _check_fits(used: Use, most: Use, memory_mbytes: int) -> None:
    with_it = used.plus(memory_mbytes)
    if with_it.memory_mbytes > most.memory_mbytes:
        raise ApiError(
            ErrorType.ACTOR_MEMORY_LIMIT_EXCEEDED,
            f"By launching this job you will exceed the memory limit of {most.memory_mbytes} MB for all your Actor "
            f"runs and builds (currently used: {used.memory_mbytes} MB, requested: {memory_mbytes} MB). "
            "Abort a run or wait until one has finished.",
        )
    if with_it.run_count > most.run_count:
        raise ApiError(
            ErrorType.CONCURRENT_RUNS_LIMIT_EXCEEDED,
            f"By launching this job you will exceed your limit of {most.run_count} concurrent Actor runs.",
        )


class Queueing:
    """Tells what waiting runs wait for. Computed when asked, so a moving queue costs no writes."""

    def __init__(self, db: Database, clock: Clock, capacity: Capacity) -> None:
        self._db = db
        self._clock = clock
        self._capacity = capacity

    async def explained(self, run: Run) -> Run:
        """``run``, where it has waited in READY for a second with what it waits for as its status message."""
        if run.status is not JobStatus.READY or self._clock.now_ms() - run.queued_at < _SILENT_MS:
            return run

        async def op(tx: Tx) -> str:
            limit = self._capacity.of_user(await user_limits.get(tx, run.user_id))
            own = (await run_queue.in_use(tx, run.user_id)).plus(run.options.memory_mbytes)
            total = (await run_queue.in_use(tx)).plus(run.options.memory_mbytes)
            reason = _reason(run.options.memory_mbytes, own, limit, total, self._capacity.machine)
            above = await run_queue.held_by_ancestors(tx, run) if run.parent_run_id is not None else 0
            if above + run.options.memory_mbytes > limit.memory_mbytes:
                reason += f" while the runs that started it hold {above:,} MB"
            return _message(reason, await run_queue.place_of(tx, run))

        return msgspec.structs.replace(run, status_message=await self._db.read("place in queue", op))


def _reason(memory_mbytes: int, own: Use, limit: Use, total: Use, machine: Use) -> str:
    if own.run_count > limit.run_count:
        return f"one of your {own.run_count - 1:,} runs to end"
    if own.memory_mbytes > limit.memory_mbytes:
        return f"{memory_mbytes:,} MB of your {limit.memory_mbytes:,} MB of memory"
    if total.run_count > machine.run_count:
        return f"one of the server's {total.run_count - 1:,} runs to end"
    if total.memory_mbytes > machine.memory_mbytes:
        return f"{memory_mbytes:,} MB of memory"
    return "its turn"


def _message(reason: str, place: Place) -> str:
    return f"Waiting for {reason}: position {place.position:,} of {place.count:,} in your queue."
