"""Actors: resolve, create, read, update, list, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from actorium.domain.actor_prices import appended
from actorium.domain.actors import (
    DEFAULT_STANDBY,
    MAX_ACTORS,
    check_descriptive,
    check_name,
    check_publishable,
    merge_run_options,
    merge_standby,
)
from actorium.domain.errors import ApiError, ErrorType, invalid, not_found, refused
from actorium.domain.models import Actor, ActorStats, Build, JobStatus, User, Version
from actorium.domain.permissions import PermissionLevel
from actorium.domain.secrets import Vault
from actorium.domain.versions import (
    check_tag,
    check_version_number,
    check_versions_size,
    uses_standby,
    with_actor_name,
)
from actorium.kit import Clock, new_id
from actorium.services.access import Principal
from actorium.services.version_bodies import version_from_body
from actorium.storage import accounts, builds, catalog, dependents, tasks
from actorium.storage.db import Database, Tx, UniqueViolationError


class ActorView(msgspec.Struct, frozen=True):
    """An Actor with everything its API object shows. ``is_own`` decides whether sources are among it."""

    actor: Actor
    username: str
    versions: Sequence[Version]
    tagged_builds: dict[str, Build]
    stats: ActorStats
    is_own: bool


AfterDeletion = Callable[[str, Sequence[str]], Awaitable[None]]
"""``(actor_id, build_ids)``: ends what still runs of a deleted Actor, and forgets the logs of its builds."""


class Actors:
    """The Actor service. ``after_deletion`` is told of a deleted Actor and its deleted builds.

    ``default_run_options`` (the API's names) are shown where an Actor sets none; they apply when a run starts.
    ``default_level`` is the ``actorPermissionLevel`` of new ones.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        vault: Vault,
        after_deletion: AfterDeletion,
        default_run_options: dict[str, Any],
        default_level: str = PermissionLevel.FULL.value,
    ) -> None:
        self._default_level = default_level
        self._db = db
        self._clock = clock
        self._vault = vault
        self._after_deletion = after_deletion
        self._default_run_options = default_run_options

    async def resolve(self, principal: Principal | None, reference: str) -> Actor:
        """The Actor that an id, ``user~name``, ``userId~name``, ``~name`` or bare own name means. Raises 404."""
        separator = "/" if "/" in reference else "~"
        owner, found, name = reference.partition(separator)
        if found and not name:
            raise invalid("Resource name parameter cannot be empty")

        async def op(tx: Tx) -> Actor | None:
            if found:
                if owner:
                    return await catalog.find_actor(tx, owner, name)
                return await catalog.find_actor(tx, principal.user_id, name) if principal else None
            by_id = await catalog.get_actor(tx, reference)
            if by_id is None and principal is not None:
                return await catalog.find_actor(tx, principal.user_id, reference)
            return by_id

        actor = await self._db.read("resolve Actor", op)
        if actor is None or not (actor.is_public or (principal is not None and principal.owns(actor.user_id))):
            raise not_found("Actor")
        return actor

    async def resolve_own(self, principal: Principal, reference: str) -> Actor:
        """Like ``resolve``, for a change: only an Actor of the caller's own."""
        actor = await self.resolve(principal, reference)
        if not principal.owns(actor.user_id):
            raise ApiError(ErrorType.INSUFFICIENT_PERMISSIONS, "You do not have permission to change this Actor.")
        return actor

    async def get(self, actor_id: str) -> Actor:
        """An Actor by id, whoever asks. Raises 404."""

        async def op(tx: Tx) -> Actor | None:
            return await catalog.get_actor(tx, actor_id)

        actor = await self._db.read("get Actor", op)
        if actor is None:
            raise not_found("Actor")
        return actor

    async def owner_name(self, actor: Actor) -> str:
        """The username of an Actor's owner."""

        async def op(tx: Tx) -> User | None:
            return await accounts.get_user(tx, actor.user_id)

        owner = await self._db.read("owner of Actor", op)
        return owner.username if owner is not None else ""

    async def view(self, principal: Principal | None, actor: Actor) -> ActorView:
        """Everything the Actor's API object shows."""

        async def op(tx: Tx) -> ActorView:
            return await self._view(tx, actor.id, principal)

        return await self._db.read("view Actor", op)

    async def list(
        self, principal: Principal, *, my: bool, sort_by: str, offset: int, limit: int, desc: bool
    ) -> tuple[Sequence[tuple[Actor, str, ActorStats]], int]:
        """A page of the Actors the caller made or ran."""
        now = self._clock.now_ms()

        async def op(tx: Tx) -> tuple[Sequence[tuple[Actor, str, ActorStats]], int]:
            return await catalog.list_actors(
                tx, principal.user_id, my=my, sort_by=sort_by, offset=offset, limit=limit, desc=desc, now=now
            )

        return await self._db.read("list Actors", op)

    async def create(self, principal: Principal, body: dict[str, Any]) -> ActorView:
        """A new Actor, with versions where the body has them. openapi: actors_post."""
        name = check_name(body.get("name"))
        actor_id, now = new_id(), self._clock.now_ms()
        if body.get("pricingInfos"):
            raise invalid("Field pricingInfos must be empty for a new Actor: set prices with an update.")
        fields = check_descriptive(body)
        fields.setdefault("actorPermissionLevel", self._default_level)
        check_publishable(fields)
        versions = [
            msgspec.structs.replace(version, source_files=with_actor_name(version.source_files, name))
            for version in self._versions(actor_id, body.get("versions"), {})
        ]
        if body.get("actorStandby"):
            fields["actorStandby"] = merge_standby(DEFAULT_STANDBY, body["actorStandby"])
        elif any(uses_standby(version.source_files) for version in versions):
            fields["actorStandby"] = {**DEFAULT_STANDBY, "isEnabled": True}
        actor = Actor(
            id=actor_id,
            user_id=principal.user_id,
            name=name,
            created_at=now,
            modified_at=now,
            default_run_options=merge_run_options({}, _run_options(body)),
            fields=fields,
        )

        async def op(tx: Tx) -> ActorView:
            if await catalog.count_actors(tx, principal.user_id) >= MAX_ACTORS:
                raise ApiError(ErrorType.TOO_MANY_ACTORS, f"You cannot have more than {MAX_ACTORS} Actors.")
            if await catalog.find_actor(tx, principal.user_id, name) is not None:
                raise _name_taken(name)
            await catalog.insert_actor(tx, actor)
            for version in versions:
                await catalog.put_version(tx, version)
            return await self._view(tx, actor_id, principal)

        try:
            return await self._db.write("create Actor", op)
        except UniqueViolationError as error:
            raise _name_taken(name) from error

    def _versions(self, actor_id: str, value: object, current: dict[str, Version]) -> Sequence[Version]:
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise refused("Field versions must be a list of objects.")
        versions = {}
        for item in value:
            number = check_version_number(item.get("versionNumber"))
            if number in versions:
                raise refused(f"Field versions has version {number} twice.")
            versions[number] = version_from_body(self._vault, actor_id, number, item, current.get(number))
        check_versions_size(versions.values())
        return list(versions.values())

    async def update(self, principal: Principal, actor: Actor, body: dict[str, Any]) -> ActorView:
        """Change what the body names, nothing else. openapi: actor_put."""
        fields = check_descriptive(body)
        name = check_name(body["name"]) if body.get("name") is not None else None
        tags = _tag_changes(body.get("taggedBuilds"))
        now = self._clock.now_ms()

        async def op(tx: Tx) -> ActorView:
            current = await catalog.get_actor(tx, actor.id, for_update=True)
            if current is None:
                raise not_found("Actor")
            changed_fields = {**current.fields, **fields}
            if fields.keys() & {"isPublic", "title", "categories"}:
                check_publishable(changed_fields)
            if body.get("actorStandby"):
                standby = current.fields.get("actorStandby") or DEFAULT_STANDBY
                changed_fields["actorStandby"] = merge_standby(standby, body["actorStandby"])
            if body.get("pricingInfos") is not None:
                priced = current.fields.get("pricingInfos") or []
                changed_fields["pricingInfos"] = appended(priced, body["pricingInfos"], now)
            changed = msgspec.structs.replace(
                current,
                name=name or current.name,
                modified_at=now,
                default_run_options=merge_run_options(current.default_run_options, _run_options(body)),
                fields=changed_fields,
            )
            await catalog.update_actor(tx, changed)
            if current.is_public and not changed.is_public:
                await tasks.unpublish_tasks_of_actor(tx, actor.id)
            if body.get("versions") is not None:
                await self._replace_versions(tx, actor.id, body["versions"])
            for tag, build_id in tags.items():
                await _change_tag(tx, actor.id, tag, build_id)
            return await self._view(tx, actor.id, principal)

        try:
            return await self._db.write("update Actor", op)
        except UniqueViolationError as error:
            raise _name_taken(name or "") from error

    async def _replace_versions(self, tx: Tx, actor_id: str, value: object) -> None:
        current = {version.version_number: version for version in await catalog.list_versions(tx, actor_id)}
        versions = self._versions(actor_id, value, current)
        for number in current.keys() - {version.version_number for version in versions}:
            await catalog.delete_version(tx, actor_id, number)
        for version in versions:
            await catalog.put_version(tx, version)

    async def delete(self, actor: Actor) -> None:
        """Delete an Actor with versions, builds, webhooks and its owner's tasks; live runs are aborted, all stay."""
        now = self._clock.now_ms()

        async def op(tx: Tx) -> tuple[Actor, Sequence[str]]:
            if await catalog.get_actor(tx, actor.id, for_update=True) is None:
                raise not_found("Actor")
            await dependents.drop_dependents_of_actor(tx, actor.id, actor.user_id, now)
            deleted = await builds.delete_builds_of_actor(tx, actor.id, now)
            await tasks.delete_tasks_of_actor(tx, actor.id, actor.user_id)
            await catalog.delete_actor(tx, actor.id)
            return actor, deleted

        _, deleted = await self._db.write("delete Actor", op)
        await self._after_deletion(actor.id, deleted)

    async def _view(self, tx: Tx, actor_id: str, principal: Principal | None) -> ActorView:
        actor = await catalog.get_actor(tx, actor_id)
        if actor is None:
            raise not_found("Actor")
        user = await accounts.get_user(tx, actor.user_id)
        shown = {**self._default_run_options, **actor.default_run_options}
        return ActorView(
            actor=msgspec.structs.replace(actor, default_run_options=shown),
            username=user.username if user else "",
            versions=await catalog.list_versions(tx, actor_id),
            tagged_builds=await builds.list_tagged_builds(tx, actor_id),
            stats=await catalog.actor_stats(tx, actor, self._clock.now_ms()),
            is_own=principal is not None and principal.owns(actor.user_id),
        )


def _run_options(body: dict[str, Any]) -> object:
    """``defaultRunOptions`` of a body; the old field ``restartOnError`` beside it means the one in it."""
    given, restart = body.get("defaultRunOptions"), body.get("restartOnError")
    if restart is None or not (given is None or isinstance(given, dict)):
        return given
    return {"restartOnError": restart, **(given or {})}


def _tag_changes(value: object) -> dict[str, str | None]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refused("Field taggedBuilds must be an object.")
    changes: dict[str, str | None] = {}
    for tag, target in value.items():
        check_tag("taggedBuilds", tag)
        if target is None:
            changes[tag] = None
        elif isinstance(target, dict) and isinstance(target.get("buildId"), str):
            changes[tag] = target["buildId"]
        else:
            raise refused(f"Field taggedBuilds.{tag} must be null or an object with a buildId.")
    return changes


async def _change_tag(tx: Tx, actor_id: str, tag: str, build_id: str | None) -> None:
    if build_id is not None:
        build = await builds.get_build(tx, build_id)
        if build is None or build.actor_id != actor_id:
            raise not_found("Build")
        if build.status is not JobStatus.SUCCEEDED:
            raise ApiError(
                ErrorType.INVALID_BUILD, f"Build {build.build_number} has not succeeded: it cannot be tagged."
            )
    await builds.set_tag(tx, actor_id, tag, build_id)


def _name_taken(name: str) -> ApiError:
    return ApiError(ErrorType.ACTOR_NAME_NOT_UNIQUE, f"Actor name {name!r} is already used by another of your Actors.")
