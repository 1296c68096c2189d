"""Installs of dependencies: each into a tree shared by images, made once for what decides its content."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from actorium.builders import BuildFailed
from actorium.builders.dockerfile import Instruction
from actorium.builders.native.commands import Command
from actorium.builders.native.dependency_inputs import has_workspaces, node_files, python_files
from actorium.builders.native.package_managers import (
    Release,
    environment,
    usual_release,
    wanted_release,
)
from actorium.builders.native.stages import NO_BROWSERS, Language, Stage
from actorium.builders.native.steps import StepRunner, find_program
from actorium.builders.native.toolchains import Tool, Toolchains
from actorium.builders.native.trees import Trees, clone, hash_files, hash_named, tree_key

Say = Callable[[str], None]
_FETCHED_MANAGERS = frozenset({"pnpm", "yarn"})


class Installs:
    """Dependency installs of one build. ``held`` collects the keys of the trees it uses."""

    def __init__(
        self, runner: StepRunner, trees: Trees, tools: Toolchains, say: Say, caches: Path, *, use_cache: bool
    ) -> None:
        self._runner = runner
        self._trees = trees
        self._tools = tools
        self._say = say
        self._caches = caches
        self._salt = "" if use_cache else str(runner.home)
        self._managers: dict[Release, Path] = {}
        self.held: list[str] = []

    async def prepare(self, stage: Stage) -> None:
        """Check at FROM that the machine has what the base image stands for."""
        if stage.language is Language.PYTHON:
            await self.interpreter(stage)
            return
        tool = await self._runtime(stage)
        stage.tool_dir = tool.path.parent
        if tool.warning is not None:
            self._say(f"WARNING: {tool.warning}")

    async def _runtime(self, stage: Stage) -> Tool:
        return await (self._tools.bun() if stage.language is Language.BUN else self._tools.node(stage.version))

    def variables(self, stage: Stage, command: Command) -> dict[str, str]:
        """The environment of a command."""
        env = {**stage.base_env, **stage.env, **stage.args, **NO_BROWSERS, **self._cache_env()}
        env |= {**environment(command.words[0], self._caches), **command.env}
        if stage.venv is not None:
            env["VIRTUAL_ENV"] = str(self._trees.path(stage.venv))
        return env

    def _cache_env(self) -> dict[str, str]:
        return {
            "UV_CACHE_DIR": str(self._caches / "uv"),
            "npm_config_cache": str(self._caches / "npm"),
            "npm_config_yes": "true",
            "npm_config_update_notifier": "false",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
        }

    def bin_dirs(self, stage: Stage) -> list[Path]:
        """Folders in which programs of the stage are looked for first."""
        found = []
        if stage.venv is not None:
            found.append(self._trees.path(stage.venv) / "bin")
        if (stage.root / "node_modules").exists():
            found.append(stage.root / "node_modules" / ".bin")
        return found if stage.tool_dir is None else [*found, stage.tool_dir]

    async def program(self, name: str, stage: Stage) -> Path | None:
        """The program a word of a command means in the stage."""
        if name in ("python", "python3"):
            return await self.interpreter(stage)
        if name == "uv":
            return self._tools.uv
        found = find_program(name, self.bin_dirs(stage))
        if name in _FETCHED_MANAGERS:
            wanted = wanted_release(name, stage.root / stage.workdir)
            if wanted is not None or found is None:
                found = await self._package_manager(name, wanted or usual_release(name), stage)
        return found

    async def _package_manager(self, name: str, release: Release, stage: Stage) -> Path | None:
        tool = await self._tools.node(stage.version)
        key = tree_key("manager", release.package, release.version, tool.version)
        path = self._trees.path(key)
        async with self._trees.making(key) as is_new:
            if is_new:
                self._say(f"Fetching {release.package}@{release.version}")
                npm = tool.path.parent / "npm"
                command = [str(npm), "install", "--no-save", "--no-audit", "--no-fund", "--prefix", str(path)]
                await self._must([*command, f"{release.package}@{release.version}"], path, [tool.path.parent])
        return find_program(name, [path / "node_modules" / ".bin"])

    async def _must(self, command: list[str], cwd: Path, bin_dirs: list[Path]) -> None:
        code, _ = await self._runner.run(command, cwd, self._cache_env(), bin_dirs)
        if code != 0:
            raise BuildFailed(f"{' '.join(command)} failed with exit code {code}.")

    def _hold(self, key: str) -> None:
        if key not in self.held:
            self._trees.hold(key)
            self.held.append(key)

    async def interpreter(self, stage: Stage) -> Path:
        """The Python of the stage's virtual environment."""
        if stage.venv is None:
            python = await self._tools.python(stage.version)
            if python.warning is not None:
                self._say(f"WARNING: {python.warning}")
            key = tree_key("venv", python.version, str(python.path), self._salt)
            self._hold(key)
            command = [str(self._tools.uv), "venv", "--relocatable", "--allow-existing", "--python", str(python.path)]
            async with self._trees.making(key) as is_new:
                if is_new:
                    await self._must([*command, str(self._trees.path(key))], self._runner.home, [])
            stage.venv = key
        return self._trees.path(stage.venv) / "bin" / "python"

    async def python(self, command: Command, instruction: Instruction, stage: Stage, given: bytes | None) -> bool:
        """Install Python packages; false when the installer failed."""
        await self.interpreter(stage)
        before, words = stage.venv or "", command.words
        content = await asyncio.to_thread(_python_content, words, stage)
        key = tree_key("python", before, " ".join(words), content, given or b"", self._salt)
        self._hold(key)
        try:
            async with self._trees.making(key) as is_new:
                if not is_new:
                    self._say("Using cached dependencies")
                else:
                    await asyncio.to_thread(clone, self._trees.path(before), self._trees.path(key))
                    await self._install_python(command, instruction, stage, self._trees.path(key), given)
        except _InstallFailedError:
            return False
        stage.venv = key
        return True

    async def _install_python(
        self, command: Command, instruction: Instruction, stage: Stage, venv: Path, given: bytes | None
    ) -> None:
        env = self.variables(stage, command)
        env |= {"VIRTUAL_ENV": str(venv), "UV_PROJECT_ENVIRONMENT": str(venv), "POETRY_VIRTUALENVS_CREATE": "false"}
        # Without byte code the SDK alone takes a second longer to import at every start.
        env |= {"UV_COMPILE_BYTECODE": "1", "POETRY_INSTALLER_PARALLEL": "true"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        name, *rest = command.words
        program = self._tools.uv if name == "uv" else find_program(name, [venv / "bin"])
        if program is None:
            raise instruction.refuse(f"needs {name!r}", "Install it with pip in an earlier step.")
        cwd = stage.root / stage.workdir
        code, _ = await self._runner.run([str(program), *rest], cwd, env, [venv / "bin"], given=given)
        _check_installed(code)

    async def node(self, command: Command, instruction: Instruction, stage: Stage) -> bool:
        """Install Node.js packages; false when the installer failed."""
        cwd = stage.root / stage.workdir
        if has_workspaces(cwd):
            raise instruction.refuse(
                "installs a project with workspaces, which the native builder does not do",
                "Build with the Docker builder.",
            )
        tool = await self._runtime(stage)
        words = command.words
        content = await asyncio.to_thread(_node_content, words, stage)
        key = tree_key("node", stage.node_modules or "", tool.version, " ".join(words), content, self._salt)
        self._hold(key)
        target = stage.root / "node_modules"
        try:
            async with self._trees.making(key) as is_new:
                if not is_new:
                    self._say("Using cached dependencies")
                else:
                    await asyncio.to_thread(_make_own, target)
                    await self._install_node(command, instruction, stage)
                    await asyncio.to_thread(_move, target, self._trees.path(key) / "node_modules")
        except _InstallFailedError:
            return False
        stage.node_modules = key
        await asyncio.to_thread(_link, target, self._trees.path(key) / "node_modules")
        return True

    async def _install_node(self, command: Command, instruction: Instruction, stage: Stage) -> None:
        name, *rest = command.words
        program = await self.program(name, stage)
        if program is None:
            raise instruction.refuse(f"needs {name!r}, which this machine does not have", "Install it.")
        cwd = stage.root / stage.workdir
        if name == "yarn":
            # Without one, Yarn 2 and later take the stage for a part of any project above it.
            await asyncio.to_thread((cwd / "yarn.lock").touch)
        code, _ = await self._runner.run(
            [str(program), *rest], cwd, self.variables(stage, command), self.bin_dirs(stage)
        )
        _check_installed(code)

    async def compile_sources(self, stage: Stage) -> None:
        """Compile the Actor's own modules; by hash, as every run gets a fresh copy of the files."""
        python = await self.interpreter(stage)
        command = [str(python), "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "."]
        await self._runner.run(command, stage.root, {})


class _InstallFailedError(Exception):
    """Leaves a tree unfinished."""


def _check_installed(code: int) -> None:
    if code != 0:
        raise _InstallFailedError


def _python_content(words: tuple[str, ...], stage: Stage) -> bytes:
    files = None
    if words[:3] == ("uv", "pip", "install"):
        files = python_files(words[3:], stage.root / stage.workdir)
    if files is not None:
        return hash_named(stage.root, files)
    return hash_files(stage.root, ("node_modules",))


def _node_content(words: tuple[str, ...], stage: Stage) -> bytes:
    # Packages named in the command itself may be folders too.
    named = [word for word in words[2:] if not word.startswith("-")]
    files = node_files(stage.root / stage.workdir) if not named else None
    if files is not None:
        return hash_named(stage.root, files)
    return hash_files(stage.root, ("node_modules",))


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
