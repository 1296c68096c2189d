"""Secret inputs with the stock SDKs: the Actor reads them as they were given, nobody else does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.test_sdks import javascript
from support.platform import Platform

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("sdk")]

_FIELD = {"title": "T", "description": "D", "editor": "json", "isSecret": True}
_SCHEMA = {
    "title": "T",
    "type": "object",
    "schemaVersion": 1,
    "properties": {
        "word": {**_FIELD, "type": "string", "editor": "textfield"},
        "account": {**_FIELD, "type": "object"},
        "list": {**_FIELD, "type": "array"},
        "open": {"title": "T", "description": "D", "type": "string", "editor": "textfield", "default": "x"},
    },
}
_SECRETS = {"word": "s3cret wörd ☃", "account": {"password": "pässword"}, "list": ["first thing", 2, None]}

_PYTHON = """
import asyncio

from apify import Actor


async def main() -> None:
    async with Actor:
        found = await Actor.get_input()
        print("word is", found["word"], found["list"][0])
        await Actor.push_data(found)


asyncio.run(main())
"""
_JAVASCRIPT = """
import { Actor } from 'apify';

await Actor.init();
const found = await Actor.getInput();
console.log('word is', found.word, found.list[0]);
await Actor.pushData(found);
await Actor.exit();
"""


def files(name: str) -> dict[str, str]:
    if name == "javascript":
        made = javascript(_JAVASCRIPT)
        return {**made, "package.json": '{"type": "module", "dependencies": {"apify": "3.7.2"}}'}
    return {
        "Dockerfile": "FROM apify/actor-python:3.11\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\n"
        'COPY . ./\nCMD ["python", "main.py"]\n',
        "requirements.txt": "apify>=4.1,<5\n",
        "main.py": _PYTHON,
    }


def check(platform: Platform, run: dict[str, Any]) -> None:
    ended = platform.ended(run["id"])
    lines = platform.log_lines(run["id"])
    assert ended["status"] == "SUCCEEDED", lines
    assert platform.call("GET", f"/v2/datasets/{run['defaultDatasetId']}/items") == [{**_SECRETS, "open": "x"}]
    stored = platform.call("GET", f"/v2/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT")
    assert stored["word"].startswith("ENCRYPTED_VALUE:")
    assert stored["account"].startswith("ENCRYPTED_JSON:")
    assert any("word is" in line for line in lines)
    assert not any(word in line for line in lines for word in (_SECRETS["word"], "first thing"))


@pytest.mark.parametrize("name", ["python", pytest.param("javascript", marks=pytest.mark.node)])
def test_the_sdk_decrypts(platform: Platform, name: str) -> None:
    sources = {**files(name), ".actor/INPUT_SCHEMA.json": json.dumps(_SCHEMA)}
    actor = platform.build_actor(f"secrets-{name}", sources)
    check(platform, platform.call("POST", f"/v2/actors/{actor}/runs?memory=1024", _SECRETS))
    task = platform.call("POST", "/v2/actor-tasks", {"actId": actor, "name": f"secret-{name}", "input": _SECRETS})
    check(platform, platform.call("POST", f"/v2/actor-tasks/{task['id']}/runs?memory=1024"))
