"""Where runs execute: the contract every runtime keeps, and the value types it speaks.

A runtime knows processes or containers. It knows no run status, no database and no API:
the engine decides, a runtime does. Each runtime passes ``tests/conformance/runtimes.py``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from actorium.domain.models import Debug


class Image(msgspec.Struct, frozen=True):
    """What a builder made and a runtime starts.

    ``kind`` names the builder (``native``, ``docker``); ``state`` is that builder's own JSON.
    """

    kind: str
    state: dict[str, Any]


class RunSpec(msgspec.Struct, frozen=True):
    """One life of a run's process tree or container.

    ``env`` is the complete environment the platform sets (the image's own comes below it);
    ``memory_mbytes`` limits the whole tree together. A runtime whose attempts have a network of their own
    publishes the port ``ACTOR_WEB_SERVER_PORT`` at ``published_port`` of this machine (0: not at all).
    ``shared_env`` is the part of ``env`` that is the same in all runs of the image: a runtime may prepare
    interpreters with it. ``debug``: the main process is started under a debugger that listens at its port.
    """

    run_id: str
    attempt_id: str
    image: Image
    env: dict[str, str]
    memory_mbytes: int
    disk_mbytes: int
    published_port: int = 0
    shared_env: dict[str, str] = {}
    debug: Debug | None = None


class Handle(msgspec.Struct, frozen=True):
    """Enough to find an attempt again after the server was restarted; stored as JSON in the database."""

    runtime: str
    version: int
    attempt_id: str
    run_id: str
    state: dict[str, Any]


class Exit(msgspec.Struct, frozen=True):
    """How an attempt's main process ended.

    Exactly one of ``code`` and ``signal`` is set, unless ``error`` says why neither is known
    (``"lost"``: the process is gone and nobody saw how). Why it was stopped is not known here.
    """

    code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    error: str | None = None
    finished_at_ms: int | None = None

    @property
    def exit_code(self) -> int | None:
        """The code as a container reports it: 128 + signal for a signalled process."""
        return 128 + self.signal if self.signal is not None else self.code


class Phase(StrEnum):
    """What ``inspect`` saw."""

    RUNNING = "RUNNING"
    EXITED = "EXITED"
    GONE = "GONE"


class Observed(msgspec.Struct, frozen=True):
    """State of one attempt. ``exit`` is set when EXITED; GONE means that nothing of it is left to ask."""

    phase: Phase
    exit: Exit | None = None


class Usage(msgspec.Struct, frozen=True):
    """A measurement over the whole process tree.

    ``cpu_secs`` counts from the attempt's start (ended children included); ``mem_bytes`` is what the
    tree holds now; ``mem_max_bytes`` is the highest value seen.
    """

    at_ms: int
    cpu_secs: float
    mem_bytes: int
    mem_max_bytes: int
    process_count: int
    net_rx_bytes: int = 0
    net_tx_bytes: int = 0


class LogChunk(msgspec.Struct, frozen=True):
    """Bytes the process wrote (standard output and error in the order written), read at ``at_ms``.

    ``next_offset`` is the position to pass to ``logs`` to continue after this chunk.
    """

    at_ms: int
    data: bytes
    next_offset: int


class StartError(Exception):
    """An attempt could not be started; the message may be shown to the user."""


class Capabilities(msgspec.Struct, frozen=True):
    """What a runtime can do on this machine, for ``doctor`` and for the engine's choices."""

    name: str
    survives_server: bool
    enforces_memory: bool
    detail: str = ""


Checkpoint = Callable[[Handle], Awaitable[None]]
"""Called by ``start`` as soon as something exists that must be cleaned up; durable once it returns."""


class Runtime(Protocol):
    """Starts, watches and ends attempts. ``stop`` and ``remove`` of an unknown handle succeed."""

    def capabilities(self) -> Capabilities:
        """What this runtime can do here."""
        ...

    async def start(self, spec: RunSpec, checkpoint: Checkpoint) -> Handle:
        """Start the attempt and return once its main process exists.

        Calls ``checkpoint`` with a handle that finds the attempt again before anything is executed.
        Raises ``StartError`` when it cannot be started; then nothing is left behind. An attempt that is lost while
        it starts is no error: ``wait`` says ``lost``.
        """
        ...

    async def inspect(self, handles: Sequence[Handle]) -> list[Observed]:
        """What each of the attempts is doing, in the order asked."""
        ...

    async def wait(self, handle: Handle) -> Exit:
        """Return once the main process has ended and every process it left behind is gone."""
        ...

    async def stop(self, handle: Handle, grace_secs: float) -> Exit:
        """End the attempt: SIGTERM, after ``grace_secs`` SIGKILL to the whole tree (0: SIGKILL at once).

        Returns only when the whole tree is confirmed gone. A call with a shorter grace during another
        one shortens it.
        """
        ...

    async def remove(self, handle: Handle) -> None:
        """Delete what an ended attempt left on disk (its log spool included)."""
        ...

    def logs(self, handle: Handle, since: int) -> AsyncGenerator[LogChunk, None]:
        """Follow the output from offset ``since`` (0: from the start); ends when the attempt is over and read."""
        ...

    async def stats(self, handle: Handle) -> Usage | None:
        """The newest measurement, ``None`` before the first and for an unknown handle."""
        ...

    async def list_managed(self) -> list[Handle]:
        """Every attempt of this installation of which something is left, for finding orphans."""
        ...


class OwnNetwork(Protocol):
    """What a runtime can tell whose attempts have a network of their own."""

    async def api_base_url(self) -> str:
        """The server's URL, without ``/v2``, as attempts reach it.

        Raises ``StartError`` when they cannot, ``ConnectionError`` when this cannot be told now.
        """
        ...
