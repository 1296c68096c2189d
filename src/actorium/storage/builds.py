"""Builds and tags. ``transition`` is the only place where a build's status is written."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from actorium.domain.build_states import BUILD_TRANSITIONS
from actorium.domain.models import TERMINAL_STATUSES, Build, EnvVar, JobStatus, Meta
from actorium.storage.db import Row, Tx, placeholders

_encode = msgspec.json.Encoder().encode
_meta = msgspec.json.Decoder(Meta).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode
_env_vars = msgspec.json.Decoder(tuple[EnvVar, ...]).decode

_JSON = {"meta", "options", "env_vars", "actor_version", "image_state", "actor_definition"}


def _column(field: str) -> str:
    return f"{field}_json" if field in _JSON else field


def _value(field: str, value: Any) -> Any:
    if value is None:
        return None
    if field in _JSON:
        return _encode(value).decode()
    return int(value) if isinstance(value, bool) else value


def _build(row: Row) -> Build:
    state, definition = row["image_state_json"], row["actor_definition_json"]
    return Build(
        id=row["id"],
        actor_id=row["actor_id"],
        user_id=row["user_id"],
        version_number=row["version_number"],
        build_number=row["build_number"],
        status=JobStatus(row["status"]),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        meta=_meta(row["meta_json"]),
        options=_object(row["options_json"]),
        tag=row["tag"],
        exit_code=row["exit_code"],
        status_message=row["status_message"],
        running_at=row["running_at"],
        abort_requested=bool(row["abort_requested"]),
        env_vars=_env_vars(row["env_vars_json"]),
        actor_version=_object(row["actor_version_json"]),
        image_kind=row["image_kind"],
        image_state=_object(state) if state else None,
        image_size_bytes=row["image_size_bytes"],
        actor_definition=_object(definition) if definition else None,
        input_schema=row["input_schema"],
        readme=row["readme"],
        changelog=row["changelog"],
    )


async def next_build_number(tx: Tx, actor_id: str, version_number: str) -> str:
    """The next number ``a.b.N`` of a version; a number is never given out twice."""
    row = await tx.fetchrow(
        "INSERT INTO build_counters (actor_id, version_number, last_patch) VALUES (?, ?, 1) "
        "ON CONFLICT (actor_id, version_number) DO UPDATE SET last_patch = build_counters.last_patch + 1 "
        "RETURNING last_patch",
        actor_id,
        version_number,
    )
    if row is None:
        raise LookupError(f"no build counter for Actor {actor_id}")
    return f"{version_number}.{row['last_patch']}"


async def insert_build(tx: Tx, build: Build) -> None:
    """Store a new build."""
    values = {_column(field): _value(field, getattr(build, field)) for field in build.__struct_fields__}
    await tx.execute(f"INSERT INTO builds ({', '.join(values)}) VALUES ({placeholders(len(values))})", *values.values())


async def transition(tx: Tx, build_id: str, from_: Collection[JobStatus], to: JobStatus, **fields: Any) -> Build | None:
    """Change a build's status if it is one of ``from_``, together with ``fields``.

    Returns the build as it is now, or ``None`` when someone else was first.
    """
    for status in from_:
        if to not in BUILD_TRANSITIONS[status]:
            raise ValueError(f"no build may go from {status} to {to}")
    changes = {"status": to, **fields}
    row = await tx.fetchrow(
        f"UPDATE builds SET {', '.join(f'{_column(field)} = ?' for field in changes)} "
        f"WHERE id = ? AND status IN ({placeholders(len(from_))}) RETURNING *",
        *(_value(field, value) for field, value in changes.items()),
        build_id,
        *from_,
    )
    return _build(row) if row is not None else None


async def get_build(tx: Tx, build_id: str) -> Build | None:
    """A build by id."""
    row = await tx.fetchrow("SELECT * FROM builds WHERE id = ?", build_id)
    return _build(row) if row is not None else None


async def find_build(tx: Tx, actor_id: str, build_number: str) -> Build | None:
    """A build of an Actor by number."""
    row = await tx.fetchrow("SELECT * FROM builds WHERE actor_id = ? AND build_number = ?", actor_id, build_number)
    return _build(row) if row is not None else None


async def find_tagged_build(tx: Tx, actor_id: str, tag: str) -> Build | None:
    """The build of an Actor that holds a tag."""
    row = await tx.fetchrow(
        "SELECT b.* FROM build_tags t JOIN builds b ON b.id = t.build_id WHERE t.actor_id = ? AND t.tag = ?",
        actor_id,
        tag,
    )
    return _build(row) if row is not None else None


async def list_builds(
    tx: Tx, *, user_id: str | None, actor_id: str | None, offset: int, limit: int, desc: bool
) -> tuple[list[Build], int]:
    """A page of builds by start time, and how many there are in all."""
    condition, args = ("actor_id = ?", [actor_id]) if actor_id is not None else ("user_id = ?", [user_id])
    direction = "DESC" if desc else "ASC"
    total = await tx.fetchrow(f"SELECT COUNT(*) AS total FROM builds WHERE {condition}", *args)
    rows = await tx.fetch(
        f"SELECT * FROM builds WHERE {condition} ORDER BY started_at {direction}, id {direction} LIMIT ? OFFSET ?",
        *args,
        limit,
        offset,
    )
    return [_build(row) for row in rows], total["total"] if total else 0


async def list_live_builds(tx: Tx) -> list[Build]:
    """Every build that is not over, oldest first."""
    rows = await tx.fetch(
        "SELECT * FROM builds WHERE status IN ('READY', 'RUNNING', 'TIMING-OUT', 'ABORTING') ORDER BY started_at, id"
    )
    return [_build(row) for row in rows]


async def list_all_of_actor(tx: Tx, actor_id: str) -> list[Build]:
    """Every build of an Actor."""
    return [_build(row) for row in await tx.fetch("SELECT * FROM builds WHERE actor_id = ?", actor_id)]


async def delete_build(tx: Tx, build_id: str) -> Build | None:
    """Delete a build that is over, with its tags; ``None`` when it is not there or not over."""
    row = await tx.fetchrow(
        f"DELETE FROM builds WHERE id = ? AND status IN ({placeholders(len(TERMINAL_STATUSES))}) RETURNING *",
        build_id,
        *TERMINAL_STATUSES,
    )
    if row is None:
        return None
    build = _build(row)
    if build.image_state is not None:
        await tx.execute(
            "INSERT INTO image_garbage (build_id, image_kind, image_state_json) VALUES (?, ?, ?)",
            build.id,
            build.image_kind,
            row["image_state_json"],
        )
    return build


async def list_image_garbage(tx: Tx) -> list[tuple[str, dict[str, Any]]]:
    """``(build_id, image_state)`` of deleted builds whose image no live run uses."""
    rows = await tx.fetch(
        "SELECT build_id, image_state_json FROM image_garbage WHERE build_id NOT IN (SELECT build_id FROM runs "
        "WHERE status IN ('READY', 'RUNNING', 'TIMING-OUT', 'ABORTING'))"
    )
    return [(row["build_id"], _object(row["image_state_json"])) for row in rows]


async def forget_image(tx: Tx, build_id: str) -> None:
    """Note that an image is gone."""
    await tx.execute("DELETE FROM image_garbage WHERE build_id = ?", build_id)


async def set_tag(tx: Tx, actor_id: str, tag: str, build_id: str | None) -> None:
    """Let a tag point to a build, or (``None``) remove it."""
    if build_id is None:
        await tx.execute("DELETE FROM build_tags WHERE actor_id = ? AND tag = ?", actor_id, tag)
        return
    await tx.execute(
        "INSERT INTO build_tags (actor_id, tag, build_id) VALUES (?, ?, ?) "
        "ON CONFLICT (actor_id, tag) DO UPDATE SET build_id = EXCLUDED.build_id",
        actor_id,
        tag,
        build_id,
    )


async def list_tags(tx: Tx, actor_id: str) -> dict[str, str]:
    """Tag to build id."""
    rows = await tx.fetch("SELECT tag, build_id FROM build_tags WHERE actor_id = ? ORDER BY tag", actor_id)
    return {row["tag"]: row["build_id"] for row in rows}


async def list_tagged_builds(tx: Tx, actor_id: str) -> dict[str, Build]:
    """Tag to build."""
    found = {}
    for tag in await list_tags(tx, actor_id):
        build = await find_tagged_build(tx, actor_id, tag)
        if build is not None:
            found[tag] = build
    return found
