"""Webhooks: create, read, list, change, delete, test, and their dispatches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actorium.domain.errors import ApiError, ErrorType, not_found, refused
from actorium.domain.models import Actor, Build, Run
from actorium.domain.secrets import Vault
from actorium.domain.webhook_bodies import (
    changed_fields,
    check_condition,
    check_idempotency_key,
    new_fields,
)
from actorium.domain.webhooks import MAX_WEBHOOKS, Dispatch, Webhook, WebhookFields
from actorium.kit import Clock, Signals, new_id
from actorium.services.access import Principal
from actorium.services.topics import WEBHOOKS_TOPIC
from actorium.storage import builds, catalog, jobs, outbox, tasks, webhook_dispatches, webhooks
from actorium.storage.db import Database, Tx

_AD_HOC = "actorRunId"


class Webhooks:
    """The webhook service."""

    def __init__(self, db: Database, clock: Clock, signals: Signals, vault: Vault) -> None:
        self._db = db
        self._clock = clock
        self._signals = signals
        self._vault = vault

    async def create(self, principal: Principal, body: dict[str, Any]) -> Webhook:
        """A new webhook, or the one its owner made with the same idempotency key. openapi: webhooks_post."""
        condition, condition_id = check_condition(body.get("condition"))
        is_ad_hoc = body.get("isAdHoc")
        if is_ad_hoc not in (None, False, True):
            raise refused("Field isAdHoc must be a boolean.")
        if is_ad_hoc and condition != _AD_HOC:
            raise refused("Ad hoc webhook can only be set for Actor runs.")
        now = self._clock.now_ms()
        webhook = Webhook(
            id=new_id(),
            user_id=principal.user_id,
            created_at=now,
            modified_at=now,
            is_ad_hoc=condition == _AD_HOC,
            condition=condition,
            condition_id=condition_id,
            idempotency_key=check_idempotency_key(body.get("idempotencyKey")),
            fields=self._sealed(new_fields(body), body),
        )

        async def op(tx: Tx) -> Webhook:
            if webhook.idempotency_key is not None:
                found = await webhooks.find_webhook(tx, principal.user_id, webhook.idempotency_key)
                if found is not None:
                    return found
            await _check_target(tx, principal, condition, condition_id)
            if not webhook.is_ad_hoc and await webhooks.count_webhooks(tx, principal.user_id) >= MAX_WEBHOOKS:
                raise ApiError(
                    ErrorType.TOO_MANY_WEBHOOKS,
                    f"You cannot have more than {MAX_WEBHOOKS} webhooks. Delete one you do not need any more.",
                )
            if not await webhooks.insert_webhook(tx, webhook):
                return await webhooks.find_webhook(tx, principal.user_id, webhook.idempotency_key or "") or webhook
            return webhook

        return await self._db.write("create webhook", op)

    def _sealed(self, fields: WebhookFields, body: dict[str, Any]) -> WebhookFields:
        if not body.get("signingSecret"):
            return fields
        return msgspec.structs.replace(fields, signing_secret=self._vault.seal(body["signingSecret"]))

    async def get(self, principal: Principal, webhook_id: str) -> Webhook:
        """A webhook of the caller's own. Raises 404."""

        async def op(tx: Tx) -> Webhook | None:
            return await webhooks.get_webhook(tx, webhook_id)

        return _own(principal, await self._db.read("get webhook", op))

    async def list(
        self, principal: Principal, *, condition_id: str | None, offset: int, limit: int, desc: bool
    ) -> tuple[Sequence[Webhook], int]:
        """A page of the caller's webhooks, where given of one Actor or task, and their total number."""

        async def op(tx: Tx) -> tuple[Sequence[Webhook], int]:
            return await webhooks.list_webhooks(
                tx, principal.user_id, condition_id=condition_id, offset=offset, limit=limit, desc=desc
            )

        return await self._db.read("list webhooks", op)

    async def update(self, principal: Principal, webhook_id: str, body: dict[str, Any]) -> Webhook:
        """Change what the body names. openapi: webhook_put."""
        condition = check_condition(body["condition"]) if body.get("condition") is not None else None
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Webhook:
            current = _own(principal, await webhooks.get_webhook(tx, webhook_id, for_update=True))
            if body.get("isAdHoc") not in (None, current.is_ad_hoc):
                raise refused("Field isAdHoc of a webhook cannot be changed.")
            kind, target = condition or (current.condition, current.condition_id)
            if (kind == _AD_HOC) is not current.is_ad_hoc:
                raise refused("Ad hoc webhook can only be set for Actor runs.")
            if target != current.condition_id:
                await _check_target(tx, principal, kind, target)
            changed = msgspec.structs.replace(
                current,
                modified_at=now,
                condition=kind,
                condition_id=target,
                fields=self._sealed(changed_fields(current.fields, body), body),
            )
            await webhooks.update_webhook(tx, changed)
            return changed

        return await self._db.write("update webhook", op)

    async def delete(self, principal: Principal, webhook_id: str) -> None:
        """Delete a webhook; what is not sent yet will not be, its dispatches stay."""
        now = self._clock.now_ms()

        async def op(tx: Tx) -> None:
            _own(principal, await webhooks.get_webhook(tx, webhook_id, for_update=True))
            await webhooks.remove_webhook(tx, webhook_id, now)

        await self._db.write("delete webhook", op)

    async def test(self, principal: Principal, webhook_id: str, body: dict[str, Any]) -> Dispatch:
        """Send a TEST event, also of a disabled webhook. openapi: webhook_test_post."""
        resource_id, resource_type = body.get("resourceId"), body.get("resourceType")
        if (resource_id is None) is not (resource_type is None):
            raise refused("Fields resourceId and resourceType must be given together.")
        if resource_type not in (None, "RUN", "BUILD"):
            raise ApiError(
                ErrorType.INVALID_RESOURCE_TYPE,
                f"Field resourceType has an invalid value {str(resource_type)[:50]!r}: it must be RUN or BUILD.",
            )
        if resource_id is not None and not isinstance(resource_id, str):
            raise refused("Field resourceId must be a string.")
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Dispatch:
            webhook = _own(principal, await webhooks.get_webhook(tx, webhook_id, for_update=True))
            resource = await _resource(tx, principal, webhook, resource_type, resource_id)
            return await outbox.add_test(tx, webhook, now, resource)

        dispatch = await self._db.write("test webhook", op)
        self._signals.send(WEBHOOKS_TOPIC)
        return dispatch

    async def get_dispatch(self, principal: Principal, dispatch_id: str) -> Dispatch:
        """A dispatch of the caller's own. Raises 404."""

        async def op(tx: Tx) -> Dispatch | None:
            return await webhook_dispatches.get_dispatch(tx, dispatch_id)

        dispatch = await self._db.read("get dispatch", op)
        if dispatch is None or not principal.owns(dispatch.user_id):
            raise not_found("Webhook dispatch")
        return dispatch

    async def list_dispatches(
        self, principal: Principal, *, webhook_id: str | None, offset: int, limit: int, desc: bool
    ) -> tuple[Sequence[Dispatch], int]:
        """A page of the caller's dispatches, where given of one webhook, and their total number."""

        async def op(tx: Tx) -> tuple[Sequence[Dispatch], int]:
            return await webhook_dispatches.list_dispatches(
                tx, principal.user_id, webhook_id=webhook_id, offset=offset, limit=limit, desc=desc
            )

        return await self._db.read("list dispatches", op)


def _own(principal: Principal, webhook: Webhook | None) -> Webhook:
    if webhook is None or not principal.owns(webhook.user_id):
        raise not_found("Webhook")
    return webhook


async def _check_target(tx: Tx, principal: Principal, condition: str, condition_id: str) -> None:
    """Whether the caller may wait for events of this Actor, task or run. A run need not exist yet."""
    if condition == "actorId":
        actor: Actor | None = await catalog.get_actor(tx, condition_id)
        if actor is None or not (principal.owns(actor.user_id) or actor.is_public):
            raise not_found("Actor")
    elif condition == "actorRunId":
        run = await jobs.get_run(tx, condition_id)
        if run is not None and not principal.owns(run.user_id):
            raise not_found("Actor run")
    else:
        task = await tasks.get_task(tx, condition_id)
        if task is None or not principal.owns(task.user_id):
            raise not_found("Actor task")


async def _resource(
    tx: Tx, principal: Principal, webhook: Webhook, resource_type: str | None, resource_id: str | None
) -> Run | Build | None:
    """The run or build a test tells of; it must be one the webhook waits for."""
    if resource_type is None or resource_id is None:
        return None
    found: Run | Build | None
    if resource_type == "RUN":
        found = run = await jobs.get_run(tx, resource_id)
        targets: Sequence[str | None] = () if run is None else (run.id, run.actor_id, run.task_id)
    else:
        found = build = await builds.get_build(tx, resource_id)
        targets = () if build is None else (build.actor_id,)
    if found is None or not principal.owns(found.user_id):
        raise not_found("Actor run" if resource_type == "RUN" else "Build")
    if webhook.condition_id not in targets:
        raise ApiError(
            ErrorType.ID_DOES_NOT_MATCH,
            f"Field resourceId has an invalid value {resource_id!r}: the webhook waits for "
            f"{webhook.condition} {webhook.condition_id}, which this {resource_type.lower()} does not belong to.",
        )
    return found
