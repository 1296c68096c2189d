"""Dispatches of webhooks: read, list, claim the next to be called, write down calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actorium.domain.webhooks import Dispatch, DispatchCall, Event, Target, Webhook
from actorium.storage.db import Row, Tx
from actorium.storage.webhooks import SELECT_WEBHOOKS, read_webhook

_encode = msgspec.json.Encoder().encode
_target = msgspec.json.Decoder(Target).decode
_calls = msgspec.json.Decoder(tuple[DispatchCall, ...]).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode

_SELECT = (
    "SELECT d.*, e.event_type, e.data_json FROM webhook_dispatches d JOIN webhook_events e ON e.id = d.event_id WHERE "
)
_GARBAGE = 500


class Claim(msgspec.Struct, frozen=True):
    """A dispatch that is due, held for its claimer until the lease is over."""

    webhook: Webhook
    dispatch: Dispatch
    event: Event


def _dispatch(row: Row) -> Dispatch:
    return Dispatch(
        id=row["id"],
        webhook_id=row["webhook_id"],
        user_id=row["user_id"],
        event_id=row["event_id"],
        event_type=row["event_type"],
        event_data=_object(row["data_json"]) if row["data_json"] else None,
        created_at=row["created_at"],
        status=row["status"],
        target=_target(row["target_json"]),
        calls=_calls(row["calls_json"]),
    )


async def get_dispatch(tx: Tx, dispatch_id: str) -> Dispatch | None:
    """A dispatch by id."""
    row = await tx.fetchrow(f"{_SELECT}d.id = ?", dispatch_id)
    return _dispatch(row) if row is not None else None


async def list_dispatches(
    tx: Tx, user_id: str, *, webhook_id: str | None, offset: int, limit: int, desc: bool
) -> tuple[Sequence[Dispatch], int]:
    """A page of a user's dispatches by creation, where given of one webhook, and how many there are in all."""
    condition, args = "d.user_id = ?", [user_id]
    if webhook_id is not None:
        condition += " AND d.webhook_id = ?"
        args.append(webhook_id)
    direction = "DESC" if desc else "ASC"
    order = "d.number" if webhook_id is not None else f"d.created_at {direction}, d.id"
    total = await tx.fetchrow(f"SELECT COUNT(*) AS total FROM webhook_dispatches d WHERE {condition}", *args)
    rows = await tx.fetch(
        f"{_SELECT}{condition} ORDER BY {order} {direction} LIMIT ? OFFSET ?",
        *args,
        limit,
        offset,
    )
    return [_dispatch(row) for row in rows], total["total"] if total else 0


async def is_any_due(tx: Tx, now: int) -> bool:
    """Whether a webhook that nobody works on has a dispatch due."""
    row = await tx.fetchrow(
        "SELECT 1 FROM webhooks WHERE due_at <= ? AND (lease_until IS NULL OR lease_until <= ?) LIMIT 1", now, now
    )
    return row is not None


async def claim_due(tx: Tx, owner: str, now: int, lease_until: int, limit: int) -> Sequence[Claim]:
    """The next dispatch of each of at most ``limit`` webhooks that have one due; nobody else gets these meanwhile.

    A webhook has one dispatch under way at a time, so its calls come in the order of their due times.
    """
    rows = await tx.fetch(
        "SELECT id FROM webhooks WHERE due_at <= ? AND (lease_until IS NULL OR lease_until <= ?) "
        f"ORDER BY due_at, id LIMIT ? {tx.skip_locked}",
        now,
        now,
        limit,
    )
    claims = []
    for row in rows:
        claim = await _claim(tx, row["id"], now)
        if claim is not None:
            await tx.execute(
                "UPDATE webhooks SET lease_owner = ?, lease_until = ? WHERE id = ?", owner, lease_until, row["id"]
            )
            claims.append(claim)
        else:
            await _set_due(tx, row["id"])
    return claims


async def _claim(tx: Tx, webhook_id: str, now: int) -> Claim | None:
    row = await tx.fetchrow(
        f"{_SELECT}d.webhook_id = ? AND d.status = 'ACTIVE' AND d.due_at <= ? ORDER BY d.due_at, d.number LIMIT 1",
        webhook_id,
        now,
    )
    webhook = await tx.fetchrow(f"{SELECT_WEBHOOKS} WHERE w.id = ?", webhook_id)
    if row is None or webhook is None:
        return None
    event = await tx.fetchrow("SELECT * FROM webhook_events WHERE id = ?", row["event_id"])
    return None if event is None else Claim(read_webhook(webhook), _dispatch(row), _event(event))


def _event(row: Row) -> Event:
    return Event(
        id=row["id"],
        event_type=row["event_type"],
        user_id=row["user_id"],
        created_at=row["created_at"],
        data=_object(row["data_json"]) if row["data_json"] else None,
        kind=row["resource_kind"],
        resource=row["resource_json"].encode() if row["resource_json"] else None,
    )


async def release_of(tx: Tx, owner: str) -> None:
    """Let go of every lease of an owner that is gone."""
    await tx.execute("UPDATE webhooks SET lease_owner = NULL, lease_until = NULL WHERE lease_owner = ?", owner)


async def note_call(
    tx: Tx, owner: str, dispatch: Dispatch, call: DispatchCall, status: str, next_due_at: int | None
) -> bool:
    """Write down a call of a claimed dispatch and release its webhook; false when somebody else was faster."""
    await tx.fetchrow(f"SELECT id FROM webhooks WHERE id = ? {tx.for_update}", dispatch.webhook_id)
    changed = await tx.execute(
        "UPDATE webhook_dispatches SET status = ?, finished_at = ?, calls_json = ?, call_count = call_count + 1, "
        "due_at = CASE WHEN CAST(? AS BIGINT) IS NULL THEN due_at ELSE CAST(? AS BIGINT) END "
        "WHERE id = ? AND status = 'ACTIVE' AND call_count = ?",
        status,
        call.finished_at if status != "ACTIVE" else None,
        _encode((*dispatch.calls, call)).decode(),
        next_due_at,
        next_due_at,
        dispatch.id,
        len(dispatch.calls),
    )
    await tx.execute(
        "UPDATE webhooks SET lease_owner = NULL, lease_until = NULL WHERE id = ? AND lease_owner = ?",
        dispatch.webhook_id,
        owner,
    )
    await _set_due(tx, dispatch.webhook_id)
    return changed > 0


async def _set_due(tx: Tx, webhook_id: str) -> None:
    """Note when a webhook's next call is due. The caller holds its row, so no event comes in between."""
    await tx.execute(
        "UPDATE webhooks SET due_at = "
        "(SELECT MIN(due_at) FROM webhook_dispatches d WHERE d.webhook_id = webhooks.id AND d.status = 'ACTIVE') "
        "WHERE id = ?",
        webhook_id,
    )


async def delete_finished(tx: Tx, before: int) -> bool:
    """Delete some of the dispatches that ended before a time; whether there may be more."""
    count = await tx.execute(
        "DELETE FROM webhook_dispatches WHERE id IN "
        "(SELECT id FROM webhook_dispatches WHERE finished_at < ? ORDER BY finished_at LIMIT ?)",
        before,
        _GARBAGE,
    )
    await tx.execute(
        "DELETE FROM webhook_events WHERE id IN (SELECT e.id FROM webhook_events e WHERE e.created_at < ? AND NOT "
        "EXISTS (SELECT 1 FROM webhook_dispatches d WHERE d.event_id = e.id) ORDER BY e.created_at LIMIT ?)",
        before,
        _GARBAGE,
    )
    await tx.execute(
        "DELETE FROM webhooks WHERE removed_at < ? AND NOT EXISTS "
        "(SELECT 1 FROM webhook_dispatches d WHERE d.webhook_id = webhooks.id)",
        before,
    )
    return count == _GARBAGE
