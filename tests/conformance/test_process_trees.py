"""Ending whole process trees, limiting and measuring them, with real processes."""

from __future__ import annotations

import asyncio

import pytest

from conformance.process_harness import FILL, ProcessHarness, assert_nothing_left, end_of, pids_in, start_tree
from conformance.runtimes import (
    DEADLINE_SECS,
    joined,
    read_all,
    read_until,
)


@pytest.mark.parametrize("grace_secs", [0, 0.1])
async def test_a_stop_ends_the_whole_tree(harness: ProcessHarness, grace_secs: float) -> None:
    handle, pids = await start_tree(harness)
    assert len(pids) == 4
    ended = await harness.runtime.stop(handle, grace_secs)
    assert ended.signal == 9
    assert_nothing_left(handle, pids)


async def test_what_the_main_process_leaves_behind_ends_with_it(harness: ProcessHarness) -> None:
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    os.write(1, b"pid %d\\n" % os.getpid())
    time.sleep(600)
while not os.path.exists("go"): time.sleep(0.005)
os._exit(9)
"""
    handle = await harness.start(code)
    pids = pids_in(await read_until(harness.runtime, handle, b"\n"))
    await asyncio.to_thread((harness.root / handle.attempt_id / "work/go").touch)
    assert (await end_of(harness.runtime, handle)).code == 9
    assert_nothing_left(handle, pids)
    assert joined(await read_all(harness.runtime, handle)) == b"pid %d\n" % pids[0]


async def test_processes_that_never_stop_forking_are_caught(harness: ProcessHarness) -> None:
    code = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        while True:
            if os.fork() != 0:
                os._exit(0)
os.write(1, b"ready")
time.sleep(600)
"""
    handle = await harness.start(code)
    await read_until(harness.runtime, handle, b"ready")
    async with asyncio.timeout(DEADLINE_SECS):
        assert (await harness.runtime.stop(handle, 0)).signal == 9
    assert_nothing_left(handle, [])


async def test_a_stop_gives_the_tree_its_grace(harness: ProcessHarness) -> None:
    code = """
import os, signal, sys, time
def leave(*_):
    os.write(1, b"bye %d;" % (os.getpid() == main))
    os._exit(0)
main = os.getpid()
signal.signal(signal.SIGTERM, leave)
child = os.fork()
os.write(1, b"r")
if child and os.waitpid(child, 0):
    signal.pause()
while True: signal.pause()
"""
    handle = await harness.start(code)
    await read_until(harness.runtime, handle, b"rr")
    await harness.runtime.stop(handle, DEADLINE_SECS)
    assert b"bye 1;" in joined(await read_all(harness.runtime, handle))


# Memory and measurements


async def test_the_memory_limit_holds(harness: ProcessHarness) -> None:
    handle = await harness.start(FILL, memory_mbytes=128)
    ended = await end_of(harness.runtime, handle)
    assert ended.oom_killed
    assert ended.signal == 9
    usage = await harness.runtime.stats(handle)
    assert usage is not None
    assert usage.mem_max_bytes > 128 << 20


async def test_the_memory_limit_counts_the_whole_tree(harness: ProcessHarness) -> None:
    code = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        held = bytearray(os.urandom(1) * 60_000_000)
        time.sleep(600)
os.waitpid(-1, 0)
"""
    handle = await harness.start(code, memory_mbytes=128)
    assert (await end_of(harness.runtime, handle)).oom_killed
    assert_nothing_left(handle, [])


async def test_memory_shared_after_a_fork_counts_once(harness: ProcessHarness) -> None:
    code = """
import os, time
held = bytearray(os.urandom(1) * 60_000_000)
for _ in range(4):
    if os.fork() == 0:
        time.sleep(600)
os.write(1, b"ready")
time.sleep(600)
"""
    handle = await harness.start(code, memory_mbytes=128)
    await read_until(harness.runtime, handle, b"ready")
    usage = await harness.runtime.stats(handle)
    assert usage is not None
    assert usage.process_count == 5
    assert 60_000_000 < usage.mem_bytes < 128 << 20
    assert (await harness.runtime.stop(handle, 0)).oom_killed is False


async def test_cpu_seconds_include_ended_children(harness: ProcessHarness) -> None:
    code = """
import os, time
for _ in range(2):
    if os.fork() == 0:
        while time.process_time() < 0.3: pass
        os._exit(0)
    os.wait()
os.write(1, b"ready")
time.sleep(600)
"""
    handle = await harness.start(code)
    await read_until(harness.runtime, handle, b"ready")
    live = await harness.runtime.stats(handle)
    assert live is not None
    assert live.cpu_secs >= 0.5
    await harness.runtime.stop(handle, 0)
    total = await harness.runtime.stats(handle)
    assert total is not None
    assert live.cpu_secs <= total.cpu_secs
    assert (total.mem_bytes, total.process_count) == (0, 0)
