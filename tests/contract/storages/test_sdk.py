"""The stock Python SDK in real runs: storages by id, name and alias; queues of one client and of several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.platform import Platform

pytestmark = [pytest.mark.xdist_group("sdk-storages"), pytest.mark.timeout(400)]

_ACTOR_JSON = {
    "actorSpecification": 1,
    "name": "sdk-storages",
    "version": "0.0",
    "storages": {"datasets": {"default": {"actorSpecification": 1}, "errors": {"actorSpecification": 1}}},
}


@pytest.fixture(scope="session")
def sdk_actor(platform: Platform) -> str:
    files = {
        "Dockerfile": "FROM apify/actor-python:3.11\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\n"
        'COPY . ./\nCMD ["python", "main.py"]\n',
        "requirements.txt": "apify>=4.1,<5\ncrawlee>=1.11,<2\n",
        "main.py": (Path(__file__).parent / "sdk_actor.py").read_text(),
        ".actor/actor.json": json.dumps(_ACTOR_JSON),
    }
    return platform.build_actor("sdk-storages", files)


def start(platform: Platform, actor: str, scenario: str, access: str = "single", level: str = "FULL") -> str:
    path = f"/v2/actors/{actor}/runs?memory=512&forcePermissionLevel={level}_PERMISSIONS"
    run = platform.call("POST", path, {"scenario": scenario, "access": access})
    return str(run["id"])


def succeeded(platform: Platform, run_id: str) -> dict[str, Any]:
    run = platform.ended(run_id)
    assert run["status"] == "SUCCEEDED", "\n".join(platform.log_lines(run_id)[-30:])
    return run


@pytest.mark.parametrize("level", ["FULL", "LIMITED"])
@pytest.mark.parametrize("scenario", ["datasets", "key_value_stores"])
def test_datasets_and_stores(platform: Platform, sdk_actor: str, scenario: str, level: str) -> None:
    succeeded(platform, start(platform, sdk_actor, scenario, level=level))


@pytest.mark.parametrize(("access", "level"), [("single", "FULL"), ("shared", "FULL"), ("single", "LIMITED")])
def test_a_queue_from_empty_to_finished(platform: Platform, sdk_actor: str, access: str, level: str) -> None:
    run = succeeded(platform, start(platform, sdk_actor, "request_queue", access, level))
    queue = platform.call("GET", f"/v2/request-queues/{run['defaultRequestQueueId']}")
    assert (queue["totalRequestCount"], queue["handledRequestCount"]) == (302, 302)
    assert queue["hadMultipleClients"] is False


def test_runs_empty_a_queue_together(platform: Platform, sdk_actor: str) -> None:
    queue = platform.call("POST", "/v2/request-queues?name=sdk-shared")["id"]
    urls = [f"http://site/{n}" for n in range(300)]
    for position in range(0, len(urls), 25):
        batch = [{"url": url, "uniqueKey": url} for url in urls[position : position + 25]]
        platform.call("POST", f"/v2/request-queues/{queue}/requests/batch", batch)
    runs = [start(platform, sdk_actor, "worker", "shared") for _ in range(2)]
    handled: list[str] = []
    for run_id in runs:
        run = succeeded(platform, run_id)
        items = platform.call("GET", f"/v2/datasets/{run['defaultDatasetId']}/items")
        handled += [item["url"] for item in items]
    assert sorted(handled) == sorted(urls), "every request once, by one of the runs"
    info = platform.call("GET", f"/v2/request-queues/{queue}")
    assert (info["handledRequestCount"], info["pendingRequestCount"]) == (300, 0)
    assert info["hadMultipleClients"] is True
    assert platform.call("GET", f"/v2/request-queues/{queue}/requests?filter=locked")["items"] == []
    platform.call("DELETE", f"/v2/request-queues/{queue}")
