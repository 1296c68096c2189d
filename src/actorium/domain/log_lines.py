"""How process output becomes log lines: splitting, repairing, stamping, cutting, and cleaning for readers.

Pure. A stored line is ``2026-08-31T09:13:25.123Z `` + text + ``\\n``: one stamp, three decimals, one blank
(docs: runs, section 7). The result never depends on where the output was cut into pieces.
"""

from __future__ import annotations

import re

from actorium.domain.times import iso

MAX_LINE_BYTES = 1_048_576
"""Longest text of one line, without its line end. A longer one continues on further lines."""

CUT_NOTICE = b"ACTOR: The line above is longer than 1 MB, it continues below.\n"

_STAMP_AT_START = re.compile(rb"(?m)^[0-9TZ:.\-]{24} ")


def stamp(at_ms: int) -> bytes:
    """The beginning of a line written at ``at_ms``."""
    return f"{iso(at_ms)} ".encode()


def stamped(lines: bytes, line_stamp: bytes) -> bytes:
    """Whole ``lines`` (each ending with a newline), each beginning with ``line_stamp``."""
    if not lines:
        return b""
    body = lines.replace(b"\n", b"\n" + line_stamp)
    return line_stamp + body[: -len(line_stamp)]


def without_stamps(log: bytes) -> bytes:
    """The text of a log's lines."""
    return _STAMP_AT_START.sub(b"", log)


def one_line(text: str) -> bytes:
    """``text`` as a single line: line ends inside become blanks."""
    return text.replace("\r\n", " ").replace("\n", " ").encode("utf-8", "replace") + b"\n"


class Splitter:
    """Turns output cut anywhere into whole lines of valid UTF-8.

    ``\\r\\n`` becomes ``\\n``, a bare ``\\r`` stays, invalid bytes become U+FFFD. A partial last line waits in
    ``pending`` until its end arrives; only a line over ``MAX_LINE_BYTES`` is cut, with ``CUT_NOTICE`` between.
    """

    __slots__ = ("_max_line_bytes", "pending")

    def __init__(self, pending: bytes = b"", max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self.pending = bytearray(pending)
        self._max_line_bytes = max_line_bytes

    def feed(self, data: bytes) -> bytes:
        """Take more output; give the lines it completes, each ending with a newline."""
        end = data.rfind(b"\n") + 1
        if not end:
            self.pending += data
            return self._overlong()
        if self.pending:
            self.pending += memoryview(data)[:end]
            lines = bytes(self.pending)
            self.pending.clear()
        else:
            lines = data if end == len(data) else data[:end]
        if end < len(data):
            self.pending += memoryview(data)[end:]
        if len(lines) > self._max_line_bytes:
            lines = b"".join(self._cut(line) for line in lines.split(b"\n")[:-1])
        else:
            if b"\r" in lines:
                lines = lines.replace(b"\r\n", b"\n")
            lines = _valid(lines)
        return lines + self._overlong() if len(self.pending) > self._max_line_bytes else lines

    def end(self) -> bytes:
        """Complete the pending line, if there is one."""
        return self.feed(b"\n") if self.pending else b""

    def _overlong(self) -> bytes:
        """What the pending line already has too much of. One byte more may still be the ``\\r`` of its end."""
        pieces = []
        while len(self.pending) > self._max_line_bytes + 1:
            cut = self._boundary(self.pending)
            pieces += [_valid(bytes(self.pending[:cut])), b"\n", CUT_NOTICE]
            del self.pending[:cut]
        return b"".join(pieces)

    def _cut(self, line: bytes) -> bytes:
        text = line.removesuffix(b"\r")
        pieces = []
        while len(text) > self._max_line_bytes:
            cut = self._boundary(text)
            pieces += [_valid(text[:cut]), b"\n", CUT_NOTICE]
            text = text[cut:]
        return b"".join([*pieces, _valid(text), b"\n"])

    def _boundary(self, text: bytes | bytearray) -> int:
        """Where to cut, not inside a character."""
        cut = self._max_line_bytes
        for back in range(4):
            if text[cut - back] & 0xC0 != 0x80:
                return cut - back
        return cut


def _valid(text: bytes) -> bytes:
    if text.isascii():
        return text
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("utf-8", "replace").encode()
    return text


_ESCAPES = re.compile(
    rb"\x1b(?:"
    rb"\[[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor movement
    rb"|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC: titles, links
    rb"|[ -/]+[0-~]?"  # character sets
    rb"|[0-Z\\^-~]"  # single functions
    rb")?"
)
_C1 = re.compile(rb"\xc2\x9b[0-?]*[ -/]*[@-~]?|\xc2[\x80-\x9f]")
_NON_PRINTABLES = bytes(set(range(32)) - set(b"\t\n")) + b"\x7f"


def cleaned(lines: bytes) -> bytes:
    """Whole ``lines`` without ANSI escapes and non-printable characters; an escape never reaches past its line."""
    if b"\x1b" in lines:
        lines = _ESCAPES.sub(b"", lines)
    if b"\xc2" in lines:
        lines = _C1.sub(b"", lines)
    return lines.translate(None, _NON_PRINTABLES)
