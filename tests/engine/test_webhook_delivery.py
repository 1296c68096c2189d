"""Delivery of webhooks: a real receiver, a real database, a clock the test moves. Automation, sections 4.3 to 4.6."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from actorium.domain.models import JobStatus
from actorium.domain.webhooks import MAX_RETRIES, MAX_TEST_RETRIES, retry_delay_ms
from actorium.engine.webhook_calls import WebhookCalls
from actorium.engine.webhooks import WebhookDelivery, WebhookSettings
from actorium.services.run_options import StartOptions
from actorium.storage import builds, jobs
from actorium.storage.db import Tx
from support.program import ACTOR_ID, Program
from support.receiver import Receiver, close_early, hang, long_answer, redirect

RUN_EVENTS = ["CREATED", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "RESURRECTED"]
ALL = [f"ACTOR.RUN.{name}" for name in RUN_EVENTS]


class Site:
    """The program, a receiver, and what is asked of both."""

    def __init__(self, program: Program, receiver: Receiver) -> None:
        self.program = program
        self.receiver = receiver
        self.delivery = program.platform.delivery

    async def webhook(self, path: str = "/hook", **fields: Any) -> dict[str, Any]:
        body = {
            "eventTypes": ALL,
            "condition": {"actorId": ACTOR_ID},
            "requestUrl": self.receiver.url + path,
            **fields,
        }
        made: dict[str, Any] = await self.program.ask("POST", "/webhooks", body)
        return made

    async def dispatches(self, webhook: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.program.ask("GET", f"/webhooks/{webhook['id']}/dispatches"))["items"]
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        """The condition, at the time the clock shows."""
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0)

    async def tick(self, secs: float = 1) -> None:
        self.program.clock.advance(secs)
        await self.quiet()

    async def quiet(self) -> None:
        """Until nothing is due that nobody works on and no call is under way that can end at this time."""
        async with asyncio.timeout(30):
            while True:
                now = self.program.clock.now_ms()

                async def due(tx: Tx, now: int = now) -> bool:
                    row = await tx.fetchrow("SELECT 1 FROM webhooks WHERE due_at <= ? OR lease_until > ?", now, now)
                    return row is not None

                if not await self.program.platform.db.read("anything due", due):
                    return
                self.program.platform.signals.send("webhooks")
                await asyncio.sleep(0)

    async def due_at(self, webhook: dict[str, Any]) -> int:
        async def op(tx: Tx) -> int:
            row = await tx.fetchrow("SELECT due_at FROM webhooks WHERE id = ?", webhook["id"])
            assert row is not None
            return int(row["due_at"])

        return await self.program.platform.db.read("due", op)

    async def crash(self) -> None:
        """End the sender without letting it write anything down."""
        await self.delivery._tasks.stop()
        await self.delivery._calls.close()

    async def another(self, name: str) -> WebhookDelivery:
        """One more server on the same database, sending webhooks."""
        platform = self.program.platform
        first = platform.delivery
        other = WebhookDelivery(
            platform.db,
            self.program.clock,
            platform.signals,
            WebhookCalls(allow_private=True),
            first._render,
            first._open_secret,
            first._user_token,
            WebhookSettings(server_name=name, base_urls=(self.program.url,), keep_days=30),
        )
        await other.start()
        return other

    async def calls(self, webhook: dict[str, Any]) -> list[dict[str, Any]]:
        (dispatch,) = await self.dispatches(webhook)
        calls: list[dict[str, Any]] = dispatch["calls"]
        return calls


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = await Receiver().start()
    yield found
    await found.stop()


@pytest.fixture
async def site(tmp_path: Path, database_url: str, receiver: Receiver) -> AsyncIterator[Site]:
    program = Program(tmp_path / "data", database_url)
    await program.start()
    found = Site(program, receiver)
    await found.delivery.start()
    yield found
    await found.delivery.stop()
    await program.stop()


def outcomes(dispatches: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["eventType"].removeprefix("ACTOR."), one["status"]) for one in dispatches]


async def test_a_run_tells_of_its_life_in_order(site: Site) -> None:
    hook = await site.webhook(title="mine")
    run = await site.program.run()
    created_at = site.program.clock.now_ms()
    await site.quiet()
    platform = site.program.platform
    await platform.runs.abort(run, gracefully=False)
    await site.tick()
    aborted = await platform.runs.get(site.program.people["jane"], run.id)
    await platform.runs.resurrect(aborted, StartOptions())
    await site.quiet()
    created, ended, resurrected = (one.json for one in site.receiver.received)
    assert [created["eventType"], ended["eventType"], resurrected["eventType"]] == [
        "ACTOR.RUN.CREATED",
        "ACTOR.RUN.ABORTED",
        "ACTOR.RUN.RESURRECTED",
    ]
    assert created["userId"] == run.user_id
    assert created["eventData"] == {"actorId": ACTOR_ID, "actorRunId": run.id}
    assert created["createdAt"] == created["resource"]["startedAt"]
    assert created["resource"]["status"] == "READY"
    assert ended["resource"]["status"] == "ABORTED" and ended["createdAt"] == ended["resource"]["finishedAt"]
    shown = await site.program.ask("GET", f"/actor-runs/{run.id}")
    extra = {"links", "storages"}
    assert resurrected["resource"].keys() - extra == shown.keys()
    assert {key: value for key, value in resurrected["resource"].items() if key not in extra} == shown
    links = resurrected["resource"]["links"]
    assert links["apiRunUrl"].endswith(f"/v2/actor-runs/{run.id}") and links["publicRunUrl"].endswith(run.id)
    stores = resurrected["resource"]["storages"]["keyValueStores"]["default"]
    assert stores["id"] == run.default_key_value_store_id and stores["apiUrl"].endswith(stores["id"])
    assert outcomes(await site.dispatches(hook)) == [
        ("RUN.CREATED", "SUCCEEDED"),
        ("RUN.ABORTED", "SUCCEEDED"),
        ("RUN.RESURRECTED", "SUCCEEDED"),
    ]
    after = await site.program.ask("GET", f"/webhooks/{hook['id']}")
    assert after["stats"] == {"totalDispatches": 3}
    assert after["lastDispatch"]["status"] == "SUCCEEDED" and after["lastDispatch"]["finishedAt"]
    assert created_at


async def test_headers_and_the_record_of_a_call(site: Site) -> None:
    headers = (
        '{"X-Mine": "{{eventType}}", "X-Number": {{globals.dateUnix}}, "Host": "evil", "Content-Type": "text/x", '
        '"X-Apify-Webhook": "no"}'
    )
    hook = await site.webhook(
        headersTemplate=headers,
        shouldInterpolateStrings=True,
        payloadTemplate='{"run": "{{resource.id}}", "text": "run {{eventData.actorRunId}}!"}',
    )
    run = await site.program.run()
    await site.quiet()
    (got,) = site.receiver.received
    assert got.json == {"run": run.id, "text": f"run {run.id}!"}
    (dispatch,) = await site.dispatches(hook)
    assert got.headers["x-mine"] == "ACTOR.RUN.CREATED"
    assert got.headers["x-number"] == str(site.program.clock.now_ms() // 1000)
    assert got.headers["host"] == site.receiver.url.removeprefix("http://")
    assert got.headers["content-type"] == "application/json"
    assert got.headers["x-apify-webhook"] == "yo"
    assert got.headers["x-apify-webhook-dispatch-id"] == dispatch["id"]
    assert got.headers["x-apify-request-origin"] == "WEBHOOK"
    assert "authorization" not in got.headers
    (call,) = dispatch["calls"]
    assert (call["responseStatus"], call["responseBody"], call["errorMessage"]) == (200, "noted", None)
    assert dispatch["webhook"] == {
        "actionType": "HTTP_REQUEST",
        "condition": {"actorId": ACTOR_ID},
        "requestUrl": f"{site.receiver.url}/hook",
        "isAdHoc": False,
    }


async def test_a_day_of_errors_is_retried_with_growing_delays(site: Site) -> None:
    site.receiver.answers["/hook"] = 500
    hook = await site.webhook()
    await site.program.run()
    await site.quiet()
    begun = site.program.clock.now_ms()
    times = [0.0]
    while (await site.dispatches(hook))[0]["status"] == "ACTIVE":
        before = len(site.receiver.received)
        row = await site.due_at(hook)
        await site.tick((row - site.program.clock.now_ms()) / 1000 + 1)
        assert len(site.receiver.received) == before + 1
        times.append((row - begun) / 1000)
    (dispatch,) = await site.dispatches(hook)
    assert dispatch["status"] == "FAILED"
    assert len(dispatch["calls"]) == MAX_RETRIES + 1 == len(site.receiver.received)
    assert {call["errorMessage"] for call in dispatch["calls"]} == {"Endpoint responded with HTTP status code 500"}
    for number, (earlier, later) in enumerate(itertools.pairwise(times)):
        assert 0.74 * 60 * 2**number <= later - earlier <= 1.27 * 60 * 2**number + 2
    assert 20 * 3600 < times[-1] < 45 * 3600
    assert (await site.program.ask("GET", f"/webhooks/{hook['id']}"))["lastDispatch"]["status"] == "FAILED"


def test_delays_double_and_are_spread() -> None:
    assert [retry_delay_ms(calls, 0.5) for calls in (1, 2, 11)] == [60_000, 120_000, 61_440_000]
    assert (retry_delay_ms(1, 0), retry_delay_ms(1, 1)) == (45_000, 75_000)


async def test_it_succeeds_as_soon_as_the_receiver_does(site: Site) -> None:
    site.receiver.answers["/hook"] = 503
    hook = await site.webhook()
    await site.program.run()
    await site.quiet()
    site.receiver.answers["/hook"] = 204
    await site.tick(80)
    (dispatch,) = await site.dispatches(hook)
    assert (dispatch["status"], [call["responseStatus"] for call in dispatch["calls"]]) == ("SUCCEEDED", [503, 204])
    await site.tick(10_000)
    assert len(site.receiver.received) == 2


@pytest.mark.parametrize(
    ("answer", "message", "status"),
    [
        (hang, "Cannot send request: there was no answer within 120 seconds", None),
        (close_early, "Cannot send request: Server disconnected", None),
        (redirect, "Endpoint responded with HTTP status code 302", 302),
        (404, "Endpoint responded with HTTP status code 404", 404),
    ],
)
async def test_bad_receivers_fail_and_are_not_retried_when_the_webhook_says_so(
    site: Site, answer: Any, message: str, status: int | None
) -> None:
    site.receiver.answers["/hook"] = answer
    hook = await site.webhook(doNotRetry=True)
    await site.program.run()
    await site.until(lambda: len(site.receiver.received) == 1)
    if answer is hang:
        site.program.clock.advance(119)
        assert (await site.dispatches(hook))[0]["status"] == "ACTIVE"
        site.program.clock.advance(2)
    await site.quiet()
    (dispatch,) = await site.dispatches(hook)
    (call,) = dispatch["calls"]
    assert (dispatch["status"], call["errorMessage"], call["responseStatus"]) == ("FAILED", message, status)
    assert not site.receiver.at("/elsewhere")
    await site.tick(100)
    assert len(site.receiver.received) == 1


async def test_nobody_listens_and_no_such_host(site: Site) -> None:
    dead = await site.webhook(requestUrl="http://127.0.0.1:9/x", doNotRetry=True)
    unknown = await site.webhook(requestUrl="http://no-such-host.invalid/x", doNotRetry=True)
    await site.program.run()
    await site.quiet()
    for hook in (dead, unknown):
        (call,) = await site.calls(hook)
        assert call["errorMessage"].startswith("Cannot send request: Cannot connect to host"), call


async def test_a_long_answer_is_cut(site: Site) -> None:
    site.receiver.answers["/hook"] = long_answer
    hook = await site.webhook()
    await site.program.run()
    await site.quiet()
    (dispatch,) = await site.dispatches(hook)
    assert dispatch["status"] == "SUCCEEDED"
    assert dispatch["calls"][0]["responseBody"] == "\ufffdx" * 1024


async def test_slow_receivers_delay_nobody_else_and_get_one_call_at_a_time(site: Site) -> None:
    site.receiver.answers["/slow"] = hang
    slow = await site.webhook("/slow")
    quick = await site.webhook("/quick")
    for _ in range(5):
        await site.program.run()
    await site.until(lambda: len(site.receiver.at("/quick")) == 5)
    assert len(site.receiver.at("/slow")) == 1
    assert site.receiver.most_open == {"/slow": 1, "/quick": 1}
    numbers = [one.json["eventData"]["actorRunId"] for one in site.receiver.at("/quick")]
    assert numbers == [one["eventData"]["actorRunId"] for one in await site.dispatches(quick)]
    assert [one["status"] for one in await site.dispatches(slow)] == ["ACTIVE"] * 5


async def test_after_a_failed_call_later_events_do_not_wait(site: Site) -> None:
    site.receiver.answers["/hook"] = 500
    hook = await site.webhook()
    first = await site.program.run()
    await site.quiet()
    site.receiver.answers["/hook"] = 200
    second = await site.program.run()
    await site.quiet()
    await site.tick(80)
    order = [one.json["eventData"]["actorRunId"] for one in site.receiver.received]
    assert order == [first.id, second.id, first.id]
    assert [status for _, status in outcomes(await site.dispatches(hook))] == ["SUCCEEDED", "SUCCEEDED"]


async def test_disabled_or_removed_meanwhile(site: Site) -> None:
    site.receiver.answers["/hook"] = 500
    disabled, removed = await site.webhook(), await site.webhook()
    await site.program.run()
    await site.quiet()
    await site.program.ask("PUT", f"/webhooks/{disabled['id']}", {"isEnabled": False})
    listed = (await site.dispatches(removed))[0]["id"]
    await site.program.ask("DELETE", f"/webhooks/{removed['id']}")
    await site.tick(80)
    assert len(site.receiver.received) == 2
    assert (await site.calls(disabled))[-1]["errorMessage"] == "Webhook was disabled."
    gone = await site.program.ask("GET", f"/webhook-dispatches/{listed}")
    assert (gone["status"], gone["calls"][-1]["errorMessage"]) == ("FAILED", "Webhook was removed.")
    await site.program.run()
    await site.tick(80)
    assert len(site.receiver.received) == 2, "no event for either"


async def test_a_template_that_fails_at_the_event_fails_at_once(site: Site) -> None:
    hook = await site.webhook(payloadTemplate="{ {{userId}}: 1}")
    other = await site.webhook(headersTemplate='{"bad name": "x"}')
    await site.program.run()
    await site.quiet()
    assert (await site.dispatches(hook))[0]["status"] == "SUCCEEDED"
    (dispatch,) = await site.dispatches(other)
    assert dispatch["status"] == "FAILED"
    assert dispatch["calls"][0]["errorMessage"].startswith(
        "Failed to handle dispatch: The headers template has the name"
    )


async def test_a_test_is_sent_also_by_a_disabled_webhook_and_not_counted(site: Site) -> None:
    hook = await site.webhook(isEnabled=False)
    dispatch = await site.program.ask("POST", f"/webhooks/{hook['id']}/test")
    assert (dispatch["status"], dispatch["eventType"], dispatch["eventData"]) == ("ACTIVE", "TEST", None)
    await site.quiet()
    (got,) = site.receiver.received
    assert got.json["eventType"] == "TEST" and "joke" in got.json["resource"]
    run = await site.program.run()
    await site.program.ask("POST", f"/webhooks/{hook['id']}/test", {"resourceType": "RUN", "resourceId": run.id})
    body = {"resourceType": "BUILD", "resourceId": "buildbuildbuildbui"[:17]}
    await site.program.ask("POST", f"/webhooks/{hook['id']}/test", body)
    await site.quiet()
    assert [one.json["resource"]["id"] for one in site.receiver.received[1:]] == [run.id, body["resourceId"]]
    assert (await site.program.ask("GET", f"/webhooks/{hook['id']}"))["stats"] == {"totalDispatches": 0}


async def test_a_test_is_retried_three_times(site: Site) -> None:
    site.receiver.answers["/hook"] = 500
    hook = await site.webhook()
    await site.program.ask("POST", f"/webhooks/{hook['id']}/test")
    await site.quiet()
    for _ in range(MAX_TEST_RETRIES):
        await site.tick(400)
    (dispatch,) = await site.dispatches(hook)
    assert (dispatch["status"], len(dispatch["calls"])) == ("FAILED", MAX_TEST_RETRIES + 1)


async def test_builds_have_events_too(site: Site) -> None:
    hook = await site.webhook(eventTypes=["ACTOR.BUILD.CREATED", "ACTOR.BUILD.ABORTED", "ACTOR.BUILD.SUCCEEDED"])
    version = {
        "versionNumber": "0.2",
        "sourceType": "SOURCE_FILES",
        "sourceFiles": [{"name": "a", "format": "TEXT", "content": "x" * 1000}],
    }
    await site.program.ask("POST", f"/actors/{ACTOR_ID}/versions", version)
    build = await site.program.ask("POST", f"/actors/{ACTOR_ID}/builds?version=0.2")
    await site.program.ask("POST", f"/actor-builds/{build['id']}/abort")
    await site.tick()
    created, aborted = (one.json for one in site.receiver.received)
    assert created["eventType"] == "ACTOR.BUILD.CREATED" and aborted["eventType"] == "ACTOR.BUILD.ABORTED"
    assert created["eventData"] == {"actorId": ACTOR_ID, "actorBuildId": build["id"]}
    shown = await site.program.ask("GET", f"/actor-builds/{build['id']}")
    del shown["actVersion"]["sourceFiles"]
    assert aborted["resource"] == shown
    assert "xxx" not in json.dumps(aborted)
    assert [status for _, status in outcomes(await site.dispatches(hook))] == ["SUCCEEDED"] * 2


async def test_every_end_of_a_run_and_build_has_its_own_event(site: Site) -> None:
    await site.webhook(eventTypes=[*ALL, *(name.replace("RUN", "BUILD") for name in ALL[:5])])
    ends = (JobStatus.SUCCEEDED, JobStatus.FAILED)
    for end in ends:
        await site.program.run(end)
    timed_out = await site.program.run(JobStatus.TIMING_OUT)
    aborting = await site.program.run(JobStatus.ABORTING)

    async def end_them(tx: Tx) -> None:
        await jobs.transition(tx, timed_out.id, {JobStatus.TIMING_OUT}, JobStatus.TIMED_OUT, finished_at=1)
        await jobs.transition(tx, aborting.id, {JobStatus.ABORTING}, JobStatus.ABORTED, finished_at=1)
        for number, (on_the_way, end) in enumerate(
            ((JobStatus.RUNNING, JobStatus.SUCCEEDED), (JobStatus.TIMING_OUT, JobStatus.TIMED_OUT))
        ):
            first = await builds.find_build(tx, ACTOR_ID, "0.1.1")
            assert first is not None
            fields = {name: getattr(first, name) for name in first.__struct_fields__}
            build_id = str(number) * 17
            fields |= {"id": build_id, "build_number": f"0.1.{number + 2}", "status": JobStatus.READY}
            await builds.insert_build(tx, type(first)(**fields))
            await builds.transition(tx, build_id, {JobStatus.READY}, JobStatus.RUNNING)
            if on_the_way is not JobStatus.RUNNING:
                await builds.transition(tx, build_id, {JobStatus.RUNNING}, on_the_way)
            await builds.transition(tx, build_id, {on_the_way}, end)

    await site.program.platform.db.write("end", end_them)
    await site.tick(2)
    seen = [one.json["eventType"] for one in site.receiver.received]
    assert sorted(seen) == sorted(
        ["ACTOR.RUN.CREATED"] * 4
        + [f"ACTOR.RUN.{name}" for name in ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")]
        + ["ACTOR.BUILD.CREATED"] * 2
        + ["ACTOR.BUILD.SUCCEEDED", "ACTOR.BUILD.TIMED_OUT"]
    )


async def test_only_its_own_users_events(site: Site) -> None:
    await site.program.ask("PUT", f"/actors/{ACTOR_ID}", {"isPublic": True, "title": "Counter", "categories": ["AI"]})
    body = {"eventTypes": ALL, "condition": {"actorId": ACTOR_ID}, "requestUrl": f"{site.receiver.url}/john"}
    await site.program.ask("POST", "/webhooks", body, by="john")
    await site.webhook("/jane")
    await site.program.run()
    await site.quiet()
    assert [one.path for one in site.receiver.received] == ["/jane"]


async def test_signature(site: Site) -> None:
    hook = await site.webhook(signingSecret="a secret of sixteen")
    assert hook["isSigned"] is True and "a secret" not in json.dumps(hook)
    await site.program.run()
    await site.quiet()
    (got,) = site.receiver.received
    stamp, mac = (part.split("=")[1] for part in got.headers["x-actorium-signature"].split(","))
    assert stamp == str(site.program.clock.now_ms() // 1000)
    signed = hmac.new(b"a secret of sixteen", f"{stamp}.".encode() + got.body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(signed, mac)


async def test_a_call_of_the_servers_own_api_is_made_in_the_owners_name(site: Site) -> None:
    url = f"{site.program.url}/v2/acts/{ACTOR_ID}/runs?memory=128"
    hook = await site.webhook(
        requestUrl=url,
        isApifyIntegration=True,
        eventTypes=["ACTOR.RUN.SUCCEEDED"],
        shouldInterpolateStrings=True,
        payloadTemplate='{"from": "{{resource.id}}"}',
    )
    run = await site.program.run(JobStatus.SUCCEEDED)
    await site.tick()
    await site.quiet()
    (dispatch,) = await site.dispatches(hook)
    assert dispatch["status"] == "SUCCEEDED", dispatch
    newest = (await site.program.ask("GET", "/actor-runs?desc=1&limit=1"))["items"][0]
    assert newest["id"] != run.id and newest["meta"]["origin"] == "WEBHOOK"
    store = newest["defaultKeyValueStoreId"]
    assert await site.program.ask("GET", f"/key-value-stores/{store}/records/INPUT") == {"from": run.id}


async def test_a_server_that_dies_in_a_call_makes_it_again(site: Site) -> None:
    site.receiver.answers["/hook"] = hang
    hook = await site.webhook()
    await site.program.run()
    await site.until(lambda: len(site.receiver.received) == 1)
    # What a crash leaves: the lease, and no record of the call.
    await site.crash()
    site.receiver.answers["/hook"] = 200
    after = await site.another(site.delivery._settings.server_name)
    await site.until(lambda: len(site.receiver.received) == 2)
    await site.quiet()
    await after.stop()
    (dispatch,) = await site.dispatches(hook)
    assert (dispatch["status"], len(dispatch["calls"])) == ("SUCCEEDED", 1)


async def test_another_server_waits_for_the_lease_and_then_takes_over(site: Site) -> None:
    site.receiver.answers["/hook"] = hang
    hook = await site.webhook()
    await site.program.run()
    await site.until(lambda: len(site.receiver.received) == 1)
    other = await site.another("other")
    for _ in range(5):
        site.program.clock.advance(1)
        await asyncio.sleep(0.01)
    assert len(site.receiver.received) == 1, "two servers do not send the same"
    await site.crash()
    site.receiver.answers["/hook"] = 200
    site.program.clock.advance(200)
    await site.until(lambda: len(site.receiver.received) == 2)
    await site.quiet()
    await other.stop()
    assert (await site.dispatches(hook))[0]["status"] == "SUCCEEDED"


async def test_two_servers_send_each_dispatch_once(site: Site) -> None:
    hooks = [await site.webhook(f"/{n}") for n in range(5)]
    other = await site.another("other")
    for _ in range(10):
        await site.program.run()
    await site.quiet()
    await other.stop()
    for number, hook in enumerate(hooks):
        got = [one.json["eventData"]["actorRunId"] for one in site.receiver.at(f"/{number}")]
        assert got == [one["eventData"]["actorRunId"] for one in await site.dispatches(hook)]
        assert len(got) == 10 == len(set(got))


async def test_old_dispatches_are_deleted(site: Site) -> None:
    kept, removed = await site.webhook(), await site.webhook()
    await site.program.run()
    await site.quiet()
    await site.program.ask("DELETE", f"/webhooks/{removed['id']}")
    site.receiver.answers["/hook"] = 500
    await site.program.run()
    await site.tick(29 * 86_400)
    assert len(await site.dispatches(kept)) == 2

    async def rows(tx: Tx) -> tuple[int, int, int]:
        counts = [
            await tx.fetchrow(f"SELECT COUNT(*) AS n FROM {table}")
            for table in ("webhooks", "webhook_dispatches", "webhook_events")
        ]
        return tuple(row["n"] if row else -1 for row in counts)  # type: ignore[return-value]

    assert await site.program.platform.db.read("rows", rows) == (2, 3, 2)
    site.program.clock.advance(2 * 86_400)
    async with asyncio.timeout(20):
        while await site.program.platform.db.read("rows", rows) != (1, 1, 1):
            await asyncio.sleep(0)
    assert [one["status"] for one in await site.dispatches(kept)] == ["ACTIVE"]


async def test_private_addresses_can_be_forbidden(tmp_path: Path, database_url: str, receiver: Receiver) -> None:
    program = Program(tmp_path / "guarded", database_url, private_addresses="forbid")
    await program.start()
    site = Site(program, receiver)
    await site.delivery.start()
    port = receiver.url.rpartition(":")[2]
    urls = [f"http://127.0.0.1:{port}/a", f"http://localhost:{port}/b", f"http://127.1:{port}/c", "http://[::1]:1/d"]
    hooks = [await site.webhook(requestUrl=url) for url in urls]
    own = await site.webhook(requestUrl=f"{program.url}/v2/acts/{ACTOR_ID}/builds/default", doNotRetry=True)
    await program.run()
    await site.quiet()
    for hook in hooks:
        (dispatch,) = await site.dispatches(hook)
        assert dispatch["status"] == "FAILED", dispatch
        message = dispatch["calls"][0]["errorMessage"]
        assert "which is private" in message or "is not a canonical IPv4 address" in message, message
    assert not receiver.received
    assert (await site.calls(own))[0]["responseStatus"] == 405, "the server's own API is allowed"
    await site.delivery.stop()
    await program.stop()
