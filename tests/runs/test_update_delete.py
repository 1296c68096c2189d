"""Status messages, who may read a run, and deletion. docs: runs, section 4.12."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.live_program import LiveProgram
from support.openapi import given_document
from support.storage_server import error


async def put(live: LiveProgram, run: dict[str, Any], body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = await live.ask("PUT", f"/actor-runs/{run['id']}", body)
    return answer


async def test_message_and_flag_are_replaced_together(live: LiveProgram) -> None:
    run, _ = await live.running()
    assert "statusMessage" not in run
    shown = await put(live, run, {"statusMessage": "a", "isStatusMessageTerminal": True, "runId": run["id"]})
    assert (shown["statusMessage"], shown["isStatusMessageTerminal"]) == ("a", True)
    shown = await put(live, run, {"statusMessage": "b", "level": "INFO", "unknown": {}})
    assert (shown["statusMessage"], shown["isStatusMessageTerminal"]) == ("b", None), "an absent flag clears it"
    shown = await put(live, run, {"generalAccess": "RESTRICTED"})
    assert (shown["statusMessage"], shown["generalAccess"]) == ("b", "RESTRICTED")
    assert "statusMessage" not in await put(live, run, {})


async def test_long_messages_are_cut(live: LiveProgram) -> None:
    run, _ = await live.running()
    assert (await put(live, run, {"statusMessage": "x" * 500}))["statusMessage"] == "x" * 500
    assert (await put(live, run, {"statusMessage": "x" * 501}))["statusMessage"] == "x" * 497 + "..."


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"isStatusMessageTerminal": True}, "cannot-set-is-status-message-terminal"),
        ({"statusMessage": 5}, "invalid-request"),
        ({"statusMessage": "a", "isStatusMessageTerminal": "yes"}, "invalid-request"),
        ({"generalAccess": "ANYONE"}, "invalid-request"),
        ({"generalAccess": "ANYONE_WITH_NAME_CAN_READ"}, "invalid-request"),
        ([], "invalid-request"),
    ],
)
async def test_what_is_refused(live: LiveProgram, body: Any, expected: str) -> None:
    run, _ = await live.running()
    assert error(await live.send("PUT", f"/actor-runs/{run['id']}", body)) == (400, expected)


async def test_a_finished_run_may_be_told_something_and_be_deleted(live: LiveProgram) -> None:
    document = given_document()
    run, process = await live.running()
    path = f"/actor-runs/{run['id']}"
    refused = await live.send("DELETE", path)
    assert error(refused) == (400, "cannot-remove-running-run")
    assert json.loads(refused.body)["error"]["message"] == (
        "It is not possible to delete a run that has not finished yet."
    )
    live.runtime.write(process, b"said\n")
    live.runtime.end(process, code=0)
    await live.ended(run)
    answer = await live.send("PUT", path, {"statusMessage": "late", "isStatusMessageTerminal": True})
    assert document.problems("actorRun_put", answer) == []
    assert error(await live.send("DELETE", path, by="john")) == (404, "record-not-found")
    assert document.problems("actorRun_delete", await live.send("DELETE", path)) == []
    for gone in (path, f"/logs/{run['id']}", f"/datasets/{run['defaultDatasetId']}", f"{path}/dataset"):
        assert error(await live.send("GET", gone)) == (404, "record-not-found"), gone
    assert error(await live.send("DELETE", path)) in [(404, "record-not-found"), (400, "cannot-remove-running-run")]
