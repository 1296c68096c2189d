"""Process trees on kernels that do not list children, and pids that are somebody else's by now."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from actorium.runtimes.shim import proctree


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_children_are_found_by_both_ways(sleeper: subprocess.Popen[bytes]) -> None:
    assert sleeper.pid in proctree._children(os.getpid(), 0)
    assert sleeper.pid in proctree._children_by_scan(os.getpid(), 0)


def test_an_identity_is_one_process(sleeper: subprocess.Popen[bytes]) -> None:
    who = proctree.identity(sleeper.pid)
    pid, started, boot = who.split(":")
    assert proctree.is_alive(who)
    for other in (f"{pid}:{int(started) - 1}:{boot}", f"{pid}:{started}:another-boot", f"{2**22 + 1}:{started}:{boot}"):
        assert not proctree.is_alive(other)
        proctree.kill(other)
    assert sleeper.poll() is None
    proctree.kill(who)
    assert sleeper.wait(10) == -signal.SIGKILL
    assert not proctree.is_alive(who)


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen(["true"])
    who = proctree.identity(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not proctree.is_alive(who)
    process.wait()


def test_only_processes_of_the_attempt_are_killed(sleeper: subprocess.Popen[bytes]) -> None:
    ours = subprocess.Popen(["sleep", "600"], env={"ACTORIUM_ATTEMPT": "abc"})
    near = subprocess.Popen(["sleep", "600"], env={"ACTORIUM_ATTEMPT": "abcd"})
    leader = subprocess.Popen(["sleep", "600"], env={}, start_new_session=True)
    try:
        assert proctree.kill_marked("abc", proctree.identity(leader.pid), "/no/such/attempt", 10)
        assert ours.wait(10) == -signal.SIGKILL
        assert [process.poll() for process in (near, leader, sleeper)] == [None] * 3
    finally:
        for process in (ours, near, leader):
            process.kill()
            process.wait()
