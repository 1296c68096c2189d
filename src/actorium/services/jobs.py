"""What runs and builds have in common: a log, and an end."""

from __future__ import annotations

from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.models import TERMINAL_STATUSES, JobStatus
from actorium.services.access import Principal
from actorium.services.builds import Builds
from actorium.services.runs import Runs
from actorium.storage import jobs
from actorium.storage.db import Database, Tx


class Jobs:
    """Finds the run or build an id means."""

    def __init__(self, db: Database, runs: Runs, builds: Builds) -> None:
        self._db = db
        self._runs = runs
        self._builds = builds

    async def find_job(self, principal: Principal | None, job_id: str) -> str:
        """The id of a run or build that the caller may read. Raises 404, for an anonymous caller 401."""
        try:
            return (await self._runs.get(principal, job_id)).id
        except ApiError as error:
            if error.type not in (ErrorType.RECORD_NOT_FOUND, ErrorType.TOKEN_NOT_PROVIDED):
                raise
        return (await self._builds.get(principal, job_id)).id

    async def is_over(self, job_id: str) -> bool:
        """Whether a run or build is finished or gone."""

        async def op(tx: Tx) -> JobStatus | None:
            return await jobs.find_status(tx, job_id)

        status = await self._db.read("is job over", op)
        return status is None or status in TERMINAL_STATUSES
