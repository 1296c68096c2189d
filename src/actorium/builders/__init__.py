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
    """What to build: the ``files`` of a version, a local ``archive`` (zip or tar.gz), or a ``folder`` to be taken over.

    ``actor_path`` is the Actor's folder within ``folder``, empty for the folder itself.
    """

    files: tuple[SourceFile, ...] = ()
    archive: Path | None = None
    folder: Path | None = None
    actor_path: str = ""


class Origin(msgspec.Struct, frozen=True):
    """Where the sources of a version are: ``source_type`` is not ``SOURCE_FILES``. ``user_id`` owns the build."""

    build_id: str
    user_id: str
    actor_id: str
    source_type: str
    url: str


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


class FetchSources(Protocol):
    """Brings sources to this machine."""

    async def fetch(self, origin: Origin, folder: Path, write_log: WriteLog) -> Sources:
        """Put the sources below ``folder``, which is new and belongs to the build.

        Raises ``BuildFailed``; when cancelled, ends every process it started before it returns.
        """
        ...


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
