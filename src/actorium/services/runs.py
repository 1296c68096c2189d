"""Runs once they exist: read, wait, abort, resurrect, reboot, update, delete.

Everything here writes down what is wanted and signals the engine; only a run that has no process yet
gets its final status here.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from actorium.domain.actor_prices import START_EVENT
from actorium.domain.charges import with_more
from actorium.domain.errors import ApiError, ErrorType, not_found
from actorium.domain.models import (
    TERMINAL_STATUSES,
    Actor,
    Build,
    GeneralAccess,
    JobStatus,
    Run,
    Wanted,
)
from actorium.domain.pricing import start_event_count
from actorium.domain.queueing import queue_rank
from actorium.kit import Clock, Signals, wait_until
from actorium.services.access import Principal
from actorium.services.budgets import Budgets
from actorium.services.charging import Change, Charging
from actorium.services.permissions import check_changes_run, check_reads_run
from actorium.services.queueing import admit
from actorium.services.run_options import RunSettings, StartOptions, check_options, resurrected_options
from actorium.services.run_stops import ask_to_end
from actorium.services.topics import CHILD_ABORTS_TOPIC, RUNS_TOPIC, job_topic, run_topic
from actorium.storage import dependents, jobs
from actorium.storage.db import Database, Tx

MAX_WAIT_SECS = 60
"""Longest ``waitForFinish``; more is cut, not refused. docs: runs, section 4.4."""
_MAX_MESSAGE = 500
_S = JobStatus


def finished() -> ApiError:
    """403 for what only a run with a process can do."""
    return ApiError(ErrorType.JOB_FINISHED, "Actor job is already finished.")


def _not_resurrected(run: Run) -> ApiError:
    return ApiError(ErrorType.INVALID_INPUT, f"Cannot resurrect an Actor run with the {run.status} status")


class RunFilter(msgspec.Struct, frozen=True):
    """Which runs to list."""

    statuses: tuple[str, ...] = ()
    origin: str | None = None
    parent_run_id: str | None = None
    started_after: int | None = None
    started_before: int | None = None


class MessageUpdate(msgspec.Struct, frozen=True):
    """What ``PUT /actor-runs/{id}`` changes; ``None`` for ``general_access`` leaves it."""

    replace_message: bool
    status_message: str | None = None
    is_terminal: bool | None = None
    general_access: str | None = None


class ActorLookup(Protocol):
    """The part of the Actors service runs need."""

    async def get(self, actor_id: str) -> Actor:
        """An Actor by id, whoever asks. Raises 404."""
        ...


class BuildLookup(Protocol):
    """The part of the builds service runs need."""

    async def resolve_build(self, actor: Actor, tag_or_number: str) -> Build:
        """The finished build of a tag or number. Raises 403 as the platform does."""
        ...

    async def find(self, build_id: str) -> Build | None:
        """A build by id, whoever asks; ``None`` where it was deleted."""
        ...


class LogLifecycle(Protocol):
    """The part of the log store runs need."""

    def open(self, job_id: str) -> None:
        """More will come."""
        ...

    async def finish(self, job_id: str) -> None:
        """No more will come."""
        ...

    async def delete(self, job_id: str) -> None:
        """Forget the log."""
        ...

    async def platform_line(self, job_id: str, at_ms: int, text: str) -> None:
        """A line of the platform's own."""
        ...


class Runs:
    """The run service."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        signals: Signals,
        actors: ActorLookup,
        builds: BuildLookup,
        logs: LogLifecycle,
        charging: Charging,
        budgets: Budgets,
        settings: RunSettings,
    ) -> None:
        self._db = db
        self._clock = clock
        self._signals = signals
        self._actors = actors
        self._builds = builds
        self._logs = logs
        self._charging = charging
        self._budgets = budgets
        self._settings = settings

    async def get(self, principal: Principal | None, run_id: str) -> Run:
        """A run the caller may see: an own one, or one anybody with its id may read."""

        async def op(tx: Tx) -> Run | None:
            return await jobs.get_run(tx, run_id)

        run = await self._db.read("get run", op)
        if run is not None and (
            (principal is not None and principal.owns(run.user_id))
            or run.general_access == GeneralAccess.ANYONE_WITH_ID_CAN_READ
        ):
            if principal is not None and run.general_access != GeneralAccess.ANYONE_WITH_ID_CAN_READ:
                check_reads_run(principal, run)
            return run
        if principal is None:
            raise ApiError(ErrorType.TOKEN_NOT_PROVIDED, "Authentication token was not provided.")
        raise not_found("Actor run")

    async def get_own(self, principal: Principal, run_id: str, actor_id: str | None = None) -> Run:
        """A run of the caller's own, where given one of ``actor_id``."""
        run = await self.get(principal, run_id)
        if not principal.owns(run.user_id) or (actor_id is not None and run.actor_id != actor_id):
            raise not_found("Actor run")
        check_changes_run(principal, run)
        return run

    async def list(
        self,
        principal: Principal,
        wanted: RunFilter,
        *,
        offset: int,
        limit: int,
        desc: bool,
        actor_id: str | None = None,
        task_id: str | None = None,
    ) -> tuple[Sequence[Run], int]:
        """A page of the caller's runs and their total number."""

        async def op(tx: Tx) -> tuple[Sequence[Run], int]:
            return await jobs.list_runs(
                tx,
                user_id=principal.user_id,
                actor_id=actor_id,
                task_id=task_id,
                statuses=wanted.statuses,
                origin=wanted.origin,
                parent_run_id=wanted.parent_run_id,
                started_after=wanted.started_after,
                started_before=wanted.started_before,
                offset=offset,
                limit=limit,
                desc=desc,
            )

        return await self._db.read("list runs", op)

    async def last(
        self, principal: Principal, wanted: RunFilter, *, actor_id: str | None = None, task_id: str | None = None
    ) -> Run:
        """The newest of the caller's runs of an Actor or task. Raises 404 when there is none."""
        found, _ = await self.list(principal, wanted, offset=0, limit=1, desc=True, actor_id=actor_id, task_id=task_id)
        if not found:
            raise not_found("Actor run")
        return found[0]

    async def wait(self, run: Run, wait_secs: float, *, longest_secs: float = MAX_WAIT_SECS) -> Run:
        """The run once it is over, or as it is after ``wait_secs`` (at most ``longest_secs``)."""
        if run.status in TERMINAL_STATUSES or wait_secs <= 0:
            return run
        deadline = self._clock.now_ms() + round(min(wait_secs, longest_secs) * 1000)

        async def op(tx: Tx) -> Run | None:
            return await jobs.get_run(tx, run.id)

        async with self._signals.listen(job_topic(run.id)) as changed:
            while True:
                current = await self._db.read("wait for run", op)
                if current is None:
                    raise not_found("Actor run")
                if current.status in TERMINAL_STATUSES:
                    return current
                changed.clear()
                if not await wait_until(self._clock, changed, deadline):
                    return current

    async def abort(self, run: Run, *, gracefully: bool) -> Run:
        """Ask for the end of a run; a finished one stays as it is. openapi: actorRun_abort_post."""
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Run | None:
            current = await jobs.get_run(tx, run.id, for_update=True)
            if current is None:
                return None
            return await ask_to_end(tx, current, self._settings, gracefully=gracefully, now=now)

        aborted = await self._db.write("abort run", op)
        if aborted is None:
            raise not_found("Actor run")
        if aborted.status is _S.ABORTED and run.status is not _S.ABORTED:
            await self._logs.finish(run.id)
            self._signals.send(job_topic(run.id))
        self._signals.send(run_topic(run.id))
        self._signals.send(CHILD_ABORTS_TOPIC)
        return aborted

    async def resurrect(self, run: Run, asked: StartOptions) -> Run:
        """Make a finished run READY again on its storages. openapi: PostResurrectRun."""
        check_options(asked)
        build: Build | None = None
        if asked.build is not None:
            actor = await self._actors.get(run.actor_id)
            build = await self._builds.resolve_build(actor, asked.build)
        bounds = build or (await self._builds.find(run.build_id) if asked.memory_mbytes is not None else None)
        await self._budgets.check_month(run.user_id)
        now = self._clock.now_ms()

        async def op(tx: Tx) -> tuple[Run, JobStatus, Change | None]:
            current = await jobs.get_run(tx, run.id, for_update=True)
            if current is None:
                raise not_found("Actor run")
            if current.status not in TERMINAL_STATUSES:
                raise _not_resurrected(current)
            options = resurrected_options(current, asked, bounds)
            await admit(tx, self._settings.capacity, current.user_id, options.memory_mbytes)
            counts = current.charged_event_counts
            if counts is not None and START_EVENT in counts:
                counts = with_more(current, START_EVENT, start_event_count(options.memory_mbytes))
            count = current.stats.resurrect_count + 1
            stats = msgspec.structs.replace(current.stats, resurrect_count=count, restarts_at=(), losses_at=())
            ready = await jobs.transition(
                tx,
                run.id,
                {current.status},
                _S.READY,
                event_at=now,
                finished_at=None,
                running_at=None,
                timeout_at=None,
                exit_code=None,
                wanted=Wanted.RUN,
                stop_at=None,
                stop_reason=None,
                status_message=f"The Actor has been resurrected from {current.status} status.",
                is_status_message_terminal=None,
                is_platform_message=False,
                options=options,
                stats=stats,
                charged_event_counts=counts,
                charging_stopped_at=None,
                build_id=build.id if build else current.build_id,
                build_number=build.build_number if build else current.build_number,
                queued_at=now,
                queue_rank=queue_rank(options.priority, has_parent=current.parent_run_id is not None),
            )
            if ready is None:
                raise _not_resurrected(current)
            if counts == current.charged_event_counts:
                return ready, current.status, None
            return ready, current.status, await self._charging.stop_at_limit(tx, ready, Decimal(), now)

        ready, before, stopped = await self._db.write("resurrect run", op)
        self._logs.open(run.id)
        await self._logs.platform_line(run.id, now, f"ACTOR: Resurrecting Actor run from {before} status.")
        if stopped is not None:
            await self._charging.announce(stopped)
            return stopped[1]
        self._signals.send(RUNS_TOPIC)
        return ready

    async def reboot(self, run: Run) -> Run:
        """End the run's process and start it anew. openapi: PostRebootRun."""
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Run | None:
            current = await jobs.get_run(tx, run.id, for_update=True)
            if current is None or current.status in TERMINAL_STATUSES or current.status is not _S.RUNNING:
                return current
            if current.wanted is Wanted.STOP:
                return current
            # In an open migration window a reboot means that the Actor is ready to move; after a metamorph there is
            # a new process anyway.
            pending = current.wanted in (Wanted.MIGRATE, Wanted.METAMORPH)
            wanted = current.wanted if pending else Wanted.RESTART
            return await jobs.update(tx, run.id, {_S.RUNNING}, wanted=wanted, stop_at=now)

        rebooted = await self._db.write("reboot run", op)
        if rebooted is None:
            raise not_found("Actor run")
        if rebooted.status in TERMINAL_STATUSES:
            raise finished()
        self._signals.send(run_topic(run.id))
        return rebooted

    async def update(self, run: Run, change: MessageUpdate) -> Run:
        """Replace status message and its flag, or who may read the run. openapi: actorRun_put."""
        fields: dict[str, Any] = {}
        if change.replace_message:
            message = change.status_message
            if message is not None and len(message) > _MAX_MESSAGE:
                message = message[: _MAX_MESSAGE - 3] + "..."
            fields["status_message"] = message
            fields["is_status_message_terminal"] = change.is_terminal
        if change.general_access is not None:
            fields["general_access"] = change.general_access

        async def op(tx: Tx) -> Run | None:
            current = await jobs.get_run(tx, run.id, for_update=True)
            if current is None:
                return None
            kept = {"status_message", "is_status_message_terminal"} if current.is_platform_message else set()
            changed = {name: value for name, value in fields.items() if name not in kept}
            return await jobs.update(tx, run.id, **changed) if changed else current

        updated = await self._db.write("update run", op)
        if updated is None:
            raise not_found("Actor run")
        return updated

    async def delete(self, run: Run) -> None:
        """Delete a finished run with its log and unnamed default storages. openapi: actorRun_delete."""

        async def op(tx: Tx) -> None:
            if not await dependents.delete_run_with_storages(tx, run.id, self._clock.now_ms()):
                raise ApiError(
                    ErrorType.CANNOT_REMOVE_RUNNING_RUN, "It is not possible to delete a run that has not finished yet."
                )

        await self._db.write("delete run", op)
        await self._logs.delete(run.id)

    async def abort_runs_of(self, *, actor_id: str | None = None, task_id: str | None = None) -> None:
        """Abort what still runs of an Actor or task that is being deleted."""

        async def op(tx: Tx) -> Sequence[Run]:
            ids = await jobs.list_unfinished_run_ids(tx, actor_id=actor_id, task_id=task_id)
            return [run for run_id in ids if (run := await jobs.get_run(tx, run_id)) is not None]

        for run in await self._db.read("unfinished runs", op):
            await self.abort(run, gracefully=False)

    async def find_run_for_events(self, run_id: str, secret: str) -> int | None:
        """The memory limit in MB of a live run with this secret, else ``None``."""

        async def op(tx: Tx) -> Run | None:
            return await jobs.get_run(tx, run_id)

        run = await self._db.read("find run for events", op)
        if run is None or run.status in TERMINAL_STATUSES:
            return None
        return run.options.memory_mbytes if hmac.compare_digest(run.events_secret, secret) else None
