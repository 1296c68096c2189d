"""Prepared interpreters: a program cannot tell that it was forked from one, except by what is imported already."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import venv
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actorium.kit import new_id
from actorium.runtimes import Exit, Handle, Image, RunSpec
from actorium.runtimes.process import ProcessRuntime
from actorium.runtimes.python_commands import imported_modules, python_command
from conformance.process_harness import end_everything, end_of, is_alive
from conformance.runtimes import joined, no_checkpoint, read_all, read_until

LOOK = """
import decimal, json, os, signal, sys, tempfile, threading
def look():
    own = sys.modules["__main__"]
    known = {"HOME", "TMPDIR", "ACTORIUM_ATTEMPT"}
    return {
        "argv": sys.argv, "orig_argv": sys.orig_argv[1:], "path": sys.path, "flags": list(sys.flags),
        "main": [__name__, own.__file__, own.__package__, getattr(own.__spec__, "name", None), own.__cached__],
        "same": own.__dict__ is globals(), "builtins": type(own.__builtins__).__name__,
        "environ": {name: value for name, value in os.environ.items() if name not in known},
        "proc": sorted(item for item in open("/proc/self/environ").read().split(chr(0)) if item[:2] == "X="),
        "command": open("/proc/self/cmdline").read().split(chr(0))[1:len(sys.orig_argv)],
        "home": os.environ["HOME"] == os.path.join(os.path.dirname(os.getcwd()), "home"),
        "tmp": tempfile.gettempdir() == os.environ["TMPDIR"],
        "signals": {str(n): str(signal.getsignal(n)) for n in signal.valid_signals()},
        "threads": [thread.name for thread in threading.enumerate()],
        "fds": sorted(os.listdir("/proc/self/fd"))[:-1], "encodings": [sys.stdout.encoding, sys.stdout.line_buffering],
        "shim": [name for name in sys.modules if name.startswith("shim")], "cwd": os.path.basename(os.getcwd()),
        "executable": sys.executable, "prefix": sys.prefix, "traced": sys.gettrace(), "hook": str(sys.excepthook),
        "stdin": sys.stdin.read(), "depth": len(__import__("inspect").stack()) if __name__ != "__main__" else 0,
    }
print(json.dumps(look()))
"""


class Bench:
    """One app, started cold and in a prepared interpreter."""

    def __init__(self, folder: Path) -> None:
        self.app = folder / "app"
        (self.app / "actor").mkdir(parents=True)
        (self.app / "actor/__init__.py").write_text("")
        self.root = folder / "attempts"
        self.cold, self.warm = ProcessRuntime(self.root), ProcessRuntime(self.root, warm_interpreters=1)

    def write(self, code: str) -> None:
        (self.app / "actor/__main__.py").write_text(code)
        (self.app / "main.py").write_text(code)

    def image(self, *command: str) -> Image:
        return Image("native", {"app_dir": str(self.app), "command": list(command), "env": {"IMAGE": "1"}})

    async def start(self, runtime: ProcessRuntime, *command: str, env: dict[str, str] | None = None) -> Handle:
        spec = RunSpec(new_id(), new_id(), self.image(*command), env or {"X": "1"}, 512, 1024)
        return await runtime.start(spec, no_checkpoint)

    async def both(self, *command: str) -> list[tuple[str, Exit]]:
        """Output and exit of a cold and of a prepared start."""
        assert await self.warm.prepare(self.image(*command), {})
        found = []
        for runtime in (self.cold, self.warm):
            handle = await self.start(runtime, *command)
            output = joined(await read_all(runtime, handle)).decode().replace(handle.attempt_id, "ID")
            found.append((output, await end_of(runtime, handle)))
        return found


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    found = Bench(tmp_path)
    await found.cold.open()
    await found.warm.open()
    yield found
    await found.cold.close()
    await found.warm.close()
    await end_everything(found.root)


@pytest.mark.parametrize(
    "words", [["-u", "main.py", "a b"], ["-m", "actor", "x"], ["-I", "main.py"], ["-O", "-m", "actor"]]
)
async def test_a_program_sees_what_it_sees_after_a_cold_start(bench: Bench, words: list[str]) -> None:
    bench.write(LOOK)
    (cold, cold_exit), (warm, warm_exit) = await bench.both(sys.executable, *words)
    assert (cold_exit.code, warm_exit.code) == (0, 0), warm
    seen, expected = json.loads(warm), json.loads(cold)
    assert {name: seen[name] for name in seen if seen[name] != expected[name]} == {}


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("raise SystemExit(3)", 3),
        ("import sys; sys.exit('a reason')", 1),
        ("def f():\n    raise ValueError('no')\ntry:\n    1 / 0\nexcept ZeroDivisionError as e:\n    f()", 1),
        ("import atexit; atexit.register(print, 'bye'); print('hello', end='')", 0),
        ("import threading\nthreading.Timer(0.05, print, ['late']).start()", 0),
        ("import sys; sys.excepthook = lambda *_: print('mine'); 1 / 0", 1),
        ("import signal, os; os.kill(os.getpid(), signal.SIGINT); signal.pause()", None),
        ("import os; os.kill(os.getpid(), 15)", None),
        ("x = (", 1),
        ("import does_not_exist", 1),
        ("import multiprocessing as m, os\nif __name__ == '__main__':\n    m.set_start_method('spawn')\n"
         "    p = m.Process(target=print, args=('child',)); p.start(); p.join(); print(p.exitcode)", 0),
        ("import subprocess, sys; subprocess.run([sys.executable, '-c', 'import os; print(os.environ[\"X\"])'])", 0),
        ("import asyncio\nasync def main(): print(await asyncio.to_thread(int, '7'))\nasyncio.run(main())", 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("words", [["main.py"], ["-m", "actor"]])
async def test_a_program_ends_as_after_a_cold_start(
    bench: Bench, words: list[str], code: str, exit_code: int | None
) -> None:
    bench.write(code)
    (cold, cold_exit), (warm, warm_exit) = await bench.both(sys.executable, *words)
    assert warm == cold
    assert (warm_exit.code, warm_exit.signal) == (cold_exit.code, cold_exit.signal)
    assert cold_exit.code == exit_code


async def test_runs_of_one_interpreter_share_no_chance(bench: Bench) -> None:
    bench.write("import os, random, tempfile, uuid\nprint(random.random(), uuid.uuid4(), tempfile.mktemp())")
    assert await bench.warm.prepare(bench.image(sys.executable, "main.py"), {})
    seen = set()
    for _ in range(3):
        handle = await bench.start(bench.warm, sys.executable, "main.py")
        seen |= set(joined(await read_all(bench.warm, handle)).split())
    assert len(seen) == 9


async def test_dependencies_are_there_and_own_modules_are_not(bench: Bench) -> None:
    (bench.app / "helper.py").write_text("import os\nprint('helper of', os.path.dirname(os.getcwd()))\n")
    bench.write(
        "import sys; print(sorted({'decimal', 'helper', 'wave', 'colorsys'} & sys.modules.keys()))\n"
        "import decimal, helper\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import wave\n"
        "def later():\n    import colorsys\n"
    )
    (cold, _), (warm, _) = await bench.both(sys.executable, "main.py")
    assert cold.splitlines()[0] == "[]"
    assert warm.splitlines()[0] == "['decimal']"
    assert warm.splitlines()[1] == f"helper of {bench.root}/ID"


async def test_a_module_that_starts_a_thread_keeps_the_interpreter_from_being_forked(bench: Bench) -> None:
    home = bench.app.parent / "venv"
    await asyncio.to_thread(venv.create, home, symlinks=True)
    (library,) = home.glob("lib/python3*/site-packages")
    (library / "busy.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    bench.write("import busy, threading; print(threading.active_count())")
    command = str(home / "bin/python"), "main.py"
    assert not await bench.warm.prepare(bench.image(*command), {})
    assert len(bench.warm.spawner_pids) == 1
    handle = await bench.start(bench.warm, *command)
    assert joined(await read_all(bench.warm, handle)) == b"2\n"


async def test_only_so_many_are_kept(bench: Bench) -> None:
    bench.write("print('ran')")
    script, module = bench.image(sys.executable, "main.py"), bench.image(sys.executable, "-u", "-m", "actor")
    assert await bench.warm.prepare(script, {})
    first = bench.warm.spawner_pids[-1]
    assert await bench.warm.prepare(module, {})
    assert len(bench.warm.spawner_pids) == 2
    assert not is_alive(first)


async def test_a_run_outlives_the_interpreter_it_was_forked_from(bench: Bench) -> None:
    bench.write("import os, signal\nprint('ready', flush=True)\nsignal.pause()")
    assert await bench.warm.prepare(bench.image(sys.executable, "main.py"), {})
    handle = await bench.start(bench.warm, sys.executable, "main.py")
    await read_until(bench.warm, handle, b"ready\n")
    prepared = bench.warm.spawner_pids[-1]
    await bench.warm.close()
    assert not is_alive(prepared)
    assert (await bench.cold.stop(handle, 10)).signal == signal.SIGTERM
    usage = await bench.cold.stats(handle)
    assert usage is not None
    assert usage.mem_max_bytes > 1_000_000


async def test_memory_is_limited_as_after_a_cold_start(bench: Bench) -> None:
    bench.write("import decimal\nheld = []\nwhile True: held.append(b'x' * 4_000_000)")
    image = bench.image(sys.executable, "main.py")
    assert await bench.warm.prepare(image, {})
    handle = await bench.warm.start(RunSpec(new_id(), new_id(), image, {}, 128, 256), no_checkpoint)
    assert (await end_of(bench.warm, handle)).oom_killed


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["python", "-u", "-m", "my_actor", "-m"], (["python", "-u"], "my_actor", True, ["-m"])),
        (["/opt/venv/bin/python3.12", "src/main.py"], (["/opt/venv/bin/python3.12"], "src/main.py", False, [])),
        (["python", "-c", "pass"], None),
        (["python", "-X", "dev", "-m", "a"], None),
        (["python"], None),
        (["node", "main.js"], None),
        (["python3", "-m"], None),
        ([], None),
    ],
)
def test_commands(command: list[str], found: Any) -> None:
    seen = python_command(command)
    assert (None if seen is None else (seen.interpreter, seen.name, seen.is_module, seen.arguments)) == found


def test_what_a_program_imports(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/main.py").write_text(
        "import a.b\nfrom c.d import e\nfrom . import f\nfrom .g import h\nimport util\n"
    )
    (tmp_path / "src/util.py").write_text(
        "try:\n    import fast\nexcept ImportError:\n    import slow\nimport src.main"
    )
    (tmp_path / "src/broken.py").write_text("import (")
    assert imported_modules(tmp_path) == ["a.b", "c.d", "fast"]


async def test_many_at_once(bench: Bench) -> None:
    bench.write("import sys; sys.exit(int(sys.argv[1]))")

    async def one(number: int) -> int | None:
        handle = await bench.start(bench.warm, sys.executable, "main.py", str(number))
        return (await end_of(bench.warm, handle)).code

    assert await bench.warm.prepare(bench.image(sys.executable, "main.py", "0"), {})
    assert await asyncio.gather(*map(one, range(30))) == list(range(30))
