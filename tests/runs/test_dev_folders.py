"""Registering folders that Actors are developed in; real runs of them are in tests/e2e. docs: development."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actorium.domain.errors import ApiError
from actorium.services.dev_folders import DevFolders
from support.program import ACTOR_ID, Program
from support.storage_server import error


@pytest.fixture
def folders(program: Program) -> DevFolders:
    return DevFolders(program.platform.db, program.clock)


async def test_an_actor_of_the_name_is_used_or_made(program: Program, folders: DevFolders, tmp_path: Path) -> None:
    assert (await folders.register("jane", tmp_path, "Counter", None)).id == ACTOR_ID
    made = await folders.register("john", tmp_path, "counter", None)
    assert made.id != ACTOR_ID
    assert (await program.ask("GET", f"/actors/{made.id}", by="john"))["name"] == "counter"
    assert sorted(await folders.forget(tmp_path)) == ["counter", "counter"]
    assert await folders.forget(tmp_path) == []


async def test_what_cannot_be_registered_is_named(folders: DevFolders, tmp_path: Path) -> None:
    short = tmp_path / "x"
    short.mkdir()
    for user, folder, said in (
        ("jane", short, "'x' is not a name for an Actor"),
        ("jane", tmp_path / "missing", "missing is not a folder of this machine"),
        ("nobody", tmp_path, "User was not found"),
    ):
        with pytest.raises(ApiError, match=said):
            await folders.register(user, folder, None, None)


async def test_a_folder_that_went_away_is_named(program: Program, folders: DevFolders, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    await folders.register("jane", folder, "counter", None)
    folder.rmdir()
    answer = await program.send("POST", f"/actors/{ACTOR_ID}/runs")
    assert error(answer)[:2] == (400, "invalid-request")
    assert f"{folder} is not a folder of this machine." in json.loads(answer.body)["error"]["message"]
    assert (await program.send("POST", f"/actors/{ACTOR_ID}/runs?build=0.1.1")).status == 201
    await folders.forget(folder)
    assert (await program.send("POST", f"/actors/{ACTOR_ID}/runs")).status == 201
