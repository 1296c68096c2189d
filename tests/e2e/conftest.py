"""A real server, the stock command line and npm packages, a site to crawl."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from e2e.crawlers import CRAWLERS
from support.crawls import Crawls
from support.databases import new_postgres_database
from support.platform import TOKEN, Platform
from support.site import Site

_HERE = Path(__file__).parent
_NODE = _HERE.parent.parent / ".cache" / "node"
PAGES = 40
WIDE_PAGES = 2000


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One server for all tests of a worker."""
    found = Platform(tmp_path_factory.mktemp("e2e") / "data").start()
    found.first_token()
    yield found
    found.stop()


def platform_on(url: str, data_dir: Path, **env: str) -> Platform:
    """A server that builds and runs in containers of the engine at ``url``."""
    env = {"ACTORIUM_BUILDER": "docker", "ACTORIUM_DOCKER_HOST": url, "ACTORIUM_DOCKER_NETWORK": "actorium-test", **env}
    found = Platform(data_dir, env=env).start()
    found.first_token()
    return found


@pytest.fixture(scope="session")
def docker_platform(docker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One server on the tests' engine for all tests of a worker."""
    found = platform_on(docker_url, tmp_path_factory.mktemp("docker") / "data")
    yield found
    found.stop()


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The npm packages of ``package.json``, installed once for a checkout."""
    wanted = (_HERE / "package.json").read_text()
    _NODE.mkdir(parents=True, exist_ok=True)
    with (_NODE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = _NODE / "installed"
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.copy(_HERE / "package.json", _NODE / "package.json")
            command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--omit=optional"]
            done = subprocess.run(command, cwd=_NODE, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            stamp.write_text(wanted)
    return _NODE / "node_modules"


class Cli:
    """The stock ``apify``, logged in, with a home of its own."""

    def __init__(self, program: Path, home: Path, url: str) -> None:
        self._program = program
        self.home = home
        home.mkdir()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "APIFY_CLIENT_BASE_URL": url,
            "APIFY_CONSOLE_URL": url,
            "APIFY_DISABLE_KEYRING": "1",
            "APIFY_CLI_DISABLE_TELEMETRY": "1",
            "APIFY_CLI_SKIP_UPDATE_CHECK": "1",
        }

    def run(self, *words: str, cwd: Path | None = None) -> tuple[int, str]:
        """The exit code and everything printed."""
        done = subprocess.run(
            [self._program, *words],
            cwd=cwd or self.home,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        return done.returncode, done.stdout + done.stderr

    def ok(self, *words: str, cwd: Path | None = None) -> str:
        code, printed = self.run(*words, cwd=cwd)
        assert code == 0, printed
        return printed


@pytest.fixture
def cli(platform: Platform, node_modules: Path, tmp_path: Path) -> Cli:
    found = Cli(node_modules / ".bin" / "apify", tmp_path / "home", platform.url)
    assert "logged in" in found.ok("login", "--token", TOKEN)
    return found


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Pages 0 to ``PAGES - 1``; each links to the next two, and takes 50 ms."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            threading.Event().wait(0.05)
            number = int(self.path.rpartition("/")[2] or 0)
            links = "".join(f'<a href="/page/{n}">{n}</a>' for n in (number + 1, number + 2) if n < PAGES)
            body = f"<html><head><title>Page {number}</title></head><body>{links}</body></html>".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def wide_site() -> Iterator[Site]:
    """``WIDE_PAGES`` pages that answer at once, each linked from many others."""
    found = Site(WIDE_PAGES)
    yield found
    found.stop()


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def crawls(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, wide_site: Site
) -> Iterator[Crawls]:
    """Crawls of the wide site on a server of their own, for each database one."""
    env = {}
    if request.param == "postgres":
        env["ACTORIUM_DATABASE_URL"] = new_postgres_database(request.getfixturevalue("postgres_server"))
    platform = Platform(tmp_path_factory.mktemp("crawls") / "data", env=env).start()
    platform.first_token()
    yield Crawls(platform, wide_site, CRAWLERS)
    platform.stop()
