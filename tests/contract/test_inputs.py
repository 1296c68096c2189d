"""Inputs and input schemas with the stock Python client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from apify_client import ApifyClient
from apify_client.errors import ApifyApiError

from support.platform import TOKEN, Platform, python_actor

pytestmark = [pytest.mark.xdist_group("client"), pytest.mark.timeout(200)]

_SCHEMA = {
    "title": "T",
    "type": "object",
    "schemaVersion": 1,
    "properties": {
        "url": {"title": "U", "description": "D", "type": "string", "editor": "textfield", "pattern": "^https?://"},
        "count": {"title": "C", "description": "D", "type": "integer", "default": 3},
    },
    "required": ["url"],
}


@pytest.fixture
def client(platform: Platform) -> ApifyClient:
    return ApifyClient(TOKEN, api_url=platform.url, max_retries=1)


def sources(schema: Any, **actor_json: Any) -> dict[str, str]:
    definition = {"actorSpecification": 1, "name": "x", "version": "0.0", "input": "./in.json", **actor_json}
    return {
        **python_actor("print('hello')\n"),
        ".actor/actor.json": json.dumps(definition),
        ".actor/in.json": json.dumps(schema),
    }


def test_validation_and_starts(client: ApifyClient, platform: Platform) -> None:
    expression = "get(input, 'count') > 100 ? 512 : input.none * 2"
    actor = client.actor(platform.build_actor("inputs", sources(_SCHEMA, defaultMemoryMbytes=expression)))
    assert actor.validate_input({"url": "http://a"}) is True
    assert actor.validate_input({"url": "http://a"}, build="latest") is True
    for given in ({}, {"url": 3}, {"url": "ftp://a"}):
        for call in (actor.validate_input, lambda value: actor.start(run_input=value)):
            with pytest.raises(ApifyApiError) as error:
                call(given)
            assert (error.value.status_code, error.value.type) == (400, "invalid-input")
            assert "Input is not valid: Field input.url " in str(error.value)
    run = actor.call(run_input={"url": "http://a", "count": 101}, logger=None)
    assert run is not None
    assert (run.status, run.options.memory_mbytes) == ("SUCCEEDED", 512)
    stored = client.key_value_store(run.default_key_value_store_id).get_record("INPUT")
    assert stored is not None
    assert stored["value"] == {"url": "http://a", "count": 101}
    run = actor.call(run_input={"url": "http://a"}, logger=None)
    assert run is not None
    assert run.options.memory_mbytes == 1024
    assert "WARNING: The expression of defaultMemoryMbytes gives no memory" in (client.run(run.id).log().get() or "")


def test_a_broken_schema_fails_the_build(client: ApifyClient) -> None:
    broken = {**_SCHEMA, "properties": {"url": {"title": "U", "description": "D", "type": "string"}}}
    files = [{"name": name, "format": "TEXT", "content": text} for name, text in sources(broken).items()]
    version = {"versionNumber": "0.0", "sourceType": "SOURCE_FILES", "buildTag": "latest", "sourceFiles": files}
    actor = client.actor(client.actors().create(name="broken-inputs", versions=[version]).id)
    build = client.build(actor.build(version_number="0.0").id).wait_for_finish()
    assert build is not None
    assert build.status == "FAILED"
    message = "Input schema is not valid (Field schema.properties.url.editor is required)"
    assert message in (client.build(build.id).log().get() or "")
    with pytest.raises(ApifyApiError) as error:
        actor.start(run_input={})
    assert error.value.type == "unknown-build-tag"
