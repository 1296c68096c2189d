"""Request bodies: content encodings, and the limit that holds while decoding."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Protocol

import brotli
import zstandard
from starlette.requests import ClientDisconnect, Request

from actorium.domain.errors import ApiError, ErrorType, invalid

STEP_BYTES = 4096
"""How much to give a decoder at once: what comes out of it is at most about a thousand times as much."""

_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
"""RFC 8878 and 9659: what every decoder of content encodings supports; more would be the sender's memory demand."""

_DRAIN_BYTES = 64 * 1024 * 1024


class Decoder(Protocol):
    """Decodes one stream."""

    def feed(self, data: bytes) -> bytes:
        """Decode a piece."""
        ...

    def end(self) -> bool:
        """Whether the stream was complete."""
        ...


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._stream = zlib.decompressobj(wbits)
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        try:
            out = self._stream.decompress(data)
        except zlib.error:
            if self._begun or self._wbits != zlib.MAX_WBITS:
                raise
            # Some clients call a raw deflate stream "deflate".
            self._wbits = -zlib.MAX_WBITS
            self._stream = zlib.decompressobj(self._wbits)
            out = self._stream.decompress(data)
        self._begun = True
        return out

    def end(self) -> bool:
        return self._stream.eof


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    def feed(self, data: bytes) -> bytes:
        out: bytes = self._stream.process(data)
        return out

    def end(self) -> bool:
        finished: bool = self._stream.is_finished()
        return finished


class _Zstandard:
    def __init__(self) -> None:
        self._stream = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()

    def feed(self, data: bytes) -> bytes:
        return self._stream.decompress(data) if not self._stream.eof else b""

    def end(self) -> bool:
        return self._stream.eof


def decoder_of(encoding: str) -> Decoder | None:
    """A decoder for a ``Content-Encoding``, ``None`` for none; 415 for one that is not supported."""
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Zlib(zlib.MAX_WBITS | 16)
        case "deflate":
            return _Zlib(zlib.MAX_WBITS)
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstandard()
    raise ApiError(ErrorType.UNSUPPORTED_CONTENT_ENCODING, f'Content-Encoding "{encoding[:50]}" is not supported.')


def too_large(method: str, limit: int, actual: int) -> ApiError:
    """413 in the platform's words."""
    return ApiError(
        ErrorType.REQUEST_TOO_LARGE,
        f"The {method} payload is too large (limit: {limit} bytes, actual length: {actual} bytes).",
    )


async def decoded(request: Request, headers: dict[str, str], limit: int) -> AsyncIterator[bytes]:
    """Pieces of the body, decoded; 413 as soon as they exceed ``limit`` together."""
    length = headers.get("content-length", "")
    encoding = headers.get("content-encoding", "")
    decoder = decoder_of(encoding)
    if decoder is None and length.isdigit() and int(length) > limit:
        raise too_large(request.method, limit, int(length))
    total, is_empty = 0, True
    async for received in request.stream():
        is_empty = is_empty and not received
        for start in range(0, len(received), STEP_BYTES) if decoder else (0,):
            piece = received[start : start + STEP_BYTES] if decoder else received
            if decoder is not None and piece:
                try:
                    piece = decoder.feed(piece)
                except (zlib.error, brotli.error, zstandard.ZstdError) as error:
                    raise invalid(f"The request body is not valid {encoding}: {error}") from error
            total += len(piece)
            if total > limit:
                raise too_large(request.method, limit, max(total, int(length) if length.isdigit() else 0))
            if piece:
                yield piece
    if decoder is not None and not is_empty and not decoder.end():
        raise invalid(f"The request body is not valid {encoding}: it ends too early.")


async def read_body(request: Request, headers: dict[str, str], limit: int) -> bytes:
    """The whole body, decoded."""
    pieces = [piece async for piece in decoded(request, headers, limit)]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def decoded_chunks(chunks: AsyncIterator[bytes], encoding: str | None) -> AsyncIterator[bytes]:
    """Stored bytes decoded from the ``Content-Encoding`` they were uploaded with."""
    decoder = decoder_of(encoding or "")
    async for chunk in chunks:
        if decoder is None:
            yield chunk
            continue
        for start in range(0, len(chunk), STEP_BYTES):
            if piece := decoder.feed(chunk[start : start + STEP_BYTES]):
                yield piece


async def drain(request: Request) -> None:
    """Read on a little, so that a client that is still sending gets to see the answer."""
    left = _DRAIN_BYTES
    try:
        while left > 0:
            message = await request.receive()
            if message["type"] != "http.request" or not message.get("more_body"):
                return
            left -= len(message.get("body", b""))
    except ClientDisconnect:
        return
