"""Running one command of a build: clean environment, live output, ended as a whole tree when cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from actorium.builders import WriteLog
from actorium.kit import kill_marked

_MARKER = "ACTORIUM_BUILD"
_BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_READ_BYTES = 65_536
# How the operator reaches package registries; nothing else of the server's environment is passed on.
_PASSED = (
    "UV_",
    "PIP_",
    "NPM_CONFIG_",
    "SSL_CERT_",
    "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "REQUESTS_CA_BUNDLE",
)
_USER_FILES = {
    "NPM_CONFIG_USERCONFIG": (".npmrc",),
    "PIP_CONFIG_FILE": (".config/pip/pip.conf", ".pip/pip.conf"),
    "UV_CONFIG_FILE": (".config/uv/uv.toml",),
}


def registry_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """The part of ``environ`` and of the user's own configuration that says where packages come from."""
    found = {name: value for name, value in environ.items() if name.upper().startswith(_PASSED)}
    for name, files in _USER_FILES.items():
        for file in files:
            if name not in found and (home / file).is_file():
                found[name] = str(home / file)
    return found


def server_path() -> str:
    """Where programs of the machine are found: the server's own PATH, then the usual folders."""
    return ":".join(filter(None, (os.environ.get("PATH"), _BASE_PATH)))


def find_program(name: str, bin_dirs: Sequence[Path] = ()) -> Path | None:
    """A program by name, in ``bin_dirs`` first."""
    found = shutil.which(name, path=":".join([*map(str, bin_dirs), server_path()]))
    return Path(found) if found else None


class StepRunner:
    """Runs commands of one build. ``home`` is private to it: a step may delete what it finds there."""

    def __init__(self, build_id: str, home: Path, write_log: WriteLog) -> None:
        self._build_id = build_id
        self._write_log = write_log
        self.home = home
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        self._registries = registry_environment(os.environ, Path.home())

    async def run(
        self,
        command: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        bin_dirs: Sequence[Path] = (),
        *,
        given: bytes | None = None,
        keep_output: bool = False,
    ) -> tuple[int, bytes]:
        """Run ``command`` to its end; its output goes to the log, its standard output is returned with ``keep_output``.

        Returns the exit code. When cancelled, every process of the command is gone before this returns.
        """
        full_env = {
            "LANG": "C.UTF-8",
            **self._registries,
            **env,
            "PATH": ":".join([*map(str, bin_dirs), server_path()]),
            "HOME": str(self.home),
            "TMPDIR": str(self.home / "tmp"),
            _MARKER: self._build_id,
        }
        made: list[subprocess.Popen[bytes]] = []
        work = asyncio.ensure_future(
            asyncio.to_thread(self._execute, command, cwd, full_env, made, given, keep_output=keep_output)
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # A process that is only being made must not be left behind.
            while not made and not work.done():
                await asyncio.shield(asyncio.sleep(0.001))
            if made:
                await asyncio.shield(asyncio.to_thread(self._end, made[0]))
            await asyncio.gather(work, return_exceptions=True)
            raise

    def _execute(
        self,
        command: Sequence[str],
        cwd: Path,
        env: dict[str, str],
        made: list[subprocess.Popen[bytes]],
        given: bytes | None,
        *,
        keep_output: bool,
    ) -> tuple[int, bytes]:
        process = self._start(command, cwd, env, keep_output)
        made.append(process)
        return self._follow(process, given, keep_output)

    @staticmethod
    def _start(command: Sequence[str], cwd: Path, env: dict[str, str], keep_output: bool) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            list(command),
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What a next command is given must be free of warnings.
            stderr=subprocess.PIPE if keep_output else subprocess.STDOUT,
            start_new_session=True,
        )

    def _follow(self, process: subprocess.Popen[bytes], given: bytes | None, keep_output: bool) -> tuple[int, bytes]:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("the process was started with pipes")
        kept = []
        warnings = threading.Thread(target=self._pass_on, args=(process.stderr,))
        warnings.start()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(given or b"")
            process.stdin.close()
        while data := os.read(process.stdout.fileno(), _READ_BYTES):
            if keep_output:
                kept.append(data)
            else:
                self._write_log(data)
        process.stdout.close()
        warnings.join()
        return process.wait(), b"".join(kept)

    def _pass_on(self, stream: IO[bytes] | None) -> None:
        if stream is not None:
            while data := os.read(stream.fileno(), _READ_BYTES):
                self._write_log(data)
            stream.close()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        kill_marked(_MARKER, self._build_id)
