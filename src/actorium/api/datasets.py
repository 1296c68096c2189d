"""Dataset routes: the common ones, pushing and reading items, statistics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from urllib.parse import quote

import msgspec
from starlette.responses import Response, StreamingResponse

from actorium.api.http import Call, Route, data_response, json_response
from actorium.api.query import Query
from actorium.api.storages import StorageRoutes, storage_url
from actorium.domain.item_formats import FormatOptions, ItemFormat
from actorium.domain.item_shapes import Shape, View
from actorium.domain.storages import StorageKind
from actorium.services.datasets import Datasets
from actorium.services.exports import Pieces, export, length_of
from actorium.services.item_windows import Window
from actorium.services.storages import Storages

_NO_LIMIT = 999_999_999_999


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
        reference = call.path["datasetId"]
        await self._datasets.push(call.principal, reference, await call.body())
        items = storage_url(call.public_base_url, StorageKind.DATASET, quote(reference, safe="~"), "/items")
        return json_response({}, 201, {"Location": items})

    async def read(self, call: Call) -> Response:
        """Read items. openapi: dataset_items_get, dataset_items_head."""
        return await items_response(call, self._datasets, call.path["datasetId"])

    async def statistics(self, call: Call) -> Response:
        """Field statistics. openapi: dataset_statistics_get."""
        found = await self._datasets.statistics(call.principal_or_none, call.path["datasetId"])
        return data_response({"fieldStatistics": found})


def check_items_query(query: Query) -> None:
    """Refuse with 400 what ``items_response`` would refuse, before there is a dataset to ask."""
    _window(query, View())
    _shape(query, View())
    _options(query)
    query.choice("format", [known.value for known in ItemFormat])
    query.flag("attachment")


async def items_response(call: Call, datasets: Datasets, dataset_reference: str) -> Response:
    """The items of a dataset as the call's query asks for them; also answers ``run-sync-get-dataset-items``."""
    query = call.query
    wanted = ItemFormat(query.choice("format", [known.value for known in ItemFormat]) or "json")
    signature = query.text("signature")
    view = View()
    if (name := query.text("view")) is not None:
        view = await datasets.view(call.principal_or_none, dataset_reference, name, signature=signature)
    shape = _shape(query, view)
    window = _window(query, view)
    options = _options(query)
    items = await datasets.open_items(call.principal_or_none, dataset_reference, window, signature=signature)
    headers = {
        "X-Apify-Pagination-Offset": str(window.offset),
        "X-Apify-Pagination-Limit": str(window.limit or _NO_LIMIT),
        "X-Apify-Pagination-Count": str(items.count),
        "X-Apify-Pagination-Total": str(items.total),
        "X-Apify-Pagination-Desc": "true" if window.desc else "false",
    }
    if wanted is ItemFormat.HTML:
        # Items come from the web; a page made of them must not act in this server's name.
        headers |= {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}
    if query.flag("attachment"):
        headers["Content-Disposition"] = f'attachment; filename="dataset_{items.name}.{wanted}"'
    length = length_of(items, wanted, shape, options)
    if call.request.method == "HEAD":
        return _head(headers, wanted.media_type, length)
    if wanted is ItemFormat.RSS:
        options = msgspec.structs.replace(
            options,
            feed_title=options.feed_title or f"Dataset {items.name}",
            feed_description=options.feed_description or f'Items in dataset with id "{items.dataset_id}".',
            feed_link=f"{call.public_base_url}/v2/datasets/{items.dataset_id}/items",
        )
    pieces = export(items, wanted, shape, options)
    first, is_whole = await anext(pieces)
    if is_whole:
        await pieces.aclose()
        return Response(first, headers=headers, media_type=wanted.media_type)
    if length is not None:
        headers["Content-Length"] = str(length)
    return StreamingResponse(_rest(first, pieces), headers=headers, media_type=wanted.media_type)


def _head(headers: dict[str, str], media_type: str, length: int | None) -> Response:
    """The headers of a GET, whose length is only said where it is known without making the whole answer."""
    response = Response(headers=headers, media_type=media_type)
    if length is None:
        del response.headers["Content-Length"]
    else:
        response.headers["Content-Length"] = str(length)
    return response


def _window(query: Query, view: View) -> Window:
    desc = query.flag_or_none("desc")
    return Window(
        offset=query.integer("offset", minimum=0) or 0,
        limit=query.integer("limit", minimum=0) or (view.limit if "limit" not in query else None) or None,
        desc=bool(view.desc) if desc is None else desc,
    )


def _shape(query: Query, view: View) -> Shape:
    """What the query asks for, and for what it leaves open, the view. storages: order of operations."""
    clean = _flag(query, "clean", view.clean)
    return Shape(
        skip_failed_pages=query.flag("skipFailedPages"),
        simplified=query.flag("simplified"),
        unwind=_names(query, "unwind", view.unwind),
        flatten=_names(query, "flatten", view.flatten),
        fields=_names(query, "fields", view.fields),
        output_fields=_names(query, "outputFields", None),
        omit=_names(query, "omit", view.omit),
        skip_hidden=clean or _flag(query, "skipHidden", view.skip_hidden),
        skip_empty=clean or _flag(query, "skipEmpty", view.skip_empty),
    )


def _flag(query: Query, name: str, otherwise: bool | None) -> bool:
    value = query.flag_or_none(name)
    return bool(otherwise) if value is None else value


def _names(query: Query, name: str, otherwise: list[str] | None) -> tuple[str, ...]:
    return tuple(query.items(name) or (() if name in query else otherwise or ()))


def _options(query: Query) -> FormatOptions:
    return FormatOptions(
        delimiter=query.text("delimiter") or ",",
        bom=query.flag_or_none("bom"),
        skip_header_row=query.flag("skipHeaderRow"),
        xml_root=query.text("xmlRoot") or "items",
        xml_row=query.text("xmlRow") or "item",
        feed_title=query.text("feedTitle") or "",
        feed_description=query.text("feedDescription") or "",
    )


async def _rest(first: bytes, pieces: Pieces) -> AsyncIterator[bytes]:
    async with aclosing(pieces):
        yield first
        async for piece, _ in pieces:
            yield piece
