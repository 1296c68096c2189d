"""Records on the wire: their encoding negotiated, their type as stored, harmless in a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from actorium.api.body import DECODING_ERRORS, decoded_chunks, decoder_of
from actorium.api.http import Call
from actorium.domain.records import Record
from actorium.services.key_value_stores import KeyValueStores

_SAFE = {
    # A record is whatever someone uploaded: it must not run as part of this site.
    "Content-Security-Policy": "sandbox",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Encoding",
}

_WHOLE_BYTES = 1024 * 1024
"""Values that decode to more are sent while they are decoded."""


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
    if record.value is not None and encoding is not None and not is_as_stored:
        return _decoded(record.value, encoding, headers)
    if record.value is not None:
        return Response(record.value, headers=headers)
    chunks = await stores.open_value(record)
    return StreamingResponse(chunks if is_as_stored else decoded_chunks(chunks, encoding), headers=headers)


def _decoded(value: bytes, encoding: str, headers: dict[str, str]) -> Response:
    """A small value, decoded. Uploads are stored unchecked: what its label misnames goes out as it came in."""
    decoder = decoder_of(encoding)
    assert decoder is not None  # noqa: S101  a record without encoding is sent as it is stored
    pieces, size = list[bytes](), 0
    try:
        for piece in decoder.feed(value):
            pieces.append(piece)
            size += len(piece)
            if size > _WHOLE_BYTES:
                return StreamingResponse(decoded_chunks(_once(value), encoding), headers=headers)
        if decoder.end():
            return Response(b"".join(pieces), headers=headers)
    except DECODING_ERRORS:
        pass
    return Response(value, headers={**headers, "Content-Encoding": encoding})


async def _once(value: bytes) -> AsyncIterator[bytes]:
    yield value
