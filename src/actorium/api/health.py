"""``/actorium/health``: whether this server can do its work."""

from __future__ import annotations

from importlib.metadata import version

from starlette.responses import Response

from actorium.api.http import Call, Route, json_response
from actorium.services.health import Health


def routes(health: Health) -> list[Route]:
    """The route of this module."""

    async def get(_call: Call) -> Response:
        report = await health.report()
        status = 200 if report["status"] == "ok" else 503
        return json_response({"version": version("actorium"), **report}, status)

    return [Route("GET", "/actorium/health", "actorium_health_get", get, public=True)]
