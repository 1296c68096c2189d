"""Records as HTTP resources: entity tags, conditions, ranges, encodings."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import os
import string
import tracemalloc

import brotli
import pytest
import zstandard

from api.test_key_value_stores import LARGE, blob_files, new_store, record
from support.storage_server import StorageServer, data, error

SMALL = b"".join(number.to_bytes(2, "big") for number in range(1_280))
VALUES = [SMALL, LARGE]


async def put(server: StorageServer, path: str, value: bytes, encoding: str | None = None) -> str:
    headers = {} if encoding is None else {"Content-Encoding": encoding}
    assert (await server.request("PUT", path, value, headers)).status == 201
    tag = (await server.request("HEAD", path, headers={"Accept-Encoding": "*"})).headers["ETag"]
    assert tag is not None and tag[0] == tag[-1] == '"'
    return tag


@pytest.mark.parametrize("value", VALUES)
async def test_entity_tags_tell_states_apart(server: StorageServer, value: bytes) -> None:
    store = await new_store(server, "?name=tagged")
    path = record(store, "K")
    tags = [await put(server, path, value) for _ in range(5)]
    assert len(set(tags)) == 5
    for method in ("GET", "HEAD", "GET"):
        got = await server.request(method, path)
        assert got.headers["ETag"] == tags[-1]
        assert got.headers["Last-Modified"].endswith(" GMT")
    await server.request("DELETE", path)
    assert await put(server, path, value) not in tags
    await server.request("DELETE", f"/v2/key-value-stores/{store}")
    again = await new_store(server, "?name=tagged")
    assert [await put(server, record(again, "K"), value) for _ in range(5)][-1] not in tags


async def test_states_of_one_millisecond_differ(server: StorageServer) -> None:
    path = record(await new_store(server), "K")
    tags = []
    for _ in range(3):
        await put(server, path, b"x")
        await server.database.write("stop time", lambda tx: tx.execute("UPDATE records SET modified_at = 1"))
        tags.append((await server.request("GET", path)).headers["ETag"])
    assert len(set(tags)) == 3


@pytest.mark.parametrize("value", VALUES)
async def test_unchanged_records_are_not_sent_again(server: StorageServer, value: bytes) -> None:
    path = record(await new_store(server), "K", "?attachment=1")
    tag = await put(server, path, value)
    for method in ("GET", "HEAD"):
        for asked in (tag, f'"other", W/{tag}', "*"):
            got = await server.request(method, path, headers={"If-None-Match": asked, "Range": "bytes=0-3"})
            assert (got.status, got.body, got.headers["ETag"]) == (304, b"", tag)
            assert got.headers["Vary"] == "Accept-Encoding"
            assert got.headers["Cache-Control"] == "no-store"
            assert got.headers["Content-Length"] is None and got.headers["Content-Type"] is None
            assert "ETag" in got.headers["Access-Control-Expose-Headers"]
        assert (await server.request(method, path, headers={"If-None-Match": '"other"'})).status == 200
    await put(server, path, value)
    assert (await server.request("GET", path, headers={"If-None-Match": tag})).body == value
    missing = await server.request("GET", path.replace("/K", "/M"), headers={"If-None-Match": "*"})
    assert error(missing) == (404, "record-not-found")


async def test_if_match(server: StorageServer) -> None:
    path = record(await new_store(server), "K")
    tag = await put(server, path, b"value")
    for asked in (tag, f'"other",{tag}', "*"):
        assert (await server.request("GET", path, headers={"If-Match": asked})).body == b"value"
    for asked in ('"other"', f"W/{tag}"):
        refused = await server.request("GET", path, headers={"If-Match": asked})
        assert error(refused) == (412, "precondition-failed")
        assert b"If-Match" in refused.body
    assert (await server.request("GET", path, headers={"If-Match": '"o"', "If-None-Match": tag})).status == 412


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-", 0, None), ("bytes=5-9", 5, 10), ("bytes=-7", -7, None), ("bytes=1000-99999999", 1000, None)],
)
async def test_ranges(server: StorageServer, value: bytes, asked: str, start: int, end: int | None) -> None:
    path = record(await new_store(server), "K")
    tag = await put(server, path, value)
    part = value[start:end]
    first = value.index(part)
    for more in ({}, {"If-Range": tag}, {"If-Match": tag}):
        got = await server.request("GET", path, headers={"Range": asked, **more})
        assert (got.status, got.body == part) == (206, True)
        assert got.headers["Content-Range"] == f"bytes {first}-{first + len(part) - 1}/{len(value)}"
        assert got.headers["Content-Length"] == str(len(part))
        assert (got.headers["ETag"], got.headers["Accept-Ranges"]) == (tag, "bytes")
    for old in ('"old"', f"W/{tag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        got = await server.request("GET", path, headers={"Range": asked, "If-Range": old})
        assert (got.status, got.body == value, got.headers["Content-Range"]) == (200, True, None)
    head = await server.request("HEAD", path, headers={"Range": asked})
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(value)))


async def test_parts_of_a_large_record_make_the_whole(server: StorageServer) -> None:
    path = record(await new_store(server), "K")
    value = os.urandom(5_000_000)
    tag = await put(server, path, value)
    parts = []
    for start in range(0, len(value), 1_300_000):
        asked = {"Range": f"bytes={start}-{start + 1_299_999}", "If-Range": tag}
        parts.append((await server.request("GET", path, headers=asked)).body)
    assert b"".join(parts) == value


@pytest.mark.parametrize("value", [b"", b"0123456789", LARGE])
async def test_ranges_that_cannot_be(server: StorageServer, value: bytes) -> None:
    path = record(await new_store(server), "K")
    await put(server, path, value)
    for asked in (f"bytes={len(value)}-", f"bytes={len(value) + 5}-{len(value) + 7}", "bytes=-0"):
        refused = await server.request("GET", path, headers={"Range": asked})
        assert error(refused) == (416, "range-not-satisfiable")
        assert refused.headers["Content-Range"] == f"bytes */{len(value)}"
        assert refused.headers["Content-Type"] == "application/json; charset=utf-8"
    for asked in ("bytes=0-1,3-4", "bytes=5-2", "pages=1-2", "nonsense"):
        got = await server.request("GET", path, headers={"Range": asked})
        assert (got.status, got.body == value) == (200, True)


@pytest.mark.parametrize("text", [b"text " * 1_000, b"text " * 100_000, os.urandom(200_000).hex().encode()])
async def test_what_is_decoded_for_a_client_is_another_representation(server: StorageServer, text: bytes) -> None:
    path = record(await new_store(server), "K")
    stored = gzip.compress(text)
    tag = await put(server, path, stored, "gzip")
    ranged = {"Range": "bytes=2-11", "Accept-Encoding": "gzip"}
    got = await server.request("GET", path, headers=ranged)
    assert (got.status, got.body, got.headers["Content-Encoding"]) == (206, stored[2:12], "gzip")
    assert got.headers["Content-Range"] == f"bytes 2-11/{len(stored)}"
    plain = await server.request("GET", path, headers={"Range": "bytes=2-11"})
    assert (plain.status, plain.body == text, plain.headers["Accept-Ranges"]) == (200, True, None)
    assert plain.headers["ETag"] not in (None, tag)
    head = await server.request("HEAD", path)
    for name in ("ETag", "Content-Length", "Content-Encoding", "Accept-Ranges", "Content-Type", "Vary"):
        assert head.headers[name] == plain.headers[name], name
    for method in ("GET", "HEAD"):
        asked = {"If-None-Match": plain.headers["ETag"]}
        assert (await server.request(method, path, headers=asked)).status == 304
        assert (await server.request(method, path, headers={"If-None-Match": tag})).status == 200
        refused = await server.request(method, path, headers={"If-Match": tag})
        assert refused.status == 412
    assert (await server.request("GET", path)).body == text


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd"])
@pytest.mark.parametrize("value", [b"no such thing at all", b"\xff\xfe" * 50_000])
async def test_what_its_label_misnames_comes_as_it_went_in(server: StorageServer, encoding: str, value: bytes) -> None:
    path = record(await new_store(server), "K")
    tag = await put(server, path, value, encoding)
    for method in ("GET", "HEAD"):
        got = await server.request(method, path)
        assert (got.status, got.headers["Content-Encoding"], got.headers["ETag"]) == (200, encoding, tag)
        assert got.headers["Content-Length"] == str(len(value))
    assert got.body == b"" and (await server.request("GET", path)).body == value


async def test_encodings_of_nothing_and_of_many_parts(server: StorageServer) -> None:
    store = await new_store(server)
    await put(server, record(store, "empty"), b"", "gzip")
    got = await server.request("GET", record(store, "empty"))
    assert (got.status, got.headers["Content-Encoding"], got.body) == (200, None, b"")
    await put(server, record(store, "gzips"), gzip.compress(b"one") + gzip.compress(b"two"), "gzip")
    assert (await server.request("GET", record(store, "gzips"))).body == b"onetwo"
    await put(server, record(store, "zstd"), zstandard.compress(SMALL), "zstd")
    assert (await server.request("GET", record(store, "zstd"))).body == SMALL
    as_stored = await server.request("GET", record(store, "zstd"), headers={"Accept-Encoding": "br, zstd"})
    assert (as_stored.headers["Content-Encoding"], as_stored.body) == ("zstd", zstandard.compress(SMALL))


async def test_a_record_cut_off_in_its_encoding_breaks_the_answer(server: StorageServer) -> None:
    path = record(await new_store(server), "K")
    stored = gzip.compress(os.urandom(2_000_000))
    await put(server, path, stored[:-100_000], "gzip")
    with pytest.raises(http.client.IncompleteRead):
        await server.request("GET", path)


async def test_a_few_bytes_of_brotli_cannot_take_the_memory(server: StorageServer) -> None:
    path = record(await new_store(server), "K")
    await put(server, path, brotli.compress(bytes(400_000_000)), "br")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    tracemalloc.start()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer jane-token\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    for _ in range(400):
        await reader.readexactly(50_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    writer.close()
    assert peak < 20_000_000


async def test_every_character_a_key_can_have(server: StorageServer) -> None:
    store = await new_store(server)
    keys = [*string.ascii_letters, *string.digits, *"!-_.'()", "..", "a" * 256]
    for key in keys:
        quoted = "".join(f"%{byte:02X}" for byte in key.encode())
        await put(server, record(store, quoted), key.encode())
        assert (await server.request("GET", record(store, key))).body == key.encode()
    listed = data(await server.request("GET", f"/v2/key-value-stores/{store}/keys"))
    assert [item["key"] for item in listed["items"]] == sorted(keys)
    for item in listed["items"]:
        got = await server.request("GET", item["recordPublicUrl"].removeprefix(server.url), token=None)
        assert got.body == item["key"].encode()
    for bad in ("%00", "a%2Fb", "%2F", "a%20b", "%C3%A9", "%FF", "a" * 257, "a%0A", "%7E", "*", "a+b"):
        for method, body in (("PUT", b"x"), ("POST", b"x"), ("GET", None), ("HEAD", None), ("DELETE", None)):
            refused = await server.request(method, record(store, bad), body)
            assert refused.status == 400
            assert method == "HEAD" or error(refused) == (400, "invalid-record-key")
    assert data(await server.request("GET", f"/v2/key-value-stores/{store}/keys"))["count"] == len(keys)


async def test_a_small_upload_that_is_cut_off_stores_nothing(server: StorageServer) -> None:
    store = await new_store(server)
    head = f"PUT {record(store, 'K')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer jane-token\r\n"
    for framed in (b"Content-Length: 500\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(head.encode() + framed)
        await writer.drain()
        writer.write_eof()
        assert b"201" not in await reader.read()
        writer.close()
    assert (await server.request("GET", record(store, "K"))).status == 404
    assert blob_files(server) == []
    assert data(await server.request("GET", f"/v2/key-value-stores/{store}"))["stats"]["writeCount"] == 0
