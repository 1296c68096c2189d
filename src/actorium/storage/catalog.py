"""Actors and their versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actorium.domain.models import Actor, ActorStats, DevFolder, EnvVar, SourceFile, Version
from actorium.domain.times import DAY_MS
from actorium.storage import run_counts
from actorium.storage.db import Row, Tx

_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, Any]).decode
_files = msgspec.json.Decoder(tuple[SourceFile, ...]).decode
_dev = msgspec.json.Decoder(DevFolder).decode
_env_vars = msgspec.json.Decoder(tuple[EnvVar, ...]).decode

_SORTS = {
    "createdAt": "a.created_at",
    "stats.lastRunStartedAt": "COALESCE((SELECT MAX(last_run_started_at) FROM actor_users r "
    "WHERE r.actor_id = a.id), 0)",
}
_RECENT_DAYS = (7, 30, 90)
_PUBLIC_DAYS = 30


def actor_of(row: Row) -> Actor:
    """An Actor out of a row of its table."""
    return Actor(
        id=row["id"],
        user_id=row["user_id"],
        name=row["name"],
        created_at=row["created_at"],
        modified_at=row["modified_at"],
        default_run_options=_object(row["default_run_options_json"]),
        fields=_object(row["fields_json"]),
        dev=_dev(row["dev_json"]) if row["dev_json"] else None,
    )


def _version(row: Row) -> Version:
    return Version(
        actor_id=row["actor_id"],
        version_number=row["version_number"],
        source_type=row["source_type"],
        source_files=_files(row["source_files_json"]),
        source_url=row["source_url"],
        env_vars=_env_vars(row["env_vars_json"]),
        apply_env_vars_to_build=bool(row["apply_env_vars_to_build"]),
        build_tag=row["build_tag"],
    )


async def insert_actor(tx: Tx, actor: Actor) -> None:
    """Store a new Actor; raises ``UniqueViolationError`` when the owner has one of this name."""
    await tx.execute(
        "INSERT INTO actors (id, user_id, name, name_key, created_at, modified_at, default_run_options_json, "
        "fields_json, is_public) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        actor.id,
        actor.user_id,
        actor.name,
        actor.name.lower(),
        actor.created_at,
        actor.modified_at,
        _encode(actor.default_run_options).decode(),
        _encode(actor.fields).decode(),
        int(actor.is_public),
    )


async def update_actor(tx: Tx, actor: Actor) -> None:
    """Store an Actor's changed fields; raises ``UniqueViolationError`` when the new name is taken."""
    await tx.execute(
        "UPDATE actors SET name = ?, name_key = ?, modified_at = ?, default_run_options_json = ?, fields_json = ?, "
        "is_public = ? WHERE id = ?",
        actor.name,
        actor.name.lower(),
        actor.modified_at,
        _encode(actor.default_run_options).decode(),
        _encode(actor.fields).decode(),
        int(actor.is_public),
        actor.id,
    )


async def get_actor(tx: Tx, actor_id: str, *, for_update: bool = False) -> Actor | None:
    """An Actor by id; ``for_update`` makes writers to one Actor take turns."""
    row = await tx.fetchrow(f"SELECT * FROM actors WHERE id = ? {tx.for_update if for_update else ''}", actor_id)
    return actor_of(row) if row is not None else None


async def find_actor(tx: Tx, owner: str, name: str) -> Actor | None:
    """An Actor by its owner's id or username and its name, both in any case."""
    row = await tx.fetchrow(
        "SELECT a.* FROM actors a JOIN users u ON u.id = a.user_id "
        "WHERE (u.id = ? OR u.username_key = ?) AND a.name_key = ?",
        owner,
        owner.lower(),
        name.lower(),
    )
    return actor_of(row) if row is not None else None


async def list_actors(
    tx: Tx, user_id: str, *, my: bool, sort_by: str, offset: int, limit: int, desc: bool, now: int
) -> tuple[list[tuple[Actor, str, ActorStats]], int]:
    """A page of the Actors a user made (or, unless ``my``, ran), with owner's name and counts, and the total."""
    ran = "a.id IN (SELECT actor_id FROM actor_users WHERE user_id = ?)"
    scope = "a.user_id = ?" if my else f"(a.user_id = ? OR {ran})"
    args = (user_id,) if my else (user_id, user_id)
    direction = "DESC" if desc else "ASC"
    total = await tx.fetchrow(f"SELECT COUNT(*) AS total FROM actors a WHERE {scope}", *args)
    rows = await tx.fetch(
        f"SELECT a.*, u.username FROM actors a JOIN users u ON u.id = a.user_id WHERE {scope} "
        f"ORDER BY {_SORTS[sort_by]} {direction}, a.id {direction} LIMIT ? OFFSET ?",
        *args,
        limit,
        offset,
    )
    found = [(actor_of(row), row["username"], await actor_stats(tx, actor_of(row), now)) for row in rows]
    return found, total["total"] if total else 0


async def actor_stats(tx: Tx, actor: Actor, now: int) -> ActorStats:
    """Counts over an Actor's builds and runs."""
    counts = await run_counts.run_counts(tx, actor.id, tuple(now - days * DAY_MS for days in _RECENT_DAYS))
    row = await tx.fetchrow(
        "SELECT COALESCE(SUM(last_patch), 0) AS total_builds FROM build_counters WHERE actor_id = ?", actor.id
    )
    month = now - _PUBLIC_DAYS * DAY_MS
    return ActorStats(
        total_builds=int(row["total_builds"]) if row is not None else 0,
        total_runs=counts.total_runs,
        total_users=counts.total_users,
        last_run_started_at=counts.last_run_started_at,
        recent_users=counts.users_since,
        total_metamorphs=counts.total_metamorphs,
        public_run_statuses=(
            await run_counts.statuses_of_others(tx, actor.id, actor.user_id, month) if actor.is_public else None
        ),
    )


async def count_actors(tx: Tx, user_id: str) -> int:
    """How many Actors a user has."""
    row = await tx.fetchrow("SELECT COUNT(*) AS count FROM actors WHERE user_id = ?", user_id)
    return row["count"] if row is not None else 0


async def delete_actor(tx: Tx, actor_id: str) -> None:
    """Delete an Actor with its versions, tags and counts; its builds and tasks are the caller's to delete."""
    await run_counts.forget_actor(tx, actor_id)
    await tx.execute("DELETE FROM actors WHERE id = ?", actor_id)


async def set_dev_folder(tx: Tx, actor_id: str, dev: DevFolder | None) -> None:
    """Note the folder an Actor is developed in, or that there is none any more; no change of the Actor itself."""
    await tx.execute(
        "UPDATE actors SET dev_json = ? WHERE id = ?", None if dev is None else _encode(dev).decode(), actor_id
    )


async def list_dev_actors(tx: Tx) -> list[Actor]:
    """Every Actor that is being developed in a folder."""
    return [actor_of(row) for row in await tx.fetch("SELECT * FROM actors WHERE dev_json IS NOT NULL ORDER BY id")]


async def touch_actor(tx: Tx, actor_id: str, now: int) -> None:
    """Note that somebody changed the Actor, a version or a variable."""
    await tx.execute("UPDATE actors SET modified_at = ? WHERE id = ?", now, actor_id)


async def put_version(tx: Tx, version: Version) -> None:
    """Store a version, new or changed."""
    major, minor = (int(part) for part in version.version_number.split("."))
    await tx.execute(
        "INSERT INTO versions (actor_id, version_number, sort_key, source_type, source_files_json, source_url, "
        "env_vars_json, apply_env_vars_to_build, build_tag) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (actor_id, version_number) DO UPDATE SET source_type = EXCLUDED.source_type, "
        "source_files_json = EXCLUDED.source_files_json, source_url = EXCLUDED.source_url, "
        "env_vars_json = EXCLUDED.env_vars_json, apply_env_vars_to_build = EXCLUDED.apply_env_vars_to_build, "
        "build_tag = EXCLUDED.build_tag",
        version.actor_id,
        version.version_number,
        major * 100 + minor,
        version.source_type,
        _encode(version.source_files).decode(),
        version.source_url,
        _encode(version.env_vars).decode(),
        int(version.apply_env_vars_to_build),
        version.build_tag,
    )


async def get_version(tx: Tx, actor_id: str, version_number: str) -> Version | None:
    """One version."""
    row = await tx.fetchrow(
        "SELECT * FROM versions WHERE actor_id = ? AND version_number = ?", actor_id, version_number
    )
    return _version(row) if row is not None else None


async def list_versions(tx: Tx, actor_id: str) -> Sequence[Version]:
    """An Actor's versions, lowest number first."""
    rows = await tx.fetch("SELECT * FROM versions WHERE actor_id = ? ORDER BY sort_key", actor_id)
    return [_version(row) for row in rows]


async def delete_version(tx: Tx, actor_id: str, version_number: str) -> bool:
    """Delete a version; false when there is none."""
    return (
        await tx.execute("DELETE FROM versions WHERE actor_id = ? AND version_number = ?", actor_id, version_number) > 0
    )
