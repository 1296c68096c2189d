"""Retires the runs of Standby servers that have a newer build, or that are not wanted at all any more.

A retired run gets no new requests; some seconds after the last one it had, it is idle and ends like any idle one.
"""

from __future__ import annotations

from actorium.domain.actors import DEFAULT_STANDBY
from actorium.domain.models import JobStatus
from actorium.domain.standby import RETIREMENT_MS, standby_config
from actorium.domain.versions import is_build_number
from actorium.kit import Clock, Signals, Tasks, forever
from actorium.services.topics import STANDBY_TOPIC, run_topic
from actorium.storage import builds, catalog, jobs, standby, tasks
from actorium.storage.db import Database, Tx
from actorium.storage.standby import StandbyMember

_POLL_SECS = 2.0
_RETRY_SECS = 1.0
_ANY_BUILD = ""


class StandbyRetirement:
    """A Service."""

    def __init__(self, db: Database, clock: Clock, signals: Signals) -> None:
        self._db = db
        self._clock = clock
        self._signals = signals
        self._tasks = Tasks("standby-retirement")

    async def start(self) -> None:
        """Begin."""
        if not len(self._tasks):
            self._tasks.spawn("retire", forever("retiring Standby runs", _RETRY_SECS, self._work))

    async def stop(self) -> None:
        """End."""
        await self._tasks.stop()

    async def _work(self) -> None:
        while True:
            await self.retire_outdated()
            await self._clock.sleep(_POLL_SECS)

    async def retire_outdated(self) -> None:
        """Look at every Standby run once."""
        outdated = await self._db.read("outdated Standby runs", _list_outdated)
        if not outdated:
            return
        idle_at = self._clock.now_ms() + RETIREMENT_MS

        async def op(tx: Tx) -> None:
            for run_id in outdated:
                await jobs.update(tx, run_id, {JobStatus.RUNNING}, is_retired=True, idle_at=idle_at)

        await self._db.write("retire Standby runs", op)
        for run_id in outdated:
            self._signals.send(run_topic(run_id))
        self._signals.send(STANDBY_TOPIC)


async def _list_outdated(tx: Tx) -> list[str]:
    wanted: dict[tuple[str, str | None], str | None] = {}
    outdated = []
    for member in await standby.list_standby_members(tx):
        key = member.actor_id, member.task_id
        if key not in wanted:
            wanted[key] = await _wanted_build(tx, member)
        if wanted[key] not in (member.build_id, _ANY_BUILD):
            outdated.append(member.run_id)
    return outdated


async def _wanted_build(tx: Tx, member: StandbyMember) -> str | None:
    """The build runs of this server are to have; ``None`` where there is to be no run."""
    actor = await catalog.get_actor(tx, member.actor_id)
    task = await tasks.get_task(tx, member.task_id) if member.task_id is not None else None
    if actor is None or (member.task_id is not None and task is None):
        return None
    config = standby_config(actor, task, DEFAULT_STANDBY)
    if not config.is_enabled:
        return None
    find = builds.find_build if is_build_number(config.build) else builds.find_tagged_build
    build = await find(tx, actor.id, config.build)
    return build.id if build is not None and build.status is JobStatus.SUCCEEDED else _ANY_BUILD
