"""The request queue engine: requests, their order, their locks, exact counts.

Order: ``order_no`` ascending, negative for the front, ``NULL`` once handled. A lock moves a request to
where it belongs after the lock's expiry, so the head never reads over locked requests of the back.
Every change first updates the queue's row: it finds, checks and locks the queue in one statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actorium.domain.requests import Client, NewRequest, StoredRequest
from actorium.storage.db import Row, Tx, placeholders

_PER_MS = 1_000_000
"""Order numbers of one millisecond: in the lower half those of locks that expire at it, then what is added in it."""

_LOCKS_PER_MS = _PER_MS // 2

_QUEUE = "id, last_order_no, last_lock_order_no, had_multiple_clients, modified_at"
_STORED = "id, request_json, handled_at, lock_expires_at, lock_client_key"


class Queue(msgspec.Struct, frozen=True):
    """What a change needs of the queue's row."""

    id: str
    last_order_no: int
    last_lock_order_no: int
    had_multiple_clients: bool
    modified_at: int


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


async def open_for_change(
    tx: Tx, condition: str, args: Sequence[Any], client: Client | None, now: int, *, changes_content: bool
) -> Queue | None:
    """Find and lock the queue and note who calls; ``None`` when the condition finds none.

    A second distinct client, or one without a key, makes ``had_multiple_clients`` true for good.
    """
    assignments, values = ["accessed_at = ?"], [now]
    if changes_content:
        assignments.append("modified_at = ?")
        values.append(now)
    seen: list[Any] = []
    if client is not None:
        if client.key is None:
            assignments.append(
                "had_multiple_clients = CASE WHEN first_client_key IS NULL THEN had_multiple_clients ELSE 1 END"
            )
            assignments.append("first_client_key = COALESCE(first_client_key, '')")
        else:
            assignments.append(
                "had_multiple_clients = CASE WHEN first_client_key IS NULL OR first_client_key = ? "
                "THEN had_multiple_clients ELSE 1 END"
            )
            assignments.append("first_client_key = COALESCE(first_client_key, ?)")
            seen = [client.key, client.key]
    row = await tx.fetchrow(
        f"UPDATE request_queues SET {', '.join(assignments)} WHERE {condition} RETURNING {_QUEUE}",
        *values,
        *seen,
        *args,
    )
    return None if row is None else _queue(row)


async def open_for_reading(tx: Tx, queue_id: str) -> Queue | None:
    """A queue as it is, for a caller who changes nothing in it."""
    row = await tx.fetchrow(f"SELECT {_QUEUE} FROM request_queues WHERE id = ?", queue_id)
    return None if row is None else _queue(row)


def _queue(row: Row) -> Queue:
    return Queue(
        row["id"],
        row["last_order_no"],
        row["last_lock_order_no"],
        bool(row["had_multiple_clients"]),
        row["modified_at"],
    )


class _Order:
    """Gives out order numbers, each larger than any before in this queue."""

    def __init__(self, queue: Queue, now: int) -> None:
        self.last = max(queue.last_order_no, now * _PER_MS + _LOCKS_PER_MS)

    def next(self, *, forefront: bool) -> int:
        self.last += 1
        return -self.last if forefront else self.last


async def _count(tx: Tx, queue: Queue, **changes: int) -> None:
    """Add to the queue's counters."""
    values = {name: value for name, value in changes.items() if value}
    if values:
        await tx.execute(
            f"UPDATE request_queues SET {', '.join(f'{name} = {name} + ?' for name in values)} WHERE id = ?",
            *values.values(),
            queue.id,
        )


async def _set_last_order(tx: Tx, queue: Queue, order: _Order) -> None:
    await tx.execute("UPDATE request_queues SET last_order_no = ? WHERE id = ?", order.last, queue.id)


async def add(tx: Tx, queue: Queue, requests: Sequence[NewRequest], *, forefront: bool, now: int) -> list[Added]:
    """Add requests in order; one whose unique key is there changes nothing."""
    known = await _states(tx, queue, [request.id for request in requests])
    order = _Order(queue, now)
    results, rows, handled, size = [], [], 0, 0
    for request in requests:
        before = known.get(request.id)
        if before is not None:
            results.append(Added(request.id, request.unique_key, True, before))
            continue
        is_handled = request.handled_at is not None
        known[request.id] = is_handled
        order_no = None if is_handled else order.next(forefront=forefront)
        rows.append((queue.id, request.id, order_no, request.handled_at, request.head, request.text))
        handled += is_handled
        size += _size_bytes(request.text)
        results.append(Added(request.id, request.unique_key, False, False))
    if rows:
        await tx.executemany(_INSERT, rows)
        await tx.execute(
            "UPDATE request_queues SET last_order_no = ?, total_count = total_count + ?, "
            "handled_count = handled_count + ?, write_count = write_count + ?, storage_bytes = storage_bytes + ? "
            "WHERE id = ?",
            order.last,
            len(rows),
            handled,
            len(requests),
            size,
            queue.id,
        )
    else:
        await _count(tx, queue, write_count=len(requests))
    return results


def _size_bytes(text: str) -> int:
    """What a request adds to its queue's ``storage_bytes``."""
    return len(text.encode())


_INSERT = "INSERT INTO requests (queue_id, id, order_no, handled_at, head_json, request_json) VALUES (?, ?, ?, ?, ?, ?)"


async def _states(tx: Tx, queue: Queue, ids: Sequence[str]) -> dict[str, bool]:
    """Which of ``ids`` are there, and whether they are handled."""
    rows = await tx.fetch(
        f"SELECT id, handled_at FROM requests WHERE queue_id = ? AND id IN ({placeholders(len(ids))})", queue.id, *ids
    )
    return {row["id"]: row["handled_at"] is not None for row in rows}


async def put(tx: Tx, queue: Queue, request: NewRequest, *, forefront: bool, now: int) -> Added:
    """Replace a request whole, or add it. Its lock ends; unhandled it is queued again."""
    row = await tx.fetchrow(
        "SELECT handled_at, request_json FROM requests WHERE queue_id = ? AND id = ?", queue.id, request.id
    )
    if row is None:
        return (await add(tx, queue, [request], forefront=forefront, now=now))[0]
    was_handled, is_handled = row["handled_at"] is not None, request.handled_at is not None
    order = _Order(queue, now)
    await tx.execute(
        "UPDATE requests SET order_no = ?, handled_at = ?, lock_expires_at = NULL, lock_client_key = NULL, "
        "lock_run_id = NULL, head_json = ?, request_json = ? WHERE queue_id = ? AND id = ?",
        None if is_handled else order.next(forefront=forefront),
        request.handled_at,
        request.head,
        request.text,
        queue.id,
        request.id,
    )
    await tx.execute(
        "UPDATE request_queues SET last_order_no = ?, handled_count = handled_count + ?, "
        "write_count = write_count + 1, storage_bytes = storage_bytes + ? WHERE id = ?",
        order.last,
        int(is_handled) - int(was_handled),
        _size_bytes(request.text) - _size_bytes(row["request_json"]),
        queue.id,
    )
    return Added(request.id, request.unique_key, True, was_handled)


async def delete(tx: Tx, queue: Queue, ids: Sequence[str]) -> set[str]:
    """Delete requests; returns the ids of those that were there."""
    rows = await tx.fetch(
        f"DELETE FROM requests WHERE queue_id = ? AND id IN ({placeholders(len(ids))}) "
        "RETURNING id, handled_at, request_json",
        queue.id,
        *ids,
    )
    if rows:
        await tx.execute(
            "UPDATE request_queues SET total_count = total_count - ?, handled_count = handled_count - ?, "
            "delete_count = delete_count + ?, write_count = write_count + ?, storage_bytes = storage_bytes - ? "
            "WHERE id = ?",
            len(rows),
            sum(row["handled_at"] is not None for row in rows),
            len(rows),
            len(rows),
            sum(_size_bytes(row["request_json"]) for row in rows),
            queue.id,
        )
    return {row["id"] for row in rows}


async def get(tx: Tx, queue_id: str, request_id: str) -> StoredRequest | None:
    """One request."""
    row = await tx.fetchrow(f"SELECT {_STORED} FROM requests WHERE queue_id = ? AND id = ?", queue_id, request_id)
    return _stored(row) if row is not None else None


async def list_requests(
    tx: Tx, queue_id: str, *, after: str | None, limit: int, locked: bool, pending: bool, now: int
) -> list[StoredRequest]:
    """Requests by id, where asked only ``locked`` or ``pending`` ones (both: their union)."""
    condition, args = "queue_id = ?", [queue_id]
    more: list[Any] = []
    if after is not None:
        condition += " AND id > ?"
        args.append(after)
    if pending:  # a locked request is pending too
        condition += " AND order_no IS NOT NULL"
    elif locked:
        condition += " AND order_no IS NOT NULL AND lock_expires_at > ?"
        more.append(now)
    rows = await tx.fetch(f"SELECT {_STORED} FROM requests WHERE {condition} ORDER BY id LIMIT ?", *args, *more, limit)
    return [_stored(row) for row in rows]


_AVAILABLE = (
    "FROM requests WHERE queue_id = ? AND order_no IS NOT NULL AND (lock_expires_at IS NULL OR lock_expires_at <= ?) "
    "ORDER BY order_no LIMIT ?"
)


async def head(tx: Tx, queue_id: str, limit: int, now: int) -> list[str]:
    """The first requests that are neither handled nor locked, as the JSON the head tells of them."""
    rows = await tx.fetch(f"SELECT head_json {_AVAILABLE}", queue_id, now, limit)
    return [row["head_json"] for row in rows]


async def lock_head(tx: Tx, queue: Queue, client: Client, *, limit: int, lock_secs: int, now: int) -> list[str]:
    """Lock the first ``limit`` requests and return them; nobody else gets them before the locks expire."""
    expires_at = now + lock_secs * 1000
    # Behind everything added before the expiry, or (from the front) before it; see the docs' ordering model.
    number = _lock_number(queue, limit)
    first = expires_at * _PER_MS + number
    rows = await tx.fetch(
        "UPDATE requests SET order_no = head.position + CASE WHEN order_no > 0 THEN CAST(? AS BIGINT) "
        "ELSE CAST(? AS BIGINT) END, lock_expires_at = ?, lock_client_key = ?, lock_run_id = ? "
        "FROM (SELECT available.id AS head_id, ROW_NUMBER() OVER (ORDER BY available.place) AS position "
        f"FROM (SELECT id, order_no AS place {_AVAILABLE}) AS available) AS head "
        "WHERE queue_id = ? AND id = head.head_id RETURNING order_no, head_json",
        first,
        -first - limit - 1,
        expires_at,
        client.key,
        client.run_id,
        queue.id,
        now,
        limit,
        queue.id,
    )
    if not rows:
        return []
    await tx.execute(
        "UPDATE request_queues SET last_lock_order_no = ?, write_count = write_count + ? WHERE id = ?",
        number + limit,
        len(rows),
        queue.id,
    )
    return [row["head_json"] for row in sorted(rows, key=lambda row: row["order_no"])]


async def has_locked(tx: Tx, queue_id: str, now: int) -> bool:
    """Whether any unhandled request is locked, by whomever."""
    row = await tx.fetchrow(
        "SELECT 1 AS one FROM requests WHERE queue_id = ? AND lock_expires_at > ? AND order_no IS NOT NULL LIMIT 1",
        queue_id,
        now,
    )
    return row is not None


def _lock_number(queue: Queue, count: int) -> int:
    """The number before those of the next ``count`` locks; locks of one expiry are in the order of their numbers."""
    last = queue.last_lock_order_no
    return last if last + count < _LOCKS_PER_MS else 0


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
    number = _lock_number(queue, 1) + 1
    order_no = expires_at * _PER_MS + number
    await tx.execute(
        "UPDATE requests SET order_no = ?, lock_expires_at = ? WHERE queue_id = ? AND id = ?",
        -order_no if forefront else order_no,
        expires_at,
        queue.id,
        request_id,
    )
    await tx.execute(
        "UPDATE request_queues SET last_lock_order_no = ?, write_count = write_count + 1 WHERE id = ?",
        number,
        queue.id,
    )
    return expires_at


async def delete_lock(tx: Tx, queue: Queue, client: Client, request_id: str, *, forefront: bool, now: int) -> bool:
    """Release a request to the end or (``forefront``) front of the queue; false when there is no such request."""
    held = await _held(tx, queue, request_id, now)
    if held is None:
        return False
    is_handled, is_locked, row = held
    if is_handled or (is_locked and not _owns(row, client)):
        raise LockRefusedError
    order = _Order(queue, now)
    await tx.execute(
        "UPDATE requests SET order_no = ?, lock_expires_at = NULL, lock_client_key = NULL, lock_run_id = NULL "
        "WHERE queue_id = ? AND id = ?",
        order.next(forefront=forefront),
        queue.id,
        request_id,
    )
    await _set_last_order(tx, queue, order)
    await _count(tx, queue, write_count=1)
    return True


async def unlock(tx: Tx, queue: Queue, client: Client, now: int) -> int:
    """Release every lock of the client and of its run, oldest place first; returns how many there were."""
    rows = await tx.fetch(
        "SELECT id, order_no FROM requests WHERE queue_id = ? AND lock_expires_at > ? AND order_no IS NOT NULL "
        "AND (lock_client_key = ? OR lock_run_id = ?) ORDER BY order_no",
        queue.id,
        now,
        client.key,
        client.run_id,
    )
    if not rows:
        return 0
    order = _Order(queue, now)
    # From the front the last one put there comes first.
    front = [row for row in rows if row["order_no"] < 0][::-1]
    back = [row for row in rows if row["order_no"] >= 0]
    await tx.executemany(
        "UPDATE requests SET order_no = ?, lock_expires_at = NULL, lock_client_key = NULL, lock_run_id = NULL "
        "WHERE queue_id = ? AND id = ?",
        [(order.next(forefront=row["order_no"] < 0), queue.id, row["id"]) for row in [*front, *back]],
    )
    await _set_last_order(tx, queue, order)
    await _count(tx, queue, write_count=len(rows))
    return len(rows)
