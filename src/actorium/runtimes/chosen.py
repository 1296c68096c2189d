"""Several runtimes as one: an image's kind decides where its attempts run, a handle remembers it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence

from actorium.runtimes import (
    Capabilities,
    Checkpoint,
    Exit,
    Handle,
    LogChunk,
    Observed,
    RunSpec,
    Runtime,
    StartError,
    Usage,
)

_log = logging.getLogger("actorium.runtimes")


class ChosenRuntime:
    """The ``Runtime`` made of ``by_image_kind``; each is found again by the name its handles carry."""

    def __init__(self, by_image_kind: Mapping[str, Runtime]) -> None:
        self._by_kind = dict(by_image_kind)
        self._by_name = {runtime.capabilities().name: runtime for runtime in by_image_kind.values()}

    def capabilities(self) -> Capabilities:
        """What is true of all of them."""
        each = [runtime.capabilities() for runtime in self._by_name.values()]
        return Capabilities(
            name=", ".join(one.name for one in each),
            survives_server=all(one.survives_server for one in each),
            enforces_memory=all(one.enforces_memory for one in each),
            detail="; ".join(f"{one.name}: {one.detail}" for one in each if one.detail),
        )

    def _of(self, handle: Handle) -> Runtime:
        return self._by_name[handle.runtime]

    async def start(self, spec: RunSpec, checkpoint: Checkpoint) -> Handle:
        """See ``Runtime.start``."""
        runtime = self._by_kind.get(spec.image.kind)
        if runtime is None:
            raise StartError(f"this server runs no images of kind {spec.image.kind!r}")
        return await runtime.start(spec, checkpoint)

    async def inspect(self, handles: Sequence[Handle]) -> list[Observed]:
        """What each of the attempts is doing, in the order asked."""
        seen: dict[str, Observed] = {}
        for name in {handle.runtime for handle in handles}:
            own = [handle for handle in handles if handle.runtime == name]
            found = await self._by_name[name].inspect(own)
            seen |= {handle.attempt_id: observed for handle, observed in zip(own, found, strict=True)}
        return [seen[handle.attempt_id] for handle in handles]

    async def wait(self, handle: Handle) -> Exit:
        """See ``Runtime.wait``."""
        return await self._of(handle).wait(handle)

    async def stop(self, handle: Handle, grace_secs: float) -> Exit:
        """See ``Runtime.stop``."""
        return await self._of(handle).stop(handle, grace_secs)

    async def remove(self, handle: Handle) -> None:
        """See ``Runtime.remove``."""
        await self._of(handle).remove(handle)

    def logs(self, handle: Handle, since: int) -> AsyncGenerator[LogChunk, None]:
        """See ``Runtime.logs``."""
        return self._of(handle).logs(handle, since)

    async def stats(self, handle: Handle) -> Usage | None:
        """See ``Runtime.stats``."""
        return await self._of(handle).stats(handle)

    async def list_managed(self) -> list[Handle]:
        """Every attempt of which something is left, in those of the runtimes that can be asked now."""
        found: list[Handle] = []
        for name, runtime in self._by_name.items():
            try:
                found += await runtime.list_managed()
            except ConnectionError as error:
                _log.warning("cannot look for orphans of runtime %s: %s", name, error)
        return found
