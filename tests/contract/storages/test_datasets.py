"""Every method and argument of the stock dataset client."""

from __future__ import annotations

import csv
import io
import json
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree

import openpyxl
import pytest
from apify_client.errors import ApifyApiError

from support.platform import TOKEN
from support.stock_clients import body_of

pytestmark = [pytest.mark.xdist_group("storages")]

ITEMS: list[dict[str, Any]] = [
    {"a": 1, "#h": 1, "tags": [{"t": "x"}, {"t": "y"}], "o": {"p": {"q": 1}}},
    {},
    {"#h": 2},
    {"a": 4, "b": "žluť, 💛"},
]
SCHEMA = {
    "actorSpecification": 1,
    "fields": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "string"}}},
    "views": {
        "letters": {
            "title": "Letters",
            "transformation": {"fields": ["b", "a"], "desc": True, "clean": True},
            "display": {"component": "table"},
        }
    },
}
ABSENT = "A" * 17


@pytest.fixture
def dataset(client: Any) -> Any:
    """A dataset with a schema, holding ``ITEMS``."""
    found = client.dataset(client.datasets().get_or_create(schema=SCHEMA).id)
    found.push_items(ITEMS)
    return found


WINDOWS_AND_SHAPES: list[tuple[dict[str, Any], list[Any]]] = [
    ({}, ITEMS),
    ({"offset": 1}, ITEMS[1:]),
    ({"limit": 2}, ITEMS[:2]),
    ({"offset": 1, "limit": 1}, ITEMS[1:2]),
    ({"offset": 9}, []),
    ({"desc": True}, ITEMS[::-1]),
    ({"desc": True, "offset": 1, "limit": 2}, ITEMS[2:0:-1]),
    ({"clean": True}, [{key: ITEMS[0][key] for key in ("a", "tags", "o")}, ITEMS[3]]),
    ({"clean": False}, ITEMS),
    ({"fields": ["a"]}, [{"a": 1}, {}, {}, {"a": 4}]),
    ({"fields": ["b", "a"], "skip_empty": True}, [{"a": 1}, {"b": "žluť, 💛", "a": 4}]),
    ({"omit": ["tags", "o", "#h"]}, [{"a": 1}, {}, {}, ITEMS[3]]),
    ({"unwind": ["tags"], "fields": ["a", "t"], "limit": 1}, [{"a": 1, "t": "x"}, {"a": 1, "t": "y"}]),
    ({"skip_hidden": True, "fields": ["#h", "a"]}, [{"a": 1}, {}, {}, {"a": 4}]),
    ({"skip_empty": True}, [ITEMS[0], *ITEMS[2:]]),
    ({"flatten": ["o"], "fields": ["o.p.q"], "limit": 1}, [{"o.p.q": 1}]),
    ({"view": "letters"}, [{"b": "žluť, 💛", "a": 4}, {"a": 1}]),
    ({"view": "letters", "desc": False, "limit": 1}, [{"a": 1}]),
]


@pytest.mark.parametrize(("arguments", "expected"), WINDOWS_AND_SHAPES)
def test_items_in_every_window_and_shape(dataset: Any, arguments: dict[str, Any], expected: list[Any]) -> None:
    page = dataset.list_items(**arguments)
    assert page.items == expected
    assert [list(item) for item in page.items] == [list(item) for item in expected], "fields in their order"
    assert page.total == len(ITEMS)
    assert page.offset == arguments.get("offset", 0)
    assert page.limit == arguments.get("limit", 999_999_999_999)
    assert page.desc is (arguments.get("desc", "view" in arguments))
    assert list(dataset.iterate_items(**arguments)) == expected
    assert json.loads(dataset.get_items_as_bytes(**arguments)) == expected
    assert json.loads(body_of(dataset.stream_items(**arguments))) == expected
    with urllib.request.urlopen(dataset.create_items_public_url(**arguments)) as answer:
        assert json.load(answer) == expected


@pytest.mark.parametrize("chunk_size", [1, 3, 50])
def test_iteration_page_by_page(dataset: Any, chunk_size: int) -> None:
    assert list(dataset.iterate_items(chunk_size=chunk_size)) == ITEMS
    assert list(dataset.iterate_items(chunk_size=chunk_size, clean=True, fields=["a"])) == [{"a": 1}, {"a": 4}]
    assert list(dataset.iterate_items(chunk_size=chunk_size, desc=True, offset=1, limit=2)) == ITEMS[2:0:-1]
    unwound = [{"t": "x"}, {"t": "y"}, {}, {}, {}]
    assert list(dataset.iterate_items(chunk_size=chunk_size, unwind=["tags"], fields=["t"])) == unwound


def test_push_in_every_form(client: Any) -> None:
    dataset = client.dataset(client.datasets().get_or_create().id)
    dataset.push_items({"n": 0})
    dataset.push_items([{"n": 1}, {"n": 2}])
    dataset.push_items('[{"n": 3}, {"n": 4}]')
    dataset.push_items('{"n": 5}')
    dataset.push_items([])
    dataset.push_items([{"n": n, "pad": "compressed " * 20} for n in range(6, 100)])
    assert [item["n"] for item in dataset.list_items().items] == list(range(100))
    info = dataset.get()
    assert (info.item_count, info.clean_item_count, info.fields) == (100, 100, ["n", "pad"])
    for bad in ("text", [1], [None], [[{}]], "{", "[1]"):
        with pytest.raises(ApifyApiError) as error:
            dataset.push_items(bad)
        assert (error.value.status_code, error.value.type) == (400, "invalid-request"), bad
    with pytest.raises(ApifyApiError) as error:
        dataset.push_items([{"n": 100}, {"big": "x" * 9_500_000}])
    assert (error.value.status_code, error.value.type) == (413, "request-too-large")
    assert dataset.get().item_count == 100, "a refused push stores nothing"
    with pytest.raises(ApifyApiError) as error:
        client.dataset(ABSENT).push_items({})
    assert (error.value.status_code, error.value.type) == (404, "record-not-found")


def test_schema_and_statistics(client: Any, dataset: Any) -> None:
    assert dataset.get().model_dump(by_alias=True)["schema"] == SCHEMA
    statistics = dataset.get_statistics().field_statistics
    assert statistics["a"] == {"min": 1, "max": 4, "nullCount": 0, "emptyCount": 2}
    assert (statistics["b"]["min"], statistics["b"]["emptyCount"]) == (7, 3)
    plain = client.dataset(client.datasets().get_or_create().id)
    assert plain.get_statistics().field_statistics is None
    with pytest.raises(ApifyApiError) as error:
        dataset.push_items([{"a": 1}, {"a": "one", "b": 2}])
    assert (error.value.status_code, error.value.type) == (400, "schema-validation-error")
    [invalid] = error.value.data["invalidItems"]
    assert invalid["itemPosition"] == 1
    assert {found["instancePath"] for found in invalid["validationErrors"]} == {"/1/a", "/1/b"}
    assert dataset.get().item_count == len(ITEMS)
    with pytest.raises(ApifyApiError) as error:
        client.datasets().get_or_create(schema={"actorSpecification": 1, "fields": {"type": "nope"}})
    assert (error.value.status_code, error.value.type) == (400, "dataset-schema-invalid")
    with pytest.raises(ApifyApiError) as error:
        dataset.list_items(view="nope")
    assert (error.value.status_code, error.value.type) == (400, "requested-dataset-view-does-not-exist")


def test_csv_arguments(dataset: Any) -> None:
    def rows(**arguments: Any) -> list[list[str]]:
        content = dataset.get_items_as_bytes(item_format="csv", **arguments)
        assert content == body_of(dataset.stream_items(item_format="csv", **arguments))
        return list(csv.reader(io.StringIO(content.decode()), delimiter=arguments.get("delimiter", ",")))

    table = [["a", "b"], ["1", ""], ["", ""], ["", ""], ["4", "žluť, 💛"]]
    assert rows(fields=["a", "b"], bom=False) == table
    assert rows(fields=["a", "b"]) == [["\ufeffa", "b"], *table[1:]]
    assert rows(fields=["a", "b"], bom=False, skip_header_row=True) == table[1:]
    assert rows(fields=["a", "b"], bom=False, delimiter=";", skip_empty=True) == [*table[:2], table[4]]
    assert rows(clean=True, bom=False, omit=["tags", "o"]) == [["a", "b"], table[1], table[4]]
    assert rows(limit=1, bom=False)[0] == ["a", "#h", "tags/0/t", "tags/1/t", "o/p/q"]
    assert rows(view="letters", bom=False) == [["b", "a"], ["žluť, 💛", "4"], ["", "1"]]


def test_other_formats(dataset: Any) -> None:
    def content(item_format: str, **arguments: Any) -> bytes:
        found: bytes = dataset.get_items_as_bytes(item_format=item_format, **arguments)
        return found

    assert [json.loads(line) for line in content("jsonl").decode().splitlines()] == ITEMS
    assert content("json", bom=True).startswith(b"\xef\xbb\xbf[")
    sheet = openpyxl.load_workbook(io.BytesIO(content("xlsx", fields=["a", "b"], skip_empty=True))).active
    assert list(sheet.values) == [("a", "b"), (1, None), (4, "žluť, 💛")]
    html = content("html", fields=["b"], skip_empty=True).decode()
    assert "<th>b</th>" in html and "žluť, 💛" in html
    root = ElementTree.fromstring(content("xml", fields=["a"], skip_empty=True))
    assert (root.tag, [row.tag for row in root], root.findtext("item/a")) == ("items", ["item", "item"], "1")
    root = ElementTree.fromstring(content("xml", xml_root="rows", xml_row="row", limit=1))
    assert (root.tag, [row.tag for row in root]) == ("rows", ["row"])
    assert [tag.text for tag in root.findall("row/tags/t")] == ["x", "y"]
    rss = ElementTree.fromstring(content("rss", fields=["a"], skip_empty=True))
    assert (rss.tag, [found.text for found in rss.findall("channel/item/a")]) == ("rss", ["1", "4"])
    with pytest.raises(ApifyApiError) as error:
        content("pdf")
    assert (error.value.status_code, error.value.type) == (400, "invalid-request")


def test_attachments_are_named(dataset: Any) -> None:
    dataset_id = dataset.get().id
    with dataset.stream_items(item_format="csv", attachment=True) as response:
        assert response.headers["content-disposition"] == f'attachment; filename="dataset_{dataset_id}.csv"'
    with dataset.stream_items(item_format="csv", attachment=False) as response:
        assert "content-disposition" not in response.headers


def test_signatures(client_of: Callable[[str | None], Any], dataset: Any) -> None:
    dataset_id = dataset.get().id
    signature = dataset.create_items_public_url().partition("signature=")[2].replace("%3D", "=")
    anonymous = client_of(None).dataset(dataset_id)
    assert anonymous.list_items(signature=signature).items == ITEMS
    assert list(anonymous.iterate_items(signature=signature, chunk_size=3)) == ITEMS
    assert json.loads(anonymous.get_items_as_bytes(signature=signature)) == ITEMS
    assert json.loads(body_of(anonymous.stream_items(signature=signature))) == ITEMS
    expired = dataset.create_items_public_url(expires_in=timedelta(seconds=-1)).partition("signature=")[2]
    other_client = client_of(TOKEN)
    other = client_of(None).dataset(other_client.datasets().get_or_create().id)
    for reader, bad in ((anonymous, expired), (anonymous, None), (anonymous, "x"), (other, signature)):
        with pytest.raises(ApifyApiError) as error:
            reader.list_items(signature=bad)
        assert (error.value.status_code, error.value.type) == (403, "insufficient-permissions")
    lasting = dataset.create_items_public_url(expires_in=timedelta(hours=1), item_format="csv", fields=["a"], limit=1)
    with urllib.request.urlopen(lasting) as answer:
        assert answer.read() == "\ufeffa\r\n1\r\n".encode()
    with pytest.raises(ApifyApiError) as error:
        anonymous.push_items({})
    assert (error.value.status_code, error.value.type) == (401, "token-not-provided")


def test_missing_datasets(client: Any) -> None:
    dataset = client.dataset(ABSENT)
    for call in (dataset.list_items, dataset.get_items_as_bytes, lambda: list(dataset.iterate_items())):
        with pytest.raises(ApifyApiError) as error:
            call()
        assert (error.value.status_code, error.value.type) == (404, "record-not-found")
    with pytest.raises(ApifyApiError) as error:
        body_of(dataset.stream_items())
    assert error.value.status_code == 404
