"""What every runtime must do: ``exercise_runtime`` and its scenarios, each one a sentence of the contract.

A runtime's own test module makes a ``Harness`` and runs the scenarios on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec
import pytest

from actorium.kit import new_id
from actorium.runtimes import Exit, Handle, LogChunk, Phase, RunSpec, Runtime, StartError

DEADLINE_SECS = 30.0


@dataclass(frozen=True)
class Act:
    """What the main process does: write ``output`` and a line ``ready``, then end as told, or wait for a signal.

    On SIGTERM it exits with ``code_on_term``, or dies of it (``None``), or does not care (``ignores_term``).
    """

    output: bytes = b""
    code: int | None = None
    signal: int | None = None
    code_on_term: int | None = None
    ignores_term: bool = False


class Harness(Protocol):
    """A runtime under test and images that do what a scenario wants."""

    runtime: Runtime

    def spec(self, act: Act) -> RunSpec:
        """A new attempt that does ``act``."""
        ...

    def bad_spec(self) -> RunSpec:
        """A new attempt that cannot be started."""
        ...


async def no_checkpoint(handle: Handle) -> None:
    """For scenarios that do not look at the checkpoint."""


async def read_all(runtime: Runtime, handle: Handle, since: int = 0) -> list[LogChunk]:
    """The whole output, once the attempt is over."""
    async with asyncio.timeout(DEADLINE_SECS):
        return [chunk async for chunk in runtime.logs(handle, since)]


def joined(chunks: list[LogChunk]) -> bytes:
    """The bytes alone."""
    return b"".join(chunk.data for chunk in chunks)


async def read_until(runtime: Runtime, handle: Handle, end: bytes) -> bytes:
    """The output up to the moment when it contains ``end``."""
    seen = b""
    chunks = runtime.logs(handle, 0)
    try:
        async with asyncio.timeout(DEADLINE_SECS):
            async for chunk in chunks:
                seen += chunk.data
                if end in seen:
                    return seen
    finally:
        await chunks.aclose()
    raise AssertionError(f"the output ended without {end!r}: {seen!r}")


async def started(harness: Harness, act: Act) -> Handle:
    """A started attempt that is ready for signals."""
    handle = await harness.runtime.start(harness.spec(act), no_checkpoint)
    await read_until(harness.runtime, handle, b"ready\n")
    return handle


async def _ended(harness: Harness, handle: Handle) -> Exit:
    async with asyncio.timeout(DEADLINE_SECS):
        return await harness.runtime.wait(handle)


async def reports_the_exit_code(harness: Harness) -> None:
    handle = await harness.runtime.start(harness.spec(Act(code=7)), no_checkpoint)
    ended = await _ended(harness, handle)
    assert (ended.code, ended.signal, ended.error, ended.oom_killed) == (7, None, None, False)
    assert ended.finished_at_ms is not None
    assert ended.exit_code == 7
    (seen,) = await harness.runtime.inspect([handle])
    assert seen.phase is Phase.EXITED
    assert seen.exit == ended


async def reports_the_signal(harness: Harness) -> None:
    handle = await harness.runtime.start(harness.spec(Act(signal=10)), no_checkpoint)
    ended = await _ended(harness, handle)
    assert ended.exit_code == 138
    assert not ended.oom_killed


async def keeps_every_byte_of_output(harness: Harness) -> None:
    output = bytes(range(256)) * 40 + b"\n\n\r\nno newline at the end"
    handle = await harness.runtime.start(harness.spec(Act(output=output, code=0)), no_checkpoint)
    chunks = await read_all(harness.runtime, handle)
    assert joined(chunks) == output + b"ready\n"
    assert [chunk.at_ms for chunk in chunks] == sorted(chunk.at_ms for chunk in chunks)


async def goes_on_reading_where_a_reader_left_off(harness: Harness) -> None:
    handle = await harness.runtime.start(harness.spec(Act(output=b"x" * 300_000, code=0)), no_checkpoint)
    chunks = await read_all(harness.runtime, handle)
    for index, chunk in enumerate(chunks):
        rest = await read_all(harness.runtime, handle, chunk.next_offset)
        assert joined(rest) == joined(chunks[index + 1 :])


async def follows_the_output_of_a_live_attempt(harness: Harness) -> None:
    handle = await started(harness, Act(output=b"hello\n"))
    (seen,) = await harness.runtime.inspect([handle])
    assert seen.phase is Phase.RUNNING
    reading = asyncio.create_task(read_all(harness.runtime, handle))
    await harness.runtime.stop(handle, 0)
    assert joined(await reading) == b"hello\nready\n"


async def checkpoints_before_anything_runs(harness: Harness) -> None:
    seen: list[Handle] = []
    spec = harness.spec(Act(code=0))

    async def checkpoint(handle: Handle) -> None:
        stored = msgspec.json.decode(msgspec.json.encode(handle), type=Handle)
        assert stored == handle
        assert (handle.attempt_id, handle.run_id) == (spec.attempt_id, spec.run_id)
        seen.append(stored)

    handle = await harness.runtime.start(spec, checkpoint)
    assert seen == [handle]
    assert (await _ended(harness, seen[0])).code == 0


async def leaves_nothing_when_the_checkpoint_fails(harness: Harness) -> None:
    seen: list[Handle] = []

    async def checkpoint(handle: Handle) -> None:
        seen.append(handle)
        raise LookupError

    with pytest.raises(LookupError):
        await harness.runtime.start(harness.spec(Act()), checkpoint)
    assert [observed.phase for observed in await harness.runtime.inspect(seen)] == [Phase.GONE]
    assert await harness.runtime.list_managed() == []


async def leaves_nothing_when_the_start_fails(harness: Harness) -> None:
    with pytest.raises(StartError) as caught:
        await harness.runtime.start(harness.bad_spec(), no_checkpoint)
    assert str(caught.value)
    assert await harness.runtime.list_managed() == []


async def stops_gracefully(harness: Harness) -> None:
    handle = await started(harness, Act(code_on_term=5))
    assert (await harness.runtime.stop(handle, DEADLINE_SECS)).code == 5
    handle = await started(harness, Act())
    assert (await harness.runtime.stop(handle, DEADLINE_SECS)).exit_code == 143


async def kills_what_ignores_a_stop(harness: Harness) -> None:
    handle = await started(harness, Act(ignores_term=True))
    ended = await harness.runtime.stop(handle, 0.05)
    assert ended.exit_code == 137
    assert not ended.oom_killed


async def kills_at_once_without_grace(harness: Harness) -> None:
    handle = await started(harness, Act(code_on_term=5))
    assert (await harness.runtime.stop(handle, 0)).exit_code == 137


async def shortens_a_stop(harness: Harness) -> None:
    handle = await started(harness, Act(ignores_term=True))
    slow = asyncio.create_task(harness.runtime.stop(handle, 3600))
    waiting = asyncio.create_task(harness.runtime.wait(handle))
    await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_SECS):
        ended = await harness.runtime.stop(handle, 0)
        assert ended.exit_code == 137
        assert await slow == await waiting == ended


async def stops_what_has_ended(harness: Harness) -> None:
    handle = await harness.runtime.start(harness.spec(Act(code=3)), no_checkpoint)
    ended = await _ended(harness, handle)
    assert await harness.runtime.stop(handle, 10) == ended
    assert await harness.runtime.stop(handle, 0) == ended


async def takes_unknown_handles(harness: Harness) -> None:
    known = await harness.runtime.start(harness.spec(Act(code=0)), no_checkpoint)
    unknown = msgspec.structs.replace(known, attempt_id=new_id())
    await _ended(harness, known)
    assert (await harness.runtime.stop(unknown, 0)).error is not None
    assert (await _ended(harness, unknown)).error is not None
    assert await harness.runtime.stats(unknown) is None
    assert await read_all(harness.runtime, unknown) == []
    await harness.runtime.remove(unknown)
    phases = [seen.phase for seen in await harness.runtime.inspect([unknown, known, unknown])]
    assert phases == [Phase.GONE, Phase.EXITED, Phase.GONE]


async def lists_what_is_not_removed(harness: Harness) -> None:
    first = await started(harness, Act())
    second = await harness.runtime.start(harness.spec(Act(code=0)), no_checkpoint)
    await _ended(harness, second)
    assert {handle.attempt_id for handle in await harness.runtime.list_managed()} == {
        first.attempt_id,
        second.attempt_id,
    }
    await harness.runtime.stop(first, 0)
    for handle in (first, second, second):
        await harness.runtime.remove(handle)
    assert await harness.runtime.list_managed() == []
    assert [seen.phase for seen in await harness.runtime.inspect([first])] == [Phase.GONE]


async def measures_living_and_ended_attempts(harness: Harness) -> None:
    handle = await started(harness, Act())
    async with asyncio.timeout(DEADLINE_SECS):
        while (usage := await harness.runtime.stats(handle)) is None:
            await asyncio.sleep(0)
    assert usage.process_count == 1
    assert 0 < usage.mem_bytes <= usage.mem_max_bytes
    await harness.runtime.stop(handle, 0)
    total = await harness.runtime.stats(handle)
    assert total is not None
    assert total.cpu_secs >= usage.cpu_secs
    assert total.mem_max_bytes >= usage.mem_max_bytes


SCENARIOS: list[Callable[[Harness], Awaitable[None]]] = [
    reports_the_exit_code,
    reports_the_signal,
    keeps_every_byte_of_output,
    goes_on_reading_where_a_reader_left_off,
    follows_the_output_of_a_live_attempt,
    checkpoints_before_anything_runs,
    leaves_nothing_when_the_checkpoint_fails,
    leaves_nothing_when_the_start_fails,
    stops_gracefully,
    kills_what_ignores_a_stop,
    kills_at_once_without_grace,
    shortens_a_stop,
    stops_what_has_ended,
    takes_unknown_handles,
    lists_what_is_not_removed,
    measures_living_and_ended_attempts,
]


async def exercise_runtime(make: Callable[[], Awaitable[Harness]]) -> None:
    """Run every scenario, each on a fresh harness."""
    for scenario in SCENARIOS:
        await scenario(await make())
