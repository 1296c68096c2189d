"""Transformations of dataset items, held against a plain model of each rule, and items as text and tables."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorium.domain.dataset_items import MAX_FIELDS, parse_items, values_of
from actorium.domain.errors import ApiError
from actorium.domain.item_formats import FormatOptions, ItemFormat, text_format
from actorium.domain.item_shapes import Shape, view_of
from actorium.domain.item_tables import Columns, cells
from actorium.domain.json_texts import MAX_DEPTH

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc#"), inner, max_size=3),
    max_leaves=8,
)
_ITEMS = st.dictionaries(st.sampled_from(["a", "b", "c", "#d", "a.b", "errorInfo"]), _VALUES, max_size=5)
_NAMES = st.lists(st.sampled_from(["a", "b", "c", "#d"]), max_size=3, unique=True).map(tuple)


def shaped(items: Any, **steps: Any) -> list[Any]:
    texts = parse_items(json.dumps(items).encode()).texts
    return [json.loads(text) for text in Shape(**steps).apply(texts)]


@given(st.lists(_ITEMS, max_size=4), _NAMES, _NAMES)
def test_fields_and_omit(items: list[dict[str, Any]], fields: tuple[str, ...], omit: tuple[str, ...]) -> None:
    expected = [{n: i[n] for n in (fields or i) if n in i and n not in omit} for i in items]
    assert shaped(items, fields=fields, omit=omit) == expected
    if fields:
        found = shaped(items, fields=fields)
        assert all(list(record) == [n for n in fields if n in record] for record in found)


@given(st.lists(_ITEMS, max_size=4), st.sampled_from(["a", "b"]))
def test_unwind(items: list[dict[str, Any]], name: str) -> None:
    expected: list[dict[str, Any]] = []
    for item in items:
        parent = {key: value for key, value in item.items() if key != name}
        value = item.get(name)
        if isinstance(value, list):
            expected += [parent | (part if isinstance(part, dict) else {name: part}) for part in value]
        elif isinstance(value, dict):
            expected.append(parent | value)
        else:
            expected.append(item)
    assert shaped(items, unwind=(name,)) == expected


@given(st.lists(_ITEMS, max_size=4))
def test_hidden_empty_and_failed(items: list[dict[str, Any]]) -> None:
    visible = [{key: value for key, value in item.items() if not key.startswith("#")} for item in items]
    assert shaped(items, skip_hidden=True) == visible
    assert shaped(items, skip_hidden=True, skip_empty=True) == [item for item in visible if item]
    assert shaped(items, skip_failed_pages=True) == [item for item in items if "errorInfo" not in item]


@given(_ITEMS)
def test_cells_are_every_leaf_by_its_path(item: dict[str, Any]) -> None:
    def at(path: str, value: Any) -> Any:
        for part in path.split("/"):
            value = value[int(part)] if isinstance(value, list) else value[part]
        return value

    for path, value in cells(item).items():
        found = at(path, item)
        assert found == value or (value is None and found in ({}, []))
    pushed = parse_items(json.dumps(item).encode())
    assert list(pushed.fields) == list(cells(item))


@pytest.mark.parametrize(
    ("item", "steps", "expected"),
    [
        ({"foo": {"bar": 1, "baz": {"x": 2, "y": {}}}, "z": 3}, {"flatten": ("foo",)},
         [{"foo.bar": 1, "foo.baz.x": 2, "foo.baz.y": {}, "z": 3}]),
        ({"foo": [1], "z": 3}, {"flatten": ("foo", "none")}, [{"foo": [1], "z": 3}]),
        ({"a": {"b": 1}}, {"flatten": ("a",), "fields": ("a.b",)}, [{"a.b": 1}]),
        ({"a": {"b": 1, "c": 2}}, {"fields": ("a.b",)}, [{"a.b": 1}]),
        ({"a": [{"b": 1}, {"b": 2}]}, {"fields": ("a/1/b",)}, [{"a/1/b": 2}]),
        ({"a": {"b": 1, "c": 2}}, {"omit": ("a.b",)}, [{"a": {"c": 2}}]),
        ({"place": [{"geo.lat": 1}]}, {"fields": ("place/0/geo.lat",)}, [{"place/0/geo.lat": 1}]),
        ({"a": {"b": 1, "c": 2}}, {"fields": ("a", "a.b"), "omit": ("a",)}, [{}]),
        ({"a.b": 1, "a": {"b": 2}}, {"fields": ("a.b",), "omit": ("a.b",)}, [{}]),
        ({"a": 1, "t": [1, 2], "b": 3}, {"unwind": ("t",)}, [{"a": 1, "t": 1, "b": 3}, {"a": 1, "t": 2, "b": 3}]),
        ({"a": 1, "b": 2}, {"fields": ("b", "a"), "output_fields": ("x", "y")}, [{"x": 2, "y": 1}]),
        ({"a": 1, "b": 2}, {"fields": ("b", "a"), "output_fields": ("x", "y"), "omit": ("b",)}, [{"y": 1}]),
        ({"u": [{"v": [1, 2]}, {"v": []}], "k": 0}, {"unwind": ("u", "v")}, [{"k": 0, "v": 1}, {"k": 0, "v": 2}]),
        ({"url": "x", "pageFunctionResult": [{"n": 1}, {"n": 2}], "other": 1}, {"simplified": True},
         [{"url": "x", "n": 1}, {"url": "x", "n": 2}]),
    ],
)  # fmt: skip
def test_examples(item: Any, steps: dict[str, Any], expected: Any) -> None:
    assert shaped(item, **steps) == expected


def test_an_unwound_value_stays_where_the_array_was() -> None:
    assert Shape(unwind=("t",)).apply([b'{"a":1,"t":[1],"b":3}']) == [b'{"a":1,"t":1,"b":3}']


def test_numbers_keep_their_text() -> None:
    text = b'{"big":123456789012345678901234567890,"f":1.10,"e":1E400,"n":-0.0,"t":1.0}'
    assert Shape(fields=("e", "big", "f", "n", "t")).apply([text]) == [
        b'{"e":1E400,"big":123456789012345678901234567890,"f":1.10,"n":-0.0,"t":1.0}'
    ]


def test_half_a_surrogate_pair_is_kept_and_shown_as_replacement() -> None:
    body = rb'[{"a":"x\ud800y","k\udc00":"\ud83d\ude00","b":"\\ud800"},  {"c":1}]'
    new = parse_items(body)
    assert new.texts == [rb'{"a":"x\ud800y","k\udc00":"\ud83d\ude00","b":"\\ud800"}', b'{"c":1}']
    assert values_of(str)(new.texts[0]) == {"a": "x\ufffdy", "k\ufffd": "\U0001f600", "b": "\\ud800"}
    assert new.fields == ("a", "k\ufffd", "b", "c")
    assert json.loads(Shape(fields=("a",)).apply(new.texts[:1])[0]) == {"a": "x\ufffdy"}


@pytest.mark.parametrize(
    "body",
    [b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b'[{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}]",
     b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}"],
)  # fmt: skip
def test_deep_nesting_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError, match="nested"):
        parse_items(body)


def test_the_deepest_item_comes_out_in_every_format() -> None:
    inner = b'{"a":' * (MAX_DEPTH - 1) + b"{}" + b"}" * (MAX_DEPTH - 1)
    item = values_of(str)(parse_items(inner).texts[0])
    columns = Columns()
    columns.see([item])
    for wanted in (ItemFormat.HTML, ItemFormat.XML, ItemFormat.RSS):
        assert text_format(wanted, FormatOptions(), columns.names()).write([item])


def test_broken_json_is_placed() -> None:
    body = b'[{"a":"' + b"x" * 1_000_000 + b'"},{"b":tru}]'
    with pytest.raises(ApiError, match=r"byte 10000\d\d"):
        parse_items(body)
    with pytest.raises(ApiError, match="index 1 is not valid JSON"):
        parse_items(b'[{"a":1},{"b":"\xff"}]')


def test_named_fields_come_first_with_what_is_inside_them() -> None:
    columns = Columns(fields=("z", "a", "none"))
    columns.see([{"b": 1, "a": {"x": 1}}, {"a": {"y": {"v": 2}}, "z": 1, "ab": 1}])
    assert columns.names() == ["z", "a/x", "a/y/v", "none", "b", "ab"]


def test_columns_are_limited() -> None:
    columns = Columns()
    columns.see([{f"f{n}": n for n in range(MAX_FIELDS + 5)}, {"x" * 201: 1}])
    assert len(columns.names()) == MAX_FIELDS
    assert "x" * 201 not in columns.names()


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=8), max_size=4), max_size=4))
def test_csv_is_read_back_as_it_was(items: list[dict[str, str]]) -> None:
    columns = Columns()
    columns.see(items)
    writer = text_format(ItemFormat.CSV, FormatOptions(delimiter=";"), columns.names())
    text = writer.begin() + writer.write(items) + writer.end()
    names = columns.names()
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=";"))
    expected = [names, *([item.get(name, "") for name in names] for item in items)] if names else []
    assert rows == expected


@given(st.lists(_ITEMS, max_size=4))
def test_xml_and_rss_are_well_formed(items: list[dict[str, Any]]) -> None:
    for wanted, row in ((ItemFormat.XML, "item"), (ItemFormat.RSS, "channel/item")):
        writer = text_format(wanted, FormatOptions(feed_title="<&>"), [])
        root = ET.fromstring(writer.begin() + writer.write(items) + writer.end())
        assert len(root.findall(row)) == len(items)


def test_xml_rules() -> None:
    item = {
        "a": [1, 2], "n": None, "o": {"@": {"id": 'q"<'}, "#": "text"}, "p": {"@": {"id": 1}, "#": "no", "c": True},
        "1 bad": "\x00<&>", "e": [], "d": {"@": "plain"},
    }  # fmt: skip
    text = text_format(ItemFormat.XML, FormatOptions(xml_row="row"), []).write([item])
    assert text == (
        '<row><a>1</a><a>2</a><n/><o id=\'q"&lt;\'>text</o><p id="1"><c>true</c></p>'
        "<_1_bad>\ufffd&lt;&amp;&gt;</_1_bad><d><_>plain</_></d></row>\n"
    )


def test_every_key_gives_a_tag_and_every_text_comes_back() -> None:
    item = {"area m²": 1, "٣": "a\r\nb", "é": {"@": {"a b": 1, "a_b": 2}}, "": 0, "日本": None}
    text = text_format(ItemFormat.XML, FormatOptions(), []).write([item])
    assert text == (
        '<item><area_m_>1</area_m_><_٣>a&#13;\nb</_٣><_é a_b="2"/><_>0</_><_日本/></item>\n'
    )  # fmt: skip
    assert ET.fromstring(text)[1].text == "a\r\nb"


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": ";;"},
        {"xml_row": "m²"},
        {"xml_root": ""},
        {"xml_root": "a:b"},
        {"delimiter": "\n"},
        {"xml_root": "1a"},
        {"xml_row": "a b"},
    ],
)
def test_bad_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ApiError):
        FormatOptions(**options)


def test_views() -> None:
    schema = {"views": {"v": {"transformation": {"fields": ["a"], "limit": 3, "skipHidden": True}}}}
    view = view_of(schema, "v")
    assert (view.fields, view.limit, view.skip_hidden, view.desc) == (["a"], 3, True, None)
    for broken in (None, {}, {"views": []}, schema):
        with pytest.raises(ApiError) as refused:
            view_of(broken, "other")
        assert refused.value.type.code == "requested-dataset-view-does-not-exist"
