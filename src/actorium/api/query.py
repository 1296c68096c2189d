"""Query parameters: every spelling clients use, and a 400 that names what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from actorium.domain.errors import ApiError, invalid

_TRUE = frozenset({"1", "true", ""})
_FALSE = frozenset({"0", "false"})
# More digits than fit the databases' integers are no position or size of anything.
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")

MAX_PAGE = 1000


class Query:
    """The parsed query of one request; unknown parameters are ignored."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, list[str]]) -> None:
        self._values = values

    @classmethod
    def parse(cls, query_string: bytes) -> Query:
        """Parse ``a=1&b=2``."""
        values: dict[str, list[str]] = {}
        if query_string:
            for key, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
                values.setdefault(key, []).append(value)
        return cls(values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def without(self, *names: str) -> Query:
        """The same query less the parameters ``names``."""
        return Query({key: value for key, value in self._values.items() if key not in names})

    def canonical(self) -> list[tuple[str, list[str]]]:
        """All parameters with their values, in an order that does not depend on the call's."""
        return sorted(self._values.items())

    def get(self, name: str) -> str | None:
        """The last value given, ``None`` when there is none."""
        values = self._values.get(name)
        return values[-1] if values else None

    def text(self, name: str) -> str | None:
        """Like ``get``, but an empty value counts as none."""
        return self.get(name) or None

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean: ``1/0/true/false``; present but empty is true."""
        value = self.get(name)
        if value is None:
            return default
        if value.lower() in _TRUE:
            return True
        if value.lower() in _FALSE:
            return False
        raise self._refuse(name, value, "true, false, 1 or 0")

    def flag_or_none(self, name: str) -> bool | None:
        """A boolean, ``None`` when it is not given."""
        return self.flag(name) if name in self else None

    def integer(self, name: str, *, minimum: int | None = None, maximum: int | None = None) -> int | None:
        """A whole number within bounds; empty counts as none."""
        value = self.text(name)
        if value is None:
            return None
        bounds = "a whole number" + (f" of at least {minimum}" if minimum is not None else "")
        bounds += f" and at most {maximum}" if maximum is not None else ""
        if _INTEGER.fullmatch(value) is None:
            raise self._refuse(name, value, bounds)
        number = int(value)
        if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
            raise self._refuse(name, value, bounds)
        return number

    def number(self, name: str, *, minimum: float | None = None) -> float | None:
        """A finite number; empty counts as none."""
        value = self.text(name)
        if value is None:
            return None
        bounds = "a number" + (f" of at least {minimum:g}" if minimum is not None else "")
        try:
            number = float(value)
        except ValueError:
            raise self._refuse(name, value, bounds) from None
        if not math.isfinite(number) or (minimum is not None and number < minimum):
            raise self._refuse(name, value, bounds)
        return number

    def choice(self, name: str, allowed: Collection[str]) -> str | None:
        """One of ``allowed``."""
        value = self.text(name)
        if value is not None and value not in allowed:
            raise self._refuse(name, value, "one of " + ", ".join(sorted(allowed)))
        return value

    def items(self, name: str, allowed: Collection[str] | None = None) -> list[str] | None:
        """A comma-separated or repeated list; ``None`` when it is not given."""
        if name not in self._values:
            return None
        values = [part.strip() for value in self._values[name] for part in value.split(",")]
        values = [value for value in values if value]
        for value in values:
            if allowed is not None and value not in allowed:
                raise self._refuse(name, value, "one of " + ", ".join(sorted(allowed)))
        return values or None

    def time(self, name: str) -> int | None:
        """An ISO 8601 time in milliseconds since the epoch; without a zone it is UTC."""
        value = self.text(name)
        return None if value is None else parse_time(f"Query parameter {name}", value)

    def date(self, name: str) -> int | None:
        """A day ``YYYY-MM-DD`` as its first millisecond in UTC."""
        value = self.text(name)
        if value is None:
            return None
        try:
            moment = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            raise self._refuse(name, value, "a date such as 2026-01-31") from None
        return round(moment.timestamp() * 1000)

    def page(self, *, max_limit: int = MAX_PAGE) -> tuple[int, int]:
        """``(offset, limit)`` of a list. ``limit`` 0 means none and, like a larger one, becomes ``max_limit``."""
        offset = self.integer("offset", minimum=0) or 0
        limit = self.integer("limit", minimum=0) or max_limit
        return offset, min(limit, max_limit)

    @staticmethod
    def _refuse(name: str, value: str, allowed: str) -> ApiError:
        return invalid(f"Query parameter {name} has an invalid value {value[:100]!r}: it must be {allowed}.")


def parse_time(what: str, value: str) -> int:
    """An ISO 8601 time in milliseconds since the epoch. Raises 400, which calls the value ``what``."""
    try:
        moment = datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
    except ValueError:
        allowed = "an ISO 8601 time such as 2026-01-31T12:00:00.000Z"
        raise invalid(f"{what} has an invalid value {value[:100]!r}: it must be {allowed}.") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
