"""A run's default storages under the run's own paths: the storage routes once more, with the id filled in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import msgspec
from starlette.responses import Response

from actorium.api.http import Call, Handler, Route
from actorium.api.runs import RunRoutes
from actorium.api.storages import WORDS
from actorium.domain.models import Run
from actorium.domain.storages import DefaultStorageIds, StorageKind

ResolveRun = Callable[[Call], Awaitable[DefaultStorageIds]]
"""Finds the run a call's path means, checks that the caller may see it, and returns its storages."""

_SEGMENTS = {
    StorageKind.DATASET: "dataset",
    StorageKind.KEY_VALUE_STORE: "key-value-store",
    StorageKind.REQUEST_QUEUE: "request-queue",
}

LAST_RUN_FILTERS = ("status", "origin")
"""Query parameters that choose the last run; clients send them along on every call below it."""


def default_storages(targets: Iterable[Route], runs: RunRoutes) -> list[Route]:
    """Every alias of the storage routes ``targets``, under each path that means a run."""
    targets = tuple(targets)
    return [
        *storage_aliases("/v2/actor-runs/{runId}", "actorRun", targets, _storages_of(runs.find)),
        *storage_aliases("/v2/actors/{actorId}/runs/last", "actor_runs_last", targets, _storages_of(runs.last_run)),
        *storage_aliases(
            "/v2/actor-tasks/{actorTaskId}/runs/last",
            "actorTask_runs_last",
            targets,
            _storages_of(runs.last_run_of_task),
        ),
    ]


def _storages_of(find_run: Callable[[Call], Awaitable[Run]]) -> ResolveRun:
    async def resolve(call: Call) -> DefaultStorageIds:
        run = await find_run(call)
        return DefaultStorageIds(run.default_dataset_id, run.default_key_value_store_id, run.default_request_queue_id)

    return resolve


def storage_aliases(
    prefix: str, operation_prefix: str, targets: Iterable[Route], resolve_run: ResolveRun
) -> list[Route]:
    """The routes of single storages in ``targets`` below ``prefix``, such as ``/v2/actor-runs/{runId}``.

    ``operation_prefix`` starts the operation ids: ``actorRun`` makes ``actorRun_dataset_items_get``.
    Collections (``/v2/datasets``) have no alias; HEAD is served by the GET alias.
    """
    routes = []
    for target in targets:
        for kind, words in WORDS.items():
            base = f"/v2/{words.path}/{{{words.parameter}}}"
            if target.method != "HEAD" and (target.path == base or target.path.startswith(base + "/")):
                path = f"{prefix}/{_SEGMENTS[kind]}{target.path.removeprefix(base)}"
                handler = _with_storage(target.handler, kind, words.parameter, resolve_run)
                operation_id = f"{operation_prefix}_{target.operation_id}"
                alias = msgspec.structs.replace(target, path=path, operation_id=operation_id, handler=handler)
                routes.append(alias)
    return routes


def _with_storage(handler: Handler, kind: StorageKind, parameter: str, resolve_run: ResolveRun) -> Handler:
    async def handle(call: Call) -> Response:
        ids = await resolve_run(call)
        call.path[parameter] = ids.of(kind)
        call.query = call.query.without(*LAST_RUN_FILTERS)
        return await handler(call)

    return handle
