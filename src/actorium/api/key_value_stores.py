"""Key-value store routes: the common ones, records one by one and as an archive, keys."""

from __future__ import annotations

import re

from starlette.responses import Response

from actorium.api.http import Call, Route, data_response, json_response
from actorium.api.records import SAFE_HEADERS, ChunksResponse, record_response
from actorium.api.storages import StorageRoutes, record_url, storage_url
from actorium.domain.content_encodings import decoder_of
from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.records import check_key
from actorium.domain.storages import StorageKind
from actorium.services.key_value_stores import KeyValueStores, Selection
from actorium.services.storages import Storages

_MAX_KEYS = 1000
_CONTENT_TYPE = re.compile(r"\s*[\w!#$&^.+*-]+/[\w!#$&^.+*-]+\s*(;.*)?", re.ASCII)
_DEFAULT_CONTENT_TYPE = "application/octet-stream"


class KeyValueStoreRoutes:
    """Handlers of the key-value store operations."""

    def __init__(self, storages: Storages, stores: KeyValueStores) -> None:
        self._common = StorageRoutes(storages, StorageKind.KEY_VALUE_STORE)
        self._stores = stores

    def routes(self) -> list[Route]:
        """The routes."""
        keys = "/v2/key-value-stores/{storeId}/keys"
        archive = "/v2/key-value-stores/{storeId}/records"
        record = f"{archive}/{{recordKey}}"
        return [
            *self._common.routes(),
            Route("GET", keys, "keyValueStore_keys_get", self.list_keys, public=True),
            Route("GET", archive, "keyValueStore_records_get", self.get_records, public=True, verbatim=True),
            Route("GET", record, "keyValueStore_record_get", self.get_record, public=True, verbatim=True),
            Route("HEAD", record, "keyValueStore_record_head", self.get_record, public=True, verbatim=True),
            Route("PUT", record, "keyValueStore_record_put", self.put_record),
            Route("POST", record, "keyValueStore_record_post", self.put_record),
            Route("DELETE", record, "keyValueStore_record_delete", self.delete_record),
        ]

    async def get_record(self, call: Call) -> Response:
        """A record's value. openapi: keyValueStore_record_get, keyValueStore_record_head."""
        signature = call.query.text("signature")
        record = await self._stores.get(
            call.principal_or_none, call.path["storeId"], call.path["recordKey"], signature=signature
        )
        return await record_response(call, self._stores, record, cacheable=signature is not None)

    async def put_record(self, call: Call) -> Response:
        """Store a record. openapi: keyValueStore_record_put, keyValueStore_record_post."""
        content_type = call.content_type or _DEFAULT_CONTENT_TYPE
        if not _CONTENT_TYPE.fullmatch(content_type):
            raise ApiError(
                ErrorType.INVALID_CONTENT_TYPE_HEADER, f"Content-Type {content_type[:100]!r} is not a media type."
            )
        encoding = call.headers.get("content-encoding", "").strip().lower()
        is_encoded = decoder_of(encoding) is not None  # 415 for one that is not known
        length = call.headers.get("content-length", "")
        key = call.path["recordKey"]
        store_id = await self._stores.put(
            call.principal,
            call.path["storeId"],
            key,
            content_type,
            encoding.removeprefix("x-") if is_encoded else None,
            call.request.stream(),
            length=int(length) if length.isdigit() else None,
        )
        url = storage_url(call.public_base_url, StorageKind.KEY_VALUE_STORE, store_id, f"/records/{key}")
        return json_response({}, 201, {"Location": url})

    async def delete_record(self, call: Call) -> Response:
        """Delete a record. openapi: keyValueStore_record_delete."""
        await self._stores.delete(call.principal, call.path["storeId"], call.path["recordKey"])
        return Response(status_code=204)

    async def get_records(self, call: Call) -> Response:
        """The records as a zip archive. openapi: keyValueStore_records_get."""
        archive = await self._stores.archive(
            call.principal_or_none, call.path["storeId"], _selection(call), signature=call.query.text("signature")
        )
        headers = {
            **SAFE_HEADERS,
            "Content-Type": "application/zip",
            "Content-Disposition": f'attachment; filename="key-value-store-{archive.store_id}.zip"',
            "Cache-Control": "no-store",
        }
        return ChunksResponse(archive, headers=headers)

    async def list_keys(self, call: Call) -> Response:
        """A page of keys. openapi: keyValueStore_keys_get."""
        query = call.query
        limit = min(query.integer("limit", minimum=0) or _MAX_KEYS, _MAX_KEYS)
        after = query.text("exclusiveStartKey")
        page = await self._stores.list_keys(
            call.principal_or_none,
            call.path["storeId"],
            _selection(call, after or ""),
            limit,
            signature=query.text("signature"),
        )
        items = [
            {
                "key": key.key,
                "size": key.size_bytes,
                "recordPublicUrl": record_url(
                    call.public_base_url, page.store_id, page.url_signing_secret_key, key.key
                ),
            }
            for key in page.keys
        ]
        return data_response(
            {
                "items": items,
                "count": len(items),
                "limit": limit,
                "exclusiveStartKey": after,
                "isTruncated": page.is_truncated,
                "nextExclusiveStartKey": page.keys[-1].key if page.is_truncated else None,
            }
        )


def _selection(call: Call, after: str = "") -> Selection:
    prefix = call.query.text("prefix")
    return Selection(
        "" if prefix is None else check_key(prefix, "Query parameter prefix"), call.query.text("collection"), after
    )
