"""The engine's log stream, taken apart: frames with a time stamp each, joined to chunks at known offsets."""

from __future__ import annotations

import calendar
import struct
import time
from collections.abc import Iterator

from actorium.runtimes import LogChunk

_HEADER = struct.Struct(">BxxxL")
_JOIN_BYTES = 128 * 1024
_STAMP_SECOND = len("2026-11-24T12:15:43")


class OutputReader:
    """Makes chunks of the stream of a container's whole output, leaving out the first ``since`` bytes of it.

    The stream has one frame for each piece of output; with ``timestamps`` it begins with the time at which
    the engine read it, and a blank. docs: Docker Engine API, attach and logs of a container.
    """

    def __init__(self, since: int) -> None:
        self._since = since
        self._position = 0
        self._buffer = bytearray()
        self._at_ms = 0
        self._second = b""
        self._second_ms = 0

    def feed(self, data: bytes) -> Iterator[LogChunk]:
        """The chunks that ``data``, the next part of the stream, completes."""
        self._buffer += data
        joined = bytearray()
        joined_at_ms = 0
        for payload in self._frames():
            at_ms, piece = self._stamped(payload)
            self._position += len(piece)
            if (fresh := self._position - self._since) <= 0:
                continue
            if fresh < len(piece):
                piece = piece[-fresh:]
            if joined and (at_ms != joined_at_ms or len(joined) >= _JOIN_BYTES):
                yield LogChunk(joined_at_ms, bytes(joined), self._position - len(piece))
                joined.clear()
            joined_at_ms = at_ms
            joined += piece
        if joined:
            yield LogChunk(joined_at_ms, bytes(joined), self._position)

    def _frames(self) -> Iterator[bytes]:
        start = 0
        buffer = self._buffer
        while start + _HEADER.size <= len(buffer):
            _, size = _HEADER.unpack_from(buffer, start)
            end = start + _HEADER.size + size
            if end > len(buffer):
                break
            yield bytes(buffer[start + _HEADER.size : end])
            start = end
        del buffer[:start]

    def _stamped(self, payload: bytes) -> tuple[int, bytes]:
        stamp, _, piece = payload.partition(b" ")
        second, fraction = stamp[:_STAMP_SECOND], stamp[_STAMP_SECOND + 1 : _STAMP_SECOND + 4]
        if second != self._second:
            self._second_ms = 1000 * calendar.timegm(time.strptime(second.decode(), "%Y-%m-%dT%H:%M:%S"))
            self._second = second
        # Two pipes are read independently: a stamp may be a little older than the one before it.
        self._at_ms = max(self._at_ms, self._second_ms + int(fraction.ljust(3, b"0")))
        return self._at_ms, piece
