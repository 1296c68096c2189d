"""Every method and argument of the stock key-value store client."""

from __future__ import annotations

import gzip
import io
import json
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import brotli
import pytest
from apify_client.errors import ApifyApiError

pytestmark = [pytest.mark.xdist_group("storages")]

ABSENT = "A" * 17
BINARY = os.urandom(300_000)
JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"


@pytest.fixture
def store(client: Any) -> Any:
    """An empty store."""
    return client.key_value_store(client.key_value_stores().get_or_create().id)


@pytest.fixture
def anonymous_store(client_of: Callable[[str | None], Any], store: Any) -> Any:
    """The same store without a token."""
    return client_of(None).key_value_store(store.get().id)


@pytest.mark.parametrize(
    ("value", "content_type", "stored_type", "parsed"),
    [
        ({"a": [1, None, "é"]}, None, JSON, {"a": [1, None, "é"]}),
        ([], None, JSON, []),
        (None, None, JSON, None),
        (12.5, None, JSON, 12.5),
        (True, None, JSON, True),
        ("héllo", None, TEXT, "héllo"),
        ("", None, TEXT, ""),
        ("x" * 5000, None, TEXT, "x" * 5000),
        (b"\x00\xff", None, BYTES, b"\x00\xff"),
        (b"", None, BYTES, b""),
        (BINARY, "image/png", "image/png", BINARY),
        ("<a>é</a>", "application/xml", "application/xml", "<a>é</a>"),
        ("a;b", "text/csv; charset=utf-8", "text/csv; charset=utf-8", "a;b"),
        ("<script>1</script>", "text/html", "text/html", "<script>1</script>"),
        ({"n": 1}, "application/json", "application/json", {"n": 1}),
        (b'{"n": 1}', "application/json", "application/json", {"n": 1}),
    ],
)
def test_values_of_every_kind(store: Any, value: Any, content_type: str | None, stored_type: str, parsed: Any) -> None:
    store.set_record("Key", value, content_type=content_type)
    found = store.get_record("Key")
    assert (found["key"], found["value"], found["content_type"]) == ("Key", parsed, stored_type)
    raw = store.get_record_as_bytes("Key")
    assert (raw["key"], raw["content_type"]) == ("Key", stored_type)
    with store.stream_record("Key") as streamed:
        assert (streamed["key"], streamed["content_type"]) == ("Key", stored_type)
        assert streamed["value"].read() == raw["value"]
    if isinstance(value, bytes):
        assert raw["value"] == value
    assert store.record_exists("Key")


@pytest.mark.filterwarnings("ignore:Streaming a request body is experimental")
def test_streams_are_uploaded_in_chunks(store: Any) -> None:
    store.set_record("file", io.BytesIO(BINARY), content_type="application/pdf")
    found = store.get_record_as_bytes("file")
    assert (found["value"], found["content_type"]) == (BINARY, "application/pdf")
    store.set_record("pieces", iter([b"one ", b"two ", b"three"]))
    assert store.get_record_as_bytes("pieces")["value"] == b"one two three"


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("gzip", gzip.compress), ("br", brotli.compress), ("deflate", zlib.compress), ("identity", bytes)],
)
def test_compressed_before_upload(store: Any, encoding: str, encode: Callable[[bytes], bytes]) -> None:
    value = json.dumps({"text": "again " * 100}).encode()
    store.set_record("K", encode(value), content_type=JSON, content_encoding=encoding)
    assert store.get_record("K")["value"] == {"text": "again " * 100}
    assert store.get_record_as_bytes("K")["value"] == value
    assert store.list_keys().items[0].size == len(encode(value))


def test_content_encodings_that_are_unknown(store: Any) -> None:
    with pytest.raises(ApifyApiError) as error:
        store.set_record("K", b"x", content_encoding="bla")
    assert (error.value.status_code, error.value.type) == (415, "unsupported-content-encoding")
    assert not store.record_exists("K")


def test_missing_records(client: Any, store: Any) -> None:
    assert store.get_record("absent") is None
    assert store.get_record_as_bytes("absent") is None
    with store.stream_record("absent") as streamed:
        assert streamed is None
    assert not store.record_exists("absent")
    store.delete_record("absent")
    nowhere = client.key_value_store(ABSENT)
    assert nowhere.get_record("K") is None
    assert not nowhere.record_exists("K")
    for call in (lambda: nowhere.set_record("K", "v"), nowhere.list_keys):
        with pytest.raises(ApifyApiError) as error:
            call()
        assert (error.value.status_code, error.value.type) == (404, "record-not-found")


def test_replace_and_delete(store: Any) -> None:
    store.set_record("K", "first")
    store.set_record("K", BINARY)
    store.set_record("k", "small letter")
    assert store.get_record("K")["value"] == BINARY
    store.delete_record("K")
    assert store.get_record("K") is None
    assert store.get_record("k")["value"] == "small letter"
    stats = store.get().stats
    assert (stats.write_count, stats.delete_count) == (4, 1)


@pytest.mark.parametrize("key", ["a'b(1).txt", "!-_.'()", "...", "k" * 256, "INPUT"])
def test_keys_of_every_kind(store: Any, key: str) -> None:
    store.set_record(key, {"key": key})
    assert store.get_record(key)["value"] == {"key": key}
    assert store.record_exists(key)
    assert [item.key for item in store.list_keys().items] == [key]
    with urllib.request.urlopen(store.get_record_public_url(key)) as answer:
        assert json.load(answer) == {"key": key}
    store.delete_record(key)
    assert store.list_keys().items == []


@pytest.mark.parametrize("key", ["a b", "a/b", "é", "k" * 257, "a%2Fb", "a?b", "a#b"])
def test_keys_that_are_none(store: Any, key: str) -> None:
    for call in (
        lambda: store.set_record(key, "v"),
        lambda: store.get_record(key),
        lambda: store.record_exists(key),
        lambda: store.delete_record(key),
    ):
        with pytest.raises(ApifyApiError) as error:
            call()
        assert error.value.status_code == 400
    assert store.list_keys().items == []


def test_listing_keys(store: Any) -> None:
    keys = ["B", "a", "a-1", "a-2", "b", "z"]
    for key in reversed(keys):
        store.set_record(key, key)

    def listed(**arguments: Any) -> list[str]:
        return [item.key for item in store.list_keys(**arguments).items]

    page = store.list_keys()
    assert [(item.key, item.size) for item in page.items] == [(key, len(key)) for key in keys]
    assert (page.count, page.limit, page.is_truncated, page.next_exclusive_start_key) == (6, 1000, False, None)
    page = store.list_keys(limit=2, exclusive_start_key="a")
    assert [item.key for item in page.items] == ["a-1", "a-2"]
    assert (page.limit, page.exclusive_start_key, page.next_exclusive_start_key) == (2, "a", "a-2")
    assert page.is_truncated
    assert listed(prefix="a") == ["a", "a-1", "a-2"]
    assert listed(prefix="a", exclusive_start_key="a", limit=1) == ["a-1"]
    assert listed(exclusive_start_key="z") == []
    assert listed(prefix="nothing") == []
    assert listed(limit=0) == keys
    assert store.list_keys(limit=2000).limit == 1000
    with pytest.raises(ApifyApiError) as error:
        store.list_keys(collection="none")
    assert (error.value.status_code, error.value.type) == (400, "invalid-collection")

    def iterated(**arguments: Any) -> list[str]:
        return [item.key for item in store.iterate_keys(**arguments)]

    for chunk_size in (1, 2, 3, 6, 7):
        assert iterated(chunk_size=chunk_size) == keys
        assert iterated(chunk_size=chunk_size, limit=4) == keys[:4]
        assert iterated(chunk_size=chunk_size, prefix="a", exclusive_start_key="a") == ["a-1", "a-2"]
    assert iterated(prefix="nothing") == []


def test_signatures(store: Any, anonymous_store: Any) -> None:
    for key in ("a", "a(1)", "b"):
        store.set_record(key, f"value of {key}")

    def signature_in(url: str) -> str:
        return str(url).partition("signature=")[2].replace("%3D", "=").partition("&")[0]

    of_record = signature_in(store.get_record_public_url("a(1)"))
    assert of_record == signature_in(store.list_keys(prefix="a(").items[0].record_public_url)
    assert anonymous_store.get_record("a(1)", signature=of_record)["value"] == "value of a(1)"
    assert anonymous_store.get_record_as_bytes("a(1)", signature=of_record)["value"] == b"value of a(1)"
    with anonymous_store.stream_record("a(1)", signature=of_record) as streamed:
        assert streamed["value"].read() == b"value of a(1)"
    of_keys = signature_in(store.create_keys_public_url())
    assert [item.key for item in anonymous_store.list_keys(signature=of_keys).items] == ["a", "a(1)", "b"]
    assert [item.key for item in anonymous_store.iterate_keys(signature=of_keys, chunk_size=1)] == ["a", "a(1)", "b"]
    for call in (
        lambda: anonymous_store.get_record("a"),
        lambda: anonymous_store.get_record("a", signature=of_record),
        lambda: anonymous_store.get_record("a", signature=of_keys),
        lambda: anonymous_store.list_keys(signature=of_record),
        anonymous_store.list_keys,
        lambda: anonymous_store.record_exists("a"),
    ):
        with pytest.raises(ApifyApiError) as error:
            call()
        assert error.value.status_code == 403
    for call in (lambda: anonymous_store.set_record("a", "mine"), lambda: anonymous_store.delete_record("a")):
        with pytest.raises(ApifyApiError) as error:
            call()
        assert (error.value.status_code, error.value.type) == (401, "token-not-provided")
    assert store.get_record("a")["value"] == "value of a"


def test_public_addresses_of_keys(store: Any) -> None:
    for key in ("a", "a-1", "b"):
        store.set_record(key, key)

    def keys_at(url: str) -> list[str]:
        with urllib.request.urlopen(url) as answer:
            return [item["key"] for item in json.load(answer)["data"]["items"]]

    assert keys_at(store.create_keys_public_url()) == ["a", "a-1", "b"]
    assert keys_at(store.create_keys_public_url(prefix="a", exclusive_start_key="a")) == ["a-1"]
    assert keys_at(store.create_keys_public_url(limit=1, expires_in=timedelta(hours=1))) == ["a"]
    for url, status in (
        (store.create_keys_public_url(expires_in=timedelta(seconds=-1)), 403),
        (store.create_keys_public_url(collection="none"), 400),
    ):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(url)
        error.value.close()
        assert error.value.code == status
    assert keys_at(str(store.get().keys_public_url)) == ["a", "a-1", "b"]
