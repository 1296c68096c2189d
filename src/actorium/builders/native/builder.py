"""A build from sources to image: stage by stage, instruction by instruction."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import msgspec

from actorium.builders import BuildOutput, BuildSpec, WriteLog
from actorium.builders.definition import Definition, read_definition
from actorium.builders.native.browsers import Browsers, playwright_packages
from actorium.builders.native.command import resolve_command
from actorium.builders.native.images import Images
from actorium.builders.native.installs import Installs
from actorium.builders.native.interpreter import Interpreter
from actorium.builders.native.run_steps import RunSteps
from actorium.builders.native.stages import Language, Stage
from actorium.builders.native.steps import StepRunner
from actorium.builders.native.toolchains import Toolchains
from actorium.builders.native.trees import Trees, hash_files, size_bytes, tree_key
from actorium.builders.sources import write_sources

_RULES = "1"
"""Part of every image's key: to be changed with what this builder makes of the same sources."""


class NativeBuilder:
    """Builds below ``root``: ``images`` for runs, ``cache`` shared by builds, ``work`` while building."""

    def __init__(self, root: Path) -> None:
        self._work = root / "work"
        self._caches = root / "cache"
        self._trees = Trees(root / "cache" / "trees")
        self._images = Images(root / "images", root / "cache" / "images", self._trees)
        self._tools = Toolchains()

    async def open(self) -> None:
        """Make the folders and delete what an earlier server left half-done."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        if self._work.exists():
            shutil.rmtree(self._work, ignore_errors=True)
        for folder in (self._work, self._caches / "trees"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._images.open()

    async def close(self) -> None:
        """Nothing is open between builds."""

    async def build(self, spec: BuildSpec, write_log: WriteLog) -> BuildOutput:
        """See ``Builder.build``."""
        work = self._work / spec.build_id
        await asyncio.to_thread(work.mkdir, parents=True)

        def say(text: str) -> None:
            write_log(f"{text}\n".encode())

        runner = StepRunner(spec.build_id, work / "home", write_log)
        installs = Installs(runner, self._trees, self._tools, say, self._caches, use_cache=spec.use_cache)
        try:
            sources = work / "sources"
            actor = await asyncio.to_thread(write_sources, spec.sources, sources)
            definition = await asyncio.to_thread(read_definition, actor, sources)
            for warning in definition.warnings:
                say(f"WARNING: {warning}")
            browsers = (await asyncio.to_thread(Browsers.of_machine)).wrapped(self._caches / "browsers" / "programs")
            key = await self._key(spec, sources, browsers)
            if spec.use_cache and (found := await asyncio.to_thread(self._images.again, key, spec.build_id)):
                say(f"Nothing has changed since build {found[0]}: its image is used again.")
                return await self._output(found[1], definition)
            steps = RunSteps(runner, self._trees, installs, say)
            stage = await Interpreter(spec, definition, work, steps, installs, browsers, say).run()
            state = await self._state(stage, installs, browsers, spec.build_id)
            await asyncio.to_thread(self._images.keep, stage.root, spec.build_id, state, key)
            return await self._output(state, definition)
        except BaseException:
            image = self._images.root / spec.build_id
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, image, ignore_errors=True))
            raise
        finally:
            self._trees.release(installs.held)
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, work, ignore_errors=True))

    async def _key(self, spec: BuildSpec, sources: Path, browsers: Browsers) -> str:
        content = await asyncio.to_thread(hash_files, sources)
        arguments = msgspec.json.encode(sorted(spec.build_args.items()))
        machine = (await self._tools.signature(), str(browsers))
        return tree_key(_RULES, content, spec.sources.actor_path, arguments, *machine)

    async def _state(self, stage: Stage, installs: Installs, browsers: Browsers, build_id: str) -> dict[str, Any]:
        command = await resolve_command(stage, installs)
        venv = self._trees.path(stage.venv) if stage.venv is not None else None
        modules = self._trees.path(stage.node_modules) / "node_modules" if stage.node_modules is not None else None
        bin_dirs = [] if venv is None else [venv / "bin"]
        if modules is not None:
            bin_dirs.append(modules / ".bin")
        if stage.tool_dir is not None:
            bin_dirs.append(stage.tool_dir)
        packages = await asyncio.to_thread(playwright_packages, venv, modules)
        opened = await asyncio.to_thread(browsers.playwright_folder, self._caches / "browsers", packages)
        if stage.language is Language.PYTHON:
            await installs.compile_sources(stage)
        image = self._images.root / build_id
        return {
            "app_dir": str(image / "app"),
            "links": {} if modules is None else {"node_modules": str(modules)},
            "command": command,
            "env": {**stage.base_env, **opened, **stage.env},
            "bin_dirs": [str(folder) for folder in bin_dirs],
            "workdir": str(stage.workdir),
            "trees": [key for key in (stage.venv, stage.node_modules) if key is not None],
            "image_dir": str(image),
        }

    async def _output(self, state: dict[str, Any], definition: Definition) -> BuildOutput:
        own_bytes = await asyncio.to_thread(size_bytes, Path(state["image_dir"]))
        return BuildOutput(
            kind="native",
            state=state,
            size_bytes=await asyncio.to_thread(self._images.size_bytes, state, own_bytes),
            actor_definition=definition.actor_definition,
            input_schema=definition.input_schema,
            readme=definition.readme,
            changelog=definition.changelog,
        )

    async def remove(self, state: dict[str, Any]) -> None:
        """See ``Builder.remove``; trees go with the last image that refers to them."""
        await asyncio.to_thread(self._images.remove, state)
