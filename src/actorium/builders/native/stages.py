"""One build stage: its folder, base image, variables, dependency trees; paths of the image mapped to it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from enum import Enum
from pathlib import Path, PurePosixPath

from actorium.builders.dockerfile import Instruction

_IMAGE_ROOTS = ("/usr/src/app", "/home/myuser/app", "/home/myuser", "/app")
_TAG = re.compile(r"(\d+(?:\.\d+)?)")

NODE_ENV = {
    "LANG": "C.UTF-8",
    "NODE_ENV": "production",
    "NODE_OPTIONS": "--max_old_space_size=30000 --max-http-header-size=80000",
}
BUN_ENV = {"LANG": "C.UTF-8", "NODE_ENV": "production"}
PYTHON_ENV = {"LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
NO_BROWSERS = {
    "CRAWLEE_SKIP_BROWSER_INSTALL": "1",
    "PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD": "1",
    "PUPPETEER_SKIP_DOWNLOAD": "true",
}
"""Set while building: no post-install script downloads a browser."""


class Language(Enum):
    """What a base image is for."""

    NODE = "node"
    PYTHON = "python"
    BUN = "bun"


_BASE_ENV = {Language.NODE: NODE_ENV, Language.PYTHON: PYTHON_ENV, Language.BUN: BUN_ENV}


class Stage:
    """A stage under construction. ``root`` stands for the image's WORKDIR.

    ``browser`` is what the base image's name says after its language (``playwright-chrome``), ``tool_dir`` the folder
    of the machine's Node.js or Bun, ``venv`` and ``node_modules`` are keys of trees.
    """

    def __init__(self, name: str, root: Path, language: Language, version: str | None) -> None:
        self.name = name
        self.root = root
        self.language = language
        self.version = version
        self.env: dict[str, str] = {}
        self.args: dict[str, str] = {}
        self.workdir = PurePosixPath(".")
        self.command: list[str] | None = None
        self.entrypoint: list[str] | None = None
        self.browser = ""
        self.tool_dir: Path | None = None
        self.node_modules: str | None = None
        self.venv: str | None = None
        self.roots = list(_IMAGE_ROOTS)

    def copy_of(self, name: str, root: Path) -> Stage:
        """A new stage that starts as this one ended."""
        copied = Stage(name, root, self.language, self.version)
        copied.env, copied.workdir, copied.command = dict(self.env), self.workdir, self.command
        copied.entrypoint, copied.roots = self.entrypoint, list(self.roots)
        copied.node_modules, copied.venv = self.node_modules, self.venv
        copied.browser, copied.tool_dir = self.browser, self.tool_dir
        return copied

    @property
    def variables(self) -> dict[str, str]:
        """What ``$NAME`` means in an instruction."""
        return {**self.args, **self.env}

    @property
    def base_env(self) -> dict[str, str]:
        """What the base image sets."""
        return _BASE_ENV[self.language]

    def change_workdir(self, value: str) -> None:
        """``WORKDIR``: an absolute folder that is not known yet stands for the root too."""
        path = PurePosixPath(value)
        if path.is_absolute() and self._mapped(value) is None:
            self.roots.append(str(path))
        self.workdir = self.relative(value)

    def relative(self, value: str) -> PurePosixPath:
        """A path of the image as one below ``root``."""
        mapped = self._mapped(value)
        joined = mapped if mapped is not None else self.workdir / value.lstrip("/")
        parts: list[str] = []
        for part in joined.parts:
            if part == "..":
                parts = parts[:-1]
            elif part != ".":
                parts.append(part)
        return PurePosixPath(*parts) if parts else PurePosixPath(".")

    def _mapped(self, value: str) -> PurePosixPath | None:
        for root in sorted(self.roots, key=len, reverse=True):
            if value == root or value.startswith(root + "/"):
                return PurePosixPath(value[len(root) :].lstrip("/") or ".")
        return None

    def path(self, value: str) -> Path:
        """A path of the image on this machine."""
        return self.root / self.relative(value)


def base_image(instruction: Instruction, image: str) -> tuple[Language, str | None, str]:
    """``(language, wanted version, browser)`` of a known base image; refuses every other."""
    name = image.split("@")[0]
    repository, _, tag = name.partition(":")
    repository = repository.removeprefix("docker.io/").removeprefix("library/")
    match = _TAG.match(tag)
    version = match[1] if match else None
    for prefix, language in (
        ("apify/actor-node", Language.NODE),
        ("apify/actor-python", Language.PYTHON),
        ("node", Language.NODE),
        ("python", Language.PYTHON),
        ("oven/bun", Language.BUN),
    ):
        if repository == prefix or (prefix.startswith("apify/") and repository.startswith(prefix + "-")):
            browser = repository.removeprefix(prefix).lstrip("-")
            if browser.endswith("camoufox"):
                raise instruction.refuse(
                    "needs the browser Camoufox, which the native builder does not download",
                    "Build with the Docker builder.",
                )
            return language, version, browser
    raise instruction.refuse(
        f"uses the base image {image}, which the native builder does not know",
        "Use an image of apify/actor-node, apify/actor-python, node, python or oven/bun, or build with the Docker "
        "builder.",
    )


def copy_into(
    instruction: Instruction, source_root: Path, files: Iterable[str], patterns: list[str], stage: Stage, target: str
) -> int:
    """``COPY``: returns how many files were copied; refuses patterns of which none matches anything."""
    files = list(files)
    to_folder = target.endswith("/") or target in (".", "./") or len(patterns) > 1
    destination = stage.path(target)
    linked = {name for name in ("node_modules", ".venv") if (stage.root / name).is_symlink()}
    copied = 0
    for pattern in patterns:
        matched, is_folder = _matches(pattern, files)
        for file, inner in matched:
            whole = destination / inner if (to_folder or is_folder or destination.is_dir()) else destination
            if whole.relative_to(stage.root).parts[:1] and whole.relative_to(stage.root).parts[0] in linked:
                continue
            whole.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source_root / file, whole)
            copied += 1
    if not copied and not any(_matches(pattern, files)[0] for pattern in patterns):
        raise instruction.refuse(
            f"found no file for {' '.join(patterns)}", "Check the path, and that .dockerignore does not leave it out."
        )
    return copied


def _matches(pattern: str, files: list[str]) -> tuple[list[tuple[str, str]], bool]:
    """``(file, path below the destination)`` for each match, and whether the pattern names a folder."""
    text = pattern.removeprefix("./").strip("/")
    if text in ("", "."):
        return [(file, file) for file in files], True
    folder = [(file, file[len(text) + 1 :]) for file in files if file.startswith(text + "/")]
    if folder:
        return folder, True
    expression = re.compile("".join(_glob_part(char) for char in text) + r"(?P<inner>/.*)?")
    found = []
    for file in files:
        match = expression.fullmatch(file)
        if match:
            inner = match["inner"]
            found.append((file, inner.lstrip("/") if inner else PurePosixPath(file).name))
    return found, False


def _glob_part(char: str) -> str:
    return {"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char))
