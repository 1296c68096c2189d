"""Approval of others' Actors that ask for full permissions: an extension below ``/actorium``."""

from __future__ import annotations

from typing import Protocol

from starlette.responses import Response

from actorium.api.http import Call, Route, data_response
from actorium.domain.models import Actor
from actorium.services.access import Principal
from actorium.services.approvals import Approvals


class ActorLookup(Protocol):
    """The part of the Actors service these routes need."""

    async def resolve(self, principal: Principal | None, reference: str) -> Actor:
        """The Actor a reference means. Raises 404."""
        ...


class ApprovalRoutes:
    """Handlers of the approval routes."""

    def __init__(self, approvals: Approvals, actors: ActorLookup) -> None:
        self._approvals = approvals
        self._actors = actors

    def routes(self) -> list[Route]:
        """All routes of this module."""
        path = "/actorium/actors/{actorId}/approve-full-permissions"
        return [
            Route("POST", path, "actorium_approval_post", self.approve),
            Route("DELETE", path, "actorium_approval_delete", self.withdraw),
        ]

    async def approve(self, call: Call) -> Response:
        """Let the Actor's runs have full permissions when the caller starts them."""
        actor = await self._actors.resolve(call.principal, call.path["actorId"])
        await self._approvals.approve(call.principal, actor)
        return data_response({"actorId": actor.id, "isApproved": True})

    async def withdraw(self, call: Call) -> Response:
        """Take that back."""
        actor = await self._actors.resolve(call.principal, call.path["actorId"])
        await self._approvals.withdraw(call.principal, actor)
        return Response(status_code=204)
