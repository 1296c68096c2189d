"""The peer Scrapyd from PyPI: schedule a spider until its first own line, beside a run of ours with Scrapy.

``python bench/scrapyd_peer.py`` installs Scrapyd and Scrapy into ``.cache/bench`` on the first call.
Scrapyd starts one job per poll; it is measured with its default interval of 5 s and with 0.1 s.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import uv

sys.path.insert(0, str(Path(__file__).parent))
from runs import Server, row

VENV = Path(__file__).parent.parent / ".cache" / "bench"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "40")) // 8 or 1
SPIDER = """
import time
from pathlib import Path
Path({mark!r}).write_text(str(time.time_ns()))
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


def measured(mark: Path, start: object) -> float:
    mark.unlink(missing_ok=True)
    began = time.time_ns()
    start()  # type: ignore[operator]
    while not mark.exists() or not (text := mark.read_text()):
        time.sleep(0.001)
    return (int(text) - began) / 1e9


def scrapyd(python: Path, poll_secs: float) -> list[float]:
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
        found = []
        for _ in range(ROUNDS):
            found.append(
                measured(mark, lambda: call(f"{url}/schedule.json", {"project": b"probe", "spider": b"probe"}))
            )
            time.sleep(1.5)
        return found
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def ours() -> list[float]:
    folder = Path(tempfile.mkdtemp(prefix="bench-actorium-"))
    mark = folder / "mark"
    server = Server(folder)
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
        actor = server.build("probe", files)
        found = []
        for _ in range(ROUNDS):
            found.append(measured(mark, lambda: server.start(actor)))
            time.sleep(1.5)
        return found
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    python = install()
    mine = ours()
    row("Actorium: start to the spider's own code", mine)
    for poll_secs in (5.0, 0.1):
        theirs = scrapyd(python, poll_secs)
        row(f"Scrapyd, poll interval {poll_secs:g} s", theirs)
        print(f"  ratio {statistics.median(theirs) / statistics.median(mine):.1f}")


if __name__ == "__main__":
    main()
