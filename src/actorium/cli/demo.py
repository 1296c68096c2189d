"""``actorium demo``."""

from __future__ import annotations


def run_demo(*, leave_up: bool, port: int | None) -> int:
    """Placeholder until samples exist."""
    raise SystemExit(f"{leave_up}{port}")
