"""Charging for events of a run."""

from __future__ import annotations

from starlette.responses import Response

from actorium.api.http import Call, Route, json_response
from actorium.services.charging import Charging


class ChargeRoutes:
    """Handlers of the charge route."""

    def __init__(self, charging: Charging) -> None:
        self._charging = charging

    def routes(self) -> list[Route]:
        """All routes of this module."""
        return [Route("POST", "/v2/actor-runs/{runId}/charge", "PostChargeRun", self.charge)]

    async def charge(self, call: Call) -> Response:
        """Charge an event; the answer is a bare ``{}``."""
        body = await call.json_object()
        await self._charging.charge(call.principal, call.path["runId"], body, call.headers.get("idempotency-key"))
        return json_response({}, 201)
