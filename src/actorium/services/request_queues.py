"""What callers do with the requests of a request queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from actorium.domain.errors import ApiError, ErrorType, not_found
from actorium.domain.requests import Client, NewRequest, StoredRequest
from actorium.domain.storages import Access, Reference, StorageKind, missing
from actorium.kit import Clock
from actorium.services.access import Principal
from actorium.services.storages import ReadCounts, Storages, guard_change, may_change, open_storage, refusal
from actorium.storage import queues
from actorium.storage.db import Database, Tx
from actorium.storage.queues import Added, LockRefusedError, Queue

T = TypeVar("T")


class Head(msgspec.Struct, frozen=True):
    """The head of a queue, each item as its JSON. The last two only where the call locked them."""

    items: Sequence[str]
    queue_modified_at: int
    had_multiple_clients: bool
    lock_expires_at: int | None = None
    has_locked_requests: bool = False


class RequestQueues:
    """The request queue service."""

    def __init__(self, db: Database, clock: Clock, reads: ReadCounts) -> None:
        self._db = db
        self._clock = clock
        self._reads = reads

    async def add(
        self, principal: Principal, text: str, client: Client, requests: Sequence[NewRequest], *, forefront: bool
    ) -> Sequence[Added]:
        """Add requests in order."""

        async def change(tx: Tx, queue: Queue, now: int) -> Sequence[Added]:
            return await queues.add(tx, queue, requests, forefront=forefront, now=now)

        added = await self._change("add requests", principal, text, client, change)
        self._count_writes(principal, len(requests))
        return added

    async def put(
        self, principal: Principal, text: str, client: Client, request: NewRequest, *, forefront: bool
    ) -> Added:
        """Replace or add a request."""

        async def change(tx: Tx, queue: Queue, now: int) -> Added:
            return await queues.put(tx, queue, request, forefront=forefront, now=now)

        put = await self._change("put request", principal, text, client, change)
        self._count_writes(principal, 1)
        return put

    async def delete(self, principal: Principal, text: str, client: Client, wanted_id: str) -> None:
        """Delete a request. Raises 404."""

        async def change(tx: Tx, queue: Queue, _now: int) -> None:
            if not await queues.delete(tx, queue, [wanted_id]):
                raise not_found("Request")

        await self._change("delete request", principal, text, client, change)
        self._count_writes(principal, 1)

    async def delete_batch(self, principal: Principal, text: str, client: Client, wanted_ids: Sequence[str]) -> None:
        """Delete requests; missing ones are fine."""

        async def change(tx: Tx, queue: Queue, _now: int) -> int:
            return len(await queues.delete(tx, queue, list(dict.fromkeys(wanted_ids))))

        self._count_writes(principal, await self._change("delete requests", principal, text, client, change))

    async def get(self, principal: Principal | None, text: str, wanted_id: str) -> tuple[StoredRequest, int]:
        """One request and the time it was read. Raises 404."""
        reference = Storages.reference(principal, text)
        now = self._clock.now_ms()

        async def op(tx: Tx) -> tuple[str, StoredRequest | None]:
            queue = await open_storage(tx, principal, StorageKind.REQUEST_QUEUE, reference, Access.READ)
            return queue.id, await queues.get(tx, queue.id, wanted_id)

        queue_id, found = await self._db.read("get request", op)
        self._count_reads(principal, queue_id, read_count=int(found is not None))
        if found is None:
            raise not_found("Request")
        return found, now

    async def list(
        self,
        principal: Principal | None,
        text: str,
        client: Client,
        *,
        after: str | None,
        limit: int,
        locked: bool,
        pending: bool,
    ) -> tuple[Sequence[StoredRequest], int]:
        """Requests by id after the id ``after``, and the time they were read."""

        async def look(tx: Tx, queue: Queue, now: int) -> tuple[str, Sequence[StoredRequest], int]:
            found = await queues.list_requests(
                tx, queue.id, after=after, limit=limit, locked=locked, pending=pending, now=now
            )
            return queue.id, found, now

        queue_id, found, now = await self._look("list requests", principal, text, client, look)
        self._count_reads(principal, queue_id, read_count=len(found))
        return found, now

    async def head(self, principal: Principal | None, text: str, client: Client, limit: int) -> Head:
        """The first requests that are neither handled nor locked."""

        async def look(tx: Tx, queue: Queue, now: int) -> tuple[str, Head]:
            items = await queues.head(tx, queue, limit, now)
            return queue.id, Head(items, queue.modified_at, queue.had_multiple_clients)

        queue_id, found = await self._look("read head", principal, text, client, look)
        self._count_reads(principal, queue_id, head_item_read_count=len(found.items))
        return found

    async def lock_head(self, principal: Principal, text: str, client: Client, *, limit: int, lock_secs: int) -> Head:
        """Lock the first requests for the caller."""

        async def change(tx: Tx, queue: Queue, now: int) -> Head:
            items = await queues.lock_head(tx, queue, client, limit=limit, lock_secs=lock_secs, now=now)
            has_locked = bool(items) or await queues.has_locked(tx, queue.id, now)
            return Head(items, queue.modified_at, queue.had_multiple_clients, now + lock_secs * 1000, has_locked)

        # Ahead of what is being added: the Python SDK forgets a request it has locked when it is told later that it
        # has added it, and then waits for the lock to expire.
        locked = await self._change("lock head", principal, text, client, change, changes_content=False, ahead=True)
        self._count_writes(principal, len(locked.items))
        return locked

    async def prolong_lock(
        self, principal: Principal, text: str, client: Client, wanted_id: str, *, lock_secs: int, forefront: bool
    ) -> int:
        """Prolong a lock of the caller's; returns its new expiry."""

        async def change(tx: Tx, queue: Queue, now: int) -> int:
            try:
                expires_at = await queues.prolong_lock(
                    tx, queue, client, wanted_id, lock_secs=lock_secs, forefront=forefront, now=now
                )
            except LockRefusedError as error:
                raise _refused(wanted_id) from error
            if expires_at is None:
                raise not_found("Request")
            return expires_at

        expires_at = await self._change("prolong lock", principal, text, client, change)
        self._count_writes(principal, 1)
        return expires_at

    async def delete_lock(
        self, principal: Principal, text: str, client: Client, wanted_id: str, *, forefront: bool
    ) -> None:
        """Release a request."""

        async def change(tx: Tx, queue: Queue, now: int) -> None:
            try:
                found = await queues.delete_lock(tx, queue, client, wanted_id, forefront=forefront, now=now)
            except LockRefusedError as error:
                raise _refused(wanted_id) from error
            if not found:
                raise not_found("Request")

        await self._change("delete lock", principal, text, client, change)
        self._count_writes(principal, 1)

    async def unlock(self, principal: Principal, text: str, client: Client) -> int:
        """Release every lock of the caller's; returns how many there were."""

        async def change(tx: Tx, queue: Queue, now: int) -> int:
            return await queues.unlock(tx, queue, client, now)

        count = await self._change("unlock requests", principal, text, client, change)
        self._count_writes(principal, count)
        return count

    async def _change(
        self,
        description: str,
        principal: Principal,
        text: str,
        client: Client,
        change: Callable[[Tx, Queue, int], Awaitable[T]],
        *,
        changes_content: bool = True,
        ahead: bool = False,
    ) -> T:
        reference: Reference = Storages.reference(principal, text)
        now = self._clock.now_ms()

        async def op(tx: Tx) -> T:
            await guard_change(tx, principal, StorageKind.REQUEST_QUEUE, reference)
            queue = await queues.open_for_change(tx, reference, principal.user_id)
            if queue is None:
                raise await refusal(tx, principal, StorageKind.REQUEST_QUEUE, reference)
            queue.note(client)
            queue.accessed_at = now
            if changes_content:
                queue.modified_at = now
            result = await change(tx, queue, now)
            queues.keep(tx, queue)
            return result

        return await self._db.write(description, op, lane=reference.lane, ahead=ahead)

    async def _look(
        self,
        description: str,
        principal: Principal | None,
        text: str,
        client: Client,
        look: Callable[[Tx, Queue, int], Awaitable[T]],
    ) -> T:
        """Read the content. An owner is noted as a client; others may read a queue that is open to them."""
        reference = Storages.reference(principal, text)
        now = self._clock.now_ms()

        async def op(tx: Tx) -> tuple[T, str | None]:
            opened = await open_storage(tx, principal, StorageKind.REQUEST_QUEUE, reference, Access.READ)
            queue = await queues.find(tx, opened.id)
            if queue is None:
                raise missing(StorageKind.REQUEST_QUEUE, reference)
            is_new = may_change(principal, opened) and queue.note(client)
            return await look(tx, queue, now), queue.id if is_new else None

        result, noted_id = await self._db.read(description, op)
        if noted_id is not None and principal is not None:

            async def note(_tx: Tx, _queue: Queue, _now: int) -> None:
                return

            await self._change("note client", principal, noted_id, client, note, changes_content=False)
        return result

    def _count_reads(self, principal: Principal | None, queue_id: str, **counts: int) -> None:
        self._reads.add(principal, StorageKind.REQUEST_QUEUE, queue_id, **counts)

    def _count_writes(self, principal: Principal, count: int) -> None:
        """The queue's own counter grows in the same transaction as its content."""
        self._reads.usage.add(principal, StorageKind.REQUEST_QUEUE, write_count=count)


def _refused(wanted_id: str) -> ApiError:
    return ApiError(
        ErrorType.REQUEST_HANDLED_OR_LOCKED,
        f"The request {wanted_id} is handled, not locked, or locked by another client.",
    )
