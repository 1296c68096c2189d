"""Starting a run over the API, as far as no other file is about it. docs: runs, sections 1, 4.1, 4.2 and 11."""

from __future__ import annotations

import json
import re

import pytest

from support.live_program import LiveProgram
from support.openapi import given_document
from support.program import ACTOR_ID
from support.storage_server import error

RUNS = f"/actors/{ACTOR_ID}/runs"


async def test_the_answer_is_201_with_everything_clients_read(live: LiveProgram) -> None:
    answer = await live.send("POST", f"{RUNS}?memory=512&timeout=0", {"a": 1})
    assert given_document().problems("actors_runs_post", answer) == []
    run = json.loads(answer.body)["data"]
    assert answer.headers["Location"].endswith(f"/v2/actor-runs/{run['id']}")
    assert re.fullmatch(r"[A-Za-z0-9]{17}", run["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", run["startedAt"])
    assert (run["status"], run["finishedAt"], run["exitCode"], run["generalAccess"]) == (
        "READY",
        None,
        None,
        "FOLLOW_USER_SETTING",
    )
    options = run["options"]
    assert (options["build"], options["timeoutSecs"], options["diskMbytes"]) == ("latest", 0, 1024)
    counters = ("migrationCount", "rebootCount", "restartCount", "resurrectCount", "metamorph", "durationMillis")
    assert [run["stats"][name] for name in counters] == [0] * 6
    assert run["stats"]["inputBodyLen"] == len(b'{"a": 1}')
    assert run["usageTotalUsd"] == 0
    assert run["storageIds"]["datasets"]["default"] == run["defaultDatasetId"]


async def test_it_can_be_read_as_soon_as_it_is_answered(live: LiveProgram) -> None:
    for _ in range(5):
        run = await live.begin("memory=128")
        assert (await live.send("GET", f"/actor-runs/{run['id']}")).status == 200
        assert (await live.send("GET", f"/logs/{run['id']}")).status == 200, "READY: an empty log"


async def test_the_input_is_stored_as_it_came(live: LiveProgram) -> None:
    for body, content_type in ((b'{"a":  1}', "application/json"), (b"\x00\xff", "image/png"), (b"a=1", "text/x")):
        headers = {"Content-Type": content_type}
        run = json.loads((await live.send("POST", RUNS, body, headers=headers)).body)["data"]
        record = await live.send("GET", f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT")
        assert (record.body, record.headers["Content-Type"]) == (body, content_type)


@pytest.mark.parametrize("body", [None, b"null", b""])
async def test_no_input_is_no_record(live: LiveProgram, body: bytes | None) -> None:
    run = await live.begin("", body)
    record = await live.send("GET", f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT")
    assert error(record) == (404, "record-not-found")


async def test_where_it_came_from(live: LiveProgram) -> None:
    for header, origin in (("CLI", "CLI"), ("cli", "CLI"), ("MCP", "MCP"), ("NOWHERE", "API"), ("", "API")):
        answer = await live.send("POST", f"{RUNS}?memory=128", headers={"X-Apify-Request-Origin": header})
        assert json.loads(answer.body)["data"]["meta"]["origin"] == origin


async def test_a_method_in_the_query_overrides_that_of_the_call(live: LiveProgram) -> None:
    answer = await live.send("GET", f"{RUNS}?method=POST")
    assert answer.status == 201
