"""Validation of inputs without a run."""

from __future__ import annotations

from typing import Protocol

from starlette.responses import Response

from actorium.api.http import Call, Route, json_response
from actorium.domain.inputs import RunInput
from actorium.domain.models import Actor, Build
from actorium.services.access import Principal
from actorium.services.run_inputs import RunInputs

_DEFAULT_TAG = "latest"


class ActorLookup(Protocol):
    """The part of the Actors service this route needs."""

    async def resolve(self, principal: Principal | None, reference: str) -> Actor:
        """The Actor a reference means. Raises 404."""
        ...


class BuildLookup(Protocol):
    """The part of the builds service this route needs."""

    async def resolve_build(self, actor: Actor, tag_or_number: str) -> Build:
        """The finished build of a tag or number. Raises 403 as the platform does."""
        ...


class InputRoutes:
    """Handler of the route that validates inputs."""

    def __init__(self, inputs: RunInputs, actors: ActorLookup, builds: BuildLookup) -> None:
        self._inputs = inputs
        self._actors = actors
        self._builds = builds

    def routes(self) -> list[Route]:
        """All routes of this module."""
        return [Route("POST", "/v2/actors/{actorId}/validate-input", "actor_validateInput_post", self.validate)]

    async def validate(self, call: Call) -> Response:
        """Say that an input fits a build's schema, or refuse it as a start would. Nothing is stored."""
        actor = await self._actors.resolve(call.principal, call.path["actorId"])
        # Not the Actor's default build: openapi says the tag.
        build = await self._builds.resolve_build(actor, call.query.text("build") or _DEFAULT_TAG)
        data = await call.body()
        body = RunInput(data, call.content_type or "application/octet-stream") if data else None
        await self._inputs.check(build, body)
        return json_response({"valid": True})
