"""What the stock clients do not send: parameters, methods and headers as other HTTP clients use them."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest

from actorium.domain.requests import request_id
from support.platform import TOKEN, Platform, python_actor
from support.storage_server import Answer, data, error, send

pytestmark = [pytest.mark.xdist_group("storages")]

_JSON = {"Content-Type": "application/json"}


class Http:
    """Plain calls to the platform as its first user."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, token: str | None = TOKEN
    ) -> Answer:
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return send(self.url, method, path, raw, _JSON if headers is None and raw else headers, token)

    def new(self, path: str, query: str = "") -> str:
        return f"/v2/{path}/{data(self('POST', f'/v2/{path}{query}'))['id']}"


@pytest.fixture
def http(platform: Platform) -> Http:
    return Http(platform.url)


PAGES = [
    {"url": "http://a", "pageFunctionResult": [{"n": 1}, {"n": 2}], "html": "x"},
    {"url": "http://b", "errorInfo": {"code": 5}, "pageFunctionResult": {"n": 3}},
    {"url": "http://c", "pageFunctionResult": None},
]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("simplified=1&limit=1", [{"url": "http://a", "n": 1}, {"url": "http://a", "n": 2}]),
        ("simplified=1&offset=1&limit=1", [{"url": "http://b", "n": 3, "errorInfo": {"code": 5}}]),
        ("simplified=1&skipFailedPages=1&fields=n&skipEmpty=1", [{"n": 1}, {"n": 2}]),
        ("skipFailedPages=true&fields=url", [{"url": "http://a"}, {"url": "http://c"}]),
        ("skipFailedPages=0&fields=url&limit=2", [{"url": "http://a"}, {"url": "http://b"}]),
        ("fields=url,html&outputFields=address,source&limit=1", [{"address": "http://a", "source": "x"}]),
        ("fields=url&fields=html&limit=1", [{"url": "http://a", "html": "x"}]),
        ("fields=url&desc&limit=1", [{"url": "http://c"}]),
        ("fields=url&desc=TRUE&limit=1&offset=", [{"url": "http://c"}]),
        ("unwind=pageFunctionResult&fields=n&limit=1", [{"n": 1}, {"n": 2}]),
        ("fields=&limit=1&omit=url,pageFunctionResult", [{"html": "x"}]),
    ],
)
def test_item_parameters(http: Http, query: str, expected: list[Any]) -> None:
    dataset = http.new("datasets")
    pushed = http("POST", f"{dataset}/items", PAGES)
    assert pushed.headers["Location"] == f"{http.url}{dataset}/items"
    answer = http("GET", f"{dataset}/items?{query}")
    found = json.loads(answer.body)
    assert [sorted(item.items(), key=str) for item in found] == [sorted(item.items(), key=str) for item in expected]
    head = http("HEAD", f"{dataset}/items?{query}")
    for name in ("Offset", "Limit", "Count", "Total", "Desc"):
        assert head.headers[f"X-Apify-Pagination-{name}"] == answer.headers[f"X-Apify-Pagination-{name}"]
    assert head.body == b""


def test_feeds_and_attachments_of_a_named_dataset(http: Http, name: str) -> None:
    dataset = http.new("datasets", f"?name={name}")
    http("POST", f"{dataset}/items", [{"title": "First", "link": "http://a"}])
    feed = http("GET", f"{dataset}/items?format=rss&feedDescription=All%20of%20it&attachment=1")
    assert feed.headers["Content-Disposition"] == f'attachment; filename="dataset_{name}.rss"'
    channel = ElementTree.fromstring(feed.body)[0]
    assert (channel.findtext("title"), channel.findtext("description")) == (f"Dataset {name}", "All of it")
    assert channel.findtext("item/link") == "http://a"
    plain = http("GET", f"{dataset}/items?format=rss&feedTitle=%3CT%3E")
    assert plain.headers["Content-Disposition"] is None
    assert ElementTree.fromstring(plain.body)[0].findtext("title") == "<T>"


def test_pushes_of_any_type_and_length(http: Http) -> None:
    dataset = http.new("datasets")
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/json; charset=UTF-8"}):
        assert http("POST", f"{dataset}/items", {"n": 1}, headers).status == 201
    chunked = send(http.url, "POST", f"{dataset}/items", iter([b'[{"n"', b": 1}]"]), _JSON, TOKEN)
    assert chunked.status == 201
    assert data(http("GET", dataset))["itemCount"] == 4


def test_the_method_parameter_overrides_the_verb(http: Http) -> None:
    store = http.new("key-value-stores")
    assert http("POST", f"{store}/records/K?method=put", {"n": 1}).status == 201
    assert json.loads(http("POST", f"{store}/records/K?method=GET").body) == {"n": 1}
    assert http("GET", f"{store}/records/K?method=DELETE").status == 204
    assert http("GET", f"{store}/records/K?method=nonsense").status == 404
    queue = http.new("request-queues")
    assert http("POST", f"{queue}?method=PUT", {"title": "T"}).status == 200
    assert data(http("GET", queue))["title"] == "T"
    assert error(http("POST", f"{queue}/head?method=PATCH")) == (405, "method-not-allowed")


def test_the_token_parameter(http: Http) -> None:
    for path in ("datasets", "key-value-stores", "request-queues"):
        created = http("POST", f"/v2/{path}?token={TOKEN}", token=None)
        assert created.status == 201
        assert created.headers["Location"] == f"{http.url}/v2/{path}/{data(created)['id']}"
        one = f"/v2/{path}/{data(created)['id']}"
        assert http("GET", f"{one}?token={TOKEN}", token=None).status == 200
        assert error(http("GET", f"{one}?token=wrong", token=None)) == (401, "invalid-token")
        assert error(http("GET", f"{one}?token={TOKEN}", token="wrong")) == (401, "invalid-token")
        for authorization in (f"bearer {TOKEN}", f"BEARER   {TOKEN}"):
            assert http("GET", one, headers={"Authorization": authorization}, token=None).status == 200
        assert http("DELETE", f"{one}?token={TOKEN}", token=None).status == 204


def test_records_by_post_and_head(http: Http) -> None:
    store = http.new("key-value-stores")
    stored = http("POST", f"{store}/records/K", b"<p>", {"Content-Type": "text/html; charset=iso-8859-2"})
    assert (stored.status, stored.body) == (201, b"{}")
    assert stored.headers["Location"] == f"{http.url}{store}/records/K"
    for query, disposition in (("", None), ("?attachment=0", None), ("?attachment=1", 'attachment; filename="K"')):
        for method, body in (("GET", b"<p>"), ("HEAD", b"")):
            answer = http(method, f"{store}/records/K{query}")
            assert (answer.status, answer.body) == (200, body)
            assert answer.headers["Content-Type"] == "text/html; charset=iso-8859-2"
            assert answer.headers["Content-Length"] == "3"
            assert answer.headers["Content-Disposition"] == disposition
    assert http("HEAD", f"{store}/records/absent").status == 404
    assert error(http("GET", f"{store}/keys?prefix=a%20b")) == (400, "invalid-record-key")
    assert b"prefix" in http("GET", f"{store}/keys?prefix=a%20b").body


@pytest.mark.parametrize(("segment", "key"), [("%2E", "."), ("%2e%2e", ".."), ("a%28b%29", "a(b)"), ("%41", "A")])
def test_keys_are_decoded_once(http: Http, segment: str, key: str) -> None:
    store = http.new("key-value-stores")
    assert http("PUT", f"{store}/records/{segment}", b"v").status == 201
    assert [item["key"] for item in data(http("GET", f"{store}/keys"))["items"]] == [key]
    assert http("GET", f"{store}/records/{segment}").body == b"v"
    url = data(http("GET", f"{store}/keys"))["items"][0]["recordPublicUrl"]
    assert http("GET", url.removeprefix(http.url), token=None).body == b"v"
    twice = segment.replace("%", "%25")
    assert error(http("GET", f"{store}/records/{twice}")) == (400, "invalid-record-key")
    assert http("DELETE", f"{store}/records/{segment}").status == 204


def test_a_queue_page_by_page_from_an_id(http: Http) -> None:
    queue = http.new("request-queues")
    requests = [{"url": f"http://site/{n}", "uniqueKey": str(n)} for n in range(10)]
    http("POST", f"{queue}/requests/batch", requests)
    found: list[str] = []
    query = "limit=4"
    while True:
        page = data(http("GET", f"{queue}/requests?{query}"))
        assert "cursor" not in page
        assert page.get("exclusiveStartId") == (found[-1] if found else None)
        if not page["items"]:
            break
        found += [item["id"] for item in page["items"]]
        query = f"limit=4&exclusiveStartId={found[-1]}"
    assert found == sorted(request_id(str(n)) for n in range(10))
    assert "exclusiveStartId" not in data(http("GET", f"{queue}/requests"))


def test_bodies_of_deletes_and_filters_in_both_spellings(http: Http) -> None:
    queue = http.new("request-queues")
    for n in range(4):
        http("POST", f"{queue}/requests?forefront=1", {"url": "http://site", "uniqueKey": str(n)})
    http("POST", f"{queue}/head/lock?lockSecs=60&limit=1")
    for query in ("filter=locked,pending", "filter=locked&filter=pending", "filter=pending"):
        assert len(data(http("GET", f"{queue}/requests?{query}"))["items"]) == 4
    body = iter([b'[{"uniqueKey": "3"},', b'{"id": "absent"}]'])
    deleted = send(http.url, "DELETE", f"{queue}/requests/batch", body, _JSON, TOKEN)
    assert [one.get("uniqueKey") for one in data(deleted)["processedRequests"]] == ["3", None]
    assert [item["uniqueKey"] for item in data(http("GET", f"{queue}/head"))["items"]] == ["2", "1", "0"]
    assert error(http("DELETE", f"{queue}/requests/batch")) == (400, "invalid-request")


def test_browsers_may_call(http: Http) -> None:
    dataset = http.new("datasets")
    asked = http("OPTIONS", f"{dataset}/items", headers={"Origin": "http://a", "Access-Control-Request-Method": "PUT"})
    assert asked.status == 204
    assert asked.headers["Access-Control-Allow-Origin"] == "*"
    assert {"GET", "HEAD", "POST", "PUT", "DELETE"} <= set(asked.headers["Access-Control-Allow-Methods"].split(", "))
    assert "Content-Encoding" in asked.headers["Access-Control-Allow-Headers"]
    for answer in (http("GET", f"{dataset}/items"), http("GET", "/v2/datasets/none"), http("GET", "/v2/datasets/a/b")):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "X-Apify-Pagination-Total" in answer.headers["Access-Control-Expose-Headers"]


def test_addresses_follow_the_host_that_was_asked(http: Http) -> None:
    dataset = http.new("datasets")
    shown = data(http("GET", dataset, headers={"Host": "storage.example:8443"}))
    assert shown["itemsPublicUrl"].startswith(f"http://storage.example:8443{dataset}/items?signature=")
    assert shown["consoleUrl"] == f"http://storage.example:8443/storage/datasets/{shown['id']}"


def test_heads_below_a_run(http: Http, platform: Platform) -> None:
    actor = platform.build_actor("heads", python_actor("pass\n"))
    run = platform.ended(platform.call("POST", f"/v2/actors/{actor}/runs?memory=128", {"a": 1})["id"])
    for base in (f"/v2/actor-runs/{run['id']}", f"/v2/actors/{actor}/runs/last", "/v2/acts/admin~heads/runs/last"):
        items = http("HEAD", f"{base}/dataset/items?status=SUCCEEDED&format=csv")
        assert (items.status, items.headers["X-Apify-Pagination-Total"], items.body) == (200, "0", b"")
        record = http("HEAD", f"{base}/key-value-store/records/INPUT")
        assert (record.status, record.headers["Content-Type"], record.body) == (200, "application/json", b"")
        assert http("HEAD", f"{base}/key-value-store/records/absent").status == 404
        assert http("HEAD", f"{base}/request-queue/head").status == 200
        allowed = http("PATCH", f"{base}/request-queue/requests")
        assert error(allowed) == (405, "method-not-allowed")
