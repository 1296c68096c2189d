"""How every call to a storage is answered: errors, methods, other origins."""

from __future__ import annotations

import json

from support.program import Program
from support.storage_kinds import (
    KINDS,
    NO_TOKEN,
    each_kind,
    message,
    new,
)
from support.storage_server import data, error


async def test_errors_have_one_shape(program: Program) -> None:
    ids = {kind: (await new(program, kind))["id"] for kind in KINDS}
    dataset, store, queue = (f"/{kind}/{ids[kind]}" for kind in KINDS)
    one = f"{queue}/requests/{'r' * 15}"
    big = b"[" + b" " * 9_437_184 + b"]"
    json_type = {"Content-Type": "application/json"}
    for expected, method, path, body, headers in (
        ((400, "invalid-request"), "GET", f"{dataset}/items?format=pdf", None, {}),
        ((400, "invalid-request"), "GET", f"{dataset}/items?limit=-1", None, {}),
        ((400, "invalid-request"), "POST", f"{dataset}/items", b"5", json_type),
        ((400, "invalid-value"), "POST", "/datasets?name=", None, {}),
        ((400, "invalid-record-key"), "GET", f"{store}/records/a%20b", None, {}),
        ((400, "invalid-record-key"), "PUT", f"{store}/records/{'k' * 257}", b"x", {}),
        ((400, "invalid-collection"), "GET", f"{store}/keys?collection=none", None, {}),
        ((400, "invalid-client-key"), "GET", f"{queue}/head?clientKey={'k' * 33}", None, {}),
        ((400, "invalid-client-key"), "GET", f"{queue}/head?clientKey=", None, {}),
        ((400, "invalid-content-type-header"), "PUT", f"{store}/records/K", b"x", {"Content-Type": "nonsense"}),
        ((400, "dataset-schema-invalid"), "POST", "/datasets", b'{"schema": {"fields": {"type": 5}}}', json_type),
        ((400, "requested-dataset-view-does-not-exist"), "GET", f"{dataset}/items?view=none", None, {}),
        ((400, "request-id-invalid"), "PUT", one, b'{"url": "u", "uniqueKey": "u"}', json_type),
        ((404, "record-not-found"), "GET", one, None, {}),
        ((404, "record-not-found"), "DELETE", one, None, {}),
        ((404, "record-not-found"), "PUT", f"{one}/lock?lockSecs=5", None, {}),
        ((404, "record-not-found"), "DELETE", f"{one}/lock", None, {}),
        ((404, "record-not-found"), "GET", f"{store}/records/none", None, {}),
        ((413, "request-too-large"), "POST", f"{dataset}/items", big, json_type),
        ((413, "request-too-large"), "POST", f"{queue}/requests/batch", big, json_type),
        ((415, "unsupported-content-encoding"), "POST", f"{dataset}/items", b"{}", {"Content-Encoding": "bla"}),
        ((415, "unsupported-content-encoding"), "PUT", f"{store}/records/K", b"{}", {"Content-Encoding": "bla"}),
        ((405, "method-not-allowed"), "PATCH", dataset, None, {}),
        ((405, "method-not-allowed"), "POST", store, None, {}),
        ((405, "method-not-allowed"), "DELETE", "/request-queues", None, {}),
        ((404, "page-not-found"), "GET", f"{dataset}/nothing", None, {}),
        ((404, "page-not-found"), "GET", f"{store}/records/a/b", None, {}),
        ((401, "invalid-token"), "GET", f"{dataset}?token=wrong", None, {"Authorization": "Bearer wrong"}),
    ):
        token = None if "Authorization" in headers else program.token("jane")
        answer = await program.request(method, f"/v2{path}", body, headers, token)
        assert error(answer) == expected, (method, path)
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        found = json.loads(answer.body)
        assert set(found) == {"error"}
        assert set(found["error"]) <= {"type", "message", "data"}
        assert found["error"]["message"]
    lock = f"{queue}/requests?clientKey=me"
    added = await program.ask("POST", lock, {"url": "u", "uniqueKey": "u", "handledAt": "2026-01-01T00:00:00Z"})
    refused = await program.send("PUT", f"{queue}/requests/{added['requestId']}/lock?lockSecs=5&clientKey=me")
    assert error(refused) == (400, "request-handled-or-locked")
    head = await program.send("HEAD", f"{store}/records/none")
    assert (head.status, head.body) == (404, b"")
    assert "OPTIONS" in message(await program.send("PATCH", dataset)), "the methods that are allowed are named"
    too_large = await program.request("POST", f"/v2{dataset}/items", big, json_type, program.token("jane"))
    assert message(too_large) == (
        f"The POST payload is too large (limit: 9437184 bytes, actual length: {len(big)} bytes)."
    )


@each_kind
async def test_method_and_token_in_the_query(program: Program, kind: str) -> None:
    token = program.token("jane")
    made = await program.request("GET", f"/v2/{kind}?method=POST&name=queried&token={token}", token=None)
    assert made.status == 201
    path = f"/v2/{kind}/{data(made)['id']}"
    changed = await program.request("POST", f"{path}?method=put&token={token}", b'{"title": "T"}', token=None)
    assert data(changed)["title"] == "T"
    assert (await program.request("GET", path, headers={"Authorization": f"bearer  {token}"}, token=None)).status == 200
    assert error(await program.request("POST", f"{path}?method=PATCH&token={token}", token=None))[0] == 405
    assert error(await program.request("GET", f"{path}?method=DELETE", token=None)) == NO_TOKEN
    wrong = await program.request("GET", f"{path}?token={token}", headers={"Authorization": "Bearer x"}, token=None)
    assert error(wrong) == (401, "invalid-token"), "the header comes first"
    assert (await program.request("GET", f"{path}?method=DELETE&token={token}", token=None)).status == 204
    assert (await program.request("GET", f"{path}?token={token}", token=None)).status == 404


async def test_other_origins(program: Program) -> None:
    made = (await new(program, "datasets"))["id"]
    asked = {
        "Origin": "https://elsewhere.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, content-type, content-encoding, x-own",
    }
    for path in ("/v2/datasets", f"/v2/datasets/{made}/items", "/v2/nothing"):
        answer = await program.request("OPTIONS", path, headers=asked, token=None)
        assert (answer.status, answer.body) == (204, b"")
        methods = {method.strip() for method in answer.headers["Access-Control-Allow-Methods"].split(",")}
        assert methods == {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"}
        allowed = answer.headers["Access-Control-Allow-Headers"]
        assert all(name in allowed for name in ("*", "Authorization", "Content-Type", "Content-Encoding"))
    exposed = (await program.send("GET", f"/datasets/{made}/items")).headers["Access-Control-Expose-Headers"]
    for name in ("Offset", "Limit", "Count", "Total", "Desc"):
        assert f"X-Apify-Pagination-{name}" in exposed
    assert "Location" in exposed and "X-RateLimit-Limit" in exposed


@each_kind
async def test_answers_say_what_they_depend_on(program: Program, kind: str) -> None:
    for _ in range(20):
        await new(program, kind)
    plain = await program.send("GET", f"/{kind}?unnamed=1")
    packed = await program.send("GET", f"/{kind}?unnamed=1", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip" and plain.headers["Content-Encoding"] is None
    for answer in (plain, packed):
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
