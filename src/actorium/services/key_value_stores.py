"""Records of key-value stores: put, get, delete, list, with the caller's rights checked in the same operation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import msgspec

from actorium.domain.errors import ApiError, ErrorType, not_found
from actorium.domain.records import Key, KeyRange, NewRecord, Record, check_key
from actorium.domain.signing import is_content_signature, is_record_signature
from actorium.domain.storages import Access, Guarded, Reference, StorageKind
from actorium.domain.store_schemas import RecordRules, collection_keys
from actorium.kit import Clock
from actorium.services.access import Principal
from actorium.services.record_archive import RecordArchive
from actorium.services.record_values import held_against, replay
from actorium.services.storages import ReadCounts, Storages, checked, guard_change, refusal
from actorium.services.uploads import Uploads
from actorium.storage import key_value_stores as records
from actorium.storage.blobs import Blobs
from actorium.storage.db import Database, Tx
from actorium.storage.key_value_stores import StoreSchemaUncheckedError

_KIND = StorageKind.KEY_VALUE_STORE

INLINE_BYTES = 64 * 1024
"""Values up to this size are kept in the database; larger ones are blobs."""


class Selection(msgspec.Struct, frozen=True):
    """Some records of a store: those that start with ``prefix``, of the ``collection`` of its schema, after a key."""

    prefix: str = ""
    collection: str | None = None
    after: str = ""

    def keys(self, schema_json: str | None) -> KeyRange:
        """Their keys. Raises 400 ``invalid-collection``."""
        keys = KeyRange.of_prefix(self.prefix).after(self.after)
        return keys if self.collection is None else keys.within(collection_keys(schema_json, self.collection))


class KeyPage(msgspec.Struct, frozen=True):
    """A page of keys of one store; ``is_truncated`` says whether more follow."""

    store_id: str
    url_signing_secret_key: str | None
    keys: list[Key]
    is_truncated: bool


class KeyValueStores:
    """The key-value store service. ``max_record_bytes`` bounds a value as it is stored."""

    def __init__(
        self, db: Database, clock: Clock, blobs: Blobs, reads: ReadCounts, *, max_record_bytes: int = 5 * 2**30
    ) -> None:
        self._db = db
        self._clock = clock
        self._blobs = blobs
        self._uploads = Uploads(db, clock, blobs)
        self._reads = reads
        self._max_record_bytes = max_record_bytes

    async def put(
        self,
        principal: Principal,
        text: str,
        key: str,
        content_type: str,
        content_encoding: str | None,
        chunks: AsyncIterator[bytes],
        *,
        length: int | None = None,
    ) -> str:
        """Store a record, replacing one of the same key, and return the store's id.

        The value comes in ``chunks`` already in ``content_encoding``; ``length`` is its announced size.
        """
        check_key(key)
        if length is not None and length > self._max_record_bytes:
            raise self._too_large(length)
        reference = Storages.reference(principal, text)
        head: list[bytes] = []
        size = 0
        async for chunk in chunks:
            head.append(chunk)
            size += len(chunk)
            if size > INLINE_BYTES:
                record = NewRecord(key, content_type, content_encoding, 0)
                return await self._put_blob(principal, reference, record, self._bounded(head, chunks))
        record = NewRecord(key, content_type, content_encoding, size, b"".join(head))
        checked_id: str | None = None
        while True:
            try:
                return await self._commit(principal, reference, record, checked_id)
            except StoreSchemaUncheckedError as unchecked:
                # The name may have gone to another store by the second time; then its schema is asked for.
                await held_against(RecordRules(unchecked.schema_json, key), record, replay(head))
                checked_id = unchecked.store_id

    async def _commit(
        self, principal: Principal, reference: Reference, record: NewRecord, checked_id: str | None
    ) -> str:
        now = self._clock.now_ms()

        async def op(tx: Tx) -> str:
            await guard_change(tx, principal, _KIND, reference)
            store_id = await records.put(tx, reference, principal.user_id, record, now, checked_id=checked_id)
            if store_id is None:
                raise await refusal(tx, principal, _KIND, reference)
            return store_id

        store_id = await self._db.write("put record", op, lane=reference.lane)
        self._reads.usage.add(principal, _KIND, write_count=1)
        return store_id

    async def _put_blob(
        self, principal: Principal, reference: Reference, record: NewRecord, chunks: AsyncIterator[bytes]
    ) -> str:
        async def announce(tx: Tx) -> tuple[str, str | None, str]:
            found, schema_json = await records.find_store(tx, reference)
            store = self._check(principal, reference, found, Access.WRITE)
            return store.id, schema_json, await self._uploads.announce(tx, "records")

        store_id, schema_json, blob_key = await self._db.write("announce record", announce)

        async def commit(size: int) -> str:
            stored = msgspec.structs.replace(record, size_bytes=size, blob_key=blob_key)
            # Into the store whose schema was asked, whatever its name leads to by now.
            return await self._commit(principal, Reference(store_id, id=store_id), stored, store_id)

        async def held() -> AsyncIterator[bytes]:
            return await held_against(RecordRules(schema_json, record.key), record, chunks)

        return await self._uploads.store(blob_key, held, commit)

    async def _bounded(self, head: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        size = sum(map(len, head))
        if size > self._max_record_bytes:
            raise self._too_large(size)
        while head:
            yield head.pop(0)
        async for chunk in rest:
            size += len(chunk)
            if size > self._max_record_bytes:
                raise self._too_large(size)
            yield chunk

    def _too_large(self, size: int) -> ApiError:
        return ApiError(
            ErrorType.RECORD_TOO_LARGE,
            f"The record is too large (limit: {self._max_record_bytes} bytes, actual length: at least {size} bytes).",
        )

    async def get(self, principal: Principal | None, text: str, key: str, *, signature: str | None = None) -> Record:
        """A record of a store the caller may read. Raises 404 when there is none."""
        check_key(key)
        reference = Storages.reference(principal, text)

        async def op(tx: Tx) -> tuple[Guarded, Record | None]:
            store, record = await records.find(tx, reference, key)
            signed = store is not None and is_record_signature(signature, store.url_signing_secret_key, key)
            return self._check(principal, reference, store, Access.READ, signed=signed), record

        store, record = await self._db.read("get record", op)
        self._reads.add(principal, _KIND, store.id, read_count=int(record is not None))
        if record is None:
            raise not_found("Record")
        return record

    async def find_record(self, store_id: str, key: str) -> Record | None:
        """The record of a store the program itself reads, without a caller; ``None`` when there is none."""

        async def op(tx: Tx) -> Record | None:
            return (await records.find(tx, Reference(store_id, id=store_id), key))[1]

        return await self._db.read("find record", op)

    async def open_value(self, record: Record, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """The stored bytes of a record in pieces, from byte ``start`` up to before ``end``."""
        if record.blob_key is not None:
            return await self._blobs.get(record.blob_key, start, end)
        return replay([(record.value or b"")[start:end]])

    async def delete(self, principal: Principal, text: str, key: str) -> None:
        """Delete a record; one that is not there counts as deleted."""
        check_key(key)
        reference = Storages.reference(principal, text)
        now = self._clock.now_ms()

        async def op(tx: Tx) -> None:
            await guard_change(tx, principal, _KIND, reference)
            if await records.delete(tx, reference, principal.user_id, key, now) is None:
                raise await refusal(tx, principal, _KIND, reference)

        await self._db.write("delete record", op, lane=reference.lane)
        self._reads.usage.add(principal, _KIND, write_count=1)

    async def list_keys(
        self, principal: Principal | None, text: str, wanted: Selection, limit: int, *, signature: str | None = None
    ) -> KeyPage:
        """The first ``limit`` keys of what is ``wanted``, in the order of their bytes."""
        reference = Storages.reference(principal, text)

        async def op(tx: Tx) -> tuple[Guarded, list[Key]]:
            store, schema_json = await self._open_contents(tx, principal, reference, signature)
            return store, await records.list_keys(tx, store.id, wanted.keys(schema_json), limit + 1)

        store, keys = await self._db.read("list keys", op)
        self._reads.add(principal, _KIND, store.id, list_count=1)
        return KeyPage(store.id, store.url_signing_secret_key, keys[:limit], len(keys) > limit)

    async def archive(
        self, principal: Principal | None, text: str, wanted: Selection, *, signature: str | None = None
    ) -> RecordArchive:
        """What is ``wanted`` as an archive; counts as one listing, and each record as one read once it is sent."""
        reference = Storages.reference(principal, text)

        async def op(tx: Tx) -> tuple[str, KeyRange]:
            store, schema_json = await self._open_contents(tx, principal, reference, signature)
            return store.id, wanted.keys(schema_json)

        store_id, keys = await self._db.read("open key-value store", op)
        self._reads.add(principal, _KIND, store_id, list_count=1)
        return RecordArchive(self._db, self._blobs, self._reads, principal, store_id, keys)

    async def _open_contents(
        self, tx: Tx, principal: Principal | None, reference: Reference, signature: str | None
    ) -> tuple[Guarded, str | None]:
        found, schema_json = await records.find_store(tx, reference)
        signed = found is not None and is_content_signature(
            signature, found.url_signing_secret_key, found.id, self._clock.now_ms()
        )
        return self._check(principal, reference, found, Access.READ, signed=signed), schema_json

    @staticmethod
    def _check(
        principal: Principal | None,
        reference: Reference,
        store: Guarded | None,
        access: Access,
        *,
        signed: bool = False,
    ) -> Guarded:
        return checked(store, principal, _KIND, reference, access, signed=signed)
