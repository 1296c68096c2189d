"""A runtime without processes, scripted by the test; it passes the runtimes' conformance in what it claims."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from actorium.kit import Clock
from actorium.runtimes import (
    Capabilities,
    Checkpoint,
    Exit,
    Handle,
    LogChunk,
    Observed,
    Phase,
    RunSpec,
    StartError,
    Usage,
)


@dataclass
class FakeProcess:
    """One attempt of the fake runtime."""

    spec: RunSpec
    handle: Handle
    exit: Exit | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    signals: list[str] = field(default_factory=list)
    output: list[LogChunk] = field(default_factory=list)
    removed: bool = False
    vanished: bool = False


class FakeRuntime:
    """``start_error``: starting fails, after the checkpoint. ``ignores_term``: SIGTERM does nothing."""

    def __init__(self, clock: Clock, *, start_error: str | None = None, ignores_term: bool = False) -> None:
        self.clock = clock
        self.start_error = start_error
        self.ignores_term = ignores_term
        self.processes: dict[str, FakeProcess] = {}
        self.started = asyncio.Event()
        self.before_checkpoint: asyncio.Event | None = None
        self.reached_checkpoint = asyncio.Event()

    @property
    def newest(self) -> FakeProcess:
        return list(self.processes.values())[-1]

    def end(self, process: FakeProcess, **exit_fields: object) -> None:
        """The process ends by itself."""
        if process.exit is None:
            process.exit = Exit(finished_at_ms=self.clock.now_ms(), **exit_fields)  # type: ignore[arg-type]
            process.ended.set()

    def vanish(self, process: FakeProcess) -> None:
        """The machine lost every trace of the process."""
        process.vanished = True
        self.processes.pop(process.handle.attempt_id)

    def write(self, process: FakeProcess, data: bytes) -> None:
        offset = (process.output[-1].next_offset if process.output else 0) + len(data)
        process.output.append(LogChunk(self.clock.now_ms(), data, offset))

    def capabilities(self) -> Capabilities:
        return Capabilities("fake", survives_server=True, enforces_memory=False)

    async def start(self, spec: RunSpec, checkpoint: Checkpoint) -> Handle:
        handle = Handle("fake", 1, spec.attempt_id, spec.run_id, {})
        self.reached_checkpoint.set()
        if self.before_checkpoint is not None:
            await self.before_checkpoint.wait()
        await checkpoint(handle)
        if self.start_error is not None:
            raise StartError(self.start_error)
        self.processes[spec.attempt_id] = FakeProcess(spec, handle)
        self.started.set()
        return handle

    async def inspect(self, handles: Sequence[Handle]) -> list[Observed]:
        seen = []
        for handle in handles:
            process = self.processes.get(handle.attempt_id)
            if process is None:
                seen.append(Observed(Phase.GONE))
            elif process.exit is not None:
                seen.append(Observed(Phase.EXITED, process.exit))
            else:
                seen.append(Observed(Phase.RUNNING))
        return seen

    async def wait(self, handle: Handle) -> Exit:
        process = self.processes.get(handle.attempt_id)
        if process is None:
            return Exit(error="lost")
        await process.ended.wait()
        assert process.exit is not None
        return process.exit

    async def stop(self, handle: Handle, grace_secs: float) -> Exit:
        process = self.processes.get(handle.attempt_id)
        if process is None:
            return Exit(error="lost")
        if process.exit is None and grace_secs > 0:
            process.signals.append("TERM")
            if not self.ignores_term:
                self.end(process, signal=15)
            else:
                waiter = asyncio.ensure_future(process.ended.wait())
                timer = asyncio.ensure_future(self.clock.sleep(grace_secs))
                await asyncio.wait({waiter, timer}, return_when=asyncio.FIRST_COMPLETED)
                waiter.cancel()
                timer.cancel()
        if process.exit is None:
            process.signals.append("KILL")
            self.end(process, signal=9)
        assert process.exit is not None
        return process.exit

    async def remove(self, handle: Handle) -> None:
        process = self.processes.get(handle.attempt_id)
        if process is not None:
            process.removed = True

    async def logs(self, handle: Handle, since: int) -> AsyncGenerator[LogChunk, None]:
        process = self.processes.get(handle.attempt_id)
        if process is None:
            return
        await process.ended.wait()
        for chunk in process.output:
            if chunk.next_offset > since:
                yield chunk

    async def stats(self, handle: Handle) -> Usage | None:
        process = self.processes.get(handle.attempt_id)
        if process is None:
            return None
        return Usage(self.clock.now_ms(), cpu_secs=0.5, mem_bytes=50_000_000, mem_max_bytes=60_000_000, process_count=1)

    async def list_managed(self) -> list[Handle]:
        return [process.handle for process in self.processes.values() if not process.removed]
