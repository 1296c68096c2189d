"""Routes and shapes the three storage kinds share: list, create, get, update, delete."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from actorium.api.http import Call, Route, data_response
from actorium.api.shapes import iso, page
from actorium.domain.errors import invalid
from actorium.domain.models import GeneralAccess
from actorium.domain.signing import content_signature, record_signature
from actorium.domain.storages import Access, Storage, StorageKind, check_name
from actorium.services.storages import Storages, StorageUpdate

_PUBLIC_URL_MS = 14 * 24 * 3600 * 1000

_MODELS_WITHOUT_NULL_NAMES = re.compile(r"ApifyClient/.*Python/")
"""Clients whose list models refuse ``name: null``: the official Python one."""


class _Words(msgspec.Struct, frozen=True):
    path: str
    parameter: str
    one: str
    many: str


WORDS = {
    StorageKind.DATASET: _Words("datasets", "datasetId", "dataset", "datasets"),
    StorageKind.KEY_VALUE_STORE: _Words("key-value-stores", "storeId", "keyValueStore", "keyValueStores"),
    StorageKind.REQUEST_QUEUE: _Words("request-queues", "queueId", "requestQueue", "requestQueues"),
}
"""How paths and operation ids call the kinds."""


def storage_url(base_url: str, kind: StorageKind, storage_id: str, rest: str = "") -> str:
    """Absolute address of a storage or of something below it."""
    return f"{base_url}/v2/{WORDS[kind].path}/{storage_id}{rest}"


def record_url(base_url: str, store_id: str, secret: str | None, key: str) -> str:
    """Absolute address of a record with its permanent signature."""
    url = storage_url(base_url, StorageKind.KEY_VALUE_STORE, store_id, f"/records/{quote(key, safe='')}")
    return url if secret is None else f"{url}?signature={record_signature(secret, key)}"


def _counts(storage: Storage) -> dict[str, Any]:
    counters = storage.counters
    match storage.kind:
        case StorageKind.DATASET:
            return {"itemCount": counters["item_count"], "cleanItemCount": counters["clean_item_count"]}
        case StorageKind.KEY_VALUE_STORE:
            return {}
        case StorageKind.REQUEST_QUEUE:
            return {
                "totalRequestCount": counters["total_count"],
                "handledRequestCount": counters["handled_count"],
                "pendingRequestCount": counters["total_count"] - counters["handled_count"],
                "hadMultipleClients": bool(counters["had_multiple_clients"]),
            }


def _stats(storage: Storage, *, in_list: bool) -> dict[str, int]:
    counters = storage.counters
    stats = {"readCount": counters["read_count"], "writeCount": counters["write_count"]}
    size = counters["storage_bytes"]
    match storage.kind:
        case StorageKind.DATASET:
            return {**stats, "inflatedBytes" if in_list else "storageBytes": size}
        case StorageKind.KEY_VALUE_STORE:
            more = {"deleteCount": counters["delete_count"], "listCount": counters["list_count"]}
            return {**stats, **more, "storageBytes": size, "s3StorageBytes": size}
        case StorageKind.REQUEST_QUEUE:
            more = {"deleteCount": counters["delete_count"], "headItemReadCount": counters["head_item_read_count"]}
            return {**stats, **more, "storageBytes": size}


def _common(storage: Storage, *, in_list: bool) -> dict[str, Any]:
    return {
        "id": storage.id,
        "name": storage.name,
        "title": storage.title,
        "userId": storage.user_id,
        "username": storage.username,
        "createdAt": iso(storage.created_at),
        "modifiedAt": iso(storage.modified_at),
        "accessedAt": iso(storage.accessed_at),
        "actId": storage.actor_id,
        "actRunId": storage.run_id,
        "generalAccess": storage.general_access,
        **_counts(storage),
        "stats": _stats(storage, in_list=in_list),
    }


def storage_shape(storage: Storage, *, base_url: str, is_owner: bool, now: int) -> dict[str, Any]:
    """A storage as its own endpoint shows it. Only an owner sees the signing key and signed addresses."""
    kind, words = storage.kind, WORDS[storage.kind]
    shape = _common(storage, in_list=False)
    shape["consoleUrl"] = f"{base_url}/storage/{words.path}/{storage.id}"
    secret = storage.url_signing_secret_key if is_owner else None
    signature = "" if secret is None else f"?signature={content_signature(secret, storage.id, now + _PUBLIC_URL_MS)}"
    if kind is not StorageKind.REQUEST_QUEUE:
        shape["schema"] = storage.schema
        if secret is not None:
            shape["urlSigningSecretKey"] = secret
    if kind is StorageKind.DATASET:
        shape["fields"] = storage.fields
        shape["itemsPublicUrl"] = storage_url(base_url, kind, storage.id, f"/items{signature}")
    elif kind is StorageKind.KEY_VALUE_STORE:
        shape["keysPublicUrl"] = storage_url(base_url, kind, storage.id, f"/keys{signature}")
        shape["recordsPublicUrl"] = storage_url(base_url, kind, storage.id, "/records")
    return shape


def list_item_shape(storage: Storage, user_agent: str | None, expires_at: int | None) -> dict[str, Any]:
    """A storage as lists show it. openapi: RequestQueueShort, the only kind with ``expireAt``."""
    shape = _common(storage, in_list=True)
    if storage.kind is StorageKind.REQUEST_QUEUE and expires_at is not None:
        shape["expireAt"] = iso(expires_at)
    if storage.name is None and _MODELS_WITHOUT_NULL_NAMES.match(user_agent or ""):
        shape["name"] = ""
    return shape


async def _schema(call: Call) -> dict[str, Any] | None:
    schema = (await call.json_object()).get("schema")
    if schema is not None and not isinstance(schema, dict):
        raise invalid("Field schema of the request body must be an object or null.")
    return schema


def _update_of(body: dict[str, Any]) -> StorageUpdate:
    general_access: Any = body.get("generalAccess", msgspec.UNSET)
    if general_access is not msgspec.UNSET and general_access not in list(GeneralAccess):
        allowed = ", ".join(sorted(GeneralAccess))
        raise invalid(f"Field generalAccess has an invalid value {general_access!r}: it must be one of {allowed}.")
    title: Any = body.get("title", msgspec.UNSET)
    if title is not msgspec.UNSET and title is not None and (not isinstance(title, str) or "\0" in title):
        raise invalid("Field title must be a text without the character U+0000, or null.")
    name: Any = body.get("name", msgspec.UNSET)
    if name is not msgspec.UNSET and name is not None:
        check_name(name)
    return StorageUpdate(name, title, general_access)


class StorageRoutes:
    """The five routes a kind has for its storages themselves."""

    def __init__(self, storages: Storages, kind: StorageKind) -> None:
        self._storages = storages
        self._kind = kind
        self._words = WORDS[kind]

    def routes(self) -> list[Route]:
        """The routes."""
        words = self._words
        many, one = f"/v2/{words.path}", f"/v2/{words.path}/{{{words.parameter}}}"
        return [
            Route("GET", many, f"{words.many}_get", self.list_owned),
            Route("POST", many, f"{words.many}_post", self.create),
            Route("GET", one, f"{words.one}_get", self.get, public=True),
            Route("PUT", one, f"{words.one}_put", self.update),
            Route("DELETE", one, f"{words.one}_delete", self.delete),
        ]

    def shape(self, call: Call, storage: Storage) -> dict[str, Any]:
        """``storage`` as this caller sees it."""
        principal = call.principal_or_none
        is_owner = principal is not None and principal.owns(storage.user_id)
        return storage_shape(storage, base_url=call.public_base_url, is_owner=is_owner, now=self._storages.now())

    async def list_owned(self, call: Call) -> Response:
        """List the caller's storages."""
        query = call.query
        offset, limit = query.page()
        desc, unnamed = query.flag("desc"), query.flag("unnamed")
        total, found = 0, list[Storage]()
        # Storages are not shared with single users here, so nothing is "shared with me".
        if query.choice("ownership", ("ownedByMe", "sharedWithMe")) != "sharedWithMe":
            total, found = await self._storages.list_owned(
                call.principal, self._kind, unnamed=unnamed, offset=offset, limit=limit, desc=desc
            )
        items = [list_item_shape(one, call.user_agent, self._storages.expires_at(one)) for one in found]
        return data_response(page(items, total=total, offset=offset, limit=limit, desc=desc, unnamed=unnamed))

    async def create(self, call: Call) -> Response:
        """Get or create a storage: 201 when created."""
        schema = await _schema(call)
        storage, created = await self._storages.get_or_create(
            call.principal, self._kind, call.query.get("name"), schema
        )
        location = {"Location": storage_url(call.public_base_url, self._kind, storage.id)} if created else None
        return data_response(self.shape(call, storage), 201 if created else 200, location)

    async def get(self, call: Call) -> Response:
        """A storage's metadata."""
        reference = call.path[self._words.parameter]
        storage = await self._storages.resolve(call.principal_or_none, self._kind, reference, Access.READ)
        return data_response(self.shape(call, storage))

    async def update(self, call: Call) -> Response:
        """Change a storage's metadata."""
        changes = _update_of(await call.json_object())
        storage = await self._storages.update(call.principal, self._kind, call.path[self._words.parameter], changes)
        return data_response(self.shape(call, storage))

    async def delete(self, call: Call) -> Response:
        """Delete a storage."""
        await self._storages.delete(call.principal, self._kind, call.path[self._words.parameter])
        return Response(status_code=204)
