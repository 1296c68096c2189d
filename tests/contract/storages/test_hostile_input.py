"""Input nobody sends on purpose: always a clear refusal, never a 500, and nothing that spoils what is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.platform import TOKEN, Platform
from support.storage_server import Answer, data, error, send

pytestmark = [pytest.mark.xdist_group("storages")]


@pytest.fixture(scope="module")
def paths(platform: Platform) -> dict[str, str]:
    """Path beginnings of three storages."""
    return {
        kind: f"/v2/{path}/{platform.call('POST', f'/v2/{path}')['id']}"
        for kind, path in (("dataset", "datasets"), ("store", "key-value-stores"), ("queue", "request-queues"))
    }


def ask(platform: Platform, method: str, path: str, body: Any = None) -> Answer:
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return send(platform.url, method, path, raw, {"Content-Type": "application/json"} if raw else {}, TOKEN)


@pytest.mark.parametrize("bad", ["%00", "a%00b", "%FF", "%ED%A0%80", "%F0%9F%92%9B", "a" * 5000])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/datasets/{}"),
        ("GET", "/v2/datasets/~{}"),
        ("GET", "/v2/datasets/admin~{}"),
        ("GET", "/v2/datasets/{}~x"),
        ("DELETE", "/v2/request-queues/{}"),
        ("GET", "/v2/key-value-stores/{}/keys"),
        ("GET", "/v2/actor-runs/{}/dataset"),
        ("GET", "/v2/actors/{}/runs/last/dataset/items"),
        ("GET", "/v2/actors/admin~{}/runs/last/key-value-store"),
        ("GET", "{queue}/requests/{}"),
        ("DELETE", "{queue}/requests/{}"),
        ("PUT", "{queue}/requests/{}/lock?lockSecs=5"),
        ("DELETE", "{queue}/requests/{}/lock"),
        ("GET", "{store}/records/{}~"),
    ],
)
def test_path_segments(platform: Platform, paths: dict[str, str], method: str, path: str, bad: str) -> None:
    status, error_type = error(ask(platform, method, path.format(bad, **paths)))
    assert status in (400, 404), (status, error_type)


@pytest.mark.parametrize("path", ["{store}/keys?exclusiveStartKey=", "{queue}/requests?exclusiveStartId="])
@pytest.mark.parametrize("value", ["%00", "%FF", "%ED%A0%80", "~", "%7F", "a" * 5000])
def test_starts_of_lists_may_be_anything(platform: Platform, paths: dict[str, str], path: str, value: str) -> None:
    assert ask(platform, "GET", path.format(**paths) + value).status in (200, 400)


@pytest.mark.parametrize(
    "value", ["99999999999999999999", "9" * 5000, "1e3", "1.5", "0x10", "1_000", "%201", "+1", "%D9%A3", "NaN", "-1"]
)
@pytest.mark.parametrize(
    "path",
    [
        "/v2/datasets?offset={}",
        "/v2/key-value-stores?limit={}",
        "{dataset}/items?offset={}",
        "{dataset}/items?limit={}",
        "{store}/keys?limit={}",
        "{queue}/head?limit={}",
        "{queue}/requests?limit={}",
    ],
)
def test_numbers(platform: Platform, paths: dict[str, str], path: str, value: str) -> None:
    answer = ask(platform, "GET", path.format(value, **paths))
    assert error(answer) == (400, "invalid-request")
    name = path.partition("?")[2].partition("=")[0]
    assert f"Query parameter {name} " in json.loads(answer.body)["error"]["message"]


def test_the_largest_numbers(platform: Platform, paths: dict[str, str]) -> None:
    for number in (2**31, 2**53 - 1, 10**18 - 1):
        assert data(ask(platform, "GET", f"/v2/datasets?offset={number}"))["items"] == []
        assert ask(platform, "GET", f"{paths['dataset']}/items?offset={number}&limit={number}").body == b"[]"
        assert data(ask(platform, "GET", f"{paths['queue']}/head?limit={number}"))["limit"] == 1000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("handledAt", "9999-12-31T23:59:59-23:59"),
        ("handledAt", "0001-01-01T00:00:00+23:59"),
        ("handledAt", "0500-01-01T00:00:00Z"),
        ("handledAt", "soon"),
        ("handledAt", 5),
        ("handledAt", False),
        ("retryCount", 1.5),
        ("retryCount", 10**20),
        ("retryCount", True),
        ("retryCount", "1"),
        ("method", "FETCH"),
        ("method", ["GET"]),
        ("noRetry", "yes"),
        ("noRetry", 1),
        ("errorMessages", "x"),
        ("errorMessages", ["x", 1]),
        ("errorMessages", [None]),
        ("payload", [1]),
        ("payload", 5),
        ("loadedUrl", 5),
        ("userData", []),
        ("userData", "{}"),
        ("headers", [["a", "b"]]),
        ("uniqueKey", ""),
        ("uniqueKey", 5),
        ("url", None),
        ("id", 5),
    ],
)
def test_fields_of_requests(platform: Platform, paths: dict[str, str], field: str, value: Any) -> None:
    queue = paths["queue"]
    before = data(ask(platform, "GET", queue))["totalRequestCount"]
    request = {"url": "http://site", "uniqueKey": f"{field} {value}", field: value}
    for body, path in ((request, "requests"), ([{"url": "u", "uniqueKey": "u"}, request], "requests/batch")):
        answer = ask(platform, "POST", f"{queue}/{path}", body)
        assert answer.status == 400, answer.body
        said = json.loads(answer.body)["error"]["message"]
        assert field in said or (field == "id" and "Request ID" in said)
    assert data(ask(platform, "GET", queue))["totalRequestCount"] == before
    assert ask(platform, "GET", f"{queue}/requests").status == 200


def test_extreme_requests_come_back(platform: Platform) -> None:
    queue = f"/v2/request-queues/{platform.call('POST', '/v2/request-queues')['id']}"
    request = {
        "url": "not a URL at all",
        "uniqueKey": "k" * 10_000,
        "handledAt": "9999-12-31T23:59:59.999Z",
        "method": "PATCH",
        "payload": {"type": "Buffer", "data": [1]},
        "errorMessages": [],
        "noRetry": None,
        "retryCount": 2**31 - 1,
        "userData": {"": {"": []}},
        "headers": {"a": None},
    }
    added = data(ask(platform, "POST", f"{queue}/requests", request))
    found = data(ask(platform, "GET", f"{queue}/requests/{added['requestId']}"))
    assert found == {**request, "id": added["requestId"], "noRetry": False}
    assert data(ask(platform, "GET", f"{queue}/requests"))["items"] == [found]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "{dataset}", b'{"title": "a\\u0000b"}'),
        ("POST", "/v2/datasets", b'{"schema": {"a": "\\u0000"}}'),
        ("POST", "/v2/key-value-stores", b'{"schema": {"\\ud800": "\\u0000"}}'),
        ("POST", "{dataset}/items", b'{"a\\u0000b": "\\u0000", "": {"": 1}}'),
        ("POST", "{queue}/requests", b'{"url": "\\u0000", "uniqueKey": "\\u0000", "userData": {"a": "\\u0000"}}'),
        ("DELETE", "{queue}/requests/batch", b'[{"id": "\\u0000"}, {"uniqueKey": "\\ud800"}]'),
        ("POST", "{queue}/head/lock?lockSecs=1&clientKey=%00", None),
    ],
)
def test_texts_databases_do_not_like(
    platform: Platform, paths: dict[str, str], method: str, path: str, body: bytes | None
) -> None:
    """Stored or refused, as the database can; everything stays readable."""
    assert ask(platform, method, path.format(**paths), body).status in (200, 201, 400)
    for reading in ("{dataset}", "{queue}/requests", "{queue}/head", "/v2/datasets?unnamed=1"):
        assert ask(platform, "GET", reading.format(**paths)).status == 200
    for item_format in ("json", "jsonl", "csv", "html", "xlsx", "xml", "rss"):
        assert ask(platform, "GET", f"{paths['dataset']}/items?format={item_format}").status == 200
