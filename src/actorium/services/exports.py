"""Dataset items in the format a caller wants, piece by piece: memory does not grow with the dataset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from actorium.domain.dataset_items import SEPARATOR, values_of
from actorium.domain.item_formats import FormatOptions, ItemFormat, text_format
from actorium.domain.item_shapes import Shape
from actorium.domain.item_tables import Columns, row
from actorium.services.item_windows import Items
from actorium.storage.spreadsheets import Number, Spreadsheet

T = TypeVar("T")
Pieces = AsyncGenerator[tuple[bytes, bool], None]

_BOM = "\ufeff"
_THREAD_BYTES = 64 * 1024
"""Larger pages are worked on in a thread, so that others are answered meanwhile."""

_text_values = values_of(str)
_cell_values = values_of(Number)


def export(items: Items, wanted: ItemFormat, shape: Shape, options: FormatOptions) -> Pieces:
    """The items as one text or file; with each piece comes whether it is the last.

    Raises ``DatasetGoneError`` while it is read when the dataset is deleted meanwhile.
    """
    start = _BOM.encode() if options.bom else b""
    if wanted is ItemFormat.JSON:
        return _json(items, shape, start)
    if wanted is ItemFormat.JSONL:
        return _json_lines(items, shape, start)
    if wanted is ItemFormat.XLSX:
        return _xlsx(items, shape, options)
    return _text(items, wanted, shape, options)


def length_of(items: Items, wanted: ItemFormat, shape: Shape, options: FormatOptions) -> int | None:
    """How many bytes ``export`` will give, where that is known before."""
    if items.text_bytes is None or not shape.changes_nothing or wanted not in (ItemFormat.JSON, ItemFormat.JSONL):
        return None
    size = items.text_bytes + (len(_BOM.encode()) if options.bom else 0)
    return size + items.count if wanted is ItemFormat.JSONL else size + 2 + max(0, items.count - 1)


async def _shaped(items: Items, shape: Shape) -> AsyncIterator[tuple[list[bytes], bool]]:
    async for texts, is_last in items.pages():
        kept = texts if shape.changes_nothing else await _work(sum(map(len, texts)), shape.apply, texts)
        yield kept, is_last


async def _work(size: int, function: Callable[..., T], *arguments: Any) -> T:
    if size <= _THREAD_BYTES:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


async def _json(items: Items, shape: Shape, start: bytes) -> Pieces:
    before = start + b"["
    async for texts, is_last in _unsplit(items, shape):
        if is_last and before != b",":
            parts = [before]
            for text in texts:
                parts += (text.replace(SEPARATOR, b","), b",")
            parts[max(1, len(parts) - 1) :] = [b"]"]
            yield b"".join(parts), True
            return
        # Large pieces go out one by one: each time they are put together they are copied.
        for text in texts:
            yield before, False
            yield text.replace(SEPARATOR, b","), False
            before = b","
        if is_last:
            break
    yield b"]" if before == b"," else before + b"]", True


async def _json_lines(items: Items, shape: Shape, start: bytes) -> Pieces:
    before = start
    async for texts, is_last in _unsplit(items, shape):
        if is_last and before == start:
            yield start + b"".join(text + SEPARATOR for text in texts), True
            return
        for text in texts:
            if before:
                yield before, False
            yield text, False
            before = SEPARATOR
        if is_last:
            break
    yield before, True


async def _unsplit(items: Items, shape: Shape) -> AsyncIterator[tuple[list[bytes], bool]]:
    """The items, a page at a time; where that is faster, several joined by ``SEPARATOR``."""
    if shape.changes_nothing:
        async for page in items.unsplit():
            yield page
        return
    async for texts, is_last in _shaped(items, shape):
        yield [SEPARATOR.join(texts)] if texts else [], is_last


async def _text(items: Items, wanted: ItemFormat, shape: Shape, options: FormatOptions) -> Pieces:
    writer = text_format(wanted, options, await _columns(items, wanted, shape))
    is_marked = wanted is ItemFormat.CSV if options.bom is None else options.bom
    opening = (_BOM if is_marked else "") + writer.begin()

    def write(texts: Sequence[bytes]) -> bytes:
        return writer.write(_text_values(text) for text in texts).encode()

    async for texts, is_last in _shaped(items, shape):
        body = opening.encode() + await _work(sum(map(len, texts)), write, texts)
        opening = ""
        yield body + writer.end().encode() if is_last else body, is_last
        if is_last:
            return
    yield (opening + writer.end()).encode(), True


async def _columns(items: Items, wanted: ItemFormat, shape: Shape) -> list[str]:
    """The columns of a table. If the dataset's own field names are not them, the items are read twice."""
    if not wanted.is_table:
        return []
    if items.is_whole and shape.keeps_names:
        return Columns(items.fields).names()
    columns = Columns(fields=shape.names)

    def see(texts: Sequence[bytes]) -> None:
        columns.see(_text_values(text) for text in texts)

    async for texts, _ in _shaped(items.again(), shape):
        await _work(sum(map(len, texts)), see, texts)
    return columns.names()


async def _xlsx(items: Items, shape: Shape, options: FormatOptions) -> Pieces:
    columns = await _columns(items, ItemFormat.XLSX, shape)
    sheet = await asyncio.to_thread(Spreadsheet, [] if options.skip_header_row else columns)

    def add(texts: Sequence[bytes]) -> None:
        sheet.add(row(columns, _cell_values(text)) for text in texts)

    try:
        async for texts, _ in _shaped(items, shape):
            await asyncio.to_thread(add, texts)
        pieces = sheet.pieces()
        piece = await asyncio.to_thread(next, pieces, b"")
        while piece:
            following = await asyncio.to_thread(next, pieces, b"")
            yield piece, not following
            piece = following
    finally:
        sheet.close()
