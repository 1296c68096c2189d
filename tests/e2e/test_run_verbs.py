"""Actors of the stock SDKs that use what a run can do, as processes and in containers: reboot, metamorph, call,
start, abort, tasks, webhooks, charging, events, messages, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from e2e.test_charging import priced
from e2e.test_sdks import items
from e2e.verb_actors import verb_actor
from support.platform import Platform, processes_of, wait_for

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("sdk-verbs")]

_DOCKER, _NODE = pytest.mark.docker, pytest.mark.node


class Verbs:
    """The Actor of ``verb_actors`` in one language on one runtime."""

    def __init__(self, platform: Platform, language: str, runtime: str) -> None:
        self.platform = platform
        self.language = language
        self.name = f"{language}-verbs"
        self.actor = platform.build_actor(self.name, verb_actor(language, runtime))

    def begin(self, mode: str, **more: Any) -> str:
        run = self.platform.call("POST", f"/v2/actors/{self.actor}/runs?memory=512", {"mode": mode, **more})
        return str(run["id"])

    def ended(self, run_id: str, status: str = "SUCCEEDED") -> dict[str, Any]:
        """The run once it is over, with the status it must have and nothing left of it."""
        ended = self.platform.ended(run_id)
        assert ended["status"] == status, self.platform.log_lines(run_id)[-20:]
        assert processes_of(run_id) == []
        return ended

    def done(self, mode: str, status: str = "SUCCEEDED", **more: Any) -> dict[str, Any]:
        return self.ended(self.begin(mode, **more), status)

    def item(self, run: dict[str, Any]) -> dict[str, Any]:
        """The only item it pushed."""
        (found,) = items(self.platform, run)
        return found

    def says(self, run_id: str, text: str) -> bool:
        return any(text in line for line in self.platform.log_lines(run_id))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("python", "process"), id="python"),
        pytest.param(("javascript", "process"), id="javascript", marks=_NODE),
        pytest.param(("python", "docker"), id="python-docker", marks=_DOCKER),
        pytest.param(("javascript", "docker"), id="javascript-docker", marks=[_DOCKER, _NODE]),
    ],
)
def verbs(request: pytest.FixtureRequest) -> Verbs:
    language, runtime = request.param
    platform = request.getfixturevalue("docker_platform" if runtime == "docker" else "platform")
    return Verbs(platform, language, runtime)


@pytest.fixture(scope="module")
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A URL for webhooks, and what has arrived there."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", received
    server.shutdown()
    server.server_close()


def test_reboot(verbs: Verbs) -> None:
    run = verbs.done("reboot")
    assert (run["stats"]["rebootCount"], verbs.item(run)) == (1, {"lives": 2})


def test_metamorph(verbs: Verbs) -> None:
    run = verbs.done("metamorph", target=f"admin/{verbs.name}")
    assert verbs.item(run) == {"mode": "echo", "from": "metamorph"}
    assert (run["stats"]["metamorph"], run["metamorphs"][0]["inputKey"]) == (1, "INPUT-METAMORPH-1")


def test_call(verbs: Verbs) -> None:
    pushed = verbs.item(verbs.done("call", target=verbs.actor))
    child = verbs.platform.run(pushed["called"])
    assert (pushed["status"], child["status"], child["meta"]["origin"]) == ("SUCCEEDED", "SUCCEEDED", "ACTOR")
    assert verbs.item(child) == {"mode": "echo", "n": 1}


def test_start_and_abort(verbs: Verbs) -> None:
    pushed = verbs.item(verbs.done("abort", target=verbs.actor))
    verbs.ended(pushed["aborted"], "ABORTED")


def test_tasks_webhooks_charging_and_no_proxy(verbs: Verbs, receiver: tuple[str, list[dict[str, Any]]]) -> None:
    url, received = receiver
    priced(verbs.platform, verbs.actor, page=0.1)
    task = verbs.platform.call(
        "POST", "/v2/actor-tasks", {"actId": verbs.actor, "name": verbs.name, "input": {"mode": "echo", "n": 2}}
    )
    run = verbs.done("others", task=task["id"], receiver=url)
    pushed = verbs.item(run)
    assert (run["chargedEventCounts"]["page"], pushed["charged"]) == (2, 2)
    child = verbs.platform.run(pushed["called"])
    assert (child["status"], child["actorTaskId"]) == ("SUCCEEDED", task["id"])
    assert verbs.item(child) == {"mode": "echo", "n": 2, "from": "task"}
    # There is no proxy: an Actor that asks for one is told so.
    assert pushed["proxy"] is None or pushed["proxy"].startswith("refused: "), pushed
    wait_for(lambda: any(sent["resource"]["id"] == run["id"] for sent in received))
    (sent,) = [sent for sent in received if sent["resource"]["id"] == run["id"]]
    assert (sent["eventType"], sent["resource"]["status"]) == ("ACTOR.RUN.SUCCEEDED", "SUCCEEDED")


def test_status_messages_and_exit_codes(verbs: Verbs) -> None:
    run = verbs.done("status")
    assert (run["statusMessage"], run["isStatusMessageTerminal"], run["exitCode"]) == ("All done", True, 0)
    run = verbs.done("fail", "FAILED")
    assert (run["statusMessage"], run["exitCode"]) == ("No luck", 7)
    assert verbs.done("raise", "FAILED")["exitCode"] == 91
    run = verbs.done("exit", "FAILED")
    assert run["exitCode"] == 3


def test_events_until_a_graceful_abort(verbs: Verbs) -> None:
    run_id = verbs.begin("wait")
    wait_for(lambda: verbs.says(run_id, "EVENT systemInfo"))
    verbs.platform.call("POST", f"/v2/actor-runs/{run_id}/abort?gracefully=1")
    # It leaves by itself; nobody waited for the window's end.
    assert verbs.ended(run_id, "ABORTED")["exitCode"] == 0
    told = [line.partition("EVENT ")[2] for line in verbs.platform.log_lines(run_id) if "EVENT " in line]
    assert "persistState" in told[told.index("aborting") :]


def test_a_migration(verbs: Verbs) -> None:
    """JavaScript Actors answer ``migrating`` with a reboot, Python ones use the whole window."""
    run_id = verbs.begin("wait")
    wait_for(lambda: verbs.says(run_id, "WAITING"))
    verbs.platform.call("POST", f"/actorium/runs/{run_id}/migrate")
    if verbs.language == "python":
        wait_for(lambda: verbs.says(run_id, "EVENT migrating"))
        assert verbs.platform.call("POST", f"/v2/actor-runs/{run_id}/reboot")["status"] == "RUNNING"
    ended = verbs.ended(run_id)
    assert verbs.says(run_id, "EVENT migrating")
    assert (ended["stats"]["migrationCount"], ended["stats"]["rebootCount"]) == (1, 0)
