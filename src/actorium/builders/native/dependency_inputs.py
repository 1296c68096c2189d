"""Which files decide what an install of dependencies makes, where that can be told: the others may change freely."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

_REQUIREMENT_FLAGS = frozenset({"-r", "--requirement", "-c", "--constraint"})
_HARMLESS_FLAGS = frozenset({"-U", "--upgrade", "--no-deps", "--pre"})
_NODE_FILES = (
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "yarn.lock",
    "bun.lock",
    "bun.lockb",
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".pnpmfile.cjs",
    "bunfig.toml",
)
_LIFECYCLE = frozenset({"preinstall", "install", "postinstall", "prepare", "preprepare", "postprepare", "prepublish"})
_LOCAL = ("file:", "link:", "portal:", "workspace:", "patch:", ".", "/", "~")
_DEPENDENCIES = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")
# A requirement by name, or from a URL; everything else may be a folder of the Actor.
_BY_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,. -]*\])?\s*([=<>!~;@(].*)?")


def python_files(words: Sequence[str], folder: Path) -> list[Path] | None:
    """The requirement files of a ``pip install`` in ``folder``; ``None`` = it may read anything there.

    ``words`` are those after ``install``.
    """
    found: list[Path] = []
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag in _REQUIREMENT_FLAGS:
            file = folder / (value if equals else next(rest, ""))
            if not _collect(file, found):
                return None
        elif word.startswith("-"):
            if not equals and word not in _HARMLESS_FLAGS:
                return None
        elif not _is_by_name(word):
            return None
    return found


def _collect(file: Path, found: list[Path]) -> bool:
    """Add a requirement file and those it names; false where one of them names something local."""
    if file in found:
        return True
    if not file.is_file():
        return False
    found.append(file)
    return all(_is_harmless(line, file.parent, found) for line in _lines(file))


def _lines(file: Path) -> Iterator[str]:
    text = file.read_text("utf-8", "replace").replace("\\\n", " ")
    for line in text.splitlines():
        stripped = re.sub(r"(^|\s)#.*", "", line).strip()
        if stripped:
            yield stripped


def _is_harmless(line: str, folder: Path, found: list[Path]) -> bool:
    if not line.startswith("-"):
        return _is_by_name(line)
    try:
        words = shlex.split(line.replace("=", " ", 1))
    except ValueError:
        return False
    if words[0] in _REQUIREMENT_FLAGS and len(words) == 2:
        return _collect(folder / words[1], found)
    return words[0] in ("--index-url", "--extra-index-url", "-i", "--pre", "--hash", "--only-binary", "--no-binary")


def _is_by_name(requirement: str) -> bool:
    return (
        _BY_NAME.fullmatch(requirement) is not None
        and "file:" not in requirement
        and "/" not in (requirement.partition("@")[0].partition(";")[0])
    )


def node_files(folder: Path) -> list[Path] | None:
    """The files that decide a Node.js install in ``folder``; ``None`` = it may read anything there."""
    try:
        package = json.loads((folder / "package.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(package, dict) or "workspaces" in package or _LIFECYCLE & set(package.get("scripts") or {}):
        return None
    for kind in _DEPENDENCIES:
        named = package.get(kind) or {}
        if not isinstance(named, dict) or any(str(version).startswith(_LOCAL) for version in named.values()):
            return None
    # Overrides and patches may name files too; they are rare enough to read everything.
    if {"overrides", "resolutions", "pnpm"} & package.keys():
        return None
    return [folder / name for name in _NODE_FILES if (folder / name).is_file()]


def has_workspaces(folder: Path) -> bool:
    """Whether a Node.js project has packages of its own below it."""
    try:
        package = json.loads((folder / "package.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    listed = folder / "pnpm-workspace.yaml"
    in_pnpm = listed.is_file() and re.search(r"^packages:", listed.read_text("utf-8", "replace"), re.MULTILINE)
    return bool(isinstance(package, dict) and package.get("workspaces")) or bool(in_pnpm)
