"""Items in every format over HTTP, read back with other people's parsers, and as the stock client asks for them."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from typing import Any

import openpyxl
import pytest

from api.test_datasets import data, error, new_dataset, push, read
from support.storage_server import Answer, StorageServer

ITEMS: list[dict[str, Any]] = [
    {"name": "Ada; Lovelace", "address": {"city": "London", "tags": ["a", "b"]}, "#hidden": 1},
    {"name": 'say "hi"\nthere', "price": 1.10, "big": 12345678901234567890123, "ok": True, "none": None},
    {"name": "žluť 💛 \u0000", "empty": {}, "list": [], "formula": "=1+1"},
]


async def items(server: StorageServer, dataset: str, query: str, method: str = "GET") -> Answer:
    return await server.request(method, f"/v2/datasets/{dataset}/items?{query}")


async def filled(server: StorageServer) -> str:
    dataset = await new_dataset(server)
    body = json.dumps(ITEMS).replace("1.1,", "1.10,").encode()
    answer = await server.request("POST", f"/v2/datasets/{dataset}/items", body, {"Content-Type": "application/json"})
    assert answer.status == 201
    return dataset


def table(answer: Answer, delimiter: str = ",") -> list[list[str]]:
    text = answer.body.decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


async def test_csv(server: StorageServer) -> None:
    dataset = await filled(server)
    answer = await items(server, dataset, "format=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.body.startswith(b"\xef\xbb\xbfname,address/city,address/tags/0,address/tags/1,#hidden,price,big,ok,")
    assert b"\r\n" in answer.body
    header, *rows = table(answer)
    assert header[7:] == ["ok", "none", "empty", "list", "formula"]
    assert rows[0][:5] == ["Ada; Lovelace", "London", "a", "b", "1"]
    assert rows[1][:8] == ['say "hi"\nthere', "", "", "", "", "1.10", "12345678901234567890123", "true"]
    assert rows[2][0] == "žluť 💛 \x00"
    assert rows[2][-3:] == ["", "", "=1+1"]

    picked = await items(server, dataset, "format=csv&bom=0&delimiter=%3B&fields=price,name&skipHeaderRow=1")
    assert table(picked, ";") == [["", "Ada; Lovelace"], ["1.10", 'say "hi"\nthere'], ["", "žluť 💛 \x00"]]
    assert not picked.body.startswith(b"\xef\xbb\xbf")
    assert table(await items(server, dataset, "format=csv&clean=1&offset=1&limit=1")) == [
        ["name", "price", "big", "ok", "none"],
        ['say "hi"\nthere', "1.10", "12345678901234567890123", "true", ""],
    ]
    assert (await items(server, await new_dataset(server), "format=csv")).body == b"\xef\xbb\xbf"


async def test_json_lines(server: StorageServer) -> None:
    dataset = await filled(server)
    answer = await items(server, dataset, "format=jsonl")
    assert answer.headers["Content-Type"] == "application/jsonl; charset=utf-8"
    assert answer.body.endswith(b"}\n")
    assert b"1.10" in answer.body
    assert [json.loads(line) for line in answer.body.splitlines()] == ITEMS
    backwards = await items(server, dataset, "format=jsonl&desc=1&bom=1&fields=name")
    assert backwards.body.startswith(b"\xef\xbb\xbf{")
    assert [json.loads(n) for n in backwards.body[3:].splitlines()] == [{"name": i["name"]} for i in ITEMS[::-1]]
    assert (await items(server, await new_dataset(server), "format=jsonl")).body == b""


async def test_xlsx(server: StorageServer) -> None:
    dataset = await filled(server)
    answer = await items(server, dataset, "format=xlsx&attachment=1")
    assert answer.headers["Content-Type"] == "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="dataset_{dataset}.xlsx"'
    sheet = openpyxl.load_workbook(io.BytesIO(answer.body)).active
    header, *rows = sheet.iter_rows(values_only=True)
    assert header[:2] == ("name", "address/city")
    first, second, third = (dict(zip(header, row, strict=True)) for row in rows)
    assert first["#hidden"] == 1
    assert (second["price"], second["big"], second["ok"]) == (1.1, "12345678901234567890123", True)
    assert (third["formula"], third["empty"]) == ("=1+1", None)
    assert sheet.cell(4, header.index("formula") + 1).data_type == "s"


async def test_html_is_a_table_without_scripts(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    await push(server, dataset, [{"<b>": "<script>alert(1)</script>", "n": {"m": 1}}])
    answer = await items(server, dataset, "format=html")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    assert b"<th>&lt;b&gt;</th><th>n/m</th>" in answer.body
    assert b"<td>&lt;script&gt;alert(1)&lt;/script&gt;</td><td>1</td>" in answer.body


async def test_xml_and_rss(server: StorageServer) -> None:
    dataset = await filled(server)
    answer = await items(server, dataset, "format=xml&xmlRoot=all&xmlRow=one")
    assert answer.headers["Content-Type"] == "application/xml; charset=utf-8"
    root = ET.fromstring(answer.body)
    assert (root.tag, [row.tag for row in root]) == ("all", ["one"] * 3)
    assert [tag.text for tag in root[0].findall("address/tags")] == ["a", "b"]
    assert (root[1].findtext("big"), root[1].findtext("none")) == ("12345678901234567890123", "")
    assert root[2].findtext("name") == "žluť 💛 \ufffd"

    feed = await items(server, dataset, "format=rss&feedTitle=News%20%26%20more")
    assert feed.headers["Content-Type"] == "application/rss+xml; charset=utf-8"
    channel = ET.fromstring(feed.body)[0]
    assert channel.findtext("title") == "News & more"
    assert channel.findtext("description") == f'Items in dataset with id "{dataset}".'
    assert len(channel.findall("item")) == 3
    assert (await items(server, dataset, "format=xml&xmlRoot=1")).status == 400


async def test_head_answers_as_get_without_a_body(server: StorageServer) -> None:
    dataset = await filled(server)
    for name in ("json", "jsonl", "csv", "xlsx", "html", "xml", "rss"):
        shown = await items(server, dataset, f"format={name}&limit=2")
        asked = await items(server, dataset, f"format={name}&limit=2", "HEAD")
        assert (asked.status, asked.body) == (200, b"")
        for header in ("Content-Type", *(f"X-Apify-Pagination-{n}" for n in ("Offset", "Limit", "Count", "Total"))):
            assert asked.headers[header] == shown.headers[header]
        assert asked.headers["X-Apify-Pagination-Count"] == "2"


async def test_a_large_table_streams_with_columns_that_come_late(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    pad = "x" * 9_000
    for start in range(0, 400, 100):
        await push(
            server,
            dataset,
            [{"n": n, "pad": pad, **({"late": n} if n > 390 else {})} for n in range(start, start + 100)],
        )
    for query in ("format=csv&fields=n,late", "format=csv&omit=pad", "format=csv&offset=0&limit=400&omit=pad"):
        header, *rows = table(await items(server, dataset, query))
        assert header == ["n", "late"]
        assert [row[0] for row in rows] == [str(n) for n in range(400)]
        assert [row[1] for row in rows[390:]] == ["", *(str(n) for n in range(391, 400))]
    before = (await read_count(server, dataset)) or 0
    assert len(table(await items(server, dataset, "format=csv&unwind=pad"))) == 401
    assert await read_count(server, dataset) == before + 400, "the look for columns is no read"
    book = openpyxl.load_workbook(io.BytesIO((await items(server, dataset, "format=xlsx")).body), read_only=True)
    assert sum(1 for _ in book.active.rows) == 401
    root = ET.fromstring((await items(server, dataset, "format=xml&desc=1")).body)
    assert [row.findtext("n") for row in root] == [str(n) for n in range(399, -1, -1)]


async def read_count(server: StorageServer, dataset: str) -> int:
    found: int = data(await server.request("GET", f"/v2/datasets/{dataset}"))["stats"]["readCount"]
    return found


async def test_views_set_what_the_query_leaves_open(server: StorageServer) -> None:
    view = {"fields": ["b", "a"], "limit": 2, "desc": True, "omit": ["c"], "clean": True}
    schema = {"actorSpecification": 1, "fields": {}, "views": {"short": {"title": "s", "transformation": view}}}
    created = await server.request(
        "POST",
        "/v2/datasets?name=viewed",
        json.dumps({"schema": schema}).encode(),
        {"Content-Type": "application/json"},
    )
    dataset = data(created)["id"]
    await push(server, dataset, [{"a": n, "b": -n, "c": 0, "#h": 1} for n in range(5)])
    assert await read(server, dataset, "?view=short") == [{"b": -4, "a": 4}, {"b": -3, "a": 3}]
    assert await read(server, dataset, "?view=short&fields=a,c&desc=0&limit=1") == [{"a": 0}]
    assert await read(server, dataset, "?view=short&fields=a&omit=&limit=1&clean=0") == [{"a": 4}]
    unknown = await items(server, dataset, "view=other")
    assert error(unknown) == (400, "requested-dataset-view-does-not-exist")
    other = await server.request("GET", f"/v2/datasets/{dataset}/items?view=short", token="john-token")
    assert other.status in (403, 404)


async def test_schema_refuses_the_whole_push_and_names_each_item(server: StorageServer) -> None:
    fields = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"stringField": {"type": "string"}, "n": {"minimum": 0}},
        "required": ["stringField"],
    }
    dataset = await server.client().datasets().get_or_create(name="checked", schema={"fields": fields})
    path = f"/v2/datasets/{dataset.id}/items"

    async def pushed(body: Any) -> Answer:
        return await server.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})

    refused = await pushed([{"stringField": "ok"}, {"stringField": 1, "n": -1}, {}])
    assert error(refused) == (400, "schema-validation-error")
    shown = json.loads(refused.body)["error"]
    assert shown["message"] == "Schema validation failed"
    assert [one["itemPosition"] for one in shown["data"]["invalidItems"]] == [1, 2]
    first = shown["data"]["invalidItems"][0]["validationErrors"]
    assert {
        "instancePath": "/1/stringField",
        "schemaPath": "/items/properties/stringField/type",
        "keyword": "type",
        "params": {"type": "string"},
        "message": "must be string",
    } in first
    assert len(first) == 2
    assert await read(server, dataset.id, "") == []
    alone = await server.request("POST", path, b'{"n":1e400}')
    assert json.loads(alone.body)["error"]["data"]["invalidItems"][0]["itemPosition"] == 0
    assert (await pushed([{"stringField": "x", "n": 123456789012345678901234567890}])).status == 201
    assert (await pushed({"stringField": "x"})).status == 201
    assert len(await read(server, dataset.id, "")) == 2


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"fields": {"type": "nope"}}, "/type"),
        ({"fields": []}, "fields"),
        ({"fields": {"$schema": "https://json-schema.org/draft/2020-12/schema"}}, "draft-07"),
        ({"views": []}, "views"),
        ({"views": {"v": {"transformation": {"limit": "ten"}}}}, "limit"),
    ],
)
async def test_broken_dataset_schemas_are_refused(server: StorageServer, schema: Any, said: str) -> None:
    body = json.dumps({"schema": schema}).encode()
    answer = await server.request("POST", "/v2/datasets?name=broken", body, {"Content-Type": "application/json"})
    assert error(answer) == (400, "dataset-schema-invalid")
    assert said.encode() in answer.body


async def test_the_stock_client_reads_every_format(server: StorageServer) -> None:
    dataset = await filled(server)
    client = server.client().dataset(dataset)
    for name, start in (("json", b"["), ("jsonl", b"{"), ("csv", b"\xef\xbb\xbf"), ("xlsx", b"PK"), ("html", b"<!"),
                        ("xml", b"<?xml"), ("rss", b"<?xml")):  # fmt: skip
        assert (await client.get_items_as_bytes(item_format=name)).startswith(start)
    page = await client.list_items(unwind=["address"], flatten=["tags"], fields=["city", "name"], clean=True, limit=1)
    assert (page.items, page.count, page.total) == ([{"city": "London", "name": "Ada; Lovelace"}], 1, 3)
    async with client.stream_items(item_format="csv", bom=False, delimiter=";") as streamed:
        assert b"name" in await streamed.aread()


async def test_lone_surrogates_come_back_as_they_were_pushed(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    body = rb'[{"a":"\ud800","\udfff":1}]'
    assert (await server.request("POST", f"/v2/datasets/{dataset}/items", body)).status == 201
    assert (await items(server, dataset, "")).body == body
    assert table(await items(server, dataset, "format=csv")) == [["a", "\ufffd"], ["\ufffd", "1"]]
