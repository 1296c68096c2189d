"""Every kind of character in items, requests, names and titles: stored as sent or refused, readable in every format."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from urllib.parse import quote

import openpyxl

from api.test_datasets import new_dataset
from support.storage_server import StorageServer, data

# Some of each plane, all of what is special: controls, combining, right-to-left, joiners, non-characters.
_CODES = [
    *range(0x180),
    *range(0x300, 0x310),
    *(0x5D0, 0x627, 0x200B, 0x200D, 0x200E, 0x202E, 0x2028, 0x2029, 0x2066, 0xFEFF, 0xFFFD, 0xFDD0, 0xFFFE, 0xFFFF),
    *(plane * 0x10000 + offset for plane in range(17) for offset in (0x0020, 0x0F12, 0x4E00, 0xAAAA, 0xFFFE, 0xFFFF)),
]
CHARACTERS = [chr(code) for code in dict.fromkeys(_CODES)]
TEXTS = [f"a{character}b" for character in CHARACTERS]
HALVES = ['"\\ud800"', '"a\\udfffb"', '"\\udc00\\ud800"', '"\\\\ud800"', '"\\ud83d\\ude00"']


async def filled(server: StorageServer) -> str:
    """Items with every text once as a key and once as a value, raw and escaped, and then halves of pairs."""
    dataset = await new_dataset(server)
    for ascii_only in (True, False):
        items = [{text: text, "text": text} for text in TEXTS]
        body = json.dumps(items, ensure_ascii=ascii_only).encode()
        answer = await server.request("POST", f"/v2/datasets/{dataset}/items", body)
        assert answer.status == 201, answer.body
    halves = "[" + ",".join(f'{{"half":{half},{half}:1}}' for half in HALVES) + "]"
    assert (await server.request("POST", f"/v2/datasets/{dataset}/items", halves.encode())).status == 201
    return dataset


async def export(server: StorageServer, dataset: str, query: str) -> bytes:
    answer = await server.request("GET", f"/v2/datasets/{dataset}/items?{query}")
    assert answer.status == 200, answer.body[:300]
    return answer.body


async def test_items_in_every_format(server: StorageServer) -> None:
    dataset = await filled(server)
    twice = [*TEXTS, *TEXTS]
    found = json.loads(await export(server, dataset, "format=json"))
    assert [item["text"] for item in found[: len(twice)]] == twice
    assert [next(iter(item)) for item in found[: len(twice)]] == twice
    assert [item["half"] for item in found[len(twice) :]] == [json.loads(half) for half in HALVES]
    lines = (await export(server, dataset, "format=jsonl")).decode().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == found

    table = (await export(server, dataset, "format=csv&fields=text,half")).decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(table, newline="")))
    assert [row[0] for row in rows[1 : len(twice) + 1]] == twice
    assert [row[1] for row in rows[len(twice) + 1 :]] == ["�", "a�b", "��", "\\ud800", "😀"]

    page = (await export(server, dataset, "format=html&fields=text")).decode()
    cells = re.findall(r"<td>(.*?)</td>", page, re.DOTALL)
    shown = [html.unescape(cell) for cell in cells[: len(twice)]]
    assert [cell for cell in shown if cell.isprintable()] == [text for text in twice if text.isprintable()]
    assert len(cells) == len(found)

    for name in ("xml", "rss"):
        text = (await export(server, dataset, f"format={name}&fields=text,half")).decode()
        elements = [element.text or "" for element in ET.fromstring(text).iter("text")]
        assert len(elements) == len(twice)
        for sent, got in zip(twice, elements, strict=True):
            if sent[1].isprintable():
                assert got == sent, ascii(sent)
    # Keys become names of elements, in which most characters are not allowed.
    assert ET.fromstring(await export(server, dataset, "format=xml&limit=128"))


async def test_spreadsheets_open(server: StorageServer) -> None:
    dataset = await filled(server)
    book = openpyxl.load_workbook(io.BytesIO(await export(server, dataset, "format=xlsx&fields=text,half")))
    cells = [row[0] for row in book.worksheets[0].iter_rows(min_row=2, values_only=True)]
    for sent, got in zip([*TEXTS, *TEXTS], cells, strict=False):
        if sent[1].isprintable():
            assert got == sent, ascii(sent)
    whole = openpyxl.load_workbook(io.BytesIO(await export(server, dataset, "format=xlsx")))
    assert whole.worksheets[0].max_row == len(cells) + 1


async def test_formulas_stay_what_they_are(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    values = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", '=HYPERLINK("http://x")', "http://example.com"]
    await server.request("POST", f"/v2/datasets/{dataset}/items", json.dumps([{"v": v} for v in values]).encode())
    rows = list(csv.reader(io.StringIO((await export(server, dataset, "format=csv&bom=0")).decode(), newline="")))
    assert [row[0] for row in rows] == ["v", *values]
    book = openpyxl.load_workbook(io.BytesIO(await export(server, dataset, "format=xlsx")))
    cells = [row[0] for row in book.worksheets[0].iter_rows(min_row=2)]
    assert [cell.value for cell in cells] == values
    assert {cell.data_type for cell in cells} <= {"s", "inlineStr"}


async def test_requests(server: StorageServer) -> None:
    queue = data(await server.request("POST", "/v2/request-queues"))["id"]
    path = f"/v2/request-queues/{queue}/requests"
    for start in range(0, len(TEXTS), 25):
        batch = [
            {"uniqueKey": text, "url": f"http://x/{text}", "userData": {text: text}} for text in TEXTS[start:][:25]
        ]
        added = await server.request("POST", f"{path}/batch", json.dumps(batch, ensure_ascii=False).encode())
        assert added.status == 201, added.body
    found = {item["uniqueKey"]: item for item in data(await server.request("GET", path))["items"]}
    assert set(found) == set(TEXTS)
    assert all(found[text]["userData"] == {text: text} and found[text]["url"] == f"http://x/{text}" for text in TEXTS)
    head = data(await server.request("GET", f"/v2/request-queues/{queue}/head?limit=1000"))["items"]
    assert [item["uniqueKey"] for item in head] == TEXTS
    for half in HALVES[:3]:
        body = f'{{"uniqueKey":{half},"url":{half},"userData":{{{half}:{half}}}}}'
        added = await server.request("POST", path, body.encode())
        assert added.status == 201, added.body
        got = await server.request("GET", f"{path}/{data(added)['requestId']}")
        assert got.status == 200
        assert json.loads(got.body)["data"]["uniqueKey"]


async def test_names_and_titles(server: StorageServer) -> None:
    for kind in ("datasets", "key-value-stores", "request-queues"):
        storage = f"/v2/{kind}/{data(await server.request('POST', f'/v2/{kind}'))['id']}"
        for text in TEXTS:
            named = text[1].isascii() and (text[1].isalnum() or text[1] == "-")
            if not named:
                refused = await server.request("POST", f"/v2/{kind}?name={quote(text)}")
                assert refused.status == 400, ascii(text)
        for text in (*TEXTS[:40], *TEXTS[-60:], unicodedata.normalize("NFD", "é")):
            body = json.dumps({"title": text}).encode()
            answer = await server.request("PUT", storage, body)
            if answer.status == 400:
                assert "U+0000" in json.loads(answer.body)["error"]["message"]
                assert "\0" in text
            else:
                assert (answer.status, data(answer)["title"]) == (200, text)


async def test_record_keys(server: StorageServer) -> None:
    store = data(await server.request("POST", "/v2/key-value-stores"))["id"]
    for text in (*TEXTS, "a/b", "", "x" * 257):
        is_key = text[1:2].isascii() and (text[1:2].isalnum() or text[1:2] in tuple("!-_.'()"))
        answer = await server.request("PUT", f"/v2/key-value-stores/{store}/records/{quote(text, safe='')}", b"v")
        # Without a key the path is that of all records, which can only be read.
        wanted = 201 if is_key and len(text) == 3 else 405 if not text else 400
        assert answer.status == wanted, ascii(text)
        if answer.status == 400:
            assert json.loads(answer.body)["error"]["type"] == "invalid-record-key"
