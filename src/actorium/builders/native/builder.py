"""A build from sources to image: stage by stage, instruction by instruction."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import msgspec

from actorium.builders import BuildFailed, BuildOutput, BuildSpec, WriteLog
from actorium.builders.context import Context
from actorium.builders.definition import PATH_ARGUMENT, Definition, read_definition
from actorium.builders.dockerfile import (
    Instruction,
    assignments,
    default_dockerfile,
    exec_form,
    expand,
    parse_dockerfile,
)
from actorium.builders.native.run_steps import RunSteps
from actorium.builders.native.stages import Language, Stage, base_image, copy_into
from actorium.builders.native.steps import StepRunner, find_program
from actorium.builders.native.toolchains import Toolchains
from actorium.builders.native.trees import Trees, size_bytes
from actorium.builders.sources import write_sources

_IGNORED = frozenset({"USER", "EXPOSE", "LABEL", "MAINTAINER", "STOPSIGNAL", "HEALTHCHECK", "VOLUME", "SHELL"})
_UV_IMAGE = "ghcr.io/astral-sh/uv"
_SHELL_SIGNS = set("|&;<>()$`*?")


class NativeBuilder:
    """Builds below ``root``: ``images`` for runs, ``cache`` shared by builds, ``work`` while building."""

    def __init__(self, root: Path) -> None:
        self._images = root / "images"
        self._work = root / "work"
        self._caches = root / "cache"
        self._trees = Trees(root / "cache" / "trees")
        self._tools = Toolchains()

    async def open(self) -> None:
        """Make the folders and delete what an earlier server left half-done."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        if self._work.exists():
            shutil.rmtree(self._work, ignore_errors=True)
        for folder in (self._images, self._work, self._caches / "trees"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def close(self) -> None:
        """Nothing is open between builds."""

    async def build(self, spec: BuildSpec, write_log: WriteLog) -> BuildOutput:
        """See ``Builder.build``."""
        work = self._work / spec.build_id
        image = self._images / spec.build_id
        await asyncio.to_thread(work.mkdir, parents=True)
        runner = StepRunner(spec.build_id, work / "home", write_log)

        def say(text: str) -> None:
            write_log(f"{text}\n".encode())

        steps = RunSteps(runner, self._trees, self._tools, say, self._caches, use_cache=spec.use_cache)
        try:
            sources = work / "sources"
            actor = await asyncio.to_thread(write_sources, spec.sources, sources)
            definition = await asyncio.to_thread(read_definition, actor, sources)
            for warning in definition.warnings:
                say(f"WARNING: {warning}")
            interpreter = _Interpreter(spec, definition, work, steps, say)
            stage = await interpreter.run()
            return await self._finish(stage, definition, steps, image)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, image, ignore_errors=True))
            raise
        finally:
            self._trees.release(steps.held)
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, work, ignore_errors=True))

    async def _finish(self, stage: Stage, definition: Definition, steps: RunSteps, image: Path) -> BuildOutput:
        command = await _resolve_command(stage, steps)
        links = {}
        trees = [key for key in (stage.venv, stage.node_modules) if key is not None]
        if stage.node_modules is not None:
            links["node_modules"] = str(self._trees.path(stage.node_modules) / "node_modules")
        bin_dirs = []
        if stage.venv is not None:
            bin_dirs.append(str(self._trees.path(stage.venv) / "bin"))
        if stage.node_modules is not None:
            bin_dirs.append(links["node_modules"] + "/.bin")
        node = find_program("node")
        if stage.language is Language.NODE and node is not None:
            bin_dirs.append(str(node.parent))
        state: dict[str, Any] = {
            "app_dir": str(image / "app"),
            "links": links,
            "command": command,
            "env": {**stage.base_env, **stage.env},
            "bin_dirs": bin_dirs,
            "workdir": str(stage.workdir),
            "trees": trees,
            "image_dir": str(image),
        }
        if stage.language is Language.PYTHON:
            await steps.compile_sources(stage)
        await asyncio.to_thread(_keep, stage.root, image, state)
        size = await asyncio.to_thread(self._size, image, trees)
        return BuildOutput(
            kind="native",
            state=state,
            size_bytes=size,
            actor_definition=definition.actor_definition,
            input_schema=definition.input_schema,
            readme=definition.readme,
            changelog=definition.changelog,
        )

    def _size(self, image: Path, trees: list[str]) -> int:
        return size_bytes(image) + sum(size_bytes(self._trees.path(key)) for key in trees)

    async def remove(self, state: dict[str, Any]) -> None:
        """See ``Builder.remove``; trees go with the last image that refers to them."""
        await asyncio.to_thread(self._remove, state)

    def _remove(self, state: dict[str, Any]) -> None:
        shutil.rmtree(state["image_dir"], ignore_errors=True)
        referenced: set[str] = set()
        for path in self._images.glob("*/image.json"):
            referenced |= set(msgspec.json.decode(path.read_bytes())["trees"])
        self._trees.remove_unused(state["trees"], referenced)


class _Interpreter:
    """Goes through the instructions of one Dockerfile."""

    def __init__(self, spec: BuildSpec, definition: Definition, work: Path, steps: RunSteps, say: Any) -> None:
        self._spec = spec
        self._definition = definition
        self._work = work
        self._steps = steps
        self._say = say
        self._stages: list[Stage] = []
        self._global_args: dict[str, str] = {}
        self._context = Context(definition.context)

    async def run(self) -> Stage:
        text, file = self._dockerfile()
        instructions = parse_dockerfile(text, file)
        for number, instruction in enumerate(instructions, start=1):
            self._say(f"Step {number}/{len(instructions)} : {instruction.name} {instruction.value}"[:2000])
            await self._instruction(instruction)
        if not self._stages:
            raise BuildFailed(f"{file} has no FROM.")
        return self._stages[-1]

    def _dockerfile(self) -> tuple[str, str]:
        path = self._definition.dockerfile
        if path is not None:
            root = self._work / "sources"
            return path.read_text("utf-8", "replace"), path.resolve().relative_to(root.resolve()).as_posix()
        return default_dockerfile(self._context.files()), "the default Dockerfile"

    async def _instruction(self, instruction: Instruction) -> None:
        if instruction.name == "FROM":
            await self._from(instruction)
            return
        if instruction.name == "ARG" and not self._stages:
            self._global_args |= self._arg(instruction, self._global_args)
            return
        if instruction.name in _IGNORED:
            return
        if not self._stages:
            raise instruction.refuse("comes before FROM", "Begin with FROM.")
        stage = self._stages[-1]
        match instruction.name:
            case "ARG":
                stage.args |= self._arg(instruction, {**self._global_args, **stage.variables})
            case "ENV":
                found = assignments(instruction, stage.variables)
                stage.env |= {name: value for name, value in found.items() if name != "PATH"}
            case "WORKDIR":
                stage.change_workdir(expand(instruction.value, stage.variables))
                await asyncio.to_thread((stage.root / stage.workdir).mkdir, parents=True, exist_ok=True)
            case "COPY" | "ADD":
                await self._copy(instruction, stage)
            case "RUN":
                if {"secret", "ssh"} & set(_mount_types(instruction)):
                    raise instruction.refuse("mounts secrets", "Build with the Docker builder.")
                await self._steps.run(instruction, stage)
            case "CMD":
                stage.command = self._words(instruction)
            case "ENTRYPOINT":
                stage.entrypoint = self._words(instruction)
            case _:
                raise instruction.refuse("is not known to the native builder", "Build with the Docker builder.")

    def _arg(self, instruction: Instruction, variables: dict[str, str]) -> dict[str, str]:
        name, equals, default = instruction.value.partition("=")
        if name == PATH_ARGUMENT:
            return {name: self._definition.actor_path}
        if name in self._spec.build_args:
            return {name: self._spec.build_args[name]}
        if name in self._global_args and not equals:
            return {name: self._global_args[name]}
        return {name: expand(default.strip("\"'"), variables)} if equals else {}

    async def _from(self, instruction: Instruction) -> None:
        words = expand(instruction.value, self._global_args).split()
        image = words[0]
        name = words[2] if len(words) == 3 and words[1].lower() == "as" else str(len(self._stages))
        root = self._work / f"stage-{len(self._stages)}"
        earlier = next((stage for stage in self._stages if stage.name.lower() == image.lower()), None)
        if earlier is not None:
            stage = earlier.copy_of(name, root)
            await asyncio.to_thread(shutil.copytree, earlier.root, root, symlinks=True)
        else:
            language, version, browser = base_image(instruction, image)
            stage = Stage(name, root, language, version)
            stage.args |= self._spec.build_args
            await asyncio.to_thread(root.mkdir)
            if browser:
                self._use_browser(stage, browser)
        self._stages.append(stage)
        await self._steps.prepare(stage)

    def _use_browser(self, stage: Stage, browser: str) -> None:
        chromium = find_program("chromium") or find_program("google-chrome")
        if chromium is None:
            self._say(
                f"WARNING: the base image has a browser ({browser}); this machine has no Chromium. "
                "Install it if the Actor opens one."
            )
        else:
            stage.env |= {"APIFY_CHROME_EXECUTABLE_PATH": str(chromium), "APIFY_DEFAULT_BROWSER_PATH": str(chromium)}

    async def _copy(self, instruction: Instruction, stage: Stage) -> None:
        value = expand(instruction.value, stage.variables)
        words = exec_form(value) or shlex.split(value)
        if "<<" in instruction.value:
            raise instruction.refuse("has a here-document", "Put the text into a file.")
        if len(words) < 2:
            raise instruction.refuse("needs a source and a destination", "Write COPY source destination.")
        *patterns, target = words
        origin = instruction.flags.get("from")
        if origin is None:
            if instruction.name == "ADD" and any(
                "://" in word or word.endswith((".tar", ".gz", ".tgz")) for word in patterns
            ):
                raise instruction.refuse("adds a URL or an archive", "Use COPY with files of the Actor.")
            files = await asyncio.to_thread(self._context.files)
            await asyncio.to_thread(copy_into, instruction, self._context.root, files, patterns, stage, target)
            return
        if origin.split(":")[0].split("@")[0] == _UV_IMAGE:
            self._say("The machine's uv is used.")
            return
        source = next(
            (other for index, other in enumerate(self._stages[:-1]) if origin in (other.name, str(index))), None
        )
        if source is None:
            raise instruction.refuse(f"copies from the image {origin}", "Build with the Docker builder.")
        inner = [str(source.relative(pattern)) for pattern in patterns]
        files = await asyncio.to_thread(_all_files, source.root)
        await asyncio.to_thread(copy_into, instruction, source.root, files, inner, stage, target)

    def _words(self, instruction: Instruction) -> list[str]:
        words = exec_form(instruction.value)
        if words is not None:
            if words[:1] in (["sh"], ["bash"], ["/bin/sh"], ["/bin/bash"]):
                raise instruction.refuse("uses a shell", "Start the program itself.")
            return [word for word in words if word != ""]
        if _SHELL_SIGNS & set(instruction.value):
            raise instruction.refuse("uses the shell", 'Write it in the exec form: ["program", "argument"].')
        return shlex.split(instruction.value)


def _mount_types(instruction: Instruction) -> list[str]:
    mount = instruction.flags.get("mount", "")
    return [part.removeprefix("type=") for part in mount.split(",") if part.startswith("type=")]


def _all_files(root: Path) -> list[str]:
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not (Path(folder) / name).is_symlink()]
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in names]
    return sorted(found)


async def _resolve_command(stage: Stage, steps: RunSteps) -> list[str]:
    entrypoint = [word for word in stage.entrypoint or [] if "xvfb" not in word]
    command = [*entrypoint, *(stage.command or [])]
    if not command:
        command = ["npm", "start", "--silent"] if stage.language is Language.NODE else _python_default(stage)
    first, *rest = command
    if first in ("python", "python3") and stage.language is Language.PYTHON:
        return [str(await steps.interpreter(stage)), *rest]
    bin_dirs = await steps.bin_dirs(stage)
    program = find_program(first, bin_dirs)
    if program is None and not (stage.root / stage.workdir / first).exists():
        raise BuildFailed(
            f"The Actor's command starts {first!r}, which neither the Actor nor this machine has. "
            "Install it, or build with the Docker builder."
        )
    # What is inside the stage has another place in every run.
    if program is None or program.is_relative_to(stage.root):
        return [first if "/" in first else program.name if program else first, *rest]
    return [str(program), *rest]


def _python_default(stage: Stage) -> list[str]:
    if not (stage.root / "src" / "__main__.py").exists():
        packages = [path.parent.name for path in stage.root.glob("*/__main__.py")]
        if len(packages) == 1:
            return ["python", "-m", packages[0]]
    return ["python", "-m", "src"]


def _keep(root: Path, image: Path, state: dict[str, Any]) -> None:
    """Make the image out of the last stage."""
    if image.exists():
        shutil.rmtree(image)
    image.mkdir(parents=True)
    for name in ("node_modules", ".venv"):
        if (root / name).is_symlink():
            (root / name).unlink()
    root.rename(image / "app")
    (image / "image.json").write_bytes(msgspec.json.encode(state))
