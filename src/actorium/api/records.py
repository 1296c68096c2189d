"""Records on the wire: their encoding negotiated, their type as stored, harmless in a browser."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import brotli
from starlette.responses import Response, StreamingResponse

from actorium.api.body import STEP_BYTES, decoder_of
from actorium.api.http import Call
from actorium.domain.records import Record
from actorium.services.key_value_stores import KeyValueStores

_SAFE = {
    # A record is whatever someone uploaded: it must not run as part of this site.
    "Content-Security-Policy": "sandbox",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Encoding",
}


def accepts(accept_encoding: str, encoding: str) -> bool:
    """Whether a client that sent this ``Accept-Encoding`` takes ``encoding`` (RFC 9110, section 12.5.3).

    A client that sent none is taken to know none.
    """
    qualities: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        qualities[name] = quality
    return qualities.get(encoding, qualities.get("*", 0.0)) > 0


async def _decoded(chunks: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    decoder = decoder_of(encoding)
    async for chunk in chunks:
        if decoder is None:
            yield chunk
            continue
        for start in range(0, len(chunk), STEP_BYTES):
            if piece := decoder.feed(chunk[start : start + STEP_BYTES]):
                yield piece


async def record_response(call: Call, stores: KeyValueStores, record: Record, *, cacheable: bool = False) -> Response:
    """The answer that carries ``record``; also for ``run-sync``. ``cacheable``: anyone with the URL may read it."""
    headers = {
        **_SAFE,
        "Content-Type": record.content_type,
        "Cache-Control": "private, max-age=60" if cacheable else "no-store",
    }
    if call.query.flag("attachment"):
        headers["Content-Disposition"] = f'attachment; filename="{record.key}"'
    encoding = record.content_encoding
    is_as_stored = encoding is None or accepts(call.request.headers.get("accept-encoding", ""), encoding)
    if encoding is not None and is_as_stored:
        headers["Content-Encoding"] = encoding
    if is_as_stored:
        headers["Content-Length"] = str(record.size_bytes)
    if call.request.method == "HEAD":
        return Response(headers=headers)
    if record.value is not None:
        return _inline(record.value, None if is_as_stored else encoding, headers)
    chunks = await stores.open_value(record)
    if encoding is not None and not is_as_stored:
        chunks = _decoded(chunks, encoding)
    return StreamingResponse(chunks, headers=headers)


def _inline(value: bytes, encoding: str | None, headers: dict[str, str]) -> Response:
    if encoding is not None and (decoder := decoder_of(encoding)) is not None:
        pieces = (value[start : start + STEP_BYTES] for start in range(0, len(value), STEP_BYTES))
        try:
            value = b"".join(decoder.feed(piece) for piece in pieces)
        except (zlib.error, brotli.error):
            # Uploads are stored unchecked; what its label misnames goes out as it came in.
            headers["Content-Encoding"] = encoding
    return Response(value, headers=headers)
