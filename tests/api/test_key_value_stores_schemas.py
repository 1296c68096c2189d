"""Key-value store schemas: what may be one, what collections ask of records, and listing by collection."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from typing import Any

import brotli
import pytest
from apify_client.errors import ApifyApiError

from api.test_key_value_stores import LARGE, blob_files, record
from api.test_key_value_stores_archive import archive, entries
from support.storage_server import Answer, StorageServer, data, error

COLLECTIONS: dict[str, Any] = {
    "pictures": {"title": "Pictures", "keyPrefix": "pic-", "contentTypes": ["image/png", "Image/JPEG"]},
    "report": {
        "title": "Report",
        "key": "report",
        "contentTypes": ["application/json"],
        "jsonSchema": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"type": "integer", "maximum": 10}, "b": {"type": "string"}},
        },
    },
    "anything": {"title": "Anything", "keyPrefix": "any"},
}
SCHEMA = {"actorKeyValueStoreSchemaVersion": 1, "title": "Store", "collections": COLLECTIONS}
JSON = {"Content-Type": "application/json; charset=utf-8"}


async def create(server: StorageServer, schema: Any, query: str = "") -> Answer:
    body = json.dumps({"schema": schema}).encode()
    return await server.request("POST", f"/v2/key-value-stores{query}", body, JSON)


async def schema_store(server: StorageServer) -> str:
    created = data(await create(server, SCHEMA))
    assert created["schema"] == SCHEMA
    return str(created["id"])


async def keys(server: StorageServer, store: str, query: str = "") -> list[str]:
    answer = data(await server.request("GET", f"/v2/key-value-stores/{store}/keys{query}"))
    return [item["key"] for item in answer["items"]]


def refusal(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.body)["error"]
    assert (answer.status, found["type"]) == (400, "schema-validation-error")
    return found


def with_collection(**fields: Any) -> dict[str, Any]:
    return {"collections": {"c": fields}}


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"actorKeyValueStoreSchemaVersion": 2}, "actorKeyValueStoreSchemaVersion"),
        ({"collections": []}, "collections"),
        ({"collections": {"c": "x"}}, "collections.c"),
        (with_collection(title="neither"), "key and keyPrefix"),
        (with_collection(key="a", keyPrefix="b"), "key and keyPrefix"),
        (with_collection(key=""), "collections.c.key"),
        (with_collection(keyPrefix="a/b"), "collections.c.keyPrefix"),
        (with_collection(key=5), "collections.c.key"),
        (with_collection(key="a", contentTypes="image/png"), "contentTypes"),
        (with_collection(key="a", contentTypes=[]), "contentTypes"),
        (with_collection(key="a", contentTypes=["png"]), "contentTypes"),
        (with_collection(key="a", jsonSchema="x"), "jsonSchema"),
        (with_collection(key="a", jsonSchema={"type": "nonsense"}), "jsonSchema"),
        (with_collection(key="a", contentTypes=["text/plain"], jsonSchema={}), "contentTypes"),
        (with_collection(key="a", jsonSchema={"$ref": "http://127.0.0.1:1/x"}), "jsonSchema"),
    ],
)
async def test_what_is_no_schema(server: StorageServer, schema: dict[str, Any], named: str) -> None:
    refused = await create(server, schema, "?name=never")
    assert error(refused) == (400, "store-schema-invalid")
    assert named in json.loads(refused.body)["error"]["message"]
    assert data(await server.request("GET", "/v2/key-value-stores"))["total"] == 0


@pytest.mark.parametrize("schema", [{}, {"collections": None}, with_collection(key="a", jsonSchema={"type": "array"})])
async def test_schemas_that_ask_little(server: StorageServer, schema: dict[str, Any]) -> None:
    store = data(await create(server, schema))["id"]
    assert (await server.request("PUT", record(store, "free"), b"\xff")).status == 201


async def test_content_types_of_a_collection(server: StorageServer) -> None:
    store = await schema_store(server)
    for fit in ("image/png", "IMAGE/PNG; a=b", "image/jpeg"):
        assert (await server.request("PUT", record(store, "pic-1"), b"x", {"Content-Type": fit})).status == 201
    for value in (b"x", LARGE):
        for method in ("PUT", "POST"):
            refused = await server.request(method, record(store, "pic-2"), value, {"Content-Type": "image/gif; q=1"})
            found = refusal(refused)
            assert "pic-2" in found["message"] and "pictures" in found["message"] and "image/gif" in found["message"]
            assert found["data"]["key"] == "pic-2" and found["data"]["collection"] == "pictures"
            assert found["data"]["allowedContentTypes"] == ["image/png", "image/jpeg"]
    assert "pic-3" in refusal(await server.request("PUT", record(store, "pic-3"), b"x"))["message"]
    for free in ("picture", "pic", "anything", "any", "reports"):
        assert (await server.request("PUT", record(store, free), LARGE)).status == 201
    await server.housekeeping.sweep()
    assert "pic-2" not in await keys(server, store) and len(blob_files(server)) == 5
    stats = data(await server.request("GET", f"/v2/key-value-stores/{store}"))["stats"]
    assert stats["writeCount"] == 8


@pytest.mark.parametrize(
    ("value", "violation"),
    [
        (b'{"a": 11, "b": 5}', ("/a", "maximum")),
        (b'{"b": "x"}', ("", "required")),
        (b"[1]", ("", "type")),
        (b'{"a": 1.5}', ("/a", "type")),
        (b'{"a": 1e999}', ("/a", "maximum")),
    ],
)
async def test_json_that_does_not_fit(server: StorageServer, value: bytes, violation: tuple[str, str]) -> None:
    store = await schema_store(server)
    await server.request("PUT", record(store, "report"), b'{"a": 1}', JSON)
    large = value.replace(b"{", b'{"pad":"' + b"x" * 100_000 + b'",') if value[:1] == b"{" else value
    for encoding, body in (
        (None, value),
        (None, large),
        ("gzip", gzip.compress(value)),
        ("br", brotli.compress(large)),
    ):
        headers = JSON if encoding is None else JSON | {"Content-Encoding": encoding}
        found = refusal(await server.request("PUT", record(store, "report"), body, headers))
        assert found["data"]["key"] == found["data"]["collection"] == "report"
        assert violation in {(each["instancePath"], each["keyword"]) for each in found["data"]["validationErrors"]}
    assert (await server.request("GET", record(store, "report"))).body == b'{"a": 1}'
    await server.housekeeping.sweep()
    assert blob_files(server) == []


@pytest.mark.parametrize(
    "value", [b"", b"{", b'{"a": NaN}', b"\xff", b"[" * 100_000, b"[" * 300 + b"]" * 300, b"x" * 100_000]
)
async def test_what_is_no_json(server: StorageServer, value: bytes) -> None:
    store = await schema_store(server)
    found = refusal(await server.request("PUT", record(store, "report"), value, JSON))
    assert "report" in found["message"]
    assert await keys(server, store) == []


async def test_bodies_not_in_their_encoding(server: StorageServer) -> None:
    store = await schema_store(server)
    for body in (b'{"a": 1}', gzip.compress(b'{"a": 1}')[:-3]):
        headers = JSON | {"Content-Encoding": "gzip"}
        assert "gzip" in refusal(await server.request("PUT", record(store, "report"), body, headers))["message"]
    assert await keys(server, store) == []


async def test_json_that_fits_is_stored_as_it_came(server: StorageServer) -> None:
    store = await schema_store(server)
    for pad in (10, 200_000):
        value = b'{"a": 10.0, "b": "' + b"x" * pad + b'\\ud800"}'
        await server.request("PUT", record(store, "report"), value, JSON)
        assert (await server.request("GET", record(store, "report"))).body == value
        packed = gzip.compress(value)
        await server.request("PUT", record(store, "report"), packed, JSON | {"Content-Encoding": "gzip"})
        got = await server.request("GET", record(store, "report"), headers={"Accept-Encoding": "gzip"})
        assert (got.headers["Content-Encoding"], got.body) == ("gzip", packed)


async def test_only_what_is_checked_has_to_fit_the_memory(server: StorageServer) -> None:
    store = await schema_store(server)
    value = b'{"a": 1, "b": "' + b"x" * 9_500_000 + b'"}'
    for body, headers in ((value, JSON), (brotli.compress(value, quality=1), JSON | {"Content-Encoding": "br"})):
        refused = await server.request("PUT", record(store, "report"), body, headers)
        assert error(refused) == (413, "record-too-large")
        assert b"report" in refused.body
    assert await keys(server, store) == []
    picture = (bytes(1_000_000) for _ in range(15))
    assert (await server.request("PUT", record(store, "pic-1"), picture, {"Content-Type": "image/png"})).status == 201


async def test_every_collection_of_a_key_counts(server: StorageServer) -> None:
    schema = {
        "collections": {
            "all": {"keyPrefix": "a", "jsonSchema": {"type": "object"}},
            "one": {"key": "ab", "jsonSchema": {"required": ["x"]}},
        }
    }
    store = data(await create(server, schema))["id"]
    assert (await server.request("PUT", record(store, "ac"), b"{}", JSON)).status == 201
    assert refusal(await server.request("PUT", record(store, "ab"), b"{}", JSON))["data"]["collection"] == "one"
    assert refusal(await server.request("PUT", record(store, "ab"), b"[]", JSON))["data"]["collection"] == "all"
    assert (await server.request("PUT", record(store, "ab"), b'{"x": 1}', JSON)).status == 201
    assert refusal(await server.request("PUT", record(store, "ab"), b"{}"))["data"]["collection"] == "all"


async def test_listing_a_collection(server: StorageServer) -> None:
    store = await schema_store(server)
    for n in range(5):
        await server.request("PUT", record(store, f"pic-{n}"), b"x", {"Content-Type": "image/png"})
    for key in ("pib", "pic", "pic.", "pid", "any", "anyone"):
        await server.request("PUT", record(store, key), b"y")
    await server.request("PUT", record(store, "report"), b'{"a":1}', JSON)
    pictures = [f"pic-{n}" for n in range(5)]
    assert await keys(server, store, "?collection=pictures") == pictures
    assert await keys(server, store, "?collection=pictures&limit=2&exclusiveStartKey=pic-1") == ["pic-2", "pic-3"]
    assert await keys(server, store, "?collection=pictures&exclusiveStartKey=pic") == pictures
    assert await keys(server, store, "?collection=pictures&exclusiveStartKey=pid") == []
    assert await keys(server, store, "?collection=pictures&prefix=pic-3") == ["pic-3"]
    assert await keys(server, store, "?collection=pictures&prefix=p") == pictures
    assert await keys(server, store, "?collection=pictures&prefix=q") == []
    assert await keys(server, store, "?collection=report") == ["report"]
    assert await keys(server, store, "?collection=report&prefix=rep") == ["report"]
    assert await keys(server, store, "?collection=report&prefix=reports") == []
    assert await keys(server, store, "?collection=report&exclusiveStartKey=report") == []
    assert await keys(server, store, "?collection=anything") == ["any", "anyone"]
    page = data(await server.request("GET", f"/v2/key-value-stores/{store}/keys?collection=pictures&limit=5"))
    assert (page["isTruncated"], page["nextExclusiveStartKey"]) == (False, None)
    assert list(entries(await server.request("GET", archive(store, "?collection=pictures&prefix=pic-1")))) == ["pic-1"]
    assert list(entries(await server.request("GET", archive(store, "?collection=report")))) == ["report"]
    for path in (f"/v2/key-value-stores/{store}/keys", archive(store)):
        for name in ("unknown", "Pictures"):
            refused = await server.request("GET", f"{path}?collection={name}")
            assert error(refused) == (400, "invalid-collection")
            assert b"anything, pictures, report" in refused.body
        assert error(await server.request("GET", f"{path}?collection=x", token="john-token"))[0] == 404


async def test_the_official_client(server: StorageServer) -> None:
    client = server.client()
    created = await client.key_value_stores().get_or_create(name="with-schema", schema=SCHEMA)
    again = await client.key_value_stores().get_or_create(name="with-schema", schema={"collections": {}})
    assert again.id == created.id
    store = client.key_value_store(created.id)
    await store.set_record("report", {"a": 3})
    with pytest.raises(ApifyApiError) as refused:
        await store.set_record("report", {"a": "three", "padding": "x" * 5_000})
    assert (refused.value.status_code, refused.value.type) == (400, "schema-validation-error")
    assert refused.value.data["validationErrors"][0]["instancePath"] == "/a"
    found = await store.get_record("report")
    assert found is not None and found["value"] == {"a": 3}
    await store.set_record("pic-1", b"png", content_type="image/png")
    assert [key.key async for key in store.iterate_keys(collection="pictures")] == ["pic-1"]
    assert [key.key for key in (await store.list_keys(collection="report", limit=1)).items] == ["report"]
    bytes_of = await store.get_record_as_bytes("pic-1")
    assert bytes_of is not None and bytes_of["value"] == b"png"
    async with store.stream_record("pic-1") as streamed:
        assert streamed is not None and await streamed["value"].aread() == b"png"
    keys_url = await store.create_keys_public_url(expires_in=timedelta(hours=1))
    anonymous = await server.request("GET", keys_url.removeprefix(server.url), token=None)
    assert data(anonymous)["count"] == 2
