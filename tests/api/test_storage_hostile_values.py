"""Every storage route with hostile values in path, query and body: refused or served, never a fault of the server."""

from __future__ import annotations

import json
from itertools import count
from urllib.parse import quote

import pytest

from actorium.api.http import Route
from actorium.domain.storages import DefaultStorageIds
from support.storage_server import Answer, StorageServer, data

pytestmark = pytest.mark.timeout(300)

PATH_VALUES = [
    *("%00", "a%00b", "%FF", "%ED%A0%80", "%F0%9F%92%9B", "%2F", "%2e%2e", "a%2Fb%2Fc", "~", "~%00", "jane~%00", "~~~"),
    *(
        "%",
        "%zz",
        "%25",
        "%0D%0A",
        "'",
        "%22",
        "%20",
        "%E2%80%AE",
        "%EF%BF%BF",
        "${jndi}",
        "x' OR '1'='1".replace(" ", "+"),
    ),
    *("a" * 300, "~" + "a" * 300, "a" * 20_000, "~" + "%C3%A9" * 2000, "batch", "unlock", "null"),
]
QUERY_VALUES = [
    *(
        "",
        "0",
        "-1",
        "1.5",
        "abc",
        "%00",
        "%FF",
        "%ED%A0%80",
        "NaN",
        "1e3",
        "9223372036854775808",
        "-9223372036854775809",
    ),
    *(
        "9" * 30,
        "1" * 5000,
        "%D9%A3",
        "%C2%B2",
        "1_000",
        "%2B5",
        "%201",
        "true",
        "null",
        "[]",
        "%F0%9F%92%9B",
        "%EF%BF%BF",
    ),
    *(
        "x" * 20_000,
        "a,b,,",
        ",",
        "%22",
        "%0D%0A",
        "%27",
        "..",
        "a/b/c",
        "W10",
        "eyJyZXF1ZXN0SWQiOiJcdTAwMDAifQ",
        "W1" * 3000,
    ),
    quote("eyJyZXF1ZXN0SWQiOiAieCJ9"),
]
BODIES = [
    *(
        b"",
        b" ",
        b"null",
        b"1",
        b'"x"',
        b"[]",
        b"{}",
        b"[{}]",
        b"[[]]",
        b"[1]",
        b"{",
        b"}",
        b"\xff",
        b"\x00",
        b"[{},null]",
    ),
    *(
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"a":1e400}',
        b'{"a":' + b"1" * 5000 + b"}",
        b'{"\\ud800":"\\udfff"}',
    ),
    *(b'{"a":"\\u0000"}', b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b"[" * 100_000),
    *(
        b'{"a":1}{"b":2}',
        b"{'a':1}",
        b'{"a":NaN}',
        b'{"a":01}',
        b'{"a":"\x01"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\x"}',
    ),
]
STORAGE_FIELDS = ("name", "title", "generalAccess", "schema")
REQUEST_FIELDS = (
    *("uniqueKey", "url", "method", "userData", "headers", "retryCount", "handledAt", "id", "payload"),
    *("noRetry", "errorMessages", "loadedUrl", "lockExpiresAt", "label"),
)
FIELD_VALUES = [
    *(
        "null",
        "true",
        "1",
        "-1",
        "1.5",
        "1e400",
        "-0",
        "9" * 40,
        "1" * 5000,
        '""',
        '"x"',
        '"\\u0000"',
        '"\\ud800"',
        "[]",
        "{}",
    ),
    *(
        '"' + "x" * 70_000 + '"',
        "[1]",
        '{"a":1}',
        '{"fields":1}',
        '{"fields":{"type":1}}',
        '{"views":[]}',
        '{"views":{"a":1}}',
    ),
    *('"2025-01-01T00:00:00Z"', '"9999-12-31T23:59:59.9999Z"', '"0001-01-01T00:00:00+23:59"', '"0001-01-01T00:00:00Z"'),
    *('"9999-12-31T23:59:59-23:59"', '"2025-02-30"', '"2025-01-01 12:00:00.123456+00:00"', '{"$ref":"http://x/"}'),
    *(
        '{"fields":{"$ref":"http://127.0.0.1:1/x"}}',
        '{"fields":{"$ref":"#/definitions/none"}}',
        '{"fields":{"pattern":"("}}',
    ),
    '{"fields":{"properties":' + '{"a":{"properties":' * 400 + "{}" + "}}" * 400 + "}}",
    '{"a":' * 900 + "1" + "}" * 900,
]
PARAMETERS = {
    "datasets_get": ["offset", "limit", "desc", "unnamed", "ownership"],
    "keyValueStores_get": ["offset", "limit", "desc", "unnamed", "ownership"],
    "requestQueues_get": ["offset", "limit", "desc", "unnamed", "ownership"],
    "datasets_post": ["name"],
    "keyValueStores_post": ["name"],
    "requestQueues_post": ["name"],
    "dataset_items_get": [
        *("format", "offset", "limit", "desc", "clean", "fields", "outputFields", "omit", "unwind", "flatten", "view"),
        *(
            "simplified",
            "skipFailedPages",
            "skipHidden",
            "skipEmpty",
            "attachment",
            "delimiter",
            "bom",
            "xmlRoot",
            "xmlRow",
        ),
        *("skipHeaderRow", "feedTitle", "feedDescription", "signature"),
    ],
    "keyValueStore_keys_get": ["limit", "exclusiveStartKey", "prefix", "collection", "signature"],
    "keyValueStore_record_get": ["attachment", "signature"],
    "requestQueue_requests_get": ["limit", "cursor", "exclusiveStartId", "filter", "clientKey"],
    "requestQueue_head_get": ["limit", "clientKey"],
    "requestQueue_head_lock_post": ["lockSecs", "limit", "clientKey"],
    "requestQueue_request_lock_put": ["lockSecs", "forefront", "clientKey"],
    "requestQueue_request_lock_delete": ["forefront", "clientKey"],
    "requestQueue_requests_unlock_post": ["clientKey"],
    "requestQueue_requests_post": ["forefront", "clientKey"],
    "requestQueue_requests_batch_post": ["forefront", "clientKey"],
    "requestQueue_request_put": ["forefront", "clientKey"],
}


Call = tuple[str, str, bytes | None]


class Target:
    """Fills paths: with things that exist, but for the one value under test."""

    def __init__(self, ids: dict[str, str]) -> None:
        self.ids = ids

    def path(self, route: Route, **replaced: str) -> str:
        return route.path.format(**{**self.ids, **replaced})


@pytest.fixture
async def target(server: StorageServer) -> Target:
    ids = {"recordKey": "KEY", "requestId": "8OamqXBCpPHxyH9", "runId": "run", "actorId": "actor"}
    for name, kind in (("datasetId", "datasets"), ("storeId", "key-value-stores"), ("queueId", "request-queues")):
        ids[name] = data(await server.request("POST", f"/v2/{kind}"))["id"]
    server.runs["run"] = server.runs["actor"] = DefaultStorageIds(ids["datasetId"], ids["storeId"], ids["queueId"])
    request = b'{"uniqueKey":"http://example.com","url":"http://example.com"}'
    await server.request("POST", f"/v2/request-queues/{ids['queueId']}/requests", request)
    await server.request("POST", f"/v2/datasets/{ids['datasetId']}/items", b'{"a":{"b":[1,{"c":2}]}}')
    await server.request("PUT", f"/v2/key-value-stores/{ids['storeId']}/records/KEY", b"value")
    return Target(ids)


def body_for(route: Route) -> bytes | None:
    return b"{}" if route.method in ("POST", "PUT") else None


def own_routes(server: StorageServer) -> list[Route]:
    """Without the aliases, which share their handlers, and without what would delete the storages under test."""
    routes = [route for route in server.routes if not route.operation_id.startswith("actor")]
    return [route for route in routes if route.method != "DELETE" or "/batch" in route.path]


async def walk(server: StorageServer, calls: list[Call]) -> list[Answer]:
    """Every answer is one of ours: nothing of 500 and above, and every refusal in the API's envelope."""
    answers = await server.requests(calls)
    for (method, path, body), answer in zip(calls, answers, strict=True):
        shown = (method, path[:150], None if body is None else body[:150], answer.status, answer.body[:300])
        assert answer.status < 500, shown
        if answer.status >= 400 and method != "HEAD":
            error = json.loads(answer.body)["error"]
            assert {"type", "message"} <= set(error) <= {"type", "message", "data"}, shown
            assert 0 < len(error["message"]) < 1000, shown
    return answers


async def test_hostile_paths(server: StorageServer, target: Target) -> None:
    calls: list[Call] = []
    for route in server.routes:
        for name in target.ids:
            if f"{{{name}}}" in route.path:
                paths = (target.path(route, **{name: value}) for value in PATH_VALUES)
                calls += [(route.method, path, body_for(route)) for path in paths]
    assert len(calls) > 2000
    await walk(server, calls)


async def test_hostile_queries(server: StorageServer, target: Target) -> None:
    calls: list[Call] = []
    for route in own_routes(server):
        for name in (*PARAMETERS.get(route.operation_id, ()), "token"):
            paths = (f"{target.path(route)}?lockSecs=5&{name}={value}" for value in QUERY_VALUES)
            calls += [(route.method, path, body_for(route)) for path in paths]
    calls += [("GET", f"/v2/datasets?limit=1&{'x' * 50_000}&limit=2", None)]
    await walk(server, calls)


async def test_hostile_bodies(server: StorageServer, target: Target) -> None:
    calls: list[Call] = []
    for route in own_routes(server):
        calls += [(route.method, f"{target.path(route)}?lockSecs=5", body) for body in BODIES]
    await walk(server, calls)
    await _everything_reads(server, target)


async def test_hostile_fields(server: StorageServer, target: Target) -> None:
    calls: list[Call] = []
    numbers = count()
    for route in own_routes(server):
        if body_for(route) is None or "/records/" in route.path:
            continue
        is_batch = "batch" in route.path
        for name in REQUEST_FIELDS if "/requests" in route.path else STORAGE_FIELDS:
            for value in FIELD_VALUES:
                unique_key = f'"{next(numbers)}"' if is_batch else '"http://example.com"'
                fields = {"uniqueKey": unique_key, "url": '"u"', name: value}
                text = "{" + ",".join(f'"{key}":{part}' for key, part in fields.items()) + "}"
                body = f"[{text}]" if is_batch else text
                calls.append((route.method, f"{target.path(route)}?lockSecs=5", body.encode()))
    await walk(server, calls)
    await _everything_reads(server, target)


async def _everything_reads(server: StorageServer, target: Target) -> None:
    """What was accepted comes back: reading never fails because of what was stored."""
    calls: list[Call] = [("GET", target.path(route), None) for route in own_routes(server) if route.method == "GET"]
    items = f"/v2/datasets/{target.ids['datasetId']}/items"
    calls += [("GET", f"{items}?format={name}", None) for name in ("jsonl", "csv", "html", "xlsx", "xml", "rss")]
    calls.append(("POST", f"/v2/request-queues/{target.ids['queueId']}/head/lock?lockSecs=5", None))
    assert {answer.status for answer in await walk(server, calls)} == {200, 201}


WRONG = {
    "a whole number": ("abc", "1.5", "-1", "9" * 30, "1_0", "%D9%A3", "%00"),
    "true, false, 1 or 0": ("yes", "2", "%00", "1,0"),
    "one of": ("xyz", "%00", "JSON"),
}
TYPED = {
    "datasets_get": {"offset": "a whole number", "limit": "a whole number", "desc": "true, false, 1 or 0"},
    "keyValueStores_get": {"unnamed": "true, false, 1 or 0", "ownership": "one of"},
    "dataset_items_get": {
        **dict.fromkeys(("offset", "limit"), "a whole number"),
        **dict.fromkeys(("desc", "clean", "skipHidden", "skipEmpty", "simplified"), "true, false, 1 or 0"),
        **dict.fromkeys(("skipFailedPages", "attachment", "bom", "skipHeaderRow"), "true, false, 1 or 0"),
        "format": "one of",
    },
    "keyValueStore_keys_get": {"limit": "a whole number"},
    "keyValueStore_record_get": {"attachment": "true, false, 1 or 0"},
    "requestQueue_requests_get": {"limit": "a whole number", "filter": "one of"},
    "requestQueue_head_get": {"limit": "a whole number"},
    "requestQueue_head_lock_post": {"limit": "a whole number", "lockSecs": "a whole number"},
    "requestQueue_request_lock_put": {"lockSecs": "a whole number", "forefront": "true, false, 1 or 0"},
    "requestQueue_request_lock_delete": {"forefront": "true, false, 1 or 0"},
    "requestQueue_requests_post": {"forefront": "true, false, 1 or 0"},
    "requestQueue_requests_batch_post": {"forefront": "true, false, 1 or 0"},
    "requestQueue_request_put": {"forefront": "true, false, 1 or 0"},
}


async def test_wrong_types_are_refused_by_name(server: StorageServer, target: Target) -> None:
    routes = {route.operation_id: route for route in server.routes}
    calls: list[Call] = []
    wanted: list[tuple[str, str]] = []
    for operation, parameters in TYPED.items():
        route = routes[operation]
        for name, allowed in parameters.items():
            others = "" if name == "lockSecs" else "lockSecs=5&"
            for value in WRONG[allowed]:
                calls.append((route.method, f"{target.path(route)}?{others}{name}={value}", body_for(route)))
                wanted.append((name, allowed))
    answers = await walk(server, calls)
    for call, answer, (name, allowed) in zip(calls, answers, wanted, strict=True):
        assert answer.status == 400, call
        message = json.loads(answer.body)["error"]["message"]
        assert f"parameter {name} has an invalid value" in message, (call, message)
        assert allowed in message, (call, message)


async def test_every_path_answers_options_and_refuses_other_methods(server: StorageServer, target: Target) -> None:
    by_path: dict[str, set[str]] = {}
    for route in server.routes:
        by_path.setdefault(target.path(route), set()).add(route.method)
    calls: list[Call] = []
    wanted: list[int] = []
    for path, methods in by_path.items():
        refused = [] if "GET" in methods else ["HEAD"]
        refused += [method for method in ("PATCH", "TRACE", "POST", "PUT") if method not in methods]
        calls += [("OPTIONS", path, None), *((method, path, None) for method in refused)]
        wanted += [204, *(405 for _ in refused)]
    assert [answer.status for answer in await walk(server, calls)] == wanted
