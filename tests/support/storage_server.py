"""A server with storages as tests see it, and requests that send and show exactly what is on the wire."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apify_client import ApifyClientAsync

from actorium.api.http import Route
from actorium.domain.storages import DefaultStorageIds
from actorium.services.storage_housekeeping import StorageHousekeeping
from actorium.services.storages import ReadCounts
from actorium.storage.db import Database


@dataclass
class Answer:
    """A response as it came over the wire, nothing decoded."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Wire:
    """What is at a URL."""

    url: str

    def client(self, token: str | None = "jane-token") -> ApifyClientAsync:
        return ApifyClientAsync(token, api_url=self.url, api_public_url=self.url, max_retries=0)

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        token: str | None = "jane-token",
    ) -> Answer:
        """``send`` from a thread."""
        # Not in the loop's own threads, which the server in this process may need to answer.
        with ThreadPoolExecutor(1) as thread:
            asked = thread.submit(send, self.url, method, path, body, headers, token)
            return await asyncio.wrap_future(asked)

    async def requests(self, calls: Iterable[tuple[str, str, bytes | None]]) -> list[Answer]:
        """Send many requests (method, path, body) of one user, one after the other over one connection."""
        with ThreadPoolExecutor(1) as thread:
            return await asyncio.wrap_future(thread.submit(self._requests, list(calls)))

    def _requests(self, calls: list[tuple[str, str, bytes | None]]) -> list[Answer]:
        answers = []
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            for method, path, body in calls:
                connection.request(method, path, body, {"Authorization": "Bearer jane-token"})
                response = connection.getresponse()
                answers.append(Answer(response.status, response.headers, response.read()))
        return answers

    async def raw(self, sent: bytes) -> bytes:
        """Send these bytes and return all that comes back before the server closes the connection."""

        def exchange() -> bytes:
            with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
                connection.sendall(sent)
                with connection.makefile("rb") as reader:
                    return reader.read()

        with ThreadPoolExecutor(1) as thread:
            return await asyncio.wrap_future(thread.submit(exchange))

    @property
    def port(self) -> int:
        """Where the server listens."""
        return int(self.url.rpartition(":")[2])


def send(
    url: str,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: dict[str, str] | None = None,
    token: str | None = None,
) -> Answer:
    """Send exactly these headers (and ``Host``, ``Content-Length``)."""
    connection = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=30)
    headers = headers or {}
    try:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        if token is not None:
            connection.putheader("Authorization", f"Bearer {token}")
        for name, value in headers.items():
            connection.putheader(name, value)
        chunked = body is not None and not isinstance(body, bytes)
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        elif body is not None and "Content-Length" not in headers:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body, encode_chunked=chunked)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


@dataclass
class StorageServer(Wire):
    """A running server and the parts behind it."""

    url: str
    database: Database
    blob_directory: Path
    housekeeping: StorageHousekeeping
    reads: ReadCounts
    routes: Sequence[Route] = ()
    runs: dict[str, DefaultStorageIds] = field(default_factory=dict)


def data(answer: Answer) -> Any:
    """The ``data`` of an answer."""
    return json.loads(answer.body)["data"]


def error(answer: Answer) -> tuple[int, str]:
    """Status and type of an error answer."""
    return answer.status, json.loads(answer.body)["error"]["type"]
