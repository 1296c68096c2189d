"""Answers compressed where the client allows it: brotli, else gzip, at their fastest levels."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import Protocol, cast

import brotli
from starlette.responses import Response, StreamingResponse

from actorium.domain.content_encodings import accepts

MIN_BYTES = 1024
"""Smaller answers are sent as they are: they fit one packet anyway."""

_THREAD_BYTES = 256 * 1024
_BROTLI_QUALITY = 1
_GZIP_LEVEL = 1
_TEXTS = re.compile(r"text/|application/(?:json|jsonl|xml|rss\+xml)\b")


class _Compressor(Protocol):
    def process(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)

    def process(self, data: bytes) -> bytes:
        return self._stream.compress(data)

    def finish(self) -> bytes:
        return self._stream.flush()


def _compressor(encoding: str) -> _Compressor:
    if encoding == "gzip":
        return _Gzip()
    compressor: _Compressor = brotli.Compressor(quality=_BROTLI_QUALITY)
    return compressor


async def compress(response: Response, accept_encoding: str | None) -> None:
    """Compress the body of an answer in place if it is text, large enough, and the client takes it."""
    if not isinstance(response, StreamingResponse) and len(response.body) < MIN_BYTES:
        return
    if not _TEXTS.match(response.headers.get("content-type", "")):
        return
    response.headers.add_vary_header("Accept-Encoding")
    encoding = next((known for known in ("br", "gzip") if accepts(accept_encoding or "", known)), None)
    if encoding is None or "content-encoding" in response.headers:
        return
    if isinstance(response, StreamingResponse):
        response.body_iterator = _pieces(response.body_iterator, _compressor(encoding))
        if "content-length" in response.headers:
            del response.headers["content-length"]
    else:
        body = bytes(response.body)
        if len(body) >= _THREAD_BYTES:
            response.body = await asyncio.to_thread(_whole, body, encoding)
        else:
            response.body = _whole(body, encoding)
        response.headers["content-length"] = str(len(response.body))
    response.headers["content-encoding"] = encoding


def _whole(body: bytes, encoding: str) -> bytes:
    compressor = _compressor(encoding)
    return compressor.process(body) + compressor.finish()


async def _pieces(body: AsyncIterable[str | bytes | memoryview], compressor: _Compressor) -> AsyncIterator[bytes]:
    async with aclosing(cast("AsyncGenerator[str | bytes | memoryview, None]", body)):
        async for piece in body:
            text = piece.encode() if isinstance(piece, str) else bytes(piece)
            if out := await asyncio.to_thread(compressor.process, text):
                yield out
    yield compressor.finish()
