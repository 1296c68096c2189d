"""Dataset items written as text: CSV, HTML, XML, RSS. Each format begins, takes items page by page, and ends."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from html import escape as html_escape
from typing import Any, Protocol
from xml.sax.saxutils import escape, quoteattr

import msgspec

from actorium.domain.errors import invalid
from actorium.domain.item_tables import cell_text, row


class ItemFormat(StrEnum):
    """The formats items can be read in. openapi: dataset_items_get."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    HTML = "html"
    XLSX = "xlsx"
    XML = "xml"
    RSS = "rss"

    @property
    def media_type(self) -> str:
        """The content type of an answer in this format."""
        return _MEDIA_TYPES[self]

    @property
    def is_table(self) -> bool:
        """Whether items become rows and their values columns."""
        return self in (ItemFormat.CSV, ItemFormat.HTML, ItemFormat.XLSX)


_MEDIA_TYPES = {
    ItemFormat.JSON: "application/json; charset=utf-8",
    ItemFormat.JSONL: "application/jsonl; charset=utf-8",
    ItemFormat.CSV: "text/csv; charset=utf-8",
    ItemFormat.HTML: "text/html; charset=utf-8",
    ItemFormat.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ItemFormat.XML: "application/xml; charset=utf-8",
    ItemFormat.RSS: "application/rss+xml; charset=utf-8",
}
# XML 1.0, section 2.3, without the colon, which would name a namespace.
_NAME_START = (
    r"A-Za-z_\xc0-\xd6\xd8-\xf6\xf8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d\u2070-\u218f"
    r"\u2c00-\u2fef\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_NAME_CHARACTERS = rf"{_NAME_START}0-9.\-\xb7\u0300-\u036f\u203f\u2040"
_XML_NAME = re.compile(f"[{_NAME_START}][{_NAME_CHARACTERS}]*")
_NOT_IN_NAME = re.compile(f"[^{_NAME_CHARACTERS}]")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class FormatOptions(msgspec.Struct, frozen=True):
    """What a caller chose about the looks of a format. Raises 400 for what cannot be."""

    delimiter: str = ","
    bom: bool | None = None
    skip_header_row: bool = False
    xml_root: str = "items"
    xml_row: str = "item"
    feed_title: str = ""
    feed_description: str = ""
    feed_link: str = ""

    def __post_init__(self) -> None:
        """Check the names and the delimiter."""
        if len(self.delimiter) != 1 or self.delimiter in '\r\n"':
            raise invalid("Query parameter delimiter must be one character other than a quote or a line break.")
        for name, value in (("xmlRoot", self.xml_root), ("xmlRow", self.xml_row)):
            if _XML_NAME.fullmatch(value) is None:
                raise invalid(f"Query parameter {name} must be the name of an XML element: {value[:100]!r} is none.")


class TextFormat(Protocol):
    """A text that is written in pieces."""

    def begin(self) -> str:
        """What comes before the first item."""
        ...

    def write(self, items: Iterable[Mapping[str, Any]]) -> str:
        """Some items. Numbers that are not whole come as text."""
        ...

    def end(self) -> str:
        """What comes after the last item."""
        ...


def text_format(wanted: ItemFormat, options: FormatOptions, columns: Sequence[str]) -> TextFormat:
    """The writer for ``wanted``; ``columns`` are used by tables only."""
    match wanted:
        case ItemFormat.CSV:
            return Csv(columns, options)
        case ItemFormat.HTML:
            return Html(columns)
        case ItemFormat.XML:
            return Xml(options)
        case ItemFormat.RSS:
            return Rss(options)
        case _:
            raise ValueError(wanted)


class Csv:
    """RFC 4180: lines end in CRLF, values with a delimiter, quote or line break are quoted."""

    def __init__(self, columns: Sequence[str], options: FormatOptions) -> None:
        self._columns = columns
        self._options = options

    def begin(self) -> str:
        """The header row."""
        return "" if self._options.skip_header_row else self._lines([self._columns])

    def write(self, items: Iterable[Mapping[str, Any]]) -> str:
        """One row for each item."""
        return self._lines([cell_text(value) for value in row(self._columns, item)] for item in items)

    def end(self) -> str:
        """Nothing."""
        return ""

    def _lines(self, rows: Iterable[Sequence[str]]) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=self._options.delimiter).writerows(cells for cells in rows if cells)
        return text.getvalue()


class Html:
    """A page with one table."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns

    def begin(self) -> str:
        """Everything up to the first row."""
        head = "".join(f"<th>{html_escape(name)}</th>" for name in self._columns)
        return f'<!DOCTYPE html>\n<meta charset="utf-8">\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n'

    def write(self, items: Iterable[Mapping[str, Any]]) -> str:
        """One row for each item."""
        return "".join(
            "<tr>" + "".join(f"<td>{html_escape(cell_text(v))}</td>" for v in row(self._columns, item)) + "</tr>\n"
            for item in items
        )

    def end(self) -> str:
        """The end of the table."""
        return "</tbody>\n</table>\n"


class Xml:
    """One element for each item; keys become elements, an array repeats its element."""

    def __init__(self, options: FormatOptions) -> None:
        self._root = options.xml_root
        self._row = options.xml_row

    def begin(self) -> str:
        """The declaration and the root's start."""
        return f'<?xml version="1.0" encoding="UTF-8"?>\n<{self._root}>\n'

    def write(self, items: Iterable[Mapping[str, Any]]) -> str:
        """An element for each item."""
        return "".join(f"{_element(self._row, item)}\n" for item in items)

    def end(self) -> str:
        """The root's end."""
        return f"</{self._root}>\n"


class Rss:
    """An RSS 2.0 feed; what an item of the dataset has becomes elements of the feed's ``item``."""

    def __init__(self, options: FormatOptions) -> None:
        self._options = options

    def begin(self) -> str:
        """The feed's own elements."""
        title, link = _xml_text(self._options.feed_title), _xml_text(self._options.feed_link)
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<rss version="2.0">\n<channel>\n'
            f"<title>{title}</title>\n<link>{link}</link>\n"
            f"<description>{_xml_text(self._options.feed_description)}</description>\n"
        )

    def write(self, items: Iterable[Mapping[str, Any]]) -> str:
        """An ``item`` for each item."""
        return "".join(f"{_element('item', item)}\n" for item in items)

    def end(self) -> str:
        """The feed's end."""
        return "</channel>\n</rss>\n"


def _xml_text(value: Any) -> str:
    # XML has no way to write most control characters.
    return escape(_NOT_XML.sub("\ufffd", cell_text(value)))


def _name(key: str) -> str:
    """``key`` as the name of an element: what cannot stand in one becomes ``_``."""
    name = _NOT_IN_NAME.sub("_", key)
    return name if _XML_NAME.fullmatch(name) else f"_{name}"


def _element(name: str, value: Any) -> str:
    """An element. Of an object, ``@`` gives its attributes and ``#`` its text if there is nothing else inside."""
    if isinstance(value, list):
        return "".join(_element(name, part) for part in value)
    if not isinstance(value, dict):
        text = _xml_text(value)
        return f"<{name}>{text}</{name}>" if text else f"<{name}/>"
    attributes = value.get("@")
    start = name
    if isinstance(attributes, dict):
        for key, part in attributes.items():
            if not isinstance(part, (dict, list)):
                start += f" {_name(key)}={quoteattr(_NOT_XML.sub(chr(0xFFFD), cell_text(part)))}"
    inner = "".join(
        _element(_name(key), part)
        for key, part in value.items()
        if key != "#" and not (key == "@" and isinstance(attributes, dict))
    )
    if not inner and "#" in value:
        text = value["#"]
        inner = _element("_", text) if isinstance(text, (dict, list)) else _xml_text(text)
    return f"<{start}>{inner}</{name}>" if inner else f"<{start}/>"
