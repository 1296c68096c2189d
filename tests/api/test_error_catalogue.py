"""Refusals of Actors, builds, runs, tasks, schedules, webhooks and tools: each type with its status, in one walk."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actorium.domain.errors import ErrorType
from actorium.domain.models import JobStatus
from support.checked import CheckedProgram
from support.program import ACTOR_ID, TASK_ID, Program
from support.storage_server import error

ACTOR = f"/actors/{ACTOR_ID}"
TASK = f"/actor-tasks/{TASK_ID}"
VERSION = f"{ACTOR}/versions/0.2"
SOURCES: dict[str, Any] = {"versionNumber": "0.2", "sourceType": "SOURCE_FILES", "sourceFiles": []}
ACTION = {"type": "RUN_ACTOR", "actorId": ACTOR_ID}
NOTHING = "x" * 17

Row = tuple[str, str, str, Any]
"""Error type, method, path, body. ``{build}``, ``{ready}``, ``{done}`` and ``{hook}`` are filled in."""

ROWS: list[Row] = [
    ("actor-memory-limit-exceeded", "POST", f"{ACTOR}/runs?memory=32768", None),
    ("actor-name-not-unique", "POST", "/actors", {"name": "Counter"}),
    ("actor-task-name-not-unique", "POST", "/actor-tasks", {"actId": ACTOR_ID, "name": "counter-task"}),
    ("build-not-found", "POST", f"{ACTOR}/runs?build=7.7.7", None),
    ("cannot-publish-actor", "PUT", ACTOR, {"isPublic": True}),
    ("cannot-publish-actor-task", "PUT", TASK, {"isPublic": True}),
    ("cannot-remove-running-run", "DELETE", "/actor-runs/{ready}", None),
    ("cannot-rename-env-var", "PUT", f"{VERSION}/env-vars/A", {"name": "B", "value": "1"}),
    ("cannot-set-is-status-message-terminal", "PUT", "/actor-runs/{ready}", {"isStatusMessageTerminal": True}),
    ("cron-expression-invalid", "POST", "/schedules", {"cronExpression": "hourly"}),
    ("deleting-default-build", "DELETE", "/actor-builds/buildbuildbuildbu", None),
    ("deleting-unfinished-build", "DELETE", "/actor-builds/{build}", None),
    ("env-var-already-exists", "POST", f"{VERSION}/env-vars", {"name": "A", "value": "1"}),
    ("input-json-not-object", "PUT", TASK, {"input": []}),
    ("id-does-not-match", "POST", "/webhooks/{hook}/test", {"resourceType": "RUN", "resourceId": "{ready}"}),
    ("invalid-resource-type", "POST", "/webhooks/{hook}/test", {"resourceType": "TASK", "resourceId": TASK_ID}),
    ("invalid-build", "POST", f"{ACTOR}/runs?build=0.2.1", None),
    ("invalid-input", "POST", "/actor-runs/{ready}/resurrect", None),
    ("invalid-picture-url", "PUT", ACTOR, {"pictureUrl": "ftp://x"}),
    ("invalid-request", "POST", f"{ACTOR}/runs?memory=100", None),
    ("invalid-signature", "POST", "/tools/decode-and-verify", {"encoded": "e30="}),
    ("job-finished", "POST", "/actor-runs/{done}/reboot", None),
    ("max-items-must-be-greater-than-zero", "POST", f"{ACTOR}/runs?maxItems=0", None),
    ("max-total-charge-usd-must-be-greater-than-zero", "POST", f"{ACTOR}/runs?maxTotalChargeUsd=0", None),
    ("method-not-allowed", "PATCH", ACTOR, None),
    ("page-not-found", "GET", f"{ACTOR}/nothing", None),
    ("parameters-mismatched", "POST", "/actor-runs/{done}/resurrect?maxTotalChargeUsd=1", None),
    ("record-not-found", "GET", f"/actor-builds/{NOTHING}", None),
    ("request-too-large", "POST", "/actors", b'"' + b"x" * 9_437_184),
    ("run-input-body-not-valid-json", "POST", f"{ACTOR}/runs", b"{"),
    ("schedule-actor-not-found", "POST", "/schedules", {"actions": [{**ACTION, "actorId": NOTHING}]}),
    (
        "schedule-actor-task-not-found",
        "POST",
        "/schedules",
        {"actions": [{"type": "RUN_ACTOR_TASK", "actorTaskId": NOTHING}]},
    ),
    ("schedule-name-not-unique", "POST", "/schedules", {"name": "NIGHTLY"}),
    ("schema-validation", "POST", "/webhooks", {"eventTypes": [], "requestUrl": "http://a.example", "condition": {}}),
    ("too-many-values", "POST", "/schedules", {"actions": [ACTION] * 11}),
    ("unknown-build-tag", "POST", f"{ACTOR}/runs?build=nope", None),
    ("version-already-exists", "POST", f"{ACTOR}/versions", SOURCES),
]


async def prepared(checked: CheckedProgram) -> dict[str, str]:
    """What the rows need; its ids by the rows' names for them."""
    await checked.ask("POST", f"{ACTOR}/versions", SOURCES)
    for name in ("A", "B"):
        await checked.ask("POST", f"{VERSION}/env-vars", {"name": name, "value": "1"})
    await checked.ask("POST", "/schedules", {"name": "nightly"})
    condition = {"actorTaskId": TASK_ID}
    hook = {"eventTypes": ["ACTOR.RUN.SUCCEEDED"], "requestUrl": "http://a.example", "condition": condition}
    done = await checked.run(JobStatus.SUCCEEDED, options=await options_with_limit(checked))
    return {
        "build": (await checked.ask("POST", f"{ACTOR}/builds?version=0.2"))["id"],
        "ready": (await checked.run()).id,
        "done": done.id,
        "hook": (await checked.ask("POST", "/webhooks", hook))["id"],
    }


async def options_with_limit(checked: CheckedProgram) -> Any:
    """The options of a run that may cost 5 USD."""
    run = await checked.ask("POST", f"{ACTOR}/runs?maxTotalChargeUsd=5")
    found = await checked.platform.runs.get(checked.people["jane"], run["id"])
    return found.options


def filled(value: Any, ids: dict[str, str]) -> Any:
    """``value`` with ids put in."""
    if isinstance(value, dict):
        return {key: filled(member, ids) for key, member in value.items()}
    if isinstance(value, str):
        for name, found in ids.items():
            value = value.replace("{" + name + "}", found)
    return value


async def test_every_type_has_its_status_and_changes_nothing(checked: CheckedProgram) -> None:
    ids = await prepared(checked)
    statuses = {found.code: found.status for found in ErrorType}

    async def totals() -> list[int]:
        lists = ("actors", "actor-tasks", "actor-runs", "actor-builds", "schedules", "webhooks", "webhook-dispatches")
        return [(await checked.ask("GET", f"/{path}"))["total"] for path in lists]

    before, wrong = await totals(), []
    for kind, method, path, body in ROWS:
        answer = await checked.send(method, filled(path, ids), filled(body, ids))
        if answer.status < 400 or error(answer) != (statuses[kind], kind):
            wrong.append(f"{kind}: {method} {path}: {answer.status} {answer.body[:200]!r}")
        elif not json.loads(answer.body)["error"]["message"]:
            wrong.append(f"{kind} says nothing")
    assert wrong == []
    assert await totals() == before


async def test_who_may_and_what_is_read(checked: CheckedProgram) -> None:
    await checked.ask("PUT", ACTOR, {"title": "T", "categories": ["OTHER"], "isPublic": True})
    assert error(await checked.send("PUT", ACTOR, {}, by="john")) == (403, "insufficient-permissions")
    assert error(await checked.send("GET", "/actors", by=None)) == (401, "token-not-provided")
    headers = {"Authorization": "Bearer nobodys"}
    assert error(await checked.send("GET", "/actors", by=None, headers=headers)) == (401, "invalid-token")
    answer = await checked.send("POST", "/actors", b"{}", headers={"Content-Encoding": "bla"})
    assert error(answer) == (415, "unsupported-content-encoding")
    key = {"Idempotency-Key": "k"}
    assert (await checked.send("POST", f"{ACTOR}/runs?memory=128", headers=key)).status == 201
    # Not held against the document, which does not know these keys.
    conflict = await Program.send(checked, "POST", f"{ACTOR}/runs?memory=256", headers=key)
    assert error(conflict) == (409, "invalid-idempotency-key")
    run = await checked.run(JobStatus.RUNNING)
    for name, kind in (
        ("apify-x", "cannot-charge-apify-event"),
        ("x", "cannot-charge-non-pay-per-event-actor"),
    ):
        charge = {"eventName": name, "count": 1}
        answer = await checked.send("POST", f"/actor-runs/{run.id}/charge", charge, by=run, headers=key)
        assert error(answer) == (405, kind)


async def test_a_fault_of_the_server_tells_nothing_of_itself(
    checked: CheckedProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("a secret of the server")

    monkeypatch.setattr(checked.platform.actors, "list", broken)
    answer = await checked.request("GET", "/v2/actors", token=checked.token("jane"))
    assert error(answer) == (500, "internal-server-error")
    assert b"secret" not in answer.body
