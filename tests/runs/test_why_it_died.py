"""Why a run died: one sentence in its status message and in its log, for every cause."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from support.live_program import LiveProgram
from support.platform import Platform, processes_of, python_actor, wait_for


async def said(live: LiveProgram, run: dict[str, Any], code: int | None) -> str:
    """The reason a failed run gives, which its log ends with."""
    done = await live.ended(run)
    assert (done["status"], done["exitCode"]) == ("FAILED", code)
    assert (await live.log(run))[-1] == f"ACTOR: {done['statusMessage']}"
    return str(done["statusMessage"])


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        ({"code": 3}, 3, "The Actor's process ended with exit code 3."),
        ({"code": 91}, 91, "The Actor's process ended with exit code 91: an exception in it was not caught."),
        ({"code": 137}, 137, "The Actor's process ended with exit code 137, as after SIGKILL."),
        ({"code": 255}, 255, "The Actor's process ended with exit code 255, as after signal 127."),
        ({"code": 127}, 127, "The Actor's process ended with exit code 127: a command in it was not found."),
        ({"signal": 11}, 139, "The Actor's process crashed with SIGSEGV (exit code 139)."),
    ],
)
async def test_an_exit(live: LiveProgram, end: dict[str, int], code: int, message: str) -> None:
    run, process = await live.running()
    live.runtime.end(process, **end)
    assert await said(live, run, code) == message


async def test_a_kill_from_outside(live: LiveProgram) -> None:
    run, process = await live.running()
    live.runtime.end(process, signal=9)
    message = await said(live, run, 137)
    assert message.startswith("The Actor's process was killed with SIGKILL (exit code 137), and not by this server")


async def test_memory(live: LiveProgram) -> None:
    run, process = await live.running("memory=256")
    live.runtime.end(process, signal=9, oom_killed=True)
    assert "ran out of memory" in await said(live, run, 137)


async def test_what_cannot_start(live: LiveProgram) -> None:
    live.runtime.start_error = "there is no such program"
    run = await live.begin()
    assert await said(live, run, None) == "Cannot start run: there is no such program"


async def test_a_reason_of_the_platform_stays_when_the_actor_is_updated(live: LiveProgram) -> None:
    run, process = await live.running()
    live.runtime.end(process, code=3)
    message = await said(live, run, 3)
    changed = await live.ask("PUT", f"/actor-runs/{run['id']}", {"statusMessage": "All fine"})
    assert changed["statusMessage"] == message


async def test_the_timeout(live: LiveProgram) -> None:
    run, _ = await live.running("timeout=60")
    live.clock.advance(60)
    done = await live.ended(run)
    assert done["status"] == "TIMED-OUT"
    assert done["statusMessage"] == "The Actor timed out: it ran for 60 seconds, which is its limit."
    assert (await live.log(run))[-1] == f"ACTOR: {done['statusMessage']}"


async def test_an_abort_by_a_caller_leaves_the_message_of_the_actor(live: LiveProgram) -> None:
    run, _ = await live.running()
    await live.ask("PUT", f"/actor-runs/{run['id']}", {"statusMessage": "Crawled 5 pages"})
    await live.ask("POST", f"/actor-runs/{run['id']}/abort")
    done = await live.ended(run)
    assert (done["status"], done["statusMessage"], done["exitCode"]) == ("ABORTED", "Crawled 5 pages", 137)


async def test_a_process_that_vanishes_is_replaced_three_times_a_minute(live: LiveProgram) -> None:
    run, process = await live.running()
    for number in range(1, 4):
        await live.platform.supervisor.stop()
        live.runtime.vanish(process)
        await live.restart()
        process = await live.process_of(run)
        current = await live.until(run, lambda now, number=number: now["stats"]["migrationCount"] == number)
        assert current["status"] == "RUNNING"
    lines = await live.log(run)
    assert sum("nobody saw how it ended; continuing" in line for line in lines) == 3
    await live.platform.supervisor.stop()
    live.runtime.vanish(process)
    await live.restart()
    message = await said(live, run, None)
    assert message == "The Actor's process vanished 4 times within a minute, and nobody saw how it ended."


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    found = Platform(tmp_path_factory.mktemp("deaths") / "data").start()
    found.first_token()
    yield found
    found.stop()


def message_of(platform: Platform, run: dict[str, Any]) -> str:
    done = platform.ended(run["id"])
    assert done["status"] == "FAILED", done
    assert platform.log_lines(run["id"])[-1] == f"ACTOR: {done['statusMessage']}"
    assert processes_of(run["id"]) == []
    return str(done["statusMessage"])


@pytest.mark.xdist_group("deaths")
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit(5)", "ended with exit code 5."),
        ("import os; os.execvp('sh', ['sh', '-c', './nothing'])", "exit code 127: a command in it was not found."),
        ("import os; os.abort()", "crashed with SIGABRT (exit code 134)."),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was killed with SIGKILL (exit code 137)"),
    ],
)
def test_real_exits(platform: Platform, code: str, message: str) -> None:
    actor = platform.build_actor(f"exits-{abs(hash(code)) % 10**8}", python_actor(code))
    assert message in message_of(platform, platform.call("POST", f"/v2/actors/{actor}/runs?memory=128"))


@pytest.mark.xdist_group("deaths")
def test_a_real_kill_from_outside_and_a_real_lack_of_memory(platform: Platform) -> None:
    actor = platform.build_actor("sleeps", python_actor("import time\nprint('up')\ntime.sleep(600)\n"))
    run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=128")
    wait_for(lambda: "up" in platform.log_lines(run["id"]))
    (pid,) = processes_of(run["id"])
    os.kill(pid, signal.SIGTERM)
    assert "was killed with SIGTERM (exit code 143), and not by this server" in message_of(platform, run)
    code = "data = []\nwhile True:\n    data.append(bytearray(2**20) + b'x')\n"
    actor = platform.build_actor("eats", python_actor(code))
    assert "ran out of memory" in message_of(platform, platform.call("POST", f"/v2/actors/{actor}/runs?memory=128"))
