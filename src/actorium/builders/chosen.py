"""Several builders as one: the server's setting or the Actor's version says which of them builds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actorium.builders import Builder, BuildFailed, BuildOutput, BuildSpec, WriteLog

VARIABLE = "ACTORIUM_BUILDER"
_ISOLATED = "docker"


class ChosenBuilder:
    """The ``Builders`` made of ``by_kind``; ``default`` builds where a version does not say."""

    def __init__(self, by_kind: Mapping[str, Builder], default: str) -> None:
        self._by_kind = by_kind
        self._default = default

    async def build(self, spec: BuildSpec, write_log: WriteLog) -> BuildOutput:
        """See ``Builder.build``. Where the server isolates Actors, a version cannot ask for less."""
        kind = spec.builder or self._default
        if kind not in self._by_kind:
            allowed = " or ".join(sorted(self._by_kind))
            raise BuildFailed(f"The environment variable {VARIABLE} is {kind!r}: it must be {allowed}.")
        if self._default == _ISOLATED and kind != _ISOLATED:
            raise BuildFailed(
                f"The environment variable {VARIABLE} is {kind!r}: this server runs Actors in containers only."
            )
        return await self._by_kind[kind].build(spec, write_log)

    async def remove(self, kind: str, state: dict[str, Any]) -> None:
        """See ``Builders.remove``."""
        await self._by_kind[kind].remove(state)
