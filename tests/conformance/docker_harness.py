"""Python programs as containers, and the engine's own view of them."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path
from typing import Any

import pytest

from actorium.builders import BuildFailed, BuildOutput, BuildSpec, Sources
from actorium.builders.docker import DockerBuilder
from actorium.domain.models import SourceFile
from actorium.kit import new_id
from actorium.runtimes import Handle, Image, RunSpec
from actorium.runtimes.docker import DockerRuntime
from actorium.runtimes.docker.containers import container_name
from actorium.runtimes.docker.engine import DockerEngine
from conformance.runtimes import Act, joined, no_checkpoint, read_all
from support.docker_images import PROGRAM, PYTHON

NETWORK = "actorium-test"
BASE = f"FROM {PYTHON}\n"


async def no_door(address: str) -> str:
    raise OSError(f"no server for {address} here")


class DockerHarness:
    """A Docker runtime with an installation of its own."""

    def __init__(self, url: str, root: Path) -> None:
        self.url = url
        self._root = root
        self.runtime = self.another_runtime()

    def another_runtime(self) -> DockerRuntime:
        """As after a restart of the server."""
        return DockerRuntime(DockerEngine(self.url), self._root, no_door, network=NETWORK, api_base_url="http://server")

    def run_spec(self, image: str, *, memory_mbytes: int = 512, env: dict[str, str] | None = None) -> RunSpec:
        state = {"image": image, "build_id": "a-build"}
        return RunSpec(new_id(), new_id(), Image("docker", state), env or {}, memory_mbytes, 1024)

    def python(self, code: str, *, memory_mbytes: int = 512, env: dict[str, str] | None = None) -> RunSpec:
        return self.run_spec(PROGRAM, memory_mbytes=memory_mbytes, env={"PROGRAM": code, **(env or {})})

    def spec(self, act: Act) -> RunSpec:
        end = f"os._exit({act.code})" if act.code is not None else "while True: signal.pause()"
        if act.signal is not None:
            end = f"os.kill(os.getpid(), {act.signal})"
        term = "signal.SIG_IGN" if act.ignores_term else f"lambda *_: os._exit({act.code_on_term})"
        handler = f"signal.signal(15, {term})" if act.ignores_term or act.code_on_term is not None else ""
        output = base64.b64encode(zlib.compress(act.output)).decode()
        return self.python(
            f"import base64, os, signal, zlib\n{handler}\n"
            f"data = zlib.decompress(base64.b64decode({output!r})) + b'ready\\n'\n"
            f"while data: data = data[os.write(1, data):]\n{end}"
        )

    def bad_spec(self) -> RunSpec:
        return self.run_spec("actorium-test/no-such-image:1")

    async def start(self, code: str, *, memory_mbytes: int = 512, env: dict[str, str] | None = None) -> Handle:
        return await self.runtime.start(self.python(code, memory_mbytes=memory_mbytes, env=env), no_checkpoint)

    async def output_of(self, code: str, *, env: dict[str, str] | None = None) -> str:
        return joined(await read_all(self.runtime, await self.start(code, env=env))).decode()

    async def close(self) -> None:
        for handle in await self.runtime.list_managed():
            await self.runtime.remove(handle)
        await self.runtime.close()


async def description(engine: DockerEngine, handle: Handle) -> dict[str, Any]:
    """What the engine says of an attempt's container."""
    found: dict[str, Any] = await engine.call("GET", f"containers/{container_name(handle)}/json")
    return found


class Workshop:
    """A builder, what it printed, and a runtime for what it made."""

    def __init__(self, engine: DockerEngine, harness: DockerHarness, root: Path) -> None:
        self.engine = engine
        self.harness = harness
        self.root = root
        self.builder = DockerBuilder(engine, root, harness.runtime.network_name)
        self.log = ""
        self.built: list[BuildOutput] = []

    async def build(self, files: dict[str, str], *, use_cache: bool = True, **build_args: str) -> BuildOutput:
        sources = Sources(tuple(SourceFile(name, "TEXT", text) for name, text in files.items()))
        self.log = ""
        spec = BuildSpec(new_id(), "0.1.1", "My_Actor", sources, build_args, use_cache)

        def write(data: bytes) -> None:
            self.log += data.decode()

        output = await self.builder.build(spec, write)
        self.built.append(output)
        return output

    async def fails(self, files: dict[str, str]) -> str:
        with pytest.raises(BuildFailed) as error:
            await self.build(files)
        return str(error.value)

    async def execute(self, output: BuildOutput, env: dict[str, str] | None = None) -> str:
        spec = self.harness.run_spec(output.state["image"], env=env)
        handle = await self.harness.runtime.start(spec, no_checkpoint)
        return joined(await read_all(self.harness.runtime, handle)).decode()

    async def steps(self, marker: str) -> list[str]:
        """Containers of build steps whose command contains ``marker``."""
        found = await self.engine.call("GET", "containers/json", params={"all": "1"})
        return [container["Id"] for container in found if marker in container["Command"]]
