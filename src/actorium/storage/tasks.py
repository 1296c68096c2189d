"""Tasks."""

from __future__ import annotations

from typing import Any

import msgspec

from actorium.domain.models import ListedTask, Task
from actorium.storage.db import Row, Tx

_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, Any]).decode


def _task(row: Row) -> Task:
    return Task(
        id=row["id"],
        user_id=row["user_id"],
        actor_id=row["actor_id"],
        name=row["name"],
        created_at=row["created_at"],
        modified_at=row["modified_at"],
        options=_object_or_none(row["options_json"]),
        input=_object_or_none(row["input_json"]),
        fields=_object(row["fields_json"]),
        total_runs=row["total_runs"],
        last_run_started_at=row["last_run_started_at"],
        published_at=row["published_at"],
    )


def _object_or_none(text: str | None) -> dict[str, Any] | None:
    return None if text is None else _object(text)


def _text(value: dict[str, Any] | None) -> str | None:
    return None if value is None else _encode(value).decode()


async def insert_task(tx: Tx, task: Task) -> None:
    """Store a new task; raises ``UniqueViolationError`` when its owner has one of this name."""
    await tx.execute(
        "INSERT INTO tasks (id, user_id, actor_id, name, name_key, created_at, modified_at, options_json, input_json, "
        "fields_json, published_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        task.id,
        task.user_id,
        task.actor_id,
        task.name,
        task.name.lower(),
        task.created_at,
        task.modified_at,
        _text(task.options),
        _text(task.input),
        _encode(task.fields).decode(),
        task.published_at,
    )


async def update_task(tx: Tx, task: Task) -> None:
    """Store a task's changed fields; raises ``UniqueViolationError`` when the new name is taken."""
    await tx.execute(
        "UPDATE tasks SET name = ?, name_key = ?, modified_at = ?, options_json = ?, input_json = ?, fields_json = ?, "
        "published_at = ? WHERE id = ?",
        task.name,
        task.name.lower(),
        task.modified_at,
        _text(task.options),
        _text(task.input),
        _encode(task.fields).decode(),
        task.published_at,
        task.id,
    )


async def get_task(tx: Tx, task_id: str, *, for_update: bool = False) -> Task | None:
    """A task by id; ``for_update`` makes writers to one task take turns."""
    row = await tx.fetchrow(f"SELECT * FROM tasks WHERE id = ? {tx.for_update if for_update else ''}", task_id)
    return _task(row) if row is not None else None


async def find_task(tx: Tx, owner: str, name: str) -> Task | None:
    """A task by its owner's id or username and its name, both in any case."""
    row = await tx.fetchrow(
        "SELECT t.* FROM tasks t JOIN users u ON u.id = t.user_id "
        "WHERE (u.id = ? OR u.username_key = ?) AND t.name_key = ?",
        owner,
        owner.lower(),
        name.lower(),
    )
    return _task(row) if row is not None else None


async def taken_names(tx: Tx, user_id: str, prefix: str) -> set[str]:
    """The names, in lower case, of a user's tasks that begin with ``prefix``, which has no wild cards."""
    rows = await tx.fetch(
        "SELECT name_key FROM tasks WHERE user_id = ? AND name_key LIKE ?", user_id, f"{prefix.lower()}%"
    )
    return {row["name_key"] for row in rows}


async def list_tasks(tx: Tx, user_id: str, *, offset: int, limit: int, desc: bool) -> tuple[list[ListedTask], int]:
    """A page of a user's tasks by their creation, and how many there are in all."""
    direction = "DESC" if desc else "ASC"
    rows = await tx.fetch(
        "SELECT t.*, u.username, a.name AS actor_name, o.username AS actor_username FROM tasks t "
        "JOIN users u ON u.id = t.user_id LEFT JOIN actors a ON a.id = t.actor_id LEFT JOIN users o "
        f"ON o.id = a.user_id WHERE t.user_id = ? ORDER BY t.created_at {direction}, t.id {direction} LIMIT ? OFFSET ?",
        user_id,
        limit,
        offset,
    )
    found = [ListedTask(_task(row), row["username"], row["actor_name"], row["actor_username"]) for row in rows]
    return found, await count_tasks(tx, user_id)


async def count_tasks(tx: Tx, user_id: str) -> int:
    """How many tasks a user has."""
    row = await tx.fetchrow("SELECT COUNT(*) AS count FROM tasks WHERE user_id = ?", user_id)
    return row["count"] if row is not None else 0


async def count_public_tasks(tx: Tx, actor_id: str) -> int:
    """How many tasks of an Actor are public."""
    row = await tx.fetchrow(
        "SELECT COUNT(*) AS count FROM tasks WHERE actor_id = ? AND published_at IS NOT NULL", actor_id
    )
    return row["count"] if row is not None else 0


async def unpublish_tasks_of_actor(tx: Tx, actor_id: str) -> None:
    """Note that no task of an Actor is public any more."""
    await tx.execute("UPDATE tasks SET published_at = NULL WHERE actor_id = ? AND published_at IS NOT NULL", actor_id)


async def delete_task(tx: Tx, task_id: str) -> None:
    """Delete a task; its runs stay."""
    await tx.execute("DELETE FROM tasks WHERE id = ?", task_id)


async def delete_tasks_of_actor(tx: Tx, actor_id: str, user_id: str) -> None:
    """Delete a user's tasks of an Actor."""
    await tx.execute("DELETE FROM tasks WHERE actor_id = ? AND user_id = ?", actor_id, user_id)
