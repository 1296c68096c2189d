"""Shapes several resources share: times, lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actorium.domain.times import iso, iso_or_none

__all__ = ["iso", "iso_or_none", "page"]


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
