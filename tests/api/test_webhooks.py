"""Webhooks as sections 4.1 to 4.6 of the specification of automation say: fields, refusals, lists, ad-hoc ones."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from actorium.domain.models import JobStatus
from actorium.domain.webhook_templates import DEFAULT_PAYLOAD_TEMPLATE, INVALID_JSON, INVALID_VARIABLE
from actorium.domain.webhooks import EVENT_TYPES, MAX_WEBHOOKS
from actorium.services.run_options import StartOptions
from support.checked import CheckedProgram
from support.program import ACTOR_ID, TASK_ID
from support.storage_server import Answer, data, error

URL = "http://127.0.0.1:9/hook"
NOBODY = "A" * 17
ABSENT = (404, "record-not-found")
REFUSED = (400, "schema-validation")


def body(**fields: Any) -> dict[str, Any]:
    return {
        "eventTypes": ["ACTOR.RUN.SUCCEEDED"],
        "condition": {"actorId": ACTOR_ID},
        "requestUrl": URL,
        **fields,
    }


def message(answer: Answer) -> str:
    return str(json.loads(answer.body)["error"]["message"])


def encoded(webhooks: Any) -> str:
    return base64.b64encode(json.dumps(webhooks).encode()).decode()


async def test_a_new_webhook_with_defaults(checked: CheckedProgram) -> None:
    answer = await checked.send("POST", "/webhooks", body())
    made = data(answer)
    assert answer.status == 201
    assert answer.headers["Location"] == f"{checked.url}/v2/webhooks/{made['id']}"
    jane = checked.people["jane"].user_id
    now = made["createdAt"]
    assert made == {
        "id": made["id"],
        "createdAt": now,
        "modifiedAt": now,
        "userId": jane,
        "isEnabled": True,
        "isAdHoc": False,
        "isApifyIntegration": False,
        "actionType": "HTTP_REQUEST",
        "eventTypes": ["ACTOR.RUN.SUCCEEDED"],
        "condition": {"actorId": ACTOR_ID},
        "ignoreSslErrors": False,
        "doNotRetry": False,
        "requestUrl": URL,
        "shouldInterpolateStrings": False,
        "title": None,
        "description": None,
        "lastDispatch": None,
        "stats": {"totalDispatches": 0},
        "payloadTemplate": DEFAULT_PAYLOAD_TEMPLATE,
        "headersTemplate": None,
    }
    assert await checked.ask("GET", f"/webhooks/{made['id']}") == made


async def test_every_field_is_kept_and_changed_alone(checked: CheckedProgram) -> None:
    given = {
        "eventTypes": ["ACTOR.RUN.CREATED", "ACTOR.BUILD.FAILED"],
        "condition": {"actorTaskId": TASK_ID},
        "requestUrl": "https://example.com/x?y=1",
        "payloadTemplate": '{"a": {{resource.id}}, "d": {{globals.dateISO}}}',
        "headersTemplate": '{"X-A": "b"}',
        "shouldInterpolateStrings": True,
        "ignoreSslErrors": True,
        "doNotRetry": True,
        "title": "t",
        "description": "d",
        "isEnabled": False,
        "isApifyIntegration": True,
    }
    made = await checked.ask("POST", "/webhooks", {**given, "userId": "somebody", "unknown": 1})
    path = f"/webhooks/{made['id']}"
    assert {name: made[name] for name in given} == given
    checked.clock.advance(1)
    assert {name: (await checked.ask("PUT", path, {}))[name] for name in given} == given
    for name, value in body(title="other", isEnabled=True, headersTemplate="", payloadTemplate="{}").items():
        changed = await checked.ask("PUT", path, {name: value})
        given[name] = value or None
        assert {key: changed[key] for key in given} == given, name
        assert changed["modifiedAt"] > changed["createdAt"]
    reset = await checked.ask(
        "PUT", path, {"payloadTemplate": None, "title": None, "ignoreSslErrors": None, "isEnabled": None}
    )
    assert reset["payloadTemplate"] == DEFAULT_PAYLOAD_TEMPLATE
    assert (reset["title"], reset["ignoreSslErrors"], reset["isEnabled"]) == (None, False, True)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"eventTypes": []}, "You must specify at least 1 values"),
        ({"eventTypes": None}, "eventTypes is required"),
        ({"eventTypes": "X"}, "eventTypes"),
        ({"eventTypes": ["ACTOR.RUN.TIMED-OUT"]}, "ACTOR.RUN.TIMED-OUT is not an allowed value"),
        ({"eventTypes": [{}]}, "is not an allowed value"),
        ({"condition": {}}, "Webhook condition isn't valid."),
        ({"condition": None}, "Webhook condition isn't valid."),
        ({"condition": "x"}, "Webhook condition isn't valid."),
        ({"condition": {"actorId": ACTOR_ID, "actorTaskId": TASK_ID}}, "Webhook condition isn't valid."),
        ({"condition": {"actorId": "short"}}, "Webhook condition isn't valid."),
        ({"condition": {"userId": ACTOR_ID}}, "Webhook condition isn't valid."),
        ({"requestUrl": None}, "requestUrl is required"),
        ({"requestUrl": "ftp://example.com"}, "Webhook URL must be a valid URL."),
        ({"requestUrl": "example.com"}, "Webhook URL must be a valid URL."),
        ({"requestUrl": "http://"}, "Webhook URL must be a valid URL."),
        ({"requestUrl": "http://a b/"}, "Webhook URL must be a valid URL."),
        ({"requestUrl": "http://a:99999/"}, "Webhook URL must be a valid URL."),
        ({"requestUrl": "http://[::1/"}, "Webhook URL must be a valid URL."),
        ({"requestUrl": "http://a/" + "x" * 492}, "Webhook URL must be a valid URL."),
        ({"requestUrl": 7}, "Webhook URL must be a valid URL."),
        ({"isAdHoc": True}, "Ad hoc webhook can only be set for Actor runs."),
        ({"isAdHoc": "yes"}, "isAdHoc"),
        ({"payloadTemplate": "x"}, "payloadTemplate has 1 characters"),
        ({"payloadTemplate": " " * 1_000_001}, "payloadTemplate has 1000001 characters"),
        ({"payloadTemplate": "{a}"}, INVALID_JSON),
        ({"payloadTemplate": '{"a": {{b}}}'}, INVALID_VARIABLE),
        ({"payloadTemplate": '"{{b}}"', "shouldInterpolateStrings": True}, INVALID_VARIABLE),
        ({"payloadTemplate": []}, "payloadTemplate must be a string"),
        ({"headersTemplate": "[]"}, "headersTemplate"),
        ({"headersTemplate": "{"}, INVALID_JSON),
        ({"title": "x" * 64}, "title has 64 characters"),
        ({"description": "x" * 321}, "description has 321 characters"),
        ({"idempotencyKey": ""}, "idempotencyKey has 0 characters"),
        ({"idempotencyKey": "x" * 129}, "idempotencyKey has 129 characters"),
        ({"doNotRetry": "no"}, "doNotRetry must be a boolean"),
        ({"signingSecret": "short"}, "signingSecret has 5 characters"),
    ],
)
async def test_refusals(checked: CheckedProgram, fields: dict[str, Any], says: str) -> None:
    answer = await checked.send("POST", "/webhooks", body(**fields))
    assert error(answer) == REFUSED
    assert says in message(answer)
    assert (await checked.ask("GET", "/webhooks"))["total"] == 0
    changeable = {name: value for name, value in fields.items() if value is not None and name != "idempotencyKey"}
    if changeable:
        made = await checked.ask("POST", "/webhooks", body())
        answer = await checked.send("PUT", f"/webhooks/{made['id']}", changeable)
        assert error(answer) == REFUSED
        assert await checked.ask("GET", f"/webhooks/{made['id']}") == made


async def test_refusals_of_other_types(checked: CheckedProgram) -> None:
    for fields, refusal in (
        ({"actionType": "SLACK_MESSAGE"}, (400, "invalid-request")),
        ({"condition": {"actorId": NOBODY}}, ABSENT),
        ({"condition": {"actorTaskId": NOBODY}}, ABSENT),
    ):
        assert error(await checked.send("POST", "/webhooks", body(**fields))) == refusal
    assert error(await checked.send("POST", "/webhooks", b"[]")) == (400, "invalid-request")
    assert error(await checked.send("POST", "/webhooks", b"{")) == (400, "invalid-request")
    assert (await checked.ask("POST", "/webhooks", body(condition={"actorRunId": NOBODY})))["isAdHoc"]


async def test_repeated_event_types_count_once(checked: CheckedProgram) -> None:
    made = await checked.ask("POST", "/webhooks", body(eventTypes=[*EVENT_TYPES, *EVENT_TYPES]))
    assert made["eventTypes"] == list(EVENT_TYPES)


async def test_what_cannot_be_changed(checked: CheckedProgram) -> None:
    made = await checked.ask("POST", "/webhooks", body())
    path = f"/webhooks/{made['id']}"
    assert error(await checked.send("PUT", path, {"isAdHoc": True})) == REFUSED
    assert error(await checked.send("PUT", path, {"condition": {"actorRunId": NOBODY}})) == REFUSED
    assert error(await checked.send("PUT", path, {"condition": {"actorId": NOBODY}})) == ABSENT
    run = await checked.run()
    hook = await checked.ask("POST", "/webhooks", body(condition={"actorRunId": run.id}, isAdHoc=True))
    assert error(await checked.send("PUT", f"/webhooks/{hook['id']}", {"isAdHoc": False})) == REFUSED
    assert error(await checked.send("PUT", f"/webhooks/{hook['id']}", {"condition": {"actorId": ACTOR_ID}})) == REFUSED


async def test_an_idempotency_key_gives_the_same_webhook_again(checked: CheckedProgram) -> None:
    first = await checked.ask("POST", "/webhooks", body(idempotencyKey="key"))
    answer = await checked.send("POST", "/webhooks", body(idempotencyKey="key", requestUrl="http://other.example"))
    assert (answer.status, data(answer)) == (201, first)
    await checked.ask("PUT", f"/actors/{ACTOR_ID}", {"isPublic": True, "title": "Counter", "categories": ["AI"]})
    johns = await checked.ask("POST", "/webhooks", body(idempotencyKey="key"), by="john")
    assert johns["id"] != first["id"]
    await checked.ask("DELETE", f"/webhooks/{first['id']}")
    assert (await checked.ask("POST", "/webhooks", body(idempotencyKey="key")))["id"] != first["id"]


async def test_lists(checked: CheckedProgram) -> None:
    made = []
    for number in range(5):
        checked.clock.advance(1)
        condition = {"actorId": ACTOR_ID} if number % 2 else {"actorTaskId": TASK_ID}
        made.append(await checked.ask("POST", "/webhooks", body(condition=condition, title=str(number))))
    listed = await checked.ask("GET", "/webhooks?limit=2&offset=1&desc=1")
    assert (listed["total"], listed["count"], listed["limit"], listed["offset"], listed["desc"]) == (5, 2, 2, 1, True)
    assert [item["id"] for item in listed["items"]] == [made[3]["id"], made[2]["id"]]
    without = {key: value for key, value in made[3].items() if key not in ("payloadTemplate", "headersTemplate")}
    assert listed["items"][0] == without
    of_actor = await checked.ask("GET", f"/actors/{ACTOR_ID}/webhooks")
    assert of_actor["items"] == [made[1], made[3]]
    of_task = await checked.ask("GET", f"/actor-tasks/{TASK_ID}/webhooks?desc=true")
    assert of_task["items"] == [made[4], made[2], made[0]]
    assert (await checked.ask("GET", "/acts/jane~counter/webhooks"))["total"] == 2
    assert (await checked.ask("GET", "/actor-tasks/jane~counter-task/webhooks"))["total"] == 3
    assert (await checked.ask("GET", "/webhooks", by="john"))["total"] == 0
    assert error(await checked.send("GET", f"/actors/{ACTOR_ID}/webhooks", by="john")) == ABSENT


async def test_nobody_elses(checked: CheckedProgram) -> None:
    made = await checked.ask("POST", "/webhooks", body())
    path = f"/webhooks/{made['id']}"
    dispatch = await checked.ask("POST", f"{path}/test")
    for method, where in (
        ("GET", path),
        ("PUT", path),
        ("DELETE", path),
        ("POST", f"{path}/test"),
        ("GET", f"{path}/dispatches"),
        ("GET", f"/webhook-dispatches/{dispatch['id']}"),
    ):
        given = {} if method in ("PUT", "POST") else None
        assert error(await checked.send(method, where, given, by="john")) == ABSENT, where
        assert error(await checked.send(method, where, given, by=None)) == (401, "token-not-provided"), where
    assert error(await checked.send("POST", "/webhooks", body(), by="john")) == ABSENT, "of a private Actor"
    run = await checked.run()
    refused = await checked.send("POST", "/webhooks", body(condition={"actorRunId": run.id}), by="john")
    assert error(refused) == ABSENT
    assert (await checked.ask("GET", "/webhook-dispatches", by="john"))["total"] == 0


async def test_delete_keeps_the_dispatches(checked: CheckedProgram) -> None:
    made = await checked.ask("POST", "/webhooks", body())
    dispatch = await checked.ask("POST", f"/webhooks/{made['id']}/test")
    assert (await checked.send("DELETE", f"/webhooks/{made['id']}")).status == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/dispatches"), ("POST", "/test")):
        assert error(await checked.send(method, f"/webhooks/{made['id']}{path}")) == ABSENT
    assert (await checked.ask("GET", "/webhooks"))["total"] == 0
    assert await checked.ask("GET", f"/webhook-dispatches/{dispatch['id']}") == dispatch
    assert (await checked.ask("GET", "/webhook-dispatches"))["items"] == [dispatch]


async def test_the_limit_does_not_count_ad_hoc_ones(checked: CheckedProgram) -> None:
    for _ in range(MAX_WEBHOOKS):
        await checked.ask("POST", "/webhooks", body())
    answer = await checked.send("POST", "/webhooks", body())
    assert error(answer) == (403, "too-many-webhooks")
    assert "100" in message(answer)
    run = await checked.run()
    await checked.ask("POST", "/webhooks", body(condition={"actorRunId": run.id}))


async def test_refusals_of_a_test(checked: CheckedProgram) -> None:
    made = await checked.ask("POST", "/webhooks", body(condition={"actorTaskId": TASK_ID}))
    run = await checked.run()
    path = f"/webhooks/{made['id']}/test"
    for given, refusal in (
        ({"resourceId": run.id}, REFUSED),
        ({"resourceType": "RUN"}, REFUSED),
        ({"resourceId": 7, "resourceType": "RUN"}, REFUSED),
        ({"resourceId": run.id, "resourceType": "TASK"}, (400, "invalid-resource-type")),
        ({"resourceId": NOBODY, "resourceType": "RUN"}, ABSENT),
        ({"resourceId": NOBODY, "resourceType": "BUILD"}, ABSENT),
        ({"resourceId": run.id, "resourceType": "RUN"}, (400, "id-does-not-match")),
        ({"resourceId": "buildbuildbuildbui"[:17], "resourceType": "BUILD"}, (400, "id-does-not-match")),
    ):
        assert error(await checked.send("POST", path, given)) == refusal, given
    assert (await checked.ask("GET", f"/webhooks/{made['id']}/dispatches"))["total"] == 0


async def test_dispatches_are_listed_in_order(checked: CheckedProgram) -> None:
    made = await checked.ask("POST", "/webhooks", body(eventTypes=["ACTOR.RUN.CREATED", "ACTOR.RUN.SUCCEEDED"]))
    runs = [await checked.run(JobStatus.SUCCEEDED) for _ in range(3)]
    path = f"/webhooks/{made['id']}/dispatches"
    listed = await checked.ask("GET", path)
    assert [(item["eventType"], item["eventData"]["actorRunId"]) for item in listed["items"]] == [
        (event, run.id) for run in runs for event in ("ACTOR.RUN.CREATED", "ACTOR.RUN.SUCCEEDED")
    ]
    page = await checked.ask("GET", f"{path}?limit=2&offset=1&desc=1")
    assert (page["total"], page["items"]) == (6, listed["items"][::-1][1:3])
    assert {item["id"] for item in (await checked.ask("GET", "/webhook-dispatches"))["items"]} == {
        item["id"] for item in listed["items"]
    }
    shown = await checked.ask("GET", f"/webhooks/{made['id']}")
    assert shown["stats"] == {"totalDispatches": 6}
    assert shown["lastDispatch"] == {"status": "ACTIVE", "finishedAt": None}


async def test_ad_hoc_webhooks_of_a_start_get_its_creation(checked: CheckedProgram) -> None:
    hooks = [
        {"eventTypes": ["ACTOR.RUN.CREATED"], "requestUrl": URL, "condition": {"actorId": NOBODY}, "unknown": 1},
        {"eventTypes": ["ACTOR.RUN.ABORTED"], "requestUrl": URL, "payloadTemplate": '{"?>": "ÿÿ~~"}'},
    ]
    for start in (f"/actors/{ACTOR_ID}/runs", f"/actor-tasks/{TASK_ID}/runs"):
        text = encoded(hooks)
        for spelled in (
            text.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
            text.replace("+", "-").replace("/", "_").rstrip("="),
            text.replace("/", "%2F"),
        ):
            checked.clock.advance(1)
            before = (await checked.ask("GET", "/webhooks"))["total"]
            run = await checked.ask("POST", f"{start}?webhooks={spelled}")
            listed = await checked.ask("GET", "/webhooks?desc=1&limit=2")
            assert listed["total"] == before + 2
            for item in listed["items"]:
                assert item["isAdHoc"] is True
                assert item["condition"] == {"actorRunId": run["id"]}
            newest = (await checked.ask("GET", "/webhook-dispatches?desc=1&limit=1"))["items"][0]
            assert (newest["eventType"], newest["eventData"]["actorRunId"]) == ("ACTOR.RUN.CREATED", run["id"])


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ("!!!", (400, "invalid-request")),
        (base64.b64encode(b"{").decode(), (400, "invalid-request")),
        (base64.b64encode(b"\xff\xff\xff").decode(), (400, "invalid-request")),
        (encoded({}), (400, "invalid-request")),
        (encoded(["x"]), (400, "invalid-request")),
        (encoded([{"eventTypes": ["ACTOR.RUN.CREATED"], "requestUrl": URL}] * 101), (400, "invalid-request")),
        (encoded([{"requestUrl": URL}]), REFUSED),
        (encoded([{"eventTypes": ["X"], "requestUrl": URL}]), REFUSED),
        (encoded([{"eventTypes": ["ACTOR.RUN.CREATED"], "requestUrl": "x"}]), REFUSED),
    ],
)
async def test_bad_webhooks_start_nothing(checked: CheckedProgram, given: str, refusal: tuple[int, str]) -> None:
    for start in (f"/actors/{ACTOR_ID}/runs", f"/actor-tasks/{TASK_ID}/runs"):
        assert error(await checked.send("POST", f"{start}?webhooks={given}")) == refusal
    assert (await checked.ask("GET", "/actor-runs"))["total"] == 0
    assert (await checked.ask("GET", "/webhooks"))["total"] == 0


async def test_an_end_removes_ad_hoc_webhooks_that_wait_for_others(checked: CheckedProgram) -> None:
    run = await checked.run()
    kept, gone = [], []
    for events, is_kept in (
        (["ACTOR.RUN.SUCCEEDED"], False),
        (["ACTOR.RUN.FAILED", "ACTOR.RUN.TIMED_OUT"], False),
        (["ACTOR.RUN.ABORTED"], True),
        (["ACTOR.RUN.SUCCEEDED", "ACTOR.RUN.ABORTED"], True),
        (["ACTOR.RUN.FAILED", "ACTOR.RUN.RESURRECTED"], True),
    ):
        made = await checked.ask("POST", "/webhooks", body(eventTypes=events, condition={"actorRunId": run.id}))
        (kept if is_kept else gone).append(made["id"])
    lasting = await checked.ask("POST", "/webhooks", body(eventTypes=["ACTOR.RUN.FAILED"]))
    await checked.platform.runs.abort(run, gracefully=False)
    left = {item["id"] for item in (await checked.ask("GET", "/webhooks"))["items"]}
    assert left == {*kept, lasting["id"]}
    aborted = await checked.platform.runs.get(checked.people["jane"], run.id)
    await checked.platform.runs.resurrect(aborted, StartOptions())
    assert {item["id"] for item in (await checked.ask("GET", "/webhooks"))["items"]} == left


async def test_webhooks_go_with_their_actor_and_task(checked: CheckedProgram) -> None:
    of_task = await checked.ask("POST", "/webhooks", body(condition={"actorTaskId": TASK_ID}))
    await checked.ask("DELETE", f"/actor-tasks/{TASK_ID}")
    assert error(await checked.send("GET", f"/webhooks/{of_task['id']}")) == ABSENT
    other = await checked.ask("POST", "/actor-tasks", {"actId": ACTOR_ID, "name": "another"})
    for condition in ({"actorId": ACTOR_ID}, {"actorTaskId": other["id"]}):
        await checked.ask("POST", "/webhooks", body(condition=condition))
    await checked.ask("DELETE", f"/actors/{ACTOR_ID}")
    assert (await checked.ask("GET", "/webhooks"))["total"] == 0


async def test_no_webhook_no_event(checked: CheckedProgram) -> None:
    await checked.ask("POST", "/webhooks", body(isEnabled=False, eventTypes=["ACTOR.RUN.CREATED"]))
    await checked.ask("POST", "/webhooks", body(eventTypes=["ACTOR.RUN.FAILED"]))
    await checked.run(JobStatus.SUCCEEDED)
    assert (await checked.ask("GET", "/webhook-dispatches"))["total"] == 0
