"""How dataset items change on their way out: one record may become none, one, or several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from actorium.domain.dataset_items import raw_fields
from actorium.domain.errors import ApiError, ErrorType, invalid

Record = dict[str, msgspec.Raw]

_SIMPLIFIED_FIELDS = ("url", "pageFunctionResult", "errorInfo")
_SIMPLIFIED_UNWIND = "pageFunctionResult"
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
        # A field that is both named and omitted keeps its place in outputFields, and is then dropped.
        omitted = [name for name in self.omit if name not in self.fields]
        for name in omitted:
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
                merged = raw_fields(element) if _kind(element) == b"{" else {name: element}
                unwound.append(parent | merged)
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


def _split(name: str) -> tuple[str, str] | None:
    for separator in (".", "/"):
        head, found, rest = name.partition(separator)
        if found and head and rest:
            return head, rest
    return None


def _pick(record: Record, name: str) -> msgspec.Raw | None:
    """The value called ``name``, or, when there is none, the one at the path ``a.b`` or ``a/b``."""
    if name in record or (path := _split(name)) is None:
        return record.get(name)
    head, rest = path
    value = record.get(head)
    if value is None:
        return None
    if _kind(value) == b"{":
        return _pick(raw_fields(value), rest)
    return _pick(_numbered(value), rest) if _kind(value) == b"[" else None


def _numbered(value: msgspec.Raw) -> Record:
    return {str(index): element for index, element in enumerate(_elements.decode(value))}


def _drop(record: Record, name: str) -> None:
    if name in record:
        del record[name]
    elif (path := _split(name)) is not None and (value := record.get(path[0])) is not None and _kind(value) == b"{":
        inner = raw_fields(value)
        _drop(inner, path[1])
        record[path[0]] = msgspec.Raw(msgspec.json.encode(inner))
