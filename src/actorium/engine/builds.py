"""Builds: picks up READY ones, runs the builder, writes how it ended; removes images of deleted builds."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from actorium.builders import (
    Builders,
    BuildFailed,
    BuildOutput,
    BuildSpec,
    FetchSources,
    Origin,
    Sources,
    WriteLog,
)
from actorium.domain.errors import ApiError
from actorium.domain.models import TERMINAL_STATUSES, Build, JobStatus, SourceFile
from actorium.engine.parts import LogSink
from actorium.kit import Clock, Signals, Tasks, forever
from actorium.services.builds import BUILDS_TOPIC
from actorium.services.topics import job_topic
from actorium.storage import builds, catalog, usage
from actorium.storage.db import Database, Tx
from actorium.storage.local_folders import copy_folder

_log = structlog.get_logger("actorium.engine")
_POLL_SECS = 2.0
_RETRY_SECS = 1.0
_BUILDER = "ACTORIUM_BUILDER"
_S = JobStatus


class BuildSettings(msgspec.Struct, frozen=True):
    """Limits of builds; ``downloads`` is where sources from elsewhere are put."""

    max_concurrent: int
    timeout_secs: float
    downloads: Path


class BuildEngine:
    """A Service: one task for each build under way."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        signals: Signals,
        builder: Builders,
        logs: LogSink,
        open_secret: Callable[[str], str],
        origins: FetchSources,
        settings: BuildSettings,
    ) -> None:
        self._db = db
        self._clock = clock
        self._signals = signals
        self._builder = builder
        self._logs = logs
        self._open_secret = open_secret
        self._origins = origins
        self._settings = settings
        self._tasks = Tasks("builds")
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Queue again what an earlier server was building, then begin to pick up builds."""
        if len(self._tasks):
            return
        for build in await self._db.read("live builds", builds.list_live_builds):
            if build.status in (_S.RUNNING, _S.TIMING_OUT, _S.ABORTING):
                await self._take_over(build)
        self._tasks.spawn("pick up", forever("picking up builds", _RETRY_SECS, self._pick_up))

    async def stop(self) -> None:
        """End the builders at work; their builds start again with the next server."""
        await self._tasks.stop()
        self._under_way.clear()

    async def _take_over(self, build: Build) -> None:
        if build.status is _S.RUNNING:
            await self._say(build, "The server was restarted; the build starts again.")
            await self._transition(build, {_S.RUNNING}, _S.READY, running_at=None)
        elif build.status is _S.TIMING_OUT:
            await self._end(build, _S.TIMED_OUT, self._timeout_message(), {})
        else:
            await self._end(build, _S.ABORTED, "The build was aborted.", {})

    async def _pick_up(self) -> None:
        async with self._signals.listen(BUILDS_TOPIC) as changed:
            while True:
                changed.clear()
                for build in await self._db.read("live builds", builds.list_live_builds):
                    self._consider(build)
                for build_id, kind, state in await self._db.read("image garbage", builds.list_image_garbage):
                    await self._remove_image(build_id, kind, state)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECS):
                        await changed.wait()

    def _consider(self, build: Build) -> None:
        task = self._under_way.get(build.id)
        if task is not None:
            if build.status is _S.ABORTING:
                task.cancel()
            return
        if build.status is _S.READY and len(self._under_way) < self._settings.max_concurrent:
            task = self._tasks.spawn(build.id, self._run(build))
            self._under_way[build.id] = task
            task.add_done_callback(lambda _: self._done(build.id))

    def _done(self, build_id: str) -> None:
        self._under_way.pop(build_id, None)
        self._signals.send(BUILDS_TOPIC)

    async def _run(self, build: Build) -> None:
        secrets = [self._open_secret(var.value) for var in build.env_vars if var.is_secret]
        self._logs.open(build.id, secrets)
        running = await self._transition(build, {_S.READY}, _S.RUNNING, running_at=self._clock.now_ms())
        if running is None:
            return
        build = running
        try:
            async with asyncio.timeout(self._settings.timeout_secs):
                output = await self._build(build)
        except TimeoutError:
            await self._transition(build, {_S.RUNNING}, _S.TIMING_OUT)
            await self._end(build, _S.TIMED_OUT, self._timeout_message(), {})
        except BuildFailed as failure:
            await self._end(build, _S.FAILED, str(failure), {})
        except asyncio.CancelledError:
            # By now the builder has ended every process it had. A stopping server leaves the build RUNNING.
            await asyncio.shield(self._end_if_aborted(build))
            raise
        except Exception as error:  # noqa: BLE001  a fault of ours ends the build, not the engine
            _log.exception("build failed unexpectedly", build_id=build.id)
            await self._end(build, _S.FAILED, f"The builder failed unexpectedly: {error}", {})
        else:
            await self._end(build, _S.SUCCEEDED, None, _output_fields(output))

    def _timeout_message(self) -> str:
        return f"The build timed out: it took longer than {self._settings.timeout_secs:g} seconds."

    async def _end_if_aborted(self, build: Build) -> None:
        async def op(tx: Tx) -> Build | None:
            return await builds.get_build(tx, build.id)

        current = await self._db.read("reread build", op)
        if current is not None and current.status is _S.ABORTING:
            await self._end(current, _S.ABORTED, "The build was aborted.", {})

    async def _build(self, build: Build) -> BuildOutput:
        name = await self._actor_name(build)
        folder = self._settings.downloads / build.id
        with_log = _LogWriter(self._logs, build.id, self._clock, self._tasks)
        try:
            spec = BuildSpec(
                build_id=build.id,
                build_number=build.build_number,
                actor_name=name,
                sources=await self._sources(build, folder, with_log.write),
                build_args=self._build_args(build),
                use_cache=bool(build.options["useCache"]),
                builder=next((v.value for v in build.env_vars if v.name == _BUILDER and not v.is_secret), ""),
            )
            return await self._builder.build(spec, with_log.write)
        finally:
            await asyncio.shield(self._clean_up(folder, with_log))

    @staticmethod
    async def _clean_up(folder: Path, with_log: _LogWriter) -> None:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await with_log.close()

    async def _actor_name(self, build: Build) -> str:
        async def op(tx: Tx) -> str | None:
            actor = await catalog.get_actor(tx, build.actor_id)
            return actor.name if actor is not None else None

        name = await self._db.read("name of Actor", op)
        if name is None:
            raise BuildFailed("The Actor was deleted.")
        return name

    async def _sources(self, build: Build, folder: Path, write_log: WriteLog) -> Sources:
        version = build.actor_version
        local = version.get("localFolder")
        if version["sourceType"] == "SOURCE_FILES" and local is None:
            return Sources(files=await self._source_files(build))
        # What a killed server has left is not to be built on.
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if local is not None:
            return await self._copy_of(Path(local), folder)
        await asyncio.to_thread(folder.mkdir, parents=True, mode=0o700)
        url = version["sourceUrl"] or ""
        origin = Origin(build.id, build.user_id, build.actor_id, version["sourceType"], url)
        return await self._origins.fetch(origin, folder, write_log)

    @staticmethod
    async def _copy_of(local: Path, folder: Path) -> Sources:
        try:
            await asyncio.to_thread(copy_folder, local, folder)
        except (ApiError, OSError) as error:
            raise BuildFailed(f"The Actor's folder {local} cannot be read: {error}") from error
        return Sources(folder=folder)

    async def _source_files(self, build: Build) -> tuple[SourceFile, ...]:
        async def op(tx: Tx) -> tuple[SourceFile, ...]:
            return await builds.get_source_files(tx, build.id)

        return await self._db.read("sources of build", op)

    def _build_args(self, build: Build) -> dict[str, str]:
        if not build.actor_version["applyEnvVarsToBuild"]:
            return {}
        return {var.name: self._open_secret(var.value) if var.is_secret else var.value for var in build.env_vars}

    async def _say(self, build: Build, text: str) -> None:
        self._logs.open(build.id)
        await self._logs.platform_line(build.id, self._clock.now_ms(), f"ACTOR: {text}")

    async def _transition(self, build: Build, from_: set[JobStatus], to: JobStatus, **fields: Any) -> Build | None:
        async def op(tx: Tx) -> Build | None:
            return await builds.transition(tx, build.id, from_, to, **fields)

        return await self._db.write(f"build {to}", op)

    async def _end(self, build: Build, to: JobStatus, message: str | None, fields: dict[str, Any]) -> None:
        """The final status with the output and, for a success, the tag: ``apify push`` looks for it at once."""
        now = self._clock.now_ms()
        if message is not None:
            await self._say(build, message)

        async def op(tx: Tx) -> bool:
            current = await builds.get_build(tx, build.id)
            if current is None or current.status in TERMINAL_STATUSES:
                return False
            final = to
            # An abort that came before this write wins.
            if current.status is _S.ABORTING:
                final = _S.ABORTED
            if current.running_at is not None:
                memory = current.options["memoryMbytes"]
                await usage.add_compute_units(tx, current.user_id, memory, current.running_at, now)
            await builds.transition(
                tx,
                build.id,
                {current.status},
                final,
                finished_at=now,
                exit_code=0 if final is _S.SUCCEEDED else 1,
                status_message=message,
                **fields,
            )
            if final is _S.SUCCEEDED and current.tag is not None:
                await builds.set_tag(tx, build.actor_id, current.tag, build.id)
            if await catalog.get_actor(tx, build.actor_id) is not None:
                return False
            # Its Actor was deleted meanwhile, with every other build.
            await builds.delete_build(tx, build.id)
            return True

        is_gone = await self._db.write("end build", op)
        await self._logs.finish(build.id)
        if is_gone:
            await self._logs.delete(build.id)
        self._signals.send(job_topic(build.id))

    async def _remove_image(self, build_id: str, kind: str, state: dict[str, Any]) -> None:
        try:
            await self._builder.remove(kind, state)
        except ConnectionError as error:
            _log.warning("cannot delete an image, trying again", build_id=build_id, reason=str(error))
            return

        async def op(tx: Tx) -> None:
            await builds.forget_image(tx, build_id)

        await self._db.write("image removed", op)


class _LogWriter:
    """Takes a builder's output from any thread and appends it in order."""

    def __init__(self, logs: LogSink, job_id: str, clock: Clock, tasks: Tasks) -> None:
        self._logs = logs
        self._job_id = job_id
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self._task = tasks.spawn(f"log of {job_id}", self._append())

    def write(self, data: bytes) -> None:
        """Queue output; callable from any thread."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (self._clock.now_ms(), data))

    async def _append(self) -> None:
        while (entry := await self._queue.get()) is not None:
            await self._logs.append(self._job_id, *entry)
        await self._logs.flush(self._job_id)

    async def close(self) -> None:
        """Wait until everything is in the log."""
        # Behind what other threads have handed over before.
        self._loop.call_soon_threadsafe(self._queue.put_nowait, None)
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


def _output_fields(output: BuildOutput) -> dict[str, Any]:
    return {
        "image_kind": output.kind,
        "image_state": output.state,
        "image_size_bytes": output.size_bytes,
        "actor_definition": output.actor_definition,
        "input_schema": output.input_schema,
        "readme": output.readme,
        "changelog": output.changelog,
    }
