"""The runs of Standby servers, and the names these servers have."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actorium.domain.models import User
from actorium.domain.standby import RETIREMENT_MS, StandbyRun
from actorium.storage.db import Row, Tx


class StandbyMember(msgspec.Struct, frozen=True):
    """Which server a live run belongs to, and which build it runs."""

    run_id: str
    actor_id: str
    task_id: str | None
    build_id: str


_LIVE = "status IN ('READY', 'RUNNING', 'TIMING-OUT', 'ABORTING') AND origin = 'STANDBY'"
_SERVING = f"{_LIVE} AND status IN ('READY', 'RUNNING') AND is_retired = 0 AND wanted <> 'stop'"


async def list_standby_runs(tx: Tx, actor_id: str, user_id: str, task_id: str | None) -> list[StandbyRun]:
    """A user's runs of one Standby server that serve requests or will, oldest first."""
    rows = await tx.fetch(
        "SELECT id, status, wanted, web_server_host, web_server_port, is_container_server_ready FROM runs "
        f"WHERE actor_id = ? AND user_id = ? AND COALESCE(task_id, '') = ? AND {_SERVING} ORDER BY started_at, id",
        actor_id,
        user_id,
        task_id or "",
    )
    return [
        StandbyRun(row["id"], (row["web_server_host"], row["web_server_port"]) if _is_ready(row) else None)
        for row in rows
    ]


def _is_ready(row: Row) -> bool:
    return bool(row["is_container_server_ready"]) and row["status"] == "RUNNING" and row["wanted"] == "run"


async def list_standby_members(tx: Tx) -> list[StandbyMember]:
    """Every running run of a Standby server that is not retired yet."""
    rows = await tx.fetch(f"SELECT id, actor_id, task_id, build_id FROM runs WHERE {_SERVING} AND status = 'RUNNING'")
    return [StandbyMember(row["id"], row["actor_id"], row["task_id"], row["build_id"]) for row in rows]


async def put_off_idle(tx: Tx, run_id: str, idle_at: int, retired_at: int) -> None:
    """Let a run go on at least until ``idle_at``, a retired one until ``RETIREMENT_MS`` after ``retired_at``."""
    await tx.execute(
        "UPDATE runs SET idle_at = CASE WHEN is_retired = 1 THEN CAST(? AS BIGINT) ELSE CAST(? AS BIGINT) END "
        "WHERE id = ? AND status = 'RUNNING' AND wanted <> 'stop' "
        "AND idle_at < CASE WHEN is_retired = 1 THEN CAST(? AS BIGINT) ELSE CAST(? AS BIGINT) END",
        retired_at + RETIREMENT_MS,
        idle_at,
        run_id,
        retired_at + RETIREMENT_MS,
        idle_at,
    )


async def list_users_by_dns_name(tx: Tx, dns_name: str) -> Sequence[User]:
    """The users whose name is this one as a part of a host name, oldest first."""
    rows = await tx.fetch(
        "SELECT * FROM users WHERE REPLACE(REPLACE(username_key, '.', '-'), '_', '-') = ? ORDER BY created_at, id",
        dns_name,
    )
    return [User(row["id"], row["username"], row["email"], row["created_at"]) for row in rows]


async def find_actor_id(tx: Tx, lower_case_id: str) -> str | None:
    """The id of an Actor that is this one in lower case."""
    row = await tx.fetchrow("SELECT id FROM actors WHERE LOWER(id) = ?", lower_case_id)
    return None if row is None else row["id"]


async def find_task_id(tx: Tx, lower_case_id: str) -> str | None:
    """The id of a task that is this one in lower case."""
    row = await tx.fetchrow("SELECT id FROM tasks WHERE LOWER(id) = ?", lower_case_id)
    return None if row is None else row["id"]
