"""When schedules fire: cron expressions in a time zone. docs: automation, section 3.2.

An expression with fixed minutes and hours means the clock on the wall: a time that a change to summer time skips comes
right after the gap, one that a change to winter time repeats comes once, the first time. A wildcard in minutes or
hours means elapsed time: it goes on through both changes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from actorium.domain.errors import ApiError, ErrorType

MIN_SPACING_MS = 10_000
"""A time nearer than this to the last one is passed over. docs: schedules."""
_SHORTCUTS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS_WITH_SECONDS = 6
_MAX_EXPRESSION = 256
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones()) - {"localtime", "Factory"}


def is_timezone(name: str) -> bool:
    """Whether ``name`` is an IANA time zone, old names included."""
    return name in _zones()


@lru_cache(maxsize=1024)
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


@lru_cache(maxsize=4096)
def _parsed(expression: str) -> tuple[tuple[int, ...], str]:
    """The seconds of an expression and its other five fields. Raises 400 ``cron-expression-invalid``."""
    fields = _SHORTCUTS.get(expression.strip().lower(), expression).split()
    if len(expression) > _MAX_EXPRESSION:
        raise _invalid(expression, f"it has more than {_MAX_EXPRESSION} characters")
    try:
        seconds = sorted(CronSim(" ".join(fields), _EPOCH).seconds)
    except (CronSimError, ValueError, AssertionError) as error:
        raise _invalid(expression, str(error) or "it cannot be read") from error
    return tuple(seconds), " ".join(fields[1:] if len(fields) == _FIELDS_WITH_SECONDS else fields)


def _invalid(expression: str, reason: str) -> ApiError:
    return ApiError(
        ErrorType.CRON_EXPRESSION_INVALID,
        f"Cron expression is not valid: {expression[:80]!r} ({reason}). Use five fields (minute, hour, day of month, "
        f"month, day of week), six with seconds before them, or one of {', '.join(_SHORTCUTS)}.",
    )


def check_expression(expression: str) -> None:
    """Refuse what is no cron expression. Raises 400 ``cron-expression-invalid``."""
    _parsed(expression)


def next_time(expression: str, timezone: str, now: int, last: int | None = None) -> int:
    """The first time after ``now`` that is not nearer than 10 s to ``last``; all in milliseconds since the epoch.

    Raises 400 ``next-runtime-computation-failed`` for an expression that never comes true.
    """
    seconds, fields = _parsed(expression)
    earliest = now + 1 if last is None else max(now + 1, last + MIN_SPACING_MS)
    start = datetime.fromtimestamp(earliest // 1000, UTC) - timedelta(seconds=61)
    for minute in CronSim(fields, start.astimezone(_zone(timezone))):
        first_at = round(minute.timestamp()) * 1000
        for second in seconds:
            if first_at + second * 1000 >= earliest:
                return first_at + second * 1000
    raise ApiError(ErrorType.NEXT_RUNTIME_COMPUTATION_FAILED, f"Cron expression {expression[:80]!r} never comes true.")
