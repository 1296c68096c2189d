"""Shapes several resources share: times, lists."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any


def iso(at_ms: int) -> str:
    """A time as the API writes it: UTC, exactly three decimals, ``Z``."""
    seconds, millis = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"


def iso_or_none(at_ms: int | None) -> str | None:
    """``iso``, with ``None`` for none."""
    return None if at_ms is None else iso(at_ms)


def page(
    items: Sequence[Any], *, total: int, offset: int, limit: int, desc: bool = False, **extra: Any
) -> dict[str, Any]:
    """A list's envelope. ``count`` is this page's size: the Python client's iteration relies on it."""
    return {
        "total": total,
        "offset": offset,
        "limit": limit,
        "desc": desc,
        "count": len(items),
        **extra,
        "items": list(items),
    }
