"""Request queue routes: the common ones, requests, head, locks."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from actorium.api.http import Call, Route, data_response, parse_json
from actorium.api.storages import StorageRoutes
from actorium.domain.errors import ApiError, ErrorType, invalid
from actorium.domain.requests import (
    Client,
    decode_cursor,
    encode_cursor,
    head_array,
    parse_batch,
    parse_request,
    request_id,
    request_object,
)
from actorium.domain.storages import StorageKind
from actorium.domain.times import iso
from actorium.services.request_queues import RequestQueues
from actorium.services.storages import Storages

MAX_BATCH = 25
MAX_LOCKED = 25
MAX_HEAD = 1000
MAX_LIST = 10_000
_DEFAULT_HEAD = 100
_MAX_LOCK_SECS = 86_400
_MAX_CLIENT_KEY = 32


class RequestQueueRoutes:
    """Handlers of the request queue operations."""

    def __init__(self, storages: Storages, queues: RequestQueues) -> None:
        self._common = StorageRoutes(storages, StorageKind.REQUEST_QUEUE)
        self._queues = queues

    def routes(self) -> list[Route]:
        """The routes."""
        queue = "/v2/request-queues/{queueId}"
        request = f"{queue}/requests/{{requestId}}"
        return [
            *self._common.routes(),
            Route("GET", f"{queue}/requests", "requestQueue_requests_get", self.list, public=True),
            Route("POST", f"{queue}/requests", "requestQueue_requests_post", self.add),
            Route("POST", f"{queue}/requests/batch", "requestQueue_requests_batch_post", self.add_batch),
            Route("DELETE", f"{queue}/requests/batch", "requestQueue_requests_batch_delete", self.delete_batch),
            Route("POST", f"{queue}/requests/unlock", "requestQueue_requests_unlock_post", self.unlock),
            Route("GET", request, "requestQueue_request_get", self.get, public=True),
            Route("PUT", request, "requestQueue_request_put", self.put),
            Route("DELETE", request, "requestQueue_request_delete", self.delete),
            Route("PUT", f"{request}/lock", "requestQueue_request_lock_put", self.prolong_lock),
            Route("DELETE", f"{request}/lock", "requestQueue_request_lock_delete", self.delete_lock),
            Route("GET", f"{queue}/head", "requestQueue_head_get", self.head, public=True),
            Route("POST", f"{queue}/head/lock", "requestQueue_head_lock_post", self.lock_head),
        ]

    async def add(self, call: Call) -> Response:
        """Add one request. openapi: requestQueue_requests_post."""
        client, forefront = _client(call), call.query.flag("forefront")
        request = parse_request(await call.body())
        (added,) = await self._queues.add(call.principal, _queue(call), client, [request], forefront=forefront)
        return data_response(_added(added), 201)

    async def add_batch(self, call: Call) -> Response:
        """Add up to 25 requests in order. openapi: requestQueue_requests_batch_post."""
        client, forefront = _client(call), call.query.flag("forefront")
        texts = parse_batch(await call.body(), MAX_BATCH)
        requests = [parse_request(text, f"Item [{position}]") for position, text in enumerate(texts)]
        results = await self._queues.add(call.principal, _queue(call), client, requests, forefront=forefront)
        processed = [{**_added(added), "uniqueKey": added.unique_key} for added in results]
        return data_response({"processedRequests": processed, "unprocessedRequests": []}, 201)

    async def delete_batch(self, call: Call) -> Response:
        """Delete up to 25 requests, named by id or unique key. openapi: requestQueue_requests_batch_delete."""
        client = _client(call)
        items = [parse_json(text) for text in parse_batch(await call.body(), MAX_BATCH)]
        ids = [_named_id(position, item) for position, item in enumerate(items)]
        await self._queues.delete_batch(call.principal, _queue(call), client, ids)
        processed = [{**item, "id": found} for found, item in zip(ids, items, strict=True)]
        return data_response({"processedRequests": processed, "unprocessedRequests": []})

    async def get(self, call: Call) -> Response:
        """One request. openapi: requestQueue_request_get."""
        found, now = await self._queues.get(call.principal_or_none, _queue(call), call.path["requestId"])
        return data_response(request_object(found, now))

    async def put(self, call: Call) -> Response:
        """Replace or add a request. openapi: requestQueue_request_put."""
        client, forefront = _client(call), call.query.flag("forefront")
        request = parse_request(await call.body())
        if request.id != call.path["requestId"]:
            raise ApiError(ErrorType.REQUEST_ID_INVALID, "Request ID does not correspond to uniqueKey")
        return data_response(
            _added(await self._queues.put(call.principal, _queue(call), client, request, forefront=forefront))
        )

    async def delete(self, call: Call) -> Response:
        """Delete a request. openapi: requestQueue_request_delete."""
        await self._queues.delete(call.principal, _queue(call), _client(call), call.path["requestId"])
        return Response(status_code=204)

    async def list(self, call: Call) -> Response:
        """Requests by id. openapi: requestQueue_requests_get."""
        query = call.query
        limit = min(query.integer("limit", minimum=0) or MAX_LIST, MAX_LIST)
        cursor, start_id = query.text("cursor"), query.text("exclusiveStartId")
        kinds = query.items("filter", ("locked", "pending")) or []
        if start_id is not None and (cursor is not None or kinds):
            raise invalid("Query parameter exclusiveStartId cannot be used together with cursor or filter.")
        after = decode_cursor(cursor) if cursor is not None else start_id
        found, now = await self._queues.list(
            call.principal_or_none,
            _queue(call),
            _client(call),
            after=after,
            limit=limit,
            locked="locked" in kinds,
            pending="pending" in kinds,
        )
        shape: dict[str, Any] = {"items": [request_object(request, now) for request in found], "limit": limit}
        # Texts in the API's document: absent rather than null.
        if start_id is not None:
            shape["exclusiveStartId"] = start_id
        if cursor is not None:
            shape["cursor"] = cursor
        # Clients go on for as long as there is one.
        if len(found) == limit:
            shape["nextCursor"] = encode_cursor(found[-1].id)
        return data_response(shape)

    async def head(self, call: Call) -> Response:
        """The first requests. openapi: requestQueue_head_get."""
        limit = min(call.query.integer("limit", minimum=0) or _DEFAULT_HEAD, MAX_HEAD)
        found = await self._queues.head(call.principal_or_none, _queue(call), _client(call), limit)
        return data_response(
            {
                "limit": limit,
                "queueModifiedAt": iso(found.queue_modified_at),
                "hadMultipleClients": found.had_multiple_clients,
                "items": head_array(found.items, found.lock_expires_at),
            }
        )

    async def lock_head(self, call: Call) -> Response:
        """Lock the first requests. openapi: requestQueue_head_lock_post."""
        client, lock_secs = _client(call), _lock_secs(call)
        limit = min(call.query.integer("limit", minimum=0) or MAX_LOCKED, MAX_LOCKED)
        found = await self._queues.lock_head(call.principal, _queue(call), client, limit=limit, lock_secs=lock_secs)
        shape: dict[str, Any] = {
            "limit": limit,
            "lockSecs": lock_secs,
            "queueModifiedAt": iso(found.queue_modified_at),
            "hadMultipleClients": found.had_multiple_clients,
            "queueHasLockedRequests": found.has_locked_requests,
            "items": head_array(found.items, found.lock_expires_at),
        }
        if client.key is not None:
            shape["clientKey"] = client.key
        return data_response(shape, 201)

    async def prolong_lock(self, call: Call) -> Response:
        """Prolong a lock. openapi: requestQueue_request_lock_put."""
        expires_at = await self._queues.prolong_lock(
            call.principal,
            _queue(call),
            _client(call),
            call.path["requestId"],
            lock_secs=_lock_secs(call),
            forefront=call.query.flag("forefront"),
        )
        return data_response({"lockExpiresAt": iso(expires_at)})

    async def delete_lock(self, call: Call) -> Response:
        """Release a request. openapi: requestQueue_request_lock_delete."""
        await self._queues.delete_lock(
            call.principal,
            _queue(call),
            _client(call),
            call.path["requestId"],
            forefront=call.query.flag("forefront"),
        )
        return Response(status_code=204)

    async def unlock(self, call: Call) -> Response:
        """Release all locks of the client. openapi: requestQueue_requests_unlock_post."""
        count = await self._queues.unlock(call.principal, _queue(call), _client(call))
        return data_response({"unlockedCount": count})


def _queue(call: Call) -> str:
    return call.path["queueId"]


def _client(call: Call) -> Client:
    key = call.query.get("clientKey")
    if key is not None and not 1 <= len(key) <= _MAX_CLIENT_KEY:
        raise ApiError(
            ErrorType.INVALID_CLIENT_KEY,
            f"Query parameter clientKey must have 1 to {_MAX_CLIENT_KEY} characters, got {len(key)}.",
        )
    return Client(key, call.principal_or_none.run_id if call.principal_or_none else None)


def _lock_secs(call: Call) -> int:
    lock_secs = call.query.integer("lockSecs", minimum=1, maximum=_MAX_LOCK_SECS)
    if lock_secs is None:
        raise invalid("Query parameter lockSecs is required.")
    return lock_secs


def _added(added: Any) -> dict[str, Any]:
    return {
        "requestId": added.id,
        "wasAlreadyPresent": added.was_already_present,
        "wasAlreadyHandled": added.was_already_handled,
    }


def _named_id(position: int, item: Any) -> str:
    if isinstance(item, dict):
        if isinstance(item.get("id"), str):
            return str(item["id"])
        if item.get("id") is None and isinstance(item.get("uniqueKey"), str):
            return request_id(item["uniqueKey"])
    raise invalid(f"Item [{position}] must be an object with an id or a uniqueKey.")
