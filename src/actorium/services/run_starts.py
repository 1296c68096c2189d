"""Starting runs: a new run is written down as READY, with its storages and its input, in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Protocol

import msgspec

from actorium.domain.charges import counts_items, first_counts
from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.inputs import RunInput
from actorium.domain.models import (
    Actor,
    Build,
    GeneralAccess,
    JobStatus,
    Meta,
    Run,
    RunStats,
    StandbyTerms,
    StartKey,
    Wanted,
)
from actorium.domain.permissions import resolved_level
from actorium.domain.queueing import queue_rank
from actorium.domain.storages import StorageSchemas
from actorium.domain.webhook_bodies import AdHocWebhook
from actorium.domain.webhooks import Webhook
from actorium.kit import Clock, Signals, new_id, random_text
from actorium.services.access import Principal
from actorium.services.budgets import Budgets
from actorium.services.charging import Change, Charging
from actorium.services.permissions import check_start, grants_of, insufficient
from actorium.services.queueing import admit
from actorium.services.run_inputs import NO_INPUT, RunInputs
from actorium.services.run_options import (
    RunSettings,
    StartOptions,
    check_options,
    chosen_build,
    memory_by_input,
    resolve_options,
    run_pricing,
)
from actorium.services.topics import CHILD_ABORTS_TOPIC, RUNS_TOPIC
from actorium.storage import datasets, jobs, key_value_stores, start_keys, storages, webhooks
from actorium.storage.db import Database, Tx

START_KEY_MS = 24 * 3600 * 1000
"""How long a start call's key is remembered."""

_LOWER_CASE = "abcdefghijklmnopqrstuvwxyz0123456789"


class ActorLookup(Protocol):
    """The part of the Actors service a start needs."""

    async def resolve(self, principal: Principal | None, reference: str) -> Actor:
        """The Actor a reference means. Raises 404."""
        ...


class BuildLookup(Protocol):
    """The part of the builds service a start needs."""

    async def resolve_build(self, actor: Actor, tag_or_number: str) -> Build:
        """The finished build of a tag or number. Raises 403 as the platform does."""
        ...


class LogOpening(Protocol):
    """The part of the log store a start needs."""

    def open(self, job_id: str) -> None:
        """More will come."""
        ...

    async def platform_line(self, job_id: str, at_ms: int, text: str) -> None:
        """A line of the platform's own."""
        ...


class NotStartedError(Exception):
    """A schedule must not start this run: it is started already, or a run before it is not over yet."""

    def __init__(self, *, is_done_already: bool) -> None:
        super().__init__()
        self.is_done_already = is_done_already


class Scheduled(msgspec.Struct, frozen=True):
    """A start that happens once, however often it is tried: ``guard`` looks, in the start's own transaction, whether
    the run may be, and raises ``NotStartedError`` if not."""

    run_id: str
    guard: Callable[[Tx], Awaitable[None]]


class RunStarts:
    """Starts runs."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        signals: Signals,
        actors: ActorLookup,
        builds: BuildLookup,
        logs: LogOpening,
        charging: Charging,
        budgets: Budgets,
        inputs: RunInputs,
        settings: RunSettings,
    ) -> None:
        self._db = db
        self._clock = clock
        self._signals = signals
        self._actors = actors
        self._builds = builds
        self._inputs = inputs
        self._logs = logs
        self._charging = charging
        self._budgets = budgets
        self._settings = settings

    async def start(
        self,
        principal: Principal,
        actor_reference: str,
        asked: StartOptions,
        body: RunInput | None,
        meta: Meta,
        *,
        task_id: str | None = None,
        standby: StandbyTerms | None = None,
        with_input: bool = True,
        scheduled: Scheduled | None = None,
    ) -> Run:
        """Write a new run down as READY with its storages and input, all in one transaction.

        For a run of a task (``task_id``), ``asked`` and ``body`` have the task's options and input in them.
        A run of a Standby server (``standby``) may be started without any input, not even its schema's defaults.
        ``scheduled`` may end it with a ``NotStartedError``.
        """
        check_options(asked)
        if asked.webhooks and principal.scope is not None:
            raise insufficient("a run with limited permissions may not make webhooks, which act for its user.")
        actor = await self._actors.resolve(principal, actor_reference)
        if asked.debug is not None and (principal.scope is not None or not principal.owns(actor.user_id)):
            raise insufficient("a debugger sees the Actor's secrets: it is for the owner of the Actor.")
        defaults = actor.default_run_options
        if asked.debug is None and actor.dev is not None:
            asked = msgspec.structs.replace(asked, debug=actor.dev.debug)
        build = await self._builds.resolve_build(actor, chosen_build(asked, defaults))
        given = NO_INPUT
        if with_input:
            given = await self._inputs.prepare(principal.user_id, actor.id, build, body)
        memory, warning = memory_by_input(asked, defaults, build, given.values)
        options = resolve_options(asked, defaults, build, self._settings, memory)
        now = self._clock.now_ms()
        pricing_info = run_pricing(actor, options, now)
        counts = first_counts(pricing_info, options.memory_mbytes)
        stored = given.stored
        schemas = StorageSchemas.of(build.actor_definition)
        await self._budgets.check_month(principal.user_id)
        level = resolved_level(asked.force_permission_level, defaults, actor.fields.get("actorPermissionLevel"))
        run_id = new_id() if scheduled is None else scheduled.run_id

        async def op(tx: Tx) -> tuple[Run, Change | None]:
            if scheduled is not None:
                await scheduled.guard(tx)
            await check_start(tx, principal, actor, level, self._settings.approval_url(actor.id))
            grants = await grants_of(tx, principal, level, build.input_schema, given.values)
            if (started := await _started_before(tx, principal.user_id, asked.start_key, run_id, now)) is not None:
                return started, None
            await admit(tx, self._settings.capacity, principal.user_id, options.memory_mbytes)
            parent = await self._parent(tx, principal.run_id, now)
            ids = await storages.create_default_storages(
                tx,
                run_id=run_id,
                actor_id=actor.id,
                user_id=principal.user_id,
                now=now,
                schemas=schemas,
                starter_actor_id=principal.actor_id,
            )
            if stored is not None:
                await key_value_stores.put_record(
                    tx, ids.key_value_store, "INPUT", stored.content_type, stored.data, now=now
                )
            run = Run(
                id=run_id,
                user_id=principal.user_id,
                actor_id=actor.id,
                task_id=task_id,
                build_id=build.id,
                build_number=build.build_number,
                status=JobStatus.READY,
                started_at=now,
                finished_at=None,
                running_at=None,
                timeout_at=None,
                wanted=Wanted.RUN,
                stop_at=None,
                stop_reason=None,
                status_message=None,
                is_status_message_terminal=None,
                is_platform_message=False,
                exit_code=None,
                meta=meta,
                options=options,
                stats=RunStats(input_body_len=len(stored.data) if stored else 0),
                general_access=GeneralAccess.FOLLOW_USER_SETTING,
                default_dataset_id=ids.dataset,
                default_key_value_store_id=ids.key_value_store,
                default_request_queue_id=ids.request_queue,
                storage_ids=ids.by_alias(),
                container_slug=random_text(12, _LOWER_CASE),
                events_secret=random_text(32),
                workflow_key=meta.workflow_key or (parent.workflow_key if parent is not None else random_text(17)),
                queued_at=now,
                queue_rank=queue_rank(options.priority, has_parent=principal.run_id is not None),
                parent_run_id=principal.run_id,
                pricing_info=pricing_info,
                charged_event_counts=counts,
                sealed_secrets=given.sealed_secrets,
                permission_level=level,
                storage_grants=grants,
                standby=standby,
            )
            for webhook in asked.webhooks:
                await webhooks.insert_webhook(tx, _ad_hoc(webhook, run))
            await jobs.insert_run(tx, run)
            if counts_items(counts):
                await datasets.charge_run(tx, ids.dataset, run_id)
            return run, await self._charging.stop_at_limit(tx, run, Decimal(), now)

        run, stopped = await self._db.write("start run", op)
        if run.id != run_id:
            return run
        self._logs.open(run.id)
        if warning is not None:
            await self._logs.platform_line(run.id, now, f"ACTOR: WARNING: {warning}")
        if stopped is not None:
            await self._charging.announce(stopped)
            return stopped[1]
        self._signals.send(RUNS_TOPIC)
        if run.parent_run_id is not None:
            self._signals.send(CHILD_ABORTS_TOPIC)
        return run

    async def _parent(self, tx: Tx, run_id: str | None, now: int) -> Run | None:
        """The run that starts another one; one that is being aborted takes the new run with it."""
        if run_id is None:
            return None
        with_children = self._settings.abort_children_with_parent
        parent = await jobs.get_run(tx, run_id, for_update=with_children)
        if parent is not None and with_children and parent.status in (JobStatus.ABORTING, JobStatus.ABORTED):
            await jobs.want_children_aborted(tx, parent, now)
        return parent


async def _started_before(tx: Tx, user_id: str, key: StartKey | None, run_id: str, now: int) -> Run | None:
    """The run an earlier call with the same key started; without one, the key is kept for ``run_id``."""
    if key is None:
        return None
    known = await start_keys.claim(tx, user_id, key, run_id, now, now - START_KEY_MS)
    if known is None or known.run_id is None:
        return None
    if known.fingerprint != key.fingerprint:
        raise ApiError(
            ErrorType.INVALID_IDEMPOTENCY_KEY,
            f"Header Idempotency-Key has the value {key.text!r}, with which another call started the run "
            f"{known.run_id}: the same key is for the same path, query and body. Use a new key.",
            {"runId": known.run_id},
        )
    return await jobs.get_run(tx, known.run_id)


def _ad_hoc(given: AdHocWebhook, run: Run) -> Webhook:
    return Webhook(
        id=new_id(),
        user_id=run.user_id,
        created_at=run.started_at,
        modified_at=run.started_at,
        is_ad_hoc=True,
        condition="actorRunId",
        condition_id=run.id,
        idempotency_key=given.idempotency_key,
        fields=given.fields,
    )
