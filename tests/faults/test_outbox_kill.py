"""``kill -9`` between what happens and what tells of it: no event and no tick is lost."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support.platform import Platform, python_actor, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600), pytest.mark.xdist_group("faults")]


class Receiver:
    """Notes ``(run, event)`` of what it receives; while ``is_down`` it closes connections unanswered."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []
        self.is_down = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if receiver.is_down:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                dispatch = self.headers["X-Apify-Webhook-Dispatch-Id"]
                receiver.seen.append((body["eventData"]["actorRunId"], body["eventType"], dispatch))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_every_event_arrives_over_kills_at_random_moments(platform: Platform, request: pytest.FixtureRequest) -> None:
    rounds = request.config.getoption("--fault-rounds")
    receiver, moments = Receiver(), random.Random(20_261_124)
    actor = platform.build_actor("brief", python_actor("print('x')\n"))
    hook = {
        "eventTypes": ["ACTOR.RUN.CREATED", "ACTOR.RUN.SUCCEEDED"],
        "condition": {"actorId": actor},
        "requestUrl": receiver.url,
    }
    hook_id = platform.call("POST", "/v2/webhooks", hook)["id"]
    runs = []
    for _ in range(rounds):
        runs += [platform.call("POST", f"/v2/actors/{actor}/runs?memory=128")["id"] for _ in range(4)]
        time.sleep(moments.random() * 0.6)
        platform.kill()
        platform.start()
    for run in runs:
        assert platform.ended(run)["status"] == "SUCCEEDED"
    wanted = {(run, event) for run in runs for event in hook["eventTypes"]}
    wait_for(lambda: {(run, event) for run, event, _ in receiver.seen} == wanted, 90)
    listed = platform.call("GET", f"/v2/webhooks/{hook_id}/dispatches?limit=1000")["items"]
    assert len(listed) == len(wanted), "each event was written down once"
    wait_for(
        lambda: (
            {one["status"] for one in platform.call("GET", f"/v2/webhooks/{hook_id}/dispatches")["items"]}
            == {"SUCCEEDED"}
        )
    )
    for run in runs:
        events = [event for seen_run, event, _ in receiver.seen if seen_run == run]
        assert events[0] == "ACTOR.RUN.CREATED" and events[-1] == "ACTOR.RUN.SUCCEEDED"
    receiver.stop()


@pytest.mark.long
def test_what_waits_for_a_retry_survives(platform: Platform) -> None:
    receiver = Receiver()
    receiver.is_down = True
    actor = platform.build_actor("brief", python_actor("print('x')\n"))
    hook = {"eventTypes": ["ACTOR.RUN.SUCCEEDED"], "condition": {"actorId": actor}, "requestUrl": receiver.url}
    hook_id = platform.call("POST", "/v2/webhooks", hook)["id"]
    run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=128")["id"]
    platform.ended(run)
    where = f"/v2/webhooks/{hook_id}/dispatches"
    wait_for(lambda: [len(one["calls"]) for one in platform.call("GET", where)["items"]] == [1])
    platform.kill()
    receiver.is_down = False
    platform.start()
    wait_for(lambda: [one[:2] for one in receiver.seen] == [(run, "ACTOR.RUN.SUCCEEDED")], 100)
    wait_for(lambda: platform.call("GET", where)["items"][0]["status"] == "SUCCEEDED")
    receiver.stop()


@pytest.mark.long
def test_schedules_fire_over_kills_once_for_each_time(platform: Platform) -> None:
    actor = platform.build_actor("brief", python_actor("print('x')\n"))
    action = {"type": "RUN_ACTOR", "actorId": actor, "runOptions": {"memoryMbytes": 128}}
    body = {"cronExpression": "*/10 * * * * *", "isEnabled": True, "isExclusive": False, "actions": [action] * 3}
    schedule = platform.call("POST", "/v2/schedules", body)["id"]
    begun = time.monotonic()
    while time.monotonic() - begun < 35:
        time.sleep(random.Random(time.monotonic()).random() * 4 + 1)
        platform.kill()
        platform.start()
    platform.call("PUT", f"/v2/schedules/{schedule}", {"isEnabled": False})

    def fired() -> int:
        entries = platform.call("GET", f"/v2/schedules/{schedule}/log")
        return sum(one["message"] == "Schedule invoked" for one in entries)

    wait_for(lambda: fired() >= 2)
    time.sleep(2)
    items = platform.call("GET", f"/v2/actors/{actor}/runs?limit=1000")["items"]
    times = [(item["meta"]["scheduledAt"], item["meta"]["scheduledAct2Id"]) for item in items]
    assert len(times) == len(set(times)), "no action twice for one time"
    assert len(times) == 3 * fired(), "every action of every time"
