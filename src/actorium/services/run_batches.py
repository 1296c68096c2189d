"""Abort or resurrect many runs with one call, each as if it had been asked for alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from actorium.domain.errors import ApiError
from actorium.domain.models import TERMINAL_STATUSES, JobStatus, Run
from actorium.services.access import Principal
from actorium.services.run_options import StartOptions
from actorium.services.runs import RunFilter, Runs

MAX_BATCH = 1000
"""Runs of one call; the answer says whether more fit."""

_AT_ONCE = 20
_UNFINISHED = tuple(status.value for status in JobStatus if status not in TERMINAL_STATUSES)
_NOT_SUCCEEDED = tuple(status.value for status in TERMINAL_STATUSES if status is not JobStatus.SUCCEEDED)


class Choice(msgspec.Struct, frozen=True):
    """Which of the caller's runs; what is empty or ``None`` does not matter, everything else must fit."""

    ids: tuple[str, ...] = ()
    actor_id: str | None = None
    task_id: str | None = None
    statuses: tuple[str, ...] = ()
    started_before: int | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What became of one run: the run, or why nothing was done."""

    run_id: str
    run: Run | None = None
    error: ApiError | None = None


class RunBatches:
    """Acts on many runs."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def abort(self, principal: Principal, choice: Choice, *, gracefully: bool) -> tuple[list[Outcome], bool]:
        """Abort the chosen runs; without statuses or ids those that are not over. Also: whether there are more."""

        async def abort(run: Run) -> Run:
            return await self._runs.abort(run, gracefully=gracefully)

        return await self._act(principal, choice, _UNFINISHED, abort)

    async def resurrect(self, principal: Principal, choice: Choice) -> tuple[list[Outcome], bool]:
        """Resurrect the chosen runs; without statuses or ids those that ended without success."""

        async def resurrect(run: Run) -> Run:
            return await self._runs.resurrect(run, StartOptions())

        return await self._act(principal, choice, _NOT_SUCCEEDED, resurrect)

    async def _act(
        self, principal: Principal, choice: Choice, statuses: tuple[str, ...], act: Callable[[Run], Awaitable[Run]]
    ) -> tuple[list[Outcome], bool]:
        found, has_more = await self._find(principal, choice, statuses)
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(chosen: Outcome) -> Outcome:
            if chosen.run is None:
                return chosen
            async with places:
                try:
                    return Outcome(chosen.run_id, await act(chosen.run))
                except ApiError as error:
                    return Outcome(chosen.run_id, error=error)

        return await asyncio.gather(*map(one, found)), has_more

    async def _find(
        self, principal: Principal, choice: Choice, statuses: tuple[str, ...]
    ) -> tuple[Sequence[Outcome], bool]:
        if choice.ids:
            found = [await self._by_id(principal, run_id) for run_id in dict.fromkeys(choice.ids)]
            return [one for one in found if one.run is None or _fits(one.run, choice)], False
        runs, total = await self._runs.list(
            principal,
            RunFilter(statuses=choice.statuses or statuses, started_before=choice.started_before),
            offset=0,
            limit=MAX_BATCH,
            desc=False,
            actor_id=choice.actor_id,
            task_id=choice.task_id,
        )
        return [Outcome(run.id, run) for run in runs], total > len(runs)

    async def _by_id(self, principal: Principal, run_id: str) -> Outcome:
        try:
            return Outcome(run_id, await self._runs.get_own(principal, run_id))
        except ApiError as error:
            return Outcome(run_id, error=error)


def _fits(run: Run, choice: Choice) -> bool:
    return (
        choice.actor_id in (None, run.actor_id)
        and choice.task_id in (None, run.task_id)
        and (not choice.statuses or run.status in choice.statuses)
        and (choice.started_before is None or run.started_at <= choice.started_before)
    )
