"""BuildKit through the engine's build call: which Dockerfiles need it, and what its progress says.

The progress comes as protobuf messages of a fixed, small shape; source: moby/buildkit,
api/services/control/control.proto (StatusResponse, Vertex, VertexLog).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from actorium.builders.dockerfile import parse_dockerfile

TRACE = "moby.buildkit.trace"
_FLAGS = {
    "RUN": frozenset({"mount", "network", "security"}),
    "COPY": frozenset({"link", "chmod", "parents", "exclude"}),
    "ADD": frozenset({"link", "chmod", "checksum", "keep-git-dir", "exclude"}),
}
_HERE_DOCUMENT = re.compile(r"(?:^|\s)<<-?[\"']?[A-Za-z_]")
_SYNTAX = re.compile(r"#\s*syntax\s*=\s*(\S+)", re.IGNORECASE)
_TOO_NEW = ("unknown instruction", "unknown flag")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VERTEXES, _LOGS = 1, 3
_DIGEST, _NAME, _CACHED, _STARTED, _COMPLETED, _ERROR = 1, 3, 4, 5, 6, 7
_LOG_VERTEX, _LOG_TEXT = 1, 4


def buildkit_feature(text: str) -> str | None:
    """What in a Dockerfile only BuildKit can do, with its line, as in ``line 3: RUN --mount``; ``None`` = nothing."""
    for instruction in parse_dockerfile(text, "Dockerfile"):
        where = f"line {instruction.line}: {instruction.name}"
        for flag in instruction.flags:
            if flag in _FLAGS.get(instruction.name, ()):
                return f"{where} --{flag}"
        if instruction.name in _FLAGS and _HERE_DOCUMENT.search(instruction.value):
            return f"{where} <<"
    return None


def syntax_image(text: str) -> str | None:
    """The image that a Dockerfile which begins with ``# syntax=`` names: the parser that is to read it."""
    for line in text.lstrip("\ufeff").splitlines():
        if not line.startswith("#"):
            return None
        if (match := _SYNTAX.match(line)) is not None:
            return match[1]
    return None


def explained(reason: str, text: str) -> str:
    """BuildKit's ``reason`` for refusing the Dockerfile ``text``, with what helps where it is too old for it."""
    is_too_new = any(sign in reason.lower() for sign in _TOO_NEW) and syntax_image(text) is None
    if not is_too_new or (feature := buildkit_feature(text)) is None:
        return reason
    return (
        f"{reason}. The BuildKit of this Docker engine may be too old for {feature}: make "
        '"# syntax=docker/dockerfile:1" the first line of the Dockerfile, which fetches a newer parser, '
        "or use a newer engine."
    )


class Progress:
    """Turns BuildKit's messages into lines such as ``#4 [2/3] RUN make`` and ``#4 what it printed``."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._said: set[tuple[bytes, str]] = set()
        self._partial: dict[bytes, bytes] = {}

    def read(self, message: str) -> bytes:
        """The lines of one message, given as base64. Raises ``ValueError`` for what is none."""
        lines: list[bytes] = []
        for number, value in _fields(base64.b64decode(message, validate=True)):
            if number == _VERTEXES:
                lines += self._vertex(dict(_fields(_message(value))))
            elif number == _LOGS:
                lines += self._log(dict(_fields(_message(value))))
        return b"".join(lines)

    def _vertex(self, vertex: dict[int, int | bytes]) -> Iterator[bytes]:
        digest, name = _message(vertex.get(_DIGEST, b"")), _message(vertex.get(_NAME, b""))
        if _STARTED in vertex or vertex.get(_CACHED):
            number = b"#%d " % self._numbers.setdefault(digest, len(self._numbers) + 1)
            if self._is_news(digest, "started"):
                yield number + name.replace(b"\n", b"\\n") + b"\n"
            if vertex.get(_CACHED) and self._is_news(digest, "cached"):
                yield number + b"CACHED\n"
            if _COMPLETED in vertex and self._is_news(digest, "completed"):
                if rest := self._partial.pop(digest, b""):
                    yield number + rest + b"\n"
                if _ERROR in vertex:
                    yield number + b"ERROR: " + _message(vertex[_ERROR]) + b"\n"

    def _is_news(self, digest: bytes, what: str) -> bool:
        is_new = (digest, what) not in self._said
        self._said.add((digest, what))
        return is_new

    def _log(self, log: dict[int, int | bytes]) -> Iterator[bytes]:
        digest = _message(log.get(_LOG_VERTEX, b""))
        number = b"#%d " % self._numbers.setdefault(digest, len(self._numbers) + 1)
        # Steps run side by side: only whole lines keep them apart.
        *whole, rest = (self._partial.get(digest, b"") + _message(log.get(_LOG_TEXT, b""))).split(b"\n")
        self._partial[digest] = rest
        for line in whole:
            yield number + line + b"\n"


def _message(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else b""


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message by their numbers. docs: protobuf.dev, encoding."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            if position >= len(data) or shift > 63:
                raise ValueError("a protobuf message ends too early")
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while position < len(data):
        key = varint()
        if (kind := key & 7) == _VARINT:
            yield key >> 3, varint()
            continue
        sizes = {_FIXED64: 8, _FIXED32: 4}
        if kind != _BYTES and kind not in sizes:
            raise ValueError(f"a protobuf field of kind {kind}")
        size = varint() if kind == _BYTES else sizes[kind]
        if position + size > len(data):
            raise ValueError("a protobuf message ends too early")
        yield key >> 3, data[position : position + size]
        position += size
