"""Carrying out RUN: commands one after the other, dependency installs through the shared trees."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from actorium.builders import BuildFailed
from actorium.builders.dockerfile import Instruction, expand
from actorium.builders.native.commands import Chain, Command, Kind, Pipeline, UnsupportedError, parse_run
from actorium.builders.native.installs import Installs
from actorium.builders.native.stages import Stage
from actorium.builders.native.steps import StepRunner
from actorium.builders.native.trees import Trees

Say = Callable[[str], None]


class RunSteps:
    """RUN instructions of one build."""

    def __init__(self, runner: StepRunner, trees: Trees, installs: Installs, say: Say) -> None:
        self._runner = runner
        self._trees = trees
        self._installs = installs
        self._say = say

    async def run(self, instruction: Instruction, stage: Stage) -> None:
        """Carry out one RUN."""
        try:
            chain = parse_run(expand(instruction.value, stage.variables))
        except UnsupportedError as error:
            raise instruction.refuse(error.reason, error.remedy) from error
        if not await self._chain(chain, instruction, stage):
            raise BuildFailed(
                f"{instruction.file} line {instruction.line}: the command {instruction.value!r} failed. "
                "See the lines above."
            )

    async def _chain(self, chain: Chain, instruction: Instruction, stage: Stage) -> bool:
        succeeded = True
        for operator, part in chain.parts:
            if (operator == "&&" and not succeeded) or (operator == "||" and succeeded):
                continue
            if isinstance(part, Chain):
                succeeded = await self._chain(part, instruction, stage)
            else:
                succeeded = await self._pipeline(part, instruction, stage)
        return succeeded

    async def _pipeline(self, pipeline: Pipeline, instruction: Instruction, stage: Stage) -> bool:
        given: bytes | None = None
        succeeded = True
        for position, command in enumerate(pipeline.commands):
            is_last = position == len(pipeline.commands) - 1
            succeeded, given = await self._command(command, instruction, stage, given, keep_output=not is_last)
        return succeeded

    async def _command(
        self, command: Command, instruction: Instruction, stage: Stage, given: bytes | None, *, keep_output: bool
    ) -> tuple[bool, bytes]:
        words = list(command.words)
        match command.kind:
            case Kind.SKIPPED:
                self._say(f"WARNING: skipped '{' '.join(words)}': {command.note}.")
            case Kind.ECHO:
                text = " ".join(words[1:]) if words[0] == "echo" else ""
                if text and not keep_output:
                    self._say(text)
                return True, f"{text}\n".encode()
            case Kind.REMOVE:
                await asyncio.to_thread(_remove, stage, words[1:])
            case Kind.MAKE_FOLDERS:
                for word in words[1:]:
                    if not word.startswith("-"):
                        await asyncio.to_thread(stage.path(word).mkdir, parents=True, exist_ok=True)
            case Kind.PYTHON_DEPENDENCIES:
                return await self._installs.python(command, instruction, stage, given), b""
            case Kind.NODE_DEPENDENCIES:
                return await self._installs.node(command, instruction, stage), b""
            case Kind.INFORMATION:
                return True, await self._information(command, instruction, stage)
            case Kind.PROGRAM:
                code, output = await self._program(command, instruction, stage, given, keep_output=keep_output)
                return code == 0, output
        return True, b""

    async def _information(self, command: Command, instruction: Instruction, stage: Stage) -> bytes:
        """What a command prints of the dependencies: asked once of each tree, as npm takes seconds to say it."""
        key = stage.node_modules or stage.venv
        if key is None and command.words[:2] in (("npm", "ls"), ("npm", "list")):
            return b""
        said = None if key is None else self._trees.note(key, " ".join(command.words))
        if said is not None and await asyncio.to_thread(said.is_file):
            output = await asyncio.to_thread(said.read_bytes)
        else:
            _, output = await self._program(command, instruction, stage, None, keep_output=True)
            if said is not None:
                await asyncio.to_thread(_write, said, output)
        self._say(output.decode(errors="replace").rstrip("\n"))
        return output

    async def _program(
        self, command: Command, instruction: Instruction, stage: Stage, given: bytes | None, *, keep_output: bool
    ) -> tuple[int, bytes]:
        name, *rest = command.words
        program = await self._installs.program(name, stage)
        if program is None:
            if command.kind is Kind.INFORMATION:
                return 0, b""
            raise instruction.refuse(
                f"needs the program {name!r}, which this machine does not have",
                "Install it, or build with the Docker builder.",
            )
        return await self._runner.run(
            [str(program), *rest],
            stage.root / stage.workdir,
            self._installs.variables(stage, command),
            self._installs.bin_dirs(stage),
            given=given,
            keep_output=keep_output,
        )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def _remove(stage: Stage, words: list[str]) -> None:
    for word in words:
        if word.startswith("-"):
            continue
        for path in stage.root.glob(str(stage.relative(word))):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
