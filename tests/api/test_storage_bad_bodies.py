"""Bodies that are broken, too large, too deep, mislabelled or cut off: a clear refusal, and nothing of them stored."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from actorium.api.connections import MAX_HEAD_BYTES
from api.test_datasets import new_dataset, read
from support.storage_server import Answer, StorageServer, data, error

LIMIT = 9_437_184
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "br": lambda value: bytes(brotli.compress(value, quality=1)),
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def message(answer: Answer) -> str:
    return str(json.loads(answer.body)["error"]["message"])


async def new_queue(server: StorageServer) -> str:
    return str(data(await server.request("POST", "/v2/request-queues"))["id"])


async def test_json_that_breaks_at_the_millionth_byte(server: StorageServer) -> None:
    dataset, queue = await new_dataset(server), await new_queue(server)
    items = b'[{"a":"' + b"x" * 999_980 + b'"},{"b":!}]'
    refused = await server.request("POST", f"/v2/datasets/{dataset}/items", items)
    assert error(refused) == (400, "invalid-request")
    assert "byte 999995" in message(refused)
    batch = b'[{"uniqueKey":"a","url":"' + b"x" * 1_000_000 + b'"},{"uniqueKey":!}]'
    refused = await server.request("POST", f"/v2/request-queues/{queue}/requests/batch", batch)
    assert error(refused) == (400, "invalid-request")
    assert "byte 1000041" in message(refused)
    assert await read(server, dataset) == []
    assert data(await server.request("GET", f"/v2/request-queues/{queue}"))["totalRequestCount"] == 0


async def test_one_bad_item_refuses_the_batch_by_its_index(server: StorageServer) -> None:
    dataset, queue = await new_dataset(server), await new_queue(server)
    deep = b'{"a":' * 201 + b"1" + b"}" * 201
    for bad in (deep, b"1", b'{"a":"\xff"}', b'{"a":' + b"1" * 5000 + b"}"):
        refused = await server.request("POST", f"/v2/datasets/{dataset}/items", b'[{"n":0},{"n":1},' + bad + b"]")
        assert error(refused) == (400, "invalid-request")
        assert "index 2" in message(refused)
    for bad in (b'{"uniqueKey":"b"}', b'{"uniqueKey":5,"url":"u"}', b'{"uniqueKey":"b","url":"u","userData":[]}'):
        body = b'[{"uniqueKey":"a","url":"u"},' + bad + b"]"
        refused = await server.request("POST", f"/v2/request-queues/{queue}/requests/batch", body)
        assert error(refused) == (400, "invalid-request")
        assert "Item [1] " in message(refused)
    assert await read(server, dataset) == []
    assert data(await server.request("GET", f"/v2/request-queues/{queue}"))["totalRequestCount"] == 0


@pytest.mark.parametrize("encoding", ["identity", *ENCODERS])
async def test_the_limit_to_the_byte(server: StorageServer, encoding: str) -> None:
    queue = await new_queue(server)
    encode = ENCODERS.get(encoding, bytes)
    path = f"/v2/request-queues/{queue}/requests"
    start, end = b'{"uniqueKey":"a","url":"u","payload":"', b'"}'
    exact = start + b"x" * (LIMIT - len(start) - len(end)) + end
    over = await server.request("POST", path, encode(b" " + exact), {"Content-Encoding": encoding})
    assert error(over) == (413, "request-too-large")
    assert data(await server.request("GET", f"/v2/request-queues/{queue}"))["totalRequestCount"] == 0
    assert (await server.request("POST", path, encode(exact), {"Content-Encoding": encoding})).status == 201


@pytest.mark.parametrize("encoding", ENCODERS)
async def test_broken_encodings(server: StorageServer, encoding: str) -> None:
    dataset = await new_dataset(server)
    store = data(await server.request("POST", "/v2/key-value-stores"))["id"]
    whole = ENCODERS[encoding](json.dumps([{"n": n, "text": "x" * n} for n in range(300)]).encode())
    headers = {"Content-Encoding": encoding}
    for broken in (whole[:-3], whole[: len(whole) // 2], b"\xff" * 3000, whole[:40] + b"\xff" * 40, b'[{"n":1}]'):
        refused = await server.request("POST", f"/v2/datasets/{dataset}/items", broken, headers)
        assert error(refused) == (400, "invalid-request")
        assert f"not valid {encoding}" in message(refused)
        # A record keeps what was uploaded; what cannot be decoded goes out under its label.
        record = f"/v2/key-value-stores/{store}/records/K"
        assert (await server.request("PUT", record, broken, headers)).status == 201
        got = await server.request("GET", record)
        assert (got.status, got.headers["Content-Encoding"], got.body) == (200, encoding, broken)
        assert (await server.request("HEAD", record)).status == 200
    for twice in (f"{encoding}, {encoding}", f"{encoding},identity"):
        body = ENCODERS[encoding](whole)
        refused = await server.request("POST", f"/v2/datasets/{dataset}/items", body, {"Content-Encoding": twice})
        assert error(refused) == (415, "unsupported-content-encoding")
    assert await read(server, dataset) == []


async def test_a_record_that_decodes_to_much_is_streamed(server: StorageServer) -> None:
    store = data(await server.request("POST", "/v2/key-value-stores"))["id"]
    record, value = f"/v2/key-value-stores/{store}/records/K", b"v" * 20_000_000
    for encoding, encode in ENCODERS.items():
        await server.request("PUT", record, encode(value), {"Content-Encoding": encoding})
        got = await server.request("GET", record)
        assert (got.status, got.headers["Content-Encoding"], got.body == value) == (200, None, True)


NUMBERS = ["9007199254740993", "12345678901234567890123456789", "1e400", "1.0", "-0.0", "1E5", "0.10", "-9" + "9" * 29]


async def test_numbers_come_back_as_sent(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    body = "{" + ",".join(f'"n{index}":{number}' for index, number in enumerate(NUMBERS)) + "}"
    assert (await server.request("POST", f"/v2/datasets/{dataset}/items", body.encode())).status == 201
    path = f"/v2/datasets/{dataset}/items?format="
    assert (await server.request("GET", f"{path}json")).body.decode() == f"[{body}]"
    assert (await server.request("GET", f"{path}jsonl")).body.decode() == f"{body}\n"
    csv_row = (await server.request("GET", f"{path}csv")).body.decode().splitlines()[1]
    assert csv_row.split(",") == NUMBERS
    xml = (await server.request("GET", f"{path}xml")).body.decode()
    assert all(f"<n{index}>{number}</n{index}>" in xml for index, number in enumerate(NUMBERS))


def head_of(method_and_path: str) -> bytes:
    return f"{method_and_path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer jane-token\r\n".encode()


async def go_away(server: StorageServer, parts: list[bytes], *, reset: bool) -> None:
    """Send part of a request and end the connection (``reset``: without a goodbye)."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    if reset:
        writer.transport.abort()
    else:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("reset", [True, False])
async def test_a_client_that_goes_away_in_the_middle(server: StorageServer, reset: bool) -> None:
    dataset, queue = await new_dataset(server), await new_queue(server)
    store = data(await server.request("POST", "/v2/key-value-stores"))["id"]
    text = b'{"uniqueKey":"a","url":"' + b"x" * 300_000
    heads = (
        f"POST /v2/datasets/{dataset}/items",
        f"POST /v2/request-queues/{queue}/requests",
        f"PUT /v2/key-value-stores/{store}/records/K",
    )
    for head in heads:
        await go_away(server, [head_of(head), b"Content-Length: 500000\r\n\r\n", text], reset=reset)
        chunk = b"%x\r\n%s\r\n" % (len(text), text)
        await go_away(server, [head_of(head), b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk], reset=reset)
    assert await read(server, dataset) == []
    assert data(await server.request("GET", f"/v2/request-queues/{queue}"))["totalRequestCount"] == 0
    assert data(await server.request("GET", f"/v2/key-value-stores/{store}/keys"))["items"] == []
    # The server may still be told that the client is gone.
    unfinished = server.blob_directory / "unfinished"
    async with asyncio.timeout(30):
        while list(unfinished.iterdir()):
            await server.request("GET", f"/v2/datasets/{dataset}")
    await server.housekeeping.sweep()
    assert [path for path in server.blob_directory.rglob("*") if path.is_file()] == []


async def test_lengths_that_are_wrong(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    head = head_of(f"POST /v2/datasets/{dataset}/items")
    more = await server.raw(head + b'Connection: close\r\nContent-Length: 7\r\n\r\n{"n":1}rest')
    assert more.startswith(b"HTTP/1.1 201")
    for line in (b"Content-Length: -1", b"Content-Length: x", b"Content-Length: 7\r\nContent-Length: 8"):
        assert (await server.raw(head + line + b'\r\n\r\n{"n":1}')).startswith(b"HTTP/1.1 400")
    broken = b'Transfer-Encoding: chunked\r\n\r\nzz\r\n{"n":1}\r\n'
    assert (await server.raw(head + broken)).startswith(b"HTTP/1.1 400")
    assert await read(server, dataset) == [{"n": 1}]


async def test_heads_have_a_limit(server: StorageServer) -> None:
    long = b"x" * MAX_HEAD_BYTES
    for head in (
        b"GET /v2/datasets?x=" + long,
        b"GET /v2/datasets HTTP/1.1\r\nX-Long: " + long,
        b"GET /v2/datasets HTTP/1.1\r\n" + b"A: b\r\n" * 60_000,
        b"no HTTP at all\r\n\r\n",
    ):
        # Not a byte more than it takes: with some unread the connection would be reset under the answer.
        answer = await server.raw(head[: MAX_HEAD_BYTES + 1])
        status_line, _, body = answer.partition(b"\r\n")[0], *answer.partition(b"\r\n\r\n")[1:]
        assert status_line == b"HTTP/1.1 400 Bad Request"
        assert json.loads(body)["error"]["type"] == "invalid-request"
    # The limit is each request's own, not the connection's.
    calls = [("GET", f"/v2/datasets?x={'x' * 50_000}", None) for _ in range(8)]
    assert {answer.status for answer in await server.requests(calls)} == {200}


async def test_any_content_type_will_do_for_json(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    for content_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        ";;;",
        "é",
    ):
        answer = await server.request(
            "POST", f"/v2/datasets/{dataset}/items", b"{}", {"Content-Type": content_type.encode().decode("latin-1")}
        )
        assert answer.status == 201, content_type
    refused = await server.request("PUT", f"/v2/key-value-stores/{dataset}/records/K", b"", {"Content-Type": ";;;"})
    assert error(refused) == (400, "invalid-content-type-header")
