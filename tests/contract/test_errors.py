"""Every refusal: status, type, and a message that names what is wrong. One shape everywhere."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest

from actorium.api.http import Route, Router
from actorium.app.platform import Platform as Program
from actorium.settings import load_settings
from support.openapi import Operation, given_document, plain
from support.platform import Platform, Refused

pytestmark = [pytest.mark.xdist_group("contract")]

NOBODY = "A" * 17
UNDOCUMENTED = ("schedule_invoke_post",)


def all_routes(tmp_path: Path) -> list[Route]:
    program = Program(load_settings({"data_dir": str(tmp_path / "routes")}, {}), "http://127.0.0.1:1")
    return list(program.api.router.routes)


def path_of(route: Route) -> str:
    return re.sub(r"\{versionNumber\}", "0.0", re.sub(r"\{(?!versionNumber)\w+\}", NOBODY, route.path))


def refused(platform: Platform, method: str, path: str, body: Any = None, **more: Any) -> Refused:
    with pytest.raises(Refused) as error:
        platform.call(method, path, body, **more)
    return error.value


def test_every_route_refuses_in_the_same_shape(platform: Platform, tmp_path: Path) -> None:
    for route in all_routes(tmp_path):
        if route.path.startswith("/actorium/"):
            continue
        where = f"{route.method} {route.path}"
        if route.method == "HEAD":
            continue
        wrong = refused(platform, route.method, path_of(route), token="not-a-token-of-anybody")
        assert (wrong.status, wrong.type) == (401, "invalid-token"), where
        if not route.public:
            missing = refused(platform, route.method, path_of(route), token=None)
            assert (missing.status, missing.type) == (401, "token-not-provided"), where
        if "{" in route.path and route.operation_id != "user_get":
            absent = refused(platform, route.method, path_of(route) + "?version=0.0&lockSecs=5", {"url": "u"})
            assert absent.status in (400, 404), where
            assert absent.message, where


def test_unknown_things_are_404_record_not_found(platform: Platform, sleeper: str) -> None:
    for path in (
        f"/v2/actors/{NOBODY}",
        "/v2/actors/nobody~nothing",
        f"/v2/actor-runs/{NOBODY}",
        f"/v2/actor-builds/{NOBODY}",
        f"/v2/logs/{NOBODY}",
        f"/v2/datasets/{NOBODY}",
        f"/v2/datasets/{NOBODY}/items",
        f"/v2/key-value-stores/{NOBODY}/records/X",
        f"/v2/request-queues/{NOBODY}/head",
        f"/v2/actors/{sleeper}/versions/9.9",
        f"/v2/actors/{sleeper}/runs/last?status=TIMED-OUT",
    ):
        error = refused(platform, "GET", path)
        assert (error.status, error.type) == (404, "record-not-found"), path
    error = refused(platform, "POST", f"/v2/actors/{NOBODY}/runs")
    assert (error.status, error.type) == (404, "record-not-found")


def test_unknown_paths_and_methods(platform: Platform) -> None:
    error = refused(platform, "GET", "/v2/nothing")
    assert (error.status, error.type) == (404, "page-not-found")
    error = refused(platform, "PATCH", "/v2/actors")
    assert (error.status, error.type) == (405, "method-not-allowed")
    assert "GET" in error.message


def test_start_refuses_what_it_cannot_do(platform: Platform, sleeper: str) -> None:
    runs = f"/v2/actors/{sleeper}/runs"
    before = platform.call("GET", runs)["total"]
    for query, status, error_type, names in (
        ("memory=1000", 400, "invalid-request", "memory"),
        ("memory=64", 400, "invalid-request", "memory"),
        ("memory=65536", 400, "invalid-request", "memory"),
        ("memory=much", 400, "invalid-request", "memory"),
        ("timeout=-1", 400, "invalid-request", "timeout"),
        ("timeout=soon", 400, "invalid-request", "timeout"),
        ("waitForFinish=-1", 400, "invalid-request", "waitForFinish"),
        ("waitForFinish=now", 400, "invalid-request", "waitForFinish"),
        ("restartOnError=maybe", 400, "invalid-request", "restartOnError"),
        ("maxItems=0", 400, "max-items-must-be-greater-than-zero", "maxItems"),
        ("maxTotalChargeUsd=0", 400, "max-total-charge-usd-must-be-greater-than-zero", "maxTotalChargeUsd"),
        ("build=nope", 403, "unknown-build-tag", "nope"),
        ("build=7.7.7", 403, "build-not-found", "7.7.7"),
        ("webhooks=%7B%7D", 400, "invalid-request", "webhooks"),
    ):
        error = refused(platform, "POST", f"{runs}?{query}")
        assert (error.status, error.type) == (status, error_type), query
        assert names in error.message, query
    assert platform.call("GET", runs)["total"] == before, "nothing was started"


def test_run_input_that_is_not_json(platform: Platform, sleeper: str) -> None:
    error = refused(platform, "POST", f"/v2/actors/{sleeper}/runs", b'{"a": ')
    assert (error.status, error.type) == (400, "run-input-body-not-valid-json")


def test_bodies_over_the_limit(platform: Platform, sleeper: str) -> None:
    big = b'"' + b"x" * 9_437_184 + b'"'
    error = refused(platform, "POST", f"/v2/actors/{sleeper}/runs", big)
    assert (error.status, error.type) == (413, "request-too-large")
    assert "9437184" in error.message
    bomb = gzip.compress(b" " * 200_000_000, 9)
    error = refused(platform, "POST", f"/v2/actors/{sleeper}/runs", bomb, headers={"Content-Encoding": "gzip"})
    assert (error.status, error.type) == (413, "request-too-large")
    error = refused(platform, "POST", f"/v2/actors/{sleeper}/runs", b"x", headers={"Content-Encoding": "bla"})
    assert (error.status, error.type) == (415, "unsupported-content-encoding")
    assert 'Content-Encoding "bla" is not supported.' in error.message


def test_lists_refuse_wrong_parameters(platform: Platform) -> None:
    for query in ("status=DONE", "offset=-1", "limit=x", "desc=perhaps", "startedAfter=yesterday"):
        error = refused(platform, "GET", f"/v2/actor-runs?{query}")
        assert (error.status, error.type) == (400, "invalid-request"), query
        assert query.partition("=")[0] in error.message
    assert platform.call("GET", "/v2/actor-runs?limit=999999&nonsense=1")["limit"] == 1000


def test_run_updates_are_checked(platform: Platform, echo: str) -> None:
    run = platform.call("POST", f"/v2/actors/{echo}/runs?memory=128&waitForFinish=30")
    path = f"/v2/actor-runs/{run['id']}"
    for body, names in (
        ({"statusMessage": 5}, "statusMessage"),
        ({"statusMessage": "x", "isStatusMessageTerminal": "yes"}, "isStatusMessageTerminal"),
        ({"generalAccess": "EVERYBODY"}, "generalAccess"),
        ([1], "JSON object"),
    ):
        error = refused(platform, "PUT", path, body)
        assert error.status == 400
        assert names in error.message
    error = refused(platform, "PUT", path, {"isStatusMessageTerminal": True})
    assert error.type == "cannot-set-is-status-message-terminal"
    updated = platform.call("PUT", path, {"statusMessage": "y" * 600, "isStatusMessageTerminal": True, "level": "INFO"})
    assert len(updated["statusMessage"]) == 500
    assert updated["statusMessage"].endswith("...")
    assert platform.call("PUT", path, {"generalAccess": "RESTRICTED"})["statusMessage"] == updated["statusMessage"]


def test_resurrect_is_checked(platform: Platform, echo: str) -> None:
    run = platform.call("POST", f"/v2/actors/{echo}/runs?memory=128&maxTotalChargeUsd=5&waitForFinish=30")
    path = f"/v2/actor-runs/{run['id']}/resurrect"
    for query, error_type in (
        ("memory=0", "invalid-request"),
        ("timeout=-1", "invalid-request"),
        ("build=nope", "unknown-build-tag"),
        ("maxTotalChargeUsd=1", "parameters-mismatched"),
    ):
        assert refused(platform, "POST", f"{path}?{query}").type == error_type, query
    assert "maxTotalChargeUsd" not in platform.call("POST", f"{path}?maxTotalChargeUsd=0")["options"]


def test_users_see_only_their_own(platform: Platform, sleeper: str) -> None:
    platform.cli("users", "add", "eve")
    token = platform.cli("tokens", "create", "eve", "--token", "eves-own-token-for-tests").strip()
    run = platform.call("POST", f"/v2/actors/{sleeper}/runs?memory=128")
    for method, path in (
        ("GET", f"/v2/actors/{sleeper}"),
        ("GET", f"/v2/actor-runs/{run['id']}"),
        ("POST", f"/v2/actor-runs/{run['id']}/abort"),
        ("GET", f"/v2/logs/{run['id']}"),
        ("DELETE", f"/v2/actor-runs/{run['id']}"),
        ("GET", f"/v2/actor-builds/{run['buildId']}"),
        ("GET", f"/v2/datasets/{run['defaultDatasetId']}"),
        ("POST", f"/v2/actors/{sleeper}/runs"),
    ):
        error = refused(platform, method, path, token=token)
        assert (error.status, error.type) == (404, "record-not-found"), path
    for path in ("/v2/actors", "/v2/actor-runs", "/v2/actor-builds", "/v2/datasets?unnamed=1"):
        assert platform.call("GET", path, token=token)["total"] == 0, path
    platform.call("POST", f"/v2/actor-runs/{run['id']}/abort")
    platform.ended(run["id"])
    tokens = platform.cli("tokens", "list", "eve")
    platform.cli("tokens", "revoke", re.findall(r"[A-Za-z0-9]{17}", tokens)[0])
    platform.cli("users", "remove", "eve")


@pytest.fixture(scope="session")
def documented() -> dict[tuple[str, str], Operation]:
    """The operations of the API's own document, where one is given, by method and path without parameter names."""
    return {(found.method, plain(found.path)): found for found in given_document().operations.values()}


def test_every_route_is_an_operation_of_the_api(tmp_path: Path, documented: dict[tuple[str, str], Operation]) -> None:
    """Paths, methods and operation ids are those of the document, but for what the platform serves and hides."""
    wrong = []
    for route in all_routes(tmp_path):
        if route.path.startswith("/actorium/") or route.operation_id in UNDOCUMENTED:
            continue
        operation = documented.get((route.method, plain(route.path)))
        known = operation.id if operation else None
        if known != route.operation_id:
            wrong.append(f"{route.method} {route.path}: {route.operation_id}, the document says {known}")
    assert not wrong, "\n".join(wrong)


def test_every_storage_operation_of_the_api_is_served(
    tmp_path: Path, documented: dict[tuple[str, str], Operation]
) -> None:
    """Datasets, key-value stores and request queues, and the default ones below runs and last runs."""
    tags = re.compile(r"Storage/|(Last Actor( task)? run's d|D)efault (dataset|key-value store|request queue)")
    wanted = {
        key: operation.id for key, operation in documented.items() if any(tags.match(tag) for tag in operation.tags)
    }
    assert len(wanted) == 38 + 3 * 30
    routes = all_routes(tmp_path)
    served = {(route.method, plain(route.path)): route.operation_id for route in routes}
    assert {operation for key, operation in wanted.items() if served.get(key) != operation} == set()
    router = Router(routes)
    for method, path in wanted:
        found = router.find(path.replace("/actors/", "/acts/", 1).replace("{}", NOBODY))
        assert found is not None and method in found[0], path
