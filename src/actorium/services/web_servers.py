"""Which address the web server of a run has now; a run's slug is the only secret there is."""

from __future__ import annotations

import re
import time

from actorium.domain.errors import ApiError, ErrorType, not_found
from actorium.domain.models import JobStatus
from actorium.storage.db import Database, Tx
from actorium.storage.web_servers import WebServer, find_web_server

_CACHE_SECS = 0.5
"""Much less than the time until a port is given to another run (``engine/ports.py``)."""
_CACHE_SIZE = 10_000
_SLUG = re.compile(r"[a-z0-9]{12}")


class WebServers:
    """Finds web servers; answers are kept for half a second, as a page loads many things at once."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._cache: dict[str, tuple[float, WebServer]] = {}

    async def address(self, slug: str) -> tuple[str, int]:
        """Host and port of the web server of the running run with this slug.

        Raises 404 ``record-not-found`` for an unknown one, 404 ``run-not-running`` where there is no process.
        """
        server = await self._find(slug)
        if server is None:
            raise not_found("Actor run with this web server")
        if server.status is not JobStatus.RUNNING or server.host is None or server.port is None:
            raise ApiError(
                ErrorType.RUN_NOT_RUNNING,
                f"The web server of this Actor run is not available: the run is {server.status}, and it is only "
                f"served while the run is {JobStatus.RUNNING}.",
            )
        return server.host, server.port

    async def _find(self, slug: str) -> WebServer | None:
        # Real time: what is kept must not outlive a port, whatever clock the program runs on.
        now = time.monotonic()
        cached = self._cache.get(slug)
        if cached is not None and now - cached[0] < _CACHE_SECS:
            return cached[1]
        if not _SLUG.fullmatch(slug):
            return None

        async def op(tx: Tx) -> WebServer | None:
            return await find_web_server(tx, slug)

        server = await self._db.read("find web server", op)
        if server is not None:
            if len(self._cache) >= _CACHE_SIZE:
                self._cache.clear()
            self._cache[slug] = (now, server)
        return server

    def forget(self, slug: str) -> None:
        """Ask the database the next time: the server did not answer."""
        self._cache.pop(slug, None)
