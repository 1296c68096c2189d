"""Killed keepers, spawners and servers: what the process runtime makes of an attempt then."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from actorium.runtimes import Handle, Phase, RunSpec, StartError, link
from actorium.runtimes import process as process_module
from actorium.runtimes.attempts import AttemptDir, NativeImage
from conformance.process_harness import FILL, ProcessHarness, assert_nothing_left, end_of, is_alive, start_tree
from conformance.runtimes import (
    DEADLINE_SECS,
    joined,
    read_all,
    read_until,
)
from support.platform import wait_for


async def _await_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECS):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize("spawner_too", [False, True])
async def test_a_killed_keeper_takes_its_tree_along(harness: ProcessHarness, spawner_too: bool) -> None:
    handle, pids = await start_tree(harness)
    waiting = asyncio.create_task(harness.runtime.wait(handle))
    if spawner_too:
        for spawner in harness.runtime.spawner_pids:
            os.kill(spawner, signal.SIGKILL)
            await _await_true(lambda pid=spawner: not is_alive(pid))
        # Without a spawner that adopts it, a process that hides its environment is beyond reach.
        os.kill(pids.pop(_index_of_hidden(pids)), signal.SIGKILL)
    os.kill(harness.keeper_of(handle), signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_SECS):
        ended = await waiting
    assert ended.error == "lost"
    assert (ended.code, ended.signal) == (None, None)
    assert_nothing_left(handle, pids)
    (seen,) = await harness.runtime.inspect([handle])
    assert seen.exit == ended
    again = harness.another_runtime()
    assert await again.wait(handle) == await again.stop(handle, 0) == ended
    await again.close()


def _index_of_hidden(pids: list[int]) -> int:
    hidden = [index for index, pid in enumerate(pids) if not Path(f"/proc/{pid}/environ").read_bytes()]
    assert len(hidden) == 1
    return hidden[0]


async def test_a_hung_keeper_does_not_hold_a_stop(harness: ProcessHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_HUNG_SECS", 0.2)
    handle, pids = await start_tree(harness)
    os.kill(harness.keeper_of(handle), signal.SIGSTOP)
    async with asyncio.timeout(DEADLINE_SECS):
        assert (await harness.runtime.stop(handle, 0)).error == "lost"
    assert_nothing_left(handle, pids)


async def test_a_killed_spawner_is_replaced(harness: ProcessHarness) -> None:
    survivor = await harness.start("import time; print('ready', flush=True); time.sleep(600)")
    spawners = harness.runtime.spawner_pids
    assert len(spawners) == 1 + harness.warm
    for spawner in spawners:
        os.kill(spawner, signal.SIGKILL)
    handle = await harness.start("import os; os._exit(3)")
    assert (await end_of(harness.runtime, handle)).code == 3
    assert set(harness.runtime.spawner_pids) - set(spawners)
    assert [seen.phase for seen in await harness.runtime.inspect([survivor])] == [Phase.RUNNING]
    await harness.runtime.stop(survivor, 0)


async def test_the_spawner_ends_with_its_server(harness: ProcessHarness) -> None:
    spawners = harness.runtime.spawner_pids
    assert len(spawners) == 1 + harness.warm
    await harness.runtime.close()
    assert not any(map(is_alive, spawners))


@pytest.mark.parametrize("in_the_way", ["spool", "main"])
async def test_a_keeper_that_ends_before_it_reports_the_start_is_a_loss(
    harness: ProcessHarness, in_the_way: str
) -> None:
    """It has claimed the attempt, so that nobody can tell whether anything ran: not a start that failed."""

    async def checkpoint(handle: Handle) -> None:
        # The keeper makes this file itself, before (spool) or after (main) it forks, and breaks when there is one.
        await asyncio.to_thread((harness.root / handle.attempt_id / in_the_way).symlink_to, "999999:1:no-such-boot")

    handle = await harness.runtime.start(harness.python("import time; time.sleep(600)"), checkpoint)
    assert (await end_of(harness.runtime, handle)).error == "lost"
    assert_nothing_left(handle, [])
    assert await harness.runtime.list_managed() == [handle]


async def test_a_start_that_takes_too_long_is_given_up_for_good(
    harness: ProcessHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "_START_SECS", 0.1)
    spawners = harness.runtime.spawner_pids
    for spawner in spawners:
        os.kill(spawner, signal.SIGSTOP)
    ran = harness.root / "ran"
    try:
        with pytest.raises(StartError, match=r"did not begin within 0\.1 s"):
            await harness.start(f"open({str(ran)!r}, 'w')")
    finally:
        for spawner in spawners:
            os.kill(spawner, signal.SIGCONT)
    assert await harness.runtime.list_managed() == []
    # The spawner serves one request after the other: the late keeper was forked before this one.
    monkeypatch.undo()
    assert (await end_of(harness.runtime, await harness.start("import os; os._exit(3)"))).code == 3
    assert not ran.exists()


async def test_a_start_is_not_given_up_because_the_server_was_held_up(
    harness: ProcessHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its machine slept: the time is over, but the keeper has begun its work."""
    waits = iter([True])

    def attempts() -> list[Path]:
        return list(harness.root.iterdir())

    async def first_of(*futures: asyncio.Future[object], timeout_secs: float | None = None) -> None:
        if next(waits, False):
            await asyncio.to_thread(wait_for, lambda: any(one.joinpath("claim").is_symlink() for one in attempts()))
        else:
            await link.first_of(*futures, timeout_secs=timeout_secs)

    monkeypatch.setattr(process_module, "first_of", first_of)
    handle = await harness.start("import os; os._exit(4)")
    assert (await end_of(harness.runtime, handle)).code == 4


async def test_a_second_runtime_takes_over(harness: ProcessHarness) -> None:
    code = """
import os, time
os.write(1, b"one")
while not os.path.exists("go"): time.sleep(0.005)
os.write(1, b"two")
os._exit(8)
"""
    handle = await harness.start(code)
    await read_until(harness.runtime, handle, b"one")
    await harness.runtime.close()
    second = harness.another_runtime()
    await second.open()
    assert await second.list_managed() == [handle]
    assert [seen.phase for seen in await second.inspect([handle])] == [Phase.RUNNING]
    reading = asyncio.create_task(read_all(second, handle))
    usage = await second.stats(handle)
    assert usage is not None
    assert usage.process_count == 1
    await asyncio.to_thread((harness.root / handle.attempt_id / "work/go").touch)
    assert (await end_of(second, handle)).code == 8
    assert joined(await reading) == b"onetwo"
    await second.close()


def _owner(
    harness: ProcessHarness, specs: list[RunSpec], moment: str, lines: int = 1
) -> tuple[subprocess.Popen[bytes], list[Handle]]:
    """A server process of its own, once it has told of ``lines`` attempts."""
    program = Path(__file__).with_name("attempt_owner_process.py")
    arguments = [str(harness.root), msgspec.json.encode(specs).decode(), moment, str(int(harness.warm))]
    owner = subprocess.Popen([sys.executable, str(program), *arguments], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    return owner, [msgspec.json.decode(owner.stdout.readline(), type=Handle) for _ in range(lines)]


def _kill(owner: subprocess.Popen[bytes]) -> None:
    owner.kill()
    owner.wait()
    assert owner.stdout is not None
    owner.stdout.close()


async def test_an_attempt_outlives_its_killed_server(harness: ProcessHarness) -> None:
    spec = harness.python("import os, time\nfor i in range(5): os.write(1, b'%d\\n' % i)\ntime.sleep(600)")
    owner, (handle,) = await asyncio.to_thread(_owner, harness, [spec], "started")
    await read_until(harness.runtime, handle, b"4\n")
    await asyncio.to_thread(_kill, owner)
    assert [seen.phase for seen in await harness.runtime.inspect([handle])] == [Phase.RUNNING]
    assert (await harness.runtime.stop(handle, DEADLINE_SECS)).signal == signal.SIGTERM
    assert joined(await read_all(harness.runtime, handle)) == b"0\n1\n2\n3\n4\n"


async def test_the_memory_limit_holds_without_a_server(harness: ProcessHarness) -> None:
    spec = harness.python(FILL, memory_mbytes=128)
    owner, (handle,) = await asyncio.to_thread(_owner, harness, [spec], "started")
    await asyncio.to_thread(_kill, owner)
    assert (await end_of(harness.runtime, handle)).oom_killed


async def test_what_was_not_started_never_starts(harness: ProcessHarness) -> None:
    spec = harness.python("open('ran', 'w')")
    owner, (handle,) = await asyncio.to_thread(_owner, harness, [spec], "hold")
    await asyncio.to_thread(_kill, owner)
    assert await harness.runtime.list_managed() == [handle]
    assert [seen.phase for seen in await harness.runtime.inspect([handle])] == [Phase.GONE]
    directory = AttemptDir(harness.root, handle.attempt_id)
    launch = directory.launch_line(spec, msgspec.convert(spec.image.state, NativeImage), 1000)
    with pytest.raises(StartError, match="given up before it started"):
        await harness.runtime._spawn(directory, launch, harness.runtime._spawner)
    assert not (directory.path / "work/ran").exists()
    assert [seen.phase for seen in await harness.runtime.inspect([handle])] == [Phase.GONE]


@pytest.mark.parametrize("lines", [1, 8, 20])
async def test_a_server_killed_amid_starts_leaves_no_doubt(harness: ProcessHarness, lines: int) -> None:
    specs = [harness.python("open('ran', 'w'); import time; time.sleep(600)") for _ in range(20)]
    owner, told = await asyncio.to_thread(_owner, harness, specs, "checkpoint", lines)
    await asyncio.to_thread(_kill, owner)
    found = await harness.runtime.list_managed()
    assert {handle.attempt_id for handle in told} <= {handle.attempt_id for handle in found}
    seen = await harness.runtime.inspect(found)
    assert {observed.phase for observed in seen} <= {Phase.GONE, Phase.RUNNING}
    for handle, observed in zip(found, seen, strict=True):
        ended = await harness.runtime.stop(handle, 0)
        assert (ended.signal, ended.error) == ((9, None) if observed.phase is Phase.RUNNING else (None, "lost"))
        if observed.phase is Phase.GONE:
            assert not (harness.root / handle.attempt_id / "work/ran").exists()
        assert_nothing_left(handle, [])


async def test_leftovers_of_a_killed_server_are_cleared(harness: ProcessHarness) -> None:
    mine = (harness.root / "x").with_name(f".new:{os.getpid()}:1:no-such-boot:abc")
    for folder in (mine, harness.root / ".old:def"):
        (folder / "work").mkdir(parents=True)
        (folder / "work").chmod(0o500)
    again = harness.another_runtime()
    await again.open()
    await again.close()
    assert list(harness.root.iterdir()) == []
