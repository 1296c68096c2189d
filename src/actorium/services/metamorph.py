"""Metamorph: a run goes on as a run of another Actor, on the same storages. docs: runs, section 4.9."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from actorium.domain.actor_prices import PricingModel, in_force
from actorium.domain.errors import ApiError, ErrorType, not_found
from actorium.domain.inputs import RunInput
from actorium.domain.models import (
    TERMINAL_STATUSES,
    Actor,
    Build,
    JobStatus,
    Metamorph,
    Run,
    Wanted,
    metamorph_input_key,
)
from actorium.kit import Clock, Signals
from actorium.services.access import Principal
from actorium.services.permissions import check_start, grants_of, level_after_metamorph, merged_grants
from actorium.services.run_inputs import RunInputs
from actorium.services.run_options import RunSettings, StartOptions, chosen_build
from actorium.services.runs import finished
from actorium.services.topics import run_topic
from actorium.storage import jobs, key_value_stores, run_counts
from actorium.storage.db import Database, Tx

MAX_METAMORPHS = 10
"""Of one run. docs: runs, section 4.9."""


class ActorLookup(Protocol):
    """The part of the Actors service a metamorph needs."""

    async def resolve(self, principal: Principal | None, reference: str) -> Actor:
        """The Actor a reference means. Raises 404."""
        ...


class BuildLookup(Protocol):
    """The part of the builds service a metamorph needs."""

    async def resolve_build(self, actor: Actor, tag_or_number: str) -> Build:
        """The finished build of a tag or number. Raises 403 as the platform does."""
        ...


class LogWriting(Protocol):
    """The part of the log store a metamorph needs."""

    async def platform_line(self, job_id: str, at_ms: int, text: str) -> None:
        """A line of the platform's own."""
        ...


class Metamorphs:
    """Turns runs into runs of other Actors. ``forget_tokens`` makes a run's token know its new level at once."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        signals: Signals,
        actors: ActorLookup,
        builds: BuildLookup,
        inputs: RunInputs,
        logs: LogWriting,
        settings: RunSettings,
        forget_tokens: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._forget_tokens = forget_tokens
        self._db = db
        self._clock = clock
        self._signals = signals
        self._actors = actors
        self._builds = builds
        self._inputs = inputs
        self._logs = logs

    async def metamorph(
        self, principal: Principal, run: Run, target_reference: str, tag_or_number: str | None, body: RunInput | None
    ) -> Run:
        """Make ``run`` one of the target Actor: from now on in what is shown, and as soon as its process is gone.

        Storages, memory, timeout, prices and limits of charges stay, permissions never grow. An abort under way wins:
        then nothing happens.
        """
        target = await self._actors.resolve(principal, target_reference)
        _check_prices(target, self._clock.now_ms())
        tag_or_number = chosen_build(StartOptions(build=tag_or_number), target.default_run_options)
        build = await self._builds.resolve_build(target, tag_or_number)
        prepared = await self._inputs.prepare(run.user_id, target.id, build, body)
        given = prepared.stored
        now = self._clock.now_ms()

        async def op(tx: Tx) -> tuple[Run | None, bool]:
            current = await jobs.get_run(tx, run.id, for_update=True)
            if current is None or current.status not in (JobStatus.READY, JobStatus.RUNNING):
                return current, False
            if current.wanted is Wanted.STOP:  # an idle Standby run that is being ended
                return current, False
            if len(current.metamorphs) >= MAX_METAMORPHS:
                raise ApiError(
                    ErrorType.MAX_METAMORPHS_EXCEEDED, f"A run can metamorph at most {MAX_METAMORPHS} times."
                )
            level = level_after_metamorph(current, target)
            await check_start(tx, principal, target, level, self._settings.approval_url(target.id))
            grants = await grants_of(tx, principal, level, build.input_schema, prepared.values)
            key = metamorph_input_key(len(current.metamorphs) + 1)
            if given is not None:
                store_id = current.default_key_value_store_id
                await key_value_stores.put_record(tx, store_id, key, given.content_type, given.data, now=now)
            change = Metamorph(now, target.id, build.id, None if given is None else key)
            fields: dict[str, Any] = {
                "actor_id": target.id,
                "build_id": build.id,
                "build_number": build.build_number,
                "permission_level": level,
                "storage_grants": merged_grants(current.storage_grants, grants),
                "metamorphs": (*current.metamorphs, change),
                "options": msgspec.structs.replace(current.options, build=tag_or_number),
            }
            if prepared.sealed_secrets is not None:
                fields["sealed_secrets"] = prepared.sealed_secrets
            if current.status is JobStatus.RUNNING:
                fields |= {"wanted": Wanted.METAMORPH, "stop_at": now}
            if target.id != current.actor_id:
                await run_counts.count_metamorph(tx, target.id)
            return await jobs.update(tx, run.id, {current.status}, **fields), True

        try:
            changed, is_changed = await self._db.write("metamorph run", op)
        except LookupError as error:
            raise not_found("Default key-value store of the Actor run") from error
        if changed is None:
            raise not_found("Actor run")
        if changed.status in TERMINAL_STATUSES:
            raise finished()
        if is_changed:
            self._forget_tokens()
            line = f"ACTOR: Metamorphing into Actor {target.name} ({target.id}), build {build.build_number}."
            self._signals.send(run_topic(run.id))
            await self._logs.platform_line(run.id, now, line)
        return changed


def _check_prices(target: Actor, now: int) -> None:
    """A run keeps the prices it was started with, so that nobody would pay for the items of such a target."""
    info = in_force(target.fields.get("pricingInfos") or [], now)
    if info is not None and info["pricingModel"] == PricingModel.PRICE_PER_DATASET_ITEM:
        raise ApiError(
            ErrorType.CANNOT_METAMORPH_TO_PAY_PER_RESULT_ACTOR,
            f"A run cannot metamorph into Actor {target.name}, which is paid per result: start a run of it instead.",
        )
