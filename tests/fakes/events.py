"""Events to processes, kept instead of sent."""

from __future__ import annotations

from typing import Any

from actorium.services.events import Event, SystemInfo


class RecordedEvents:
    """Keeps what the engine sent, but for ``systemInfo``."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Any]] = []
        self.pending: dict[str, list[str]] = {}
        self.closed: list[str] = []

    def send(self, run_id: str, name: str, data: Any = None) -> None:
        self.sent.append((run_id, name, data))

    def set_pending(self, run_id: str, events: Any) -> None:
        self.pending[run_id] = [event.name for event in events if isinstance(event, Event)]

    def clear_pending(self, run_id: str) -> None:
        self.pending.pop(run_id, None)

    def send_system_info(self, run_id: str, info: SystemInfo) -> None:
        return

    def close_run(self, run_id: str) -> None:
        self.closed.append(run_id)

    def connection_count(self, run_id: str) -> int:
        return 0

    def names(self, run_id: str | None = None) -> list[str]:
        """The events in their order, those of one run where given."""
        return [name for target, name, _ in self.sent if run_id in (None, target)]
