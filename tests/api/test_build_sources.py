"""Builds of versions whose sources are elsewhere, from the call to the image. openapi: actor_builds_post."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.git_server import commit
from support.program import Program

ACTOR = {
    "Dockerfile": 'FROM apify/actor-python:3.11\nCOPY . ./\nCMD ["python", "-S", "main.py"]\n',
    ".actor/actor.json": '{"actorSpecification": 1, "name": "x", "version": "0.0"}',
    "main.py": "print('hello')\n",
}


@pytest.fixture
async def building(tmp_path: Path) -> AsyncIterator[Program]:
    """The program with its build engine and native builder at work."""
    found = Program(tmp_path / "data", "", git_local_repositories="true")
    await found.start()
    await found.platform.native_builder.open()
    await found.platform.build_engine.start()
    yield found
    await found.platform.build_engine.stop()
    await found.platform.origins.close()
    await found.stop()


async def build(program: Program, version: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A finished build of a new Actor with this version, and its log."""
    name = f"actor-{version['sourceType'].lower().replace('_', '-')}-{len(str(version))}"
    body = {"name": name, "versions": [{"versionNumber": "0.0", **version}]}
    actor = await program.ask("POST", "/actors", body)
    made = await program.ask("POST", f"/actors/{actor['id']}/builds?version=0.0")
    async with asyncio.timeout(60):
        while (found := await program.ask("GET", f"/actor-builds/{made['id']}"))["finishedAt"] is None:
            await asyncio.sleep(0.02)
    log = await program.ask("GET", f"/logs/{made['id']}?raw=1")
    return found, (log or b"").decode()


async def test_a_git_repository_and_an_archive_become_images(building: Program, tmp_path: Path) -> None:
    head = commit(tmp_path / "mono", {f"actors/one/{name}": text for name, text in ACTOR.items()})
    version = {"sourceType": "GIT_REPO", "gitRepoUrl": f"file://{tmp_path}/mono#main:actors/one"}
    built, log = await build(building, version)
    assert built["status"] == "SUCCEEDED", log
    assert head in log
    assert built["actorDefinition"]["version"] == "0.0"

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        for name, text in ACTOR.items():
            zipped.writestr(f"top/{name}", text)
    store = await building.ask("POST", "/key-value-stores?name=sources")
    headers = {"Content-Type": "application/zip"}
    key = f"/key-value-stores/{store['id']}/records/version-0.0.zip"
    await building.send("PUT", key, content.getvalue(), headers=headers)
    built, log = await build(building, {"sourceType": "TARBALL", "tarballUrl": f"{building.url}/v2{key}?signature=x"})
    assert built["status"] == "SUCCEEDED", log
    assert not list((tmp_path / "data" / "downloads").iterdir())


async def test_sources_that_cannot_be_fetched_fail_the_build(building: Program, tmp_path: Path) -> None:
    built, log = await build(building, {"sourceType": "GIT_REPO", "gitRepoUrl": f"file://{tmp_path}/none"})
    assert (built["status"], "git ls-remote failed" in log) == ("FAILED", True)
    built, log = await build(building, {"sourceType": "TARBALL", "tarballUrl": f"{building.url}/v2/nothing"})
    assert (built["status"], "the answer was 404" in log) == ("FAILED", True)
    assert not list((tmp_path / "data" / "downloads").iterdir())
