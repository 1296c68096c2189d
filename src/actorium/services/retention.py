"""Deletes what has outlived its days: unused builds, finished runs with logs and storages, unnamed storages.

One background job does it in small steps. Whatever a step has deleted but not removed from the disk is noted in the
database by the same transaction, and is removed after a restart.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actorium.domain.times import DAY_MS
from actorium.kit import Clock, Tasks, forever
from actorium.services.builds import Builds
from actorium.services.runs import LogLifecycle
from actorium.storage import accounts, builds, dependents, log_garbage, run_retention, storages, user_limits
from actorium.storage.db import Database, Tx
from actorium.storage.run_retention import FinishedRun

_PAUSE_SECS = 3600.0
_RETRY_SECS = 20.0
_AT_ONCE = 100


class RetentionRules(msgspec.Struct, frozen=True):
    """Days for which things are kept, 0 for ever. ``run_days`` holds for users who have set none of their own."""

    run_days: int = 0
    untagged_build_days: int = 0
    unnamed_storage_days: int = 0


class Expired(msgspec.Struct, frozen=True):
    """What a sweep would delete now; of each kind at most as many as were asked for."""

    runs: Sequence[FinishedRun]
    build_ids: Sequence[str]
    storages: Sequence[storages.StorageKey]


class Retention:
    """The background service; ``sweep`` does everything that is due."""

    def __init__(
        self, db: Database, clock: Clock, own_builds: Builds, logs: LogLifecycle, rules: RetentionRules
    ) -> None:
        self._db = db
        self._clock = clock
        self._builds = own_builds
        self._logs = logs
        self._rules = rules
        self._tasks = Tasks("retention")

    async def start(self) -> None:
        """Begin sweeping."""
        if not len(self._tasks):
            self._tasks.spawn("sweep", forever("sweeping what has expired", _RETRY_SECS, self._step))

    async def stop(self) -> None:
        """End; what is left is done after the next start."""
        await self._tasks.stop()

    async def _step(self) -> None:
        await self.sweep()
        await self._clock.sleep(_PAUSE_SECS)

    async def expired(self, most: int) -> Expired:
        """What ``sweep`` would delete now, at most ``most`` of each kind; nothing is deleted."""
        now = self._clock.now_ms()
        rules = self._rules

        async def op(tx: Tx) -> Expired:
            runs: list[FinishedRun] = []
            for user_id, before in (await self._ends(tx, now)).items():
                runs += await run_retention.list_expired(
                    tx, user_id, finished_before=before, after=None, most=most - len(runs)
                )
            unused = now - rules.untagged_build_days * DAY_MS
            unnamed = now - rules.unnamed_storage_days * DAY_MS
            return Expired(
                runs,
                await builds.list_unused_builds(tx, finished_before=unused, most=most)
                if rules.untagged_build_days
                else (),
                await storages.list_unused(tx, used_before=unnamed, most=most) if rules.unnamed_storage_days else (),
            )

        return await self._db.read("what has expired", op)

    async def sweep(self) -> None:
        """Delete what is due. Builds go first, while the runs that have used them are still there to tell."""
        now = self._clock.now_ms()
        if self._rules.untagged_build_days:
            await self._builds.delete_unused(now - self._rules.untagged_build_days * DAY_MS)

        async def ends(tx: Tx) -> dict[str, int]:
            return await self._ends(tx, now)

        for user_id, before in (await self._db.read("ends of retention", ends)).items():
            await self._delete_runs(user_id, before)
        if self._rules.unnamed_storage_days:
            await self._delete_storages(now - self._rules.unnamed_storage_days * DAY_MS)
        while await self._remove_logs():
            pass

    async def _ends(self, tx: Tx, now: int) -> dict[str, int]:
        """The time before which a user's runs have expired, for each user with runs that do."""
        own = await user_limits.list_all(tx)
        found = {}
        for user in await accounts.list_users(tx):
            set_days = own[user.id].data_retention_days if user.id in own else None
            if days := set_days or self._rules.run_days:
                found[user.id] = now - days * DAY_MS
        return found

    async def _delete_runs(self, user_id: str, before: int) -> None:
        last: FinishedRun | None = None

        async def op(tx: Tx) -> Sequence[FinishedRun]:
            runs = await run_retention.list_expired(tx, user_id, finished_before=before, after=last, most=_AT_ONCE)
            for run in runs:
                await dependents.delete_run_with_storages(tx, run.id, self._clock.now_ms())
            return runs

        while expired := await self._db.write("delete expired runs", op):
            last = expired[-1]

    async def _delete_storages(self, before: int) -> None:
        async def op(tx: Tx) -> int:
            unused = await storages.list_unused(tx, used_before=before, most=_AT_ONCE)
            for kind, storage_id in unused:
                await storages.delete(tx, kind, storage_id, self._clock.now_ms())
            return len(unused)

        while await self._db.write("delete expired storages", op):
            pass

    async def _remove_logs(self) -> bool:
        async def find(tx: Tx) -> Sequence[str]:
            return await log_garbage.list_logs(tx, _AT_ONCE)

        found = await self._db.read("logs of what was deleted", find)
        for job_id in found:
            await self._logs.delete(job_id)

        async def forget(tx: Tx) -> None:
            await log_garbage.forget(tx, found)

        if found:
            await self._db.write("forget removed logs", forget)
        return bool(found)
