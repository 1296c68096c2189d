"""Tasks: resolve, create, read, update, list, delete, start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from actorium.domain.actors import DEFAULT_STANDBY, MAX_NAME, check_name, merge_standby, merge_task_options
from actorium.domain.errors import ApiError, ErrorType, invalid, not_found
from actorium.domain.inputs import RunInput, complete_input
from actorium.domain.models import Actor, Build, ListedTask, Meta, Run, Task
from actorium.domain.task_publication import (
    MAX_PUBLIC_TASKS,
    check_public_config,
    check_publishable_task,
    too_many_public_tasks,
)
from actorium.domain.tasks import (
    MAX_TASKS,
    as_run_input,
    check_input,
    check_texts,
    free_name,
    joined_input,
    prefilled,
    title_of,
)
from actorium.kit import Clock, new_id
from actorium.services.access import Principal
from actorium.services.run_inputs import RunInputs
from actorium.services.run_options import StartOptions, over_task
from actorium.services.run_starts import RunStarts, Scheduled
from actorium.storage import catalog, dependents, tasks
from actorium.storage.db import Database, Tx, UniqueViolationError

_NAME_PREFIX = MAX_NAME - len(f"-task-{MAX_TASKS}")
"""How much of an Actor's name every name made for a task of it begins with."""


class ActorLookup(Protocol):
    """The part of the Actors service tasks need."""

    async def resolve(self, principal: Principal | None, reference: str) -> Actor:
        """The Actor a reference means. Raises 404."""
        ...


class BuildLookup(Protocol):
    """The part of the builds service tasks need."""

    async def resolve_build(self, actor: Actor, tag_or_number: str) -> Build:
        """The finished build of a tag or number. Raises 403 as the platform does."""
        ...


class Tasks:
    """The task service. ``abort_runs_of`` ends what still runs of a task that is deleted."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        actors: ActorLookup,
        builds: BuildLookup,
        inputs: RunInputs,
        starts: RunStarts,
        abort_runs_of: Callable[[str], Awaitable[None]],
    ) -> None:
        self._db = db
        self._clock = clock
        self._actors = actors
        self._builds = builds
        self._inputs = inputs
        self._starts = starts
        self._abort_runs_of = abort_runs_of

    async def resolve(self, principal: Principal, reference: str) -> Task:
        """The caller's task that an id, ``user~name``, ``userId~name``, ``~name`` or bare name means. Raises 404."""
        separator = "/" if "/" in reference else "~"
        owner, found, name = reference.partition(separator)
        if found and not name:
            raise invalid("Resource name parameter cannot be empty")

        async def op(tx: Tx) -> Task | None:
            if found:
                return await tasks.find_task(tx, owner or principal.user_id, name)
            by_id = await tasks.get_task(tx, reference)
            return by_id or await tasks.find_task(tx, principal.user_id, reference)

        task = await self._db.read("resolve task", op)
        if task is None or not principal.owns(task.user_id):
            raise not_found("Actor task")
        return task

    async def list(
        self, principal: Principal, *, offset: int, limit: int, desc: bool
    ) -> tuple[Sequence[ListedTask], int]:
        """A page of the caller's tasks by their creation, and their total number."""

        async def op(tx: Tx) -> tuple[Sequence[ListedTask], int]:
            return await tasks.list_tasks(tx, principal.user_id, offset=offset, limit=limit, desc=desc)

        return await self._db.read("list tasks", op)

    async def create(self, principal: Principal, body: dict[str, Any]) -> Task:
        """A new task. openapi: actorTasks_post.

        Raises 403 when there is no build to run, 400 for an input the build refuses, 409 for a name that is taken.
        """
        reference = body.get("actId")
        if not isinstance(reference, str) or not reference:
            raise invalid("Field actId is required and must be the id or name of an Actor.")
        name = check_name(body["name"]) if body.get("name") is not None else None
        fields = check_texts(body)
        options = merge_task_options({}, body.get("options")) or None
        given = body.get("input")
        task_input = None if given is None else check_input(given)
        actor = await self._actors.resolve(principal, reference)
        if body.get("actorStandby"):
            fields["actorStandby"] = merge_standby(_standby_of(actor), body["actorStandby"])
        if body.get("publicConfig"):
            fields["publicConfig"] = check_public_config(body["publicConfig"])
        is_public = bool(body.get("isPublic"))
        if is_public:
            _check_publisher(principal, actor)
        build = await self._build(actor, options)
        if task_input is None:
            task_input = prefilled(build.input_schema)
        else:
            _check_against(build, task_input)
        if task_input:
            task_input = (await self._inputs.encryption(principal.user_id, actor.id, build))(task_input)
        task_id, now = new_id(), self._clock.now_ms()

        async def op(tx: Tx) -> Task:
            if await tasks.count_tasks(tx, principal.user_id) >= MAX_TASKS:
                raise ApiError(ErrorType.TOO_MANY_ACTOR_TASKS, f"You cannot have more than {MAX_TASKS} tasks.")
            if name is not None and await tasks.find_task(tx, principal.user_id, name) is not None:
                raise _name_taken(name)
            chosen = name or free_name(
                actor.name, await tasks.taken_names(tx, principal.user_id, actor.name[:_NAME_PREFIX])
            )
            task = Task(
                id=task_id,
                user_id=principal.user_id,
                actor_id=actor.id,
                name=chosen,
                created_at=now,
                modified_at=now,
                options=options,
                input=task_input,
                fields={**fields, "title": fields.get("title") or title_of(chosen)},
                published_at=now if is_public else None,
            )
            if is_public:
                await _check_publication(tx, task, build, is_new=True)
            await tasks.insert_task(tx, task)
            return task

        try:
            return await self._db.write("create task", op)
        except UniqueViolationError as error:
            raise _name_taken(name or "") from error

    async def update(self, principal: Principal, task: Task, body: dict[str, Any]) -> Task:
        """Change what the body names; ``null`` clears options, input and actorStandby. openapi: actorTask_put."""
        name = check_name(body["name"]) if body.get("name") is not None else None
        fields = check_texts(body)
        given = body.get("input")
        task_input = None if given is None else check_input(given)
        merge_task_options({}, body.get("options"))
        config = check_public_config(body.get("publicConfig"))
        actor, build = await self._runnable(principal, task, body)
        is_public, now = body.get("isPublic"), self._clock.now_ms()
        shown = await self._shown_build(principal, task, body)

        def changed(current: Task) -> Task:
            options, kept_input, standby = current.options, current.input, current.fields.get("actorStandby")
            if "options" in body:
                cleared = body["options"] is None
                options = None if cleared else merge_task_options(options or {}, body["options"]) or None
            if "input" in body:
                kept_input = task_input
            if "actorStandby" in body and body["actorStandby"] is None:
                standby = None
            elif body.get("actorStandby"):
                standby = merge_standby(standby or (_standby_of(actor) if actor else {}), body["actorStandby"])
            published_at = current.published_at
            if is_public is not None:
                published_at = (published_at or now) if is_public else None
            changes = {**fields, "actorStandby": standby}
            if "publicConfig" in body:
                kept = current.fields.get("publicConfig") or {}
                changes["publicConfig"] = None if config is None else {**kept, **config}
            return msgspec.structs.replace(
                current,
                name=name or current.name,
                options=options,
                input=kept_input,
                fields={**current.fields, **changes},
                published_at=published_at,
            )

        return await self._edit(task, build, changed, name, shown)

    async def update_input(self, principal: Principal, task: Task, given: object) -> Task:
        """Put the keys of ``given`` into the task's input. openapi: actorTask_input_put."""
        keys = check_input(given)
        _, build = await self._runnable(principal, task, {"input": keys})

        def changed(current: Task) -> Task:
            return msgspec.structs.replace(current, input={**(current.input or {}), **keys})

        return await self._edit(task, build, changed, None, None)

    async def _runnable(
        self, principal: Principal, task: Task, body: dict[str, Any]
    ) -> tuple[Actor | None, Build | None]:
        """The Actor and build that a change of input, build or Standby has to fit; nothing where nothing is to fit."""
        given_options = body.get("options") or {}
        if not (body.get("input") is not None or "build" in given_options or body.get("actorStandby")):
            return None, None
        actor = await self._actors.resolve(principal, task.actor_id)
        if body.get("input") is None and "build" not in given_options:
            return actor, None
        return actor, await self._build(actor, merge_task_options(task.options or {}, given_options))

    async def _shown_build(self, principal: Principal, task: Task, body: dict[str, Any]) -> Build | None:
        """The build whose fields and views a public task shows, where a change makes or touches a public one."""
        is_public = body.get("isPublic")
        is_touched = "description" in body or body.get("publicConfig", {}) != {}
        if not is_public and (is_public is False or task.published_at is None or not is_touched):
            return None
        actor = await self._actors.resolve(principal, task.actor_id)
        _check_publisher(principal, actor)
        return await self._build(actor, merge_task_options(task.options or {}, body.get("options")))

    async def _build(self, actor: Actor, options: dict[str, Any] | None) -> Build:
        chosen = (options or {}).get("build") or actor.default_build
        return await self._builds.resolve_build(actor, chosen)

    async def _edit(
        self,
        task: Task,
        build: Build | None,
        changed: Callable[[Task], Task],
        name: str | None,
        shown: Build | None,
    ) -> Task:
        now = self._clock.now_ms()
        encrypt = await self._inputs.encryption(task.user_id, task.actor_id, build)

        async def op(tx: Tx) -> Task:
            current = await tasks.get_task(tx, task.id, for_update=True)
            if current is None:
                raise not_found("Actor task")
            after = msgspec.structs.replace(changed(current), modified_at=now)
            is_new = current.published_at is None
            if shown is not None and after.published_at is not None and (is_new or after.fields != current.fields):
                await _check_publication(tx, after, shown, is_new=is_new)
            if build is not None and after.input is not None:
                _check_against(build, after.input)
                after = msgspec.structs.replace(after, input=encrypt(after.input))
            await tasks.update_task(tx, after)
            return after

        try:
            return await self._db.write("update task", op)
        except UniqueViolationError as error:
            raise _name_taken(name or "") from error

    async def delete(self, task: Task) -> None:
        """Delete a task; its runs that are not over are aborted, all of them stay."""
        await self._abort_runs_of(task.id)
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Task:
            await dependents.drop_dependents_of_task(tx, task.id, now)
            await tasks.delete_task(tx, task.id)
            return task

        await self._db.write("delete task", op)

    async def start(
        self,
        principal: Principal,
        reference: str,
        asked: StartOptions,
        body: RunInput | None,
        meta: Meta,
        *,
        scheduled: Scheduled | None = None,
    ) -> Run:
        """Start a run of a task: what the call asks for goes over the task's options, its body over the input."""
        task = await self.resolve(principal, reference)
        stored = joined_input(task.input, body)
        merged = over_task(asked, task.options or {})
        return await self._starts.start(
            principal, task.actor_id, merged, stored, meta, task_id=task.id, scheduled=scheduled
        )


def _standby_of(actor: Actor) -> dict[str, Any]:
    return actor.fields.get("actorStandby") or DEFAULT_STANDBY


def _check_publisher(principal: Principal, actor: Actor) -> None:
    if not principal.owns(actor.user_id):
        raise ApiError(ErrorType.INSUFFICIENT_PERMISSIONS, "You do not have permission to publish tasks of this Actor.")


async def _check_publication(tx: Tx, task: Task, build: Build, *, is_new: bool) -> None:
    actor = await catalog.get_actor(tx, task.actor_id, for_update=True)
    if actor is None:
        raise not_found("Actor")
    check_publishable_task(task, actor, build)
    if is_new and await tasks.count_public_tasks(tx, actor.id) >= MAX_PUBLIC_TASKS:
        raise too_many_public_tasks()


def _check_against(build: Build, task_input: dict[str, Any]) -> None:
    complete_input(build.input_schema, as_run_input(task_input))


def _name_taken(name: str) -> ApiError:
    return ApiError(ErrorType.ACTOR_TASK_NAME_NOT_UNIQUE, f"Task name {name!r} is already used by another task.")
