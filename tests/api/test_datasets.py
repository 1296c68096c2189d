from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from datetime import timedelta
from typing import Any

import brotli
import pytest
from apify_client.errors import ApifyApiError

from actorium.domain.storages import DefaultStorageIds
from support.storage_server import StorageServer, data, error


async def new_dataset(server: StorageServer, query: str = "") -> str:
    return str(data(await server.request("POST", f"/v2/datasets{query}"))["id"])


async def push(server: StorageServer, dataset: str, items: Any) -> None:
    assert (await server.request("POST", f"/v2/datasets/{dataset}/items", json.dumps(items).encode())).status == 201


async def read(server: StorageServer, dataset: str, query: str = "") -> Any:
    answer = await server.request("GET", f"/v2/datasets/{dataset}/items{query}")
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


async def test_official_client_pushes_and_reads(server: StorageServer) -> None:
    client = server.client()
    created = await client.datasets().get_or_create(name="My-results")
    dataset = client.dataset(created.id)
    await dataset.push_items([{"n": n, "#debug": True} for n in range(50)])
    await dataset.push_items({"n": 50})
    page = await dataset.list_items(offset=48, limit=10, clean=True)
    assert page.items == [{"n": 48}, {"n": 49}, {"n": 50}]
    assert (page.total, page.offset, page.limit, page.count, page.desc) == (51, 48, 10, 3, False)
    assert [item["n"] async for item in dataset.iterate_items(desc=True)] == list(range(50, -1, -1))
    got = await dataset.get()
    assert got is not None
    assert (got.item_count, got.clean_item_count, got.fields) == (51, 51, ["n", "#debug"])
    assert got.stats is not None
    assert (got.stats.write_count, got.stats.read_count) == (51, 54)
    again = await client.datasets().get_or_create(name="my-RESULTS")
    assert (again.id, again.name) == (created.id, "My-results")
    by_name = await client.dataset("jane/MY-results").get()
    assert by_name is not None and by_name.id == created.id


async def test_official_client_manages_datasets(server: StorageServer) -> None:
    client = server.client()
    unnamed = await client.datasets().get_or_create()
    named = await client.datasets().get_or_create(name="first")
    listed = await client.datasets().list(unnamed=True)
    assert [item.id for item in listed.items] == [unnamed.id, named.id]
    assert [item.id for item in (await client.datasets().list()).items] == [named.id]
    updated = await client.dataset(unnamed.id).update(name="second", general_access="RESTRICTED")
    assert (updated.name, updated.general_access) == ("second", "RESTRICTED")
    with pytest.raises(ApifyApiError) as refused:
        await client.dataset(unnamed.id).update(name="FIRST")
    assert (refused.value.status_code, refused.value.type) == (409, "name-not-unique")
    await client.dataset(unnamed.id).delete()
    assert await client.dataset(unnamed.id).get() is None
    assert await client.dataset("~second").get() is None


async def test_values_survive_exactly(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    item = b'{"big": 12345678901234567890123.10, "e":1e400,\n "u":"\\u00e9\\/",  "nested":{"z":[1 , 2.0]}}'
    assert (await server.request("POST", f"/v2/datasets/{dataset}/items", b"[" + item + b"]")).status == 201
    answer = await server.request("GET", f"/v2/datasets/{dataset}/items")
    assert answer.body == b'[{"big":12345678901234567890123.10,"e":1e400,"u":"\\u00e9\\/","nested":{"z":[1,2.0]}}]'
    picked = await server.request("GET", f"/v2/datasets/{dataset}/items?fields=e,big")
    assert picked.body == b'[{"e":1e400,"big":12345678901234567890123.10}]'


@pytest.mark.parametrize(
    "body", [b"1", b'"text"', b"null", b"[1]", b"[[{}]]", b'[{"a":1}, null]', b"", b"{", b'[{"a":1},]', b'{"a":"\xff"}']
)
async def test_what_is_no_item_refuses_the_whole_push(server: StorageServer, body: bytes) -> None:
    dataset = await new_dataset(server)
    assert error(await server.request("POST", f"/v2/datasets/{dataset}/items", body)) == (400, "invalid-request")
    assert await read(server, dataset) == []


async def test_deep_nesting_is_refused(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    body = b'{"a":' * 5000 + b"1" + b"}" * 5000
    assert error(await server.request("POST", f"/v2/datasets/{dataset}/items", body)) == (400, "invalid-request")


async def test_empty_array_stores_nothing(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    answer = await server.request("POST", f"/v2/datasets/{dataset}/items", b" [ ] ")
    assert (answer.status, answer.body) == (201, b"{}")
    assert data(await server.request("GET", f"/v2/datasets/{dataset}"))["itemCount"] == 0


async def test_limit_counts_decoded_bytes(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    path = f"/v2/datasets/{dataset}/items"
    largest = b'{"a":"' + b"x" * (9_437_184 - 8) + b'"}'
    assert (await server.request("POST", path, gzip.compress(largest), {"Content-Encoding": "gzip"})).status == 201
    over = largest[:-2] + b'x"}'
    for headers, body in (({}, over), ({"Content-Encoding": "GZIP"}, gzip.compress(over))):
        refused = await server.request("POST", path, body, headers)
        assert error(refused) == (413, "request-too-large")
        assert b"limit: 9437184 bytes" in refused.body
    assert data(await server.request("GET", f"/v2/datasets/{dataset}"))["itemCount"] == 1


async def test_encodings(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    raw = zlib.compressobj(wbits=-15)
    bodies = {
        "br": brotli.compress(b'{"n":1}'),
        "gzip": gzip.compress(b'{"n":2}'),
        "deflate": zlib.compress(b'{"n":3}'),
        "Deflate": raw.compress(b'{"n":4}') + raw.flush(),
        "identity": b'{"n":5}',
    }
    for encoding, body in bodies.items():
        answer = await server.request("POST", f"/v2/datasets/{dataset}/items", body, {"Content-Encoding": encoding})
        assert answer.status == 201, encoding
    assert await read(server, dataset) == [{"n": n} for n in range(1, 6)]
    refused = await server.request("POST", f"/v2/datasets/{dataset}/items", b"{}", {"Content-Encoding": "bla"})
    assert error(refused) == (415, "unsupported-content-encoding")


@pytest.mark.parametrize(
    ("query", "numbers", "limit", "offset", "desc"),
    [
        ("", [0, 1, 2, 3, 4, 5, 6], 999_999_999_999, 0, "false"),
        ("?limit=0", [0, 1, 2, 3, 4, 5, 6], 999_999_999_999, 0, "false"),
        ("?offset=2&limit=3", [2, 3, 4], 3, 2, "false"),
        ("?offset=5&limit=30", [5, 6], 30, 5, "false"),
        ("?offset=7", [], 999_999_999_999, 7, "false"),
        ("?offset=100&limit=1", [], 1, 100, "false"),
        ("?desc=1", [6, 5, 4, 3, 2, 1, 0], 999_999_999_999, 0, "true"),
        ("?desc=true&offset=1&limit=3", [5, 4, 3], 3, 1, "true"),
        ("?desc=true&offset=5&limit=9", [1, 0], 9, 5, "true"),
        ("?desc=true&offset=9", [], 999_999_999_999, 9, "true"),
    ],
)
async def test_window_and_pagination_headers(
    server: StorageServer, query: str, numbers: list[int], limit: int, offset: int, desc: str
) -> None:
    dataset = await new_dataset(server)
    await push(server, dataset, [{"n": 0}, {"n": 1}, {"n": 2}])
    await push(server, dataset, {"n": 3})
    await push(server, dataset, [{"n": 4}, {"n": 5}, {"n": 6}])
    expected = {"Offset": offset, "Limit": limit, "Count": len(numbers), "Total": 7, "Desc": desc}
    length = str(len("[" + ",".join(f'{{"n": {n}}}' for n in numbers) + "]"))
    for method in ("GET", "HEAD"):
        answer = await server.request(method, f"/v2/datasets/{dataset}/items{query}")
        assert {name: answer.headers[f"X-Apify-Pagination-{name}"] for name in expected} == {
            name: str(value) for name, value in expected.items()
        }
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.headers["Content-Length"] in ((length,) if method == "GET" else (length, None)), "never a wrong 0"
        assert answer.body == (("[" + ",".join(f'{{"n": {n}}}' for n in numbers) + "]").encode() * (method == "GET"))


async def test_shaping(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    first = {"a": 1, "#h": 2, "b": {"c": 3, "d": {"e": 4}}, "x.y": 5}
    await push(server, dataset, [first, {"#only": 1}, {}, {"a": 6, "errorInfo": {}}])
    assert await read(server, dataset, "?skipHidden=1") == [
        {key: value for key, value in first.items() if key != "#h"},
        {},
        {},
        {"a": 6, "errorInfo": {}},
    ]
    assert await read(server, dataset, "?clean=true&fields=a") == [{"a": 1}, {"a": 6}]
    assert await read(server, dataset, "?skipEmpty=1&fields=%23only") == [{"#only": 1}]
    assert await read(server, dataset, "?fields=x.y,b.d.e,b/c&limit=1") == [{"x.y": 5, "b.d.e": 4, "b/c": 3}]
    assert await read(server, dataset, "?omit=%23h,b.d,x.y&limit=1") == [{"a": 1, "b": {"c": 3}}]
    assert await read(server, dataset, "?fields=a,b&omit=b&limit=1") == [{"a": 1}]
    assert await read(server, dataset, "?skipFailedPages=1&fields=a&skipEmpty=1") == [{"a": 1}]
    shaped = await server.request("GET", f"/v2/datasets/{dataset}/items?clean=1&fields=a")
    assert shaped.headers["X-Apify-Pagination-Count"] == "4"


@pytest.mark.parametrize(
    "query", ["format=bogus", "outputFields=a,b&fields=b", "offset=-1", "limit=x", "desc=no", "delimiter=ab&format=csv"]
)
async def test_bad_parameters_are_refused_by_name(server: StorageServer, query: str) -> None:
    dataset = await new_dataset(server)
    answer = await server.request("GET", f"/v2/datasets/{dataset}/items?{query}")
    assert error(answer) == (400, "invalid-request")
    assert query.partition("=")[0].encode() in answer.body


async def test_large_reads_stream_in_pages(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    pad = "x" * 10_000
    for start, end in ((0, 100), (100, 350), (350, 400)):  # the second one is large enough for a blob
        await push(server, dataset, [{"n": n, "pad": pad} for n in range(start, end)])
    whole = await server.request("GET", f"/v2/datasets/{dataset}/items?format=jsonl")
    assert whole.headers["Content-Length"] == str(len(whole.body))
    assert [json.loads(line)["n"] for line in whole.body.splitlines()] == list(range(400))
    answer = await server.request("GET", f"/v2/datasets/{dataset}/items?offset=50&limit=300")
    assert answer.headers["Content-Length"] is None
    assert [item["n"] for item in json.loads(answer.body)] == list(range(50, 350))
    backwards = await read(server, dataset, "?desc=1&offset=50&limit=300&fields=n")
    assert [item["n"] for item in backwards] == list(range(349, 49, -1))
    filtered = await read(server, dataset, "?fields=absent&skipEmpty=1")
    assert filtered == []


async def test_concurrent_pushes_are_whole_and_in_order(server: StorageServer) -> None:
    dataset = server.client().dataset(await new_dataset(server))
    await asyncio.gather(*(dataset.push_items([{"who": who, "n": n} for n in range(20)]) for who in range(20)))
    items = (await dataset.list_items()).items
    groups = [items[start : start + 20] for start in range(0, 400, 20)]
    assert len(items) == 400
    assert {group[0]["who"] for group in groups} == set(range(20))
    assert all([item["n"] for item in group] == list(range(20)) for group in groups)
    assert all(len({item["who"] for item in group}) == 1 for group in groups)


async def test_get_or_create_is_raced_safely(server: StorageServer) -> None:
    answers = await asyncio.gather(*(server.request("POST", "/v2/datasets?name=raced") for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [200] * 9 + [201]
    assert len({data(answer)["id"] for answer in answers}) == 1
    created = next(answer for answer in answers if answer.status == 201)
    assert created.headers["Location"] == f"{server.url}/v2/datasets/{data(created)['id']}"


async def test_creation_keeps_the_first_schema(server: StorageServer) -> None:
    schema = {"actorSpecification": 1, "fields": {}, "views": {}}
    body = json.dumps({"schema": schema, "unknown": 1}).encode()
    first = data(await server.request("POST", "/v2/datasets?name=with-schema", body))
    second = data(await server.request("POST", "/v2/datasets?name=with-schema", b'{"schema": {"other": 1}}'))
    assert first["schema"] == second["schema"] == schema
    assert error(await server.request("POST", "/v2/datasets", b'{"schema": 5}')) == (400, "invalid-request")


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a.b", "a" * 64, "%C3%A9"])
async def test_bad_names(server: StorageServer, name: str) -> None:
    assert error(await server.request("POST", f"/v2/datasets?name={name}")) == (400, "invalid-value")


async def test_update_fields(server: StorageServer) -> None:
    dataset = await new_dataset(server, "?name=before")
    path = f"/v2/datasets/{dataset}"
    renamed = data(await server.request("PUT", path, b'{"title": "A title", "name": "after"}'))
    assert (renamed["name"], renamed["title"]) == ("after", "A title")
    untouched = data(await server.request("PUT", path, b"{}"))
    assert (untouched["name"], untouched["title"]) == ("after", "A title")
    assert data(await server.request("PUT", path, b'{"name": null}'))["name"] is None
    assert (await server.request("GET", "/v2/datasets/~after")).status == 404
    assert error(await server.request("PUT", path, b'{"generalAccess": "EVERYONE"}')) == (400, "invalid-request")
    assert error(await server.request("PUT", path, b'{"name": "a_b"}')) == (400, "invalid-value")
    assert error(await server.request("PUT", path, b'{"title": 1}')) == (400, "invalid-request")


async def test_references(server: StorageServer) -> None:
    dataset = await new_dataset(server, "?name=Mine")
    for reference in (dataset, "~mine", "jane~MINE", "janeUserId0000001~Mine", "jane%2FMine", "%2Fmine", "JANE%7Emine"):
        answer = await server.request("GET", f"/v2/datasets/{reference}")
        assert answer.status == 200 and data(answer)["id"] == dataset, reference
        pushed = await server.request("POST", f"/v2/datasets/{reference}/items", b"{}")
        assert pushed.status == 201, reference
    assert error(await server.request("GET", "/v2/datasets/Mine")) == (404, "record-not-found")
    assert error(await server.request("GET", "/v2/datasets/jane~")) == (400, "invalid-request")
    assert error(await server.request("GET", "/v2/datasets/~mine", token=None)) == (401, "token-not-provided")


async def test_other_users_see_what_general_access_allows(server: StorageServer) -> None:
    dataset = await new_dataset(server, "?name=shared")
    by_id, by_name = f"/v2/datasets/{dataset}", "/v2/datasets/jane~shared"
    expected = {
        "FOLLOW_USER_SETTING": (404, 404, 403, 403),
        "RESTRICTED": (404, 404, 403, 403),
        "ANYONE_WITH_ID_CAN_READ": (200, 404, 200, 403),
        "ANYONE_WITH_NAME_CAN_READ": (200, 200, 200, 200),
    }
    for access, statuses in expected.items():
        await server.request("PUT", by_id, json.dumps({"generalAccess": access}).encode())
        for path in ("", "/items"):
            found = [
                (await server.request("GET", base + path, token=token)).status
                for token in ("john-token", None)
                for base in (by_id, by_name)
            ]
            assert tuple(found) == statuses, (access, path)
        for method, path, body in (("POST", "/items", b"{}"), ("PUT", "", b"{}"), ("DELETE", "", None)):
            refused = await server.request(method, by_id + path, body, token="john-token")
            assert refused.status == (403 if access.startswith("ANYONE") else 404)
            assert error(await server.request(method, by_id + path, body, token=None))[0] == 401
    public = data(await server.request("GET", by_id, token=None))
    assert "urlSigningSecretKey" not in public
    assert "signature" not in public["itemsPublicUrl"]


async def test_signed_addresses(server: StorageServer) -> None:
    client = server.client()
    created = await client.datasets().get_or_create()
    await client.dataset(created.id).push_items({"n": 1})
    from_client = await client.dataset(created.id).create_items_public_url()
    expired = await client.dataset(created.id).create_items_public_url(expires_in=timedelta(seconds=-10))
    assert created.items_public_url is not None
    for url in (str(created.items_public_url), from_client, from_client + "%3D%3D"):
        answer = await server.request("GET", url.removeprefix(server.url), token=None)
        assert (answer.status, json.loads(answer.body)) == (200, [{"n": 1}])
    for path in (expired.removeprefix(server.url), f"/v2/datasets/{created.id}/items?signature=nonsense"):
        assert error(await server.request("GET", path, token=None)) == (403, "insufficient-permissions")
    other = await new_dataset(server)
    signature = from_client.partition("?")[2]
    assert (await server.request("GET", f"/v2/datasets/{other}/items?{signature}", token=None)).status == 403


async def test_null_names_only_for_clients_that_take_them(server: StorageServer) -> None:
    await new_dataset(server)
    answer = await server.request(
        "GET", "/v2/datasets?unnamed=1", headers={"User-Agent": "ApifyClient/2 (linux; Node/20)"}
    )
    [item] = data(answer)["items"]
    assert item["name"] is None and item["stats"] == {"readCount": 0, "writeCount": 0, "inflatedBytes": 0}
    assert data(await server.request("GET", "/v2/datasets?ownership=sharedWithMe&unnamed=1"))["items"] == []
    assert error(await server.request("GET", "/v2/datasets?ownership=bogus")) == (400, "invalid-request")


async def test_list_pages(server: StorageServer) -> None:
    ids = [await new_dataset(server, f"?name=d{n}") for n in range(5)]
    await server.request("POST", "/v2/datasets?name=hers", token="john-token")
    page = data(await server.request("GET", "/v2/datasets?offset=1&limit=2&desc=1"))
    assert [item["id"] for item in page.pop("items")] == [ids[3], ids[2]]
    assert page == {"total": 5, "offset": 1, "limit": 2, "desc": True, "count": 2, "unnamed": False}
    assert data(await server.request("GET", "/v2/datasets?limit=100000"))["limit"] == 1000


async def test_deleted_dataset_is_emptied(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    for n in range(60):
        await push(server, dataset, {"n": n})
    assert (await server.request("DELETE", f"/v2/datasets/{dataset}")).status == 204
    assert error(await server.request("GET", f"/v2/datasets/{dataset}/items")) == (404, "record-not-found")
    assert error(await server.request("DELETE", f"/v2/datasets/{dataset}")) == (404, "record-not-found")
    await server.housekeeping.sweep()
    for table in ("dataset_blocks", "storage_garbage"):
        assert await server.database.read("count", lambda tx, table=table: tx.fetch(f"SELECT * FROM {table}")) == []


async def test_paths_of_a_run(server: StorageServer) -> None:
    server.runs["runId00000000000A"] = DefaultStorageIds(await new_dataset(server), "", "")
    run = server.client().run("runId00000000000A")
    await run.dataset().push_items([{"n": 1}, {"n": 2}])
    assert (await run.dataset().list_items(limit=1)).items == [{"n": 1}]
    last = "/v2/acts/runId00000000000A/runs/last/dataset"
    answer = await server.request("GET", f"{last}/items?status=SUCCEEDED&origin=API&offset=1")
    assert json.loads(answer.body) == [{"n": 2}]
    assert (await server.request("HEAD", f"{last}/items")).headers["X-Apify-Pagination-Total"] == "2"
    assert error(await server.request("GET", "/v2/actor-runs/absent/dataset")) == (404, "record-not-found")
    assert (await server.request("DELETE", last)).status == 204
    assert error(await server.request("GET", last)) == (404, "record-not-found")


async def test_statistics(server: StorageServer) -> None:
    plain = await new_dataset(server)
    assert data(await server.request("GET", f"/v2/datasets/{plain}/statistics")) == {"fieldStatistics": None}
    fields = {"type": "object", "properties": {"price": {}, "name": {}, "tags": {}, "on": {}, "never": {}}}
    body = json.dumps({"schema": {"actorSpecification": 1, "fields": fields}}).encode()
    dataset = str(data(await server.request("POST", "/v2/datasets", body))["id"])
    await push(server, dataset, [{"price": 2.5, "name": "ab", "tags": [1], "on": True}, {"price": None}])
    await push(server, dataset, {"price": 10, "name": "", "tags": {"a": 1, "b": 2}, "on": False})
    found = data(await server.request("GET", f"/v2/datasets/{dataset}/statistics"))["fieldStatistics"]
    assert found == {
        "price": {"min": 2.5, "max": 10, "nullCount": 1, "emptyCount": 0},
        "name": {"min": 0, "max": 2, "nullCount": 0, "emptyCount": 1},
        "tags": {"min": 1, "max": 2, "nullCount": 0, "emptyCount": 1},
        "on": {"min": 0, "max": 1, "nullCount": 0, "emptyCount": 1},
        "never": {"min": None, "max": None, "nullCount": 0, "emptyCount": 3},
    }
    typed = await server.client().dataset(dataset).get_statistics()
    assert typed is not None
    assert (await server.request("GET", f"/v2/datasets/{dataset}/statistics", token="john-token")).status == 404
