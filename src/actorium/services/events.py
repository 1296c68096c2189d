"""The port through which the engine speaks to the processes of its runs; ``edge/events.py`` serves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec


class SystemInfo(msgspec.Struct, frozen=True):
    """A measurement of a run. CPU in percent of one core; ``mem_max_bytes`` is the run's memory *limit*.

    The SDKs take ``mem_max_bytes`` for the memory there is (docs: runs, section 6); the peak belongs to the stats.
    """

    created_at: int
    mem_max_bytes: int
    mem_avg_bytes: float = 0.0
    mem_current_bytes: int = 0
    cpu_avg_usage: float = 0.0
    cpu_max_usage: float = 0.0
    cpu_current_usage: float = 0.0
    is_cpu_overloaded: bool = False


class Event(msgspec.Struct, frozen=True):
    """An event a process receives: ``aborting``, ``persistState``, ``migrating``. ``data`` of ``None`` is left out."""

    name: str
    data: Mapping[str, Any] | None = None


class EventSink(Protocol):
    """Sends events to every connection a run's processes hold. Nothing here waits or fails."""

    def send(self, run_id: str, name: str, data: Mapping[str, Any] | None = None) -> None:
        """Send one event now; it reaches nobody when there is no connection."""
        ...

    def set_pending(self, run_id: str, events: Sequence[Event]) -> None:
        """From now on send ``events`` to every *new* connection of the run as well (an open window).

        Called together with ``send``, without a wait between them, every process hears of it once.
        """
        ...

    def clear_pending(self, run_id: str) -> None:
        """The window is over."""
        ...

    def send_system_info(self, run_id: str, info: SystemInfo) -> None:
        """Send a measurement, and keep it for connections to come."""
        ...

    def close_run(self, run_id: str) -> None:
        """The run is over: send what is queued, close its connections with 1000, forget the run.

        The last call for a run: a later ``send_system_info`` or ``set_pending`` would be kept for ever.
        """
        ...

    def connection_count(self, run_id: str) -> int:
        """How many connections the run's processes hold."""
        ...
