"""Builds and tags. ``transition`` is the only place where a build's status is written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from actorium.domain.build_states import BUILD_TRANSITIONS
from actorium.domain.models import TERMINAL_STATUSES, Build, EnvVar, JobStatus, Meta, SourceFile
from actorium.domain.webhooks import BUILD_CREATED, build_event
from actorium.storage import outbox
from actorium.storage.db import Row, Tx, placeholders
from actorium.storage.log_garbage import discard_log

_S = JobStatus
_encode = msgspec.json.Encoder().encode
_meta = msgspec.json.Decoder(Meta).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode
_env_vars = msgspec.json.Decoder(tuple[EnvVar, ...]).decode

_files = msgspec.json.Decoder(tuple[SourceFile, ...]).decode

_JSON = {"meta", "options", "env_vars", "actor_version", "image_state", "actor_definition"}


def _column(field: str) -> str:
    return f"{field}_json" if field in _JSON else field


_COLUMNS = ", ".join(_column(field) for field in Build.__struct_fields__)
_LONG = {"actor_definition", "input_schema", "readme", "changelog"}
_SHORT_COLUMNS = ", ".join(
    f"NULL AS {_column(field)}" if field in _LONG else _column(field) for field in Build.__struct_fields__
)
"""What a list needs; the other columns are long texts."""


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


async def insert_build(tx: Tx, build: Build, source_files: Sequence[SourceFile] = ()) -> None:
    """Store a new build with the files it is made from, and the event of its creation."""
    values = {_column(field): _value(field, getattr(build, field)) for field in build.__struct_fields__}
    values["source_files_json"] = _encode(source_files).decode()
    await tx.execute(f"INSERT INTO builds ({', '.join(values)}) VALUES ({placeholders(len(values))})", *values.values())
    await outbox.add_build_event(tx, build, BUILD_CREATED, build.started_at)


async def transition(tx: Tx, build_id: str, from_: Collection[JobStatus], to: JobStatus, **fields: Any) -> Build | None:
    """Change a build's status if it is one of ``from_``, together with ``fields``, and write its event to the outbox.

    Returns the build as it is now, or ``None`` when someone else was first.
    """
    for status in from_:
        if to not in BUILD_TRANSITIONS[status]:
            raise ValueError(f"no build may go from {status} to {to}")
    changes = {"status": to, **fields}
    row = await tx.fetchrow(
        f"UPDATE builds SET {', '.join(f'{_column(field)} = ?' for field in changes)} "
        f"WHERE id = ? AND status IN ({placeholders(len(from_))}) RETURNING {_COLUMNS}",
        *(_value(field, value) for field, value in changes.items()),
        build_id,
        *from_,
    )
    build = _build(row) if row is not None else None
    event = build_event(to)
    if build is not None and event is not None:
        await outbox.add_build_event(tx, build, event, build.finished_at or build.started_at)
    return build


async def get_build(tx: Tx, build_id: str) -> Build | None:
    """A build by id."""
    row = await tx.fetchrow(f"SELECT {_COLUMNS} FROM builds WHERE id = ?", build_id)
    return _build(row) if row is not None else None


async def find_build(tx: Tx, actor_id: str, build_number: str) -> Build | None:
    """A build of an Actor by number."""
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM builds WHERE actor_id = ? AND build_number = ?", actor_id, build_number
    )
    return _build(row) if row is not None else None


async def find_tagged_build(tx: Tx, actor_id: str, tag: str) -> Build | None:
    """The build of an Actor that holds a tag."""
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM builds WHERE id = (SELECT build_id FROM build_tags WHERE actor_id = ? AND tag = ?)",
        actor_id,
        tag,
    )
    return _build(row) if row is not None else None


async def list_builds(
    tx: Tx, *, user_id: str | None, actor_id: str | None, offset: int, limit: int, desc: bool
) -> tuple[list[Build], int]:
    """A page of builds by start time, without definitions and texts, and how many there are in all."""
    condition, args = ("actor_id = ?", [actor_id]) if actor_id is not None else ("user_id = ?", [user_id])
    direction = "DESC" if desc else "ASC"
    total = await tx.fetchrow(f"SELECT COUNT(*) AS total FROM builds WHERE {condition}", *args)
    rows = await tx.fetch(
        f"SELECT {_SHORT_COLUMNS} FROM builds WHERE {condition} "
        f"ORDER BY started_at {direction}, id {direction} LIMIT ? OFFSET ?",
        *args,
        limit,
        offset,
    )
    return [_build(row) for row in rows], total["total"] if total else 0


async def list_live_builds(tx: Tx) -> list[Build]:
    """Every build that is not over, oldest first."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM builds WHERE status IN ('READY', 'RUNNING', 'TIMING-OUT', 'ABORTING') "
        "ORDER BY started_at, id"
    )
    return [_build(row) for row in rows]


async def get_source_files(tx: Tx, build_id: str) -> tuple[SourceFile, ...]:
    """The files a build is made from."""
    row = await tx.fetchrow("SELECT source_files_json FROM builds WHERE id = ?", build_id)
    return _files(row["source_files_json"]) if row is not None else ()


async def delete_builds_of_actor(tx: Tx, actor_id: str, now: int) -> list[str]:
    """Delete the builds of an Actor that is deleted; returns their ids.

    One that a builder works on becomes ABORTING; the builder deletes it when it is over.
    """
    deleted = []
    for row in await tx.fetch("SELECT id FROM builds WHERE actor_id = ?", actor_id):
        build_id = row["id"]
        await transition(tx, build_id, {_S.READY}, _S.ABORTED, finished_at=now)
        await transition(tx, build_id, {_S.RUNNING, _S.TIMING_OUT}, _S.ABORTING, abort_requested=True)
        if await delete_build(tx, build_id) is not None:
            deleted.append(build_id)
    return deleted


def _names(column: str) -> str:
    """Whether options, in the JSON text ``column``, name build ``b`` by its number."""
    return f"COALESCE({column}, '') LIKE '%\"build\":\"' || b.build_number || '\"%'"


async def list_unused_builds(tx: Tx, *, finished_before: int, most: int) -> list[str]:
    """Builds that ended before a time, that nothing names and that no run since then is of."""
    rows = await tx.fetch(
        "SELECT b.id FROM builds b LEFT JOIN actors a ON a.id = b.actor_id WHERE b.finished_at < ? "
        f"AND b.status IN ({placeholders(len(TERMINAL_STATUSES))}) "
        "AND NOT EXISTS (SELECT 1 FROM build_tags t WHERE t.build_id = b.id) "
        "AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.actor_id = b.actor_id AND r.build_id = b.id "
        "AND (r.started_at >= ? OR r.finished_at IS NULL)) "
        f"AND NOT EXISTS (SELECT 1 FROM tasks k WHERE k.actor_id = b.actor_id AND ({_names('k.options_json')} "
        f"OR {_names('k.fields_json')})) AND (a.id IS NULL OR NOT ({_names('a.default_run_options_json')} "
        f"OR {_names('a.fields_json')})) "
        "ORDER BY b.finished_at LIMIT ?",
        finished_before,
        *TERMINAL_STATUSES,
        finished_before,
        most,
    )
    return [row["id"] for row in rows]


async def delete_build(tx: Tx, build_id: str) -> Build | None:
    """Delete a build that is over, with its tags; ``None`` when it is not there or not over."""
    row = await tx.fetchrow(
        f"DELETE FROM builds WHERE id = ? AND status IN ({placeholders(len(TERMINAL_STATUSES))}) RETURNING {_COLUMNS}",
        build_id,
        *TERMINAL_STATUSES,
    )
    if row is None:
        return None
    await discard_log(tx, build_id)
    build = _build(row)
    if build.image_state is not None:
        await tx.execute(
            "INSERT INTO image_garbage (build_id, image_kind, image_state_json) VALUES (?, ?, ?)",
            build.id,
            build.image_kind,
            row["image_state_json"],
        )
    return build


async def list_image_garbage(tx: Tx) -> list[tuple[str, str, dict[str, Any]]]:
    """``(build_id, image_kind, image_state)`` of deleted builds whose image no live run uses."""
    rows = await tx.fetch(
        "SELECT build_id, image_kind, image_state_json FROM image_garbage WHERE build_id NOT IN "
        "(SELECT build_id FROM runs WHERE status IN ('READY', 'RUNNING', 'TIMING-OUT', 'ABORTING'))"
    )
    return [(row["build_id"], row["image_kind"], _object(row["image_state_json"])) for row in rows]


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
