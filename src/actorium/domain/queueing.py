"""Which waiting runs start next. READY runs wait for memory and for a place; this module says in which order.

Between users the one whose runs hold the least memory goes first, of equal ones whose next run has waited longest.
Among a user's own runs the larger priority goes first, then runs that another run started, then the one that has
waited longest. A run that does not fit may be overtaken for a time; then nothing behind it starts before it does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from actorium.domain.accounts import UserLimits

MIN_PRIORITY, MAX_PRIORITY = -100, 100


class Use(msgspec.Struct, frozen=True):
    """What runs hold together, or may hold at most."""

    memory_mbytes: int = 0
    run_count: int = 0

    def plus(self, memory_mbytes: int) -> Use:
        """With one run more."""
        return Use(self.memory_mbytes + memory_mbytes, self.run_count + 1)

    def exceeds(self, limit: Use) -> bool:
        """Whether this is more than ``limit`` allows."""
        return self.memory_mbytes > limit.memory_mbytes or self.run_count > limit.run_count


class Capacity(msgspec.Struct, frozen=True):
    """What there is for runs: on the ``machine`` in all, and for each ``user`` without limits of their own.

    ``queues`` says that runs beyond it wait; else they are refused.
    """

    machine: Use
    user: Use
    queues: bool = True

    def of_user(self, own: UserLimits | None) -> Use:
        """What the runs of a user may hold at once, who has these limits of their own."""
        memory = own.max_memory_mbytes if own is not None else None
        runs = own.max_concurrent_runs if own is not None else None
        return Use(
            min(self.user.memory_mbytes if memory is None else memory, self.machine.memory_mbytes),
            min(self.user.run_count if runs is None else runs, self.machine.run_count),
        )


class Waiting(msgspec.Struct, frozen=True):
    """What the order depends on of a READY run."""

    id: str
    user_id: str
    memory_mbytes: int
    queued_at: int


def queue_rank(priority: int, *, has_parent: bool) -> int:
    """The place among a user's waiting runs, smallest first.

    Children go before other runs of their priority: their parents hold memory while they wait for them.
    """
    return -2 * priority + (0 if has_parent else 1)


def startable(
    queues: Mapping[str, Sequence[Waiting]],
    in_use: Mapping[str, Use],
    limits: Mapping[str, Use],
    machine: Use,
    *,
    now: int,
    overtaking_ms: int,
) -> list[Waiting]:
    """The runs to start now, in this order.

    ``queues`` are the waiting runs of each user in their order, ``limits`` what each of these users may hold and
    ``in_use`` what users hold. After ``overtaking_ms`` of waiting a run that does not fit is no more overtaken:
    where its user's limit is in the way by runs of that user, where the ``machine`` is too small by none.
    """
    held = dict(in_use)
    total = Use(sum(use.memory_mbytes for use in held.values()), sum(use.run_count for use in held.values()))
    lines = {user_id: deque(queue) for user_id, queue in queues.items() if queue}
    chosen: list[Waiting] = []
    while lines and total.run_count < machine.run_count:
        user_id = min(lines, key=lambda one: (held.get(one, Use()).memory_mbytes, lines[one][0].queued_at, one))
        run = lines[user_id].popleft()
        is_late = now - run.queued_at >= overtaking_ms
        own, all_ = held.get(user_id, Use()).plus(run.memory_mbytes), total.plus(run.memory_mbytes)
        if not own.exceeds(limits[user_id]):
            if not all_.exceeds(machine):
                chosen.append(run)
                held[user_id], total = own, all_
            elif is_late:
                break
        elif is_late or own.run_count > limits[user_id].run_count:
            del lines[user_id]
            continue
        if not lines[user_id]:
            del lines[user_id]
    return chosen
