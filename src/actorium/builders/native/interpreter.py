"""Going through the instructions of one Dockerfile, stage by stage."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from actorium.builders import BuildFailed, BuildSpec
from actorium.builders.context import Context
from actorium.builders.definition import PATH_ARGUMENT, Definition
from actorium.builders.dockerfile import (
    Instruction,
    assignments,
    default_dockerfile,
    exec_form,
    expand,
    parse_dockerfile,
)
from actorium.builders.native.browsers import Browsers
from actorium.builders.native.installs import Installs
from actorium.builders.native.run_steps import RunSteps
from actorium.builders.native.stages import Stage, base_image, copy_into

_IGNORED = frozenset({"USER", "EXPOSE", "LABEL", "MAINTAINER", "STOPSIGNAL", "HEALTHCHECK", "VOLUME", "SHELL"})
_UV_IMAGE = "ghcr.io/astral-sh/uv"
_ARCHIVES = (".tar", ".gz", ".tgz")
_SHELL_SIGNS = set("|&;<>()$`*?")


class Interpreter:
    """Goes through the instructions of one Dockerfile."""

    def __init__(
        self,
        spec: BuildSpec,
        definition: Definition,
        work: Path,
        steps: RunSteps,
        installs: Installs,
        browsers: Browsers,
        say: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._definition = definition
        self._work = work
        self._steps = steps
        self._installs = installs
        self._browsers = browsers
        self._say = say
        self._stages: list[Stage] = []
        self._global_args: dict[str, str] = {}
        self._context = Context(definition.context)

    async def run(self) -> Stage:
        """The last stage, finished. Raises ``BuildFailed``."""
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
                await self._run(instruction, stage)
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
            stage.browser = browser
            if browser:
                stage.env |= self._browsers.environment()
                if (lacking := self._browsers.lacking(browser)) is not None:
                    self._say(f"WARNING: {lacking}")
        self._stages.append(stage)
        await self._installs.prepare(stage)

    async def _run(self, instruction: Instruction, stage: Stage) -> None:
        mounted: list[Path] = []
        for mount in instruction.mounts:
            match mount.get("type", "bind"):
                case "secret" | "ssh":
                    raise instruction.refuse("mounts secrets", "Build with the Docker builder.")
                case "bind":
                    mounted += await asyncio.to_thread(self._bind, instruction, stage, mount)
        try:
            await self._steps.run(instruction, stage)
        finally:
            for path in mounted:
                await asyncio.to_thread(path.unlink, missing_ok=True)

    def _bind(self, instruction: Instruction, stage: Stage, mount: dict[str, str]) -> list[Path]:
        """Put the files of a bind mount into the stage for one RUN; returns those that were not there before."""
        source = mount.get("source") or mount.get("src") or "."
        target = mount.get("target") or mount.get("dst") or mount.get("destination") or source
        root, files, inner = self._origin(instruction, mount.get("from"), [source])
        before = set(all_files(stage.root))
        copy_into(instruction, root, files, inner, stage, target)
        return [stage.root / name for name in all_files(stage.root) if name not in before]

    async def _copy(self, instruction: Instruction, stage: Stage) -> None:
        value = expand(instruction.value, stage.variables)
        words = exec_form(value) or shlex.split(value)
        if "<<" in instruction.value:
            raise instruction.refuse("has a here-document", "Put the text into a file.")
        if len(words) < 2:
            raise instruction.refuse("needs a source and a destination", "Write COPY source destination.")
        *patterns, target = words
        origin = instruction.flags.get("from")
        if instruction.name == "ADD" and any("://" in word or word.endswith(_ARCHIVES) for word in patterns):
            raise instruction.refuse("adds a URL or an archive", "Use COPY with files of the Actor.")
        if origin is not None and origin.split(":")[0].split("@")[0] == _UV_IMAGE:
            self._say("The machine's uv is used.")
            return
        root, files, inner = await asyncio.to_thread(self._origin, instruction, origin, patterns)
        await asyncio.to_thread(copy_into, instruction, root, files, inner, stage, target)

    def _origin(
        self, instruction: Instruction, origin: str | None, patterns: list[str]
    ) -> tuple[Path, list[str], list[str]]:
        """The folder that files come from, all files in it, and ``patterns`` relative to it. Blocks."""
        if origin is None:
            return self._context.root, self._context.files(), patterns
        source = next(
            (other for index, other in enumerate(self._stages[:-1]) if origin in (other.name, str(index))), None
        )
        if source is None:
            raise instruction.refuse(f"copies from the image {origin}", "Build with the Docker builder.")
        return source.root, all_files(source.root), [str(source.relative(pattern)) for pattern in patterns]

    def _words(self, instruction: Instruction) -> list[str]:
        words = exec_form(instruction.value)
        if words is not None:
            if words[:1] in (["sh"], ["bash"], ["/bin/sh"], ["/bin/bash"]):
                raise instruction.refuse("uses a shell", "Start the program itself.")
            return [word for word in words if word != ""]
        if _SHELL_SIGNS & set(instruction.value):
            raise instruction.refuse("uses the shell", 'Write it in the exec form: ["program", "argument"].')
        return shlex.split(instruction.value)


def all_files(root: Path) -> list[str]:
    """Every file below ``root``, links to dependency trees left out. Blocks."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not (Path(folder) / name).is_symlink()]
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in names]
    return sorted(found)
