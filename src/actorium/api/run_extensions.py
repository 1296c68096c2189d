"""What the platform has no route for: migration of a run, and aborting or resurrecting many at once."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.responses import Response

from actorium.api.http import Call, Route, data_response
from actorium.api.query import parse_time
from actorium.api.runs import ActorLookup, RunRoutes
from actorium.domain.errors import invalid
from actorium.domain.models import JobStatus, Task
from actorium.services.access import Principal
from actorium.services.run_batches import MAX_BATCH, Choice, Outcome, RunBatches
from actorium.services.run_migrations import RunMigrations

_STATUSES = [status.value for status in JobStatus]
_FILTERS = ("ids", "actorId", "taskId", "status", "startedBefore")


class TaskLookup(Protocol):
    """The part of the tasks service these routes need."""

    async def resolve(self, principal: Principal, reference: str) -> Task:
        """The task a reference means. Raises 404."""
        ...


class RunExtensionRoutes:
    """Handlers of routes below ``/actorium/runs``."""

    def __init__(
        self,
        migrations: RunMigrations,
        batches: RunBatches,
        runs: RunRoutes,
        actors: ActorLookup,
        tasks: TaskLookup,
    ) -> None:
        self._migrations = migrations
        self._batches = batches
        self._runs = runs
        self._actors = actors
        self._tasks = tasks

    def routes(self) -> list[Route]:
        """All routes of this module."""
        return [
            Route("POST", "/actorium/runs/abort", "actorium_runs_abort_post", self.abort),
            Route("POST", "/actorium/runs/resurrect", "actorium_runs_resurrect_post", self.resurrect),
            Route("POST", "/actorium/runs/{runId}/migrate", "actorium_run_migrate_post", self.migrate),
        ]

    async def migrate(self, call: Call) -> Response:
        """Move a run to a new process, after a window in which it saves its state."""
        run = await self._runs.find_own(call)
        return await self._runs.answer(call, await self._migrations.migrate(run))

    async def abort(self, call: Call) -> Response:
        """Abort many runs."""
        body = await call.json_object()
        gracefully = body.get("gracefully", False)
        if not isinstance(gracefully, bool):
            raise invalid(f"Field gracefully has an invalid value {gracefully!r}: it must be true or false.")
        choice = await self._choice(call, body, (*_FILTERS, "gracefully"))
        return _outcomes(*await self._batches.abort(call.principal, choice, gracefully=gracefully))

    async def resurrect(self, call: Call) -> Response:
        """Resurrect many runs, with the options they had."""
        choice = await self._choice(call, await call.json_object(), _FILTERS)
        return _outcomes(*await self._batches.resurrect(call.principal, choice))

    async def _choice(self, call: Call, body: dict[str, Any], known: tuple[str, ...]) -> Choice:
        # A misspelt filter that is ignored would abort what was not meant.
        for name in body:
            if name not in known:
                raise invalid(f"Field {name[:100]!r} is not known; known ones are {', '.join(known)}.")
        given = {name: body[name] for name in _FILTERS if body.get(name) is not None}
        if not given:
            raise invalid(f"At least one of the fields {', '.join(_FILTERS)} must say which runs are meant.")
        actor, task, before = (_text(given, name) for name in ("actorId", "taskId", "startedBefore"))
        statuses = _texts(given, "status")
        for status in statuses:
            if status not in _STATUSES:
                raise invalid(f"Field status has an invalid value {status!r}: it must be of {', '.join(_STATUSES)}.")
        return Choice(
            ids=_texts(given, "ids"),
            actor_id=None if actor is None else (await self._actors.resolve(call.principal, actor)).id,
            task_id=None if task is None else (await self._tasks.resolve(call.principal, task)).id,
            statuses=statuses,
            started_before=None if before is None else parse_time("Field startedBefore", before),
        )


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise invalid(f"Field {name} has an invalid value {value!r}: it must be a text that is not empty.")
    return value


def _texts(body: dict[str, Any], name: str) -> tuple[str, ...]:
    value = body.get(name, [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) and one for one in values):
        raise invalid(f"Field {name} must be a text or a list of texts that are not empty.")
    if name in body and not 1 <= len(values) <= MAX_BATCH:
        raise invalid(f"Field {name} has {len(values)} values: there must be 1 to {MAX_BATCH}.")
    return tuple(values)


def _outcomes(outcomes: list[Outcome], has_more: bool) -> Response:
    return data_response({"count": len(outcomes), "hasMore": has_more, "items": [_outcome(one) for one in outcomes]})


def _outcome(outcome: Outcome) -> dict[str, Any]:
    shape: dict[str, Any] = {"id": outcome.run_id, "status": None if outcome.run is None else outcome.run.status.value}
    if outcome.error is not None:
        shape["error"] = {"type": outcome.error.type.code, "message": outcome.error.message}
    return shape
