"""The peer Scrapyd from PyPI, beside runs of ours with Scrapy: from the order to the spider's own code, and to its end.

``python bench/scrapyd_peer.py`` installs Scrapyd and Scrapy into ``.cache/bench`` on the first call.
Scrapyd starts one job per poll; it is measured with its defaults, a poll each 5 s and cancelling by SIGTERM, and
with 0.1 s and SIGKILL. An end is ordered by
``cancel.json`` there and an immediate abort here, and is there when the process is gone, here when the run is ABORTED.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import uv
from servers import start_ours

from runs import build, ended, row, start

VENV = Path(__file__).parent.parent / ".cache" / "bench"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "40")) // 8 or 1
SPIDER = """
import os, time
from pathlib import Path
Path({mark!r} + ".new").write_text(f"{{time.time_ns()}} {{os.getpid()}}")
os.rename({mark!r} + ".new", {mark!r})
# Scrapyd also imports it to list the spiders.
if os.environ.keys() & {{"SCRAPY_JOB", "ACTOR_RUN_ID"}}:
    time.sleep(600)
import scrapy

class Probe(scrapy.Spider):
    name = "probe"
    start_urls = []
"""
SETUP = """
from setuptools import find_packages, setup
setup(name="probe", version="1", packages=find_packages(), entry_points={"scrapy": ["settings = probe.settings"]})
"""


def install() -> Path:
    python = VENV / "bin" / "python"
    if not (VENV / "bin" / "scrapyd").exists():
        tool = uv.find_uv_bin()
        subprocess.run([tool, "venv", "--quiet", VENV], check=True)
        packages = ["scrapyd>=1.5,<2", "scrapy>=2.11", "setuptools<81"]
        subprocess.run([tool, "pip", "install", "--quiet", "--python", python, *packages], check=True)
    return python


def egg(python: Path, folder: Path, mark: Path) -> bytes:
    package = folder / "project" / "probe"
    (package / "spiders").mkdir(parents=True)
    for name in ("__init__.py", "spiders/__init__.py"):
        (package / name).write_text("")
    (package / "settings.py").write_text('SPIDER_MODULES = ["probe.spiders"]\n')
    (package / "spiders" / "probe.py").write_text(SPIDER.format(mark=str(mark)))
    (folder / "project" / "setup.py").write_text(SETUP)
    command = [python, "setup.py", "-q", "bdist_egg"]
    subprocess.run(command, cwd=folder / "project", check=True, capture_output=True)
    return next((folder / "project" / "dist").glob("*.egg")).read_bytes()


def call(url: str, fields: dict[str, bytes]) -> dict[str, object]:
    boundary = "----boundary"
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'.encode()
        + value
        + b"\r\n"
        if name == "egg"
        else f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in fields.items()
    )
    request = urllib.request.Request(url, body + f"--{boundary}--\r\n".encode())
    request.add_header("Content-Type", f"multipart/form-data; boundary={boundary}")
    found: dict[str, object] = json.loads(urllib.request.urlopen(request, timeout=60).read())
    assert found["status"] == "ok", found
    return found


class Times(NamedTuple):
    """Seconds from an order until the spider's own code runs, and until it is gone."""

    start: list[float]
    end: list[float]


def measured(mark: Path, begin: Callable[[], str], cancel: Callable[[str], None]) -> Times:
    """``cancel`` returns when its system says that the job is over, or has taken the order."""
    found = Times([], [])
    for _ in range(ROUNDS):
        mark.unlink(missing_ok=True)
        began = time.time_ns()
        job = begin()
        while not mark.exists():
            time.sleep(0.001)
        at, pid = mark.read_text().split()
        found.start.append((int(at) - began) / 1e9)
        time.sleep(0.5)
        ordered = time.perf_counter()
        cancel(job)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.001)
        found.end.append(time.perf_counter() - ordered)
        time.sleep(1)
    return found


def scrapyd(python: Path, poll_secs: float, signal: str) -> Times:
    folder = Path(tempfile.mkdtemp(prefix="bench-scrapyd-"))
    mark = folder / "mark"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = f"[scrapyd]\nbind_address = 127.0.0.1\nhttp_port = {port}\npoll_interval = {poll_secs}\n"
    (folder / "scrapyd.conf").write_text(config)
    server = subprocess.Popen(
        [python.with_name("scrapyd")], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/daemonstatus.json", timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        call(f"{url}/addversion.json", {"project": b"probe", "version": b"1", "egg": egg(python, folder, mark)})

        def begin() -> str:
            return str(call(f"{url}/schedule.json", {"project": b"probe", "spider": b"probe"})["jobid"])

        def cancel(job: str) -> None:
            call(f"{url}/cancel.json", {"project": b"probe", "job": job.encode(), "signal": signal.encode()})

        return measured(mark, begin, cancel)
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def ours() -> Times:
    folder = Path(tempfile.mkdtemp(prefix="bench-actorium-"))
    mark = folder / "mark"
    server = start_ours(folder)
    try:
        dockerfile = (
            "FROM apify/actor-python:3.11\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\nCOPY . ./\n"
            'CMD ["python", "-m", "scrapy", "runspider", "probe.py"]\n'
        )
        files = {
            "Dockerfile": dockerfile,
            "requirements.txt": "scrapy>=2.11\n",
            "probe.py": SPIDER.format(mark=str(mark)),
        }
        actor = build(server, "probe", files)

        def cancel(run_id: str) -> None:
            server.call("POST", f"/v2/actor-runs/{run_id}/abort")
            assert ended(server, run_id) == "ABORTED"

        return measured(mark, lambda: start(server, actor, 1024), cancel)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    python = install()
    mine = ours()
    row("Actorium: start to the spider's own code", mine.start)
    row("Actorium: abort to the committed end", mine.end)
    for poll_secs, signal in ((5.0, "TERM"), (0.1, "KILL")):
        theirs = scrapyd(python, poll_secs, signal)
        row(f"Scrapyd, polling every {poll_secs:g} s: schedule to code", theirs.start, mine.start)
        row(f"Scrapyd: cancel with {signal} until it is gone", theirs.end, mine.end)


if __name__ == "__main__":
    main()
