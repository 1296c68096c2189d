"""What a token with a scope may do: the one place that decides, before any handler does anything.

A call is looked up in ``domain/scope_rules.py``; what is not there is refused. Runs with limited permissions have
gates of their own: ``services/permissions.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.models import Actor, Build, Run, Task
from actorium.domain.schedules import Schedule
from actorium.domain.scope_rules import OPEN, STORAGE_OF_KIND, Names, Rule, rule_of
from actorium.domain.storages import Reference, Storage, StorageKind, name_key
from actorium.domain.token_scopes import HeldScope, ResourceKind, Right, RunAccess, TokenScope
from actorium.domain.webhooks import Dispatch, Webhook
from actorium.services.access import Principal
from actorium.services.permissions import insufficient
from actorium.storage import storages, token_claims
from actorium.storage.db import Database, Tx

_K, _R = ResourceKind, Right
_ACTOR, _TASK, _RUN = "actorId", "actorTaskId", "runId"


def may_use_standby(scope: TokenScope, actor_id: str, task_id: str | None) -> bool:
    """Whether a scope lets its token call a Standby server, whose runs have all rights of their user."""
    return (
        scope.run_access is RunAccess.FULL
        and scope.allows(_K.ACTORS, _R.RUN, actor_id)
        and (task_id is None or scope.allows(_K.TASKS, _R.READ, task_id))
    )


class Lookups(msgspec.Struct, frozen=True):
    """How the services find what a caller may see; each raises 404 for what is hidden."""

    actor: Callable[[Principal, str], Awaitable[Actor]]
    task: Callable[[Principal, str], Awaitable[Task]]
    run: Callable[[Principal, str], Awaitable[Run]]
    build: Callable[[Principal, str], Awaitable[Build]]
    storage: Callable[[Principal, StorageKind, str], Awaitable[Storage]]
    schedule: Callable[[Principal, str], Awaitable[Schedule]]
    webhook: Callable[[Principal, str], Awaitable[Webhook]]
    dispatch: Callable[[Principal, str], Awaitable[Dispatch]]


class Asked(Protocol):
    """A call, as far as its rights depend on it. ``path`` gets ids for what was found by a name."""

    @property
    def path(self) -> dict[str, str]:
        """Values of the path's parameters."""
        ...

    def parameter(self, name: str) -> str | None:
        """A value of the query."""
        ...

    async def json_object(self) -> dict[str, Any]:
        """The body."""
        ...


class ScopeGate:
    """Refuses what a token's scope does not allow, with 403 ``insufficient-permissions``."""

    def __init__(self, db: Database, lookups: Lookups) -> None:
        self._db = db
        self._find = lookups

    async def check(self, principal: Principal, held: HeldScope, operation_id: str, asked: Asked) -> None:
        """Refuse a call unless the scope allows it. Raises 403, or 404 for what is not there."""
        if operation_id in OPEN:
            return
        rule = rule_of(operation_id)
        if rule is None:
            raise insufficient("this operation is not open to tokens with a scope.")
        call = _Call(principal, held, rule, operation_id)
        if not await self._allows(call, asked):
            raise insufficient(f"the scope of this token lacks the right {rule.right} of these {rule.kind}.")
        await self._check_body(call, asked)

    async def resolved(self, principal: Principal, scope: TokenScope) -> TokenScope:
        """A scope whose resources are named by their ids. Raises 404 for one that is not there."""
        resources = [
            msgspec.structs.replace(grant, id=await self._id_of(principal, grant.type, grant.id))
            for grant in scope.resources
        ]
        return msgspec.structs.replace(scope, resources=tuple(resources))

    async def _id_of(self, principal: Principal, kind: ResourceKind, text: str) -> str:
        match kind:
            case _K.ACTORS:
                return (await self._find.actor(principal, text)).id
            case _K.TASKS:
                return (await self._find.task(principal, text)).id
            case _K.SCHEDULES:
                return (await self._find.schedule(principal, text)).id
            case _K.WEBHOOKS:
                return (await self._find.webhook(principal, text)).id
            case _:
                return (await self._find.storage(principal, STORAGE_OF_KIND[kind][0], text)).id

    async def _allows(self, call: _Call, asked: Asked) -> bool:
        rule, principal, path, find = call.rule, call.principal, asked.path, self._find
        match rule.names:
            case Names.NOTHING:
                return await self._of_all(call, asked)
            case Names.ACTOR:
                actor = await find.actor(principal, path[_ACTOR])
                path[_ACTOR] = actor.id
                return self._of_actor(call, actor)
            case Names.LAST_OF_ACTOR | Names.STORAGE_OF_LAST_OF_ACTOR:
                actor = await find.actor(principal, path[_ACTOR])
                path[_ACTOR] = actor.id
                return self._of_last(call, actor.id, None)
            case Names.TASK:
                task = await find.task(principal, path[_TASK])
                path[_TASK] = task.id
                return await self._of_task(call, task)
            case Names.LAST_OF_TASK | Names.STORAGE_OF_LAST_OF_TASK:
                task = await find.task(principal, path[_TASK])
                path[_TASK] = task.id
                return self._of_last(call, task.actor_id, task.id)
            case Names.RUN:
                return await self._of_run(call, await find.run(principal, path[_RUN]), rule.right)
            case Names.RUN_TO_RENEW:
                return await self._may_renew(call, await find.run(principal, path[_RUN]), asked)
            case Names.BUILD:
                return await self._of_build(call, await find.build(principal, path["buildId"]))
            case Names.RUN_OR_BUILD:
                return await self._of_run_or_build(call, path["buildOrRunId"])
            case Names.SCHEDULE:
                schedule = await find.schedule(principal, path["scheduleId"])
                path["scheduleId"] = schedule.id
                return await self._has(call, schedule.id)
            case Names.WEBHOOK:
                return await self._has(call, path["webhookId"])
            case Names.DISPATCH:
                return await self._has(call, (await find.dispatch(principal, path["dispatchId"])).webhook_id)
            case Names.STORAGE:
                return await self._of_named_storage(call, path)
            case Names.STORAGE_OF_RUN:
                run = await find.run(principal, path[_RUN])
                storage_id = {
                    _K.DATASETS: run.default_dataset_id,
                    _K.KEY_VALUE_STORES: run.default_key_value_store_id,
                    _K.REQUEST_QUEUES: run.default_request_queue_id,
                }[rule.kind]
                return await self._has(call, storage_id) or await self._of_run_storage(call, run)

    async def _of_all(self, call: _Call, asked: Asked) -> bool:
        name = asked.parameter("name")
        if call.rule.right is _R.CREATE and call.rule.kind in STORAGE_OF_KIND and name:
            found = await self._own_storage(call, name)
            if found is not None:
                reading = msgspec.structs.replace(call.rule, right=_R.READ)
                return await self._has(msgspec.structs.replace(call, rule=reading), found.id)
        return call.held.scope.allows(call.rule.kind, call.rule.right)

    async def _own_storage(self, call: _Call, name: str) -> Storage | None:
        reference = Reference(name, name_key=name_key(name), owner_id=call.principal.user_id)

        async def op(tx: Tx) -> Storage | None:
            return await storages.find(tx, STORAGE_OF_KIND[call.rule.kind][0], reference)

        return await self._db.read("find storage by name", op)

    async def _of_named_storage(self, call: _Call, path: dict[str, str]) -> bool:
        kind, parameter = STORAGE_OF_KIND[call.rule.kind]
        storage = await self._find.storage(call.principal, kind, path[parameter])
        if not call.principal.owns(storage.user_id):
            return True  # its owner decides, as for anybody
        path[parameter] = storage.id
        return await self._of_storage(call, storage)

    async def _has(self, call: _Call, resource_id: str) -> bool:
        """Whether the scope gives the right of one resource, or the token has created it."""
        if call.held.scope.allows(call.rule.kind, call.rule.right, resource_id):
            return True
        return await self._has_created(call, resource_id)

    async def _has_created(self, call: _Call, *resource_ids: str) -> bool:
        async def op(tx: Tx) -> bool:
            return await token_claims.is_any(tx, call.held.token_id, resource_ids)

        return await self._db.read("is created with token", op)

    def _of_actor(self, call: _Call, actor: Actor) -> bool:
        if call.rule.kind is _K.WEBHOOKS:
            return call.held.scope.allows(_K.WEBHOOKS, _R.READ)
        if call.rule.right is _R.READ and not call.principal.owns(actor.user_id):
            return True
        return call.held.scope.allows(_K.ACTORS, call.rule.right, actor.id)

    async def _of_task(self, call: _Call, task: Task) -> bool:
        scope, right = call.held.scope, call.rule.right
        if call.rule.kind is _K.WEBHOOKS:
            return scope.allows(_K.WEBHOOKS, _R.READ)
        if right is _R.RUN:
            may_read = scope.allows(_K.TASKS, _R.READ, task.id) or await self._has_created(call, task.id)
            return may_read and scope.allows(_K.ACTORS, _R.RUN, task.actor_id)
        if right is _R.VIEW_RUNS and scope.allows(_K.ACTORS, _R.VIEW_RUNS, task.actor_id):
            return True
        return await self._has(call, task.id)

    def _of_last(self, call: _Call, actor_id: str, task_id: str | None) -> bool:
        """Whether the scope reaches any run of an Actor or task, which the last one may be."""
        scope, right = call.held.scope, call.rule.right
        if call.rule.kind is not _K.ACTORS:
            if scope.allows(call.rule.kind, right):
                return True
            if not scope.run_storages:
                return False
            right = _R.VIEW_RUNS if right is _R.READ else _R.RUN
        return _may_handle(scope, right, actor_id, task_id)

    async def _of_run(self, call: _Call, run: Run, right: Right) -> bool:
        if call.principal.run_id == run.id or (right is _R.VIEW_RUNS and not call.principal.owns(run.user_id)):
            return True
        return _may_handle(call.held.scope, right, run.actor_id, run.task_id) or await self._has_created(call, run.id)

    async def _may_renew(self, call: _Call, run: Run, asked: Asked) -> bool:
        """Whether a finished run may begin again, or a live one become another Actor's, and with that token go on."""
        target = asked.parameter("targetActorId")
        if target is not None:
            actor = await self._find.actor(call.principal, target)
            if not call.held.scope.allows(_K.ACTORS, _R.RUN, actor.id):
                return False
        if call.held.scope.run_access is RunAccess.RESTRICTED:
            # Any other run may have a token that can do more than this one.
            return call.principal.run_id == run.id or await self._has_created(call, run.id)
        return await self._of_run(call, run, _R.RUN)

    async def _of_build(self, call: _Call, build: Build) -> bool:
        if call.rule.right is _R.READ and not call.principal.owns(build.user_id):
            return True
        if call.held.scope.allows(_K.ACTORS, call.rule.right, build.actor_id):
            return True
        return await self._has_created(call, build.id)

    async def _of_run_or_build(self, call: _Call, text: str) -> bool:
        try:
            run = await self._find.run(call.principal, text)
        except ApiError as error:
            if error.type is not ErrorType.RECORD_NOT_FOUND:
                raise
            build = await self._find.build(call.principal, text)
            return await self._of_build(_Call(call.principal, call.held, _READS_ACTOR, call.operation_id), build)
        return await self._of_run(call, run, _R.VIEW_RUNS)

    async def _of_storage(self, call: _Call, storage: Storage) -> bool:
        if await self._has(call, storage.id):
            return True
        if storage.run_id is None:
            return False
        if storage.run_id == call.principal.run_id:
            return True
        try:
            run = await self._find.run(call.principal, storage.run_id)
        except ApiError:
            return False
        return await self._of_run_storage(call, run)

    async def _of_run_storage(self, call: _Call, run: Run) -> bool:
        if call.principal.run_id == run.id:
            return True
        right = _R.VIEW_RUNS if call.rule.right is _R.READ else _R.RUN
        return call.held.scope.run_storages and await self._of_run(call, run, right)

    async def _check_body(self, call: _Call, asked: Asked) -> None:
        """Refuse what a call would reach through its body: what schedules start, and whose events webhooks get."""
        scope = call.held.scope
        if call.operation_id in ("schedules_post", "schedule_put"):
            body = await asked.json_object()
            given = body.get("actions")
            for action in given if isinstance(given, list) else []:
                if isinstance(action, dict):
                    await self._check_action(call, action)
        elif call.operation_id in ("webhooks_post", "webhook_put"):
            body = await asked.json_object()
            condition = body.get("condition")
            if isinstance(condition, dict) and not await self._may_watch(call, condition):
                raise insufficient("the scope of this token lacks the right VIEW_RUNS of what the webhook is for.")
        elif asked.parameter("webhooks") and not scope.allows(_K.WEBHOOKS, _R.CREATE):
            raise insufficient("the scope of this token lacks the right CREATE of webhooks.")

    async def _check_action(self, call: _Call, action: Mapping[str, Any]) -> None:
        """A schedule starts its runs with all rights of its user, so its token needs the right to start them."""
        scope = call.held.scope
        actor_id, task = action.get("actorId"), action.get("actorTaskId")
        if isinstance(task, str):
            found = await self._find.task(call.principal, task)
            actor_id = found.actor_id
            if not scope.allows(_K.TASKS, _R.READ, found.id) and not await self._has_created(call, found.id):
                raise insufficient("the scope of this token lacks the right READ of a task of the schedule.")
        elif isinstance(actor_id, str):
            actor_id = (await self._find.actor(call.principal, actor_id)).id
        if not isinstance(actor_id, str) or not scope.allows(_K.ACTORS, _R.RUN, actor_id):
            raise insufficient("the scope of this token lacks the right RUN of an Actor of the schedule.")
        if scope.run_access is RunAccess.RESTRICTED:
            raise insufficient("runs of schedules have all rights of their user, which this token must not give.")

    async def _may_watch(self, call: _Call, condition: Mapping[str, Any]) -> bool:
        scope = call.held.scope
        for name, target in condition.items():
            if not isinstance(target, str):
                continue
            if name == "actorRunId":
                try:
                    run = await self._find.run(call.principal, target)
                except ApiError:
                    return False
                if not await self._of_run(call, run, _R.VIEW_RUNS):
                    return False
            elif not scope.allows(_K.ACTORS if name == "actorId" else _K.TASKS, _R.VIEW_RUNS, target):
                return False
        return True


class _Call(msgspec.Struct, frozen=True):
    """A call and what is asked of its scope."""

    principal: Principal
    held: HeldScope
    rule: Rule
    operation_id: str


def _may_handle(scope: TokenScope, right: Right, actor_id: str, task_id: str | None) -> bool:
    """Whether a scope has a right of all runs of an Actor or task; who changes runs is shown them, too."""
    may_view = scope.allows(_K.ACTORS, _R.VIEW_RUNS, actor_id) or (
        task_id is not None and scope.allows(_K.TASKS, _R.VIEW_RUNS, task_id)
    )
    return may_view and (right is _R.VIEW_RUNS or scope.allows(_K.ACTORS, right, actor_id))


_READS_ACTOR = Rule(_K.ACTORS, _R.READ)
