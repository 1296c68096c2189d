"""Carrying out RUN: commands one after the other, dependency installs through the shared trees."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from actorium.builders import BuildFailed
from actorium.builders.dockerfile import Instruction, expand
from actorium.builders.native.commands import Chain, Command, Kind, Pipeline, UnsupportedError, parse_run
from actorium.builders.native.stages import NO_BROWSERS, Language, Stage
from actorium.builders.native.steps import StepRunner, find_program
from actorium.builders.native.toolchains import Toolchains
from actorium.builders.native.trees import Trees, clone, hash_files, tree_key

Say = Callable[[str], None]


class RunSteps:
    """RUN instructions of one build. ``held`` collects the keys of the trees it uses."""

    def __init__(
        self, runner: StepRunner, trees: Trees, tools: Toolchains, say: Say, caches: Path, *, use_cache: bool
    ) -> None:
        self._runner = runner
        self._trees = trees
        self._tools = tools
        self._say = say
        self._caches = caches
        self._use_cache = use_cache
        self._salt = "" if use_cache else str(runner.home)
        self.held: list[str] = []

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
        cwd = stage.root / stage.workdir
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
                return await self._python_dependencies(words, command, instruction, stage, given), b""
            case Kind.NODE_DEPENDENCIES:
                return await self._node_dependencies(words, command, instruction, stage), b""
            case Kind.PROGRAM | Kind.INFORMATION:
                code, output = await self._program(words, command, instruction, stage, cwd, given, keep_output)
                return code == 0 or command.kind is Kind.INFORMATION, output
        return True, b""

    async def _program(
        self,
        words: list[str],
        command: Command,
        instruction: Instruction,
        stage: Stage,
        cwd: Path,
        given: bytes | None,
        keep_output: bool,
    ) -> tuple[int, bytes]:
        bin_dirs = await self.bin_dirs(stage)
        program = self._tools.uv if words[0] == "uv" else find_program(words[0], bin_dirs)
        if words[0] in ("python", "python3"):
            program = await self.interpreter(stage)
        if program is None:
            if command.kind is Kind.INFORMATION:
                return 0, b""
            raise instruction.refuse(
                f"needs the program {words[0]!r}, which this machine does not have",
                "Install it, or build with the Docker builder.",
            )
        env = {**stage.base_env, **stage.env, **stage.args, **NO_BROWSERS, **self._cache_env(), **command.env}
        if stage.venv is not None:
            env["VIRTUAL_ENV"] = str(self._trees.path(stage.venv))
        return await self._runner.run(
            [str(program), *words[1:]], cwd, env, bin_dirs, given=given, keep_output=keep_output
        )

    def _cache_env(self) -> dict[str, str]:
        return {
            "UV_CACHE_DIR": str(self._caches / "uv"),
            "npm_config_cache": str(self._caches / "npm"),
            "npm_config_yes": "true",
            "npm_config_update_notifier": "false",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
        }

    async def bin_dirs(self, stage: Stage) -> list[Path]:
        """Folders in which programs of the stage are looked for first."""
        found = []
        if stage.venv is not None:
            found.append(self._trees.path(stage.venv) / "bin")
        if (stage.root / "node_modules").exists():
            found.append(stage.root / "node_modules" / ".bin")
        return found

    # Python

    async def interpreter(self, stage: Stage) -> Path:
        """The Python of the stage's virtual environment."""
        if stage.venv is None:
            python, version, warning = await self._tools.python(stage.version)
            if warning is not None:
                self._say(f"WARNING: {warning}")
            key = tree_key("venv", version, str(python), self._salt)
            self._hold(key)
            async with self._trees.making(key) as is_new:
                if is_new:
                    await self._must(
                        [
                            str(self._tools.uv),
                            "venv",
                            "--relocatable",
                            "--allow-existing",
                            "--python",
                            str(python),
                            str(self._trees.path(key)),
                        ],
                        self._runner.home,
                    )
            stage.venv = key
        return self._trees.path(stage.venv) / "bin" / "python"

    async def _must(self, command: list[str], cwd: Path) -> None:
        code, _ = await self._runner.run(command, cwd, self._cache_env())
        if code != 0:
            raise BuildFailed(f"{' '.join(command)} failed with exit code {code}.")

    async def _python_dependencies(
        self, words: list[str], command: Command, instruction: Instruction, stage: Stage, given: bytes | None
    ) -> bool:
        await self.interpreter(stage)
        before = stage.venv or ""
        content = await asyncio.to_thread(hash_files, stage.root, ("node_modules",))
        key = tree_key("python", before, " ".join(words), content, given or b"", self._salt)
        self._hold(key)
        try:
            async with self._trees.making(key) as is_new:
                if not is_new:
                    self._say("Using cached dependencies")
                else:
                    path = self._trees.path(key)
                    await asyncio.to_thread(clone, self._trees.path(before), path)
                    await self._install_python(words, command, instruction, stage, path, given)
        except _InstallFailedError:
            return False
        stage.venv = key
        return True

    async def _install_python(
        self,
        words: list[str],
        command: Command,
        instruction: Instruction,
        stage: Stage,
        venv: Path,
        given: bytes | None,
    ) -> None:
        env = {**stage.base_env, **stage.env, **stage.args, **NO_BROWSERS, **self._cache_env(), **command.env}
        env |= {"VIRTUAL_ENV": str(venv), "UV_PROJECT_ENVIRONMENT": str(venv), "POETRY_VIRTUALENVS_CREATE": "false"}
        # Without byte code the SDK alone takes a second longer to import at every start.
        env["UV_COMPILE_BYTECODE"] = "1"
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        program = self._tools.uv if words[0] == "uv" else find_program(words[0], [venv / "bin"])
        if program is None:
            raise instruction.refuse(f"needs {words[0]!r}", "Install it with pip in an earlier step.")
        code, _ = await self._runner.run(
            [str(program), *words[1:]], stage.root / stage.workdir, env, [venv / "bin"], given=given
        )
        _check_installed(code)

    # Node.js

    async def _node_dependencies(
        self, words: list[str], command: Command, instruction: Instruction, stage: Stage
    ) -> bool:
        _, version, _ = await self._tools.node(stage.version)
        content = await asyncio.to_thread(hash_files, stage.root, ("node_modules",))
        key = tree_key("node", stage.node_modules or "", version, " ".join(words), content, self._salt)
        self._hold(key)
        target = stage.root / "node_modules"
        try:
            async with self._trees.making(key) as is_new:
                if not is_new:
                    self._say("Using cached dependencies")
                else:
                    await asyncio.to_thread(_make_own, target)
                    cwd = stage.root / stage.workdir
                    code, _ = await self._program(words, command, instruction, stage, cwd, None, keep_output=False)
                    _check_installed(code)
                    await asyncio.to_thread(_move, target, self._trees.path(key) / "node_modules")
        except _InstallFailedError:
            return False
        stage.node_modules = key
        await asyncio.to_thread(_link, target, self._trees.path(key) / "node_modules")
        return True

    def _hold(self, key: str) -> None:
        if key not in self.held:
            self._trees.hold(key)
            self.held.append(key)

    async def compile_sources(self, stage: Stage) -> None:
        """Compile the Actor's own modules; by hash, as every run gets a fresh copy of the files."""
        python = await self.interpreter(stage)
        command = [str(python), "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "."]
        await self._runner.run(command, stage.root, {})

    async def prepare(self, stage: Stage) -> None:
        """Check at FROM that the machine has what the base image stands for."""
        if stage.language is Language.NODE:
            _, _, warning = await self._tools.node(stage.version)
            if warning is not None:
                self._say(f"WARNING: {warning}")
        else:
            await self.interpreter(stage)


class _InstallFailedError(Exception):
    """Leaves a tree unfinished."""


def _check_installed(code: int) -> None:
    if code != 0:
        raise _InstallFailedError


def _remove(stage: Stage, words: list[str]) -> None:
    for word in words:
        if word.startswith("-"):
            continue
        for path in stage.root.glob(str(stage.relative(word))):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _make_own(target: Path) -> None:
    """Replace a link to a shared tree by a copy that the installer may change."""
    if target.is_symlink():
        shared = target.readlink()
        target.unlink()
        shutil.copytree(shared, target, symlinks=True)


def _move(source: Path, target: Path) -> None:
    if source.exists():
        source.rename(target)
    else:
        target.mkdir()


def _link(target: Path, shared: Path) -> None:
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)
    target.symlink_to(shared)
