"""Schedules as section 3.1 of the specification of automation says: fields, names, actions, refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actorium.domain.schedules import MAX_SCHEDULES, MAX_TARGETS
from support.checked import CheckedProgram
from support.program import ACTOR_ID, TASK_ID
from support.storage_server import Answer, data, error

NOBODY = "A" * 17
ABSENT = (404, "record-not-found")
REFUSED = (400, "schema-validation")
RUN_ACTOR = {"type": "RUN_ACTOR", "actorId": ACTOR_ID}
RUN_TASK = {"type": "RUN_ACTOR_TASK", "actorTaskId": TASK_ID}


def message(answer: Answer) -> str:
    return str(json.loads(answer.body)["error"]["message"])


async def test_a_schedule_without_a_body(checked: CheckedProgram) -> None:
    answer = await checked.send("POST", "/schedules")
    made = data(answer)
    assert answer.status == 201
    assert answer.headers["Location"] == f"{checked.url}/v2/schedules/{made['id']}"
    now = made["createdAt"]
    assert made == {
        "id": made["id"],
        "userId": checked.people["jane"].user_id,
        "name": "my-schedule",
        "title": "My Schedule",
        "description": None,
        "cronExpression": "@daily",
        "timezone": "UTC",
        "isEnabled": False,
        "isExclusive": True,
        "createdAt": now,
        "modifiedAt": now,
        "nextRunAt": None,
        "lastRunAt": None,
        "notifications": {"email": True},
        "actions": [],
    }
    assert [(await checked.ask("POST", "/schedules"))["name"] for _ in range(2)] == ["my-schedule-1", "my-schedule-2"]
    assert (await checked.ask("POST", "/schedules", by="john"))["name"] == "my-schedule"


async def test_every_field_is_kept_and_changed_alone(checked: CheckedProgram) -> None:
    given: dict[str, Any] = {
        "name": "Nightly-1",
        "title": "Night",
        "description": "d",
        "cronExpression": "0 3 * * *",
        "timezone": "Europe/Prague",
        "isEnabled": True,
        "isExclusive": False,
        "notifications": {"email": False},
    }
    actions = [
        {
            **RUN_ACTOR,
            "runInput": {"body": '{"a": 1}', "contentType": "application/json"},
            "runOptions": {"build": "latest", "timeoutSecs": 60, "memoryMbytes": 256, "restartOnError": True},
        },
        {**RUN_TASK, "input": {"a": 1}},
    ]
    made = await checked.ask("POST", "/schedules", {**given, "actions": actions, "userId": "x", "unknown": 1})
    assert {name: made[name] for name in given} == given
    assert [{key: value for key, value in action.items() if key != "id"} for action in made["actions"]] == actions
    assert made["nextRunAt"] == "2026-01-01T02:00:00.000Z"
    path = f"/schedules/{made['id']}"
    assert await checked.ask("GET", path) == made
    checked.clock.advance(3600)
    unchanged = await checked.ask("PUT", path, {})
    assert {**unchanged, "modifiedAt": made["modifiedAt"]} == made
    assert unchanged["modifiedAt"] > made["modifiedAt"]
    for name, value, next_run_at in (
        ("title", None, "2026-01-01T02:00:00.000Z"),
        ("description", "other", "2026-01-01T02:00:00.000Z"),
        ("name", "other", "2026-01-01T02:00:00.000Z"),
        ("cronExpression", "*/10 * * * *", "2026-01-01T01:10:00.000Z"),
        ("timezone", "Asia/Tokyo", "2026-01-01T01:10:00.000Z"),
        ("isExclusive", True, "2026-01-01T01:10:00.000Z"),
        ("isEnabled", False, None),
        ("cronExpression", "@hourly", None),
        ("notifications", {"email": True}, None),
        ("isEnabled", True, "2026-01-01T02:00:00.000Z"),
    ):
        changed = await checked.ask("PUT", path, {name: value})
        given[name] = value
        assert {key: changed[key] for key in given} == given, name
        assert changed["nextRunAt"] == next_run_at, name
        assert changed["actions"] == made["actions"]
    for name in ("name", "cronExpression", "timezone", "isEnabled", "actions"):
        assert (await checked.ask("PUT", path, {name: None}))[name] == changed[name]


async def test_actions_are_replaced_as_a_whole_and_keep_known_ids(checked: CheckedProgram) -> None:
    made = await checked.ask("POST", "/schedules", {"actions": [RUN_ACTOR, RUN_TASK]})
    first, second = made["actions"]
    body = {"actions": [{**second}, {**RUN_ACTOR, "id": NOBODY}, {**first, "runInput": {"body": "x"}}, {**second}]}
    changed = (await checked.ask("PUT", f"/schedules/{made['id']}", body))["actions"]
    assert [changed[0]["id"], changed[2]["id"]] == [second["id"], first["id"]]
    assert len({action["id"] for action in changed}) == 4 and NOBODY not in {action["id"] for action in changed}
    assert changed[2]["runInput"] == {"body": "x", "contentType": "application/json; charset=utf-8"}
    assert (await checked.ask("PUT", f"/schedules/{made['id']}", {"actions": []}))["actions"] == []


async def test_targets_may_be_names_and_are_kept_as_ids(checked: CheckedProgram) -> None:
    actions = [
        {"type": "RUN_ACTOR", "actorId": "jane~counter"},
        {"type": "RUN_ACTOR_TASK", "actorTaskId": "jane/counter-task", "input": '{"text": 1}'},
    ]
    made = await checked.ask("POST", "/schedules", {"actions": actions})
    assert made["actions"][0]["actorId"] == ACTOR_ID
    assert made["actions"][1]["actorTaskId"] == TASK_ID
    assert made["actions"][1]["input"] == {"text": 1}


@pytest.mark.parametrize(
    ("fields", "refusal", "says"),
    [
        ({"name": "a"}, REFUSED, "name"),
        ({"name": "has space"}, REFUSED, "name"),
        ({"name": 7}, REFUSED, "name"),
        ({"title": 7}, REFUSED, "title"),
        ({"description": "x" * 5001}, REFUSED, "description has 5001 characters"),
        ({"cronExpression": "61 * * * *"}, (400, "cron-expression-invalid"), "Cron expression is not valid"),
        ({"cronExpression": "@reboot"}, (400, "cron-expression-invalid"), "@reboot"),
        ({"cronExpression": 7}, REFUSED, "cronExpression"),
        ({"timezone": "Mars/Phobos"}, REFUSED, "timezone is not an allowed value"),
        ({"timezone": {}}, REFUSED, "timezone is not an allowed value"),
        ({"isEnabled": "yes"}, REFUSED, "isEnabled"),
        ({"isExclusive": 1}, REFUSED, "isExclusive"),
        ({"notifications": []}, REFUSED, "notifications"),
        ({"notifications": {"email": "x"}}, REFUSED, "notifications.email"),
        ({"actions": {}}, REFUSED, "actions"),
        ({"actions": ["x"]}, REFUSED, "actions"),
        ({"actions": [{"type": "SLEEP"}]}, REFUSED, "RUN_ACTOR"),
        ({"actions": [{"type": ["RUN_ACTOR"]}]}, REFUSED, "RUN_ACTOR"),
        ({"actions": [{"type": "RUN_ACTOR"}]}, REFUSED, "actions.actorId"),
        ({"actions": [{"type": "RUN_ACTOR_TASK", "actorId": ACTOR_ID}]}, REFUSED, "actions.actorTaskId"),
        ({"actions": [{**RUN_ACTOR, "runInput": "x"}]}, REFUSED, "runInput"),
        ({"actions": [{**RUN_ACTOR, "runInput": {"body": {}}}]}, REFUSED, "runInput.body"),
        ({"actions": [{**RUN_ACTOR, "runInput": {"body": "x", "contentType": 7}}]}, REFUSED, "runInput.contentType"),
        (
            {"actions": [{**RUN_ACTOR, "runOptions": {"memoryMbytes": 100}}]},
            REFUSED,
            "Memory needs to be a power of two",
        ),
        ({"actions": [{**RUN_ACTOR, "runOptions": 7}]}, None, "options"),
        ({"actions": [{**RUN_TASK, "input": "["}]}, REFUSED, "actions.input"),
        ({"actions": [{**RUN_TASK, "input": [1]}]}, REFUSED, "actions.input"),
        (
            {"actions": [{"type": "RUN_ACTOR", "actorId": NOBODY}]},
            (404, "schedule-actor-not-found"),
            f'Actor with ID "{NOBODY}" not found',
        ),
        (
            {"actions": [{"type": "RUN_ACTOR_TASK", "actorTaskId": NOBODY}]},
            (404, "schedule-actor-task-not-found"),
            f'Actor task with ID "{NOBODY}" not found',
        ),
        (
            {"actions": [RUN_ACTOR] * (MAX_TARGETS + 1)},
            (403, "too-many-values"),
            "Schedule can have at most 10 Actors.",
        ),
        (
            {"actions": [RUN_TASK] * (MAX_TARGETS + 1)},
            (403, "too-many-values"),
            "Schedule can have at most 10 Actor tasks.",
        ),
    ],
)
async def test_refusals(
    checked: CheckedProgram, fields: dict[str, Any], refusal: tuple[int, str] | None, says: str
) -> None:
    made = await checked.ask("POST", "/schedules", {"name": "before"})
    for method, path in (("POST", "/schedules"), ("PUT", f"/schedules/{made['id']}")):
        answer = await checked.send(method, path, fields)
        assert error(answer) == refusal or (refusal is None and answer.status == 400), method
        assert says in message(answer)
    assert (await checked.ask("GET", "/schedules"))["total"] == 1
    assert await checked.ask("GET", f"/schedules/{made['id']}") == made
    # The document has no 403 for a change, and no 404 for it besides the schedule's own.
    checked.wrong = [one for one in checked.wrong if "schedule_put 403" not in one]


async def test_ten_of_each_kind_are_allowed(checked: CheckedProgram) -> None:
    made = await checked.ask("POST", "/schedules", {"actions": [RUN_ACTOR, RUN_TASK] * MAX_TARGETS})
    assert len(made["actions"]) == 2 * MAX_TARGETS


async def test_names_are_unique_for_each_user_in_any_case(checked: CheckedProgram) -> None:
    taken = (409, "schedule-name-not-unique")
    await checked.ask("POST", "/schedules", {"name": "Nightly"})
    other = await checked.ask("POST", "/schedules", {"name": "other"})
    assert error(await checked.send("POST", "/schedules", {"name": "nightly"})) == taken
    assert error(await checked.send("PUT", f"/schedules/{other['id']}", {"name": "NIGHTLY"})) == taken
    assert (await checked.ask("PUT", f"/schedules/{other['id']}", {"name": "Other"}))["name"] == "Other"
    await checked.ask("POST", "/schedules", {"name": "nightly"}, by="john")
    for reference in (other["id"], "jane~other", "jane/OTHER", "~other", "other"):
        assert (await checked.ask("GET", f"/schedules/{reference.replace('/', '%2F')}"))["id"] == other["id"]
    # The document has no 409 for a change.
    checked.wrong = [one for one in checked.wrong if "schedule_put 409" not in one]


async def test_lists_and_ownership(checked: CheckedProgram) -> None:
    made = []
    for number in range(4):
        checked.clock.advance(1)
        body = {"name": f"number-{number}", "description": "d", "actions": [{**RUN_ACTOR, "runInput": {"body": "x"}}]}
        made.append(await checked.ask("POST", "/schedules", body))
    listed = await checked.ask("GET", "/schedules?desc=1&limit=2&offset=1")
    assert (listed["total"], listed["count"], listed["limit"], listed["offset"], listed["desc"]) == (4, 2, 2, 1, True)
    assert [item["id"] for item in listed["items"]] == [made[2]["id"], made[1]["id"]]
    item, full = listed["items"][0], made[2]
    assert "description" not in item
    assert item["actions"] == [{key: full["actions"][0][key] for key in ("id", "type", "actorId")}]
    assert {**item, "actions": 0} == {
        **{key: value for key, value in full.items() if key != "description"},
        "actions": 0,
    }
    assert (await checked.ask("GET", "/schedules", by="john"))["total"] == 0
    for method, tail in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/log"), ("POST", "/invoke")):
        given = {} if method in ("PUT", "POST") else None
        path = f"/schedules/{full['id']}{tail}"
        assert error(await checked.send(method, path, given, by="john")) == ABSENT, path
        assert error(await checked.send(method, path, given, by=None)) == (401, "token-not-provided"), path
    assert await checked.ask("GET", f"/schedules/{full['id']}") == full


async def test_delete(checked: CheckedProgram) -> None:
    made = await checked.ask("POST", "/schedules")
    assert (await checked.send("DELETE", f"/schedules/{made['id']}")).status == 204
    for method, tail in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/log"), ("POST", "/invoke")):
        given = {} if method in ("PUT", "POST") else None
        assert error(await checked.send(method, f"/schedules/{made['id']}{tail}", given)) == ABSENT


async def test_the_limit(checked: CheckedProgram) -> None:
    for _ in range(MAX_SCHEDULES):
        await checked.ask("POST", "/schedules")
    assert error(await checked.send("POST", "/schedules")) == (403, "too-many-schedules")
    limits = await checked.ask("GET", "/users/me/limits")
    assert limits["limits"]["maxScheduleCount"] == limits["current"]["scheduleCount"] == MAX_SCHEDULES


async def test_a_deleted_actor_or_task_takes_its_actions_along(checked: CheckedProgram) -> None:
    made = await checked.ask("POST", "/schedules", {"actions": [RUN_ACTOR, RUN_TASK, RUN_ACTOR]})
    await checked.ask("DELETE", f"/actor-tasks/{TASK_ID}")
    left = (await checked.ask("GET", f"/schedules/{made['id']}"))["actions"]
    assert [action["type"] for action in left] == ["RUN_ACTOR"] * 2
    await checked.ask("DELETE", f"/actors/{ACTOR_ID}")
    assert (await checked.ask("GET", f"/schedules/{made['id']}"))["actions"] == []
