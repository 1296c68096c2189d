"""The outbox: events of runs and builds, written in the transaction of the change of status they tell of.

An event is written only if a webhook waits for it, with one dispatch for each. A webhook gets every event whose change
of status is written after the webhook's creation was answered: that is committed by then, and the look for webhooks
comes after the change. One that is created at the same time gets the event or does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actorium.domain.models import Build, Run
from actorium.domain.webhooks import RUN_ENDS, TEST, Dispatch, Event, Target, Webhook
from actorium.kit import new_id
from actorium.storage.db import Tx, placeholders
from actorium.storage.webhooks import SELECT_WEBHOOKS, read_webhook

_encode = msgspec.json.Encoder().encode
_BUILD_VERSION_FIELDS = ("sourceType", "versionNumber", "buildTag", "sourceUrl")


async def add_run_event(tx: Tx, run: Run, event_type: str, at: int) -> None:
    """Note an event of a run for the webhooks that wait for it; of its ad-hoc ones, remove those it made useless."""
    ids = [found for found in (run.id, run.actor_id, run.task_id) if found is not None]
    waiting = await _waiting(tx, run.user_id, ids, event_type)
    if waiting:
        data = {"actorId": run.actor_id, "actorRunId": run.id}
        if run.task_id is not None:
            data["actorTaskId"] = run.task_id
        event = Event(new_id(), event_type, run.user_id, at, data, *_told_of(run))
        await _insert_event(tx, event)
        for webhook in waiting:
            await _insert_dispatch(tx, webhook, event)
    if event_type in RUN_ENDS:
        await tx.execute(
            "UPDATE webhooks SET removed_at = ?, idempotency_key = NULL WHERE condition_id = ? AND is_ad_hoc = 1 "
            "AND removed_at IS NULL AND event_types NOT LIKE ? "
            "AND event_types NOT LIKE '%.CREATED,%' AND event_types NOT LIKE '%.RESURRECTED,%'",
            at,
            run.id,
            f"%,{event_type},%",
        )


async def add_build_event(tx: Tx, build: Build, event_type: str, at: int) -> None:
    """Note an event of a build for the webhooks that wait for it."""
    waiting = await _waiting(tx, build.user_id, [build.actor_id], event_type)
    if waiting:
        data = {"actorId": build.actor_id, "actorBuildId": build.id}
        event = Event(new_id(), event_type, build.user_id, at, data, *_told_of(build))
        await _insert_event(tx, event)
        for webhook in waiting:
            await _insert_dispatch(tx, webhook, event)


async def add_test(tx: Tx, webhook: Webhook, at: int, resource: Run | Build | None) -> Dispatch:
    """Note a test of a webhook, with a run or build where one is given."""
    event = Event(new_id(), TEST, webhook.user_id, at, None, *_told_of(resource))
    await _insert_event(tx, event)
    return await _insert_dispatch(tx, webhook, event)


async def _waiting(tx: Tx, user_id: str, condition_ids: Sequence[str], event_type: str) -> list[Webhook]:
    # In the order of ids, so that two events cannot wait for each other's webhooks for ever.
    rows = await tx.fetch(
        f"{SELECT_WEBHOOKS} WHERE w.condition_id IN ({placeholders(len(condition_ids))}) AND w.removed_at IS NULL "
        "AND w.user_id = ? AND w.event_types LIKE ? ORDER BY w.id",
        *condition_ids,
        user_id,
        f"%,{event_type},%",
    )
    found = [read_webhook(row) for row in rows]
    return [webhook for webhook in found if webhook.fields.is_enabled]


async def _insert_event(tx: Tx, event: Event) -> None:
    await tx.execute(
        "INSERT INTO webhook_events (id, event_type, user_id, created_at, data_json, resource_kind, resource_json) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        event.id,
        event.event_type,
        event.user_id,
        event.created_at,
        None if event.data is None else _encode(event.data).decode(),
        event.kind,
        None if event.resource is None else event.resource.decode(),
    )


async def _insert_dispatch(tx: Tx, webhook: Webhook, event: Event) -> Dispatch:
    target = Target(webhook.condition, webhook.condition_id, webhook.fields.request_url, webhook.is_ad_hoc)
    dispatch = Dispatch(
        id=new_id(),
        webhook_id=webhook.id,
        user_id=webhook.user_id,
        event_id=event.id,
        event_type=event.event_type,
        event_data=event.data,
        created_at=event.created_at,
        status="ACTIVE",
        target=target,
    )
    counted = 0 if event.event_type == TEST else 1
    row = await tx.fetchrow(
        "UPDATE webhooks SET last_dispatch_no = last_dispatch_no + 1, total_dispatches = total_dispatches + ?, "
        "last_dispatch_id = ?, due_at = CASE WHEN due_at < ? THEN due_at ELSE ? END "
        "WHERE id = ? RETURNING last_dispatch_no",
        counted,
        dispatch.id,
        event.created_at,
        event.created_at,
        webhook.id,
    )
    if row is None:
        return dispatch
    await tx.execute(
        "INSERT INTO webhook_dispatches (id, webhook_id, user_id, event_id, number, created_at, status, target_json, "
        "calls_json, due_at) VALUES (?, ?, ?, ?, ?, ?, 'ACTIVE', ?, '[]', ?)",
        dispatch.id,
        dispatch.webhook_id,
        dispatch.user_id,
        dispatch.event_id,
        row["last_dispatch_no"],
        dispatch.created_at,
        _encode(target).decode(),
        event.created_at,
    )
    return dispatch


def _told_of(resource: Run | Build | None) -> tuple[str, bytes | None]:
    """The kind of a run or build and what an event keeps of it: no sources, no secrets."""
    if isinstance(resource, Run):
        return "run", _encode(msgspec.structs.replace(resource, events_secret="", sealed_secrets=None))
    if isinstance(resource, Build):
        version = {name: resource.actor_version.get(name) for name in _BUILD_VERSION_FIELDS}
        return "build", _encode(msgspec.structs.replace(resource, actor_version=version, env_vars=()))
    return "none", None
