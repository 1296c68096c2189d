"""What the platform has no route for: migration of a run."""

from __future__ import annotations

from starlette.responses import Response

from actorium.api.http import Call, Route
from actorium.api.runs import RunRoutes
from actorium.services.run_migrations import RunMigrations


class RunExtensionRoutes:
    """Handlers of routes below ``/actorium/runs``."""

    def __init__(self, migrations: RunMigrations, runs: RunRoutes) -> None:
        self._migrations = migrations
        self._runs = runs

    def routes(self) -> list[Route]:
        """All routes of this module."""
        return [Route("POST", "/actorium/runs/{runId}/migrate", "actorium_run_migrate_post", self.migrate)]

    async def migrate(self, call: Call) -> Response:
        """Move a run to a new process, after a window in which it saves its state."""
        run = await self._runs.find_own(call)
        return await self._runs.answer(call, await self._migrations.migrate(run))
