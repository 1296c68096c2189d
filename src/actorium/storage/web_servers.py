"""Where the web servers of runs listen, as the proxy in front of them asks it."""

from __future__ import annotations

import msgspec

from actorium.domain.models import JobStatus
from actorium.storage.db import Tx


class WebServer(msgspec.Struct, frozen=True):
    """The web server of a run; ``host`` and ``port`` are ``None`` before the run's first process."""

    run_id: str
    status: JobStatus
    host: str | None
    port: int | None


async def find_web_server(tx: Tx, slug: str) -> WebServer | None:
    """The web server of the run with this slug."""
    row = await tx.fetchrow(
        "SELECT id, status, web_server_host, web_server_port FROM runs WHERE container_slug = ?", slug
    )
    if row is None:
        return None
    return WebServer(row["id"], JobStatus(row["status"]), row["web_server_host"], row["web_server_port"])


async def mark_ready(tx: Tx, run_id: str, running_at: int, host: str, idle_at: int | None) -> bool:
    """Note that the web server of the attempt of ``running_at`` answers at ``host``; false once that is over.

    ``idle_at`` is when a run of a Standby server is idle, should no request come; ``None`` for others.
    """
    changed = await tx.execute(
        "UPDATE runs SET is_container_server_ready = 1, web_server_host = ?, idle_at = ? "
        "WHERE id = ? AND running_at = ? AND status IN ('RUNNING', 'TIMING-OUT', 'ABORTING')",
        host,
        idle_at,
        run_id,
        running_at,
    )
    return changed > 0


async def ports_in_use(tx: Tx) -> set[int]:
    """The ports of all runs that are not over."""
    rows = await tx.fetch(
        "SELECT web_server_port FROM runs WHERE status IN ('READY', 'RUNNING', 'TIMING-OUT', 'ABORTING') "
        "AND web_server_port IS NOT NULL"
    )
    return {row["web_server_port"] for row in rows}
