"""The process runtime: the contract, and what is special to processes, with real ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from blockbuster import blockbuster_ctx

from actorium.kit import new_id
from actorium.runtimes import Exit, Handle, Image, Phase, RunSpec, StartError
from actorium.runtimes import process as process_module
from actorium.runtimes.attempts import AttemptDir, NativeImage
from actorium.runtimes.process import ProcessRuntime
from conformance.runtimes import (
    DEADLINE_SECS,
    SCENARIOS,
    Act,
    Harness,
    joined,
    no_checkpoint,
    read_all,
    read_until,
)


class ProcessHarness:
    """A process runtime below a temporary directory and Python programs to run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "attempts"
        self.app_dir = folder / "app"
        self.app_dir.mkdir(parents=True)
        (self.app_dir / "hello.txt").write_text("hello")
        self.runtime = ProcessRuntime(self.root)

    def run_spec(self, command: list[str], *, memory_mbytes: int = 512, env: dict[str, str] | None = None) -> RunSpec:
        image = Image("native", {"app_dir": str(self.app_dir), "command": command})
        return RunSpec(new_id(), new_id(), image, env or {}, memory_mbytes, 1024)

    def python(self, code: str, *, memory_mbytes: int = 512, env: dict[str, str] | None = None) -> RunSpec:
        command = [sys.executable, "-I", "-S", "-c", code]
        return self.run_spec(command, memory_mbytes=memory_mbytes, env=env)

    def spec(self, act: Act) -> RunSpec:
        end = f"os._exit({act.code})" if act.code is not None else "while True: signal.pause()"
        if act.signal is not None:
            end = f"os.kill(os.getpid(), {act.signal})"
        term = "signal.SIG_IGN" if act.ignores_term else f"lambda *_: os._exit({act.code_on_term})"
        handler = f"signal.signal(15, {term})" if act.ignores_term or act.code_on_term is not None else ""
        (self.app_dir / "output.bin").write_bytes(act.output)
        return self.python(
            f"import os, signal\n{handler}\n"
            "data = open('output.bin', 'rb').read() + b'ready\\n'\n"
            f"while data: data = data[os.write(1, data):]\n{end}"
        )

    def bad_spec(self) -> RunSpec:
        return self.run_spec(["no-such-program"])

    async def start(self, code: str, *, memory_mbytes: int = 512, env: dict[str, str] | None = None) -> Handle:
        return await self.runtime.start(self.python(code, memory_mbytes=memory_mbytes, env=env), no_checkpoint)

    async def output_of(self, code: str) -> bytes:
        return joined(await read_all(self.runtime, await self.start(code)))

    def keeper_of(self, handle: Handle) -> int:
        claim = (self.root / handle.attempt_id / "claim").readlink()
        return int(str(claim).split(":")[1])


async def _end_everything(root: Path) -> None:
    last = ProcessRuntime(root)
    await last.open()
    for handle in await last.list_managed():
        await last.stop(handle, 0)
    await last.close()


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ProcessHarness]:
    harness = ProcessHarness(tmp_path)
    await harness.runtime.open()
    yield harness
    await harness.runtime.close()
    await _end_everything(harness.root)


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> Iterator[None]:
    with blockbuster_ctx("actorium"):
        yield


async def end_of(runtime: ProcessRuntime, handle: Handle) -> Exit:
    async with asyncio.timeout(DEADLINE_SECS):
        return await runtime.wait(handle)


def survivors(handle: Handle) -> list[int]:
    """Living processes that carry the attempt's marker."""
    marker = f"ACTORIUM_ATTEMPT={handle.attempt_id}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if marker in environ.split(b"\0"):
                found.append(int(entry.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(b") ")[2][:1] not in b"ZX"


def assert_nothing_left(handle: Handle, pids: list[int]) -> None:
    assert [pid for pid in pids if is_alive(pid)] == []
    assert survivors(handle) == []


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_contract(harness: ProcessHarness, scenario: Callable[[Harness], Awaitable[None]]) -> None:
    await scenario(harness)


# Output


async def test_a_flood_arrives_whole_and_in_order(harness: ProcessHarness) -> None:
    code = """
import hashlib, os, sys
block, sent = bytes(range(256)) * 400, hashlib.sha256()
for number in range(205):
    data = number.to_bytes(4, "big") + block
    sent.update(data)
    while data: data = data[os.write(1 + number % 2, data):]
open("digest", "w").write(sent.hexdigest())
"""
    handle = await harness.start(code)
    chunks = await read_all(harness.runtime, handle)
    data = joined(chunks)
    assert len(data) == 205 * (256 * 400 + 4)
    digest = await asyncio.to_thread((harness.root / handle.attempt_id / "work/digest").read_text)
    assert hashlib.sha256(data).hexdigest() == digest
    assert max(len(chunk.data) for chunk in chunks) <= 256 * 1024


async def test_both_streams_keep_their_order(harness: ProcessHarness) -> None:
    code = "import os\nfor i in range(200): os.write(1 + i % 2, b'%d ' % i)"
    assert await harness.output_of(code) == b"".join(b"%d " % number for number in range(200))


async def test_a_process_may_close_its_streams(harness: ProcessHarness) -> None:
    code = """
import os, time
os.write(1, b"before")
for descriptor in (0, 1, 2): os.close(descriptor)
while not os.path.exists("go"): time.sleep(0.005)
os._exit(4)
"""
    handle = await harness.start(code)
    await read_until(harness.runtime, handle, b"before")
    (seen,) = await harness.runtime.inspect([handle])
    assert seen.phase is Phase.RUNNING
    await asyncio.to_thread((harness.root / handle.attempt_id / "work/go").touch)
    assert (await end_of(harness.runtime, handle)).code == 4


async def test_output_beyond_the_limit_is_dropped_and_said_so(harness: ProcessHarness) -> None:
    small = ProcessRuntime(harness.root, max_spool_bytes=200_000)
    code = "import os\nfor i in range(100): os.write(1, b'%099d\\n' % i * 100)\nos._exit(6)"
    handle = await small.start(harness.python(code), no_checkpoint)
    data = joined(await read_all(harness.runtime, handle))
    await small.close()
    kept, _, note = data.rpartition(b"ACTOR: ")
    assert note == b"output beyond 200000 bytes is not kept\n"
    assert 100_000 < len(kept) <= 200_000
    assert (await end_of(harness.runtime, handle)).code == 6


async def test_output_that_cannot_be_written_does_not_stop_the_process(harness: ProcessHarness) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = ProcessRuntime(harness.root)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))
    try:
        await full.open()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    code = "import os\nfor i in range(100): os.write(1, b'x' * 9999 + b'\\n')\nos._exit(6)"
    handle = await full.start(harness.python(code), no_checkpoint)
    assert (await end_of(full, handle)).code == 6
    data = joined(await read_all(full, handle))
    assert b"bytes of output were lost: File too large\n" in data
    assert data.startswith(b"x" * 9999 + b"\n")
    assert len(data) < 150_000
    await full.close()


# The environment of the process


async def test_the_environment_is_exact(harness: ProcessHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKED", "from the server")
    own = ProcessRuntime(harness.root)
    await own.open()
    spec = harness.run_spec(["env"], env={"ACTOR_ID": "a", "WITH_NEWLINE": "1\n2", "SHARED": "run", "BYTES": "\u00e9"})
    spec.image.state.update(env={"IMAGE": "i", "SHARED": "image"}, bin_dirs=["/opt/one", "/opt/two"])
    spec.image.state["command"] = ["env", "-0"]
    handle = await own.start(spec, no_checkpoint)
    output = joined(await read_all(own, handle))
    await own.close()
    home = harness.root / handle.attempt_id
    assert dict(item.split(b"=", 1) for item in output.split(b"\0") if item) == {
        b"ACTOR_ID": b"a",
        b"WITH_NEWLINE": b"1\n2",
        b"SHARED": b"run",
        b"BYTES": b"\xc3\xa9",
        b"IMAGE": b"i",
        b"PATH": b"/opt/one:/opt/two:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        b"HOME": bytes(home / "home"),
        b"TMPDIR": bytes(home / "tmp"),
        b"ACTORIUM_ATTEMPT": handle.attempt_id.encode(),
    }


async def test_the_process_inherits_nothing(harness: ProcessHarness) -> None:
    code = """
import json, os
fds = os.listdir("/proc/self/fd")
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "fds": sorted(fd for fd in fds if os.path.exists("/proc/self/fd/" + fd)),
    "stdin": os.readlink("/proc/self/fd/0"),
    "blocked": int(status["SigBlk"], 16),
    "umask": os.umask(0),
    "leads": os.getsid(0) == os.getpgid(0) == os.getpid(),
    "cwd": os.getcwd(),
    "files": sorted(os.listdir()),
}))
"""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    own = ProcessRuntime(harness.root)
    with socket.socket() as inheritable:
        inheritable.set_inheritable(True)
        await own.open()
        handle = await own.start(harness.python(code), no_checkpoint)
        seen = json.loads(joined(await read_all(own, handle)))
        ignored = await own.start(harness.run_spec(["grep", "SigIgn", "/proc/self/status"]), no_checkpoint)
        assert int(joined(await read_all(own, ignored)).split()[1], 16) == 0
    signal.signal(signal.SIGHUP, previous)
    await own.close()
    assert seen == {
        "fds": ["0", "1", "2"],
        "stdin": "/dev/null",
        "blocked": 0,
        "umask": 0o022,
        "leads": True,
        "cwd": str(harness.root / handle.attempt_id / "work"),
        "files": ["hello.txt"],
    }


async def test_each_attempt_gets_its_own_copy_and_links(harness: ProcessHarness) -> None:
    package = harness.app_dir / "src" / "deep"
    package.mkdir(parents=True)
    large = os.urandom(300_000)
    (package / "large.bin").write_bytes(large)
    (package / "run.sh").write_text("#!/bin/sh\necho changed > ../hello.txt; pwd; cat lib/dep/hello.txt\n")
    (package / "run.sh").chmod(0o755)
    (package / "link").symlink_to("run.sh")
    os.utime(package / "large.bin", ns=(1, 1_700_000_000_123_456_789))
    spec = harness.run_spec(["../src/deep/link"])
    spec.image.state.update(links={"src/lib/dep": str(harness.app_dir)}, workdir="src")
    handle = await harness.runtime.start(spec, no_checkpoint)
    work = harness.root / handle.attempt_id / "work"
    assert joined(await read_all(harness.runtime, handle)) == f"{work}/src\nhello".encode()
    assert (work / "hello.txt").read_text() == "changed\n"
    assert (harness.app_dir / "hello.txt").read_text() == "hello"
    copied = work / "src/deep/large.bin"
    assert copied.read_bytes() == large
    assert copied.stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert copied.stat().st_ino != (package / "large.bin").stat().st_ino
    assert (work / "src/deep/link").readlink() == Path("run.sh")
    assert (harness.root / handle.attempt_id).stat().st_mode & 0o777 == 0o700


async def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    harness = ProcessHarness(tmp_path / ("long" * 50))
    await harness.runtime.open()
    handle = await harness.start("import time; print('ready', flush=True); time.sleep(600)")
    await harness.runtime.close()
    again = ProcessRuntime(harness.root)
    await again.open()
    assert (await again.stop(handle, 0)).signal == 9
    await again.close()


# Starting


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["no-such-program"], "no-such-program: command not found (searched /usr/local/sbin:"),
        (["/no/such/program"], "/no/such/program: command not found"),
        (["./plain.txt"], "./plain.txt: Permission denied"),
        (["./broken.sh"], "./broken.sh: its interpreter does not exist"),
        (["./garbage"], "./garbage: Exec format error"),
    ],
)
async def test_a_command_that_cannot_run(harness: ProcessHarness, command: list[str], reason: str) -> None:
    (harness.app_dir / "plain.txt").write_text("text")
    for name, content in (("broken.sh", "#!/no/such/shell\n"), ("garbage", "\x7fnothing")):
        (harness.app_dir / name).write_text(content)
        (harness.app_dir / name).chmod(0o755)
    handles: list[Handle] = []

    async def checkpoint(handle: Handle) -> None:
        handles.append(handle)

    with pytest.raises(StartError) as caught:
        await harness.runtime.start(harness.run_spec(command), checkpoint)
    assert str(caught.value).startswith(f"The Actor's process cannot be started: {reason}")
    assert [seen.phase for seen in await harness.runtime.inspect(handles)] == [Phase.GONE]
    assert list(harness.root.iterdir()) == []
    assert_nothing_left(handles[0], [])


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"app_dir": "/no/such/app"}, "No such file or directory: '/no/such/app'"),
        ({"workdir": "../.."}, "'../..' is not inside the Actor's directory"),
        ({"links": {"../outside": "/"}}, "'../outside' is not inside the Actor's directory"),
        ({"workdir": "nowhere"}, "nowhere: No such file or directory"),
    ],
)
async def test_an_image_that_cannot_run(harness: ProcessHarness, state: dict[str, object], reason: str) -> None:
    spec = harness.python("")
    spec.image.state.update(state)
    with pytest.raises(StartError) as caught:
        await harness.runtime.start(spec, no_checkpoint)
    assert reason in str(caught.value)
    assert list(harness.root.iterdir()) == []


async def test_many_starts_at_once(harness: ProcessHarness) -> None:
    async def one(number: int) -> int | None:
        handle = await harness.start(f"import os; os._exit({number})")
        return (await end_of(harness.runtime, handle)).code

    assert await asyncio.gather(*map(one, range(50))) == list(range(50))


async def test_nothing_leaks_into_the_server(harness: ProcessHarness) -> None:
    async def one() -> None:
        handle = await harness.start("print('hello')")
        await read_all(harness.runtime, handle)
        await harness.runtime.stats(handle)
        await harness.runtime.stop(handle, 0)
        await harness.runtime.remove(handle)

    await asyncio.gather(*(one() for _ in range(5)))
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    for _ in range(5):
        await asyncio.gather(*(one() for _ in range(5)))
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before
    assert list(harness.root.iterdir()) == []


# Ending whole trees

TREE = r"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def report():
    os.write(1, b"pid %d\n" % os.getpid())
report()
if os.fork() == 0:          # a child in a session of its own
    os.setsid(); report(); time.sleep(600)
if os.fork() == 0:          # a grandchild whose parent is gone
    if os.fork() == 0:
        os.setsid(); report(); time.sleep(600)
    os._exit(0)
HIDDEN = "import os, time; os.write(1, b'pid %d\\n' % os.getpid()); os.closerange(0, 3); time.sleep(600)"
if os.fork() == 0:          # one that hides its environment and closes its streams
    os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", HIDDEN], {})
"""


def _pids(output: bytes) -> list[int]:
    return [int(line.split()[1]) for line in output.splitlines() if line.startswith(b"pid ")]


async def _start_tree(harness: ProcessHarness, then: str = "time.sleep(600)") -> tuple[Handle, list[int]]:
    """A tree of four processes besides what ``then`` does; returns their pids too."""
    handle = await harness.start(TREE + then)
    chunks = harness.runtime.logs(handle, 0)
    seen = b""
    async with asyncio.timeout(DEADLINE_SECS):
        async for chunk in chunks:
            seen += chunk.data
            if len(_pids(seen)) == 4:
                break
    await chunks.aclose()
    return handle, _pids(seen)


@pytest.mark.parametrize("grace_secs", [0, 0.1])
async def test_a_stop_ends_the_whole_tree(harness: ProcessHarness, grace_secs: float) -> None:
    handle, pids = await _start_tree(harness)
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
    pids = _pids(await read_until(harness.runtime, handle, b"\n"))
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

FILL = "import time\nheld = []\nwhile True: held.append(b'x' * 4_000_000); time.sleep(0.005)"


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


# Losing the processes around an attempt


async def _await_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECS):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize("spawner_too", [False, True])
async def test_a_killed_keeper_takes_its_tree_along(harness: ProcessHarness, spawner_too: bool) -> None:
    handle, pids = await _start_tree(harness)
    waiting = asyncio.create_task(harness.runtime.wait(handle))
    spawner = harness.runtime.spawner_pid
    assert spawner is not None
    if spawner_too:
        os.kill(spawner, signal.SIGKILL)
        await _await_true(lambda: not is_alive(spawner))
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
    again = ProcessRuntime(harness.root)
    assert await again.wait(handle) == await again.stop(handle, 0) == ended
    await again.close()


def _index_of_hidden(pids: list[int]) -> int:
    hidden = [index for index, pid in enumerate(pids) if not Path(f"/proc/{pid}/environ").read_bytes()]
    assert len(hidden) == 1
    return hidden[0]


async def test_a_hung_keeper_does_not_hold_a_stop(harness: ProcessHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_HUNG_SECS", 0.2)
    handle, pids = await _start_tree(harness)
    os.kill(harness.keeper_of(handle), signal.SIGSTOP)
    async with asyncio.timeout(DEADLINE_SECS):
        assert (await harness.runtime.stop(handle, 0)).error == "lost"
    assert_nothing_left(handle, pids)


async def test_a_killed_spawner_is_replaced(harness: ProcessHarness) -> None:
    survivor = await harness.start("import time; print('ready', flush=True); time.sleep(600)")
    spawner = harness.runtime.spawner_pid
    assert spawner is not None
    os.kill(spawner, signal.SIGKILL)
    handle = await harness.start("import os; os._exit(3)")
    assert (await end_of(harness.runtime, handle)).code == 3
    assert harness.runtime.spawner_pid != spawner
    assert [seen.phase for seen in await harness.runtime.inspect([survivor])] == [Phase.RUNNING]
    await harness.runtime.stop(survivor, 0)


async def test_the_spawner_ends_with_its_server(harness: ProcessHarness) -> None:
    spawner = harness.runtime.spawner_pid
    assert spawner is not None
    await harness.runtime.close()
    assert not is_alive(spawner)


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
    second = ProcessRuntime(harness.root)
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
    arguments = [str(harness.root), msgspec.json.encode(specs).decode(), moment]
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
        await harness.runtime._spawn(directory, launch)
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
    again = ProcessRuntime(harness.root)
    await again.open()
    await again.close()
    assert list(harness.root.iterdir()) == []
