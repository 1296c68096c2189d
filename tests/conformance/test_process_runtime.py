"""The process runtime: the contract, output, environment and starts, with real processes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from actorium.runtimes import Handle, Phase, StartError
from actorium.runtimes.process import ProcessRuntime
from conformance.process_harness import ProcessHarness, assert_nothing_left, end_of
from conformance.runtimes import (
    SCENARIOS,
    Harness,
    joined,
    no_checkpoint,
    read_all,
    read_until,
)


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
    small = harness.another_runtime(max_spool_bytes=200_000)
    code = "import os\nfor i in range(100): os.write(1, b'%099d\\n' % i * 100)\nos._exit(6)"
    await harness.open(small)
    handle = await small.start(harness.python(code), no_checkpoint)
    data = joined(await read_all(harness.runtime, handle))
    await small.close()
    kept, _, note = data.rpartition(b"ACTOR: ")
    assert note == b"output beyond 200000 bytes is not kept\n"
    assert 100_000 < len(kept) <= 200_000
    assert (await end_of(harness.runtime, handle)).code == 6


async def test_output_that_cannot_be_written_does_not_stop_the_process(harness: ProcessHarness) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = harness.another_runtime()
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))
    try:
        await harness.open(full)
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
    own = harness.another_runtime()
    with socket.socket() as inheritable:
        inheritable.set_inheritable(True)
        await harness.open(own)
        handle = await own.start(harness.python(code), no_checkpoint)
        seen = json.loads(joined(await read_all(own, handle)))
        ignored = await own.start(harness.run_spec(["grep", "SigIgn", "/proc/self/status"]), no_checkpoint)
        # 32 and 33 belong to the C library, and Python cannot set them: whoever started the tests decides.
        of_the_c_library = 1 << 31 | 1 << 32
        assert int(joined(await read_all(own, ignored)).split()[1], 16) & ~of_the_c_library == 0
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
