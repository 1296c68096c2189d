"""Request bodies: content encodings, and the limit that holds while decoding."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from actorium.domain.content_encodings import DecodingError, decoder_of
from actorium.domain.errors import ApiError, ErrorType, invalid

_DRAIN_BYTES = 64 * 1024 * 1024


def too_large(method: str, limit: int, actual: int) -> ApiError:
    """413 in the platform's words."""
    return ApiError(
        ErrorType.REQUEST_TOO_LARGE,
        f"The {method} payload is too large (limit: {limit} bytes, actual length: {actual} bytes).",
    )


async def decoded(request: Request, headers: dict[str, str], limit: int) -> AsyncIterator[bytes]:
    """Pieces of the body, decoded; 413 as soon as they exceed ``limit`` together."""
    length = headers.get("content-length", "")
    announced = int(length) if length.isdigit() else 0
    decoder = decoder_of(headers.get("content-encoding", ""))
    if decoder is None and announced > limit:
        raise too_large(request.method, limit, announced)
    total = 0
    try:
        async for received in request.stream():
            for piece in (received,) if decoder is None else decoder.feed(received):
                total += len(piece)
                if total > limit:
                    raise too_large(request.method, limit, max(total, announced))
                if piece:
                    yield piece
        if decoder is not None:
            decoder.end()
    except DecodingError as error:
        raise invalid(f"The request body is {error}.") from error


async def read_body(request: Request, headers: dict[str, str], limit: int) -> bytes:
    """The whole body, decoded."""
    pieces = [piece async for piece in decoded(request, headers, limit)]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


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
