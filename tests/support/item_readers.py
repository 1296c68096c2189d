"""Other people's parsers for every format items are read in, and what they should find in given items."""

from __future__ import annotations

import csv
import html.parser
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from typing import Any

import openpyxl
from openpyxl.utils.escape import unescape

from support.item_model import Item, Num, cell_text, cells, value_of

_BOM = b"\xef\xbb\xbf"
Table = list[list[Any]]
Element = tuple[str, dict[str, str], str, list[Any]]


def table_of(items: Sequence[Item], columns: Sequence[str], cell: Callable[[Any], Any] = cell_text) -> Table:
    """The header and the rows."""
    rows = [dict(cells(item)) for item in items]
    return [list(columns), *([cell(row.get(name)) for name in columns] for row in rows)]


def read_json(body: bytes) -> Any:
    return value_of(body)


def read_json_lines(body: bytes) -> Any:
    assert body.endswith(b"\n") or not body
    return [value_of(line) for line in body.split(b"\n")[:-1]]


def read_csv(body: bytes, delimiter: str, *, has_bom: bool) -> Table:
    assert body.startswith(_BOM) == has_bom
    text = body.removeprefix(_BOM).decode()
    assert not text or text.endswith("\r\n")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


class _HtmlTable(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: Table = []
        self.cell: str | None = None

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in ("meta", "table", "thead", "tbody", "tr", "th", "td")
        assert not attrs or tag == "meta"
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.cell = ""

    def handle_data(self, data: str) -> None:
        if self.cell is None:
            assert not data.strip()
        else:
            self.cell += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td"):
            self.rows[-1].append(self.cell)
            self.cell = None


def read_html(body: bytes) -> Table:
    parser = _HtmlTable()
    parser.feed(body.decode())
    parser.close()
    return parser.rows


def read_xlsx(body: bytes) -> Table:
    sheet = openpyxl.load_workbook(io.BytesIO(body)).active
    return [
        [unescape(cell) if isinstance(cell, str) else cell for cell in row] for row in sheet.iter_rows(values_only=True)
    ]


def xlsx_cell(value: Any) -> Any:
    """What a cell holds: whole numbers up to 2^53 and others of 16 digits are numbers."""
    if not isinstance(value, Num):
        return value
    if re.fullmatch(r"-?\d+", value):
        return int(value) if abs(int(value)) <= 2**53 else str(int(value))
    number = float(f"{float(value):.16G}")
    return str(value) if abs(number) == float("inf") else number


def read_xml(body: bytes) -> Element:
    return _element(ET.fromstring(body))


def _element(found: ET.Element) -> Element:
    children = [_element(child) for child in found]
    # Line breaks between rows are no content.
    return found.tag, dict(found.attrib), (found.text or "") if not children else "", children


def xml_of(name: str, value: Any) -> list[Element]:
    """The elements a value becomes."""
    if isinstance(value, list):
        return [element for part in value for element in xml_of(name, part)]
    if not isinstance(value, dict):
        return [(name, {}, _xml_text(value), [])]
    attributes = value.get("@")
    has_attributes = isinstance(attributes, dict)
    found: dict[str, str] = {}
    if isinstance(attributes, dict):
        found = {tag(key): _xml_text(part) for key, part in attributes.items() if not isinstance(part, (dict, list))}
    children = [
        element
        for key, part in value.items()
        if key != "#" and not (key == "@" and has_attributes)
        for element in xml_of(tag(key), part)
    ]
    text = ""
    if not children and "#" in value:
        if isinstance(value["#"], (dict, list)):
            children = xml_of("_", value["#"])
        else:
            text = _xml_text(value["#"])
    return [(name, found, text, children)]


def _xml_text(value: Any) -> str:
    return re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", cell_text(value))


def tag(key: str) -> str:
    """``key`` with ``_`` for what no tag may have, and before a beginning that no tag may have."""
    name = "".join(one if _stands_in_tag(one) else "_" for one in key)
    return name if re.match("[A-Za-z_]", name) else f"_{name}"


def _stands_in_tag(character: str) -> bool:
    if character.isspace():
        return False
    try:
        return ET.fromstring(f"<a{character}/>").tag == f"a{character}"
    except ET.ParseError:
        return False
