"""Logs over HTTP, with the stock client and with clients that misbehave."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from apify_client import ApifyClientAsync
from apify_client._streamed_log import StreamedLogAsync

from actorium.api.http import Api
from actorium.api.logs import Logs
from actorium.domain.errors import not_found
from actorium.domain.models import User
from actorium.kit import SystemClock
from actorium.services.access import Access, Principal, RunOwner, TokenOwner, hash_token
from actorium.storage.logs import LogStore
from fakes.accounts import NoAuditLog, NoScopes, NoSessions

AT_MS = 1_788_167_605_123
STAMP = "2026-08-31T09:13:25.123Z "
TOKEN = "actorium_api_test"
RED = b"\x1b[31mred\x1b[0m\x07"


class Accounts:
    """One user with one token."""

    async def find_token(self, token_hash: str) -> TokenOwner | None:
        return TokenOwner("token1", "user1", "jane", None) if token_hash == hash_token(TOKEN) else None

    async def note_use(self, token_id: str, now: int) -> None:
        return

    async def find_run_owner(self, run_id: str) -> RunOwner | None:
        return None

    async def find_user(self, id_or_username: str) -> User | None:
        return None


class Jobs:
    """Runs by id: whether they are over. ``public1`` needs no token."""

    def __init__(self) -> None:
        self.over = {"run1": False, "public1": True}

    async def find_job(self, principal: Principal | None, job_id: str) -> str:
        if job_id not in self.over or (principal is None and job_id != "public1"):
            raise not_found("Actor run or build")
        return job_id

    async def is_over(self, job_id: str) -> bool:
        return self.over.get(job_id, True)


class Server:
    """A real server with the log routes."""

    def __init__(self, root: Path) -> None:
        self.store = LogStore(root)
        self.jobs = Jobs()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        access = Access(Accounts(), SystemClock(), b"k" * 32)
        routes = Logs(self.store, self.jobs).routes()
        self.api = Api(routes, access, None, lambda _caller, _bytes: None, NoScopes(), NoSessions(), NoAuditLog())
        self.client = ApifyClientAsync(TOKEN, api_url=f"http://127.0.0.1:{self.port}", max_retries=0)

    async def request(self, target: str, method: str = "GET", token: str | None = TOKEN) -> asyncio.StreamReader:
        """Send a request; the answer is read by the caller."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**24)
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{authorization}Connection: close\r\n\r\n".encode())
        self.writer = writer
        return reader

    async def get(self, target: str, method: str = "GET", token: str | None = TOKEN) -> tuple[str, bytes]:
        """Head and (decoded) body of an answer."""
        reader = await self.request(target, method, token)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        body = b""
        if "transfer-encoding: chunked" in head:
            while chunk := await read_chunk(reader):
                body += chunk
        else:
            body = await reader.read()
        self.writer.close()
        await self.writer.wait_closed()
        return head, body


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    """One chunk of a chunked body, empty at its end."""
    size = int(await reader.readuntil(b"\r\n"), 16)
    return (await reader.readexactly(size + 2))[:-2]


@asynccontextmanager
async def running(root: Path) -> AsyncIterator[Server]:
    server = Server(root)
    config = uvicorn.Config(server.api, lifespan="off", log_config=None, http="httptools", ws="none")
    uvicorn_server = uvicorn.Server(config)
    serving = asyncio.create_task(uvicorn_server.serve([server.listener]))
    try:
        async with asyncio.timeout(60):
            yield server
    finally:
        await server.store.stop()
        uvicorn_server.should_exit = True
        await serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path / "logs") as server:
        yield server


async def fill(server: Server, job_id: str = "run1") -> None:
    server.store.open(job_id)
    await server.store.append(job_id, AT_MS, b"plain \xe6\xbc\xa2\nin " + RED + b"\rover\n")
    await server.store.finish(job_id)
    server.jobs.over[job_id] = True


async def test_a_snapshot_is_clean_text(server: Server) -> None:
    await fill(server)
    head, body = await server.get("/v2/logs/run1")
    assert head.startswith("http/1.1 200")
    assert "content-type: text/plain; charset=utf-8" in head
    assert "\r\ncontent-disposition:" not in head
    assert body.decode() == f"{STAMP}plain 漢\n{STAMP}in redover\n"


async def test_raw_is_unchanged(server: Server) -> None:
    await fill(server)
    _, body = await server.get("/v2/logs/run1?raw=1")
    assert body == await server.store.read("run1", 0, 10_000)
    assert RED in body


async def test_a_download_has_a_file_name(server: Server) -> None:
    await fill(server)
    head, body = await server.get("/v2/logs/run1?download=true")
    assert 'content-disposition: attachment; filename="run1.log"' in head
    assert body.endswith(b"over\n")


async def test_head_has_no_body(server: Server) -> None:
    await fill(server)
    for query in ("", "?stream=1"):
        head, body = await server.get(f"/v2/logs/run1{query}", "HEAD")
        assert head.startswith("http/1.1 200")
        assert body == b""


async def test_a_job_without_output_has_an_empty_log(server: Server) -> None:
    head, body = await server.get("/v2/logs/run1")
    assert (head[:12], body) == ("http/1.1 200", b"")
    server.jobs.over["run1"] = True
    assert (await server.get("/v2/logs/run1?stream=1"))[1] == b""


async def test_what_may_not_be_read_is_not_found(server: Server) -> None:
    for target, token in (("/v2/logs/unknown", TOKEN), ("/v2/logs/run1", None), ("/v2/logs/..%2F..%2Fx", TOKEN)):
        head, body = await server.get(target, token=token)
        assert head.startswith("http/1.1 404")
        assert b'"type":"record-not-found"' in body
    head, _ = await server.get("/v2/logs/public1", token=None)
    assert head.startswith("http/1.1 200")
    head, body = await server.get("/v2/logs/run1?stream=maybe")
    assert head.startswith("http/1.1 400")
    assert b"stream" in body


async def test_a_stream_sends_headers_at_once_then_whole_lines_then_ends(server: Server) -> None:
    reader = await server.request("/v2/logs/run1?stream=1")
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 200")
    server.store.open("run1")
    for number in range(3):
        await server.store.append("run1", AT_MS, b"line %d\nnext" % number)
        assert (await read_chunk(reader)).decode() == f"{STAMP}{'next' if number else ''}line {number}\n"
    await server.store.finish("run1")
    assert (await read_chunk(reader)).decode() == f"{STAMP}next\n"
    assert await read_chunk(reader) == b""
    server.writer.close()


async def test_a_stream_of_a_queued_run_that_is_aborted_ends(server: Server) -> None:
    reader = await server.request("/v2/logs/run1?stream=1")
    await reader.readuntil(b"\r\n\r\n")
    while not server.store.follower_count("run1"):
        await asyncio.sleep(0)
    server.jobs.over["run1"] = True
    await server.store.finish("run1")
    assert await read_chunk(reader) == b""
    server.writer.close()


async def test_a_client_that_goes_away_ends_its_stream(server: Server) -> None:
    server.store.open("run1")
    tasks_before = len(asyncio.all_tasks())
    for _ in range(3):
        reader = await server.request("/v2/logs/run1?stream=1")
        await reader.readuntil(b"\r\n\r\n")
        while not server.store.follower_count("run1"):
            await asyncio.sleep(0)
        server.writer.close()
        while server.store.follower_count("run1"):
            await asyncio.sleep(0)
    while len(asyncio.all_tasks()) > tasks_before:
        await asyncio.sleep(0)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_a_client_that_does_not_read_costs_no_memory_and_holds_nobody_up(server: Server) -> None:
    server.store.open("run1")
    stuck = socket.create_connection(("127.0.0.1", server.port))
    stuck.sendall(f"GET /v2/logs/run1?stream=1&token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    while not server.store.follower_count("run1"):
        await asyncio.sleep(0)
    data = b"x" * 99 + b"\n"
    for _ in range(20):
        await server.store.append("run1", AT_MS, data * 650)
    await server.store.checkpoint("run1")
    before = resident_bytes()
    for _ in range(1_500):
        await server.store.append("run1", AT_MS, data * 650)
    await server.store.checkpoint("run1")
    assert resident_bytes() - before < 30_000_000
    assert await server.store.size("run1") == 1_520 * 650 * 125
    stuck.close()
    while server.store.follower_count("run1"):
        await asyncio.sleep(0)


async def test_the_stock_client_reads_and_redirects_a_log(server: Server) -> None:
    heard: list[str] = []
    done = asyncio.Event()

    class Listen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())
            if "half 199" in heard[-1]:
                done.set()

    logger = logging.Logger("redirected")
    logger.addHandler(Listen())
    log_client = server.client.log("run1")
    async with StreamedLogAsync(log_client, to_logger=logger):
        server.store.open("run1")
        for number in range(200):
            await server.store.append("run1", AT_MS, b"line %d \xff\r\nhalf %d\xe6\xbc" % (number, number))
            await server.store.append("run1", AT_MS, b"\xa2\n")
        await server.store.finish("run1")
        server.jobs.over["run1"] = True
        await done.wait()
    expected = [f"{STAMP}{text}" for number in range(200) for text in (f"line {number} \ufffd", f"half {number}漢")]
    assert heard == expected
    assert await log_client.get() == "".join(f"{line}\n" for line in expected)
    assert await server.client.log("unknown").get() is None
    assert re.fullmatch(r"(\S{24} [^\n]*\n)*", await log_client.get(raw=True) or "") is not None
