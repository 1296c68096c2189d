"""Builds: start, read, list, wait, abort, delete, log."""

from __future__ import annotations

from starlette.responses import Response

from actorium.api.actor_shapes import build_shape, build_short_shape
from actorium.api.http import Call, Route, data_response, json_response
from actorium.api.logs import Logs
from actorium.api.runs import request_meta, wait_secs
from actorium.api.shapes import page
from actorium.domain.actor_openapi import openapi_of
from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.models import Actor, Build, JobStatus
from actorium.domain.usage import Prices
from actorium.kit import Clock
from actorium.services.actors import Actors
from actorium.services.builds import Builds


class BuildRoutes:
    """Handlers of the build routes."""

    def __init__(self, builds: Builds, actors: Actors, clock: Clock, logs: Logs, prices: Prices) -> None:
        self._builds = builds
        self._actors = actors
        self._clock = clock
        self._logs = logs
        self._prices = prices

    def routes(self) -> list[Route]:
        """All routes of this module."""
        build, actor = "/v2/actor-builds/{buildId}", "/v2/actors/{actorId}/builds"
        return [
            Route("GET", "/v2/actor-builds", "actorBuilds_get", self.list),
            Route("GET", build, "actorBuild_get", self.get, public=True),
            Route("DELETE", build, "actorBuild_delete", self.delete),
            Route("POST", f"{build}/abort", "actorBuild_abort_post", self.abort),
            Route("GET", f"{build}/log", "actorBuild_log_get", self.log, public=True, verbatim=True),
            Route("GET", actor, "actors_builds_get", self.list_of_actor),
            Route("POST", actor, "actors_builds_post", self.start),
            Route("GET", f"{actor}/default", "actor_build_default_get", self.get_default, public=True),
            Route("GET", f"{actor}/{{buildId}}", "actors_build_get", self.get_of_actor, public=True),
            Route("GET", f"{build}/openapi.json", "actorBuild_openapi_json_get", self.openapi, public=True),
            Route(
                "GET", f"{actor}/{{buildId}}/openapi.json", "actor_openapi_json_get", self.openapi_of_actor, public=True
            ),
            Route("POST", f"{actor}/{{buildId}}/abort", "actors_build_abort_post", self.abort_of_actor),
        ]

    async def start(self, call: Call) -> Response:
        """Start a build of a version."""
        query = call.query
        wait = wait_secs(query)
        actor = await self._actors.resolve_own(call.principal, call.path["actorId"])
        build = await self._builds.start(
            call.principal,
            actor,
            query.text("version"),
            request_meta(call),
            tag=query.text("tag"),
            use_cache=query.flag("useCache"),
            beta_packages=query.flag("betaPackages"),
        )
        build = await self._builds.wait(build, wait)
        location = f"{call.public_base_url}/v2/actor-builds/{build.id}"
        return await self._answer(call, build, 201, {"Location": location})

    async def list(self, call: Call) -> Response:
        """The caller's builds."""
        return await self._list(call, None)

    async def list_of_actor(self, call: Call) -> Response:
        """An Actor's builds."""
        return await self._list(call, await self._actors.resolve_own(call.principal, call.path["actorId"]))

    async def _list(self, call: Call, actor: Actor | None) -> Response:
        offset, limit = call.query.page()
        desc = call.query.flag("desc")
        found, total = await self._builds.list(call.principal, actor, offset=offset, limit=limit, desc=desc)
        now = self._clock.now_ms()
        items = [build_short_shape(build, now, self._prices) for build in found]
        return data_response(page(items, total=total, offset=offset, limit=limit, desc=desc))

    async def get(self, call: Call) -> Response:
        """One build."""
        wait = wait_secs(call.query)
        build = await self._builds.get(call.principal_or_none, call.path["buildId"])
        return await self._answer(call, await self._builds.wait(build, wait))

    async def get_of_actor(self, call: Call) -> Response:
        """One build, by way of its Actor."""
        wait = wait_secs(call.query)
        return await self._answer(call, await self._builds.wait(await self._of_actor(call), wait))

    async def get_default(self, call: Call) -> Response:
        """The build that runs use unless they ask for another one."""
        wait = wait_secs(call.query)
        actor = await self._actors.resolve(call.principal_or_none, call.path["actorId"])
        build = await self._builds.get_of_actor(actor, "default")
        return await self._answer(call, await self._builds.wait(build, wait))

    async def openapi(self, call: Call) -> Response:
        """How to run a build's Actor over HTTP, as an OpenAPI document, bare."""
        build = await self._builds.get(call.principal_or_none, call.path["buildId"])
        return await self._document(call, await self._actors.get(build.actor_id), build)

    async def openapi_of_actor(self, call: Call) -> Response:
        """The same by way of the Actor; ``default`` is the build that runs use."""
        actor = await self._actors.resolve(call.principal_or_none, call.path["actorId"])
        return await self._document(call, actor, await self._builds.get_of_actor(actor, call.path["buildId"]))

    async def _document(self, call: Call, actor: Actor, build: Build) -> Response:
        if build.status is not JobStatus.SUCCEEDED:
            raise ApiError(
                ErrorType.RECORD_NOT_FOUND,
                f"Build {build.build_number} has status {build.status}: only a succeeded one has an OpenAPI document.",
            )
        username = await self._actors.owner_name(actor)
        return json_response(openapi_of(actor, username, build, call.public_base_url))

    async def abort(self, call: Call) -> Response:
        """Abort a build; a finished one stays as it is."""
        build = await self._builds.get_own(call.principal, call.path["buildId"])
        return await self._answer(call, await self._builds.abort(build))

    async def abort_of_actor(self, call: Call) -> Response:
        """Abort a build, by way of its Actor."""
        build = await self._of_actor(call)
        return await self._answer(call, await self._builds.abort(await self._builds.get_own(call.principal, build.id)))

    async def delete(self, call: Call) -> Response:
        """Delete a finished build."""
        await self._builds.delete(await self._builds.get_own(call.principal, call.path["buildId"]))
        return Response(status_code=204)

    async def log(self, call: Call) -> Response:
        """The build's log."""
        build = await self._builds.get(call.principal_or_none, call.path["buildId"])
        return await self._logs.log_response(call, build.id, f"build-{build.id}.log")

    async def _of_actor(self, call: Call) -> Build:
        actor = await self._actors.resolve(call.principal_or_none, call.path["actorId"])
        return await self._builds.get_of_actor(actor, call.path["buildId"])

    async def _answer(
        self, call: Call, build: Build, status: int = 200, headers: dict[str, str] | None = None
    ) -> Response:
        principal = call.principal_or_none
        is_own = principal is not None and principal.owns(build.user_id)
        files = await self._builds.source_files(build) if is_own else ()
        return data_response(
            build_shape(build, self._clock.now_ms(), self._prices, files, is_own=is_own), status, headers
        )
