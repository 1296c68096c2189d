"""Statistics of dataset fields: smallest and largest value or size, and how often a field is null or absent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from actorium.domain.dataset_items import values_of

# Python's own float() turns what is out of range into infinity, where msgspec refuses.
_values = values_of(float)


def schema_fields(schema: dict[str, Any] | None) -> list[str] | None:
    """The fields a dataset schema describes; ``None`` without one. docs: dataset_schema, validation."""
    fields = (schema or {}).get("fields")
    if not isinstance(fields, dict):
        return None
    properties = fields.get("properties")
    return list(properties) if isinstance(properties, dict) else []


def _measure(value: Any) -> float | None:
    """What is compared of a value: a number itself, a boolean as 0 or 1, else the length or number of keys."""
    if isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, float):
        return value
    return len(value) if isinstance(value, (str, list, dict)) else None


class FieldStatistics:
    """Counts over items as they are added. openapi: DatasetFieldStatistics."""

    def __init__(self, names: Iterable[str]) -> None:
        self._found: dict[str, dict[str, Any]] = {
            name: {"min": None, "max": None, "nullCount": 0, "emptyCount": 0} for name in names
        }

    def add(self, texts: Iterable[bytes]) -> None:
        """Take in items by their JSON texts."""
        for text in texts:
            item = _values(text)
            for name, found in self._found.items():
                if name not in item:
                    found["emptyCount"] += 1
                elif (measure := _measure(item[name])) is None:
                    found["nullCount"] += 1
                else:
                    found["min"] = measure if found["min"] is None else min(found["min"], measure)
                    found["max"] = measure if found["max"] is None else max(found["max"], measure)

    def result(self) -> dict[str, dict[str, Any]]:
        """The statistics by field."""
        return self._found
