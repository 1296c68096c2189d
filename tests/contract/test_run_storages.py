"""The storages an Actor defines for its runs: aliases, schemas, what the process is told of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.platform import Platform, Refused, python_actor

_ACTOR_JSON = {
    "actorSpecification": 1,
    "name": "stores",
    "version": "0.0",
    "storages": {
        "datasets": {
            "default": {"actorSpecification": 1, "fields": {"properties": {"n": {"type": "number"}}}},
            "errors": "./errors.json",
        },
    },
}
_ERRORS = {"actorSpecification": 1, "fields": {"type": "object", "required": ["message"]}, "views": {}}
_MAIN = """
import json, os
from urllib.request import Request, urlopen

ids = json.loads(os.environ["ACTOR_STORAGES_JSON"])
assert ids["datasets"]["default"] == os.environ["ACTOR_DEFAULT_DATASET_ID"], ids
url = os.environ["APIFY_API_BASE_URL"] + "/v2/datasets/" + ids["datasets"]["errors"] + "/items"
headers = {"Authorization": "Bearer " + os.environ["APIFY_TOKEN"], "Content-Type": "application/json"}
urlopen(Request(url, json.dumps({"message": "seen"}).encode(), headers)).read()
os.write(1, b"pushed\\n")
"""


def test_an_actor_has_the_datasets_it_defines(platform: Platform) -> None:
    files = {
        **python_actor(_MAIN),
        ".actor/actor.json": json.dumps(_ACTOR_JSON),
        ".actor/errors.json": json.dumps(_ERRORS),
    }
    actor = platform.build_actor("stores", files)
    run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=128")
    assert platform.ended(run["id"])["status"] == "SUCCEEDED", platform.log_lines(run["id"])
    ids: dict[str, Any] = run["storageIds"]["datasets"]
    assert set(ids) == {"default", "errors"}
    assert ids["default"] == run["defaultDatasetId"]
    assert platform.call("GET", f"/v2/datasets/{ids['errors']}/items") == [{"message": "seen"}]
    info = platform.call("GET", f"/v2/datasets/{ids['errors']}")
    assert (info["actRunId"], info["name"], info["schema"]) == (run["id"], None, _ERRORS)
    for dataset, item in ((ids["errors"], {"text": 1}), (ids["default"], {"n": "one"})):
        with pytest.raises(Refused) as refused:
            platform.call("POST", f"/v2/datasets/{dataset}/items", item)
        assert refused.value.type == "schema-validation-error"
    statistics = platform.call("GET", f"/v2/actor-runs/{run['id']}/dataset/statistics")
    assert set(statistics["fieldStatistics"]) == {"n"}
    platform.call("DELETE", f"/v2/actor-runs/{run['id']}")
    with pytest.raises(Refused):
        platform.call("GET", f"/v2/datasets/{ids['errors']}")


def test_a_broken_dataset_schema_fails_the_build(platform: Platform) -> None:
    broken = {"actorSpecification": 1, "storages": {"dataset": {"fields": {"type": "nope"}}}}
    files = {**python_actor("pass\n"), ".actor/actor.json": json.dumps(broken)}
    with pytest.raises(AssertionError, match="Dataset schema is not valid"):
        platform.build_actor("broken-schema", files)
