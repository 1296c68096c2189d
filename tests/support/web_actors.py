"""Actors with web servers, and a client that reaches them by the host names of their URLs."""

from __future__ import annotations

import gc
import sysconfig
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from support.platform import Platform, wait_for

SERVER = """
import hashlib, json, os, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

seen = {"probes": 0, "gone": 0, "sent": 0, "busy": 0, "most_busy": 0}
lock = threading.Lock()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def log_message(self, *args):
        pass

    def say(self, value, status=200, **headers):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def chunk(self, data):
        self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(data), data))
        seen["sent"] += len(data)

    def body(self):
        if "chunked" in self.headers.get("transfer-encoding", ""):
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("content-length", 0))
            while left:
                part = self.rfile.read(min(left, 1 << 16))
                left -= len(part)
                yield part

    def do_GET(self):
        if "x-apify-container-server-readiness-probe" in self.headers:
            seen["probes"] += 1
            return self.say({"ready": True})
        with lock:
            seen["busy"] += 1
            seen["most_busy"] = max(seen["most_busy"], seen["busy"])
        try:
            self.answer()
        except OSError:
            seen["gone"] += 1
            self.close_connection = True
        finally:
            with lock:
                seen["busy"] -= 1

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = do_GET

    def answer(self):
        path = self.path.partition("?")[0]
        if path == "/upload":
            total, digest, chunks = 0, hashlib.sha256(), 0
            for part in self.body():
                total, chunks = total + len(part), chunks + 1
                digest.update(part)
            return self.say({"total": total, "sha256": digest.hexdigest(), "chunks": chunks})
        if path == "/refuse-upload":
            self.close_connection = True
            self.say({"no": True}, 413, Connection="close")
            # Closing with the upload unread would reset the connection, which can overtake the answer.
            for _ in self.body():
                pass
            return
        body = b"".join(self.body())
        if path == "/seen":
            return self.say(seen)
        if path == "/die":
            os._exit(3)
        if path == "/exit":
            self.say({})
            os._exit(0)
        if path == "/sleep":
            time.sleep(float(self.path.partition("?")[2].split("&")[0]))
            return self.say({"pid": os.getpid()})
        if path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            number = 0
            while True:
                self.chunk(b"data: %d\\n\\n" % number)
                number += 1
                time.sleep(0.05)
        if path == "/big":
            size = int(self.path.partition("?")[2])
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            block = bytes(range(256)) * 1024
            while size:
                part = block[:size]
                self.wfile.write(part)
                size -= len(part)
                seen["sent"] += len(part)
            return
        if path == "/broken":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
            return
        if path == "/silent":
            self.close_connection = True
            return
        if path == "/trailers":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Trailer", "X-Check")
            self.send_header("Connection", "keep-alive, x-private")
            self.send_header("X-Private", "1")
            self.end_headers()
            self.chunk(b"hello")
            self.wfile.write(b"0\\r\\nX-Check: 1\\r\\n\\r\\n")
            return
        if path == "/nothing":
            self.send_response(204)
            self.end_headers()
            return
        if path == "/cookies":
            self.send_response(200)
            self.send_header("Set-Cookie", "a=1")
            self.send_header("Set-Cookie", "b=2")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.say({"method": self.command, "path": self.path, "headers": self.headers.items(), "body": body.decode(),
                  "pid": os.getpid()})

class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

time.sleep(float(os.environ.get("START_SECS", 0)))
server = Server(("127.0.0.1", int(os.environ["ACTOR_WEB_SERVER_PORT"])), Handler)
print("listening", flush=True)
server.serve_forever()
"""
"""An echo that also streams, breaks, sleeps and counts, by path."""

WEBSOCKETS = (
    f"import sys; sys.path.insert(0, {sysconfig.get_path('purelib')!r})"
    """
import os
from websockets.sync.server import serve

def check(connection, request):
    if request.path.startswith("/refused"):
        return connection.respond(418, "no")

def choose(connection, offered):
    return next((name for name in offered if name.startswith("chat.")), None)

def talk(connection):
    path = connection.request.path
    if path == "/count":
        for number in range(3):
            connection.send(str(number))
        connection.close(4002, "enough")
        return
    connection.send(f"hello {path} {connection.subprotocol} {connection.request.headers.get('host')}")
    try:
        for message in connection:
            if message == "bye":
                connection.close(4001, "you said it")
                return
            if message == "die":
                os._exit(1)
            connection.send(message)
    finally:
        print("closed", connection.close_code, connection.close_reason or "-", flush=True)

with serve(talk, "127.0.0.1", int(os.environ["ACTOR_WEB_SERVER_PORT"]), select_subprotocol=choose,
           process_request=check, max_size=2**24) as server:
    print("listening", flush=True)
    server.serve_forever()
"""
)
"""A websocket server: echoes, and closes when told to."""


@asynccontextmanager
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """Reaches every host below ``localhost``, and neither decodes nor gives up."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True, resolver=_Loopback())
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=timeout) as session:
        yield session
    with warnings.catch_warnings():
        # What a server broke off is reported when it is collected: here, not in whatever test comes next.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class _Loopback(aiohttp.abc.AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        assert host.endswith("localhost")
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        return


def serving(platform: Platform, actor_id: str, query: str = "") -> dict[str, Any]:
    """A run whose web server answers."""
    run_id = platform.call("POST", f"/v2/actors/{actor_id}/runs?{query}")["id"]
    wait_for(lambda: is_ready(platform, run_id))
    return platform.run(run_id)


def is_ready(platform: Platform, run_id: str) -> bool:
    """Whether the run's web server has answered; an end of the run ends the test."""
    run = platform.run(run_id)
    assert run["finishedAt"] is None, platform.log_lines(run_id)
    return bool(run["isContainerServerReady"])


def by_path(platform: Platform, run: dict[str, Any]) -> str:
    """The run's web server below the server's own address."""
    slug = (urlsplit(run["containerUrl"]).hostname or "").partition(".")[0]
    return f"{platform.url}/actorium/runs-web/{slug}"
