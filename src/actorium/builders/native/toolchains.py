"""Python and Node.js of this machine: which there are, and which one a base image means."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import uv

from actorium.builders import BuildFailed
from actorium.builders.native.steps import find_program, server_path

MIN_PYTHON = (3, 9)


class Toolchains:
    """Looks once and remembers."""

    def __init__(self) -> None:
        self.uv = Path(uv.find_uv_bin())
        self._pythons: dict[tuple[int, int], Path] | None = None
        self._node_version: str | None = None

    async def python(self, wanted: str | None) -> tuple[Path, str, str | None]:
        """``(interpreter, its version, warning)`` for a wanted version such as ``3.13``; never downloads one."""
        if self._pythons is None:
            self._pythons = await asyncio.to_thread(self._find_pythons)
        pythons = self._pythons
        if not pythons:
            raise BuildFailed("No Python was found on this machine. Install Python, or build with the Docker builder.")
        if wanted is not None and "." in wanted:
            major, minor = (int(part) for part in wanted.split(".")[:2])
            if (major, minor) in pythons:
                return pythons[major, minor], wanted, None
        newest = max(pythons)
        found = ".".join(map(str, newest))
        warning = None
        if wanted is not None:
            warning = f"Python {wanted} is not installed on this machine; Python {found} is used instead."
        return pythons[newest], found, warning

    def _find_pythons(self) -> dict[tuple[int, int], Path]:
        listed = subprocess.run(
            [self.uv, "python", "list", "--only-installed", "--no-python-downloads", "--output-format", "json"],
            capture_output=True,
            check=False,
            env={"PATH": server_path(), "HOME": str(Path.home())},
        )
        found: dict[tuple[int, int], Path] = {}
        if listed.returncode == 0:
            for entry in json.loads(listed.stdout):
                parts = entry["version_parts"]
                version = (parts["major"], parts["minor"])
                usable = entry["implementation"] == "cpython" and entry.get("variant", "default") == "default"
                if usable and version >= MIN_PYTHON and entry.get("path"):
                    found.setdefault(version, Path(entry["path"]))
        return found

    async def node(self, wanted: str | None) -> tuple[Path, str, str | None]:
        """``(node, its version, warning)``. Raises ``BuildFailed`` when there is none."""
        node = find_program("node")
        if node is None or find_program("npm") is None:
            raise BuildFailed(
                "Node.js and npm were not found on this machine. Install Node.js 20 or newer, or build with the "
                "Docker builder."
            )
        if self._node_version is None:
            self._node_version = await asyncio.to_thread(_version_of, node)
        version = self._node_version
        warning = None
        if wanted is not None and wanted.split(".")[0] != version.split(".")[0]:
            warning = f"Node.js {wanted} is wanted; this machine has Node.js {version}, which is used instead."
        return node, version, warning


def _version_of(node: Path) -> str:
    asked = subprocess.run([node, "--version"], capture_output=True, check=True, text=True)
    return asked.stdout.strip().removeprefix("v")
