"""Dataset items as rows of a table: nested values become columns called by their path, as in ``address/0/city``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from actorium.domain.dataset_items import MAX_FIELD_LENGTH, MAX_FIELDS


def cells(item: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an item by column; ``None`` for null and for an object or array without anything in it."""
    found: dict[str, Any] = {}
    _fill(found, item.items(), "")
    return found


def _fill(found: dict[str, Any], parts: Iterable[tuple[Any, Any]], prefix: str) -> None:
    for key, value in parts:
        if isinstance(value, dict):
            if value:
                _fill(found, value.items(), f"{prefix}{key}/")
            else:
                found[f"{prefix}{key}"] = None
        elif isinstance(value, list):
            if value:
                _fill(found, enumerate(value), f"{prefix}{key}/")
            else:
                found[f"{prefix}{key}"] = None
        else:
            found[f"{prefix}{key}"] = value


class Columns:
    """The columns of a table, in the order in which their first values are seen.

    ``fields`` come before all others in their own order, each with the columns of what is inside it, or with
    an empty column if no item has it. What is beyond the 2000th column, or has a longer name than 200
    characters, is left out. openapi: dataset_items_get.
    """

    def __init__(self, names: Iterable[str] = (), *, fields: Iterable[str] = ()) -> None:
        self._groups: dict[str, dict[str, None]] = {field: {} for field in fields}
        self._others: dict[str, None] = {}
        self._seen: set[str] = set()
        self._add(names)

    def names(self) -> list[str]:
        """The names of the columns."""
        named = [name for field, group in self._groups.items() for name in group or (field,)]
        return [*named, *self._others]

    def see(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Take in the columns of some items."""
        for item in items:
            self._add(cells(item))

    def _add(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._seen and len(self._seen) < MAX_FIELDS and len(name) <= MAX_FIELD_LENGTH:
                self._seen.add(name)
                self._group_of(name)[name] = None

    def _group_of(self, name: str) -> dict[str, None]:
        end = len(name)
        while end > 0:
            if (group := self._groups.get(name[:end])) is not None:
                return group
            end = name.rfind("/", 0, end)
        return self._others


def row(columns: Iterable[str], item: Mapping[str, Any]) -> list[Any]:
    """The cells of an item, one for each column."""
    found = cells(item)
    return [found.get(name) for name in columns]


def cell_text(value: Any) -> str:
    """A cell as text; numbers that are not whole are already the text that was pushed."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)
