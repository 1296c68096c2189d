"""Webhooks as their owners handle them: create, read, list, change, delete."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actorium.domain.webhooks import Webhook, WebhookFields
from actorium.storage.accounts import lock_user
from actorium.storage.db import Row, Tx

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(WebhookFields).decode

SELECT_WEBHOOKS = (
    "SELECT w.*, d.status AS last_dispatch_status, d.finished_at AS last_dispatch_finished_at "
    "FROM webhooks w LEFT JOIN webhook_dispatches d ON d.id = w.last_dispatch_id"
)


def read_webhook(row: Row) -> Webhook:
    """A row of ``SELECT_WEBHOOKS``."""
    return Webhook(
        id=row["id"],
        user_id=row["user_id"],
        created_at=row["created_at"],
        modified_at=row["modified_at"],
        is_ad_hoc=bool(row["is_ad_hoc"]),
        condition=row["condition"],
        condition_id=row["condition_id"],
        idempotency_key=row["idempotency_key"],
        fields=_fields(row["fields_json"]),
        removed_at=row["removed_at"],
        total_dispatches=row["total_dispatches"],
        last_dispatch_status=row["last_dispatch_status"],
        last_dispatch_finished_at=row["last_dispatch_finished_at"],
    )


def _event_types(fields: WebhookFields) -> str:
    # With a comma on both sides of each, so that one is found by its whole name.
    return f",{','.join(fields.event_types)},"


async def insert_webhook(tx: Tx, webhook: Webhook) -> bool:
    """Store a new webhook; false when its owner has one with this idempotency key."""
    return (
        await tx.execute(
            "INSERT INTO webhooks (id, user_id, created_at, modified_at, is_ad_hoc, condition, condition_id, "
            "event_types, idempotency_key, fields_json) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (user_id, idempotency_key) DO NOTHING",
            webhook.id,
            webhook.user_id,
            webhook.created_at,
            webhook.modified_at,
            int(webhook.is_ad_hoc),
            webhook.condition,
            webhook.condition_id,
            _event_types(webhook.fields),
            webhook.idempotency_key,
            _encode(webhook.fields).decode(),
        )
        > 0
    )


async def update_webhook(tx: Tx, webhook: Webhook) -> None:
    """Store a webhook's changed fields and condition."""
    await tx.execute(
        "UPDATE webhooks SET modified_at = ?, condition = ?, condition_id = ?, event_types = ?, fields_json = ? "
        "WHERE id = ?",
        webhook.modified_at,
        webhook.condition,
        webhook.condition_id,
        _event_types(webhook.fields),
        _encode(webhook.fields).decode(),
        webhook.id,
    )


async def get_webhook(tx: Tx, webhook_id: str, *, for_update: bool = False) -> Webhook | None:
    """A webhook that is not deleted; ``for_update`` makes writers to one take turns."""
    if for_update:
        await tx.fetchrow(f"SELECT id FROM webhooks WHERE id = ? {tx.for_update}", webhook_id)
    row = await tx.fetchrow(f"{SELECT_WEBHOOKS} WHERE w.id = ? AND w.removed_at IS NULL", webhook_id)
    return read_webhook(row) if row is not None else None


async def find_webhook(tx: Tx, user_id: str, idempotency_key: str) -> Webhook | None:
    """The webhook a user made with an idempotency key."""
    row = await tx.fetchrow(
        f"{SELECT_WEBHOOKS} WHERE w.user_id = ? AND w.idempotency_key = ?", user_id, idempotency_key
    )
    return read_webhook(row) if row is not None else None


async def list_webhooks(
    tx: Tx, user_id: str, *, condition_id: str | None, offset: int, limit: int, desc: bool
) -> tuple[Sequence[Webhook], int]:
    """A page of a user's webhooks by creation, where given of one Actor or task, and how many there are in all."""
    condition, args = "w.user_id = ? AND w.removed_at IS NULL", [user_id]
    if condition_id is not None:
        condition += " AND w.condition_id = ?"
        args.append(condition_id)
    direction = "DESC" if desc else "ASC"
    total = await tx.fetchrow(f"SELECT COUNT(*) AS total FROM webhooks w WHERE {condition}", *args)
    rows = await tx.fetch(
        f"{SELECT_WEBHOOKS} WHERE {condition} ORDER BY w.created_at {direction}, w.id {direction} LIMIT ? OFFSET ?",
        *args,
        limit,
        offset,
    )
    return [read_webhook(row) for row in rows], total["total"] if total else 0


async def count_webhooks(tx: Tx, user_id: str) -> int:
    """How many webhooks a user has, ad-hoc ones not counted; writers that count take turns."""
    await lock_user(tx, user_id)
    row = await tx.fetchrow(
        "SELECT COUNT(*) AS count FROM webhooks WHERE user_id = ? AND is_ad_hoc = 0 AND removed_at IS NULL", user_id
    )
    return row["count"] if row is not None else 0


async def remove_webhook(tx: Tx, webhook_id: str, now: int) -> bool:
    """Delete a webhook; its dispatches stay. False when there is none."""
    return (
        await tx.execute(
            "UPDATE webhooks SET removed_at = ?, idempotency_key = NULL WHERE id = ? AND removed_at IS NULL",
            now,
            webhook_id,
        )
        > 0
    )


async def remove_webhooks_of(tx: Tx, condition_id: str, now: int) -> None:
    """Delete every webhook of an Actor or task that is being deleted."""
    await tx.execute(
        "UPDATE webhooks SET removed_at = ?, idempotency_key = NULL WHERE condition_id = ? AND removed_at IS NULL",
        now,
        condition_id,
    )
