"""The ``Builder`` of Docker images: sends the context to the engine and passes on what it says."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import aiodocker
import aiohttp
import msgspec

from actorium.builders import BuildFailed, BuildOutput, BuildSpec, WriteLog
from actorium.builders.definition import PATH_ARGUMENT, Definition, read_definition
from actorium.builders.docker.buildkit import TRACE, Progress, buildkit_feature, explained, syntax_image
from actorium.builders.docker.context import DockerContext, base_images, write_context
from actorium.builders.docker.registries import Registries
from actorium.builders.sources import write_sources

KIND = "docker"
_LABEL_BUILD = "com.apify.actBuildId"
_MEMORY_BYTES = 4096 * 1024 * 1024
_GONE_SECS = 0.05
_KILL_AFTER = 20
_CANCEL_SECS = 30.0
_PULL_ANSWER_SECS = 300.0
_NOT_FOUND = 404
_CONFLICT = 409
_RUNNING = re.compile(r" ---> Running in ([0-9a-f]{12,})")
_PROGRESS = frozenset({"Downloading", "Extracting", "Waiting", "Verifying Checksum", "Download complete"})


class EngineClient(Protocol):
    """What this module asks of a Docker engine; raises ``ConnectionError`` when it is away."""

    async def call(self, method: str, path: str, body: Any = None, *, params: Mapping[str, str] | None = None) -> Any:
        """The decoded answer."""
        ...

    def stream(
        self,
        method: str,
        path: str,
        data: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        answer_secs: float | None = None,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """An answer that is read as it comes."""
        ...


class DockerBuilder:
    """Builds below ``work`` with the engine's own builder, or its BuildKit: ``auto`` where a Dockerfile needs it.

    ``network`` makes and names the network that steps of the engine's own builder are on; ``base_image_prefix`` goes
    before names of base images that name no registry; ``logins`` are accounts at registries, as ``user:password``.
    """

    def __init__(
        self,
        engine: EngineClient,
        work: Path,
        network: Callable[[], Awaitable[str]],
        *,
        base_image_prefix: str = "",
        buildkit: str = "auto",
        logins: Mapping[str, str] | None = None,
    ) -> None:
        self._engine = engine
        self._work = work
        self._network = network
        self._prefix = base_image_prefix
        self._buildkit = buildkit
        self._registries = Registries(logins or {})

    async def open(self) -> None:
        """Delete what an earlier server left half-done."""
        await asyncio.to_thread(shutil.rmtree, self._work, ignore_errors=True)

    async def build(self, spec: BuildSpec, write_log: WriteLog) -> BuildOutput:
        """See ``Builder.build``."""
        folder = self._work / spec.build_id
        try:
            context = await asyncio.to_thread(self._prepare, spec, folder)
            for warning in context.definition.warnings:
                write_log(f"WARNING: {warning}\n".encode())
            try:
                return await self._build(spec, context, write_log)
            except ConnectionError as error:
                raise BuildFailed(f"The image cannot be built: {error}.") from error
            except aiodocker.DockerError as error:
                raise BuildFailed(f"The Docker engine refuses the build: {error.message.strip()}") from error
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    def _prepare(self, spec: BuildSpec, folder: Path) -> DockerContext:
        folder.mkdir(parents=True, mode=0o700)
        sources = folder / "sources"
        actor = write_sources(spec.sources, sources)
        definition = read_definition(actor, sources)
        return write_context(definition, folder / "context.tar", self._prefix)

    async def _build(self, spec: BuildSpec, context: DockerContext, write_log: WriteLog) -> BuildOutput:
        name = re.sub(r"[^a-z0-9]+", "-", spec.actor_name.lower()).strip("-") or "actor"
        tag = f"actorium/{name}:{spec.build_number}-{spec.build_id}"
        arguments = {**spec.build_args, PATH_ARGUMENT: context.definition.actor_path}
        params = {
            "t": tag,
            "dockerfile": context.dockerfile,
            "buildargs": msgspec.json.encode(arguments).decode(),
            "labels": msgspec.json.encode({_LABEL_BUILD: spec.build_id}).decode(),
            "nocache": "0" if spec.use_cache else "1",
        }
        follower = _Follower(write_log)
        feature = await asyncio.to_thread(buildkit_feature, context.text)
        if feature is not None and self._buildkit == "never":
            raise BuildFailed(f"{context.dockerfile} {feature} needs BuildKit, which docker_buildkit=never rules out.")
        if feature is not None or self._buildkit == "always":
            await self._build_with_buildkit(spec, context, params, follower)
        else:
            await self._build_step_by_step(context, params, follower)
        found = await self._engine.call("GET", f"images/{follower.image or tag}/json")
        if not (found["Config"].get("Cmd") or found["Config"].get("Entrypoint")):
            raise BuildFailed("The image has no command: add a CMD to the Dockerfile.")
        return _output(context.definition, found, {"image": found["Id"], "build_id": spec.build_id, "tag": tag})

    async def _build_step_by_step(self, context: DockerContext, params: dict[str, str], follower: _Follower) -> None:
        params |= {"rm": "1", "forcerm": "1", "memory": str(_MEMORY_BYTES), "memswap": str(_MEMORY_BYTES)}
        params["networkmode"] = await self._network()
        try:
            await self._run(context.archive, params, follower)
        except BaseException:
            await asyncio.shield(self._end_step(follower.container))
            raise

    async def _build_with_buildkit(
        self, spec: BuildSpec, context: DockerContext, params: dict[str, str], follower: _Follower
    ) -> None:
        # It pulls nothing without a session in which it asks for accounts; what is there it takes as it is.
        syntax = syntax_image(context.text)
        for image in [*([syntax] if syntax else []), *base_images(context.text, spec.build_args)]:
            await self._pull(image, follower)
        building = asyncio.create_task(
            self._run(context.archive, {**params, "version": "2", "buildid": spec.build_id}, follower),
            name=f"build {spec.build_id}",
        )
        try:
            await asyncio.shield(building)
        except asyncio.CancelledError:
            await asyncio.shield(self._cancel(spec.build_id, building))
            raise
        except BuildFailed as failure:
            raise BuildFailed(explained(str(failure), context.text)) from failure

    async def _cancel(self, build_id: str, building: asyncio.Task[None]) -> None:
        """Let BuildKit end the steps at work: its answer ends when they are gone."""
        with contextlib.suppress(ConnectionError, aiodocker.DockerError):
            await self._engine.call("POST", "build/cancel", params={"id": build_id})
        await asyncio.wait({building}, timeout=_CANCEL_SECS)
        building.cancel()
        await asyncio.gather(building, return_exceptions=True)

    async def _pull(self, image: str, follower: _Follower) -> None:
        """Fetch an image that the engine does not have."""
        try:
            await self._engine.call("GET", f"images/{image}/json")
            return
        except aiodocker.DockerError as error:
            if error.status != _NOT_FOUND:
                raise
        params = {"fromImage": image}
        if "@" not in image and ":" not in image.rpartition("/")[2]:
            params["tag"] = "latest"
        headers = self._registries.header_for_pull(image)
        async with self._engine.stream(
            "POST", "images/create", params=params, headers=headers, answer_secs=_PULL_ANSWER_SECS
        ) as answer:
            await follower.follow(answer)

    async def _run(self, archive: Path, params: dict[str, str], follower: _Follower) -> None:
        # Docker answers while it reads; Podman only after the whole context has arrived.
        headers = {"Content-Type": "application/x-tar", **self._registries.header_for_build()}
        async with self._engine.stream(
            "POST", "build", _chunks(archive), params=params, headers=headers, answer_secs=None
        ) as answer:
            await follower.follow(answer)

    async def _end_step(self, container: str | None) -> None:
        """Wait until the step that was at work is gone; the engine ends it when its caller leaves."""
        if container is None:
            return
        for count in range(2 * _KILL_AFTER):
            try:
                found = await self._engine.call("GET", f"containers/{container}/json")
                if count >= _KILL_AFTER or not found["State"]["Running"]:
                    await self._engine.call("DELETE", f"containers/{container}", params={"force": "1", "v": "1"})
            except aiodocker.DockerError as error:
                if error.status == _NOT_FOUND:
                    return
            except ConnectionError:
                pass
            await asyncio.sleep(_GONE_SECS)

    async def remove(self, state: dict[str, Any]) -> None:
        """See ``Builder.remove``. Raises ``ConnectionError`` while the engine cannot do it."""
        try:
            await self._engine.call("DELETE", f"images/{state['image']}", params={"force": "1"})
        except aiodocker.DockerError as error:
            # What other images are made of stays as long as they do.
            if error.status == _NOT_FOUND or "dependent child images" in error.message:
                return
            if error.status == _CONFLICT:
                raise ConnectionError(f"the image is in use: {error.message.strip()}") from error
            raise ConnectionError(error.message) from error


class _Follower:
    """Turns the engine's messages into a log; knows the image made and the container of the step at work."""

    def __init__(self, write_log: WriteLog) -> None:
        self._write_log = write_log
        self.image: str | None = None
        self.container: str | None = None
        self._progress = Progress()

    async def follow(self, answer: aiohttp.ClientResponse) -> None:
        """Every message of an answer, as it comes. Raises ``BuildFailed`` for an error."""
        async for line in answer.content:
            if line.strip():
                self.take(msgspec.json.decode(line))

    def take(self, message: dict[str, Any]) -> None:
        """One message. Raises ``BuildFailed`` for an error."""
        if "error" in message:
            raise BuildFailed(str(message["error"]).strip())
        if message.get("id") == TRACE:
            # What cannot be read of its progress is missing in the log, no more.
            with contextlib.suppress(ValueError):
                self._write_log(self._progress.read(message["aux"]))
        elif (text := message.get("stream")) is not None:
            self._write_log(text.encode())
            if match := _RUNNING.search(text):
                self.container = match[1]
        elif (status := message.get("status")) is not None and status not in _PROGRESS:
            layer = f"{message['id']}: " if message.get("id") else ""
            self._write_log(f"{layer}{status}\n".encode())
        elif isinstance(aux := message.get("aux"), dict) and "ID" in aux:
            self.image = aux["ID"]


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while data := await asyncio.to_thread(file.read, 1 << 20):
            yield data
    finally:
        file.close()


def _output(definition: Definition, image: dict[str, Any], state: dict[str, Any]) -> BuildOutput:
    return BuildOutput(
        kind=KIND,
        state=state,
        size_bytes=image["Size"],
        actor_definition=definition.actor_definition,
        input_schema=definition.input_schema,
        readme=definition.readme,
        changelog=definition.changelog,
    )
