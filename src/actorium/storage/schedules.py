"""Schedules, the ticks that are under way, and their logs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actorium.domain.schedules import MAX_LOG_ENTRIES, Action, LogEntry, Schedule, Tick
from actorium.storage.db import Row, Tx

_encode = msgspec.json.Encoder().encode
_actions = msgspec.json.Decoder(tuple[Action, ...]).decode


class Due(msgspec.Struct, frozen=True):
    """A schedule whose time has come, and the time after that."""

    schedule: Schedule
    next_run_at: int | None


def _schedule(row: Row) -> Schedule:
    return Schedule(
        id=row["id"],
        user_id=row["user_id"],
        name=row["name"],
        title=row["title"],
        description=row["description"],
        cron_expression=row["cron_expression"],
        timezone=row["timezone"],
        is_enabled=bool(row["is_enabled"]),
        is_exclusive=bool(row["is_exclusive"]),
        notify_email=bool(row["notify_email"]),
        actions=_actions(row["actions_json"]),
        created_at=row["created_at"],
        modified_at=row["modified_at"],
        next_run_at=row["next_run_at"],
        last_run_at=row["last_run_at"],
    )


async def insert_schedule(tx: Tx, schedule: Schedule) -> None:
    """Store a new schedule; raises ``UniqueViolationError`` when its owner has one of this name."""
    await tx.execute(
        "INSERT INTO schedules (id, user_id, name, name_key, title, description, cron_expression, timezone, "
        "is_enabled, is_exclusive, notify_email, actions_json, created_at, modified_at, next_run_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        schedule.id,
        schedule.user_id,
        schedule.name,
        schedule.name.lower(),
        schedule.title,
        schedule.description,
        schedule.cron_expression,
        schedule.timezone,
        int(schedule.is_enabled),
        int(schedule.is_exclusive),
        int(schedule.notify_email),
        _encode(schedule.actions).decode(),
        schedule.created_at,
        schedule.modified_at,
        schedule.next_run_at,
    )


async def update_schedule(tx: Tx, schedule: Schedule) -> None:
    """Store a schedule's changed fields; raises ``UniqueViolationError`` when the new name is taken."""
    await tx.execute(
        "UPDATE schedules SET name = ?, name_key = ?, title = ?, description = ?, cron_expression = ?, timezone = ?, "
        "is_enabled = ?, is_exclusive = ?, notify_email = ?, actions_json = ?, modified_at = ?, next_run_at = ? "
        "WHERE id = ?",
        schedule.name,
        schedule.name.lower(),
        schedule.title,
        schedule.description,
        schedule.cron_expression,
        schedule.timezone,
        int(schedule.is_enabled),
        int(schedule.is_exclusive),
        int(schedule.notify_email),
        _encode(schedule.actions).decode(),
        schedule.modified_at,
        schedule.next_run_at,
        schedule.id,
    )


async def get_schedule(tx: Tx, schedule_id: str, *, for_update: bool = False) -> Schedule | None:
    """A schedule by id; ``for_update`` makes writers to one take turns."""
    row = await tx.fetchrow(f"SELECT * FROM schedules WHERE id = ? {tx.for_update if for_update else ''}", schedule_id)
    return _schedule(row) if row is not None else None


async def find_schedule(tx: Tx, owner: str, name: str) -> Schedule | None:
    """A schedule by its owner's id or username and its name, both in any case."""
    row = await tx.fetchrow(
        "SELECT s.* FROM schedules s JOIN users u ON u.id = s.user_id "
        "WHERE (u.id = ? OR u.username_key = ?) AND s.name_key = ?",
        owner,
        owner.lower(),
        name.lower(),
    )
    return _schedule(row) if row is not None else None


async def list_schedules(
    tx: Tx, user_id: str, *, offset: int, limit: int, desc: bool
) -> tuple[Sequence[Schedule], int]:
    """A page of a user's schedules by their creation, and their total number."""
    direction = "DESC" if desc else "ASC"
    rows = await tx.fetch(
        f"SELECT * FROM schedules WHERE user_id = ? ORDER BY created_at {direction}, id {direction} LIMIT ? OFFSET ?",
        user_id,
        limit,
        offset,
    )
    return [_schedule(row) for row in rows], len(await taken_names(tx, user_id))


async def taken_names(tx: Tx, user_id: str) -> set[str]:
    """The names of all schedules of a user, in lower case."""
    return {row["name_key"] for row in await tx.fetch("SELECT name_key FROM schedules WHERE user_id = ?", user_id)}


async def delete_schedule(tx: Tx, schedule_id: str) -> bool:
    """Delete a schedule with its log; false when there is none."""
    return await tx.execute("DELETE FROM schedules WHERE id = ?", schedule_id) > 0


async def drop_actions_of(tx: Tx, target_id: str) -> None:
    """Take the actions that run an Actor or task out of everybody's schedules."""
    rows = await tx.fetch(
        f"SELECT * FROM schedules WHERE actions_json LIKE ? ORDER BY id {tx.for_update}", f'%"target_id":"{target_id}"%'
    )
    for row in rows:
        left = tuple(action for action in _actions(row["actions_json"]) if action.target_id != target_id)
        await tx.execute("UPDATE schedules SET actions_json = ? WHERE id = ?", _encode(left).decode(), row["id"])


async def list_due(tx: Tx, now: int, limit: int) -> Sequence[Schedule]:
    """The schedules whose time has come, longest due first."""
    rows = await tx.fetch("SELECT * FROM schedules WHERE next_run_at <= ? ORDER BY next_run_at, id LIMIT ?", now, limit)
    return [_schedule(row) for row in rows]


async def next_due(tx: Tx) -> int | None:
    """When the next schedule's time comes."""
    row = await tx.fetchrow("SELECT MIN(next_run_at) AS next_run_at FROM schedules WHERE next_run_at IS NOT NULL")
    return row["next_run_at"] if row is not None else None


async def fire(tx: Tx, due: Due, now: int, tick_id: str) -> bool:
    """Move a schedule on to its next time and note the tick; false when somebody else was faster."""
    schedule = due.schedule
    moved = await tx.execute(
        "UPDATE schedules SET next_run_at = ?, last_run_at = ? WHERE id = ? AND next_run_at = ?",
        due.next_run_at,
        now,
        schedule.id,
        schedule.next_run_at,
    )
    if moved and schedule.next_run_at is not None:
        await insert_tick(tx, Tick(tick_id, schedule.id, schedule.next_run_at, is_manual=False))
    return moved > 0


async def insert_tick(tx: Tx, tick: Tick) -> None:
    """Note a firing of a schedule."""
    await tx.execute(
        "INSERT INTO schedule_ticks (id, schedule_id, scheduled_at, is_manual) VALUES (?, ?, ?, ?)",
        tick.id,
        tick.schedule_id,
        tick.scheduled_at,
        int(tick.is_manual),
    )


async def is_any_tick_free(tx: Tx, now: int) -> bool:
    """Whether there is a tick that nobody works on."""
    return await tx.fetchrow("SELECT 1 FROM schedule_ticks WHERE lease_until <= ? LIMIT 1", now) is not None


async def claim_ticks(tx: Tx, owner: str, now: int, lease_until: int, limit: int) -> Sequence[tuple[Tick, Schedule]]:
    """Ticks that nobody works on, oldest first; they are the claimer's until the lease is over."""
    rows = await tx.fetch(
        "SELECT * FROM schedule_ticks WHERE lease_until <= ? "
        f"ORDER BY lease_until, scheduled_at, id LIMIT ? {tx.skip_locked}",
        now,
        limit,
    )
    claimed = []
    for row in rows:
        schedule = await get_schedule(tx, row["schedule_id"])
        if schedule is not None:
            tick = Tick(row["id"], row["schedule_id"], row["scheduled_at"], bool(row["is_manual"]))
            claimed.append((tick, schedule))
    await tx.executemany(
        "UPDATE schedule_ticks SET lease_owner = ?, lease_until = ? WHERE id = ?",
        [(owner, lease_until, tick.id) for tick, _ in claimed],
    )
    return claimed


async def release_ticks_of(tx: Tx, owner: str) -> None:
    """Let go of every tick of an owner that is gone."""
    await tx.execute("UPDATE schedule_ticks SET lease_owner = NULL, lease_until = 0 WHERE lease_owner = ?", owner)


async def release_tick(tx: Tx, tick_id: str, until: int) -> None:
    """Let go of a tick that could not be done with; nobody takes it up before ``until``."""
    await tx.execute("UPDATE schedule_ticks SET lease_owner = NULL, lease_until = ? WHERE id = ?", until, tick_id)


async def finish_tick(tx: Tx, tick: Tick, entries: Sequence[LogEntry]) -> bool:
    """End a tick and log what it did; false when somebody else did that."""
    if await tx.execute("DELETE FROM schedule_ticks WHERE id = ?", tick.id) == 0:
        return False
    row = await tx.fetchrow(
        "UPDATE schedules SET last_log_no = last_log_no + ? WHERE id = ? RETURNING last_log_no",
        len(entries),
        tick.schedule_id,
    )
    if row is None:
        return True
    first = row["last_log_no"] - len(entries) + 1
    await tx.executemany(
        "INSERT INTO schedule_log (schedule_id, number, created_at, level, message) VALUES (?, ?, ?, ?, ?)",
        [
            (tick.schedule_id, first + index, entry.created_at, entry.level, entry.message)
            for index, entry in enumerate(entries)
        ],
    )
    await tx.execute(
        "DELETE FROM schedule_log WHERE schedule_id = ? AND number <= ?",
        tick.schedule_id,
        row["last_log_no"] - MAX_LOG_ENTRIES,
    )
    return True


async def list_log(tx: Tx, schedule_id: str) -> Sequence[LogEntry]:
    """A schedule's log, oldest first."""
    rows = await tx.fetch("SELECT * FROM schedule_log WHERE schedule_id = ? ORDER BY number", schedule_id)
    return [LogEntry(row["created_at"], row["level"], row["message"]) for row in rows]
