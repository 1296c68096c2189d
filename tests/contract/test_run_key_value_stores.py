"""The key-value store schema an Actor defines for its runs, and the largest record, on a real server."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from support.platform import TOKEN, Platform, Refused, python_actor

_SCHEMA = {
    "actorKeyValueStoreSchemaVersion": 1,
    "title": "Files",
    "collections": {
        "pages": {"title": "Pages", "keyPrefix": "page-", "contentTypes": ["text/html"]},
        "result": {"title": "Result", "key": "OUTPUT", "jsonSchema": {"type": "object", "required": ["done"]}},
        "input": {"title": "Input", "key": "INPUT", "contentTypes": ["text/html"]},
    },
}
_MAIN = """
import os
from urllib.error import HTTPError
from urllib.request import Request, urlopen

store = os.environ["APIFY_API_BASE_URL"] + "/v2/key-value-stores/" + os.environ["ACTOR_DEFAULT_KEY_VALUE_STORE_ID"]
for key, content_type, body in (
    ("page-1", "text/html; charset=utf-8", b"<p>"), ("page-2", "text/plain", b"<p>"),
    ("OUTPUT", "application/json", b"{}"), ("OUTPUT", "application/json", b'{"done": true}'),
):
    headers = {"Authorization": "Bearer " + os.environ["APIFY_TOKEN"], "Content-Type": content_type}
    try:
        print(key, urlopen(Request(store + "/records/" + key, body, headers, method="PUT")).status)
    except HTTPError as error:
        print(key, error.code)
"""


def _files(schema: dict[str, Any]) -> dict[str, str]:
    definition = {
        "actorSpecification": 1,
        "name": "files",
        "version": "0.0",
        "storages": {"keyValueStore": "./kvs.json"},
    }
    return {
        **python_actor(_MAIN),
        ".actor/actor.json": json.dumps(definition),
        ".actor/kvs.json": json.dumps(schema),
    }


def test_a_run_is_held_to_the_schema_of_its_actor(platform: Platform) -> None:
    actor = platform.build_actor("files", _files(_SCHEMA))
    run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=128", {"an": "input no schema holds for"})
    assert platform.ended(run["id"])["status"] == "SUCCEEDED", platform.log_lines(run["id"])
    assert platform.log_lines(run["id"]) == ["page-1 201", "page-2 400", "OUTPUT 400", "OUTPUT 201"]
    store = f"/v2/actor-runs/{run['id']}/key-value-store"
    assert platform.call("GET", store)["schema"] == _SCHEMA
    pages = platform.call("GET", f"{store}/keys?collection=pages")
    assert [item["key"] for item in pages["items"]] == ["page-1"]
    for path in (store, f"/v2/acts/{actor}/runs/last/key-value-store"):
        request = Request(
            f"{platform.url}{path}/records?status=SUCCEEDED", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with tempfile.TemporaryFile() as file:
            file.write(urlopen(request).read())
            with zipfile.ZipFile(file) as archive:
                assert archive.namelist() == ["INPUT", "OUTPUT", "page-1"]
                assert json.loads(archive.read("OUTPUT")) == {"done": True}


def test_a_broken_schema_fails_the_build(platform: Platform) -> None:
    broken = {"collections": {"c": {"title": "Neither key nor prefix"}}}
    with pytest.raises(AssertionError, match="exactly one of key and keyPrefix"):
        platform.build_actor("broken-store-schema", _files(broken))


def test_the_largest_record_is_a_setting(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "data", "--set", "max_record_mbytes=2").start()
    try:
        platform.first_token()
        store = platform.call("POST", "/v2/key-value-stores")["id"]
        platform.call("PUT", f"/v2/key-value-stores/{store}/records/K", bytes(2 * 2**20))
        with pytest.raises(Refused) as refused:
            platform.call("PUT", f"/v2/key-value-stores/{store}/records/K", bytes(2 * 2**20 + 1))
        assert (refused.value.status, refused.value.type) == (413, "record-too-large")
        assert "2097152" in refused.value.message
    finally:
        platform.stop()
