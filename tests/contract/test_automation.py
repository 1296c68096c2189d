"""The stock Python client in both forms: every call of webhooks, dispatches and schedules, and what comes of them."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from apify_client.errors import ApifyApiError

from support.platform import TOKEN, Platform, python_actor, wait_for
from support.stock_clients import FORMS, stock_clients

pytestmark = [pytest.mark.xdist_group("client"), pytest.mark.timeout(200)]


@pytest.fixture(params=FORMS)
def client(request: pytest.FixtureRequest, platform: Platform) -> Iterator[Any]:
    with stock_clients(request.param, platform.url) as make:
        yield make(TOKEN)


class Received:
    """A receiver of webhooks: paths in the order they came."""

    def __init__(self) -> None:
        paths: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                paths.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *args: object) -> None:
                return

        self.paths = paths
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def received() -> Iterator[Received]:
    found = Received()
    yield found
    found.stop()


def until(ask: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    wait_for(lambda: holds(ask()))
    return ask()


def test_webhooks_and_dispatches(client: Any, platform: Platform, echo: str, received: Received) -> None:
    made = client.webhooks().create(
        event_types=["ACTOR.RUN.CREATED", "ACTOR.RUN.SUCCEEDED"],
        request_url=f"{received.url}/lasting",
        actor_id=echo,
        payload_template='{"id": {{resource.id}}}',
        headers_template='{"X-A": "b"}',
        should_interpolate_strings=True,
        description="d",
    )
    hook = client.webhook(made.id)
    assert hook.get() == made
    assert made.id in [item.id for item in client.webhooks().list(limit=1000).items]
    assert made.id in [item.id for item in client.webhooks().iterate()]
    assert made.id in [item.id for item in client.actor(echo).webhooks().list().items]
    changed = hook.update(description="other", do_not_retry=True, ignore_ssl_errors=True)
    assert (changed.description, changed.do_not_retry, changed.ignore_ssl_errors) == ("other", True, True)
    tested = hook.test()
    assert (tested.status, tested.event_type) == ("ACTIVE", "TEST")
    done = until(lambda: client.webhook_dispatch(tested.id).get(), lambda found: found.status != "ACTIVE")
    assert (done.status, done.calls[0].response_status, done.calls[0].response_body) == ("SUCCEEDED", 200, "ok")

    ad_hoc = {"event_types": ["ACTOR.RUN.SUCCEEDED"], "request_url": f"{received.url}/ad-hoc"}
    run = client.actor(echo).call(webhooks=[ad_hoc], memory_mbytes=128, logger=None)
    assert run.status == "SUCCEEDED"
    wait_for(lambda: len(received.paths) == 4)
    assert [path for path in received.paths if path == "/lasting"] == ["/lasting"] * 3
    dispatches = until(
        lambda: hook.dispatches().list(desc=True).items, lambda items: all(item.status == "SUCCEEDED" for item in items)
    )
    assert [item.event_type for item in dispatches] == ["ACTOR.RUN.SUCCEEDED", "ACTOR.RUN.CREATED", "TEST"]
    assert dispatches[0].event_data.actor_run_id == run.id
    assert [item.id for item in hook.dispatches().iterate(desc=True)] == [item.id for item in dispatches]
    everybody = {item.id for item in client.webhook_dispatches().list(limit=1000).items}
    assert {item.id for item in dispatches} <= everybody
    hook.delete()
    assert hook.get() is None
    assert client.webhook_dispatch(dispatches[0].id).get().id == dispatches[0].id
    with pytest.raises(ApifyApiError) as refused:
        client.webhooks().create(event_types=["ACTOR.RUN.CREATED"], request_url="http://a.example", actor_id="x")
    assert (refused.value.status_code, refused.value.type) == (400, "schema-validation")


def test_schedules(client: Any, echo: str) -> None:
    made = client.schedules().create(
        cron_expression="*/5 * * * *",
        is_enabled=True,
        is_exclusive=False,
        name="from-client",
        actions=[
            {
                "type": "RUN_ACTOR",
                "actorId": echo,
                "runInput": {"body": "{}", "contentType": "application/json"},
                "runOptions": {"memoryMbytes": 128},
            }
        ],
        description="d",
        timezone="Europe/Prague",
        title="Title",
        notifications_email=False,
    )
    schedule = client.schedule(made.id)
    assert made.next_run_at is not None
    assert made.next_run_at - dt.datetime.now(dt.UTC) <= dt.timedelta(minutes=5)
    assert made.actions[0].actor_id == echo
    assert made.notifications.email is False
    assert schedule.get() == made
    assert made.id in [item.id for item in client.schedules().list().items]
    assert made.id in [item.id for item in client.schedules().iterate()]
    changed = schedule.update(is_enabled=False, title="Other", cron_expression="0 0 1 1 *")
    assert (changed.next_run_at, changed.title, changed.is_enabled) == (None, "Other", False)
    assert schedule.get_log() == []
    soon = schedule.update(is_enabled=True, cron_expression="*/10 * * * * *")
    assert soon.next_run_at is not None
    log = until(schedule.get_log, lambda entries: len(entries) >= 1)
    assert (log[0].level, log[0].message) == ("INFO", "Schedule invoked")
    schedule.update(is_enabled=False)
    (run,) = [
        item
        for item in client.actor(echo).runs().list(desc=True, limit=3).items
        if item.meta.origin == "SCHEDULER" and item.meta.schedule_id == made.id
    ][-1:]
    assert run.meta.scheduled_at is not None
    with pytest.raises(ApifyApiError) as refused:
        schedule.update(cron_expression="never")
    assert (refused.value.status_code, refused.value.type) == (400, "cron-expression-invalid")
    schedule.delete()
    assert schedule.get() is None


_ADDS_A_WEBHOOK = """
import asyncio, os
from apify import Actor, Webhook

async def main():
    async with Actor:
        url = (await Actor.get_input())["url"]
        for _ in range(2):
            await Actor.add_webhook(
                Webhook(
                    event_types=["ACTOR.RUN.SUCCEEDED"], request_url=url, payload_template='{"a": {{resource.id}}}',
                    idempotency_key="of-" + os.environ["ACTOR_RUN_ID"],
                )
            )

asyncio.run(main())
"""


def test_a_run_adds_a_webhook_of_its_own_once(platform: Platform, received: Received) -> None:
    files = python_actor(_ADDS_A_WEBHOOK)
    files["Dockerfile"] = (
        "FROM apify/actor-python:3.11\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\nCOPY . ./\n"
        'CMD ["python", "main.py"]\n'
    )
    files["requirements.txt"] = "apify>=4.1,<5\n"
    actor = platform.build_actor("adds-webhook", files)
    run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=256", {"url": f"{received.url}/own"})
    ended = platform.ended(run["id"])
    assert ended["status"] == "SUCCEEDED", platform.log_lines(run["id"])
    wait_for(lambda: received.paths == ["/own"])
    hooks = [item for item in platform.call("GET", "/v2/webhooks?limit=1000")["items"] if item["isAdHoc"]]
    assert len([item for item in hooks if item["condition"] == {"actorRunId": run["id"]}]) == 1
