"""All records of a store, or some, as one zip archive, made while it is sent.

Compressing happens in a thread, which asks the event loop for pages of records and for pieces of large values.
Memory does not grow with the values; the archive's directory, which comes last, takes some 300 bytes a record.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from stream_zip import ZIP_AUTO, Method, stream_zip

from actorium.domain.content_encodings import DecodingError, decoder_of
from actorium.domain.records import KeyRange, Record
from actorium.domain.storages import StorageKind
from actorium.services.access import Principal
from actorium.services.storages import ReadCounts
from actorium.storage import key_value_stores as records
from actorium.storage.blobs import BlobNotFoundError, Blobs
from actorium.storage.db import Database, Tx

T = TypeVar("T")
_Member = tuple[str, datetime, int, Method, Iterator[bytes]]

_PAGE_RECORDS = 32
_CHUNK_BYTES = 256 * 1024
_LEVEL = 1
_COMPRESSED = re.compile(
    r"image/(?!svg|bmp|tiff)|video/|audio/(?!wav)|application/(?:zip|gzip|pdf|zstd|x-7z|x-bzip|x-xz|vnd\.openxml)", re.I
)
"""Media types that only cost time to be compressed once more."""
_MODE = stat.S_IFREG | 0o644
_NO_NAMES = frozenset({".", ".."})
"""Keys that would mean a folder to whoever unpacks the archive."""
_FIRST_MS, _LAST_MS = 315_619_200_000, 2_147_483_647_000
"""Times a zip entry can have: 1980 to January 2038."""


class ArchiveBrokenError(Exception):
    """The archive cannot be completed; what was sent of it must not look whole."""


class RecordArchive:
    """The records with ``keys`` of the store ``store_id`` as pieces of an archive, each read when its turn comes."""

    def __init__(
        self,
        db: Database,
        blobs: Blobs,
        reads: ReadCounts,
        reader: Principal | None,
        store_id: str,
        keys: KeyRange,
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._reads = reads
        self._reader = reader
        self.store_id = store_id
        self._keys = keys
        self._loop = asyncio.get_running_loop()
        self._zipped = iter(stream_zip(self._members(), chunk_size=_CHUNK_BYTES))
        self._step: asyncio.Task[bytes | None] | None = None
        self._is_ending = False
        self._reading: AsyncGenerator[bytes, None] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next piece of the archive. Raises what makes the rest impossible."""
        self._step = asyncio.create_task(asyncio.to_thread(next, self._zipped, None), name="record-archive")
        # The thread cannot be cancelled: it goes on to the end of its step, for which ``aclose`` waits.
        chunk = await asyncio.shield(self._step)
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """End, wherever it is. To be called in any case, and not by a task that is being cancelled."""
        self._is_ending = True
        if self._step is not None:
            await asyncio.gather(self._step, return_exceptions=True)
        if self._reading is not None:
            await self._reading.aclose()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """From the thread: the result of a coroutine of the event loop."""
        if self._is_ending:
            coroutine.close()
            raise ArchiveBrokenError("nobody reads on")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _members(self) -> Iterator[_Member]:
        keys = self._keys
        while True:
            page = self._wait(self._page(keys, _PAGE_RECORDS))
            for record in page:
                if record.key not in _NO_NAMES and (member := self._member(record)) is not None:
                    yield member
            if len(page) < _PAGE_RECORDS:
                return
            keys = keys.after(page[-1].key)

    async def _page(self, keys: KeyRange, limit: int) -> list[Record]:
        async def op(tx: Tx) -> list[Record] | None:
            return await records.read_page(tx, self.store_id, keys, limit)

        page = await self._db.read("read records", op)
        if page is None:
            raise ArchiveBrokenError("the store was deleted")
        self._reads.add(self._reader, StorageKind.KEY_VALUE_STORE, self.store_id, read_count=len(page))
        return page

    def _member(self, record: Record) -> _Member | None:
        """The entry of a record, its value already open; ``None`` when it was deleted since it was listed."""
        while True:
            try:
                size, pieces = self._value(record)
                first = next(pieces, b"")
                break
            except BlobNotFoundError as error:
                page = self._wait(self._page(KeyRange.of_key(record.key), 1))
                if not page:
                    return None
                if page[0].tag == record.tag:
                    raise ArchiveBrokenError(f"the value of record {record.key} is lost") from error
                record = page[0]
        modified_at = datetime.fromtimestamp(max(_FIRST_MS, min(record.modified_at, _LAST_MS)) / 1000, UTC)
        level = 0 if _COMPRESSED.match(record.content_type) else _LEVEL
        content = self._measured(itertools.chain((first,), pieces), record.key, size)
        return record.key, modified_at, _MODE, ZIP_AUTO(size, level=level), content

    def _value(self, record: Record) -> tuple[int, Iterator[bytes]]:
        """Size and content, decoded; what its encoding misnames comes as it was stored, as everywhere.

        An encoded value is read twice, so that one that turns out broken cannot spoil the archive half-way.
        """
        encoding = record.content_encoding
        if encoding is not None:
            try:
                return sum(map(len, self._decoded(record, encoding))), self._decoded(record, encoding)
            except DecodingError:
                pass
        return record.size_bytes, self._stored(record)

    def _decoded(self, record: Record, encoding: str) -> Iterator[bytes]:
        decoder = decoder_of(encoding)
        for chunk in self._stored(record):
            yield from (chunk,) if decoder is None else decoder.feed(chunk)
        if decoder is not None:
            decoder.end()

    def _stored(self, record: Record) -> Iterator[bytes]:
        if record.blob_key is None:
            yield record.value or b""
            return
        self._reading = chunks = self._wait(self._blobs.get(record.blob_key))
        while chunk := self._wait(_next(chunks)):
            yield chunk

    @staticmethod
    def _measured(pieces: Iterator[bytes], key: str, size: int) -> Iterator[bytes]:
        left = size
        for piece in pieces:
            left -= len(piece)
            yield piece
        if left:
            raise ArchiveBrokenError(f"the value of record {key} is not what it was")


async def _next(chunks: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(chunks, b"")
