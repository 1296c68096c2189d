"""Python, Node.js, Bun and package managers of this machine: which there are, and which one a base image means."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import uv

from actorium.builders import BuildFailed
from actorium.builders.native.steps import find_program, server_path

MIN_PYTHON = (3, 9)
Version = tuple[int, ...]

# Where version managers put what they install; a shim in PATH only ever stands for one of them.
_PYTHON_FOLDERS = (
    ".pyenv/versions/*/bin",
    ".asdf/installs/python/*/bin",
    ".local/share/mise/installs/python/*/bin",
    "/opt/python*/bin",
)
_NODE_FOLDERS = (
    ".nvm/versions/node/*/bin",
    ".local/share/fnm/node-versions/*/installation/bin",
    ".volta/tools/image/node/*/bin",
    ".asdf/installs/nodejs/*/bin",
    ".local/share/mise/installs/node/*/bin",
    ".nodenv/versions/*/bin",
    "/usr/local/n/versions/node/*/bin",
    "/opt/node*/bin",
)
_SHIMS = "/shims"


class Tool(msgspec.Struct, frozen=True):
    """A program with its version; ``warning`` says that it is not the one wanted."""

    path: Path
    version: str
    warning: str | None = None


class Toolchains:
    """Looks once and remembers."""

    def __init__(self) -> None:
        self.uv = Path(uv.find_uv_bin())
        self._pythons: dict[Version, Path] | None = None
        self._nodes: dict[Version, Path] | None = None
        self._bun: Tool | None = None

    async def python(self, wanted: str | None) -> Tool:
        """The interpreter for a wanted version such as ``3.13``, else the newest; never downloads one."""
        pythons = await self._found_pythons()
        if not pythons:
            raise BuildFailed("No Python was found on this machine. Install Python, or build with the Docker builder.")
        chosen = max(pythons)
        if wanted is not None and "." in wanted:
            major_minor = tuple(int(part) for part in wanted.split(".")[:2])
            if major_minor in pythons:
                return Tool(pythons[major_minor], version_text(major_minor))
        return Tool(pythons[chosen], version_text(chosen), _instead("Python", wanted, pythons, chosen))

    async def node(self, wanted: str | None) -> Tool:
        """The Node.js of a wanted major version, the newest of it; else PATH's own. Raises ``BuildFailed``."""
        nodes = await self._found_nodes()
        if not nodes:
            raise BuildFailed(
                "Node.js and npm were not found on this machine. Install Node.js 20 or newer, or build with the "
                "Docker builder."
            )
        if wanted is None:
            first = next(iter(nodes))
            return Tool(nodes[first], version_text(first))
        major = int(wanted.split(".")[0])
        of_major = [version for version in nodes if version[0] == major]
        if of_major:
            return Tool(nodes[max(of_major)], version_text(max(of_major)))
        chosen = max(nodes)
        return Tool(nodes[chosen], version_text(chosen), _instead("Node.js", wanted, nodes, chosen))

    async def bun(self) -> Tool:
        """The Bun of PATH. Raises ``BuildFailed``."""
        if self._bun is None:
            path = find_program("bun")
            version = await asyncio.to_thread(_version_of, path) if path is not None else None
            if path is None or version is None:
                raise BuildFailed(
                    "Bun was not found on this machine. Install it (npm install --global bun), or build with the "
                    "Docker builder."
                )
            self._bun = Tool(path, version_text(version))
        return self._bun

    async def signature(self) -> str:
        """What a kept image depends on beside its sources: the interpreters there are."""
        return json.dumps(
            [
                [str(path) for path in (await self._found_pythons()).values()],
                [str(path) for path in (await self._found_nodes()).values()],
            ]
        )

    async def _found_pythons(self) -> dict[Version, Path]:
        if self._pythons is None:
            self._pythons = await asyncio.to_thread(find_pythons, self.uv, Path.home())
        return self._pythons

    async def _found_nodes(self) -> dict[Version, Path]:
        if self._nodes is None:
            self._nodes = await asyncio.to_thread(find_nodes, Path.home())
        return self._nodes


def version_text(version: Version) -> str:
    """``3.13`` of ``(3, 13)``."""
    return ".".join(map(str, version))


def _instead(name: str, wanted: str | None, found: Iterable[Version], chosen: Version) -> str | None:
    if wanted is None:
        return None
    installed = ", ".join(version_text(version) for version in sorted(found))
    return (
        f"{name} {wanted} is not installed on this machine (installed: {installed}); {name} {version_text(chosen)} is "
        "used instead. Install the wanted one beside it, or build with the Docker builder."
    )


def _folders(patterns: Sequence[str], home: Path) -> list[Path]:
    found: list[Path] = []
    for pattern in patterns:
        root, relative = (Path("/"), pattern[1:]) if pattern.startswith("/") else (home, pattern)
        found += sorted(root.glob(relative))
    return found


def _path_without_shims() -> list[str]:
    return [folder for folder in server_path().split(":") if not folder.rstrip("/").endswith(_SHIMS)]


def find_pythons(uv_program: Path, home: Path) -> dict[Version, Path]:
    """Every CPython by ``(major, minor)``, those of PATH before those of version managers below ``home``. Blocks."""
    path = [*_path_without_shims(), *map(str, _folders(_PYTHON_FOLDERS, home))]
    listed = subprocess.run(
        [uv_program, "python", "list", "--only-installed", "--no-python-downloads", "--output-format", "json"],
        capture_output=True,
        check=False,
        env={"PATH": ":".join(path), "HOME": str(home)},
    )
    found: dict[Version, Path] = {}
    for entry in json.loads(listed.stdout) if listed.returncode == 0 else []:
        parts = entry["version_parts"]
        version = (parts["major"], parts["minor"])
        is_plain = entry["implementation"] == "cpython" and entry.get("variant", "default") == "default"
        is_release = re.fullmatch(r"[\d.]+", entry["version"]) is not None
        if is_plain and is_release and version >= MIN_PYTHON and entry.get("path"):
            found.setdefault(version, Path(entry["path"]))
    return found


def find_nodes(home: Path) -> dict[Version, Path]:
    """Every Node.js that has an npm beside it, by version, the one of PATH first. Blocks."""
    folders = [Path(folder) for folder in _path_without_shims()] + _folders(_NODE_FOLDERS, home)
    found: dict[Version, Path] = {}
    for folder in dict.fromkeys(folders):
        node = folder / "node"
        if os.access(node, os.X_OK) and (folder / "npm").exists():
            version = _version_of(node)
            if version is not None:
                found.setdefault(version, node)
    return found


def _version_of(program: Path) -> Version | None:
    environment: Mapping[str, str] = {"PATH": server_path()}
    try:
        asked = subprocess.run(
            [program, "--version"], capture_output=True, check=True, text=True, timeout=20, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)", asked.stdout.strip())
    return tuple(map(int, match.groups())) if match else None
