"""Servers the benchmarks measure: ours, the bare floor, PostgreSQL. Each is a process of its own."""

from __future__ import annotations

import contextlib
import getpass
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TOKEN = "a-token-for-the-benchmark"
HERE = Path(__file__).parent
_TICKS_PER_SEC = os.sysconf("SC_CLK_TCK")


class Server:
    """A server process that answers ``/actorium/health``, with one kept-alive connection per thread."""

    def __init__(self, command: list[str], folder: Path, environ: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._local = threading.local()
        began = time.perf_counter()
        log_path = folder / "server.log"
        with log_path.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(environ or {})}
            )
        while '"server started"' not in (text := log_path.read_text()):
            assert self.process.poll() is None, text
            time.sleep(0.002)
        start = text.index('"url": "') + len('"url": "')
        self.address = urlsplit(text[start : text.index('"', start)])
        self.call("GET", "/actorium/health")
        self.first_answer_secs = time.perf_counter() - began

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The ``data`` of a JSON answer, or the text of another."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(self.address.netloc)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        text = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError):  # idle for too long
            connection.close()
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
        text = answer.read()
        assert answer.status < 400, text
        if "json" not in (answer.headers["content-type"] or ""):
            return text.decode()
        value = json.loads(text)
        return value.get("data") if isinstance(value, dict) else value

    def cpu_secs(self) -> float:
        """CPU time of the process so far, all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SEC

    def rss_mbytes(self) -> float:
        """Resident memory now."""
        return _status_mbytes(self.process.pid, "VmRSS")

    def forget_peak(self) -> None:
        """Let ``peak_mbytes`` begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak_mbytes(self) -> float:
        """The most resident memory since ``forget_peak``."""
        return _status_mbytes(self.process.pid, "VmHWM")

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def _status_mbytes(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise AssertionError(name)


def start_ours(folder: Path, database_url: str = "", **settings: str) -> Server:
    """``actorium up`` on a fresh data directory."""
    command = [sys.executable, "-m", "actorium", "up", "--data-dir", str(folder / "data"), "--port", "0"]
    command += ["--token", TOKEN]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    environ = {"ACTORIUM_LOG_FORMAT": "json"}
    if database_url:
        environ["ACTORIUM_DATABASE_URL"] = database_url
    return Server(command, folder, environ)


def start_floor(folder: Path, database_url: str = "") -> Server:
    """``floor.py`` on an empty database."""
    return Server([sys.executable, str(HERE / "floor.py"), str(folder / "floor.db"), database_url], folder)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A private PostgreSQL server with nearly its defaults; gives a URL with ``{}`` where a database's name goes."""
    program = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="actorium-bench-pg-", dir="/tmp"))
    is_root = os.geteuid() == 0
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"] if is_root else []
    user = "postgres" if is_root else getpass.getuser()
    if is_root:
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    command = [*prefix, str(program / "initdb"), "-D", str(data), "-U", user, "--auth=trust", "-E", "UTF8"]
    subprocess.run([*command, "--locale=C"], check=True, stdout=subprocess.DEVNULL, cwd="/")
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "shared_buffers=512MB"]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*prefix, str(program / "postgres"), "-D", str(data), *options], stdout=log, stderr=log, cwd="/"
        )
    try:
        while subprocess.run([program / "pg_isready", "-q", "-h", str(folder)], check=False).returncode:
            assert server.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.05)
        for name in ("ours", "floor"):
            subprocess.run([program / "createdb", "-h", str(folder), "-U", user, name], check=True, cwd="/")
        yield f"postgresql://{user}@/{{}}?host={folder}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def for_each_database(measure: Callable[[Server, Server], None]) -> None:
    """Call ``measure`` with ours and the floor on fresh databases: those named on the command line, or both kinds."""
    folder = Path(tempfile.mkdtemp(prefix="actorium-bench-"))
    try:
        for database in sys.argv[1:] or ["sqlite", "postgres"]:
            print(f"{database}; python {sys.version.split()[0]}", flush=True)
            with postgres() if database == "postgres" else contextlib.nullcontext("") as url:
                ours = start_ours(folder / database / "ours", url.format("ours"))
                floor = start_floor(folder / database / "floor", url.format("floor"))
                try:
                    measure(ours, floor)
                finally:
                    ours.stop()
                    floor.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
