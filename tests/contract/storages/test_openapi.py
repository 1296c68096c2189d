"""The storage operations of the API's OpenAPI document answer as it says, and know each of its parameters."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from actorium.app.platform import Platform as Program
from actorium.domain.requests import request_id
from actorium.settings import load_settings
from support.openapi import Document, given_document
from support.platform import TOKEN, Platform, python_actor
from support.storage_operations import COLLECTIONS, PREFIXES, STEPS, ZIP, Bases, Step
from support.storage_server import Answer, send

pytestmark = [pytest.mark.xdist_group("storages"), pytest.mark.timeout(300)]

_IS_STORAGE = re.compile(
    r"/v2/(datasets|key-value-stores|request-queues)(/|$)|/(dataset|key-value-store|request-queue)(/|$)"
)
_ABSENT = "A" * 17
_JSON = {"Content-Type": "application/json"}

ACCEPTED = {
    r"data/items/\d+/name: null is not of type \"string\"": "unnamed storages have no name in lists either; the stock "
    "CLI and MCP server count on null, and the one client that refuses it gets an empty text",
}
"""Differences from the document that have to be, and why."""


def _is_accepted(problem: str) -> bool:
    return any(re.fullmatch(accepted, problem) for accepted in ACCEPTED)


@pytest.fixture(scope="module")
def document() -> Document:
    return given_document()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The ids of all operations of this server."""
    directory = tmp_path_factory.mktemp("routes")
    program = Program(load_settings({"data_dir": str(directory)}, {}), "http://127.0.0.1:1")
    return {route.operation_id for route in program.api.router.routes}


@pytest.fixture(scope="module")
def actor(platform: Platform) -> str:
    return platform.build_actor("openapi", python_actor("pass\n"))


class Checker:
    """Makes calls and collects what in their answers is not as the document says."""

    def __init__(self, platform: Platform, document: Document, prefix: str) -> None:
        self._platform = platform
        self._document = document
        self._prefix = prefix
        self.wrong: list[str] = []

    def call(
        self,
        step: Step,
        path: str,
        status: int | None,
        *,
        body: bytes | None = None,
        token: str | None = TOKEN,
        **headers: str,
    ) -> Answer:
        operation = self._prefix + step.operation
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent = {**_JSON, **sent}
        answer = send(self._platform.url, step.method, path, body, sent, token)
        where = f"{operation} {step.method} {path}: {answer.status}"
        if status is not None and answer.status != status:
            self.wrong.append(f"{where}, expected {status}: {answer.body[:200]!r}")
        elif answer.status >= 500:
            self.wrong.append(f"{where}: {answer.body[:200]!r}")
        # HEAD has no operations below a run; GET serves it.
        known = operation if operation in self._document.operations else operation.replace("_head", "_get")
        problems = self._document.problems(known, answer, is_head=step.method == "HEAD")
        self.wrong.extend(f"{where}: {problem}" for problem in problems if not _is_accepted(problem))
        return answer


def encoded(value: Any) -> bytes | None:
    return None if value is None else json.dumps(value).encode()


def test_every_storage_operation_has_an_example(document: Document) -> None:
    examples = {step.operation for step in STEPS}
    examples |= {f"{many}_{method}" for many in COLLECTIONS.values() for method in ("get", "post")}
    known = set()
    for found in document.operations.values():
        if _IS_STORAGE.search(found.path):
            prefix = next((one for one in ("actorTask_runs_last_", *PREFIXES) if one and found.id.startswith(one)), "")
            known.add(found.id.removeprefix(prefix))
    assert known == examples


@pytest.mark.parametrize("prefix", PREFIXES)
def test_answers_are_as_documented(
    platform: Platform, document: Document, served: set[str], actor: str, prefix: str
) -> None:
    check = Checker(platform, document, prefix)
    bases = PREFIXES[prefix](platform, actor)
    for step in STEPS:
        if prefix + step.operation not in served and step.operation == ZIP:
            continue
        path, body = bases[step.kind] + step.tail, encoded(step.body)
        without_query = path.partition("?")[0]
        check.call(step, path, 401, body=body, token="nobodys-token")
        check.call(step, path, None, body=body, token=None)
        if isinstance(step.bad, str):
            check.call(step, f"{without_query}?{step.bad}", 400, body=body)
        elif step.bad is not None:
            check.call(step, path, 400, body=step.bad)
            check.call(step, path, 415, body=step.bad, Content_Encoding="bla")
            check.call(step, path, 413, body=b" " * 9_437_185)
        succeeded = check.call(step, path, None, body=body)
        assert succeeded.status < 300, (step, succeeded.body)
        absent = re.sub(r"(/v2/[a-z-]+/)\w{17}", rf"\g<1>{_ABSENT}", path)
        assert absent != path
        check.call(step, absent, 404, body=body)
    assert not check.wrong, "\n".join(check.wrong)


def test_collections_are_as_documented(platform: Platform, document: Document, name: str) -> None:
    check = Checker(platform, document, "")
    for path, many in COLLECTIONS.items():
        listed, created = Step(f"{many}_get", "GET", ""), Step(f"{many}_post", "POST", "")
        check.call(created, f"/v2/{path}?name={name}", 201)
        check.call(created, f"/v2/{path}?name={name}", 200)
        check.call(created, f"/v2/{path}", 201)
        check.call(created, f"/v2/{path}?name=a_b", 400)
        check.call(created, f"/v2/{path}", 401, token=None)
        check.call(listed, f"/v2/{path}?unnamed=1", 200)
        check.call(listed, f"/v2/{path}", 200)
        check.call(listed, f"/v2/{path}?limit=x", 400)
        check.call(listed, f"/v2/{path}", 401, token="nobodys-token")
        refused = send(platform.url, "PATCH", f"/v2/{path}", token=TOKEN)
        assert refused.status == 405
        check.wrong.extend(document.problems(f"{many}_get", refused))
    assert not check.wrong, "\n".join(check.wrong)


GOOD = {
    "attachment": "1",
    "bom": "1",
    "clean": "true",
    "clientKey": "c",
    "cursor": "eyJyZXF1ZXN0SWQiOiJhIn0",
    "delimiter": "%3B",
    "desc": "1",
    "exclusiveStartId": "a",
    "exclusiveStartKey": "A",
    "feedDescription": "D",
    "feedTitle": "T",
    "fields": "a,b",
    "filter": "locked,pending",
    "flatten": "a",
    "forefront": "true",
    "format": "xml",
    "limit": "1",
    "lockSecs": "60",
    "name": "a-good-name",
    "offset": "0",
    "omit": "b",
    "origin": "API",
    "outputFields": "x&fields=a",
    "ownership": "ownedByMe",
    "prefix": "K",
    "signature": "any",
    "simplified": "0",
    "skipEmpty": "1",
    "skipFailedPages": "1",
    "skipHeaderRow": "1",
    "skipHidden": "1",
    "status": "SUCCEEDED",
    "unnamed": "0",
    "unwind": "a",
    "xmlRoot": "r",
    "xmlRow": "w",
}
"""A value of every query parameter that its operations accept."""

BAD = {
    "bom": "x",
    "clientKey": "k" * 33,
    "collection": "none",
    "cursor": "!",
    "delimiter": "abc",
    "filter": "handled",
    "forefront": "maybe",
    "format": "pdf",
    "lockSecs": "0",
    "name": "a_b",
    "origin": "MARS",
    "outputFields": "a,b&fields=a",
    "ownership": "theirs",
    "prefix": "a%20b",
    "status": "DONE",
    "view": "none",
    "xmlRoot": "1a",
    "xmlRow": "1a",
}
"""A value that is refused; for numbers and booleans any text that is none."""

ANY_TEXT = frozenset(
    (
        *("exclusiveStartId", "exclusiveStartKey", "feedDescription", "feedTitle", "fields", "flatten"),
        *("omit", "signature", "unwind"),
    )
)
"""Parameters of which no value is wrong."""

NEEDS_A_SCHEMA = frozenset({"collection", "view"})


def _bad_value(name: str, schema: dict[str, Any]) -> str | None:
    if name in BAD:
        return BAD[name]
    if name in ANY_TEXT:
        return None
    assert schema["type"] in ("number", "integer", "boolean"), f"{name} needs a bad value"
    return "x"


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_parameter_is_known_and_checked(
    platform: Platform, document: Document, actor: str, served: set[str], prefix: str
) -> None:
    check = Checker(platform, document, prefix)
    bases = PREFIXES[prefix](platform, actor)
    steps: dict[str, Step] = {}
    for step in STEPS:
        if prefix + step.operation in served:
            steps.setdefault(step.operation, step)
    for path, many in COLLECTIONS.items() if not prefix else ():
        steps |= {
            f"{many}_{method.lower()}": Step(f"{many}_{method.lower()}", method, path) for method in ("GET", "POST")
        }
    bases |= {path: f"/v2/{path}" for path in COLLECTIONS}
    for step in steps.values():
        path, _, given = (bases[step.kind] + step.tail).partition("?")
        for name, schema in document.operations[prefix + step.operation].query.items():
            # What deletes a whole storage can succeed only once: the clients' tests do that.
            if name not in NEEDS_A_SCHEMA and (step.tail or step.method != "DELETE"):
                _prepare(platform, bases)
                taken = check.call(step, f"{path}?{given}&{name}={GOOD[name]}", None, body=encoded(step.body))
                assert taken.status < 300, (step, name, taken.body)
            if (bad := _bad_value(name, schema)) is not None:
                refused = check.call(step, f"{path}?{given}&{name}={bad}", 400, body=encoded(step.body))
                message = "" if step.method == "HEAD" else json.loads(refused.body)["error"]["message"]
                if step.method != "HEAD" and not re.search(rf"\b{name}\b|{re.escape(bad)}", message, re.IGNORECASE):
                    check.wrong.append(f"{prefix}{step.operation}: {name}={bad} is not named: {message}")
    assert not check.wrong, "\n".join(check.wrong)


def _prepare(platform: Platform, bases: Bases) -> None:
    """Record ``K``; request ``1`` in the queue, locked by client ``c``."""
    request, queue = encoded({"url": "http://site/1", "uniqueKey": "1"}), bases["queue"]
    for method, path, body in (
        ("PUT", f"{bases['store']}/records/K", b"{}"),
        ("PUT", f"{queue}/requests/{request_id('1')}", request),
        ("POST", f"{queue}/head/lock?lockSecs=60&clientKey=c", None),
    ):
        answer = send(platform.url, method, path, body, {"Content-Type": "application/json"}, TOKEN)
        assert answer.status < 300, (path, answer.body)
