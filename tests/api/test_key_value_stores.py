from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import quote

import brotli
import pytest

from actorium.domain.storages import DefaultStorageIds
from support.storage_server import StorageServer, data, error

LARGE = os.urandom(300_000)


async def new_store(server: StorageServer, query: str = "") -> str:
    return str(data(await server.request("POST", f"/v2/key-value-stores{query}"))["id"])


def record(store: str, key: str, query: str = "") -> str:
    return f"/v2/key-value-stores/{store}/records/{key}{query}"


def fast_brotli(value: bytes) -> bytes:
    return bytes(brotli.compress(value, quality=1))


def blob_files(server: StorageServer) -> list[str]:
    return [path.name for path in server.blob_directory.rglob("*") if path.is_file()]


async def test_official_client_round_trips(server: StorageServer) -> None:
    client = server.client()
    created = await client.key_value_stores().get_or_create(name="Store-1")
    store = client.key_value_store(created.id)
    await store.set_record("OUTPUT", {"a": [1, None, "é"]})
    await store.set_record("text", "héllo")
    await store.set_record("large", LARGE, content_type="image/png")
    found = await store.get_record("OUTPUT")
    assert found is not None
    assert (found["value"], found["content_type"]) == ({"a": [1, None, "é"]}, "application/json; charset=utf-8")
    text = await client.key_value_store("jane/store-1").get_record("text")
    assert text is not None and text["value"] == "héllo"
    large = await store.get_record_as_bytes("large")
    assert large is not None and (large["value"], large["content_type"]) == (LARGE, "image/png")
    assert [key.key async for key in store.iterate_keys()] == ["OUTPUT", "large", "text"]
    assert await store.record_exists("text") and not await store.record_exists("Text")
    assert await store.get_record("absent") is None
    await store.delete_record("text")
    await store.delete_record("text")
    got = await store.get()
    assert got is not None and got.stats is not None
    assert (got.stats.write_count, got.stats.delete_count, got.stats.list_count) == (5, 2, 1)
    listed = await client.key_value_stores().list(unnamed=True)
    assert [item.id for item in listed.items] == [created.id]
    await store.delete()
    assert await store.get() is None


@pytest.mark.parametrize("value", [b"", b"x", b"y" * 65_536, b"z" * 65_537, LARGE])
@pytest.mark.parametrize("chunked", [False, True])
async def test_values_of_every_size(server: StorageServer, value: bytes, chunked: bool) -> None:
    store = await new_store(server)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(value), 10_000):
            yield value[start : start + 10_000]

    answer = await server.request("PUT", record(store, "K"), pieces() if chunked else value)
    assert (answer.status, answer.body) == (201, b"{}")
    assert answer.headers["Location"] == server.url + record(store, "K")
    for method in ("GET", "HEAD"):
        got = await server.request(method, record(store, "K"))
        assert (got.status, got.headers["Content-Type"]) == (200, "application/octet-stream")
        assert got.headers["Content-Length"] == str(len(value))
        assert got.body == (value if method == "GET" else b"")
    assert data(await server.request("GET", f"/v2/key-value-stores/{store}"))["stats"]["storageBytes"] == len(value)
    assert len(blob_files(server)) == (len(value) > 65_536)


@pytest.mark.parametrize("content_type", ["image/png", "text/html; charset=windows-1250", 'application/x+y ; A="b"'])
async def test_content_type_is_kept_and_harmless(server: StorageServer, content_type: str) -> None:
    store = await new_store(server)
    await server.request("POST", record(store, "page"), b"<script>", {"Content-Type": content_type})
    got = await server.request("GET", record(store, "page", "?attachment=true"))
    assert got.headers.get_all("Content-Type") == [content_type]
    assert got.headers["Content-Security-Policy"] == "sandbox"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Content-Disposition"] == 'attachment; filename="page"'
    assert got.headers["Cache-Control"] == "no-store"
    assert (await server.request("GET", record(store, "page"))).headers["Content-Disposition"] is None


async def test_bad_content_type(server: StorageServer) -> None:
    store = await new_store(server)
    for bad in ("nonsense", "a/b/c", "/x"):
        answer = await server.request("PUT", record(store, "K"), b"", {"Content-Type": bad})
        assert error(answer) == (400, "invalid-content-type-header")


@pytest.mark.parametrize("value", [b"text " * 100, LARGE * 2])
@pytest.mark.parametrize(
    ("encoding", "encode"), [("gzip", gzip.compress), ("br", fast_brotli), ("deflate", zlib.compress)]
)
async def test_content_encoding_is_kept_and_negotiated(
    server: StorageServer, value: bytes, encoding: str, encode: Callable[[bytes], bytes]
) -> None:
    store = await new_store(server)
    stored = encode(value)
    await server.request("PUT", record(store, "K"), stored, {"Content-Encoding": encoding.upper()})
    for accepted in (encoding, "*", f"identity;q=0.5, {encoding};q=0.1"):
        got = await server.request("GET", record(store, "K"), headers={"Accept-Encoding": accepted})
        assert (got.headers["Content-Encoding"], got.body == stored) == (encoding, True), accepted
        assert got.headers["Content-Length"] == str(len(stored))
        assert got.headers["Vary"] == "Accept-Encoding"
    for headers in ({}, {"Accept-Encoding": "identity"}, {"Accept-Encoding": f"{encoding};q=0, zstd"}):
        got = await server.request("GET", record(store, "K"), headers=headers)
        assert (got.headers["Content-Encoding"], got.body == value) == (None, True)
    keys = data(await server.request("GET", f"/v2/key-value-stores/{store}/keys"))
    assert keys["items"][0]["size"] == len(stored)


async def test_encodings_that_are_none(server: StorageServer) -> None:
    store = await new_store(server)
    refused = await server.request("PUT", record(store, "K"), b"", {"Content-Encoding": "bla"})
    assert error(refused) == (415, "unsupported-content-encoding")
    await server.request("PUT", record(store, "plain"), b"plain", {"Content-Encoding": "identity"})
    plain = await server.request("GET", record(store, "plain"), headers={"Accept-Encoding": "gzip"})
    assert (plain.headers["Content-Encoding"], plain.body) == (None, b"plain")
    await server.request("PUT", record(store, "liar"), b"no gzip", {"Content-Encoding": "gzip"})
    liar = await server.request("GET", record(store, "liar"))
    assert (liar.status, liar.headers["Content-Encoding"], liar.body) == (200, "gzip", b"no gzip")


@pytest.mark.parametrize("key", ["a'b(1).txt", "x!-_.'()", "...", "k" * 256, "INPUT"])
async def test_keys(server: StorageServer, key: str) -> None:
    store = server.client().key_value_store(await new_store(server))
    await store.set_record(key, "value")
    found = await store.get_record(key)
    assert found is not None and found["value"] == "value"
    assert [item.key for item in (await store.list_keys()).items] == [key]


@pytest.mark.parametrize("key", ["a b", "a/b", "é", "k" * 257, "a\nb", "a~b"])
async def test_bad_keys(server: StorageServer, key: str) -> None:
    store = await new_store(server)
    for method, body in (("PUT", b""), ("GET", None), ("DELETE", None)):
        answer = await server.request(method, record(store, quote(key, safe="")), body)
        assert error(answer) == (400, "invalid-record-key")


async def test_missing_things(server: StorageServer) -> None:
    store = await new_store(server)
    assert error(await server.request("GET", record(store, "absent"))) == (404, "record-not-found")
    assert (await server.request("HEAD", record(store, "absent"))).status == 404
    assert (await server.request("DELETE", record(store, "absent"))).status == 204
    gone = "A" * 17
    for method, body in (("GET", None), ("PUT", b"x"), ("PUT", LARGE), ("DELETE", None)):
        assert error(await server.request(method, record(gone, "K"), body)) == (404, "record-not-found")
    assert error(await server.request("GET", f"/v2/key-value-stores/{gone}/keys")) == (404, "record-not-found")
    assert blob_files(server) == []


async def test_too_large_records_leave_nothing(server: StorageServer) -> None:
    store = await new_store(server)
    piece = bytes(1_000_000)
    refused = await server.request("PUT", record(store, "K"), (piece for _ in range(21)))
    assert error(refused) == (413, "record-too-large")
    refused = await server.request("PUT", record(store, "K"), piece * 21)
    assert error(refused) == (413, "record-too-large")
    await server.housekeeping.sweep()
    assert (blob_files(server), (await server.request("GET", record(store, "K"))).status) == ([], 404)
    assert data(await server.request("GET", f"/v2/key-value-stores/{store}"))["stats"]["writeCount"] == 0


async def test_interrupted_upload_leaves_nothing(server: StorageServer) -> None:
    store = await new_store(server)
    _, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    head = f"PUT {record(store, 'K')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer jane-token\r\n"
    writer.write(head.encode() + b"Content-Length: 2000000\r\n\r\n" + bytes(1_500_000))
    await writer.drain()
    while not list(server.blob_directory.glob("unfinished/*")):
        await asyncio.sleep(0)
    writer.close()
    while list(server.blob_directory.glob("unfinished/*")):
        await asyncio.sleep(0)
    assert blob_files(server) == []
    assert (await server.request("GET", record(store, "K"))).status == 404


async def test_replaced_and_deleted_blobs_go_after_their_readers(server: StorageServer) -> None:
    store = await new_store(server)
    for value in (LARGE, LARGE[::-1], b"small"):
        await server.request("PUT", record(store, "K"), value)
    await server.request("PUT", record(store, "other"), LARGE)
    await server.request("DELETE", record(store, "other"))
    assert len(blob_files(server)) == 3
    await server.housekeeping.sweep()
    assert len(blob_files(server)) == 3
    await server.database.write("time passes", lambda tx: tx.execute("UPDATE blob_garbage SET due_at = due_at - 60000"))
    await server.housekeeping.sweep()
    assert blob_files(server) == []
    assert (await server.request("GET", record(store, "K"))).body == b"small"
    assert data(await server.request("GET", f"/v2/key-value-stores/{store}"))["stats"]["storageBytes"] == 5


async def test_deleted_store_takes_its_blobs_along(server: StorageServer) -> None:
    store = await new_store(server)
    await server.request("PUT", record(store, "large"), LARGE)
    await server.request("PUT", record(store, "small"), b"x")
    assert (await server.request("DELETE", f"/v2/key-value-stores/{store}")).status == 204
    assert error(await server.request("GET", record(store, "large"))) == (404, "record-not-found")
    await server.housekeeping.sweep()
    assert blob_files(server) == []
    for table in ("records", "blob_garbage", "storage_garbage"):
        assert await server.database.read("count", lambda tx, table=table: tx.fetch(f"SELECT * FROM {table}")) == []


async def test_listing_keys(server: StorageServer) -> None:
    store = await new_store(server)
    keys = ["B", "a", "a-1", "a-2", "a.1", "a_1", "b", "Z", "!"]
    for key in keys:
        await server.request("PUT", record(store, key), key.encode())
    path = f"/v2/key-value-stores/{store}/keys"

    async def page(query: str) -> tuple[list[str], str | None]:
        answer = data(await server.request("GET", path + query))
        assert answer["count"] == len(answer["items"])
        assert answer["isTruncated"] is (answer["nextExclusiveStartKey"] is not None)
        return [item["key"] for item in answer["items"]], answer["nextExclusiveStartKey"]

    assert await page("") == (sorted(keys, key=str.encode), None)
    assert await page("?limit=3") == (["!", "B", "Z"], "Z")
    assert await page("?limit=6&exclusiveStartKey=Z") == (["a", "a-1", "a-2", "a.1", "a_1", "b"], None)
    assert await page("?prefix=a-") == (["a-1", "a-2"], None)
    assert await page("?prefix=a&limit=2&exclusiveStartKey=a-1") == (["a-2", "a.1"], "a.1")
    assert await page("?prefix=a&exclusiveStartKey=b") == ([], None)
    assert await page("?prefix=zzz") == ([], None)
    assert error(await server.request("GET", path + "?collection=c")) == (400, "invalid-collection")
    assert data(await server.request("GET", path + "?limit=5000"))["limit"] == 1000


async def test_addresses_open_what_they_are_signed_for(server: StorageServer) -> None:
    client = server.client()
    created = await client.key_value_stores().get_or_create()
    store = client.key_value_store(created.id)
    await store.set_record("a'b(1).txt", "one")
    await store.set_record("other", "two")
    listed = (await store.list_keys()).items[0]
    keys_url = str(created.keys_public_url)
    for url in (str(listed.record_public_url), await store.get_record_public_url("a'b(1).txt")):
        got = await server.request("GET", url.removeprefix(server.url), token=None)
        assert (got.status, got.body) == (200, b"one")
        assert (await server.request("HEAD", url.removeprefix(server.url), token=None)).status == 200
    record_signature = str(listed.record_public_url).partition("?")[2]
    keys_signature = keys_url.partition("?")[2]
    assert (await server.request("GET", keys_url.removeprefix(server.url), token=None)).status == 200
    for path in (
        record(created.id, "other", f"?{record_signature}"),
        record(created.id, "other", f"?{keys_signature}"),
        f"/v2/key-value-stores/{created.id}/keys?{record_signature}",
        f"/v2/key-value-stores/{created.id}/keys",
    ):
        assert error(await server.request("GET", path, token=None)) == (403, "insufficient-permissions")
    for method in ("PUT", "DELETE"):
        path = record(created.id, "a'b(1).txt", f"?{record_signature}")
        assert error(await server.request(method, path, b"", token=None)) == (401, "token-not-provided")


async def test_other_users(server: StorageServer) -> None:
    store = await new_store(server)
    await server.request("PUT", record(store, "K"), b"v")
    for method, body in (("GET", None), ("PUT", b"x"), ("PUT", LARGE), ("DELETE", None)):
        assert error(await server.request(method, record(store, "K"), body, token="john-token"))[0] == 404
    await server.request("PUT", f"/v2/key-value-stores/{store}", b'{"generalAccess": "ANYONE_WITH_ID_CAN_READ"}')
    for token in ("john-token", None):
        assert (await server.request("GET", record(store, "K"), token=token)).body == b"v"
        assert (await server.request("GET", f"/v2/key-value-stores/{store}/keys", token=token)).status == 200
    for value in (b"x", LARGE):
        refused = await server.request("PUT", record(store, "K"), value, token="john-token")
        assert error(refused) == (403, "insufficient-permissions")


async def test_concurrent_writers_of_one_key(server: StorageServer) -> None:
    store = await new_store(server)
    values = [bytes([n]) * (100_000 + n) for n in range(8)]
    await asyncio.gather(*(server.request("PUT", record(store, "K"), value) for value in values))
    got = await server.request("GET", record(store, "K"))
    assert got.body in values
    shape = data(await server.request("GET", f"/v2/key-value-stores/{store}"))
    assert (shape["stats"]["storageBytes"], shape["stats"]["writeCount"]) == (len(got.body), 8)
    await server.database.write("time passes", lambda tx: tx.execute("UPDATE blob_garbage SET due_at = 0"))
    await server.housekeeping.sweep()
    assert len(blob_files(server)) == 1
    assert (await server.request("GET", record(store, "K"))).body == got.body


async def test_large_values_stream(server: StorageServer) -> None:
    store = await new_store(server)
    piece = os.urandom(1_000_000)
    await server.request("PUT", record(store, "K"), (piece for _ in range(15)))
    got = await server.request("GET", record(store, "K"))
    assert hashlib.sha256(got.body).digest() == hashlib.sha256(piece * 15).digest()


async def test_paths_of_a_run(server: StorageServer) -> None:
    server.runs["runId00000000000A"] = DefaultStorageIds("", await new_store(server), "")
    store = server.client().run("runId00000000000A").key_value_store()
    await store.set_record("OUTPUT", {"a": 1})
    found = await store.get_record("OUTPUT")
    assert found is not None and found["value"] == {"a": 1}
    base = "/v2/actors/runId00000000000A/runs/last/key-value-store"
    got = await server.request("GET", f"{base}/records/OUTPUT?status=SUCCEEDED")
    assert json.loads(got.body) == {"a": 1}
    assert data(await server.request("GET", f"{base}/keys?origin=API"))["count"] == 1
    assert (await server.request("HEAD", f"{base}/records/OUTPUT")).status == 200
    assert (await server.request("DELETE", f"{base}/records/OUTPUT")).status == 204
    assert (await server.request("HEAD", f"{base}/records/OUTPUT")).status == 404
