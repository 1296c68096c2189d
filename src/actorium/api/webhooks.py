"""Webhooks and their dispatches."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.responses import Response

from actorium.api.http import Call, Route, data_response
from actorium.api.shapes import iso, iso_or_none, page
from actorium.domain.models import Actor, Task
from actorium.domain.webhooks import Dispatch, DispatchCall, Webhook
from actorium.services.access import Principal
from actorium.services.webhooks import Webhooks


class ActorLookup(Protocol):
    """The part of the Actors service these routes need."""

    async def resolve(self, principal: Principal | None, reference: str) -> Actor:
        """The Actor a reference means. Raises 404."""
        ...


class TaskLookup(Protocol):
    """The part of the task service these routes need."""

    async def resolve(self, principal: Principal, reference: str) -> Task:
        """The caller's task a reference means. Raises 404."""
        ...


class WebhookRoutes:
    """Handlers of the routes of webhooks and dispatches."""

    def __init__(self, webhooks: Webhooks, actors: ActorLookup, tasks: TaskLookup) -> None:
        self._webhooks = webhooks
        self._actors = actors
        self._tasks = tasks

    def routes(self) -> list[Route]:
        """All routes of this module."""
        webhook = "/v2/webhooks/{webhookId}"
        return [
            Route("GET", "/v2/webhooks", "webhooks_get", self.list),
            Route("POST", "/v2/webhooks", "webhooks_post", self.create),
            Route("GET", webhook, "webhook_get", self.get),
            Route("PUT", webhook, "webhook_put", self.update),
            Route("DELETE", webhook, "webhook_delete", self.delete),
            Route("POST", f"{webhook}/test", "webhook_test_post", self.test),
            Route("GET", f"{webhook}/dispatches", "webhook_webhookDispatches_get", self.list_dispatches_of_webhook),
            Route("GET", "/v2/webhook-dispatches", "webhookDispatches_get", self.list_dispatches),
            Route("GET", "/v2/webhook-dispatches/{dispatchId}", "webhookDispatch_get", self.get_dispatch),
            Route("GET", "/v2/actors/{actorId}/webhooks", "actor_webhooks_get", self.list_of_actor),
            Route("GET", "/v2/actor-tasks/{actorTaskId}/webhooks", "actorTask_webhooks_get", self.list_of_task),
        ]

    async def list(self, call: Call) -> Response:
        """The caller's webhooks."""
        return await self._list(call, None, with_templates=False)

    async def list_of_actor(self, call: Call) -> Response:
        """The caller's webhooks of an Actor."""
        actor = await self._actors.resolve(call.principal, call.path["actorId"])
        return await self._list(call, actor.id, with_templates=True)

    async def list_of_task(self, call: Call) -> Response:
        """The webhooks of a task."""
        task = await self._tasks.resolve(call.principal, call.path["actorTaskId"])
        return await self._list(call, task.id, with_templates=True)

    async def _list(self, call: Call, condition_id: str | None, *, with_templates: bool) -> Response:
        offset, limit = call.query.page()
        desc = call.query.flag("desc")
        found, total = await self._webhooks.list(
            call.principal, condition_id=condition_id, offset=offset, limit=limit, desc=desc
        )
        items = [webhook_shape(webhook, with_templates=with_templates) for webhook in found]
        return data_response(page(items, total=total, offset=offset, limit=limit, desc=desc))

    async def create(self, call: Call) -> Response:
        """Create a webhook."""
        webhook = await self._webhooks.create(call.principal, await call.json_object())
        location = f"{call.public_base_url}/v2/webhooks/{webhook.id}"
        return data_response(webhook_shape(webhook), 201, {"Location": location})

    async def get(self, call: Call) -> Response:
        """One webhook."""
        return data_response(webhook_shape(await self._webhooks.get(call.principal, call.path["webhookId"])))

    async def update(self, call: Call) -> Response:
        """Change a webhook."""
        body = await call.json_object()
        return data_response(webhook_shape(await self._webhooks.update(call.principal, call.path["webhookId"], body)))

    async def delete(self, call: Call) -> Response:
        """Delete a webhook."""
        await self._webhooks.delete(call.principal, call.path["webhookId"])
        return Response(status_code=204)

    async def test(self, call: Call) -> Response:
        """Send a TEST event."""
        body = await call.json_object()
        dispatch = await self._webhooks.test(call.principal, call.path["webhookId"], body)
        return data_response(dispatch_shape(dispatch), 201)

    async def list_dispatches(self, call: Call) -> Response:
        """The caller's dispatches."""
        return await self._list_dispatches(call, None)

    async def list_dispatches_of_webhook(self, call: Call) -> Response:
        """The dispatches of a webhook."""
        webhook = await self._webhooks.get(call.principal, call.path["webhookId"])
        return await self._list_dispatches(call, webhook.id)

    async def _list_dispatches(self, call: Call, webhook_id: str | None) -> Response:
        offset, limit = call.query.page()
        desc = call.query.flag("desc")
        found, total = await self._webhooks.list_dispatches(
            call.principal, webhook_id=webhook_id, offset=offset, limit=limit, desc=desc
        )
        items = [dispatch_shape(dispatch) for dispatch in found]
        return data_response(page(items, total=total, offset=offset, limit=limit, desc=desc))

    async def get_dispatch(self, call: Call) -> Response:
        """One dispatch."""
        return data_response(dispatch_shape(await self._webhooks.get_dispatch(call.principal, call.path["dispatchId"])))


def webhook_shape(webhook: Webhook, *, with_templates: bool = True) -> dict[str, Any]:
    """A webhook. The list of all leaves the payload template out. docs: automation, section 4.2."""
    fields = webhook.fields
    shape: dict[str, Any] = {
        "id": webhook.id,
        "createdAt": iso(webhook.created_at),
        "modifiedAt": iso(webhook.modified_at),
        "userId": webhook.user_id,
        "isEnabled": fields.is_enabled,
        "isAdHoc": webhook.is_ad_hoc,
        "isApifyIntegration": fields.is_apify_integration,
        "actionType": "HTTP_REQUEST",
        "eventTypes": list(fields.event_types),
        "condition": {webhook.condition: webhook.condition_id},
        "ignoreSslErrors": fields.ignore_ssl_errors,
        "doNotRetry": fields.do_not_retry,
        "requestUrl": fields.request_url,
        "shouldInterpolateStrings": fields.should_interpolate_strings,
        "title": fields.title,
        "description": fields.description,
        "lastDispatch": None,
        "stats": {"totalDispatches": webhook.total_dispatches},
    }
    if webhook.last_dispatch_status is not None:
        shape["lastDispatch"] = {
            "status": webhook.last_dispatch_status,
            "finishedAt": iso_or_none(webhook.last_dispatch_finished_at),
        }
    if fields.signing_secret is not None:
        shape["isSigned"] = True
    if with_templates:
        shape["payloadTemplate"] = fields.payload_template
        shape["headersTemplate"] = fields.headers_template
    return shape


def dispatch_shape(dispatch: Dispatch) -> dict[str, Any]:
    """A dispatch with its calls. ``webhook`` is as it was at the event."""
    target = dispatch.target
    return {
        "id": dispatch.id,
        "userId": dispatch.user_id,
        "webhookId": dispatch.webhook_id,
        "createdAt": iso(dispatch.created_at),
        "status": dispatch.status,
        "eventType": dispatch.event_type,
        "eventData": dispatch.event_data,
        "webhook": {
            "actionType": "HTTP_REQUEST",
            "condition": {target.condition: target.condition_id},
            "requestUrl": target.request_url,
            "isAdHoc": target.is_ad_hoc,
        },
        "calls": [_call_shape(call) for call in dispatch.calls],
    }


def _call_shape(call: DispatchCall) -> dict[str, Any]:
    return {
        "startedAt": iso(call.started_at),
        "finishedAt": iso(call.finished_at),
        "errorMessage": call.error_message,
        "responseStatus": call.response_status,
        "responseBody": call.response_body,
    }
