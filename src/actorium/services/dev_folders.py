"""Actors that are developed in a folder of this machine: their runs are of the files as they are when a run starts."""

from __future__ import annotations

import asyncio
import re
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from actorium.domain.errors import ApiError, ErrorType, invalid, not_found
from actorium.domain.models import TERMINAL_STATUSES, Actor, Build, Debug, DevFolder, JobStatus, Meta, Origin
from actorium.domain.versions import is_build_number
from actorium.kit import Clock, new_id
from actorium.services.builds import build_options
from actorium.services.runs import MAX_WAIT_SECS
from actorium.storage import accounts, builds, catalog
from actorium.storage.db import Database, Tx
from actorium.storage.local_folders import check_folder, fingerprint

_VERSION = "0.0"
_NAME = re.compile(r"[^a-z0-9]+")


class BuildService(Protocol):
    """The part of the builds service this needs."""

    async def resolve_build(self, actor: Actor, tag_or_number: str) -> Build:
        """The finished build of a tag or number. Raises 403."""
        ...

    async def wait(self, build: Build, wait_secs: float) -> Build:
        """The build once it is over, or as it is after ``wait_secs``."""
        ...

    def announce(self, build: Build) -> None:
        """A build was written down as READY."""
        ...


class DevBuilds:
    """Which build a run is of: for an Actor with a folder, one of the files there, made if they have changed."""

    def __init__(self, db: Database, clock: Clock, builds_: BuildService) -> None:
        self._db = db
        self._clock = clock
        self._builds = builds_
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def resolve_build(self, actor: Actor, tag_or_number: str) -> Build:
        """The build to run. A number, or a tag that is not the Actor's default, means what it always means.

        Raises 403 ``invalid-build`` when the folder's files cannot be built, 400 when the folder is not there.
        """
        if actor.dev is None or is_build_number(tag_or_number) or tag_or_number != actor.default_build:
            return await self._builds.resolve_build(actor, tag_or_number)
        lock = self._locks.setdefault(actor.id, asyncio.Lock())
        async with lock:
            build = await self._current(actor.id)
        if build.status is not JobStatus.SUCCEEDED:
            raise ApiError(
                ErrorType.INVALID_BUILD,
                f"The files in {actor.dev.folder} could not be built: {build.status_message or build.status} "
                f"The whole log is that of build {build.id}.",
            )
        return build

    async def _current(self, actor_id: str) -> Build:
        async def read(tx: Tx) -> tuple[Actor, Build | None] | None:
            actor = await catalog.get_actor(tx, actor_id)
            if actor is None or actor.dev is None:
                return None
            return actor, await builds.get_build(tx, actor.dev.build_id) if actor.dev.build_id else None

        found = await self._db.read("dev folder", read)
        if found is None or found[0].dev is None:
            raise not_found("Actor")
        actor, build, dev = found[0], found[1], found[0].dev
        now = await asyncio.to_thread(fingerprint, Path(dev.folder))
        is_usable = build is not None and (build.status is JobStatus.SUCCEEDED or build.status not in TERMINAL_STATUSES)
        if build is None or not is_usable or now != dev.fingerprint:
            build = await self._begin(actor, dev, now)
        while build.status not in TERMINAL_STATUSES:
            build = await self._builds.wait(build, MAX_WAIT_SECS)
        return build

    async def _begin(self, actor: Actor, dev: DevFolder, fingerprint_: str) -> Build:
        async def op(tx: Tx) -> Build:
            versions = await catalog.list_versions(tx, actor.id)
            version = versions[-1] if versions else None
            number = _VERSION if version is None else version.version_number
            build = Build(
                id=new_id(),
                actor_id=actor.id,
                user_id=actor.user_id,
                version_number=number,
                build_number=await builds.next_build_number(tx, actor.id, number),
                status=JobStatus.READY,
                started_at=self._clock.now_ms(),
                finished_at=None,
                meta=Meta(Origin.DEVELOPMENT.value),
                options=build_options(use_cache=True, beta_packages=False),
                tag=None,
                exit_code=None,
                status_message=None,
                running_at=None,
                abort_requested=False,
                env_vars=() if version is None else version.env_vars,
                actor_version={
                    "versionNumber": number,
                    "sourceType": "SOURCE_FILES",
                    "buildTag": None,
                    "sourceUrl": None,
                    "applyEnvVarsToBuild": False if version is None else version.apply_env_vars_to_build,
                    "localFolder": dev.folder,
                },
            )
            await builds.insert_build(tx, build)
            changed = msgspec.structs.replace(dev, build_id=build.id, fingerprint=fingerprint_)
            await catalog.set_dev_folder(tx, actor.id, changed)
            return build

        build = await self._db.write("start dev build", op)
        self._builds.announce(build)
        return build


class DevFolders:
    """Registers folders, straight in the database: whoever can write there may name any folder of the machine."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def register(self, username: str, folder: Path, name: str | None, debug: Debug | None) -> Actor:
        """Let runs of an Actor be of the files in ``folder``; one that does not exist is made.

        Raises 400 for what is no folder or no name of an Actor, 404 for an unknown user.
        """
        check_folder(folder)
        actor_name = name or _NAME.sub("-", folder.name.lower()).strip("-")
        if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9-]{1,61}[A-Za-z0-9])", actor_name):
            raise invalid(
                f"{actor_name!r} is not a name for an Actor: it must have 3 to 63 letters, digits and '-'. Say name in "
                ".actor/actor.json."
            )
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Actor:
            user = await accounts.find_user(tx, username)
            if user is None:
                raise not_found("User")
            actor = await catalog.find_actor(tx, user.id, actor_name)
            if actor is None:
                actor = Actor(new_id(), user.id, actor_name, now, now, {}, {})
                await catalog.insert_actor(tx, actor)
            dev = actor.dev if actor.dev is not None and actor.dev.folder == str(folder) else DevFolder(str(folder))
            await catalog.set_dev_folder(tx, actor.id, msgspec.structs.replace(dev, debug=debug))
            return actor

        return await self._db.write("register folder", op)

    async def forget(self, folder: Path) -> Sequence[str]:
        """Let runs of the Actors in ``folder`` be of their builds again; returns the Actors' names."""

        async def op(tx: Tx) -> list[str]:
            found = [
                actor
                for actor in await catalog.list_dev_actors(tx)
                if actor.dev is not None and actor.dev.folder == str(folder)
            ]
            for actor in found:
                await catalog.set_dev_folder(tx, actor.id, None)
            return [actor.name for actor in found]

        return await self._db.write("forget folder", op)
