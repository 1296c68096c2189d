"""What this machine has for native Actors, in the words of people."""

from __future__ import annotations

from pathlib import Path

import msgspec
import uv

from actorium.builders.native.browsers import Browsers
from actorium.builders.native.toolchains import find_nodes, find_pythons, version_text


class Machine(msgspec.Struct, frozen=True):
    """Versions of the interpreters, oldest first, and the path of the browser, ``None`` without one."""

    pythons: tuple[str, ...]
    nodes: tuple[str, ...]
    chromium: str | None

    @staticmethod
    def examined() -> Machine:
        """Look. Blocks."""
        chromium = Browsers.of_machine().chromium
        return Machine(
            pythons=tuple(map(version_text, sorted(find_pythons(Path(uv.find_uv_bin()), Path.home())))),
            nodes=tuple(map(version_text, sorted(find_nodes(Path.home())))),
            chromium=None if chromium is None else str(chromium),
        )
