"""What the three storage kinds have in common: references, access, get-or-create, rename, delete, read counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from actorium.domain.dataset_schemas import check_schema
from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.storages import (
    Access,
    Guarded,
    Reference,
    Storage,
    StorageKind,
    check_access,
    check_name,
    expires_at,
    missing,
    name_key,
    parse_reference,
)
from actorium.domain.store_schemas import check_store_schema
from actorium.domain.usage import Prices
from actorium.kit import Clock, Tasks, forever
from actorium.services.access import Principal
from actorium.services.flushes import Flushes
from actorium.services.usage import Usage
from actorium.storage import storages
from actorium.storage.db import Database, Tx, UniqueViolationError

S = TypeVar("S", Storage, Guarded)
_FLUSH_SECS = 5.0


class StorageUpdate(msgspec.Struct, frozen=True):
    """Changes to a storage's metadata; what is ``UNSET`` stays. ``name`` ``None`` makes it unnamed."""

    name: str | msgspec.UnsetType | None = msgspec.UNSET
    title: str | msgspec.UnsetType | None = msgspec.UNSET
    general_access: str | msgspec.UnsetType = msgspec.UNSET


class ReadCounts:
    """Collects reads of storages in memory and writes them down every few seconds, so a read costs no write.

    A crash loses at most the last seconds of read counts, ``accessed_at`` and ``usage``, which is written along.
    """

    def __init__(self, db: Database, clock: Clock, prices: Prices | None = None) -> None:
        self._db = db
        self._clock = clock
        self._pending: dict[tuple[StorageKind, str], tuple[int, dict[str, int]]] = {}
        self.flushes = Flushes(db)
        self._tasks = Tasks("read-counts")
        self.usage = Usage(db, clock, prices)

    async def start(self) -> None:
        """Begin flushing."""
        if not len(self._tasks):
            self._tasks.spawn("flush", forever("flushing read counts", _FLUSH_SECS, self._step))

    async def stop(self) -> None:
        """Flush what is left and end."""
        async with self.flushes.one():  # so that the task is not cancelled amid a flush
            await self._tasks.stop()
        await self.usage.settled()
        await self.flush()

    async def _step(self) -> None:
        await self._clock.sleep(_FLUSH_SECS)
        await self.flush()

    def add(self, principal: Principal | None, kind: StorageKind, storage_id: str, **counters: int) -> None:
        """Note a read of a storage now; ``counters`` are counter columns and by how much they grow."""
        self.usage.add(principal, kind, **counters)
        self._note(kind, storage_id, counters)

    def _note(self, kind: StorageKind, storage_id: str, counters: dict[str, int]) -> None:
        key = (kind, storage_id)
        now = self._clock.now_ms()
        before = self._pending.get(key)
        if before is not None:
            counters = {name: before[1].get(name, 0) + counters.get(name, 0) for name in {*before[1], *counters}}
        self._pending[key] = (now, counters)

    def applied(self, storage: Storage) -> Storage:
        """``storage`` with the reads not yet written down."""
        pending = self._pending.get((storage.kind, storage.id))
        if pending is None:
            return storage
        at, added = pending
        counters = {**storage.counters, **{name: storage.counters[name] + more for name, more in added.items()}}
        return msgspec.structs.replace(storage, accessed_at=max(at, storage.accessed_at), counters=counters)

    async def flush(self) -> None:
        """Write everything down; on failure it is kept for the next time."""
        async with self.flushes.one():
            await self.usage.flush()
            if not self._pending:
                return
            pending, self._pending = self._pending, {}

            async def op(tx: Tx) -> None:
                for kind in StorageKind:
                    reads = [(key[1], at, added) for key, (at, added) in pending.items() if key[0] is kind]
                    await storages.add_reads(tx, kind, reads)

            try:
                await self._db.write("flush read counts", op)
            except BaseException:
                newer, self._pending = self._pending, pending
                for (kind, storage_id), (_, added) in newer.items():
                    self._note(kind, storage_id, added)
                raise


class Storages:
    """Metadata of all storages: finding them by reference with the caller's rights, creating, changing, deleting.

    ``unnamed_days`` is after how long without use unnamed ones expire; 0 is never.
    """

    def __init__(self, db: Database, clock: Clock, reads: ReadCounts, *, unnamed_days: int = 0) -> None:
        self._db = db
        self._clock = clock
        self._unnamed_days = unnamed_days
        self.reads = reads

    def now(self) -> int:
        """The time in milliseconds since the epoch."""
        return self._clock.now_ms()

    def expires_at(self, storage: Storage) -> int | None:
        """When a storage expires if nobody uses it; ``None`` for one that is kept."""
        return expires_at(storage, self._unnamed_days)

    @staticmethod
    def reference(principal: Principal | None, text: str) -> Reference:
        """Read a path segment that stands where a storage id can; see ``parse_reference``."""
        if principal is None:
            return parse_reference(text, None, None)
        return parse_reference(text, principal.user_id, principal.username)

    async def resolve(
        self, principal: Principal | None, kind: StorageKind, text: str, access: Access = Access.READ
    ) -> Storage:
        """The storage ``text`` refers to. Raises 404 when it is missing or hidden from the caller, 403 otherwise."""
        reference = self.reference(principal, text)

        async def op(tx: Tx) -> Storage:
            return await open_storage(tx, principal, kind, reference, access)

        return self.reads.applied(await self.reads.flushes.read(f"resolve {kind}", op))

    async def get_or_create(
        self, principal: Principal, kind: StorageKind, name: str | None, schema: dict[str, Any] | None
    ) -> tuple[Storage, bool]:
        """The caller's storage of this name, and whether it was created now; without a name always a new one."""
        if name is not None:
            check_name(name)
        if schema is not None and kind is StorageKind.DATASET:
            check_schema(schema)
        if schema is not None and kind is StorageKind.KEY_VALUE_STORE:
            check_store_schema(schema)
        now = self._clock.now_ms()

        async def op(tx: Tx) -> tuple[Storage, bool]:
            while True:
                if name is not None:
                    own = Reference(name, name_key=name_key(name), owner_id=principal.user_id)
                    existing = await storages.find(tx, kind, own)
                    if existing is not None:
                        return checked(existing, principal, kind, own, Access.READ), False
                created_id = await storages.insert(
                    tx,
                    kind,
                    user_id=principal.user_id,
                    now=now,
                    name=name,
                    maker_actor_id=principal.actor_id,
                    schema=schema,
                )
                if created_id is not None:
                    created = await storages.get(tx, kind, created_id)
                    if created is None:
                        raise LookupError(f"user {principal.user_id} has no row")
                    return created, True

        storage, created = await self._db.write(f"get or create {kind}", op)
        return self.reads.applied(storage), created

    async def list_owned(
        self, principal: Principal, kind: StorageKind, *, unnamed: bool, offset: int, limit: int, desc: bool
    ) -> tuple[int, list[Storage]]:
        """How many storages the caller has, and a page of them, oldest first unless ``desc``."""

        async def op(tx: Tx) -> tuple[int, list[Storage]]:
            return await storages.list_of_user(
                tx, kind, principal.user_id, unnamed=unnamed, offset=offset, limit=limit, desc=desc
            )

        total, found = await self.reads.flushes.read(f"list {kind}s", op)
        return total, [self.reads.applied(storage) for storage in found]

    async def update(self, principal: Principal, kind: StorageKind, text: str, changes: StorageUpdate) -> Storage:
        """Rename, retitle or re-share a storage. Raises 409 ``name-not-unique``."""
        reference = self.reference(principal, text)
        if changes.name is not msgspec.UNSET and changes.name is not None:
            check_name(changes.name)
        columns = msgspec.to_builtins(changes)
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Storage:
            storage = await open_storage(tx, principal, kind, reference, Access.WRITE)
            await storages.update(tx, kind, storage.id, columns, now)
            updated = await storages.get(tx, kind, storage.id)
            if updated is None:
                raise missing(kind, reference)
            return updated

        try:
            return self.reads.applied(await self._db.write(f"update {kind}", op))
        except UniqueViolationError as error:
            raise ApiError(
                ErrorType.NAME_NOT_UNIQUE, f"{kind.heading} name {changes.name!r} is already used by another one."
            ) from error

    async def delete(self, principal: Principal, kind: StorageKind, text: str) -> None:
        """Delete a storage with everything in it."""
        reference = self.reference(principal, text)
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Storage:
            storage = await open_storage(tx, principal, kind, reference, Access.WRITE)
            if not await storages.delete(tx, kind, storage.id, now):
                raise missing(kind, reference)
            return storage

        await self._db.write(f"delete {kind}", op)


async def open_storage(
    tx: Tx,
    principal: Principal | None,
    kind: StorageKind,
    reference: Reference,
    access: Access,
    *,
    is_signed: Callable[[Storage], bool] | None = None,
) -> Storage:
    """Find a storage inside a transaction and check that the caller may have ``access``.

    ``is_signed`` says whether the call carries a signature that opens what was found.
    """
    storage = await storages.find(tx, kind, reference)
    signed = storage is not None and is_signed is not None and is_signed(storage)
    return checked(storage, principal, kind, reference, access, signed=signed)


def checked(
    storage: S | None,
    principal: Principal | None,
    kind: StorageKind,
    reference: Reference,
    access: Access,
    *,
    signed: bool = False,
) -> S:
    """What was found, if the caller may have ``access``; see ``check_access``."""
    return check_access(
        storage,
        kind=kind,
        reference=reference,
        access=access,
        user_id=None if principal is None else principal.user_id,
        scope=None if principal is None else principal.scope,
        signed=signed,
    )


def may_change(principal: Principal | None, storage: Storage) -> bool:
    """Whether a storage is the caller's to change."""
    if principal is None or not principal.owns(storage.user_id):
        return False
    return principal.scope is None or principal.scope.may_change(storage)


async def guard_change(tx: Tx, principal: Principal, kind: StorageKind, reference: Reference) -> None:
    """Refuse a change by a run with limited permissions that does not reach so far; others' changes check themselves.

    For statements that find a storage by its owner (``where_owned``). Raises 403, or 404.
    """
    scope = principal.scope
    if scope is None or reference.id in scope.changeable:
        return
    storage = await open_storage(tx, principal, kind, reference, Access.WRITE)
    scope.changeable.add(storage.id)


async def refusal(tx: Tx, principal: Principal, kind: StorageKind, reference: Reference) -> ApiError:
    """Why a change found no storage of the caller's: 404, or 403 for one that the caller may only read."""
    try:
        await open_storage(tx, principal, kind, reference, Access.WRITE)
    except ApiError as error:
        return error
    return missing(kind, reference)
