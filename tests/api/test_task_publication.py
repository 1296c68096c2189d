"""Public tasks, as section 6 of the specification of Actors says: what one needs, who may, what ends it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actorium.domain import task_publication
from actorium.storage.db import Tx
from support.actors import add_actor
from support.checked import CheckedProgram
from support.program import ACTOR_ID, TASK_ID
from support.storage_server import error

PATH = f"/actor-tasks/{TASK_ID}"
PUBLIC = {"title": "Counter", "categories": ["OTHER"], "isPublic": True}
SCHEMA = {"properties": {"depth": {"type": "integer"}}}
DEFINITION = {"storages": {"dataset": {"views": {"overview": {}}}}}
CONFIG = {"inputSchemaFields": ["depth"], "datasetView": "overview", "seoDescription": "Counts"}
TYPE = "cannot-publish-actor-task"


async def prepare(checked: CheckedProgram, definition: dict[str, Any] | None = None) -> None:
    """The Actor is public; its build has an input field and a dataset with a view."""
    await checked.ask("PUT", f"/actors/{ACTOR_ID}", PUBLIC)

    async def op(tx: Tx) -> None:
        await tx.execute(
            "UPDATE builds SET input_schema = ?, actor_definition_json = ?",
            json.dumps(SCHEMA),
            json.dumps(definition or DEFINITION),
        )

    await checked.platform.db.write("build with schema", op)


async def test_what_a_public_task_needs(checked: CheckedProgram) -> None:
    reasons = []

    async def attempt(**body: Any) -> None:
        answer = await checked.send("PUT", PATH, {**body, "isPublic": True})
        assert error(answer) == (400, TYPE), body
        reasons.append(json.loads(answer.body)["error"]["message"].partition(": ")[2])

    await attempt()
    await prepare(checked)
    await attempt()
    await checked.ask("PUT", PATH, {"description": "Counts pages"})
    for key, value in CONFIG.items():
        await attempt()
        await checked.ask("PUT", PATH, {"publicConfig": {key: value}})
    await attempt(publicConfig={"inputSchemaFields": ["depth", "width"]})
    await attempt(publicConfig={"datasetView": "detail"})
    await attempt(publicConfig={"datasetName": "second"})
    assert reasons == [
        "its Actor is not public.",
        "field description is empty.",
        "field publicConfig.inputSchemaFields is empty.",
        "field publicConfig.datasetView is empty.",
        "field publicConfig.seoDescription is empty.",
        "field publicConfig.inputSchemaFields names 'width', which is not in the Actor's input schema.",
        "field publicConfig.datasetView names 'detail', which is no view of the dataset.",
        "the Actor declares no dataset 'second'.",
    ]
    shown = await checked.ask("GET", PATH)
    assert (shown["isPublic"], shown["publicConfig"]) == (False, {**CONFIG, "publishedAt": None})
    published = await checked.ask("PUT", PATH, {"isPublic": True})
    assert published["isPublic"] is True
    assert published["publicConfig"] == {**CONFIG, "publishedAt": published["modifiedAt"]}


async def test_a_public_task_stays_showable_until_it_is_withdrawn(checked: CheckedProgram) -> None:
    await prepare(checked, {"storages": {"datasets": {"default": {"views": {"overview": {}}}, "other": {}}}})
    body = {"actId": ACTOR_ID, "name": "shown", "description": "D", "publicConfig": CONFIG, "isPublic": True}
    checked.clock.advance(60)
    made = await checked.ask("POST", "/actor-tasks", body)
    path = f"/actor-tasks/{made['id']}"
    assert made["isPublic"] is True
    checked.clock.advance(60)
    again = await checked.ask("PUT", path, {"isPublic": True, "publicConfig": {}})
    assert again["publicConfig"] == made["publicConfig"], "it was public already"
    for change in ({"description": None}, {"publicConfig": None}, {"publicConfig": {"datasetView": "gone"}}):
        assert error(await checked.send("PUT", path, change)) == (400, TYPE), change
    assert (await checked.ask("GET", path))["publicConfig"] == made["publicConfig"]
    assert [item["isPublic"] for item in (await checked.ask("GET", "/actor-tasks?desc=1"))["items"]] == [True, False]
    withdrawn = await checked.ask("PUT", path, {"isPublic": False})
    assert withdrawn["publicConfig"] == {**CONFIG, "publishedAt": None}
    await checked.ask("PUT", path, {"isPublic": True})
    await checked.ask("PUT", f"/actors/{ACTOR_ID}", {"isPublic": False})
    assert (await checked.ask("GET", path))["isPublic"] is False, "its Actor is not public any more"


async def test_only_the_actors_owner_publishes_its_tasks(checked: CheckedProgram) -> None:
    await prepare(checked)
    body = {"actId": ACTOR_ID, "name": "of-john", "description": "D", "publicConfig": CONFIG}
    made = await checked.ask("POST", "/actor-tasks", body, by="john")
    for method, path in (("PUT", f"/actor-tasks/{made['id']}"), ("POST", "/actor-tasks")):
        answer = await checked.send(method, path, {**body, "name": f"x-{method}", "isPublic": True}, by="john")
        assert error(answer) == (403, "insufficient-permissions")


async def test_an_actor_has_so_many_public_tasks(checked: CheckedProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    assert task_publication.MAX_PUBLIC_TASKS == 50
    monkeypatch.setattr("actorium.services.tasks.MAX_PUBLIC_TASKS", 2)
    await prepare(checked)
    body = {"actId": ACTOR_ID, "description": "D", "publicConfig": CONFIG, "isPublic": True}
    first, _ = [await checked.ask("POST", "/actor-tasks", body) for _ in range(2)]
    assert error(await checked.send("POST", "/actor-tasks", body)) == (400, TYPE)
    await checked.ask("PUT", f"/actor-tasks/{first['id']}", {"isPublic": False})
    await checked.ask("POST", "/actor-tasks", body)
    other = await add_actor(checked, "other", input_schema=SCHEMA, **PUBLIC)
    await checked.ask("POST", "/actor-tasks", {**body, "actId": other})


@pytest.mark.parametrize(
    "config",
    [[], "x", {"seoTitle": "x" * 61}, {"seoDescription": "x" * 161}, {"inputSchemaFields": [1]}, {"datasetView": 5}],
)
async def test_configurations_that_are_refused(checked: CheckedProgram, config: Any) -> None:
    answer = await checked.send("PUT", PATH, {"publicConfig": config})
    assert error(answer) == (400, "schema-validation")
    assert "publicConfig" in json.loads(answer.body)["error"]["message"]
    assert error(await checked.send("PUT", PATH, {"isPublic": "yes"})) == (400, "schema-validation")
