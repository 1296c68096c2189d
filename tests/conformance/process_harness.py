"""Python programs as Actors of a process runtime, and a look at what is left of them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from actorium.kit import new_id
from actorium.runtimes import Exit, Handle, Image, RunSpec
from actorium.runtimes.process import ProcessRuntime
from conformance.runtimes import (
    DEADLINE_SECS,
    Act,
    joined,
    no_checkpoint,
    read_all,
)


class ProcessHarness:
    """A process runtime below a temporary directory and Python programs to run in it.

    With ``warm`` the programs run in forks of an interpreter that is prepared by ``open``.
    """

    def __init__(self, folder: Path, *, warm: bool = False) -> None:
        self.warm = warm
        self.folder = folder
        self.root = folder / "attempts"
        self.app_dir = folder / "app"
        self.app_dir.mkdir(parents=True)
        (self.app_dir / "hello.txt").write_text("hello")
        self._program = folder / "program.py"
        self._program.write_text("import sys\nexec(compile(sys.argv[1], 'program', 'exec'))\n")
        self.runtime = self.another_runtime()

    def another_runtime(self, **options: int) -> ProcessRuntime:
        """One more on the same attempts, as after a restart of the server."""
        return ProcessRuntime(self.root, warm_interpreters=2 if self.warm else 0, **options)

    async def open(self, runtime: ProcessRuntime | None = None) -> None:
        runtime = runtime or self.runtime
        await runtime.open()
        if self.warm:
            assert await runtime.prepare(self.python("").image, {})

    def run_spec(self, command: list[str], *, memory_mbytes: int = 512, env: dict[str, str] | None = None) -> RunSpec:
        image = Image("native", {"app_dir": str(self.app_dir), "command": command})
        return RunSpec(new_id(), new_id(), image, env or {}, memory_mbytes, 1024)

    def python(self, code: str, *, memory_mbytes: int = 512, env: dict[str, str] | None = None) -> RunSpec:
        program = [str(self._program)] if self.warm else ["-c"]
        command = [sys.executable, "-I", "-S", *program, code]
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


async def end_everything(root: Path) -> None:
    last = ProcessRuntime(root)
    await last.open()
    for handle in await last.list_managed():
        await last.stop(handle, 0)
    await last.close()


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


def pids_in(output: bytes) -> list[int]:
    return [int(line.split()[1]) for line in output.splitlines() if line.startswith(b"pid ")]


async def start_tree(harness: ProcessHarness, then: str = "time.sleep(600)") -> tuple[Handle, list[int]]:
    """A tree of four processes besides what ``then`` does; returns their pids too."""
    handle = await harness.start(TREE + then)
    chunks = harness.runtime.logs(handle, 0)
    seen = b""
    async with asyncio.timeout(DEADLINE_SECS):
        async for chunk in chunks:
            seen += chunk.data
            if len(pids_in(seen)) == 4:
                break
    await chunks.aclose()
    return handle, pids_in(seen)


FILL = "import time\nheld = []\nwhile True: held.append(b'x' * 4_000_000); time.sleep(0.005)"
"""A program that takes memory until it is stopped."""
