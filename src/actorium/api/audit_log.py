"""The audit log as JSON, JSONL or CSV: an extension below ``/actorium``."""

from __future__ import annotations

import base64
import binascii
import csv
import io
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from actorium.api.http import Call, Route, data_response
from actorium.api.query import parse_time
from actorium.api.shapes import iso
from actorium.domain.audit import AuditEntry
from actorium.domain.errors import invalid
from actorium.services.audit_log import AuditFilter, AuditLog

_FORMATS = ("json", "jsonl", "csv")
_FILTERS = {
    "userId": "user_id",
    "tokenId": "token_id",
    "runId": "run_id",
    "operation": "operation",
    "action": "action",
    "resourceType": "resource_type",
    "resourceId": "resource_id",
    "outcome": "outcome",
    "clientIp": "client_ip",
}
_COLUMNS = {
    "id": "id",
    "at": "at",
    "userId": "user_id",
    "username": "username",
    "tokenId": "token_id",
    "runId": "run_id",
    "operation": "operation",
    "action": "action",
    "resourceType": "resource_type",
    "resourceId": "resource_id",
    "outcome": "outcome",
    "clientIp": "client_ip",
    "userAgent": "user_agent",
}


class AuditLogRoutes:
    """Handler of the audit log."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def routes(self) -> list[Route]:
        """All routes of this module."""
        return [Route("GET", "/actorium/audit-log", "actorium_auditLog_get", self.get)]

    async def get(self, call: Call) -> Response:
        """A page of entries, newest first; all of them in the formats ``jsonl`` and ``csv``."""
        wanted = AuditFilter(
            equal={column: value for name, column in _FILTERS.items() if (value := call.query.text(name)) is not None},
            after=_time(call, "after"),
            before=_time(call, "before"),
        )
        kind = call.query.text("format") or "json"
        if kind not in _FORMATS:
            raise invalid(f"Query parameter format is {kind[:100]!r}: it must be one of {', '.join(_FORMATS)}.")
        cursor = call.query.text("cursor")
        if kind == "json":
            limit = call.query.page()[1]
            found = await self._log.find(
                call.principal, wanted, older_than=None if cursor is None else _position(cursor), limit=limit
            )
            next_cursor = _cursor(found[-1]) if len(found) == limit else None
            return data_response({"items": [_shape(one) for one in found], "limit": limit, "nextCursor": next_cursor})
        pages = self._log.export(call.principal, wanted)
        first = await anext(pages, ())  # so that what is refused is refused before the answer begins
        if kind == "jsonl":
            return StreamingResponse(_jsonl(first, pages), media_type="application/x-ndjson; charset=utf-8")
        headers = {"Content-Disposition": 'attachment; filename="audit-log.csv"'}
        return StreamingResponse(_csv(first, pages), headers=headers, media_type="text/csv; charset=utf-8")


def _shape(entry: AuditEntry) -> dict[str, Any]:
    return {name: getattr(entry, column) for name, column in _COLUMNS.items()} | {"at": iso(entry.at)}


def _time(call: Call, name: str) -> int | None:
    text = call.query.text(name)
    return None if text is None else parse_time(f"Query parameter {name}", text)


def _cursor(entry: AuditEntry) -> str:
    return base64.urlsafe_b64encode(f"{entry.at}.{entry.id}".encode()).decode()


def _position(cursor: str) -> tuple[int, str]:
    try:
        at, _, entry_id = base64.urlsafe_b64decode(cursor).decode("ascii").partition(".")
        return int(at[:18]), entry_id
    except (binascii.Error, ValueError) as error:
        raise invalid(
            f"Query parameter cursor has an invalid value {cursor[:100]!r}: it must be the nextCursor of a page."
        ) from error


async def _jsonl(first: Sequence[AuditEntry], more: AsyncIterator[Sequence[AuditEntry]]) -> AsyncIterator[bytes]:
    yield b"".join(msgspec.json.encode(_shape(entry)) + b"\n" for entry in first)
    async for page in more:
        yield b"".join(msgspec.json.encode(_shape(entry)) + b"\n" for entry in page)


async def _csv(first: Sequence[AuditEntry], more: AsyncIterator[Sequence[AuditEntry]]) -> AsyncIterator[str]:
    yield _rows([list(_COLUMNS)])
    yield _rows([_cells(entry) for entry in first])
    async for page in more:
        yield _rows([_cells(entry) for entry in page])


def _cells(entry: AuditEntry) -> list[str]:
    # A text that begins like a formula would be one in a spreadsheet.
    texts = [str(value) if value is not None else "" for value in _shape(entry).values()]
    return [f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text for text in texts]


def _rows(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
