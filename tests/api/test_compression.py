"""Bodies and answers in the encodings HTTP clients use."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib

import brotli
import pytest
import zstandard

from api.test_datasets import error, new_dataset, push, read
from support.storage_server import StorageServer

_DECODE = {"gzip": gzip.decompress, "br": brotli.decompress}


@pytest.mark.parametrize(
    ("accept", "expected"),
    [("gzip", "gzip"), ("gzip, deflate, br;q=0.9", "br"), ("br;q=0, gzip", "gzip"), ("*", "br"), ("deflate", None),
     ("identity", None), (None, None), ("br; q=0.000", None), ("BR", "br")],
)  # fmt: skip
async def test_answers_are_compressed_as_the_client_allows(
    server: StorageServer, accept: str | None, expected: str | None
) -> None:
    dataset = await new_dataset(server)
    await push(server, dataset, [{"text": "long enough to matter " * 100}])
    headers = {} if accept is None else {"Accept-Encoding": accept}
    path = f"/v2/datasets/{dataset}/items"
    plain = await server.request("GET", path)
    answer = await server.request("GET", path, headers=headers)
    assert answer.headers["Content-Encoding"] == expected
    assert answer.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    body = _DECODE[expected](answer.body) if expected else answer.body
    assert body == plain.body
    small = await server.request("GET", "/v2/datasets/unknown", headers=headers)
    assert small.headers["Content-Encoding"] is None


async def test_streams_are_compressed_and_archives_are_not(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    for _ in range(3):
        await push(server, dataset, [{"n": n, "pad": "x" * 9_000} for n in range(100)])
    for query in ("", "?format=csv", "?format=jsonl&fields=pad"):
        plain = await server.request("GET", f"/v2/datasets/{dataset}/items{query}")
        for accept, decode in _DECODE.items():
            answer = await server.request(
                "GET", f"/v2/datasets/{dataset}/items{query}", headers={"Accept-Encoding": accept}
            )
            assert answer.headers["Content-Encoding"] == accept
            assert len(answer.body) < len(plain.body) / 20
            assert decode(answer.body) == plain.body
    book = await server.request("GET", f"/v2/datasets/{dataset}/items?format=xlsx", headers={"Accept-Encoding": "br"})
    assert book.headers["Content-Encoding"] is None
    assert book.body.startswith(b"PK")


async def test_records_come_as_they_were_stored(server: StorageServer) -> None:
    store = await server.client().key_value_stores().get_or_create()
    value = json.dumps({"text": "x" * 5000}).encode()
    path = f"/v2/key-value-stores/{store.id}/records/OUTPUT"
    await server.request("PUT", path, value, {"Content-Type": "application/json"})
    answer = await server.request("GET", path, headers={"Accept-Encoding": "br, gzip"})
    assert (answer.headers["Content-Encoding"], answer.body) == (None, value)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "GZIP", "identity"])
async def test_bodies_in_every_encoding(server: StorageServer, encoding: str) -> None:
    dataset = await new_dataset(server)
    body = json.dumps([{"n": n, "text": "x" * 50} for n in range(500)]).encode()
    encode = {"gzip": gzip.compress, "br": brotli.compress, "deflate": zlib.compress, "zstd": zstandard.compress}
    packed = encode.get(encoding.lower(), bytes)(body)
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    assert (await server.request("POST", f"/v2/datasets/{dataset}/items", packed, headers)).status == 201
    assert len(await read(server, dataset, "")) == 500


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
async def test_a_bomb_is_refused_before_it_goes_off(server: StorageServer, encoding: str) -> None:
    dataset = await new_dataset(server)
    bomb = b'{"a":"' + b"x" * 200_000_000 + b'"}'
    packed = {
        "gzip": lambda b: gzip.compress(b, 1),
        "br": lambda b: brotli.compress(b, quality=1),
        "zstd": zstandard.compress,
    }[encoding](bomb)
    del bomb
    assert len(packed) < 2_000_000
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    answer = await server.request("POST", f"/v2/datasets/{dataset}/items", packed, headers)
    assert error(answer) == (413, "request-too-large")
    assert await read(server, dataset, "") == []


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate"])
async def test_broken_and_cut_off_bodies_are_named(server: StorageServer, encoding: str) -> None:
    dataset = await new_dataset(server)
    encode = {"gzip": gzip.compress, "br": brotli.compress, "deflate": zlib.compress, "zstd": zstandard.compress}
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    for body in (b"this is not compressed at all", encode[encoding](b'{"a":1}' + b" " * 5000)[:-5]):
        answer = await server.request("POST", f"/v2/datasets/{dataset}/items", body, headers)
        assert error(answer) == (400, "invalid-request")
        assert encoding.encode() in answer.body
    unknown = await server.request("POST", f"/v2/datasets/{dataset}/items", b"{}", {"Content-Encoding": "compress"})
    assert error(unknown) == (415, "unsupported-content-encoding")


async def test_a_few_bytes_of_brotli_cannot_take_the_memory(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    packed = brotli.compress(b"[" + b" " * 1_000_000_000)
    assert len(packed) < 5_000
    headers = {"Content-Type": "application/json", "Content-Encoding": "br"}
    tracemalloc.start()
    answer = await server.request("POST", f"/v2/datasets/{dataset}/items", packed, headers)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error(answer) == (413, "request-too-large")
    assert peak < 100_000_000


async def test_a_body_may_be_several_gzip_members(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    body = gzip.compress(b'[{"a":1},') + gzip.compress(b'{"a":2}]')
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert (await server.request("POST", f"/v2/datasets/{dataset}/items", body, headers)).status == 201
    assert await read(server, dataset, "") == [{"a": 1}, {"a": 2}]
