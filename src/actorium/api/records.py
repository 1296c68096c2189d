"""Records on the wire: their encoding negotiated, whole or in part, their type as stored, harmless in a browser."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from email.utils import formatdate
from functools import lru_cache
from typing import Protocol

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from actorium.api.http import Call, error_response
from actorium.api.preconditions import UnsatisfiableRangeError, byte_range, matches
from actorium.domain.content_encodings import DecodingError, accepts
from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.records import Record
from actorium.services.key_value_stores import KeyValueStores
from actorium.services.record_values import decoded_chunks, replay

_WHOLE_BYTES = 256 * 1024
"""So much of a record that has to be decoded is decoded before the answer begins."""

SAFE_HEADERS = {
    # A record is whatever someone uploaded: it must not run as part of this site.
    "Content-Security-Policy": "sandbox",
    "X-Content-Type-Options": "nosniff",
}


class Chunks(Protocol):
    """Pieces of an answer, and what they come from."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """Let go of what is held."""
        ...


class ChunksResponse(StreamingResponse):
    """An answer sent piece by piece, whose source is closed when it was sent or the client has gone.

    ``head`` are pieces that go before those still in the source.
    """

    def __init__(
        self,
        chunks: Chunks,
        status_code: int = 200,
        *,
        headers: dict[str, str],
        head: Sequence[bytes] = (),
    ) -> None:
        super().__init__(self._pieces(head), status_code, headers)
        self._chunks = chunks

    async def _pieces(self, head: Sequence[bytes]) -> AsyncIterator[bytes]:
        for piece in head:
            yield piece
        async for piece in self._chunks:
            yield piece

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._chunks.aclose()


async def record_response(call: Call, stores: KeyValueStores, record: Record, *, cacheable: bool = False) -> Response:
    """The answer that carries ``record``; also for ``run-sync``. ``cacheable``: anyone with the URL may read it."""
    encoding = record.content_encoding
    asked = call.headers
    if encoding is not None and not accepts(asked.get("accept-encoding", ""), encoding):
        decoded = await _decoded(stores, record)
        if decoded is not None:
            return await _decoded_response(call, record, decoded, cacheable=cacheable)
    headers = _headers(call, record, f'"{record.tag}"', cacheable=cacheable)
    headers["Accept-Ranges"] = "bytes"
    if (answer := _unless_changed(call, headers)) is not None:
        return answer
    if encoding is not None:
        headers["Content-Encoding"] = encoding
    size = record.size_bytes
    start, end, status = 0, size, 200
    if "range" in asked and call.request.method != "HEAD" and matches(asked.get("if-range", "*"), headers["ETag"]):
        try:
            if (part := byte_range(asked["range"], size)) is not None:
                start, end, status = *part, 206
        except UnsatisfiableRangeError:
            return _unsatisfiable(size)
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    if call.request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    if record.value is not None:
        return Response(record.value[start:end], status, headers)
    return ChunksResponse(await stores.open_value(record, start, end), status, headers=headers)


@lru_cache(maxsize=1024)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _headers(call: Call, record: Record, entity_tag: str, *, cacheable: bool) -> dict[str, str]:
    headers = {
        **SAFE_HEADERS,
        "Vary": "Accept-Encoding",
        "Content-Type": record.content_type,
        "Cache-Control": "private, max-age=60" if cacheable else "no-store",
        "ETag": entity_tag,
        "Last-Modified": _http_date(record.modified_at // 1000),
    }
    if call.query.flag("attachment"):
        headers["Content-Disposition"] = f'attachment; filename="{record.key}"'
    return headers


def _unless_changed(call: Call, headers: dict[str, str]) -> Response | None:
    """304 or 412 where the client's conditions ask for it (RFC 9110, section 13.2.2).

    Times are not compared: a second is too coarse for records that change faster.
    """
    asked, entity_tag = call.headers, headers["ETag"]
    if "if-match" in asked and not matches(asked["if-match"], entity_tag):
        raise ApiError(
            ErrorType.PRECONDITION_FAILED, f"The record has changed: its ETag {entity_tag} is not in header If-Match."
        )
    if "if-none-match" in asked and matches(asked["if-none-match"], entity_tag, weakly=True):
        kept = ("ETag", "Cache-Control", "Vary", "Last-Modified")
        return Response(status_code=304, headers={name: headers[name] for name in kept})
    return None


def _unsatisfiable(size: int) -> Response:
    answer = error_response(
        ApiError(ErrorType.RANGE_NOT_SATISFIABLE, f"Header Range asks for none of the record's {size} bytes.")
    )
    answer.headers["Content-Range"] = f"bytes */{size}"
    return answer


class _Decoded:
    """A record decoded for a client: its beginning, and the rest if there is any."""

    def __init__(self, head: list[bytes], rest: AsyncGenerator[bytes, None] | None) -> None:
        self.head = head
        self.rest = rest


async def _decoded(stores: KeyValueStores, record: Record) -> _Decoded | None:
    """``None`` for what its label misnames, which uploads do not check: it goes out as it came in."""
    chunks = decoded_chunks(await stores.open_value(record), record.content_encoding)
    head, size = list[bytes](), 0
    try:
        async for piece in chunks:
            head.append(piece)
            size += len(piece)
            if size > _WHOLE_BYTES:
                return _Decoded(head, chunks)
    except DecodingError:
        return None
    return _Decoded(head, None)


async def _decoded_response(call: Call, record: Record, decoded: _Decoded, *, cacheable: bool) -> Response:
    headers = _headers(call, record, f'"{record.tag}-decoded"', cacheable=cacheable)
    if decoded.rest is None:
        return _unless_changed(call, headers) or Response(b"".join(decoded.head), headers=headers)
    try:
        answer = _unless_changed(call, headers)
    except ApiError:
        await decoded.rest.aclose()
        raise
    if answer is None and call.request.method != "HEAD":
        return ChunksResponse(decoded.rest, headers=headers, head=decoded.head)
    await decoded.rest.aclose()
    return answer or ChunksResponse(replay([]), headers=headers)
