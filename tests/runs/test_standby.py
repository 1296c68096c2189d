"""Standby servers: names, tokens, runs on demand, routing, replacement, restarts. docs: runs, section 8."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from support.platform import TOKEN, Platform, Refused, python_actor, wait_for
from support.web_actors import SERVER, WEBSOCKETS, browser

pytestmark = [pytest.mark.timeout(180)]

BEARER = {"Authorization": f"Bearer {TOKEN}"}
FLAGS = ("--set", "max_total_memory_mbytes=16384")
IDLE_LINE = "ACTOR: Actor Standby server was idle for too long, finishing run."


def end_runs(platform: Platform) -> None:
    for run in platform.call("GET", "/v2/actor-runs?status=RUNNING,READY")["items"]:
        platform.call("POST", f"/v2/actor-runs/{run['id']}/abort")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    found = Platform(tmp_path_factory.mktemp("standby") / "data", *FLAGS).start()
    found.first_token()
    yield found
    end_runs(found)
    found.stop()


@pytest.fixture
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with browser() as session:
        yield session


def standby_actor(platform: Platform, name: str, files: dict[str, str] | None = None, **standby: Any) -> dict[str, Any]:
    """An Actor with a Standby server of small runs."""
    config = {"isEnabled": True, "memoryMbytes": 128, **standby}
    actor_id = platform.build_actor(name, files or python_actor(SERVER), actorStandby=config)
    actor: dict[str, Any] = platform.call("GET", f"/v2/actors/{actor_id}")
    return actor


def runs_of(platform: Platform, actor: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = platform.call("GET", f"/v2/actors/{actor['id']}/runs?desc=1&{query}")["items"]
    return found


async def ask(
    web: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, Any]:
    async with web.request(method, url, headers=BEARER if headers is None else headers) as answer:
        return answer.status, json.loads(await answer.read())


async def error_of(web: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    status, value = await ask(web, url, headers)
    return status, value["error"]["type"]


def header(echo: dict[str, Any], name: str) -> str | None:
    return next((value for key, value in echo["headers"] if key.lower() == name), None)


async def test_the_first_request_starts_a_run_and_waits_for_it(platform: Platform, web: aiohttp.ClientSession) -> None:
    actor = standby_actor(platform, "on-demand")
    port = urlsplit(platform.url).port
    assert actor["standbyUrl"] == f"http://admin--on-demand.standby.localhost:{port}"
    async with web.post(actor["standbyUrl"] + "/a?b=1", headers=BEARER, data="hello") as answer:
        assert answer.status == 200
        request_id = answer.headers["x-actor-request-id"]
        echo = json.loads(await answer.read())
    assert (echo["path"], echo["body"]) == ("/a?b=1", "hello")
    assert header(echo, "x-actor-request-id") == request_id
    assert header(echo, "authorization") == f"Bearer {TOKEN}"
    (short,) = runs_of(platform, actor)
    run = platform.run(short["id"])
    assert (run["status"], run["meta"]["origin"], run["isContainerServerReady"]) == ("RUNNING", "STANDBY", True)
    assert (run["options"]["timeoutSecs"], run["options"]["memoryMbytes"]) == (0, 128)
    assert run["standby"] == {"deployment": "SINGLE_TENANT"}
    with pytest.raises(Refused):
        platform.call("GET", f"/v2/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT")
    pids = {(await ask(web, actor["standbyUrl"] + "/"))[1]["pid"] for _ in range(5)}
    assert pids == {echo["pid"]}
    assert len(runs_of(platform, actor)) == 1


async def test_every_name_leads_there_and_every_place_for_the_token(
    platform: Platform, web: aiohttp.ClientSession
) -> None:
    actor = standby_actor(platform, "names")
    port = urlsplit(platform.url).port
    pid = (await ask(web, actor["standbyUrl"] + "/"))[1]["pid"]
    for url in (
        f"http://{actor['id'].lower()}.standby.localhost:{port}",
        f"http://ADMIN--Names.Standby.localhost:{port}",
        f"{platform.url}/actorium/standby/admin~names",
        f"{platform.url}/actorium/standby/{actor['id']}",
        f"{platform.url}/actorium/standby/names",
    ):
        status, echo = await ask(web, url + "/x")
        assert (status, echo["path"], echo["pid"]) == (200, "/x", pid)
    url = actor["standbyUrl"]
    assert (await ask(web, f"{url}/?token={TOKEN}", {}))[0] == 200
    assert (await ask(web, url, {"x-apify-authorization": f"Bearer {TOKEN}"}))[0] == 200
    assert (await ask(web, url, {**BEARER, "x-apify-authorization": "Bearer wrong"}))[0] == 200
    assert await error_of(web, url + "/", {}) == (401, "user-not-authenticated")
    assert await error_of(web, f"{url}/?token=wrong", {}) == (401, "user-not-authenticated")
    assert await error_of(web, f"http://admin--nothing.standby.localhost:{port}/") == (404, "record-not-found")
    assert await error_of(web, f"{platform.url}/actorium/standby/admin~nothing/") == (404, "record-not-found")
    assert len(runs_of(platform, actor)) == 1


async def test_an_actor_without_standby_says_so(platform: Platform, web: aiohttp.ClientSession) -> None:
    actor = standby_actor(platform, "disabled", isEnabled=False)
    assert actor["standbyUrl"] is None
    port = urlsplit(platform.url).port
    url = f"http://admin--disabled.standby.localhost:{port}/"
    assert await error_of(web, url) == (400, "standby-not-enabled")
    platform.call("PUT", f"/v2/actors/{actor['id']}", {"actorStandby": {"isEnabled": True}})
    assert (await ask(web, url))[0] == 200


async def test_fifty_requests_at_once_start_as_many_runs_as_the_configuration_says(
    platform: Platform, web: aiohttp.ClientSession
) -> None:
    actor = standby_actor(platform, "crowd", desiredRequestsPerActorRun=5, maxRequestsPerActorRun=6)
    url = actor["standbyUrl"]
    answers = await asyncio.gather(*(ask(web, url + "/sleep?2") for _ in range(50)))
    assert {status for status, _ in answers} == {200}
    runs = runs_of(platform, actor)
    assert len(runs) == 10
    for run in runs:
        _, seen = await ask(web, platform.run(run["id"])["containerUrl"] + "/seen")
        assert seen["most_busy"] <= 6 + 1  # with the one that asks
    # All at once again: nobody is above the desired number, so nothing is started.
    wait_for(lambda: all(platform.run(run["id"])["isContainerServerReady"] for run in runs))
    answers = await asyncio.gather(*(ask(web, url + "/sleep?1") for _ in range(50)))
    assert len(runs_of(platform, actor)) == 10
    assert max(Counter(value["pid"] for _, value in answers).values()) <= 6
    end_runs(platform)


async def test_requests_beyond_the_maximum_wait_where_no_further_run_fits(
    tmp_path: Path, web: aiohttp.ClientSession
) -> None:
    small = Platform(tmp_path / "data", "--set", "max_total_memory_mbytes=128").start()
    try:
        small.first_token()
        actor = standby_actor(small, "one-place", desiredRequestsPerActorRun=1, maxRequestsPerActorRun=2)
        answers = await asyncio.gather(*(ask(web, actor["standbyUrl"] + "/sleep?0.2") for _ in range(10)))
        assert {status for status, _ in answers} == {200}
        assert len({value["pid"] for _, value in answers}) == 1
        (running,) = runs_of(small, actor, "status=RUNNING")
        _, seen = await ask(web, small.run(running["id"])["containerUrl"] + "/seen")
        assert seen["most_busy"] == 2
        end_runs(small)
    finally:
        small.stop()


async def test_the_least_loaded_run_serves(platform: Platform, web: aiohttp.ClientSession) -> None:
    actor = standby_actor(platform, "least", desiredRequestsPerActorRun=2, maxRequestsPerActorRun=4)
    url = actor["standbyUrl"] + "/sleep?1"
    await asyncio.gather(*(ask(web, url) for _ in range(6)))
    runs = runs_of(platform, actor)
    assert len(runs) == 3
    wait_for(lambda: all(platform.run(run["id"])["isContainerServerReady"] for run in runs))
    await ask(web, actor["standbyUrl"])  # sees the runs
    await asyncio.sleep(1.1)
    answers = await asyncio.gather(*(ask(web, url) for _ in range(6)))
    assert sorted(Counter(value["pid"] for _, value in answers).values()) == [2, 2, 2]


async def test_a_run_that_ends_before_it_is_ready_is_reported(platform: Platform, web: aiohttp.ClientSession) -> None:
    actor = standby_actor(platform, "broken", python_actor("raise SystemExit(3)\n"))
    assert await error_of(web, actor["standbyUrl"] + "/") == (503, "standby-run-finished")
    (run,) = runs_of(platform, actor)
    assert run["status"] == "FAILED"


async def test_a_run_that_dies_in_a_request_is_replaced(platform: Platform, web: aiohttp.ClientSession) -> None:
    actor = standby_actor(platform, "dies")
    first = (await ask(web, actor["standbyUrl"] + "/"))[1]["pid"]
    status, kind = await error_of(web, actor["standbyUrl"] + "/die")
    assert (status, kind) in {(502, "standby-bad-gateway"), (503, "standby-run-finished")}
    # The request that killed a run was not given to another one.
    assert len(runs_of(platform, actor)) == 1
    assert (await ask(web, actor["standbyUrl"] + "/"))[1]["pid"] != first
    assert await error_of(web, actor["standbyUrl"] + "/silent") == (502, "standby-bad-gateway")


async def test_an_abort_in_the_middle_breaks_the_answer_off(platform: Platform, web: aiohttp.ClientSession) -> None:
    actor = standby_actor(platform, "aborted")
    async with web.get(actor["standbyUrl"] + "/events", headers=BEARER) as answer:
        await answer.content.readany()
        (run,) = runs_of(platform, actor)
        platform.call("POST", f"/v2/actor-runs/{run['id']}/abort")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert platform.ended(run["id"])["status"] == "ABORTED"
    assert (await ask(web, actor["standbyUrl"] + "/"))[0] == 200


async def test_a_new_build_takes_over_and_requests_under_way_are_served(
    platform: Platform, web: aiohttp.ClientSession
) -> None:
    actor = standby_actor(platform, "rebuilt", desiredRequestsPerActorRun=10, maxRequestsPerActorRun=10)
    first = (await ask(web, actor["standbyUrl"] + "/"))[1]["pid"]
    async with web.get(actor["standbyUrl"] + "/events", headers=BEARER) as stream:
        await stream.content.readany()
        platform.call("POST", f"/v2/actors/{actor['id']}/builds?version=0.0&waitForFinish=60")
        async with asyncio.timeout(60):
            while (await ask(web, actor["standbyUrl"] + "/"))[1]["pid"] == first:
                await asyncio.sleep(0.2)
        assert await stream.content.readany()
        newest, oldest = (platform.run(run["id"]) for run in runs_of(platform, actor))
        assert (oldest["buildNumber"], newest["buildNumber"]) == ("0.0.1", "0.0.2")
        assert oldest["status"] == "RUNNING"


async def test_a_killed_server_finds_its_standby_runs_again(tmp_path: Path, web: aiohttp.ClientSession) -> None:
    found = Platform(tmp_path / "data", *FLAGS).start()
    try:
        found.first_token()
        actor = standby_actor(found, "survivor")
        pid = (await ask(web, actor["standbyUrl"] + "/"))[1]["pid"]
        found.kill()
        found.start()
        assert (await ask(web, actor["standbyUrl"] + "/"))[1]["pid"] == pid
        assert len(runs_of(found, actor)) == 1
        # And one that is killed while requests wait for the first run.
        slow = standby_actor(found, "slow-start", {**python_actor("import time; time.sleep(3)\n" + SERVER)})
        waiting = asyncio.create_task(ask(web, slow["standbyUrl"] + "/"))
        wait_for_runs = asyncio.to_thread(wait_for, lambda: len(runs_of(found, slow)) == 1)
        await wait_for_runs
        found.kill()
        with pytest.raises(aiohttp.ClientError):
            await waiting
        found.start()
        assert (await ask(web, slow["standbyUrl"] + "/"))[0] == 200
        assert len(runs_of(found, slow)) == 1
        end_runs(found)
    finally:
        found.stop()


async def test_a_task_has_a_server_of_its_own_with_its_input(platform: Platform, web: aiohttp.ClientSession) -> None:
    actor = standby_actor(platform, "with-tasks", shouldPassActorInput=True)
    body = {"actId": actor["id"], "name": "my-task", "input": {"a": 1}, "actorStandby": {"memoryMbytes": 256}}
    task = platform.call("POST", "/v2/actor-tasks", body)
    port = urlsplit(platform.url).port
    assert task["standbyUrl"] == f"http://admin--my-task.standby.localhost:{port}"
    of_task = (await ask(web, task["standbyUrl"] + "/"))[1]["pid"]
    of_actor = (await ask(web, actor["standbyUrl"] + "/"))[1]["pid"]
    assert of_task != of_actor
    (short,) = platform.call("GET", f"/v2/actor-tasks/{task['id']}/runs")["items"]
    run = platform.run(short["id"])
    assert (run["actorTaskId"], run["options"]["memoryMbytes"]) == (task["id"], 256)
    stored = platform.call("GET", f"/v2/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT")
    assert stored == {"a": 1}


async def test_others_reach_a_public_actor_with_runs_of_their_own(
    platform: Platform, web: aiohttp.ClientSession
) -> None:
    platform.cli("users", "add", "jane.doe")
    platform.cli("tokens", "create", "jane.doe", "--token", "janes-token-of-the-tests")
    actor = standby_actor(platform, "shared")
    jane = {"Authorization": "Bearer janes-token-of-the-tests"}
    assert await error_of(web, actor["standbyUrl"] + "/", jane) == (404, "record-not-found")
    platform.call(
        "PUT", f"/v2/actors/{actor['id']}", {"isPublic": True, "title": "Shared", "categories": ["DEVELOPER_TOOLS"]}
    )
    own = (await ask(web, actor["standbyUrl"] + "/"))[1]["pid"]
    assert (await ask(web, actor["standbyUrl"] + "/", jane))[1]["pid"] != own
    hers = platform.call("GET", "/v2/actor-runs", token="janes-token-of-the-tests")["items"]
    assert [run["actId"] for run in hers] == [actor["id"]]
    platform.call("POST", f"/v2/actor-runs/{hers[0]['id']}/abort", token="janes-token-of-the-tests")


async def test_websockets_reach_a_standby_server(platform: Platform, web: aiohttp.ClientSession) -> None:
    actor = standby_actor(platform, "socket", python_actor(WEBSOCKETS), memoryMbytes=256)
    async with web.ws_connect(f"{actor['standbyUrl']}/?token={TOKEN}", protocols=["chat.v2"]) as socket:
        assert (await socket.receive_str()).startswith(f"hello /?token={TOKEN} chat.v2")
        await socket.send_bytes(b"\0\1")
        assert await socket.receive_bytes() == b"\0\1"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await web.ws_connect(actor["standbyUrl"])
    assert refused.value.status == 401


async def test_big_bodies_stream_through(platform: Platform, web: aiohttp.ClientSession) -> None:
    actor = standby_actor(platform, "big")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield bytes(2**20)

    # The body is sent only once there is a run to take it.
    async with web.post(actor["standbyUrl"] + "/upload", data=chunks(), headers=BEARER) as answer:
        assert (await answer.json())["total"] == 50 * 2**20


async def test_whoever_leaves_while_waiting_frees_the_place(platform: Platform, web: aiohttp.ClientSession) -> None:
    actor = standby_actor(
        platform,
        "impatient",
        python_actor("import time; time.sleep(3)\n" + SERVER),
        desiredRequestsPerActorRun=1,
        maxRequestsPerActorRun=1,
    )
    leaving = [asyncio.create_task(ask(web, actor["standbyUrl"] + "/sleep?30")) for _ in range(2)]
    await asyncio.to_thread(wait_for, lambda: len(runs_of(platform, actor)) == 2)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    answers = await asyncio.gather(*(ask(web, actor["standbyUrl"] + "/") for _ in range(2)))
    assert [status for status, _ in answers] == [200, 200]
    assert len(runs_of(platform, actor)) == 2


@pytest.mark.long
async def test_an_idle_server_ends_and_the_next_request_starts_another(
    platform: Platform, web: aiohttp.ClientSession
) -> None:
    actor = standby_actor(platform, "idle", idleTimeoutSecs=5)
    # Longer than the idle timeout, with one request under way all the time, and then a pause shorter than it.
    async with web.get(actor["standbyUrl"] + "/events", headers=BEARER) as stream:
        async with asyncio.timeout(30):
            await stream.content.readuntil(b"data: 140\n\n")
    await asyncio.sleep(3)
    assert (await ask(web, actor["standbyUrl"] + "/"))[0] == 200
    (run,) = runs_of(platform, actor)
    ended = await asyncio.to_thread(platform.ended, run["id"])
    assert ended["status"] == "SUCCEEDED"
    assert IDLE_LINE in platform.log_lines(run["id"])
    assert (await ask(web, actor["standbyUrl"] + "/"))[0] == 200
    assert len(runs_of(platform, actor)) == 2


PYTHON_SDK = """
import asyncio
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from apify import Actor, Event


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if "x-apify-container-server-readiness-probe" in self.headers:
            self.wfile.write(b"ready")
        else:
            self.wfile.write(self.server.text.encode())


async def main():
    async with Actor:
        config = Actor.configuration
        over = asyncio.Event()

        async def on_aborting():
            Actor.log.info("EVENT aborting")
            over.set()

        Actor.on(Event.ABORTING, on_aborting)
        server = HTTPServer(("", config.web_server_port), Handler)
        server.text = f"{config.meta_origin} {config.standby_url} {config.web_server_url} {await Actor.get_input()}"
        Thread(target=server.serve_forever, daemon=True).start()
        await over.wait()
        server.shutdown()


asyncio.run(main())
"""

JAVASCRIPT_SDK = """
import http from 'node:http';
import { Actor, log } from 'apify';

await Actor.init();
Actor.on('aborting', () => log.info('EVENT aborting'));
const { metaOrigin, standbyUrl, containerPort, containerUrl } = Actor.getEnv();
const text = `${process.env.APIFY_META_ORIGIN} ${process.env.ACTOR_STANDBY_URL} ${process.env.ACTOR_WEB_SERVER_URL} ` +
    `${await Actor.getInput()}`;
http.createServer((request, response) => {
    response.writeHead(200);
    response.end(request.headers['x-apify-container-server-readiness-probe'] ? 'ready' : text);
}).listen(Actor.config.get('standbyPort'));
"""

_SDK_ACTORS = {
    "python": {
        "Dockerfile": "FROM apify/actor-python:3.11\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\n"
        'COPY . ./\nCMD ["python", "main.py"]\n',
        "requirements.txt": "apify>=4.1,<5\n",
        "main.py": PYTHON_SDK,
    },
    "javascript": {
        "Dockerfile": "FROM apify/actor-node:20\nCOPY package*.json ./\n"
        "RUN npm install --omit=dev --omit=optional --no-audit --no-fund\nCOPY . ./\nCMD node main.js\n",
        "package.json": '{"type": "module", "dependencies": {"apify": "3.7.2"}}',
        "main.js": JAVASCRIPT_SDK,
    },
}


@pytest.mark.parametrize("language", ["python", pytest.param("javascript", marks=pytest.mark.node)])
async def test_an_actor_of_the_stock_sdk_serves_and_ends_when_idle(
    platform: Platform, web: aiohttp.ClientSession, language: str
) -> None:
    files = _SDK_ACTORS[language]
    actor = await asyncio.to_thread(
        standby_actor, platform, f"sdk-{language}", files, memoryMbytes=512, idleTimeoutSecs=5
    )
    async with web.get(actor["standbyUrl"] + "/", headers=BEARER) as answer:
        assert answer.status == 200
        words = (await answer.text()).split()
    (short,) = runs_of(platform, actor)
    run = platform.run(short["id"])
    assert words[0] == "STANDBY"
    assert [word.rstrip("/") for word in words[1:3]] == [actor["standbyUrl"], run["containerUrl"]]
    assert words[3] in ("None", "null")
    ended = await asyncio.to_thread(platform.ended, run["id"])
    assert (ended["status"], ended["exitCode"]) == ("SUCCEEDED", 0)
    lines = platform.log_lines(run["id"])
    assert IDLE_LINE in lines
    assert any("EVENT aborting" in line for line in lines)
