"""Dataset items as texts: what may be pushed, and how fields are picked without touching the values.

Values stay the JSON text that was pushed, so numbers of any size and precision come back as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actorium.domain.errors import ApiError, invalid

MAX_FIELDS = 2000
"""How many field names a dataset remembers. openapi: tabular exports have at most 2000 columns."""

_MAX_FIELD_LENGTH = 200


class NewItems(msgspec.Struct, frozen=True):
    """Items ready to append: their texts joined by newlines, and what they add to the dataset's numbers."""

    block: bytes
    count: int
    clean_count: int
    fields: frozenset[str]


_array = msgspec.json.Decoder(list[msgspec.Raw])
# Floats are only looked past here; as text they cannot be out of range.
_values = msgspec.json.Decoder(dict[str, Any], float_hook=str)
_raw_values = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse_items(body: bytes) -> NewItems:
    """Read a push: one object or an array of objects. Anything else refuses the whole of it with 400."""
    start = body.lstrip()[:1]
    if start not in (b"{", b"["):
        raise invalid("Dataset items must be sent as a JSON object or an array of JSON objects.")
    try:
        texts = [bytes(raw) for raw in _array.decode(body)] if start == b"[" else [body.strip()]
    except msgspec.DecodeError as error:
        raise _malformed(error) from error
    fields: set[str] = set()
    clean_count = 0
    for index, text in enumerate(texts):
        if text[:1] != b"{":
            raise invalid(f"Dataset items must be JSON objects, but the item at index {index} is not.")
        try:
            item = _values.decode(text)
            if len(fields) < MAX_FIELDS:
                _collect(item, "", fields)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _malformed(error, index) from error
        except RecursionError as error:
            raise invalid(f"The dataset item at index {index} is nested too deeply.") from error
        clean_count += any(not key.startswith("#") for key in item)
        if b"\n" in text:
            texts[index] = msgspec.json.format(text, indent=-1)
    return NewItems(b"\n".join(texts), len(texts), clean_count, frozenset(fields))


def _malformed(error: Exception, index: int | None = None) -> ApiError:
    where = "The request body" if index is None else f"The dataset item at index {index}"
    return invalid(f"{where} is not valid JSON: {error}")


def _collect(values: dict[str, Any], prefix: str, fields: set[str]) -> None:
    for key, value in values.items():
        if value and isinstance(value, (dict, list)):
            if len(fields) < MAX_FIELDS:
                inner = value if isinstance(value, dict) else {str(n): part for n, part in enumerate(value)}
                _collect(inner, f"{prefix}{key}/", fields)
        elif len(prefix) + len(key) <= _MAX_FIELD_LENGTH:
            fields.add(prefix + key)


class Shape(msgspec.Struct, frozen=True):
    """How items change on their way out. ``fields`` also sets the order; ``omit`` wins over it."""

    fields: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    skip_hidden: bool = False
    skip_empty: bool = False
    skip_failed_pages: bool = False

    @property
    def changes_nothing(self) -> bool:
        """Whether items come out as they are stored."""
        return not (self.fields or self.omit or self.skip_hidden or self.skip_empty or self.skip_failed_pages)

    def apply(self, texts: Sequence[bytes]) -> list[bytes]:
        """The texts of what is left of the items."""
        shaped = []
        for text in texts:
            item = _raw_values.decode(text)
            if self.skip_failed_pages and "errorInfo" in item:
                continue
            if self.fields:
                item = {name: value for name in self.fields if (value := _pick(item, name)) is not None}
            for name in self.omit:
                _drop(item, name)
            if self.skip_hidden:
                item = {name: value for name, value in item.items() if not name.startswith("#")}
            if item or not self.skip_empty:
                shaped.append(msgspec.json.encode(item))
        return shaped


def _object(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw] | None:
    return _raw_values.decode(raw) if raw is not None and bytes(memoryview(raw)[:1]) == b"{" else None


def _split(name: str) -> tuple[str, str] | None:
    for separator in (".", "/"):
        head, found, rest = name.partition(separator)
        if found and head and rest:
            return head, rest
    return None


def _pick(item: dict[str, msgspec.Raw], name: str) -> msgspec.Raw | None:
    """The value called ``name``, or, when there is none, the one at the path ``a.b`` or ``a/b``."""
    if name in item or (path := _split(name)) is None:
        return item.get(name)
    inner = _object(item.get(path[0]))
    return None if inner is None else _pick(inner, path[1])


def _drop(item: dict[str, msgspec.Raw], name: str) -> None:
    if name in item:
        del item[name]
    elif (path := _split(name)) is not None and (inner := _object(item.get(path[0]))) is not None:
        _drop(inner, path[1])
        item[path[0]] = msgspec.Raw(msgspec.json.encode(inner))
