"""Runs: start, read, list, wait, abort, resurrect, reboot, update, delete."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import msgspec
from starlette.responses import Response

from actorium.api.http import Call, Route, data_response
from actorium.api.logs import Logs
from actorium.api.query import Query
from actorium.api.run_shapes import RunShapes
from actorium.api.shapes import page
from actorium.api.start_keys import start_key
from actorium.domain.actors import PERMISSION_LEVELS
from actorium.domain.errors import ApiError, ErrorType, invalid
from actorium.domain.inputs import RunInput
from actorium.domain.models import Actor, Debug, GeneralAccess, JobStatus, Meta, Origin, Run
from actorium.domain.webhook_bodies import ad_hoc_webhooks
from actorium.services.access import Principal
from actorium.services.queueing import Queueing
from actorium.services.run_options import StartOptions
from actorium.services.run_starts import RunStarts
from actorium.services.runs import MessageUpdate, RunFilter, Runs
from actorium.services.tasks import Tasks
from actorium.services.usage import Usage

_STATUSES = frozenset(status.value for status in JobStatus)
_ORIGINS = frozenset(origin.value for origin in Origin)
_WORKFLOW_KEY = re.compile(r"[\x21-\x7e]{1,100}")
"""What is passed on to a run as ``APIFY_WORKFLOW_KEY``; the API gives it no form."""
_LOWEST_PORT, _HIGHEST_PORT = 1024, 65_535
_RUN_ACCESS = frozenset(access.value for access in GeneralAccess) - {GeneralAccess.ANYONE_WITH_NAME_CAN_READ.value}


class ActorLookup(Protocol):
    """The part of the Actors service these routes need."""

    async def resolve(self, principal: Principal | None, reference: str) -> Actor:
        """The Actor a reference means. Raises 404."""
        ...


def request_meta(call: Call) -> Meta:
    """Where a request that starts a run or build came from. docs: runs, section 1."""
    principal = call.principal
    announced = (call.headers.get("x-apify-request-origin") or "").upper()
    if principal.run_id is not None:
        origin = Origin.ACTOR.value
    elif announced in _ORIGINS:
        origin = announced
    else:
        origin = Origin.API.value
    workflow_key = call.headers.get("x-apify-workflow-key") or ""
    announced_key = workflow_key if _WORKFLOW_KEY.fullmatch(workflow_key) else None
    return Meta(origin, call.client_ip, call.user_agent, announced_key)


def wait_secs(query: Query) -> float:
    """``waitForFinish``: more than 60 is cut by the service, not refused."""
    return query.number("waitForFinish", minimum=0) or 0.0


def start_options(query: Query) -> StartOptions:
    """The options a start or resurrect call asks for."""
    max_items = query.integer("maxItems")
    if max_items is not None and max_items <= 0:
        raise ApiError(
            ErrorType.MAX_ITEMS_MUST_BE_GREATER_THAN_ZERO,
            f"Query parameter maxItems has an invalid value {max_items}: it must be greater than zero.",
        )
    return StartOptions(
        build=query.text("build"),
        timeout_secs=query.integer("timeout", minimum=0),
        memory_mbytes=query.integer("memory"),
        max_items=max_items,
        max_total_charge_usd=query.number("maxTotalChargeUsd", minimum=0),
        max_total_usage_usd=query.number("maxTotalUsageUsd", minimum=0),
        restart_on_error=query.flag_or_none("restartOnError"),
        priority=query.integer("priority"),
        force_permission_level=query.choice("forcePermissionLevel", PERMISSION_LEVELS),
        webhooks=ad_hoc_webhooks(query.text("webhooks") or ""),
        debug=_debug(query),
    )


def _debug(query: Query) -> Debug | None:
    """``debugPort`` (0: a free one) and ``debugWait``, which the platform does not have."""
    port, waits = query.integer("debugPort", minimum=0), query.flag("debugWait")
    if port is not None and (port > _HIGHEST_PORT or 0 < port < _LOWEST_PORT):
        raise invalid(
            f"Query parameter debugPort has an invalid value {port}: it must be a port from {_LOWEST_PORT} to "
            f"{_HIGHEST_PORT}, or 0 for a free one."
        )
    if port is None and waits:
        raise invalid("Query parameter debugWait needs debugPort.")
    return None if port is None else Debug(port, waits)


FindRun = Callable[[Call], Awaitable[Run]]
"""Finds the run a call's path means."""
Begin = Callable[[Call, bytes], Awaitable[Run]]
"""Starts the run a call asks for, with the bytes as its input; for tasks, over the task's."""
Start = Callable[[Principal, str, StartOptions, RunInput | None, Meta], Awaitable[Run]]
"""Starts a run of the Actor or task a reference means."""


class RunRoutes:
    """Handlers of the run routes."""

    def __init__(
        self,
        starts: RunStarts,
        tasks: Tasks,
        runs: Runs,
        queueing: Queueing,
        actors: ActorLookup,
        usage: Usage,
        shapes: RunShapes,
        logs: Logs,
    ) -> None:
        self._starts = starts
        self._tasks = tasks
        self._runs = runs
        self._queueing = queueing
        self._actors = actors
        self._usage = usage
        self._shapes = shapes
        self._logs = logs

    def routes(self) -> list[Route]:
        """All routes of this module."""
        run, actor, task = "/v2/actor-runs/{runId}", "/v2/actors/{actorId}", "/v2/actor-tasks/{actorTaskId}"
        return [
            Route("GET", "/v2/actor-runs", "actorRuns_get", self.list),
            Route("GET", run, "actorRun_get", self.get, public=True),
            Route("PUT", run, "actorRun_put", self.update),
            Route("DELETE", run, "actorRun_delete", self.delete),
            Route("POST", f"{run}/abort", "actorRun_abort_post", self.abort),
            Route("POST", f"{run}/resurrect", "PostResurrectRun", self.resurrect),
            Route("POST", f"{run}/reboot", "actorRun_reboot_post", self.reboot),
            Route("GET", f"{run}/log", "actorRun_log_get", self.log, public=True, verbatim=True),
            Route("POST", f"{actor}/runs", "actors_runs_post", self.start),
            Route("GET", f"{actor}/runs", "actors_runs_get", self.list_of_actor),
            *self._routes_of_last(f"{actor}/runs/last", "actor_runs_last", "actor_runs_last_log_get", self.last_run),
            Route("POST", f"{task}/runs", "actorTask_runs_post", self.start_of_task),
            Route("GET", f"{task}/runs", "actorTask_runs_get", self.list_of_task),
            *self._routes_of_last(
                f"{task}/runs/last", "actorTask_runs_last", "actorTask_last_log_get", self.last_run_of_task
            ),
            Route("GET", f"{actor}/runs/{{runId}}", "actors_run_get", self.get_of_actor),
            Route("POST", f"{actor}/runs/{{runId}}/abort", "actors_run_abort_post", self.abort_of_actor),
            Route("POST", f"{actor}/runs/{{runId}}/resurrect", "actor_run_resurrect_post", self.resurrect_of_actor),
        ]

    def _routes_of_last(self, path: str, operation: str, log_operation: str, find: FindRun) -> list[Route]:
        return [
            Route("GET", path, f"{operation}_get", partial(self.get_last, find)),
            Route("POST", f"{path}/abort", f"{operation}_abort_post", partial(self.abort_last, find)),
            Route("POST", f"{path}/reboot", f"{operation}_reboot_post", partial(self.reboot_last, find)),
            Route("GET", f"{path}/log", log_operation, partial(self.log_of_last, find), verbatim=True),
        ]

    async def find(self, call: Call) -> Run:
        """The run the path of this call names."""
        return await self._runs.get(call.principal_or_none, call.path["runId"])

    async def find_own(self, call: Call) -> Run:
        """The caller's own run that the path of this call names."""
        return await self._runs.get_own(call.principal, call.path["runId"])

    async def last_run(self, call: Call) -> Run:
        """The run ``runs/last`` of an Actor means in this call."""
        actor = await self._actors.resolve(call.principal, call.path["actorId"])
        return await self._runs.last(call.principal, _last_filter(call.query), actor_id=actor.id)

    async def last_run_of_task(self, call: Call) -> Run:
        """The run ``runs/last`` of a task means in this call."""
        task = await self._tasks.resolve(call.principal, call.path["actorTaskId"])
        return await self._runs.last(call.principal, _last_filter(call.query), task_id=task.id)

    async def start(self, call: Call) -> Response:
        """Start a run; the body is its input."""
        return await self._start(call, self.begin)

    async def start_of_task(self, call: Call) -> Response:
        """Start a run of a task; the keys of the body go over those of its input."""
        return await self._start(call, self.begin_of_task)

    async def _start(self, call: Call, begin: Begin) -> Response:
        wait = wait_secs(call.query)
        run = await self._runs.wait(await begin(call, await call.body()), wait)
        location = f"{call.public_base_url}/v2/actor-runs/{run.id}"
        return await self.answer(call, run, 201, {"Location": location})

    async def begin(self, call: Call, data: bytes) -> Run:
        """The run of an Actor that this call starts, with ``data`` as its input."""
        return await self._begin(call, data, self._starts.start, call.path["actorId"])

    async def begin_of_task(self, call: Call, data: bytes) -> Run:
        """The run of a task that this call starts, with ``data`` over the task's input."""
        return await self._begin(call, data, self._tasks.start, call.path["actorTaskId"])

    async def _begin(self, call: Call, data: bytes, start: Start, reference: str) -> Run:
        asked = start_options(call.query)
        if asked.max_total_usage_usd == 0:
            raise invalid("Query parameter maxTotalUsageUsd has an invalid value 0: it must be greater than zero.")
        if asked.max_total_charge_usd == 0:
            raise ApiError(
                ErrorType.MAX_TOTAL_CHARGE_USD_MUST_BE_GREATER_THAN_ZERO,
                "Query parameter maxTotalChargeUsd has an invalid value 0: it must be greater than zero.",
            )
        asked = msgspec.structs.replace(asked, start_key=start_key(call, data))
        body = RunInput(data, call.content_type or "application/octet-stream") if data else None
        return await start(call.principal, reference, asked, body, request_meta(call))

    async def get(self, call: Call) -> Response:
        """One run."""
        wait = wait_secs(call.query)
        return await self.answer(call, await self._runs.wait(await self.find(call), wait))

    async def get_last(self, find: FindRun, call: Call) -> Response:
        """The caller's last run of an Actor or task."""
        wait = wait_secs(call.query)
        return await self.answer(call, await self._runs.wait(await find(call), wait))

    async def get_of_actor(self, call: Call) -> Response:
        """One run, by way of its Actor."""
        wait = wait_secs(call.query)
        return await self.answer(call, await self._runs.wait(await self.find_of_actor(call), wait))

    async def list(self, call: Call) -> Response:
        """The caller's runs."""
        return await self._list(call)

    async def list_of_actor(self, call: Call) -> Response:
        """The caller's runs of an Actor."""
        actor = await self._actors.resolve(call.principal, call.path["actorId"])
        return await self._list(call, actor_id=actor.id)

    async def list_of_task(self, call: Call) -> Response:
        """The caller's runs of a task."""
        task = await self._tasks.resolve(call.principal, call.path["actorTaskId"])
        return await self._list(call, task_id=task.id)

    async def _list(self, call: Call, *, actor_id: str | None = None, task_id: str | None = None) -> Response:
        query = call.query
        offset, limit = query.page()
        desc = query.flag("desc")
        wanted = RunFilter(
            statuses=tuple(query.items("status", _STATUSES) or ()),
            parent_run_id=query.text("actoriumParentRunId"),
            started_after=query.time("startedAfter"),
            started_before=query.time("startedBefore"),
        )
        found, total = await self._runs.list(
            call.principal, wanted, offset=offset, limit=limit, desc=desc, actor_id=actor_id, task_id=task_id
        )
        costs = await self._usage.costs_of(found)
        items = [self._shapes.short(run, costs[run.id]) for run in found]
        return data_response(page(items, total=total, offset=offset, limit=limit, desc=desc))

    async def update(self, call: Call) -> Response:
        """Replace the status message, or say who may read the run."""
        change = _message_update(await call.json_object())
        run = await self.find_own(call)
        return await self.answer(call, await self._runs.update(run, change))

    async def delete(self, call: Call) -> Response:
        """Delete a finished run."""
        await self._runs.delete(await self.find_own(call))
        return Response(status_code=204)

    async def abort(self, call: Call) -> Response:
        """Abort a run, ``gracefully`` or at once."""
        return await self._abort(call, await self.find_own(call))

    async def abort_last(self, find: FindRun, call: Call) -> Response:
        """Abort the last run."""
        return await self._abort(call, await find(call))

    async def abort_of_actor(self, call: Call) -> Response:
        """Abort a run, by way of its Actor."""
        return await self._abort(call, await self.find_of_actor(call))

    async def _abort(self, call: Call, run: Run) -> Response:
        return await self.answer(call, await self._runs.abort(run, gracefully=call.query.flag("gracefully")))

    async def resurrect(self, call: Call) -> Response:
        """Resurrect a finished run."""
        run = await self.find_own(call)
        return await self.answer(call, await self._runs.resurrect(run, start_options(call.query)))

    async def resurrect_of_actor(self, call: Call) -> Response:
        """Resurrect a finished run, by way of its Actor."""
        run = await self.find_of_actor(call)
        return await self.answer(call, await self._runs.resurrect(run, start_options(call.query)))

    async def reboot(self, call: Call) -> Response:
        """Start the run's process anew."""
        run = await self.find_own(call)
        return await self.answer(call, await self._runs.reboot(run))

    async def reboot_last(self, find: FindRun, call: Call) -> Response:
        """Start the last run's process anew."""
        return await self.answer(call, await self._runs.reboot(await find(call)))

    async def log(self, call: Call) -> Response:
        """The run's log."""
        run = await self.find(call)
        return await self._logs.log_response(call, run.id, f"run-{run.id}.log")

    async def log_of_last(self, find: FindRun, call: Call) -> Response:
        """The last run's log."""
        run = await find(call)
        return await self._logs.log_response(call, run.id, f"run-{run.id}.log")

    async def find_of_actor(self, call: Call) -> Run:
        """The caller's own run that the path of this call names, of the Actor it names."""
        actor = await self._actors.resolve(call.principal, call.path["actorId"])
        return await self._runs.get_own(call.principal, call.path["runId"], actor.id)

    async def answer(self, call: Call, run: Run, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        """The answer that shows a run to the caller."""
        used = await self._usage.of_run(call.principal_or_none, run)
        shown = await self._queueing.explained(run)
        return data_response(self._shapes.full(shown, call.public_base_url, used), status, headers)


def _last_filter(query: Query) -> RunFilter:
    status, origin = query.text("status"), query.text("origin")
    if status is not None and status not in _STATUSES:
        raise invalid("Status parameter has an invalid value")
    if origin is not None and origin not in _ORIGINS:
        raise invalid("Origin parameter has an invalid value")
    return RunFilter((status,) if status else (), origin)


def _message_update(body: dict[str, Any]) -> MessageUpdate:
    message, terminal = body.get("statusMessage"), body.get("isStatusMessageTerminal")
    access = body.get("generalAccess")
    if message is not None and not isinstance(message, str):
        raise invalid(f"Field statusMessage must be a string, got {type(message).__name__}.")
    if terminal is not None and not isinstance(terminal, bool):
        raise invalid(f"Field isStatusMessageTerminal must be a boolean, got {type(terminal).__name__}.")
    if access is not None and access not in _RUN_ACCESS:
        raise invalid(f"Field generalAccess must be one of {', '.join(sorted(_RUN_ACCESS))}, got {access!r}.")
    if terminal is not None and message is None:
        raise ApiError(
            ErrorType.CANNOT_SET_IS_STATUS_MESSAGE_TERMINAL,
            "Field isStatusMessageTerminal can only be set together with statusMessage.",
        )
    # A body that names neither leaves the message alone: it is about who may read the run.
    replaces = "statusMessage" in body or "isStatusMessageTerminal" in body or access is None
    return MessageUpdate(replaces, message, terminal, access)
