"""A real server process with its own data directory, and plain calls to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

TOKEN = "a-token-for-the-tests-only"
DEADLINE_SECS = 60.0


class Refused(Exception):
    """An answer of 400 or above."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.type = body.get("error", {}).get("type") if isinstance(body, dict) else None
        self.message = body.get("error", {}).get("message", "") if isinstance(body, dict) else ""


class Platform:
    """``actorium up`` as a process. ``stop`` and ``kill`` end it, ``start`` starts it again on the same port."""

    def __init__(self, data_dir: Path, *flags: str, env: dict[str, str] | None = None, command: str = "serve") -> None:
        self.data_dir = data_dir
        self.url = ""
        self._flags = list(flags)
        self.env = env or {}
        self._command = command
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self._log = data_dir.parent / f"{data_dir.name}.log"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> Platform:
        before = len(self._log.read_text()) if self._log.exists() else 0
        with self._log.open("a") as log:
            command = [sys.executable, "-m", "actorium", self._command, "--data-dir", str(self.data_dir)]
            command += ["--port", str(self._port), *self._flags]
            env = {**os.environ, **self.env, "ACTORIUM_LOG_FORMAT": "json"}
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True, env=env)

        def ready() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"the server ended: {self.log()[before:]}")
            return '"server started"' in self._log.read_text()[before:]

        wait_for(ready)
        urls = re.findall(r'"url": "(http://[^"]+)"', self.log())
        self.url = urls[-1]
        self._port = int(self.url.rpartition(":")[2])
        return self

    def first_token(self) -> str:
        """Gives the first user the tests' token."""
        self.cli("tokens", "create", "admin", "--token", TOKEN)
        return TOKEN

    def cli(self, *words: str) -> str:
        command = [sys.executable, "-m", "actorium", *words, "--data-dir", str(self.data_dir)]
        env = {**os.environ, **self.env}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def kill(self) -> None:
        """``kill -9``."""
        self._end(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self._end(number)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(DEADLINE_SECS)
            self._process = None

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = TOKEN,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """One call: the ``data`` of the answer, or its text. Raises ``Refused``."""
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=raw, method=method, headers=headers or {})
        if raw is not None and not request.has_header("Content-type"):
            request.add_header("Content-Type", "application/json")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
                is_json = "json" in (answer.headers.get("content-type") or "")
        except urllib.error.HTTPError as error:
            text = error.read()
            try:
                raise Refused(error.code, json.loads(text)) from error
            except ValueError:
                raise Refused(error.code, text) from error
        if not is_json:
            return text.decode()
        value = json.loads(text)
        return value["data"] if isinstance(value, dict) and "data" in value else value

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/v2/actor-runs/{run_id}")
        return found

    def ended(self, run_id: str, secs: float = DEADLINE_SECS) -> dict[str, Any]:
        """The run once it is over."""
        wait_for(lambda: self.call("GET", f"/v2/actor-runs/{run_id}?waitForFinish=10")["finishedAt"] is not None, secs)
        return self.run(run_id)

    def log_lines(self, job_id: str) -> list[str]:
        """The log's lines without their times."""
        return [line.partition("Z ")[2] for line in self.call("GET", f"/v2/logs/{job_id}?raw=1").splitlines()]

    def build_actor(self, name: str, files: Mapping[str, str], **fields: Any) -> str:
        """An Actor with a finished build; returns its id."""
        sources = [{"name": path, "format": "TEXT", "content": text} for path, text in files.items()]
        version = {"versionNumber": "0.0", "sourceType": "SOURCE_FILES", "buildTag": "latest", "sourceFiles": sources}
        actor = self.call("POST", "/v2/actors", {"name": name, "versions": [version], **fields})
        build = self.call("POST", f"/v2/actors/{actor['id']}/builds?version=0.0&useCache=1")
        wait_for(lambda: self.call("GET", f"/v2/actor-builds/{build['id']}?waitForFinish=10")["finishedAt"] is not None)
        built = self.call("GET", f"/v2/actor-builds/{build['id']}")
        assert built["status"] == "SUCCEEDED", self.log_lines(build["id"])
        return str(actor["id"])


def python_actor(code: str) -> dict[str, str]:
    """The files of an Actor that is one Python module without dependencies."""
    return {
        "Dockerfile": 'FROM apify/actor-python:3.11\nCOPY . ./\nCMD ["python", "-S", "-u", "main.py"]\n',
        "main.py": code,
    }


def wait_for(condition: Callable[[], Any], secs: float = DEADLINE_SECS) -> None:
    """Return once ``condition`` holds; it is asked every 20 ms."""
    deadline = time.monotonic() + secs
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("this did not happen in time")
        time.sleep(0.02)


def processes_of(run_id: str) -> list[int]:
    """Living processes that carry the run's id in their environment."""
    return [pid for pid, variables in _environments() if variables.get("ACTOR_RUN_ID") == run_id]


def attempts_alive() -> dict[str, dict[str, set[int]]]:
    """Living processes on this machine by run and attempt."""
    found: dict[str, dict[str, set[int]]] = {}
    for pid, variables in _environments():
        if "ACTOR_RUN_ID" in variables:
            of_run = found.setdefault(variables["ACTOR_RUN_ID"], {})
            of_run.setdefault(variables.get("ACTORIUM_ATTEMPT", ""), set()).add(pid)
    return found


def _environments() -> Iterator[tuple[int, dict[str, str]]]:
    for name in (entry.name for entry in Path("/proc").iterdir()):
        if name.isdigit():
            try:
                environ = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if b"ACTOR_RUN_ID=" in environ:
                pairs = (pair.partition("=") for pair in environ.decode(errors="replace").split("\0"))
                yield int(name), {key: value for key, _, value in pairs}
