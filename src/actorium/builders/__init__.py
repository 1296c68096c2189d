"""Making something a runtime can start out of an Actor's sources: the contract every builder keeps.

A builder writes the sources to disk, reads ``.actor/``, and makes an image. It knows no build
status, no database and no API.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from actorium.domain.models import SourceFile


class Sources(msgspec.Struct, frozen=True):
    """Where the sources come from: the ``files`` of a version, or a local ``archive`` (zip or tar.gz)."""

    files: tuple[SourceFile, ...] = ()
    archive: Path | None = None


class BuildSpec(msgspec.Struct, frozen=True):
    """One build. ``build_args`` are visible to the build steps (``applyEnvVarsToBuild``).

    ``builder`` is the kind of builder that the Actor's version asks for, empty for the server's own choice.
    """

    build_id: str
    build_number: str
    actor_name: str
    sources: Sources
    build_args: dict[str, str]
    use_cache: bool
    builder: str = ""


class BuildOutput(msgspec.Struct, frozen=True):
    """A finished build: the image's JSON state and what was read from ``.actor/``.

    ``actor_definition`` is actor.json with referenced files put in place; ``input_schema`` is the
    schema's JSON text; ``None`` where the sources have none.
    """

    kind: str
    state: dict[str, Any]
    size_bytes: int
    actor_definition: dict[str, Any] | None = None
    input_schema: str | None = None
    readme: str | None = None
    changelog: str | None = None


class BuildFailed(Exception):
    """The sources cannot be built; the message names file, line and remedy and is shown to the user."""


WriteLog = Callable[[bytes], None]
"""Takes output of build steps as it comes; lines may be cut anywhere."""


class Builder(Protocol):
    """Builds images and deletes them."""

    async def build(self, spec: BuildSpec, write_log: WriteLog) -> BuildOutput:
        """Build an image. Raises ``BuildFailed``; when cancelled, ends every process it started before it returns."""
        ...

    async def remove(self, state: dict[str, Any]) -> None:
        """Delete an image made here; an unknown one is no error."""
        ...


class Builders(Protocol):
    """Builders by the kind of image they make."""

    async def build(self, spec: BuildSpec, write_log: WriteLog) -> BuildOutput:
        """Let the right one build; see ``Builder.build``."""
        ...

    async def remove(self, kind: str, state: dict[str, Any]) -> None:
        """Delete an image. Raises ``ConnectionError`` when its engine cannot be asked now."""
        ...
