"""Builds: start, read, wait, abort, delete, and which build a tag or number means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actorium.domain.errors import ApiError, ErrorType, invalid, not_found
from actorium.domain.models import TERMINAL_STATUSES, Actor, Build, JobStatus, Meta, SourceFile, Version
from actorium.domain.versions import check_tag, is_build_number
from actorium.kit import Clock, Signals, new_id, wait_until
from actorium.services.access import Principal
from actorium.services.permissions import check_reads_build
from actorium.services.runs import MAX_WAIT_SECS, LogLifecycle
from actorium.services.topics import job_topic
from actorium.storage import builds, catalog
from actorium.storage.db import Database, Tx

BUILDS_TOPIC = "builds"
"""Signalled when a build waits to be started or is to be aborted."""
BUILD_MEMORY_MBYTES = 4096
_UNUSED_AT_ONCE = 100
_S = JobStatus


class Builds:
    """The build service."""

    def __init__(self, db: Database, clock: Clock, signals: Signals, logs: LogLifecycle) -> None:
        self._db = db
        self._clock = clock
        self._signals = signals
        self._logs = logs

    async def start(
        self,
        principal: Principal,
        actor: Actor,
        version_number: str | None,
        meta: Meta,
        *,
        tag: str | None,
        use_cache: bool,
        beta_packages: bool,
    ) -> Build:
        """Write a new build of a version down as READY. openapi: actor_builds_post."""
        if not version_number:
            raise invalid("Query parameter version is required.")
        if tag is not None:
            check_tag("tag", tag)
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Build:
            version = await catalog.get_version(tx, actor.id, version_number)
            if version is None:
                raise not_found("Version")
            build = Build(
                id=new_id(),
                actor_id=actor.id,
                user_id=principal.user_id,
                version_number=version_number,
                build_number=await builds.next_build_number(tx, actor.id, version_number),
                status=_S.READY,
                started_at=now,
                finished_at=None,
                meta=meta,
                options=build_options(use_cache=use_cache, beta_packages=beta_packages),
                tag=tag or version.build_tag,
                exit_code=None,
                status_message=None,
                running_at=None,
                abort_requested=False,
                env_vars=version.env_vars,
                actor_version=_snapshot(version),
            )
            await builds.insert_build(tx, build, version.source_files)
            return build

        build = await self._db.write("start build", op)
        self.announce(build)
        return build

    def announce(self, build: Build) -> None:
        """Let the engine know of a build that was written down as READY."""
        self._logs.open(build.id)
        self._signals.send(BUILDS_TOPIC)

    async def get(self, principal: Principal | None, build_id: str) -> Build:
        """A build the caller may see: an own one or one of a public Actor. Raises 404, or 401 without a token."""

        async def op(tx: Tx) -> tuple[Build, Actor | None] | None:
            build = await builds.get_build(tx, build_id)
            return None if build is None else (build, await catalog.get_actor(tx, build.actor_id))

        found = await self._db.read("get build", op)
        if found is not None:
            build, actor = found
            if actor is not None and actor.is_public:
                return build
            if principal is not None and principal.owns(build.user_id):
                check_reads_build(principal)
                return build
        if principal is None:
            raise ApiError(ErrorType.TOKEN_NOT_PROVIDED, "Authentication token was not provided.")
        raise not_found("Build")

    async def find(self, build_id: str) -> Build | None:
        """A build by id, whoever asks; ``None`` where it was deleted."""

        async def op(tx: Tx) -> Build | None:
            return await builds.get_build(tx, build_id)

        return await self._db.read("find build", op)

    async def get_own(self, principal: Principal, build_id: str) -> Build:
        """A build of the caller's own. Raises 404."""
        build = await self.get(principal, build_id)
        if not principal.owns(build.user_id):
            raise not_found("Build")
        return build

    async def source_files(self, build: Build) -> Sequence[SourceFile]:
        """The files a build was made from; none where its sources are elsewhere."""

        async def op(tx: Tx) -> Sequence[SourceFile]:
            return await builds.get_source_files(tx, build.id)

        return (
            await self._db.read("sources of build", op) if build.actor_version["sourceType"] == "SOURCE_FILES" else ()
        )

    async def get_of_actor(self, actor: Actor, build_id: str) -> Build:
        """A build of an Actor, by id; ``default`` means the one that runs use. Raises 404."""
        if build_id == "default":
            return await self.resolve_build(actor, actor.default_build)

        async def op(tx: Tx) -> Build | None:
            return await builds.get_build(tx, build_id)

        build = await self._db.read("get build of Actor", op)
        if build is None or build.actor_id != actor.id:
            raise not_found("Build")
        return build

    async def list(
        self, principal: Principal, actor: Actor | None, *, offset: int, limit: int, desc: bool
    ) -> tuple[Sequence[Build], int]:
        """A page of the caller's builds, or of an Actor's, and their total number."""

        async def op(tx: Tx) -> tuple[Sequence[Build], int]:
            return await builds.list_builds(
                tx,
                user_id=principal.user_id,
                actor_id=actor.id if actor else None,
                offset=offset,
                limit=limit,
                desc=desc,
            )

        return await self._db.read("list builds", op)

    async def resolve_build(self, actor: Actor, tag_or_number: str) -> Build:
        """The succeeded build a tag or number means. The refusals are 403, as a 404 would mean the Actor."""

        async def op(tx: Tx) -> Build | None:
            if is_build_number(tag_or_number):
                return await builds.find_build(tx, actor.id, tag_or_number)
            return await builds.find_tagged_build(tx, actor.id, tag_or_number)

        build = await self._db.read("resolve build", op)
        if build is None:
            if is_build_number(tag_or_number):
                raise ApiError(ErrorType.BUILD_NOT_FOUND, f"Build with number {tag_or_number} was not found.")
            raise ApiError(
                ErrorType.UNKNOWN_BUILD_TAG,
                f'Build with tag "{tag_or_number[:50]}" was not found. Has the Actor been built already?',
            )
        if build.status is not _S.SUCCEEDED:
            raise ApiError(ErrorType.INVALID_BUILD, f"Build {build.build_number} has status {build.status}.")
        return build

    async def wait(self, build: Build, wait_secs: float) -> Build:
        """The build once it is over, or as it is after ``wait_secs`` (at most 60)."""
        if build.status in TERMINAL_STATUSES or wait_secs <= 0:
            return build
        deadline = self._clock.now_ms() + round(min(wait_secs, MAX_WAIT_SECS) * 1000)

        async def op(tx: Tx) -> Build | None:
            return await builds.get_build(tx, build.id)

        async with self._signals.listen(job_topic(build.id)) as changed:
            while True:
                current = await self._db.read("wait for build", op)
                if current is None:
                    raise not_found("Build")
                if current.status in TERMINAL_STATUSES:
                    return current
                changed.clear()
                if not await wait_until(self._clock, changed, deadline):
                    return current

    async def abort(self, build: Build) -> Build:
        """Ask for the end of a build; a finished one stays as it is."""
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Build | None:
            aborted = await builds.transition(tx, build.id, {_S.READY}, _S.ABORTED, finished_at=now)
            if aborted is None:
                aborted = await builds.transition(
                    tx, build.id, {_S.RUNNING, _S.TIMING_OUT}, _S.ABORTING, abort_requested=True
                )
            return aborted or await builds.get_build(tx, build.id)

        current = await self._db.write("abort build", op)
        if current is None:
            raise not_found("Build")
        if current.status is _S.ABORTED:
            await self._logs.finish(build.id)
            self._signals.send(job_topic(build.id))
        self._signals.send(BUILDS_TOPIC)
        return current

    async def delete(self, build: Build) -> None:
        """Delete a finished build with its tags and log; the Actor's default build stays."""

        async def op(tx: Tx) -> None:
            actor = await catalog.get_actor(tx, build.actor_id)
            if actor is not None:
                default = actor.default_build
                tags = await builds.list_tags(tx, actor.id)
                if build.build_number == default or tags.get(default) == build.id:
                    raise ApiError(ErrorType.DELETING_DEFAULT_BUILD, "The default build of an Actor cannot be deleted.")
            if await builds.delete_build(tx, build.id) is None:
                raise ApiError(
                    ErrorType.DELETING_UNFINISHED_BUILD, "Deleting unfinished build while running is not allowed"
                )

        await self._db.write("delete build", op)
        await self._logs.delete(build.id)

    async def deleted_with_actor(self, build_ids: Sequence[str]) -> None:
        """Forget the logs of builds that were deleted with their Actor, and let the builders look."""
        for build_id in build_ids:
            await self._logs.delete(build_id)
            self._signals.send(job_topic(build_id))
        self._signals.send(BUILDS_TOPIC)

    async def delete_unused(self, before: int) -> None:
        """Delete builds without a tag that nothing has used since ``before``."""

        async def op(tx: Tx) -> Sequence[str]:
            unused = await builds.list_unused_builds(tx, finished_before=before, most=_UNUSED_AT_ONCE)
            return [build_id for build_id in unused if await builds.delete_build(tx, build_id) is not None]

        while deleted := await self._db.write("delete unused builds", op):
            for build_id in deleted:
                await self._logs.delete(build_id)
        self._signals.send(BUILDS_TOPIC)


def build_options(*, use_cache: bool, beta_packages: bool) -> dict[str, Any]:
    """The options of a new build, as the API shows them."""
    return {
        "useCache": use_cache,
        "betaPackages": beta_packages,
        "memoryMbytes": BUILD_MEMORY_MBYTES,
        "diskMbytes": 2 * BUILD_MEMORY_MBYTES,
    }


def _snapshot(version: Version) -> dict[str, Any]:
    return {
        "versionNumber": version.version_number,
        "sourceType": version.source_type,
        "buildTag": version.build_tag,
        "sourceUrl": version.source_url,
        "applyEnvVarsToBuild": version.apply_env_vars_to_build,
    }
