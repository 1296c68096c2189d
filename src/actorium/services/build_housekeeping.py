"""Deletes builds that nothing has used for long; in the background."""

from __future__ import annotations

from actorium.domain.times import DAY_MS
from actorium.kit import Clock, Tasks, forever
from actorium.services.builds import Builds

_PAUSE_SECS = 3600.0
_RETRY_SECS = 20.0


class BuildHousekeeping:
    """The background service; ``sweep`` does everything that is due. ``untagged_days`` 0 keeps every build."""

    def __init__(self, builds: Builds, clock: Clock, *, untagged_days: int) -> None:
        self._builds = builds
        self._clock = clock
        self._untagged_ms = untagged_days * DAY_MS
        self._tasks = Tasks("build-housekeeping")

    async def start(self) -> None:
        """Begin sweeping."""
        if self._untagged_ms and not len(self._tasks):
            self._tasks.spawn("sweep", forever("sweeping builds", _RETRY_SECS, self._step))

    async def stop(self) -> None:
        """End; what is left is done after the next start."""
        await self._tasks.stop()

    async def _step(self) -> None:
        await self.sweep()
        await self._clock.sleep(_PAUSE_SECS)

    async def sweep(self) -> None:
        """Delete what nothing has used for long."""
        if self._untagged_ms:
            await self._builds.delete_unused(self._clock.now_ms() - self._untagged_ms)
