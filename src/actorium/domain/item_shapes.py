"""How dataset items change on their way out: one record may become none, one, or several."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from actorium.domain.dataset_items import MAX_FIELD_LENGTH, raw_fields
from actorium.domain.errors import ApiError, ErrorType, invalid

Record = dict[str, msgspec.Raw]

_SIMPLIFIED_FIELDS = ("url", "pageFunctionResult", "errorInfo")
_SIMPLIFIED_UNWIND = "pageFunctionResult"
_SEPARATOR = re.compile(r"[./]")
_elements = msgspec.json.Decoder(list[msgspec.Raw])


class Shape(msgspec.Struct, frozen=True):
    """The steps in the order they are applied; each is left out where its field is empty.

    ``fields`` also sets the order of what is left, and ``omit`` wins over it. ``output_fields`` are new names
    for ``fields``, one each. openapi: dataset_items_get.
    """

    skip_failed_pages: bool = False
    simplified: bool = False
    unwind: tuple[str, ...] = ()
    flatten: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    output_fields: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    skip_hidden: bool = False
    skip_empty: bool = False

    def __post_init__(self) -> None:
        """Refuse new names that do not fit the fields. Raises 400."""
        if self.output_fields and len(self.output_fields) != len(self.fields):
            raise invalid(
                f"Query parameter outputFields must name as many fields as the parameter fields: "
                f"{len(self.output_fields)} are given for {len(self.fields)}."
            )

    @property
    def changes_nothing(self) -> bool:
        """Whether items come out as they are stored."""
        return self == _NONE

    @property
    def keeps_names(self) -> bool:
        """Whether every field that comes out has the path it is stored under, and the dataset's fields are all."""
        return self in (_NONE, _NO_EMPTY)

    @property
    def names(self) -> tuple[str, ...]:
        """What the caller's fields are called when they come out."""
        return tuple(
            new
            for name, new in zip(self.fields, self.output_fields or self.fields, strict=True)
            if name not in self.omit and not (self.skip_hidden and new.startswith("#"))
        )

    def apply(self, texts: Sequence[bytes]) -> list[bytes]:
        """The texts of what becomes of the items."""
        shaped: list[bytes] = []
        for text in texts:
            for record in self._records(raw_fields(text)):
                finished = self._finish(record)
                if finished or not self.skip_empty:
                    shaped.append(msgspec.json.encode(finished))
        return shaped

    def _records(self, record: Record) -> Iterable[Record]:
        if self.skip_failed_pages and "errorInfo" in record:
            return ()
        records = [record]
        if self.simplified:
            records = _unwind([_project(record, _SIMPLIFIED_FIELDS)], _SIMPLIFIED_UNWIND)
        for name in self.unwind:
            records = _unwind(records, name)
        return records

    def _finish(self, record: Record) -> Record:
        for name in self.flatten:
            record = _flatten(record, name)
        for name in self.omit:
            _drop(record, name)
        if self.fields:
            names = self.output_fields or self.fields
            record = {
                new: value
                for name, new in zip(self.fields, names, strict=True)
                if name not in self.omit and (value := _pick(record, name)) is not None
            }
        if self.skip_hidden:
            record = {name: value for name, value in record.items() if not name.startswith("#")}
        return record


_NONE = Shape()
_NO_EMPTY = Shape(skip_empty=True)


class View(msgspec.Struct, frozen=True):
    """What a view of a dataset schema asks for; ``None`` where it says nothing. docs: dataset_schema."""

    fields: list[str] | None = None
    omit: list[str] | None = None
    unwind: list[str] | None = None
    flatten: list[str] | None = None
    limit: int | None = None
    desc: bool | None = None
    clean: bool | None = None
    skip_hidden: bool | None = msgspec.field(default=None, name="skipHidden")
    skip_empty: bool | None = msgspec.field(default=None, name="skipEmpty")


def view_of(schema: dict[str, Any] | None, name: str) -> View:
    """The view ``name`` of a dataset's schema. Raises 400 ``requested-dataset-view-does-not-exist``."""
    views = (schema or {}).get("views")
    found = views.get(name) if isinstance(views, dict) else None
    if not isinstance(found, dict):
        raise ApiError(
            ErrorType.REQUESTED_DATASET_VIEW_DOES_NOT_EXIST,
            f"Requested dataset view {name[:100]!r} does not exist: the schema of the dataset has no such view.",
        )
    return msgspec.convert(found.get("transformation") or {}, View)


def _kind(raw: msgspec.Raw) -> bytes:
    return bytes(memoryview(raw)[:1])


def _project(record: Record, names: Sequence[str]) -> Record:
    return {name: record[name] for name in names if name in record}


def _unwind(records: Sequence[Record], name: str) -> list[Record]:
    """An array gives one record for each element, an object is merged in; anything else stays as it is."""
    unwound: list[Record] = []
    for record in records:
        value = record.get(name)
        if value is None:
            unwound.append(record)
        elif _kind(value) == b"[":
            parent = {key: part for key, part in record.items() if key != name}
            for element in _elements.decode(value):
                is_object = _kind(element) == b"{"
                unwound.append(parent | raw_fields(element) if is_object else record | {name: element})
        elif _kind(value) == b"{":
            unwound.append({key: part for key, part in record.items() if key != name} | raw_fields(value))
        else:
            unwound.append(record)
    return unwound


def _flatten(record: Record, name: str) -> Record:
    """``{"a": {"b": {"c": 1}}}`` becomes ``{"a.b.c": 1}``, in the place of ``a``."""
    value = record.get(name)
    if value is None or _kind(value) != b"{":
        return record
    flat: Record = {}
    for key, part in record.items():
        if key == name:
            _flatten_into(flat, key, part)
        else:
            flat[key] = part
    return flat


def _flatten_into(flat: Record, path: str, value: msgspec.Raw) -> None:
    inner = raw_fields(value) if _kind(value) == b"{" else {}
    if not inner:
        flat[path] = value
    for key, part in inner.items():
        _flatten_into(flat, f"{path}.{key}", part)


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Every way to read ``name`` as a key and the path inside its value: keys may have dots and slashes too."""
    # No column has a longer name, so no path does.
    for separator in _SEPARATOR.finditer(name) if len(name) <= MAX_FIELD_LENGTH else ():
        yield name[: separator.start()], name[separator.end() :]


def _pick(record: Record, name: str) -> msgspec.Raw | None:
    """The value called ``name``, or, when there is none, the one at the path ``a.b`` or ``a/b``."""
    if name in record:
        return record[name]
    for head, rest in _splits(name):
        if (value := record.get(head)) is not None and (found := _pick(_inside(value), rest)) is not None:
            return found
    return None


def _inside(value: msgspec.Raw) -> Record:
    """The parts of an object by key, of an array by number."""
    if _kind(value) == b"{":
        return raw_fields(value)
    return {str(index): part for index, part in enumerate(_elements.decode(value))} if _kind(value) == b"[" else {}


def _drop(record: Record, name: str) -> bool:
    """Remove what ``name`` leads to, whether a key or a path along keys; returns whether there was anything."""
    if name in record:
        del record[name]
        return True
    for head, rest in _splits(name):
        if (value := record.get(head)) is not None and _kind(value) == b"{":
            inner = raw_fields(value)
            if _drop(inner, rest):
                record[head] = msgspec.Raw(msgspec.json.encode(inner))
                return True
    return False
