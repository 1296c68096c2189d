"""Times as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


DAY_MS = 86_400_000


def iso(at_ms: int) -> str:
    """A time as the API writes it: UTC, exactly three decimals, ``Z``."""
    seconds, millis = divmod(at_ms, 1000)
    return f"{_second(seconds)}.{millis:03d}Z"


def iso_or_none(at_ms: int | None) -> str | None:
    """``iso``, with ``None`` for none."""
    return None if at_ms is None else iso(at_ms)
