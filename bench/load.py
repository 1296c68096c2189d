"""A load generator: a fixed number of requests over kept-alive connections, as fast as the server answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvloop
from servers import TOKEN, Server


def request(method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    """The bytes of an HTTP request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\n"
    if body or method in ("POST", "PUT"):
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class _Connection(asyncio.Protocol):
    """Sends one request after the other, taken from an iterator all connections share."""

    def __init__(self, requests: Iterator[bytes], ended: Callable[[str | None], None], bodies: list[bytes]) -> None:
        self._requests = requests
        self._ended = ended
        self._bodies = bodies
        self._buffer = bytearray()
        self.latencies: list[float] = []
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._next()

    def _next(self) -> None:
        found = next(self._requests, None)
        if found is None:
            self._transport.close()
            self._ended(None)
            return
        self._sent_at = time.perf_counter()
        self._transport.write(found)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(buffer[:end]).lower()
        start = head.find(b"content-length:")
        if start >= 0:
            line_end = head.find(b"\r\n", start)
            length = int(head[start + 15 : line_end if line_end >= 0 else len(head)])
            if len(buffer) < end + 4 + length:
                return
        elif b"transfer-encoding: chunked" in head and not buffer.endswith(b"\r\n0\r\n\r\n"):
            return
        if head[9:10] != b"2":
            self._transport.close()
            self._ended(bytes(buffer[:2000]).decode("latin-1"))
            return
        self.latencies.append(time.perf_counter() - self._sent_at)
        self._bodies.append(bytes(buffer[end + 4 :]))
        buffer.clear()
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._ended(repr(error))


class Result:
    """How long a number of requests took, and what they cost the server."""

    def __init__(self, secs: float, cpu_secs: float, latencies: Sequence[float], bodies: list[bytes]) -> None:
        self.secs = secs
        self.per_sec = len(latencies) / secs
        self.cpu_micros = cpu_secs / len(latencies) * 1e6
        self.latencies = sorted(latencies)
        self.bodies = bodies


def run(server: Server, requests: Sequence[bytes], *, connections: int = 32) -> Result:
    """Send all ``requests``; any answer that is not 2xx is an error."""

    async def all_sent() -> Result:
        loop = asyncio.get_running_loop()
        shared = iter(requests)
        finished = asyncio.Event()
        left, failure, bodies = connections, "", list[bytes]()

        def ended(error: str | None) -> None:
            nonlocal left, failure
            left -= 1
            failure = failure or error or ""
            if left == 0 or error:
                finished.set()

        cpu = server.cpu_secs()
        began = time.perf_counter()
        made = [
            await loop.create_connection(
                lambda: _Connection(shared, ended, bodies), server.address.hostname, server.address.port
            )
            for _ in range(connections)
        ]
        await finished.wait()
        secs = time.perf_counter() - began
        if failure:
            raise RuntimeError(f"a request failed: {failure}")
        latencies = [latency for _, protocol in made for latency in protocol.latencies]
        assert len(latencies) == len(requests)
        return Result(secs, server.cpu_secs() - cpu, latencies, bodies)

    return uvloop.run(all_sent())
