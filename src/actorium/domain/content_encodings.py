"""Content encodings: what a client takes, and decoding without ever holding much, whatever the data claims to be."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import brotli
import zstandard

from actorium.domain.errors import ApiError, ErrorType

_PIECE_BYTES = 256 * 1024
"""About how much comes out of a decoder at once. A few hundred bytes of brotli can stand for gigabytes."""

_ZSTD_STEP_BYTES = 256
"""How much zstd to decode at once, which cannot be told how much may come out: 4 bytes of it make up to 128 KB."""

_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
"""RFC 8878 and 9659: what every decoder of content encodings supports; more would be the sender's memory demand."""

_WEIGHT = re.compile(r"q\s*=\s*(0(?:\.\d*)?|1(?:\.0*)?)", re.ASCII)


class DecodingError(ValueError):
    """The data is not what its encoding says."""


class Decoder(Protocol):
    """Decodes one body given in pieces."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` decodes to, in pieces of bounded size. Raises ``DecodingError``."""
        ...

    def end(self) -> None:
        """Raises ``DecodingError`` unless everything given so far was complete. Nothing at all is complete too."""
        ...


class _Decoder:
    """What the encodings have in common: small pieces are joined, and every library's error is the same one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_empty = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        waiting: list[bytes] = []
        size = 0
        self._is_empty = self._is_empty and not data
        try:
            for piece in self._pieces(data):
                waiting.append(piece)
                size += len(piece)
                if size >= _PIECE_BYTES:
                    yield b"".join(waiting)
                    waiting, size = [], 0
        except (zlib.error, brotli.error, zstandard.ZstdError) as error:
            raise DecodingError(f"not valid {self._name}: {error}") from error
        if size:
            yield b"".join(waiting)

    def end(self) -> None:
        if not self._is_empty and not self._is_complete():
            raise DecodingError(f"not valid {self._name}: it ends too early")

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        raise NotImplementedError

    def _is_complete(self) -> bool:
        raise NotImplementedError


class _Inflating(_Decoder):
    """gzip, of one or more members (RFC 1952), and deflate."""

    def __init__(self, name: str, wbits: int, next_member: bytes | None = None) -> None:
        super().__init__(name)
        self._wbits = wbits
        self._next_member = next_member
        self._stream = zlib.decompressobj(wbits)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream.eof:
                if self._next_member is None or not data.startswith(self._next_member):
                    return
                self._stream = zlib.decompressobj(self._wbits)
            while True:
                piece = self._stream.decompress(data, _PIECE_BYTES)
                data = self._stream.unconsumed_tail
                yield piece
                # A full piece may not be all that what it was made of stands for.
                if not data and len(piece) < _PIECE_BYTES:
                    break
            data = self._stream.unused_data

    def _is_complete(self) -> bool:
        return self._stream.eof


class _Gzip(_Inflating):
    def __init__(self) -> None:
        super().__init__("gzip", zlib.MAX_WBITS | 16, b"\x1f")


class _Deflate(_Inflating):
    """RFC 9110: deflate is the zlib format; some clients send a bare deflate stream under that name."""

    def __init__(self) -> None:
        super().__init__("deflate", zlib.MAX_WBITS)
        self._head: bytes | None = b""

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self._head is not None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return
            self._head = None
            if data[0] & 0x0F != zlib.DEFLATED or int.from_bytes(data[:2], "big") % 31:
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        yield from super()._pieces(data)


class _Brotli(_Decoder):
    def __init__(self) -> None:
        super().__init__("br")
        self._stream = brotli.Decompressor()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        piece: bytes = self._stream.process(data, output_buffer_limit=_PIECE_BYTES)
        yield piece
        # A full piece may not be all that what it was made of stands for.
        while len(piece) >= _PIECE_BYTES or not self._stream.can_accept_more_data():
            piece = self._stream.process(b"", output_buffer_limit=_PIECE_BYTES)
            yield piece

    def _is_complete(self) -> bool:
        finished: bool = self._stream.is_finished()
        return finished


class _Zstandard(_Decoder):
    """zstd, of one or more frames (RFC 8878)."""

    def __init__(self) -> None:
        super().__init__("zstd")
        self._context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
        self._stream = self._context.decompressobj()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_STEP_BYTES):
            step = data[start : start + _ZSTD_STEP_BYTES]
            while step:
                if self._stream.eof:
                    self._stream = self._context.decompressobj()
                yield self._stream.decompress(step)
                step = self._stream.unused_data if self._stream.eof else b""

    def _is_complete(self) -> bool:
        return self._stream.eof


def decoder_of(encoding: str) -> Decoder | None:
    """A decoder for a ``Content-Encoding``, ``None`` for none; 415 for one that is not supported."""
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Gzip()
        case "deflate":
            return _Deflate()
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstandard()
    raise ApiError(ErrorType.UNSUPPORTED_CONTENT_ENCODING, f'Content-Encoding "{encoding[:50]}" is not supported.')


@lru_cache(maxsize=256)
def accepts(accept_encoding: str, encoding: str) -> bool:
    """Whether a client that sent this ``Accept-Encoding`` takes ``encoding`` (RFC 9110, section 12.5.3).

    A client that sent none is taken to know none.
    """
    found: dict[str, bool] = {}
    for part in accept_encoding.lower().split(","):
        name, _, parameter = part.partition(";")
        weight = _WEIGHT.fullmatch(parameter.strip())
        found[name.strip().removeprefix("x-")] = float(weight[1]) > 0 if weight else not parameter.strip()
    return found.get(encoding, found.get("*", False))
