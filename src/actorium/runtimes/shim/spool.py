"""The file an attempt's output is kept in: frames of a time stamp, a length and the bytes.

Written by the keeper alone, read by any server; a position is a byte offset at a frame's start.
"""

from __future__ import annotations

import os
import struct

HEADER = struct.Struct("<QI")
"""``at_ms`` and the number of bytes that follow."""

# A full disk is asked again this often, not for every read.
_RETRY_MS = 500


class Spool:
    """Appends output. Never blocks the process that writes it and never raises: what cannot be kept is counted."""

    def __init__(self, path: str, max_bytes: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._max_bytes = max_bytes
        self._full = False
        self._unreported = 0
        self._error = ""
        self._retry_at_ms = 0
        self._ends_line = True
        self.size = 0
        self.dropped_bytes = 0

    def write(self, data: bytes, at_ms: int) -> None:
        """Keep ``data``, or count it as dropped."""
        if not self._full and self.size + len(data) > self._max_bytes:
            self._full = True
            self._note(f"output beyond {self._max_bytes} bytes is not kept", at_ms)
        if self._full:
            self.dropped_bytes += len(data)
        elif at_ms < self._retry_at_ms or not self._report(at_ms) or not self._append(data, at_ms):
            self.dropped_bytes += len(data)
            self._unreported += len(data)

    def close(self, at_ms: int) -> None:
        """Say what was lost, if it can be said."""
        self._report(at_ms)
        os.close(self._file)

    def _report(self, at_ms: int) -> bool:
        if self._unreported and self._note(f"{self._unreported} bytes of output were lost: {self._error}", at_ms):
            self._unreported = 0
        return not self._unreported

    def _note(self, text: str, at_ms: int) -> bool:
        return self._append(f"{'' if self._ends_line else chr(10)}ACTOR: {text}\n".encode(), at_ms)

    def _append(self, data: bytes, at_ms: int) -> bool:
        header = HEADER.pack(at_ms, len(data))
        try:
            written = os.writev(self._file, (header, data))
            if written < len(header) + len(data):
                rest = (header + data)[written:]
                while rest:
                    rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            self._error = error.strerror or str(error)
            self._retry_at_ms = at_ms + _RETRY_MS
            os.ftruncate(self._file, self.size)
            return False
        self.size += len(header) + len(data)
        self._ends_line = data.endswith(b"\n")
        return True


def read_frames(file: int, offset: int, max_bytes: int, join_ms: int, *, final: bool) -> list[tuple[int, bytes, int]]:
    """Up to ``max_bytes`` of frames from ``offset`` on as (at_ms, data, next offset), joining those close in time.

    An incomplete last frame is left alone, unless ``final``: its writer is gone and it stays as it is.
    """
    buffer = memoryview(os.pread(file, max_bytes, offset))
    chunks: list[tuple[int, bytes, int]] = []
    parts: list[memoryview] = []
    at, first_ms = 0, 0
    while at + HEADER.size <= len(buffer):
        at_ms, length = HEADER.unpack_from(buffer, at)
        end = at + HEADER.size + length
        if end > len(buffer):
            if not final or (chunks or parts):
                break
            end = len(buffer)
        if parts and at_ms - first_ms > join_ms:
            chunks.append((first_ms, b"".join(parts), offset + at))
            parts = []
        if not parts:
            first_ms = at_ms
        parts.append(buffer[at + HEADER.size : end])
        at = end
    if parts:
        chunks.append((first_ms, b"".join(parts), offset + at))
    return chunks
