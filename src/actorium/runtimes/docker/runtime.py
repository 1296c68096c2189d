"""The ``Runtime`` of containers: creates, starts, watches, ends and removes them through the engine's API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiodocker
import msgspec

from actorium.runtimes import (
    Capabilities,
    Checkpoint,
    Exit,
    Handle,
    LogChunk,
    Observed,
    Phase,
    RunSpec,
    StartError,
    Usage,
)
from actorium.runtimes.docker.containers import (
    LABEL_INSTALLATION,
    NAME,
    VERSION,
    DockerImage,
    EngineFacts,
    container_config,
    container_name,
    engine_started_at,
    exit_of,
    handle_of,
    is_over,
    may_have_gone_with_engine,
    usage_of,
)
from actorium.runtimes.docker.engine import DockerEngine, EngineAwayError
from actorium.runtimes.docker.installation import Installation
from actorium.runtimes.docker.network import OpenDoor, RunNetwork
from actorium.runtimes.docker.output import OutputReader

T = TypeVar("T")
_START_SECS = 120.0
_KILL_SECS = 60.0
_SILENCE_SECS = 60.0
_RETRY_SECS = (0.1, 5.0)
_RECHECK_BYTES = 1 << 20
_NOT_FOUND = 404
_CONFLICT = 409
_PORT_TAKEN = ("port is already allocated", "address already in use")
_log = logging.getLogger("actorium.runtimes.docker")


class DockerRuntime:
    """The ``Runtime`` for images of kind ``docker``.

    ``root`` is a directory of this runtime. ``network`` is made if it is missing. Containers reach the server at
    ``api_base_url``; when that is empty, the server is made to listen at the network's gateway by ``open_door``.
    Web servers of Actors are published at ``publish_host``. The engine is not asked before the first start.
    """

    def __init__(
        self,
        engine: DockerEngine,
        root: Path,
        open_door: OpenDoor,
        *,
        network: str,
        api_base_url: str = "",
        publish_host: str = "127.0.0.1",
    ) -> None:
        self._engine = engine
        self._installation = Installation(root)
        self._publish_host = publish_host
        self._network = RunNetwork(engine, network, api_base_url, open_door)
        self._facts: EngineFacts | None = None
        self._limits_disk = True
        self._unannounced: set[str] = set()
        self._starting: set[str] = set()
        self._stopped: set[str] = set()
        self._ends: dict[str, asyncio.Task[Exit]] = {}
        self._meters: dict[str, asyncio.Task[None]] = {}
        self._usages: dict[str, Usage] = {}
        self._opening: asyncio.Task[str] | None = None

    async def open(self) -> None:
        """Get ready: containers of an earlier server may be waiting for this one to listen at their gateway."""
        if await asyncio.to_thread(self._installation.read) is not None:
            waiting = self._patiently("listen for containers", self.api_base_url)
            self._opening = asyncio.create_task(waiting, name="listen for containers")
            self._opening.add_done_callback(_tell_failure)

    async def close(self) -> None:
        """Let go of everything; containers go on and are found again by their handles."""
        tasks: list[asyncio.Task[Any]] = [*self._ends.values(), *self._meters.values()]
        if self._opening is not None:
            tasks.append(self._opening)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._engine.close()

    def capabilities(self) -> Capabilities:
        """What this runtime can do here."""
        return Capabilities(NAME, survives_server=True, enforces_memory=True, detail=f"engine at {self._engine.url}")

    async def api_base_url(self) -> str:
        """The server's URL as containers reach it. Raises ``StartError``, or ``ConnectionError`` without an engine."""
        return await self._network.api_base_url()

    async def network_name(self) -> str:
        """The network of runs, made if need be."""
        await self._network.ensure()
        return self._network.name

    async def _read_facts(self) -> EngineFacts:
        info = await self._engine.call("GET", "info")
        self._facts = EngineFacts(
            has_local_logs="local" in (info.get("Plugins", {}).get("Log") or ()),
            has_cpu_quota=bool(info.get("CpuCfsQuota", True)),
            cpu_count=info["NCPU"],
        )
        return self._facts

    async def _engine_started(self) -> float:
        """When the engine was started; fails while it goes down."""
        await self._engine.probe()
        try:
            return engine_started_at(await self._engine.call("GET", "networks/bridge"))
        except aiodocker.DockerError:
            return 0.0

    async def start(self, spec: RunSpec, checkpoint: Checkpoint) -> Handle:
        """Start the attempt and return once its main process exists; see ``Runtime.start``."""
        if spec.image.kind != NAME:
            raise StartError(f"An image of kind {spec.image.kind!r} cannot run as a container")
        if spec.debug is not None:
            raise StartError("It was to be started with a debugger, which only native builds can")
        handle = Handle(NAME, VERSION, spec.attempt_id, spec.run_id, {})
        self._unannounced.add(spec.attempt_id)
        try:
            await self._create(spec, container_name(handle))
            try:
                await checkpoint(handle)
            except Exception:
                await self.remove(handle)
                raise
            self._starting.add(spec.attempt_id)
        finally:
            self._unannounced.discard(spec.attempt_id)
        try:
            await self._engine.call("POST", f"containers/{container_name(handle)}/start", timeout_secs=_START_SECS)
        except aiodocker.DockerError as error:
            await self.remove(handle)
            if any(sign in error.message for sign in _PORT_TAKEN):
                raise ConnectionError(f"the port {spec.published_port} was taken by another program") from error
            raise StartError(f"The Actor's container cannot be started: {_reason(error)}") from error
        finally:
            self._starting.discard(spec.attempt_id)
        return handle

    async def _create(self, spec: RunSpec, name: str) -> None:
        facts = self._facts or await self._read_facts()
        image = msgspec.convert(spec.image.state, DockerImage)
        if not self._network.is_made:
            await self._network.ensure()
        installation = await asyncio.to_thread(self._installation.make)
        while True:
            # Several may be created at once, and each has to learn of it.
            limits_disk = self._limits_disk
            config = container_config(
                spec,
                image,
                facts,
                installation=installation,
                network=self._network.name,
                publish_host=self._publish_host,
                limits_disk=limits_disk,
            )
            try:
                await self._engine.call("POST", "containers/create", config, params={"name": name})
                return
            except aiodocker.DockerError as error:
                if limits_disk and "storage-opt" in error.message.lower():
                    # Only some storage drivers can; what the engine says of itself does not tell.
                    self._limits_disk = False
                    _log.warning("the Docker engine cannot limit the disk space of runs: %s", _reason(error))
                    continue
                raise StartError(f"The Actor's container cannot be created: {_reason(error)}") from error

    async def _describe(self, name: str) -> dict[str, Any] | None:
        """The engine's description of a container, ``None`` when it has none of that name."""
        try:
            found: dict[str, Any] = await self._engine.call("GET", f"containers/{name}/json")
        except aiodocker.DockerError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        return found

    async def inspect(self, handles: Sequence[Handle]) -> list[Observed]:
        """What each of the attempts is doing, in the order asked."""
        return list(await asyncio.gather(*map(self._observe, handles)))

    async def _observe(self, handle: Handle) -> Observed:
        description = await self._describe(container_name(handle))
        if description is None:
            return Observed(Phase.GONE)
        state = description["State"]
        if is_over(state):
            engine_started = 0.0
            if may_have_gone_with_engine(state) and handle.attempt_id not in self._stopped:
                engine_started = await self._engine_started()
            return Observed(Phase.EXITED, exit_of(state, engine_started))
        if state["Status"] == "created" and handle.attempt_id not in self._starting:
            # A start that was cut off. Without its container it can never happen any more.
            await self.remove(handle)
            return Observed(Phase.GONE)
        return Observed(Phase.RUNNING)

    async def wait(self, handle: Handle) -> Exit:
        """Return once the container has ended; ``error`` is ``lost`` for an unknown one."""
        task = self._ends.get(handle.attempt_id)
        if task is None:
            task = asyncio.create_task(self._end_of(handle), name=f"end of {handle.attempt_id}")
            self._ends[handle.attempt_id] = task
            task.add_done_callback(lambda done: self._forget_end(handle.attempt_id, done))
        return await asyncio.shield(task)

    def _forget_end(self, attempt_id: str, done: asyncio.Task[Exit]) -> None:
        if self._ends.get(attempt_id) is done:
            del self._ends[attempt_id]

    async def _end_of(self, handle: Handle) -> Exit:
        path = f"containers/{container_name(handle)}/wait"

        async def once() -> Exit | None:
            try:
                async with self._engine.stream("POST", path, silence_secs=_SILENCE_SECS) as answer:
                    await answer.read()
            except aiodocker.DockerError as error:
                if error.status != _NOT_FOUND:
                    raise
            (seen,) = await self.inspect([handle])
            if seen.phase is Phase.GONE:
                return Exit(error="lost")
            return seen.exit

        while True:
            ended = await self._patiently("wait for a container", once)
            if ended is not None:
                return ended
            await asyncio.sleep(_RETRY_SECS[0])

    async def _patiently(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        """Do ``act`` until the engine answers: it was restarted, hangs, or is away for a while."""
        pause_secs, longest_secs = _RETRY_SECS
        told = False
        while True:
            try:
                return await act()
            except EngineAwayError as error:
                if not told and pause_secs >= longest_secs:
                    _log.warning("trying again to %s: %s", what, error)
                    told = True
            await asyncio.sleep(pause_secs)
            pause_secs = min(2 * pause_secs, longest_secs)

    async def stop(self, handle: Handle, grace_secs: float) -> Exit:
        """End the attempt: SIGTERM, after ``grace_secs`` SIGKILL to the whole container (0: SIGKILL at once)."""
        self._stopped.add(handle.attempt_id)
        if grace_secs > 0:
            await self._signal(handle, "SIGTERM")
            try:
                return await asyncio.wait_for(self.wait(handle), grace_secs)
            except TimeoutError:
                pass
        while True:
            await self._signal(handle, "SIGKILL")
            try:
                return await asyncio.wait_for(self.wait(handle), _KILL_SECS)
            except TimeoutError:
                _log.warning("the container of attempt %s outlives SIGKILL, sending it again", handle.attempt_id)

    async def _signal(self, handle: Handle, name: str) -> None:
        path = f"containers/{container_name(handle)}/kill"
        try:
            await self._engine.call("POST", path, params={"signal": name}, timeout_secs=_KILL_SECS)
        except aiodocker.DockerError as error:
            # Gone, or not running (any more).
            if error.status not in (_NOT_FOUND, _CONFLICT):
                raise

    async def remove(self, handle: Handle) -> None:
        """Delete the attempt's container, with its output and its files."""
        path = f"containers/{container_name(handle)}"
        meter = self._meters.pop(handle.attempt_id, None)
        if meter is not None:
            meter.cancel()
        self._usages.pop(handle.attempt_id, None)
        self._stopped.discard(handle.attempt_id)
        try:
            await self._engine.call("DELETE", path, params={"force": "1", "v": "1"}, timeout_secs=_KILL_SECS)
        except aiodocker.DockerError as error:
            # It is being removed already, or is gone.
            if error.status not in (_NOT_FOUND, _CONFLICT):
                raise

    async def logs(self, handle: Handle, since: int) -> AsyncGenerator[LogChunk, None]:
        """Follow the output from offset ``since``; ends when the attempt is over and everything was read.

        The engine reads standard output and error one by one and keeps no order between them finer than that.
        """
        pause_secs, longest_secs = _RETRY_SECS
        over = False
        while True:
            reader = OutputReader(since)
            try:
                async for chunk in self._read_output(handle, reader, follow=not over):
                    yield chunk
                    since = chunk.next_offset
                    pause_secs = _RETRY_SECS[0]
                if over:
                    return
                # The stream ends with the container or with the engine; once it is over, everything can be read.
                # Reading much of it twice would take long, and is only of use when the engine went down.
                (seen,) = await self.inspect([handle])
                over = seen.phase is not Phase.RUNNING
                is_whole = seen.exit is not None and seen.exit.error is None and since > _RECHECK_BYTES
                if seen.phase is Phase.GONE or is_whole:
                    return
                if over:
                    continue
            except EngineAwayError:
                pass
            await asyncio.sleep(pause_secs)
            pause_secs = min(2 * pause_secs, longest_secs)

    async def _read_output(
        self, handle: Handle, reader: OutputReader, *, follow: bool
    ) -> AsyncGenerator[LogChunk, None]:
        params = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": "1" if follow else "0"}
        try:
            async with self._engine.stream("GET", f"containers/{container_name(handle)}/logs", params=params) as answer:
                async for data in answer.content.iter_any():
                    for chunk in reader.feed(data):
                        yield chunk
        except aiodocker.DockerError as error:
            # No such container, or one that is being removed.
            if error.status not in (_NOT_FOUND, _CONFLICT):
                raise

    async def stats(self, handle: Handle) -> Usage | None:
        """The newest measurement; the engine makes one a second."""
        attempt_id = handle.attempt_id
        meter = self._meters.get(attempt_id)
        if meter is None or meter.done():
            if meter is not None and not meter.cancelled() and (error := meter.exception()) is not None:
                _log.warning("measuring attempt %s failed: %s", attempt_id, error)
            self._meters[attempt_id] = asyncio.create_task(self._measure(handle), name=f"measure {attempt_id}")
        return self._usages.get(attempt_id)

    async def _measure(self, handle: Handle) -> None:
        name = container_name(handle)
        try:
            description = await self._describe(name)
            if description is None or not description["State"]["Running"]:
                return
            async with self._engine.stream("GET", f"containers/{name}/stats", params={"stream": "1"}) as answer:
                async for line in answer.content:
                    before = self._usages.get(handle.attempt_id)
                    sample = msgspec.json.decode(line)
                    usage = usage_of(sample, before.mem_max_bytes if before is not None else 0)
                    if usage is not None:
                        self._usages[handle.attempt_id] = usage
        except (EngineAwayError, aiodocker.DockerError):
            # Away, or the container is gone; the next call begins anew.
            return

    async def list_managed(self) -> list[Handle]:
        """Every attempt of this installation that has a container, except those not made known yet."""
        if (installation := self._installation.id) is None:
            return []
        filters = msgspec.json.encode({"label": [f"{LABEL_INSTALLATION}={installation}"]}).decode()
        found = await self._engine.call("GET", "containers/json", params={"all": "1", "filters": filters})
        handles = [handle_of(container["Labels"]) for container in found]
        return [handle for handle in handles if handle.attempt_id not in self._unannounced]


def _tell_failure(task: asyncio.Task[str]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("live containers cannot reach this server: %s", error)


def _reason(error: aiodocker.DockerError) -> str:
    """The engine's own words without the layers through which they came."""
    text = error.message.strip().removeprefix("failed to create shim task: ").removeprefix("failed to create shim: ")
    for prefix in ("OCI runtime create failed: ", "runc create failed: ", "container_linux.go:380: "):
        text = text.removeprefix(prefix)
    return text.rstrip(": ")
