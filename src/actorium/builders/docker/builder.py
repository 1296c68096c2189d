"""The ``Builder`` of Docker images: sends the context to the engine and passes on what it says."""

from __future__ import annotations

import asyncio
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
from actorium.builders.docker.context import DockerContext, write_context
from actorium.builders.sources import write_sources

KIND = "docker"
_LABEL_BUILD = "com.apify.actBuildId"
_MEMORY_BYTES = 4096 * 1024 * 1024
_GONE_SECS = 0.05
_KILL_AFTER = 20
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
    """Builds below ``work`` with the engine's own builder.

    ``network`` makes and names the network that build steps are on; ``base_image_prefix`` goes before names of
    base images that name no registry.
    """

    def __init__(
        self, engine: EngineClient, work: Path, network: Callable[[], Awaitable[str]], *, base_image_prefix: str = ""
    ) -> None:
        self._engine = engine
        self._work = work
        self._network = network
        self._prefix = base_image_prefix

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
            "rm": "1",
            "forcerm": "1",
            "memory": str(_MEMORY_BYTES),
            "memswap": str(_MEMORY_BYTES),
            "networkmode": await self._network(),
        }
        follower = _Follower(write_log)
        try:
            await self._run(context.archive, params, follower)
        except BaseException:
            await asyncio.shield(self._end_step(follower.container))
            raise
        found = await self._engine.call("GET", f"images/{follower.image or tag}/json")
        if not (found["Config"].get("Cmd") or found["Config"].get("Entrypoint")):
            raise BuildFailed("The image has no command: add a CMD to the Dockerfile.")
        return _output(context.definition, found, {"image": found["Id"], "build_id": spec.build_id, "tag": tag})

    async def _run(self, archive: Path, params: dict[str, str], follower: _Follower) -> None:
        # Docker answers while it reads; Podman only after the whole context has arrived.
        headers = {"Content-Type": "application/x-tar"}
        async with self._engine.stream(
            "POST", "build", _chunks(archive), params=params, headers=headers, answer_secs=None
        ) as answer:
            async for line in answer.content:
                if line.strip():
                    follower.take(msgspec.json.decode(line))

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

    def take(self, message: dict[str, Any]) -> None:
        """One message. Raises ``BuildFailed`` for an error."""
        if "error" in message:
            raise BuildFailed(str(message["error"]).strip())
        if (text := message.get("stream")) is not None:
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
