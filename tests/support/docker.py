"""A Docker engine for the tests: one of their own for the session, with images kept from run to run.

``--docker`` starts it (as root). ``ACTORIUM_TEST_DOCKER`` names a running one to use instead; it gets images
with the official names.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

import pytest

from actorium.runtimes.docker.engine import DockerEngine
from support.docker_images import ensure_images
from support.platform import wait_for

VARIABLE = "ACTORIUM_TEST_DOCKER"
_CACHE = Path(__file__).parents[2] / ".cache" / "docker"
_START_SECS = 60.0


class Engine:
    """A Docker engine as a process of the tests. It can be stopped, killed and started again."""

    def __init__(self, data: Path | None = None) -> None:
        # A unix socket's path is limited to 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="actorium-docker-", dir="/tmp"))
        self._data = data or self.folder / "data"
        self.url = f"unix://{self.folder}/docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *options: str) -> None:
        """Start it and wait until it answers."""
        dockerd = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if dockerd is None:
            pytest.fail("--docker needs dockerd (Debian: docker.io), which is not installed")
        if os.geteuid() != 0:
            pytest.fail(f"--docker needs root to start an engine; set {VARIABLE} to the URL of a running one")
        command = [dockerd, "--data-root", str(self._data), "--exec-root", str(self.folder / "exec")]
        # Engines leave their bridges behind, and the usual pools have room for 31.
        command += ["--default-address-pool", "base=10.64.0.0/10,size=24"]
        command += ["-H", self.url, "--pidfile", str(self.folder / "pid"), "--log-level", "warn", *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
        asyncio.run(self._answers())

    async def _remove_networks(self) -> None:
        engine = DockerEngine(self.url)
        try:
            for container in await engine.call("GET", "containers/json", params={"all": "1"}):
                await engine.call("DELETE", f"containers/{container['Id']}", params={"force": "1"})
            await engine.call("POST", "networks/prune")
        finally:
            await engine.close()

    async def _answers(self) -> None:
        engine = DockerEngine(self.url)
        deadline = time.monotonic() + _START_SECS
        try:
            while True:
                try:
                    await engine.call("GET", "info")
                    return
                except ConnectionError:
                    if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                        pytest.fail(f"dockerd does not start: {(self.folder / 'log').read_text()[-3000:]}")
                await asyncio.sleep(0.05)
        finally:
            await engine.close()

    def stop(self) -> None:
        """End it; it ends its containers first."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """``kill -9``; its containers live on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)
        self._process = None
        # Its containerd goes with it. The next engine would take one for alive that nobody has reaped yet.
        pid_file = self.folder / "exec" / "containerd" / "containerd.pid"
        wait_for(lambda: _is_over(int(pid_file.read_text())))
        pid_file.unlink()

    def close(self) -> None:
        """End it with all that is left of its containers, and remove its folder."""
        if self._process is None:
            # It was killed: only an engine can end its containers.
            self.start()
        if self._data.is_relative_to(self.folder):
            # Nobody will know its networks any more, and a machine has addresses for about thirty.
            asyncio.run(self._remove_networks())
        self.stop()
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if (mount := line.split()[1]).startswith(str(self.folder)):
                subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class _Session:
    """The engine of a test session, and the lock on its images."""

    def __init__(self) -> None:
        self.lock: IO[str] | None = None
        self.engine: Engine | None = None

    def open(self, *, node: bool) -> None:
        _CACHE.mkdir(parents=True, exist_ok=True)
        if VARIABLE not in os.environ:
            self.lock = (_CACHE / "lock").open("w")
            fcntl.flock(self.lock, fcntl.LOCK_EX)
            self.engine = Engine(_CACHE / "data")
            self.engine.start()
            os.environ[VARIABLE] = self.engine.url
        asyncio.run(_prepare(os.environ[VARIABLE], node=node))

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
            del os.environ[VARIABLE]
        if self.lock is not None:
            self.lock.close()


async def _prepare(url: str, *, node: bool) -> None:
    engine = DockerEngine(url)
    try:
        await ensure_images(engine, node=node)
    finally:
        await engine.close()


_session = _Session()


def _is_controller(config: pytest.Config) -> bool:
    return config.getoption("--docker") and not hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """Before the workers are started, so that they inherit the variable."""
    if _is_controller(config):
        _session.open(node=bool(config.getoption("--node")))


def pytest_unconfigure(config: pytest.Config) -> None:
    if _is_controller(config):
        _session.close()


@pytest.fixture(scope="session")
def docker_url() -> str:
    """The URL of the engine for the tests."""
    return os.environ[VARIABLE]


@pytest.fixture
async def docker(docker_url: str) -> AsyncIterator[DockerEngine]:
    """A client of the engine."""
    engine = DockerEngine(docker_url)
    yield engine
    await engine.close()


@pytest.fixture
def own_engine() -> Iterator[Engine]:
    """An engine for one test, which may stop and kill it; it has no images."""
    engine = Engine()
    engine.start()
    yield engine
    with contextlib.suppress(ProcessLookupError):
        os.kill(engine.pid, signal.SIGCONT)
    engine.close()
