"""Values of records as they pass by: decoded, or held against a store's schema before they are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing

from actorium.domain.content_encodings import DecodingError, decoder_of
from actorium.domain.records import NewRecord
from actorium.domain.store_schemas import MAX_CHECKED_BYTES, RecordRules


async def decoded_chunks(chunks: AsyncGenerator[bytes, None], encoding: str | None) -> AsyncGenerator[bytes, None]:
    """Stored bytes decoded from the ``Content-Encoding`` they were uploaded with. Raises ``DecodingError``."""
    decoder = decoder_of(encoding or "")
    async with aclosing(chunks):
        async for chunk in chunks:
            for piece in (chunk,) if decoder is None else decoder.feed(chunk):
                yield piece
    if decoder is not None:
        decoder.end()


async def replay(chunks: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    """``chunks`` as they come from a store."""
    for chunk in chunks:
        yield chunk


async def held_against(rules: RecordRules, record: NewRecord, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same ``chunks`` of a record that fits ``rules``; they are kept in memory only if ``rules`` need the value.

    Raises 400 for a record that does not fit, 413 for one too large to be checked.
    """
    rules.check_content_type(record.content_type)
    if not rules.needs_value:
        return chunks
    decoder = decoder_of(record.content_encoding or "")
    kept: list[bytes] = []
    value: list[bytes] = []
    kept_size = value_size = 0
    try:
        async for chunk in chunks:
            kept.append(chunk)
            kept_size += len(chunk)
            for piece in (chunk,) if decoder is None else decoder.feed(chunk):
                value.append(piece)
                value_size += len(piece)
                if max(kept_size, value_size) > MAX_CHECKED_BYTES:
                    raise rules.too_large()
        if decoder is not None:
            decoder.end()
    except DecodingError as error:
        raise rules.broken(f"it is {error}") from error
    await asyncio.to_thread(rules.check_value, b"".join(value))
    return replay(kept)
