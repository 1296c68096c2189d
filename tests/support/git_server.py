"""Real Git repositories, and an HTTP server that gives them out: the smart way, or as plain files."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_WHO = ("-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main")


def git(folder: Path, *words: str) -> str:
    """What ``git`` says, without the configuration of this machine."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", *_WHO, "-c", "protocol.file.allow=always", *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(folder: Path, files: Mapping[str, str], message: str = "A change") -> str:
    """Commit files to a repository, which is made where there is none; returns the commit."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")


class GitServer:
    """Serves the repositories below ``root`` at ``url``; ``authorization`` is the header it asks for, if any.

    ``stalls``: requests are taken and never answered, until the server is closed.
    """

    def __init__(self, root: Path, *, smart: bool = True, authorization: str | None = None) -> None:
        self.root = root
        self.smart = smart
        self.authorization = authorization
        self.stalls = False
        self.asked = threading.Event()
        self.seen: list[tuple[str, str | None]] = []
        self._end = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def do_POST(self) -> None:
                outer._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._end.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, call: BaseHTTPRequestHandler) -> None:
        self.seen.append((call.path, call.headers.get("Authorization")))
        self.asked.set()
        if self.stalls:
            self._end.wait(60)
            return
        if self.authorization is not None and call.headers.get("Authorization") != self.authorization:
            call.send_response(401)
            call.send_header("WWW-Authenticate", 'Basic realm="git"')
            call.send_header("Content-Length", "0")
            call.end_headers()
        elif self.smart:
            self._run_backend(call)
        else:
            self._send_file(call)

    def _send_file(self, call: BaseHTTPRequestHandler) -> None:
        path = self.root / call.path.partition("?")[0].lstrip("/")
        content = path.read_bytes() if path.is_file() else b""
        call.send_response(200 if path.is_file() else 404)
        call.send_header("Content-Length", str(len(content)))
        call.end_headers()
        call.wfile.write(content)

    def _run_backend(self, call: BaseHTTPRequestHandler) -> None:
        path, _, query = call.path.partition("?")
        body = call.rfile.read(int(call.headers.get("Content-Length") or 0))
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": call.command,
            "CONTENT_TYPE": call.headers.get("Content-Type") or "",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": call.headers.get("Content-Encoding") or "",
            "GIT_PROTOCOL": call.headers.get("Git-Protocol") or "",
        }
        done = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
        status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
        call.send_response(status)
        for name, value in headers:
            if name != "Status":
                call.send_header(name, value)
        call.send_header("Content-Length", str(len(content)))
        call.end_headers()
        call.wfile.write(content)
