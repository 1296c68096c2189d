"""The runs of one Standby server as this process uses them: who serves the next request, who waits, what is wanted.

Pure bookkeeping, without any I/O. A request counts from the moment it comes until it is answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from actorium.domain.errors import ApiError
from actorium.domain.models import StandbyTerms
from actorium.domain.standby import StandbyRun, runs_needed


class PoolRun:
    """A run and the requests it has here. ``address`` is ``None`` until its server answers."""

    __slots__ = ("address", "is_gone", "load", "run_id")

    def __init__(self, run_id: str, address: tuple[str, int] | None) -> None:
        self.run_id = run_id
        self.address = address
        self.load = 0
        self.is_gone = False


class Pool:
    """``terms`` may change at any time."""

    def __init__(self, terms: StandbyTerms) -> None:
        self.terms = terms
        self._runs: dict[str, PoolRun] = {}
        self._waiting: deque[asyncio.Future[PoolRun]] = deque()
        self._request_count = 0

    @property
    def is_unused(self) -> bool:
        """Whether no request is under way."""
        return self._request_count == 0

    @property
    def is_waited_for(self) -> bool:
        """Whether a request waits for a run."""
        return any(not waiter.done() for waiter in self._waiting)

    @property
    def needed(self) -> int:
        """How many runs the requests of this moment need."""
        return runs_needed(self._request_count, self.terms)

    @property
    def is_short(self) -> bool:
        """Whether there are fewer runs than needed."""
        return self.needed > len(self._runs)

    def acquire(self) -> asyncio.Future[PoolRun]:
        """Enter a request. The future gives its run, at once if one is free; to be ended by ``release``."""
        waiter: asyncio.Future[PoolRun] = asyncio.get_running_loop().create_future()
        self._request_count += 1
        self._waiting.append(waiter)
        self._assign()
        return waiter

    def release(self, waiter: asyncio.Future[PoolRun]) -> None:
        """The request is over, or does not wait any more."""
        self._request_count -= 1
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            waiter.result().load -= 1
        else:
            waiter.cancel()
        self._assign()

    def update(self, live: Sequence[StandbyRun]) -> bool:
        """Take in which runs there are.

        Returns whether one ended that had never been ready.
        """
        found = {run.run_id: run.address for run in live}
        lost_unready = False
        for run_id in list(self._runs):
            if run_id not in found:
                run = self._runs.pop(run_id)
                run.is_gone = True
                lost_unready = lost_unready or run.address is None
        for run_id, address in found.items():
            known = self._runs.setdefault(run_id, PoolRun(run_id, address))
            known.address = address
        self._assign()
        return lost_unready

    def has_runs(self) -> bool:
        """Whether there is any run, ready or not."""
        return bool(self._runs)

    def refuse_waiting(self, error: ApiError) -> None:
        """No run will come: answer everyone who waits."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    def _assign(self) -> None:
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            run = self._least_loaded(self._runs.values())
            if run is None:
                return
            run.load += 1
            self._waiting.popleft().set_result(run)

    def _least_loaded(self, runs: Iterable[PoolRun]) -> PoolRun | None:
        free = (run for run in runs if run.address is not None and run.load < self.terms.max_requests)
        return min(free, key=_load, default=None)


def _load(run: PoolRun) -> int:
    return run.load
