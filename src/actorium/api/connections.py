"""HTTP connections: uvicorn's, with the head and the body of an answer sent together."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

KEEP_ALIVE_SECS = 75
"""How long an idle connection stays open; longer than clients keep one in their pools."""

_JOINED_BYTES = 64 * 1024


class _JoinedWrites:
    """A transport that holds an answer's head back until its body follows, or until the next turn of the loop.

    uvicorn writes them one after the other, which costs a second system call here and wakes the client twice.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._flushing: asyncio.Handle | None = None
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send ``data``, or keep it for a moment if it is a head."""
        if self._head:
            head = self._take()
            if len(data) <= _JOINED_BYTES:
                self._transport.write(head + data)
                return
            self._transport.write(head)
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._flushing = self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def _take(self) -> bytes:
        head, self._head = self._head, b""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        return head

    def _flush(self) -> None:
        if self._head:
            self._transport.write(self._take())

    def close(self) -> None:
        """Send what is held back, then close."""
        self._flush()
        self._transport.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection over, to a websocket."""
        self._flush()
        self._transport.set_protocol(protocol)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """One HTTP connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to serve."""
        super().connection_made(cast("asyncio.Transport", _JoinedWrites(transport, self.loop)))
