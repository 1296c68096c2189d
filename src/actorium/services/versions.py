"""Versions of an Actor and their environment variables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from actorium.domain.actors import DEFAULT_STANDBY
from actorium.domain.errors import ApiError, ErrorType, invalid, not_found
from actorium.domain.models import Actor, EnvVar, Version
from actorium.domain.secrets import Vault
from actorium.domain.versions import GivenEnvVar, check_env_var, check_version_number, check_versions_size, uses_standby
from actorium.kit import Clock
from actorium.services.version_bodies import merge_env_var, version_from_body
from actorium.storage import catalog
from actorium.storage.db import Database, Tx

T = TypeVar("T")


class Versions:
    """The version service; every change is a change of the Actor too (``modifiedAt``)."""

    def __init__(self, db: Database, clock: Clock, vault: Vault) -> None:
        self._db = db
        self._clock = clock
        self._vault = vault

    async def list(self, actor: Actor) -> Sequence[Version]:
        """All versions of an Actor, lowest first."""

        async def op(tx: Tx) -> Sequence[Version]:
            return await catalog.list_versions(tx, actor.id)

        return await self._db.read("list versions", op)

    async def get(self, actor: Actor, number: str) -> Version:
        """One version. Raises 404."""

        async def op(tx: Tx) -> Version | None:
            return await catalog.get_version(tx, actor.id, number)

        version = await self._db.read("get version", op)
        if version is None:
            raise not_found("Version")
        return version

    async def create(self, actor: Actor, body: dict[str, Any]) -> Version:
        """A new version. Raises 403 ``version-already-exists``."""
        number = check_version_number(body.get("versionNumber"))
        version = version_from_body(self._vault, actor.id, number, body, None)
        starts_standby = uses_standby(version.source_files)

        async def change(tx: Tx) -> Version:
            if await catalog.get_version(tx, actor.id, number) is not None:
                raise ApiError(ErrorType.VERSION_ALREADY_EXISTS, "Version with this number already exists")
            await _check_size(tx, version)
            await catalog.put_version(tx, version)
            if starts_standby:
                await _switch_standby_on(tx, actor.id)
            return version

        return await self._change(actor, change)

    async def update(self, actor: Actor, number: str, body: dict[str, Any]) -> Version:
        """Change what the body names. Raises 404."""
        named = body.get("versionNumber")
        if named is not None and named != number:
            raise invalid(
                f"Field versionNumber is {named!r:.30}, but the path names version {number}: it cannot change."
            )

        def changed(current: Version) -> Version:
            return version_from_body(self._vault, actor.id, number, body, current)

        return await self._edit(actor, number, changed, check_size=True)

    async def delete(self, actor: Actor, number: str) -> None:
        """Delete a version; its builds stay. Raises 404."""

        async def change(tx: Tx) -> None:
            if not await catalog.delete_version(tx, actor.id, number):
                raise not_found("Version")

        await self._change(actor, change)

    async def get_env_var(self, actor: Actor, number: str, name: str) -> EnvVar:
        """One variable. Raises 404."""
        return _find(await self.get(actor, number), name)

    async def create_env_var(self, actor: Actor, number: str, body: dict[str, Any]) -> EnvVar:
        """A new variable. Raises 403 ``env-var-already-exists``."""
        given = check_env_var(body)

        def changed(current: Version) -> Version:
            if any(var.name == given.name for var in current.env_vars):
                raise ApiError(ErrorType.ENV_VAR_ALREADY_EXISTS, f"Environment variable {given.name} already exists.")
            return _with(current, [*current.env_vars, merge_env_var(self._vault, given, None)])

        return _find(await self._edit(actor, number, changed), given.name)

    async def update_env_var(self, actor: Actor, number: str, name: str, body: dict[str, Any]) -> EnvVar:
        """Change or rename a variable. Raises 404, or 403 when the new name is taken."""
        given = check_env_var({"name": name, **{key: value for key, value in body.items() if value is not None}})

        def changed(current: Version) -> Version:
            stored = _find(current, name)
            if given.name != name and any(var.name == given.name for var in current.env_vars):
                raise ApiError(ErrorType.CANNOT_RENAME_ENV_VAR, f"Environment variable {given.name} already exists.")
            merged = merge_env_var(self._vault, GivenEnvVar(given.name, given.value, given.is_secret), stored)
            return _with(current, [merged if var.name == name else var for var in current.env_vars])

        return _find(await self._edit(actor, number, changed), given.name)

    async def delete_env_var(self, actor: Actor, number: str, name: str) -> None:
        """Delete a variable. Raises 404."""

        def changed(current: Version) -> Version:
            stored = _find(current, name)
            return _with(current, [var for var in current.env_vars if var is not stored])

        await self._edit(actor, number, changed)

    async def _edit(
        self, actor: Actor, number: str, changed: Callable[[Version], Version], *, check_size: bool = False
    ) -> Version:
        async def change(tx: Tx) -> Version:
            current = await catalog.get_version(tx, actor.id, number)
            if current is None:
                raise not_found("Version")
            version = changed(current)
            if check_size:
                await _check_size(tx, version)
            await catalog.put_version(tx, version)
            return version

        return await self._change(actor, change)

    async def _change(self, actor: Actor, change: Callable[[Tx], Awaitable[T]]) -> T:
        now = self._clock.now_ms()

        async def op(tx: Tx) -> tuple[Actor, T]:
            # The row lock makes writers to one Actor take turns instead of failing.
            if await catalog.get_actor(tx, actor.id, for_update=True) is None:
                raise not_found("Actor")
            result = await change(tx)
            await catalog.touch_actor(tx, actor.id, now)
            return actor, result

        return (await self._db.write("change version", op))[1]


async def _check_size(tx: Tx, version: Version) -> None:
    others = await catalog.list_versions(tx, version.actor_id)
    check_versions_size([version, *(other for other in others if other.version_number != version.version_number)])


async def _switch_standby_on(tx: Tx, actor_id: str) -> None:
    actor = await catalog.get_actor(tx, actor_id)
    if actor is not None:
        standby = {**(actor.fields.get("actorStandby") or DEFAULT_STANDBY), "isEnabled": True}
        fields = {**actor.fields, "actorStandby": standby}
        await catalog.update_actor(tx, msgspec.structs.replace(actor, fields=fields))


def _find(version: Version, name: str) -> EnvVar:
    for var in version.env_vars:
        if var.name == name:
            return var
    raise not_found("Environment variable")


def _with(version: Version, env_vars: Sequence[EnvVar]) -> Version:
    return msgspec.structs.replace(version, env_vars=tuple(env_vars))
