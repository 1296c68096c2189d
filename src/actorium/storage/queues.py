"""The request queue engine: requests, their order, their locks, exact counts.

Order: ``order_no`` ascending, negative for the front, ``NULL`` once handled. A lock moves a request to
where it belongs after the lock's expiry, so the head never reads over locked requests.
Every change first reads the queue's row and locks it; it is written back once, before the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actorium.domain.requests import Client, NewRequest, StoredRequest
from actorium.domain.storages import Reference
from actorium.storage import storages
from actorium.storage.db import Row, Tx, placeholders

_PER_MS = 1_000_000
"""Order numbers of one millisecond: in the lower half those of locks that expire at it, then what is added in it."""

_LOCKS_PER_MS = _PER_MS // 2

_QUEUE = "id, user_id, last_order_no, last_lock_no, first_client_key, had_multiple_clients, modified_at, accessed_at"
_STORED = "id, request_json, handled_at, lock_expires_at, lock_client_key"
_UNLOCKED = "lock_expires_at = NULL, lock_client_key = NULL, lock_run_id = NULL"


class Queue(msgspec.Struct):
    """A queue's row while calls work on it; the ``*_count`` and ``storage_bytes`` are what they add."""

    id: str
    user_id: str
    last_order_no: int
    last_lock_no: int
    first_client_key: str | None
    had_multiple_clients: bool
    modified_at: int
    accessed_at: int
    total_count: int = 0
    handled_count: int = 0
    write_count: int = 0
    delete_count: int = 0
    storage_bytes: int = 0

    async def save(self, tx: Tx) -> None:
        """Write back what the calls made of it."""
        await tx.execute(
            "UPDATE request_queues SET accessed_at = ?, modified_at = ?, last_order_no = ?, last_lock_no = ?, "
            "first_client_key = ?, had_multiple_clients = ?, total_count = total_count + ?, "
            "handled_count = handled_count + ?, write_count = write_count + ?, delete_count = delete_count + ?, "
            "storage_bytes = storage_bytes + ? WHERE id = ?",
            self.accessed_at,
            self.modified_at,
            self.last_order_no,
            self.last_lock_no,
            self.first_client_key,
            int(self.had_multiple_clients),
            self.total_count,
            self.handled_count,
            self.write_count,
            self.delete_count,
            self.storage_bytes,
            self.id,
        )

    def note(self, client: Client) -> bool:
        """Take in who calls; returns whether that changed anything.

        A second distinct client, or one without a key, makes ``had_multiple_clients`` true for good.
        """
        if self.first_client_key is None:
            self.first_client_key = client.key or ""
            return True
        if self.had_multiple_clients or client.key == self.first_client_key:
            return False
        self.had_multiple_clients = True
        return True

    def next_order_no(self, now: int, *, forefront: bool) -> int:
        """An order number larger (or, for the front, smaller) than any before."""
        self.last_order_no = max(self.last_order_no, now * _PER_MS + _LOCKS_PER_MS) + 1
        return -self.last_order_no if forefront else self.last_order_no

    def next_lock_order_nos(self, expires_at: int, count: int) -> int:
        """The first of ``count`` order numbers of locks with this expiry; locks of one expiry keep their order."""
        if self.last_lock_no + count >= _LOCKS_PER_MS:
            self.last_lock_no = 0
        first = self.last_lock_no + 1
        self.last_lock_no += count
        return expires_at * _PER_MS + first

    def reach(self, now: int) -> int:
        """No request that is free at ``now`` has an order number further from 0 than this."""
        return max(self.last_order_no, now * _PER_MS + _LOCKS_PER_MS)


class Added(msgspec.Struct, frozen=True):
    """What became of one request of an add or update."""

    id: str
    unique_key: str
    was_already_present: bool
    was_already_handled: bool


def _stored(row: Row) -> StoredRequest:
    return StoredRequest(
        row["id"], row["request_json"], row["handled_at"], row["lock_expires_at"], row["lock_client_key"]
    )


async def open_for_change(tx: Tx, reference: Reference, user_id: str) -> Queue | None:
    """The queue of ``user_id``, locked until the end of the transaction; ``None`` when there is none.

    It is a copy: a call that succeeds hands it to ``keep``. What calls of one transaction keep is read and saved once.
    """
    kept = tx.unsaved.get(reference.id or "")
    if isinstance(kept, Queue) and kept.user_id == user_id:
        return msgspec.structs.replace(kept)
    condition, args = storages.where_owned(reference, user_id)
    row = await tx.fetchrow(f"SELECT {_QUEUE} FROM request_queues WHERE {condition} {tx.for_update}", *args)
    if row is None:
        return None
    # By its id it may be in use already, if this call goes by its name.
    kept = tx.unsaved.get(row["id"])
    return msgspec.structs.replace(kept) if isinstance(kept, Queue) else _queue(row)


def keep(tx: Tx, queue: Queue) -> None:
    """Let a change of the queue be saved with the transaction."""
    tx.unsaved[queue.id] = queue


async def find(tx: Tx, queue_id: str) -> Queue | None:
    """A queue for a look."""
    row = await tx.fetchrow(f"SELECT {_QUEUE} FROM request_queues WHERE id = ?", queue_id)
    return None if row is None else _queue(row)


def _queue(row: Row) -> Queue:
    return Queue(
        row["id"],
        row["user_id"],
        row["last_order_no"],
        row["last_lock_no"],
        row["first_client_key"],
        bool(row["had_multiple_clients"]),
        row["modified_at"],
        row["accessed_at"],
    )


async def add(tx: Tx, queue: Queue, requests: Sequence[NewRequest], *, forefront: bool, now: int) -> list[Added]:
    """Add requests in order; one whose unique key is there changes nothing."""
    wanted: dict[str, NewRequest] = {}
    for request in requests:
        wanted.setdefault(request.id, request)
    new = await _insert(tx, queue, list(wanted.values()), forefront=forefront, now=now)
    known = {} if len(new) == len(requests) else await _states(tx, queue, list(wanted))
    results = []
    for request in requests:
        is_new = request.id in new
        new.discard(request.id)
        results.append(Added(request.id, request.unique_key, not is_new, not is_new and known[request.id]))
    queue.write_count += len(requests)
    return results


async def _insert(tx: Tx, queue: Queue, requests: Sequence[NewRequest], *, forefront: bool, now: int) -> set[str]:
    """Insert those of distinct ``requests`` that are not there, and return their ids."""
    values: list[Any] = []
    for request in requests:
        order_no = None if request.handled_at is not None else queue.next_order_no(now, forefront=forefront)
        values += (
            queue.id,
            request.id,
            order_no,
            request.handled_at,
            request.size_bytes,
            request.head,
            request.text,
        )
    rows = await tx.fetch(
        "INSERT INTO requests (queue_id, id, order_no, handled_at, size_bytes, head_json, request_json) "
        f"VALUES {', '.join(['(?, ?, ?, ?, ?, ?, ?)'] * len(requests))} "
        "ON CONFLICT (queue_id, id) DO NOTHING RETURNING id",
        *values,
    )
    new = {row["id"] for row in rows}
    for request in requests:
        if request.id in new:
            queue.total_count += 1
            queue.handled_count += request.handled_at is not None
            queue.storage_bytes += request.size_bytes
    return new


async def _states(tx: Tx, queue: Queue, ids: Sequence[str]) -> dict[str, bool]:
    """Which of ``ids`` are there, and whether they are handled."""
    rows = await tx.fetch(
        f"SELECT id, handled_at FROM requests WHERE queue_id = ? AND id IN ({placeholders(len(ids))})", queue.id, *ids
    )
    return {row["id"]: row["handled_at"] is not None for row in rows}


async def put(tx: Tx, queue: Queue, request: NewRequest, *, forefront: bool, now: int) -> Added:
    """Replace a request whole, or add it. Its lock ends; unhandled it is queued again."""
    row = await tx.fetchrow(
        "SELECT handled_at, size_bytes FROM requests WHERE queue_id = ? AND id = ?",
        queue.id,
        request.id,
    )
    if row is None:
        return (await add(tx, queue, [request], forefront=forefront, now=now))[0]
    was_handled, is_handled = row["handled_at"] is not None, request.handled_at is not None
    await tx.execute(
        f"UPDATE requests SET order_no = ?, handled_at = ?, {_UNLOCKED}, size_bytes = ?, head_json = ?, "
        "request_json = ? WHERE queue_id = ? AND id = ?",
        None if is_handled else queue.next_order_no(now, forefront=forefront),
        request.handled_at,
        request.size_bytes,
        request.head,
        request.text,
        queue.id,
        request.id,
    )
    queue.handled_count += int(is_handled) - int(was_handled)
    queue.write_count += 1
    queue.storage_bytes += request.size_bytes - row["size_bytes"]
    return Added(request.id, request.unique_key, True, was_handled)


async def delete(tx: Tx, queue: Queue, ids: Sequence[str]) -> set[str]:
    """Delete requests; returns the ids of those that were there."""
    rows = await tx.fetch(
        f"DELETE FROM requests WHERE queue_id = ? AND id IN ({placeholders(len(ids))}) "
        "RETURNING id, handled_at, size_bytes",
        queue.id,
        *ids,
    )
    queue.total_count -= len(rows)
    queue.handled_count -= sum(row["handled_at"] is not None for row in rows)
    queue.delete_count += len(rows)
    queue.write_count += len(rows)
    queue.storage_bytes -= sum(row["size_bytes"] for row in rows)
    return {row["id"] for row in rows}


async def get(tx: Tx, queue_id: str, request_id: str) -> StoredRequest | None:
    """One request."""
    row = await tx.fetchrow(f"SELECT {_STORED} FROM requests WHERE queue_id = ? AND id = ?", queue_id, request_id)
    return _stored(row) if row is not None else None


async def list_requests(
    tx: Tx, queue_id: str, *, after: str | None, limit: int, locked: bool, pending: bool, now: int
) -> list[StoredRequest]:
    """Requests by id, where asked only ``locked`` or ``pending`` ones (both: their union)."""
    condition, args = "queue_id = ?", list[Any]([queue_id])
    if after is not None:
        condition += " AND id > ?"
        args.append(after)
    if pending:  # a locked request is pending too
        condition += " AND order_no IS NOT NULL"
    elif locked:
        condition += f" AND id IN (SELECT id {_LOCKED_BACK} UNION ALL SELECT id {_LOCKED_FRONT})"
        args += _locked_args(queue_id, now)
    rows = await tx.fetch(f"SELECT {_STORED} FROM requests WHERE {condition} ORDER BY id LIMIT ?", *args, limit)
    return [_stored(row) for row in rows]


_AVAILABLE = (
    "FROM requests WHERE queue_id = ? AND order_no BETWEEN ? AND ? "
    "AND (lock_expires_at IS NULL OR lock_expires_at <= ?) ORDER BY order_no LIMIT ?"
)
# A lock's order number is that of its expiry, or the negative of it.
_LOCKED_BACK = "FROM requests WHERE queue_id = ? AND order_no > ? AND lock_expires_at > ?"
_LOCKED_FRONT = "FROM requests WHERE queue_id = ? AND order_no < ? AND lock_expires_at > ?"


def _locked_args(queue_id: str, now: int) -> tuple[Any, ...]:
    """Arguments of ``_LOCKED_BACK`` and then ``_LOCKED_FRONT``."""
    return queue_id, now * _PER_MS, now, queue_id, -now * _PER_MS, now


async def head(tx: Tx, queue: Queue, limit: int, now: int) -> list[str]:
    """The first requests that are neither handled nor locked, as the JSON the head tells of them."""
    reach = queue.reach(now)
    rows = await tx.fetch(f"SELECT head_json {_AVAILABLE}", queue.id, -reach, reach, now, limit)
    return [row["head_json"] for row in rows]


async def lock_head(tx: Tx, queue: Queue, client: Client, *, limit: int, lock_secs: int, now: int) -> list[str]:
    """Lock the first ``limit`` requests and return them; nobody else gets them before the locks expire."""
    expires_at = now + lock_secs * 1000
    # Behind everything added before the expiry, or (from the front) before it; see the docs' ordering model.
    first = queue.next_lock_order_nos(expires_at, limit)
    reach = queue.reach(now)
    rows = await tx.fetch(
        "UPDATE requests SET order_no = head.position + CASE WHEN order_no > 0 THEN CAST(? AS BIGINT) "
        "ELSE CAST(? AS BIGINT) END, lock_expires_at = ?, lock_client_key = ?, lock_run_id = ? "
        # By address: by their ids, PostgreSQL reads all of a queue that is younger than its statistics.
        "FROM (SELECT available.address, ROW_NUMBER() OVER (ORDER BY available.place) AS position "
        f"FROM (SELECT {tx.row_address} AS address, order_no AS place {_AVAILABLE}) AS available) AS head "
        f"WHERE requests.{tx.row_address} = head.address RETURNING order_no, head_json",
        first - 1,
        -first - limit,
        expires_at,
        client.key,
        client.run_id,
        queue.id,
        -reach,
        reach,
        now,
        limit,
    )
    queue.write_count += len(rows)
    return [row["head_json"] for row in sorted(rows, key=lambda row: row["order_no"])]


async def has_locked(tx: Tx, queue_id: str, now: int) -> bool:
    """Whether any unhandled request is locked, by whomever."""
    row = await tx.fetchrow(
        f"SELECT EXISTS (SELECT 1 {_LOCKED_BACK}) OR EXISTS (SELECT 1 {_LOCKED_FRONT}) AS found",
        *_locked_args(queue_id, now),
    )
    return row is not None and bool(row["found"])


async def _held(tx: Tx, queue: Queue, request_id: str, now: int) -> tuple[bool, bool, Row] | None:
    """``(is_handled, is_locked, row)`` of a request, ``None`` when there is none."""
    row = await tx.fetchrow(
        "SELECT order_no, lock_expires_at, lock_client_key, lock_run_id FROM requests WHERE queue_id = ? AND id = ?",
        queue.id,
        request_id,
    )
    if row is None:
        return None
    is_locked = row["lock_expires_at"] is not None and row["lock_expires_at"] > now
    return row["order_no"] is None, is_locked, row


def _owns(row: Row, client: Client) -> bool:
    by_key = client.key is not None and row["lock_client_key"] == client.key
    return by_key or (client.run_id is not None and row["lock_run_id"] == client.run_id)


class LockRefusedError(Exception):
    """The request is handled, not locked, or locked by somebody else."""


async def prolong_lock(
    tx: Tx, queue: Queue, client: Client, request_id: str, *, lock_secs: int, forefront: bool, now: int
) -> int | None:
    """Prolong a lock the client holds; returns the new expiry, ``None`` when there is no such request."""
    held = await _held(tx, queue, request_id, now)
    if held is None:
        return None
    is_handled, is_locked, row = held
    if is_handled or not is_locked or not _owns(row, client):
        raise LockRefusedError
    expires_at = now + lock_secs * 1000
    order_no = queue.next_lock_order_nos(expires_at, 1)
    await tx.execute(
        "UPDATE requests SET order_no = ?, lock_expires_at = ? WHERE queue_id = ? AND id = ?",
        -order_no if forefront else order_no,
        expires_at,
        queue.id,
        request_id,
    )
    queue.write_count += 1
    return expires_at


async def delete_lock(tx: Tx, queue: Queue, client: Client, request_id: str, *, forefront: bool, now: int) -> bool:
    """Release a request to the end or (``forefront``) front of the queue; false when there is no such request."""
    held = await _held(tx, queue, request_id, now)
    if held is None:
        return False
    is_handled, is_locked, row = held
    if is_handled or (is_locked and not _owns(row, client)):
        raise LockRefusedError
    await tx.execute(
        f"UPDATE requests SET order_no = ?, {_UNLOCKED} WHERE queue_id = ? AND id = ?",
        queue.next_order_no(now, forefront=forefront),
        queue.id,
        request_id,
    )
    queue.write_count += 1
    return True


async def unlock(tx: Tx, queue: Queue, client: Client, now: int) -> int:
    """Release every lock of the client and of its run, oldest place first; returns how many there were."""
    mine = "AND (lock_client_key = ? OR lock_run_id = ?)"
    locked = _locked_args(queue.id, now)
    rows = await tx.fetch(
        f"SELECT id, order_no {_LOCKED_BACK} {mine} UNION ALL SELECT id, order_no {_LOCKED_FRONT} {mine} "
        "ORDER BY order_no",
        *locked[:3],
        client.key,
        client.run_id,
        *locked[3:],
        client.key,
        client.run_id,
    )
    # From the front the last one put there comes first.
    front = [row for row in rows if row["order_no"] < 0][::-1]
    back = [row for row in rows if row["order_no"] >= 0]
    await tx.executemany(
        f"UPDATE requests SET order_no = ?, {_UNLOCKED} WHERE queue_id = ? AND id = ?",
        [(queue.next_order_no(now, forefront=row["order_no"] < 0), queue.id, row["id"]) for row in [*front, *back]],
    )
    queue.write_count += len(rows)
    return len(rows)
