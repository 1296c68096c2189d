"""Dataset routes: the common ones, pushing and reading items, statistics."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from actorium.api.http import Call, Route, data_response, json_response
from actorium.api.storages import StorageRoutes
from actorium.domain.dataset_items import Shape
from actorium.domain.errors import invalid
from actorium.domain.storages import StorageKind
from actorium.services.datasets import Datasets, Items, Window
from actorium.services.storages import Storages

_FORMATS = ("json", "jsonl", "csv", "html", "xlsx", "xml", "rss")
_NOT_SERVED = ("outputFields", "unwind", "flatten", "view")
_NO_LIMIT = 999_999_999_999
_JSON = "application/json; charset=utf-8"


class DatasetRoutes:
    """Handlers of the dataset operations."""

    def __init__(self, storages: Storages, datasets: Datasets) -> None:
        self._common = StorageRoutes(storages, StorageKind.DATASET)
        self._datasets = datasets

    def routes(self) -> list[Route]:
        """The routes."""
        items = "/v2/datasets/{datasetId}/items"
        statistics = "/v2/datasets/{datasetId}/statistics"
        return [
            *self._common.routes(),
            Route("POST", items, "dataset_items_post", self.push),
            Route("GET", items, "dataset_items_get", self.read, public=True),
            Route("HEAD", items, "dataset_items_head", self.read, public=True),
            Route("GET", statistics, "dataset_statistics_get", self.statistics, public=True),
        ]

    async def push(self, call: Call) -> Response:
        """Append items. openapi: dataset_items_post."""
        await self._datasets.push(call.principal, call.path["datasetId"], await call.body())
        return json_response({}, 201)

    async def read(self, call: Call) -> Response:
        """Read items. openapi: dataset_items_get, dataset_items_head."""
        return await items_response(call, self._datasets, call.path["datasetId"])

    async def statistics(self, call: Call) -> Response:
        """Field statistics. openapi: dataset_statistics_get."""
        found = await self._datasets.statistics(call.principal_or_none, call.path["datasetId"])
        return data_response({"fieldStatistics": found})


async def items_response(call: Call, datasets: Datasets, dataset_reference: str) -> Response:
    """The items of a dataset as the call's query asks for them; also answers ``run-sync-get-dataset-items``."""
    query = call.query
    _check_served(call)
    clean = query.flag("clean")
    shape = Shape(
        fields=tuple(query.items("fields") or ()),
        omit=tuple(query.items("omit") or ()),
        skip_hidden=clean or query.flag("skipHidden"),
        skip_empty=clean or query.flag("skipEmpty"),
        skip_failed_pages=query.flag("skipFailedPages"),
    )
    window = Window(
        offset=query.integer("offset", minimum=0) or 0,
        limit=query.integer("limit", minimum=0) or None,
        desc=query.flag("desc"),
    )
    items = await datasets.open_items(
        call.principal_or_none, dataset_reference, window, signature=query.text("signature")
    )
    headers = {
        "X-Apify-Pagination-Offset": str(window.offset),
        "X-Apify-Pagination-Limit": str(window.limit or _NO_LIMIT),
        "X-Apify-Pagination-Count": str(items.count),
        "X-Apify-Pagination-Total": str(items.total),
        "X-Apify-Pagination-Desc": "true" if window.desc else "false",
    }
    if query.flag("attachment"):
        headers["Content-Disposition"] = f'attachment; filename="dataset_{items.dataset_id}.json"'
    if call.request.method == "HEAD":
        return Response(headers=headers, media_type=_JSON)
    chunks = _json_chunks(items, shape, b"\xef\xbb\xbf" if query.flag("bom") else b"")
    first, is_whole = await anext(chunks)
    if is_whole:
        return Response(first, headers=headers, media_type=_JSON)
    return StreamingResponse(_rest(first, chunks), headers=headers, media_type=_JSON)


def _check_served(call: Call) -> None:
    query = call.query
    if query.choice("format", _FORMATS) not in (None, "json"):
        raise invalid("Query parameter format: only json is served.")
    for name in _NOT_SERVED:
        if query.text(name) is not None:
            raise invalid(f"Query parameter {name} is not supported.")
    if query.flag("simplified"):
        raise invalid("Query parameter simplified is not supported.")


async def _json_chunks(items: Items, shape: Shape, start: bytes) -> AsyncIterator[tuple[bytes, bool]]:
    """A JSON array in pieces, and whether a piece is the last."""
    opening = start + b"["
    between = b""
    async for texts, is_last in items.joined(b",") if shape.changes_nothing else items.pages():
        kept = texts if shape.changes_nothing else shape.apply(texts)
        if kept:
            kept[0] = opening + between + kept[0]
            if is_last:
                kept[-1] += b"]"
            yield b",".join(kept), is_last
            opening, between = b"", b","
        else:
            yield opening + b"]" if is_last else opening, is_last
            opening = b""
        if is_last:
            return
    yield opening + b"]", True


async def _rest(first: bytes, chunks: AsyncIterator[tuple[bytes, bool]]) -> AsyncIterator[bytes]:
    yield first
    async for piece, _ in chunks:
        yield piece
