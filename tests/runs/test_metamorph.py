"""Metamorph: the run goes on as a run of another Actor, on the same storages."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from actorium.domain.input_secrets import decrypt
from actorium.domain.models import Actor, Build, JobStatus
from actorium.storage import builds, catalog
from actorium.storage.db import Tx
from support.live_program import LiveProgram
from support.openapi import given_document
from support.program import ACTOR_ID
from support.storage_server import error

TARGET = "targettargettarge"
SCHEMA = {
    "title": "Input",
    "type": "object",
    "schemaVersion": 1,
    "properties": {"depth": {"title": "d", "type": "integer", "description": "d", "default": 3}},
}


@pytest.fixture
async def live(live: LiveProgram) -> LiveProgram:
    """With a second Actor of jane's, ``target``: build 0.2.1 is ``latest``, 0.2.2 is ``beta`` and has a schema."""
    now, jane = live.clock.now_ms(), live.people["jane"]

    async def op(tx: Tx) -> None:
        await catalog.insert_actor(tx, Actor(TARGET, jane.user_id, "target", now, now, {"build": "latest"}, {}))
        known = await builds.find_build(tx, ACTOR_ID, "0.1.1")
        assert known is not None
        for number, tag, schema in (("0.2.1", "latest", None), ("0.2.2", "beta", json.dumps(SCHEMA))):
            build: Build = msgspec.structs.replace(
                known, id=f"build{number}".ljust(17, "b"), actor_id=TARGET, build_number=number, input_schema=schema
            )
            await builds.insert_build(tx, build)
            await builds.set_tag(tx, TARGET, tag, build.id)

    await live.platform.db.write("second Actor", op)
    return live


def path(run: dict[str, Any], query: str = "", target: str = TARGET) -> str:
    return f"/actor-runs/{run['id']}/metamorph?targetActorId={target}{query}"


async def record(live: LiveProgram, run: dict[str, Any], key: str) -> tuple[int, str, bytes]:
    answer = await live.send("GET", f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/{key}")
    return answer.status, answer.headers["Content-Type"], answer.body


async def test_the_target_takes_over_on_the_same_storages(live: LiveProgram) -> None:
    run = await live.begin("timeout=100&memory=512", {"old": True})
    first = await live.process_of(run)
    await live.until(run, lambda now: now["status"] == "RUNNING")
    live.clock.advance(10)
    answer = await live.send("POST", path(run), b"<x/>", headers={"Content-Type": "application/xml"})
    shown = json.loads(answer.body)["data"]
    assert (answer.status, shown["status"], shown["actId"], shown["buildNumber"]) == (200, "RUNNING", TARGET, "0.2.1")
    second = await live.process_of(run, 2)
    assert first.signals == ["KILL"]
    old, new = first.spec.env, second.spec.env
    for name in ("ACTOR_DEFAULT_DATASET_ID", "ACTOR_DEFAULT_KEY_VALUE_STORE_ID", "ACTOR_RUN_ID", "APIFY_TOKEN"):
        assert old[name] == new[name]
    assert (new["ACTOR_ID"], new["ACTOR_FULL_NAME"], new["ACTOR_BUILD_NUMBER"]) == (TARGET, "jane/target", "0.2.1")
    assert new["ACTOR_INPUT_KEY"] == new["APIFY_INPUT_KEY"] == "INPUT-METAMORPH-1"
    assert (new["ACTOR_MEMORY_MBYTES"], new["ACTOR_TIMEOUT_AT"]) == ("512", old["ACTOR_TIMEOUT_AT"])
    assert old["ACTOR_INPUT_KEY"] == "INPUT"
    assert await record(live, run, "INPUT-METAMORPH-1") == (200, "application/xml", b"<x/>")
    assert (await record(live, run, "INPUT"))[2] == b'{"old": true}'
    live.runtime.end(second, code=0)
    done = await live.ended(run)
    assert (done["status"], done["startedAt"]) == ("SUCCEEDED", run["startedAt"])
    assert done["stats"]["metamorph"] == 1
    assert done["stats"]["rebootCount"] == done["stats"]["migrationCount"] == 0
    (entry,) = done["metamorphs"]
    assert entry["createdAt"] > run["startedAt"]
    assert (entry["actorId"], entry["buildId"], entry["inputKey"]) == (TARGET, done["buildId"], "INPUT-METAMORPH-1")
    assert any(line.startswith("ACTOR: Metamorphing into Actor target") for line in await live.log(run))


async def test_a_chain_counts_inputs_and_stops_after_ten(live: LiveProgram) -> None:
    run, _ = await live.running()
    for number in range(1, 11):
        body = None if number == 2 else {"number": number}
        await live.ask("POST", path(run, target=("jane~target", ACTOR_ID)[number % 2]), body)
        process = await live.process_of(run, number + 1)
        await live.quiet()
        assert process.spec.env["ACTOR_INPUT_KEY"] == f"INPUT-METAMORPH-{number}"
    assert (await record(live, run, "INPUT-METAMORPH-10"))[2] == b'{"number": 10}'
    assert (await record(live, run, "INPUT-METAMORPH-2"))[0] == 404, "no input of its own means none, not the old one"
    refused = await live.send("POST", path(run))
    assert error(refused) == (400, "max-metamorphs-exceeded")
    # The first one was no other Actor's run.
    for actor_id, count in ((TARGET, 5), (ACTOR_ID, 4)):
        assert (await live.ask("GET", f"/actors/{actor_id}"))["stats"]["totalMetamorphs"] == count
    current = await live.get(run)
    assert current["stats"]["metamorph"] == len(current["metamorphs"]) == 10
    assert current["metamorphs"][1]["inputKey"] is None
    assert process.exit is None


async def test_the_input_is_held_against_the_schema_of_the_chosen_build(live: LiveProgram) -> None:
    run, process = await live.running()
    refused = await live.send("POST", path(run, "&build=beta"), b"text", headers={"Content-Type": "text/plain"})
    assert error(refused) == (400, "invalid-input")
    assert process.exit is None
    await live.ask("POST", path(run, "&build=beta"))
    second = await live.process_of(run, 2)
    assert json.loads((await record(live, run, "INPUT-METAMORPH-1"))[2]) == {"depth": 3}
    current = await live.get(run)
    assert (current["buildNumber"], current["options"]["build"]) == ("0.2.2", "beta")
    assert second.spec.env["ACTOR_BUILD_TAGS"] == "beta"


async def test_refusals_change_nothing(live: LiveProgram) -> None:
    run, process = await live.running()
    before = await live.get(run)
    for query, expected in (
        ("", (400, "invalid-request")),
        ("?targetActorId=", (400, "invalid-request")),
        ("?targetActorId=jane~nothing", (404, "record-not-found")),
        (f"?targetActorId={TARGET}&build=nope", (403, "unknown-build-tag")),
        (f"?targetActorId={TARGET}&build=9.9.9", (403, "build-not-found")),
    ):
        assert error(await live.send("POST", f"/actor-runs/{run['id']}/metamorph{query}")) == expected, query
    assert error(await live.send("POST", path(run), by="john")) == (404, "record-not-found")
    assert error(await live.send("POST", path(run), b"{")) == (400, "run-input-body-not-valid-json")
    assert error(await live.send("POST", path({"id": "x" * 17}))) == (404, "record-not-found")
    after = await live.get(run)
    assert {**after, "stats": None} == {**before, "stats": None}
    assert (process.exit, "metamorphs" in after) == (None, False)
    live.runtime.end(process, code=0)
    await live.ended(run)
    refused = await live.send("POST", path(run))
    assert error(refused) == (403, "job-finished")
    assert json.loads(refused.body)["error"]["message"] == "Actor job is already finished."


async def set_prices(live: LiveProgram, target: str, info: dict[str, Any]) -> None:
    live.clock.advance(1)
    known = (await live.ask("GET", f"/actors/{target}"))["pricingInfos"]
    await live.ask("PUT", f"/actors/{target}", {"pricingInfos": [*known, info]})


def paid_per(event: str) -> dict[str, Any]:
    prices = {event: {"eventTitle": event, "eventDescription": event, "eventPriceUsd": 0.5}}
    return {"pricingModel": "PAY_PER_EVENT", "pricingPerEvent": {"actorChargeEvents": prices}}


async def test_a_target_that_is_paid_per_result_is_refused(live: LiveProgram) -> None:
    await set_prices(
        live, TARGET, {"pricingModel": "PRICE_PER_DATASET_ITEM", "unitName": "result", "pricePerUnitUsd": 0.1}
    )
    run, process = await live.running()
    refused = await live.send("POST", path(run))
    assert error(refused) == (403, "cannot-metamorph-to-pay-per-result-actor")
    assert "target" in json.loads(refused.body)["error"]["message"]
    assert (process.exit, (await live.get(run))["actId"]) == (None, ACTOR_ID)


async def test_prices_and_charges_stay_those_of_the_start(live: LiveProgram) -> None:
    await set_prices(live, ACTOR_ID, paid_per("page"))
    await set_prices(live, TARGET, paid_per("picture"))
    run, process = await live.running("maxTotalChargeUsd=5")
    token = process.spec.env["APIFY_TOKEN"]

    async def charge(event: str) -> Any:
        headers = {"idempotency-key": event, "Content-Type": "application/json"}
        body = json.dumps({"eventName": event}).encode()
        return await live.request("POST", f"/v2/actor-runs/{run['id']}/charge", body, headers, token)

    shown = await live.ask("POST", path(run))
    assert shown["pricingInfo"] == run["pricingInfo"]
    second = await live.process_of(run, 2)
    assert second.spec.env["ACTOR_MAX_TOTAL_CHARGE_USD"] == "5"
    assert (await charge("page")).status == 201
    assert error(await charge("picture")) == (404, "record-not-found")
    current = await live.get(run)
    assert (current["chargedEventCounts"], current["options"]["maxTotalChargeUsd"]) == ({"page": 1}, 5)


async def test_every_route_means_the_same(live: LiveProgram) -> None:
    document = given_document()
    task = await live.ask("POST", "/actor-tasks", {"actId": ACTOR_ID, "name": "a-task"})
    for route, operation in (
        ("/actor-runs/{id}", "actorRun_metamorph_post"),
        (f"/actors/{ACTOR_ID}/runs/{{id}}", "actors_run_metamorph_post"),
        (f"/actors/{ACTOR_ID}/runs/last", "actor_runs_last_metamorph_post"),
        ("/acts/jane~counter/runs/last", "actor_runs_last_metamorph_post"),
        (f"/actor-tasks/{task['id']}/runs/last", "actorTask_runs_last_metamorph_post"),
    ):
        live.clock.advance(0.001)
        start = f"/actor-tasks/{task['id']}/runs" if "tasks" in route else f"/actors/{ACTOR_ID}/runs"
        run = await live.ask("POST", f"{start}?memory=128")
        await live.until(run, lambda now: now["status"] == "RUNNING")
        answer = await live.send("POST", f"{route.format(id=run['id'])}/metamorph?targetActorId={TARGET}", {"a": 1})
        assert document.problems(operation, answer) == []
        assert json.loads(answer.body)["data"]["id"] == run["id"]
        second = await live.process_of(run, 2)
        live.runtime.end(second, code=0)
        await live.ended(run)
    other = await live.send("POST", f"/actors/{ACTOR_ID}/runs/{run['id']}/metamorph?targetActorId={TARGET}")
    assert error(other) == (404, "record-not-found"), "it is a run of the target by now"


async def test_abort_wins_over_a_metamorph_under_way(live: LiveProgram) -> None:
    run, first = await live.running()
    live.runtime.before_checkpoint = asyncio.Event()
    live.runtime.reached_checkpoint.clear()
    await live.ask("POST", path(run))
    await asyncio.wait_for(live.runtime.reached_checkpoint.wait(), 20)
    await live.ask("POST", f"/actor-runs/{run['id']}/abort")
    live.runtime.before_checkpoint.set()
    done = await live.ended(run)
    assert (done["status"], done["exitCode"]) == ("ABORTED", 137)
    assert len(live.runtime.processes) == 1
    live.clock.advance(1)
    await live.settle(lambda: first.removed)


async def test_a_metamorph_of_an_aborting_run_does_nothing(live: LiveProgram) -> None:
    run, process = await live.running()
    await live.ask("POST", f"/actor-runs/{run['id']}/abort?gracefully=1")
    shown = await live.ask("POST", path(run))
    assert (shown["status"], shown["actId"], "metamorphs" in shown) == ("ABORTING", ACTOR_ID, False)
    live.runtime.end(process, code=0)
    assert (await live.ended(run))["status"] == "ABORTED"
    assert (await record(live, run, "INPUT-METAMORPH-1"))[0] == 404


async def test_one_asked_for_while_the_process_is_replaced_is_not_lost(live: LiveProgram) -> None:
    """The new process of the old Actor is given up before it exists."""
    run, _ = await live.running()
    live.runtime.before_checkpoint = asyncio.Event()
    live.runtime.reached_checkpoint.clear()
    await live.ask("POST", f"/actor-runs/{run['id']}/reboot")
    await asyncio.wait_for(live.runtime.reached_checkpoint.wait(), 20)
    await live.ask("POST", path(run))
    live.runtime.before_checkpoint.set()
    second = await live.process_of(run, 2)
    assert second.spec.env["ACTOR_ID"] == TARGET
    current = await live.until(run, lambda now: now["stats"]["metamorph"])
    assert (current["status"], len(live.runtime.processes)) == ("RUNNING", 2)


async def test_a_reboot_does_not_undo_it(live: LiveProgram) -> None:
    run, first = await live.running()
    await live.platform.supervisor.stop()
    await live.ask("POST", path(run))
    await live.ask("POST", f"/actor-runs/{run['id']}/reboot")
    await live.restart()
    second = await live.process_of(run, 2)
    assert (first.signals, second.spec.env["ACTOR_ID"]) == (["KILL"], TARGET)


@pytest.mark.parametrize("fate", ["lives", "exits", "vanishes"])
async def test_a_server_killed_before_the_relaunch_goes_on_with_the_target(live: LiveProgram, fate: str) -> None:
    run, first = await live.running()
    await live.platform.supervisor.stop()
    await live.ask("POST", path(run), {"kept": 1})
    if fate == "exits":
        live.runtime.end(first, code=1)
    elif fate == "vanishes":
        live.runtime.vanish(first)
    await live.restart()
    second = await live.process_of(run, 1 if fate == "vanishes" else 2)
    assert second.spec.env["ACTOR_ID"] == TARGET
    current = await live.get(run)
    assert (current["stats"]["metamorph"], current["stats"]["migrationCount"]) == (1, 0)
    assert json.loads((await record(live, run, "INPUT-METAMORPH-1"))[2]) == {"kept": 1}
    live.runtime.end(second, code=0)
    assert (await live.ended(run))["status"] == "SUCCEEDED"


async def test_the_timeout_is_not_renewed(live: LiveProgram) -> None:
    run, _ = await live.running("timeout=60")
    live.clock.advance(50)
    await live.ask("POST", path(run))
    second = await live.process_of(run, 2)
    await live.quiet()
    live.clock.advance(10)
    assert (await live.ended(run))["status"] == "TIMED-OUT"
    assert second.signals == ["TERM"]


async def test_the_events_socket_stays_open(live: LiveProgram) -> None:
    run, _ = await live.running()
    await live.ask("POST", path(run))
    await live.process_of(run, 2)
    await live.quiet()
    assert run["id"] not in live.events.closed


async def test_a_waiting_run_starts_as_one_of_the_target(live: LiveProgram) -> None:
    await live.platform.supervisor.stop()
    run = await live.begin()
    shown = await live.ask("POST", path(run))
    assert (shown["status"], shown["actId"]) == (JobStatus.READY, TARGET)
    await live.restart()
    process = await live.process_of(run)
    assert process.spec.env["ACTOR_ID"] == TARGET


async def test_a_resurrected_run_is_one_of_the_target(live: LiveProgram) -> None:
    run, _ = await live.running()
    await live.ask("POST", path(run), {"a": 1})
    live.runtime.end(await live.process_of(run, 2), code=1)
    await live.ended(run)
    await live.ask("POST", f"/actor-runs/{run['id']}/resurrect")
    third = await live.process_of(run, 3)
    assert (third.spec.env["ACTOR_ID"], third.spec.env["ACTOR_INPUT_KEY"]) == (TARGET, "INPUT-METAMORPH-1")


async def test_the_target_gets_its_own_key_for_its_secrets(live: LiveProgram) -> None:
    word = {"title": "w", "type": "string", "description": "d", "editor": "textfield", "isSecret": True}
    schema = json.dumps({**SCHEMA, "properties": {"word": word}})

    async def op(tx: Tx) -> None:
        await tx.execute("UPDATE builds SET input_schema = ? WHERE build_number = '0.2.2'", schema)

    await live.platform.db.write("schema", op)
    run = await live.begin("memory=512", {"old": True})
    await live.until(run, lambda now: now["status"] == "RUNNING")
    assert (await live.send("POST", path(run, "&build=beta"), {"word": "hidden word"})).status == 200
    second = await live.process_of(run, 2)
    stored = json.loads((await record(live, run, "INPUT-METAMORPH-1"))[2])["word"]
    keys = await live.platform.inputs.keys(live.people["jane"].user_id, TARGET)
    assert decrypt(stored, keys) == "hidden word"
    assert second.spec.env["APIFY_INPUT_SECRETS_PRIVATE_KEY_PASSPHRASE"] == keys.passphrase


async def test_a_run_the_engine_has_yet_to_attach_to_metamorphs(live: LiveProgram) -> None:
    run, _ = await live.running("memory=512")
    await live.platform.supervisor.stop()
    await live.platform.logs.finish(run["id"])
    changed = await live.ask("POST", path(run))
    assert (changed["status"], changed["actId"]) == ("RUNNING", TARGET)
