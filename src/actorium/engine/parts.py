"""What the engine's loops are made with: ports to logs and events, and the values they need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from actorium.domain.models import Run
from actorium.domain.queueing import Capacity
from actorium.domain.web_addresses import WebAddresses
from actorium.engine.ports import Ports
from actorium.engine.readiness import FindWebServer
from actorium.kit import Clock, Signals
from actorium.runtimes import OwnNetwork, Runtime, Usage
from actorium.services.events import EventSink
from actorium.storage.db import Database, Tx


class LogSink(Protocol):
    """The part of the log store the engine needs."""

    def open(self, job_id: str, secrets: Sequence[str] = ()) -> None:
        """More will come; ``secrets`` are masked in it."""
        ...

    async def recover(self, job_id: str) -> str | None:
        """Undo what was not durable and return the position to go on from."""
        ...

    async def append(self, job_id: str, at_ms: int, data: bytes, *, position: str | None = None) -> None:
        """Output of a job's process, cut anywhere; ``position`` is where to go on after a crash."""
        ...

    async def flush(self, job_id: str) -> None:
        """End a line that has no end yet, and make everything durable."""
        ...

    async def platform_line(self, job_id: str, at_ms: int, text: str) -> None:
        """A line of the platform's own."""
        ...

    async def finish(self, job_id: str) -> None:
        """No more will come."""
        ...

    async def delete(self, job_id: str) -> None:
        """Forget the log."""
        ...


class UsageBook(Protocol):
    """The part of the usage service the engine needs."""

    async def settle(self, run_id: str, description: str, op: Callable[[Tx], Awaitable[Run | None]]) -> Run | None:
        """Write ``op``, a run's end, in one transaction with what the run used and is not yet written down."""
        ...


class EngineSettings(msgspec.Struct, frozen=True):
    """``stop_grace_secs`` passes between SIGTERM and SIGKILL; ``queue_overtaking_secs``: see ``startable``."""

    stop_grace_secs: float
    capacity: Capacity
    api_base_url: str
    public_base_url: str
    queue_overtaking_secs: float = 60


class Parts(msgspec.Struct, frozen=True):
    """Everything a live run's supervision works with.

    ``events_url`` takes a run and the server's URL as its process reaches it; ``networks`` has the kinds of
    images whose processes have a network of their own.
    """

    db: Database
    clock: Clock
    signals: Signals
    runtime: Runtime
    logs: LogSink
    events: EventSink
    usage: UsageBook
    settings: EngineSettings
    run_token: Callable[[str], str]
    open_secret: Callable[[str], str]
    events_url: Callable[[Run, str], str]
    ports: Ports
    addresses: WebAddresses
    find_web_server: FindWebServer
    networks: Mapping[str, OwnNetwork] = {}


class Meter:
    """Turns a runtime's measurements of one attempt into a run's statistics."""

    def __init__(self, started_at: int) -> None:
        self._at = started_at
        self._cpu_secs = 0.0
        self._mem_byte_secs = 0.0
        self.cpu_current = 0.0

    def add(self, usage: Usage) -> None:
        """Take in the newest measurement."""
        passed_secs = (usage.at_ms - self._at) / 1000
        if passed_secs <= 0:
            return
        self.cpu_current = max(0.0, (usage.cpu_secs - self._cpu_secs) / passed_secs * 100)
        self._mem_byte_secs += usage.mem_bytes * passed_secs
        self._at, self._cpu_secs = usage.at_ms, usage.cpu_secs

    def move(self, step_ms: int) -> None:
        """Take over that the clock was set."""
        self._at += step_ms

    @property
    def totals(self) -> tuple[float, float]:
        """``(cpu_secs, mem_byte_secs)`` of the attempt so far."""
        return self._cpu_secs, self._mem_byte_secs
