"""Metamorph: the routes that turn a run into one of another Actor."""

from __future__ import annotations

from functools import partial

from starlette.responses import Response

from actorium.api.http import Call, Route
from actorium.api.runs import FindRun, RunRoutes
from actorium.domain.errors import invalid
from actorium.domain.inputs import RunInput
from actorium.services.metamorph import Metamorphs


class MetamorphRoutes:
    """Handlers of the metamorph routes."""

    def __init__(self, metamorphs: Metamorphs, runs: RunRoutes) -> None:
        self._metamorphs = metamorphs
        self._runs = runs

    def routes(self) -> list[Route]:
        """All routes of this module."""
        actor, task = "/v2/actors/{actorId}", "/v2/actor-tasks/{actorTaskId}"
        found: list[tuple[str, str, FindRun]] = [
            ("/v2/actor-runs/{runId}", "actorRun_metamorph_post", self._runs.find_own),
            (f"{actor}/runs/{{runId}}", "actors_run_metamorph_post", self._runs.find_of_actor),
            (f"{actor}/runs/last", "actor_runs_last_metamorph_post", self._runs.last_run),
            (f"{task}/runs/last", "actorTask_runs_last_metamorph_post", self._runs.last_run_of_task),
        ]
        return [
            Route("POST", f"{path}/metamorph", operation, partial(self.metamorph, find))
            for path, operation, find in found
        ]

    async def metamorph(self, find: FindRun, call: Call) -> Response:
        """Turn a run into one of ``targetActorId``; the body is its input."""
        target = call.query.text("targetActorId")
        if target is None:
            raise invalid("Query parameter targetActorId is missing: it must be an Actor's id or username~name.")
        run = await find(call)
        data = await call.body()
        body = RunInput(data, call.content_type or "application/octet-stream") if data else None
        changed = await self._metamorphs.metamorph(call.principal, run, target, call.query.text("build"), body)
        return await self._runs.answer(call, changed)
