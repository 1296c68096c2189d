"""Runs and their attempts. ``transition`` is the only place where a run's status is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from actorium.domain.models import (
    TERMINAL_STATUSES,
    Attempt,
    JobStatus,
    Meta,
    Metamorph,
    Run,
    RunOptions,
    RunStats,
    StandbyTerms,
    StopReason,
    Wanted,
)
from actorium.domain.permissions import PermissionLevel
from actorium.domain.states import TRANSITIONS
from actorium.domain.usage import UsageService
from actorium.domain.webhooks import RUN_CREATED, run_event
from actorium.storage import outbox, run_counts, usage
from actorium.storage.db import Row, Tx, placeholders
from actorium.storage.log_garbage import discard_log

_encode = msgspec.json.Encoder().encode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode

_READ: dict[str, Callable[[Any], Any]] = {
    "status": JobStatus,
    "wanted": Wanted,
    "stop_reason": StopReason,
    "is_status_message_terminal": bool,
    "is_platform_message": bool,
    "is_container_server_ready": bool,
    "is_retired": bool,
    "standby": msgspec.json.Decoder(StandbyTerms).decode,
    "meta": msgspec.json.Decoder(Meta).decode,
    "options": msgspec.json.Decoder(RunOptions).decode,
    "stats": msgspec.json.Decoder(RunStats).decode,
    "permission_level": PermissionLevel,
    "storage_grants": msgspec.json.Decoder(dict[str, bool]).decode,
    "storage_ids": msgspec.json.Decoder(dict[str, dict[str, str]]).decode,
    "metamorphs": msgspec.json.Decoder(tuple[Metamorph, ...]).decode,
    "pricing_info": _decode_object,
    "charged_event_counts": msgspec.json.Decoder(dict[str, int]).decode,
}
"""How a stored value becomes that of the field; other fields are stored as they are. ``None`` stays ``None``."""
_JSON = {
    "meta",
    "options",
    "stats",
    "storage_ids",
    "storage_grants",
    "metamorphs",
    "pricing_info",
    "charged_event_counts",
    "standby",
}


def _column(field: str) -> str:
    return f"{field}_json" if field in _JSON else field


def _columns(fields: dict[str, Any]) -> dict[str, Any]:
    """The columns of ``fields`` of a run, with those kept beside them for indexes."""
    columns = {_column(field): _value(field, value) for field, value in fields.items()}
    if "meta" in fields:
        columns["origin"] = fields["meta"].origin
        columns["schedule_action_id"] = fields["meta"].schedule_action_id
    if "options" in fields:
        columns["memory_mbytes"] = fields["options"].memory_mbytes
    return columns


_COLUMNS = [(field, _column(field), _READ.get(field)) for field in Run.__struct_fields__]


def _value(field: str, value: Any) -> Any:
    if value is None:
        return None
    if field in _JSON:
        return _encode(value).decode()
    return int(value) if isinstance(value, bool) else value


def _run(row: Row) -> Run:
    fields = {}
    for field, column, read in _COLUMNS:
        value = row[column]
        fields[field] = value if read is None or value is None else read(value)
    return Run(**fields)


def _attempt(row: Row) -> Attempt:
    return Attempt(
        id=row["id"],
        run_id=row["run_id"],
        number=row["number"],
        created_at=row["created_at"],
        handle=_decode_object(row["handle_json"]) if row["handle_json"] else None,
        finished_at=row["finished_at"],
        exit=_decode_object(row["exit_json"]) if row["exit_json"] else None,
        removed=bool(row["removed"]),
    )


async def insert_run(tx: Tx, run: Run) -> None:
    """Store a new run with the event of its creation, and count it as one of its Actor and task."""
    values = _columns({field: getattr(run, field) for field in run.__struct_fields__})
    await tx.execute(
        f"INSERT INTO runs ({', '.join(values)}) VALUES ({placeholders(len(values))})",
        *values.values(),
    )
    await run_counts.count_run(
        tx, actor_id=run.actor_id, user_id=run.user_id, task_id=run.task_id, started_at=run.started_at
    )
    await outbox.add_run_event(tx, run, RUN_CREATED, run.started_at)


async def transition(
    tx: Tx, run_id: str, from_: Collection[JobStatus], to: JobStatus, *, event_at: int | None = None, **fields: Any
) -> Run | None:
    """Change a run's status if it is one of ``from_``, together with ``fields``, and write its event to the outbox.

    ``event_at`` is the time of the event, without it when the run finished. Returns the run as it is now, or ``None``
    when someone else was first: then re-read and act on that.
    """
    for status in from_:
        if to not in TRANSITIONS[status]:
            raise ValueError(f"no run may go from {status} to {to}")
    run = await _update(tx, run_id, from_, {"status": to, **fields})
    event = run_event(from_, to)
    if run is not None and event is not None:
        await outbox.add_run_event(tx, run, event, event_at or run.finished_at or run.started_at)
    return run


async def update(tx: Tx, run_id: str, while_in: Collection[JobStatus] | None = None, **fields: Any) -> Run | None:
    """Change ``fields`` of a run, where given only while its status is one of ``while_in``."""
    if "status" in fields:
        raise ValueError("a status is changed by transition()")
    return await _update(tx, run_id, while_in, fields)


async def _update(tx: Tx, run_id: str, while_in: Collection[JobStatus] | None, fields: dict[str, Any]) -> Run | None:
    columns = _columns(fields)
    names = ", ".join(f"{column} = ?" for column in columns)
    condition = f" AND status IN ({placeholders(len(while_in))})" if while_in is not None else ""
    row = await tx.fetchrow(
        f"UPDATE runs SET {names} WHERE id = ?{condition} RETURNING *",
        *columns.values(),
        run_id,
        *(while_in or ()),
    )
    return _run(row) if row is not None else None


async def get_run(tx: Tx, run_id: str, *, for_update: bool = False) -> Run | None:
    """One run; ``for_update`` keeps it from changing until the operation is over."""
    row = await tx.fetchrow(f"SELECT * FROM runs WHERE id = ? {tx.for_update if for_update else ''}", run_id)
    return _run(row) if row is not None else None


async def list_runs(
    tx: Tx,
    *,
    user_id: str,
    actor_id: str | None = None,
    task_id: str | None = None,
    parent_run_id: str | None = None,
    statuses: Sequence[str] | None = None,
    origin: str | None = None,
    started_after: int | None = None,
    started_before: int | None = None,
    offset: int = 0,
    limit: int = 1000,
    desc: bool = False,
) -> tuple[list[Run], int]:
    """A page of a user's runs by start time, and how many there are in all."""
    where: list[tuple[str, list[Any]]] = [("user_id = ?", [user_id])]
    if actor_id is not None:
        where.append(("actor_id = ?", [actor_id]))
    if task_id is not None:
        where.append(("task_id = ?", [task_id]))
    if parent_run_id is not None:
        where.append(("parent_run_id = ?", [parent_run_id]))
    if statuses:
        where.append((f"status IN ({placeholders(len(statuses))})", list(statuses)))
    if origin is not None:
        where.append(("origin = ?", [origin]))
    if started_after is not None:
        where.append(("started_at >= ?", [started_after]))
    if started_before is not None:
        where.append(("started_at <= ?", [started_before]))
    condition = " AND ".join(text for text, _ in where)
    args = [value for _, values in where for value in values]
    direction = "DESC" if desc else "ASC"
    total = await tx.fetchrow(f"SELECT COUNT(*) AS total FROM runs WHERE {condition}", *args)
    rows = await tx.fetch(
        f"SELECT * FROM runs WHERE {condition} ORDER BY started_at {direction}, id {direction} LIMIT ? OFFSET ?",
        *args,
        limit,
        offset,
    )
    return [_run(row) for row in rows], total["total"] if total else 0


async def list_live_runs(tx: Tx, user_id: str | None = None) -> list[Run]:
    """Every run, or every one of a user, that is past READY and not over: it has a process, had or will have one.

    Oldest first. Runs that wait are not among them: there may be very many.
    """
    whose, args = ("user_id = ? AND ", (user_id,)) if user_id is not None else ("", ())
    rows = await tx.fetch(
        f"SELECT * FROM runs WHERE {whose}status IN ('RUNNING', 'TIMING-OUT', 'ABORTING') ORDER BY started_at, id",
        *args,
    )
    return [_run(row) for row in rows]


async def list_runs_by_ids(tx: Tx, run_ids: Sequence[str]) -> list[Run]:
    """These runs, in this order, without those that are gone."""
    if not run_ids:
        return []
    rows = await tx.fetch(f"SELECT * FROM runs WHERE id IN ({placeholders(len(run_ids))})", *run_ids)
    found = {row["id"]: _run(row) for row in rows}
    return [found[run_id] for run_id in run_ids if run_id in found]


async def list_asked_runs(tx: Tx) -> list[Run]:
    """The runs that something else is wanted of than to go on, oldest first."""
    live = (JobStatus.RUNNING, JobStatus.TIMING_OUT, JobStatus.ABORTING)
    rows = await tx.fetch(
        f"SELECT * FROM runs WHERE status IN ({placeholders(len(live))}) AND wanted <> ? ORDER BY started_at, id",
        *live,
        Wanted.RUN,
    )
    return [_run(row) for row in rows]


async def list_unfinished_run_ids(tx: Tx, *, actor_id: str | None = None, task_id: str | None = None) -> list[str]:
    """The runs of an Actor or task that are not over."""
    column, owner = ("actor_id", actor_id) if actor_id is not None else ("task_id", task_id)
    live = [status for status in JobStatus if status not in TERMINAL_STATUSES]
    rows = await tx.fetch(
        f"SELECT id FROM runs WHERE {column} = ? AND status IN ({placeholders(len(live))})", owner, *live
    )
    return [row["id"] for row in rows]


async def want_children_aborted(tx: Tx, run: Run, now: int) -> None:
    """Note that the runs below ``run`` are to be aborted, once more if that was done already."""
    await update(tx, run.id, abort_children_at=max(now, (run.abort_children_at or 0) + 1))


async def list_runs_with_children_to_abort(tx: Tx) -> list[Run]:
    """Aborted runs whose children are still to be aborted."""
    rows = await tx.fetch("SELECT * FROM runs WHERE abort_children_at IS NOT NULL ORDER BY abort_children_at LIMIT 100")
    return [_run(row) for row in rows]


async def list_live_descendants(tx: Tx, run_id: str) -> list[Run]:
    """The runs that are not over of those a run has started, they have started, and so on."""
    rows = await tx.fetch(
        "WITH RECURSIVE below (id) AS (SELECT id FROM runs WHERE parent_run_id = ? "
        "UNION SELECT r.id FROM runs r JOIN below b ON r.parent_run_id = b.id) "
        "SELECT r.* FROM runs r JOIN below b ON r.id = b.id "
        "WHERE r.status IN ('READY', 'RUNNING', 'TIMING-OUT', 'ABORTING') ORDER BY r.started_at, r.id",
        run_id,
    )
    return [_run(row) for row in rows]


async def note_children_aborted(tx: Tx, run: Run) -> None:
    """Take back the wish, unless there is a newer one than ``run`` shows."""
    await tx.execute(
        "UPDATE runs SET abort_children_at = NULL WHERE id = ? AND abort_children_at = ?",
        run.id,
        run.abort_children_at,
    )


async def delete_run(tx: Tx, run_id: str) -> Run | None:
    """Delete a run that is over; ``None`` when it is not there or not over. Its log is noted as garbage."""
    row = await tx.fetchrow(
        f"DELETE FROM runs WHERE id = ? AND status IN ({placeholders(len(TERMINAL_STATUSES))}) RETURNING *",
        run_id,
        *TERMINAL_STATUSES,
    )
    if row is None:
        return None
    await discard_log(tx, run_id)
    return _run(row)


async def insert_attempt(tx: Tx, attempt_id: str, run_id: str, now: int, handle: Any) -> None:
    """Store a run's next attempt with the handle that finds it again."""
    await tx.execute(
        "INSERT INTO attempts (id, run_id, number, created_at, handle_json) "
        "SELECT ?, ?, COALESCE(MAX(number), 0) + 1, CAST(? AS BIGINT), ? FROM attempts WHERE run_id = ?",
        attempt_id,
        run_id,
        now,
        _encode(handle).decode(),
        run_id,
    )


async def update_handle(tx: Tx, attempt_id: str, handle: Any) -> None:
    """Store a newer handle of an attempt."""
    await tx.execute("UPDATE attempts SET handle_json = ? WHERE id = ?", _encode(handle).decode(), attempt_id)


async def finish_attempt(tx: Tx, attempt_id: str, finished_at: int, exit_: Any) -> None:
    """Note how an attempt ended, and book its memory and time as its run's and its user's."""
    ended = await tx.fetchrow(
        "UPDATE attempts SET finished_at = ?, exit_json = ? WHERE id = ? AND finished_at IS NULL "
        "RETURNING run_id, created_at",
        finished_at,
        _encode(exit_).decode(),
        attempt_id,
    )
    run = None if ended is None else await get_run(tx, ended["run_id"])
    if ended is not None and run is not None:
        memory, begun = run.options.memory_mbytes, ended["created_at"]
        total = {UsageService.ACTOR_COMPUTE_UNITS: max(0, finished_at - begun) * memory}
        await usage.add_of_runs(tx, {run.id: total})
        await usage.add_compute_units(tx, run.user_id, memory, begun, finished_at)


async def list_attempts(tx: Tx, run_id: str) -> list[Attempt]:
    """A run's attempts, oldest first."""
    rows = await tx.fetch("SELECT * FROM attempts WHERE run_id = ? ORDER BY number", run_id)
    return [_attempt(row) for row in rows]


async def list_unremoved_attempts(tx: Tx) -> list[Attempt]:
    """Ended attempts whose leftovers the runtime still has to delete."""
    rows = await tx.fetch("SELECT * FROM attempts WHERE removed = 0 AND finished_at IS NOT NULL ORDER BY created_at")
    return [_attempt(row) for row in rows]


async def mark_attempt_removed(tx: Tx, attempt_id: str) -> None:
    """Note that nothing of an attempt is left on disk."""
    await tx.execute("UPDATE attempts SET removed = 1 WHERE id = ?", attempt_id)


async def known_attempt_ids(tx: Tx, attempt_ids: Sequence[str]) -> set[str]:
    """Which of ``attempt_ids`` the database knows."""
    known: set[str] = set()
    for start in range(0, len(attempt_ids), 500):
        part = attempt_ids[start : start + 500]
        rows = await tx.fetch(f"SELECT id FROM attempts WHERE id IN ({placeholders(len(part))})", *part)
        known |= {row["id"] for row in rows}
    return known


async def find_status(tx: Tx, job_id: str) -> JobStatus | None:
    """The status of a run or build."""
    row = await tx.fetchrow(
        "SELECT status FROM runs WHERE id = ? UNION ALL SELECT status FROM builds WHERE id = ?", job_id, job_id
    )
    return JobStatus(row["status"]) if row is not None else None


async def is_action_running(tx: Tx, action_id: str) -> bool:
    """Whether a run that this action of a schedule started is neither over nor being aborted."""
    row = await tx.fetchrow(
        "SELECT 1 FROM runs WHERE schedule_action_id = ? AND status IN ('READY', 'RUNNING', 'TIMING-OUT') LIMIT 1",
        action_id,
    )
    return row is not None
