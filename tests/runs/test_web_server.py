"""containerUrl: requests and websockets that reach the web server in a run. docs: runs, sections 1, 5 and 8."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from support.platform import Platform, python_actor, wait_for
from support.web_actors import SERVER, WEBSOCKETS, browser, by_path, serving

MEGABYTE = 2**20
JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    found = Platform(tmp_path_factory.mktemp("web") / "data").start()
    found.first_token()
    yield found
    for run in found.call("GET", "/v2/actor-runs?status=RUNNING")["items"]:
        found.call("POST", f"/v2/actor-runs/{run['id']}/abort")
    found.stop()


@pytest.fixture(scope="module")
def server_actor(platform: Platform) -> str:
    return platform.build_actor("web-server", python_actor(SERVER))


@pytest.fixture(scope="module")
def run(platform: Platform, server_actor: str) -> dict[str, Any]:
    """A run shared by the tests that do not end it."""
    return serving(platform, server_actor, "memory=128")


@pytest.fixture(scope="module")
def websocket_run(platform: Platform) -> dict[str, Any]:
    return serving(platform, platform.build_actor("websockets", python_actor(WEBSOCKETS)), "memory=256")


@pytest.fixture
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with browser() as session:
        yield session


async def seen(web: aiohttp.ClientSession, run: dict[str, Any]) -> dict[str, int]:
    async with web.get(run["containerUrl"] + "/seen") as answer:
        counts: dict[str, int] = json.loads(await answer.read())
        return counts


def header(echo: dict[str, Any], name: str) -> str | None:
    return next((value for key, value in echo["headers"] if key.lower() == name), None)


def peak_memory(platform: Platform) -> int:
    status = Path(f"/proc/{platform.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024


def test_container_url_is_there_from_the_start_and_stays(platform: Platform, server_actor: str) -> None:
    run = platform.call("POST", f"/v2/actors/{server_actor}/runs?memory=128")
    port = urlsplit(platform.url).port
    assert re.fullmatch(rf"http://[a-z0-9]{{12}}\.runs\.localhost:{port}", run["containerUrl"])
    assert run["isContainerServerReady"] is False
    assert run["id"].lower() not in run["containerUrl"]
    wait_for(lambda: platform.run(run["id"])["isContainerServerReady"])
    platform.call("POST", f"/v2/actor-runs/{run['id']}/reboot")
    wait_for(lambda: platform.run(run["id"])["stats"]["rebootCount"] == 1)
    wait_for(lambda: platform.run(run["id"])["isContainerServerReady"])
    platform.call("POST", f"/v2/actor-runs/{run['id']}/abort")
    ended = platform.ended(run["id"])
    assert ended["isContainerServerReady"] is False
    platform.call("POST", f"/v2/actor-runs/{run['id']}/resurrect")
    wait_for(lambda: platform.run(run["id"])["isContainerServerReady"])
    assert platform.run(run["id"])["containerUrl"] == run["containerUrl"] == ended["containerUrl"]
    platform.call("POST", f"/v2/actor-runs/{run['id']}/abort")


def test_the_process_knows_port_and_urls(platform: Platform) -> None:
    names = "ACTOR_WEB_SERVER_PORT APIFY_CONTAINER_PORT ACTOR_STANDBY_PORT ACTOR_WEB_SERVER_URL APIFY_CONTAINER_URL"
    code = f"import os\nfor name in '{names} ACTOR_STANDBY_URL'.split(): print(os.environ[name])\n"
    actor = platform.build_actor("env", python_actor(code))
    run = platform.ended(platform.call("POST", f"/v2/actors/{actor}/runs")["id"])
    lines = [line for line in platform.log_lines(run["id"]) if not line.startswith("ACTOR:")]
    ports, urls = set(lines[:3]), set(lines[3:5])
    assert len(ports) == 1 and 20000 <= int(ports.pop()) <= 29999
    assert urls == {run["containerUrl"]}
    assert re.fullmatch(r"http://admin--env\.standby\.localhost:\d+", lines[5])


def test_a_version_may_choose_its_port_and_never_takes_that_of_a_live_run(platform: Platform) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    files = [{"name": path, "format": "TEXT", "content": text} for path, text in python_actor(SERVER).items()]
    version = {
        "versionNumber": "0.0",
        "sourceType": "SOURCE_FILES",
        "buildTag": "latest",
        "sourceFiles": files,
        "envVars": [{"name": "ACTOR_WEB_SERVER_PORT", "value": str(port)}],
    }
    actor = platform.call("POST", "/v2/actors", {"name": "own-port", "versions": [version]})
    build = platform.call("POST", f"/v2/actors/{actor['id']}/builds?version=0.0&waitForFinish=60")
    assert build["status"] == "SUCCEEDED"
    first, second = (serving(platform, actor["id"], "memory=128") for _ in range(2))
    paths = [urlsplit(by_path(platform, one)).path + "/" for one in (first, second)]
    pids = [platform.call("GET", path, token=None)["pid"] for path in paths]
    assert pids[0] != pids[1]
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    for one in (first, second):
        platform.call("POST", f"/v2/actor-runs/{one['id']}/abort")


async def test_requests_arrive_as_they_were_sent(run: dict[str, Any], web: aiohttp.ClientSession) -> None:
    url = run["containerUrl"]
    raw = aiohttp.client.URL(f"{url}/a%2Fb//c/../d;x?q=%20+1&q=2&token=t", encoded=True)
    sent = {"X-Two": "1", "Cookie": "a=1", "Authorization": "Bearer mine", "Connection": "x-hop", "X-Hop": "1"}
    sent |= {"TE": "trailers", "X-Forwarded-For": "203.0.113.7", "User-Agent": "tests"}
    async with web.put(raw, headers=sent, data="grüße") as answer:
        assert answer.status == 200
        echo = json.loads(await answer.read())
    assert (echo["method"], echo["path"]) == ("PUT", "/a%2Fb//c/../d;x?q=%20+1&q=2&token=t")
    assert echo["body"] == "grüße"
    host = urlsplit(url).netloc
    assert header(echo, "host") == header(echo, "x-forwarded-host") == host
    assert header(echo, "x-forwarded-for") == "203.0.113.7"
    assert header(echo, "x-forwarded-proto") == "http"
    kept = [header(echo, name) for name in ("cookie", "authorization", "user-agent", "x-two")]
    assert kept == ["a=1", "Bearer mine", "tests", "1"]
    assert [header(echo, name) for name in ("x-hop", "te", "x-forwarded-prefix", "accept-language")] == [None] * 4
    for method in ("DELETE", "PATCH", "OPTIONS", "POST"):
        async with web.request(method, url + "/x") as answer:
            assert json.loads(await answer.read())["method"] == method


async def test_answers_come_back_as_they_were_sent(run: dict[str, Any], web: aiohttp.ClientSession) -> None:
    url = run["containerUrl"]
    async with web.get(url + "/trailers") as answer:
        assert await answer.read() == b"hello"
        assert "x-private" not in answer.headers and "trailer" not in answer.headers
    async with web.get(url + "/nothing") as answer:
        assert (answer.status, await answer.read()) == (204, b"")
    async with web.head(url + "/x") as answer:
        assert answer.status == 200 and int(answer.headers["content-length"]) > 100
    async with web.get(url + "/cookies") as answer:
        assert answer.headers.getall("set-cookie") == ["a=1", "b=2"]
        assert len(answer.headers.getall("date")) == 1
        assert "content-security-policy" not in answer.headers


async def test_without_wildcard_names_a_path_leads_to_it_isolated(
    platform: Platform, run: dict[str, Any], web: aiohttp.ClientSession
) -> None:
    url = by_path(platform, run)
    async with web.get(url + "/a/b?c=1", headers={"Cookie": "session=secret"}) as answer:
        echo = json.loads(await answer.read())
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert echo["path"] == "/a/b?c=1"
    assert header(echo, "x-forwarded-prefix") == urlsplit(url).path
    assert header(echo, "cookie") is None
    async with web.get(url + "/cookies") as answer:
        assert "set-cookie" not in answer.headers
    async with web.get(url + "?a=1", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["location"]) == (307, urlsplit(url).path + "/?a=1")


@pytest.mark.parametrize(("runs_domain", "expected"), [("", "path"), ("runs.example.com", "host")])
def test_domain_is_a_setting(tmp_path: Path, runs_domain: str, expected: str) -> None:
    flags = ["--set", "public_base_url=https://act.example.com:8443", "--set", f"runs_domain={runs_domain}"]
    found = Platform(tmp_path / "data", *flags).start()
    try:
        found.first_token()
        actor = found.build_actor("web-server", python_actor(SERVER))
        run = serving(found, actor, "memory=128")
        slug = re.findall(r"[a-z0-9]{12}", run["containerUrl"])[0]
        if expected == "path":
            assert run["containerUrl"] == f"https://act.example.com:8443/actorium/runs-web/{slug}"
        else:
            assert run["containerUrl"] == f"https://{slug}.runs.example.com:8443"
            echo = found.call("GET", "/v2/actors", headers={"Host": f"{slug.upper()}.Runs.example.com"}, token=None)
            assert echo["path"] == "/v2/actors"
        assert found.call("GET", f"/actorium/runs-web/{slug}/x", token=None)["path"] == "/x"
        found.call("POST", f"/v2/actor-runs/{run['id']}/abort")
        found.ended(run["id"])
    finally:
        found.stop()


async def test_server_sent_events_arrive_one_by_one_and_the_server_hears_of_the_clients_leaving(
    run: dict[str, Any], web: aiohttp.ClientSession
) -> None:
    before = (await seen(web, run))["gone"]
    async with web.get(run["containerUrl"] + "/events") as answer:
        first = await answer.content.readany()
        assert first.startswith(b"data: 0\n\n") and b"data: 9\n\n" not in first
        await answer.content.readuntil(b"data: 9\n\n")
    async with asyncio.timeout(20):
        while (await seen(web, run))["gone"] == before:
            await asyncio.sleep(0.05)


async def test_chunked_uploads_stream_and_lengths_stay(run: dict[str, Any], web: aiohttp.ClientSession) -> None:
    parts = [bytes([number]) * 100_000 for number in range(20)]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()

    async def chunks() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    async with web.post(run["containerUrl"] + "/upload", data=chunks()) as answer:
        assert (await answer.json())["sha256"] == digest
    async with web.post(run["containerUrl"] + "/upload", data=io.BytesIO(b"".join(parts))) as answer:
        found = await answer.json()
        assert (found["total"], found["sha256"]) == (2_000_000, digest)
    async with web.post(run["containerUrl"] + "/upload", data=b"x", headers={"Expect": "100-continue"}) as answer:
        assert (await answer.json())["total"] == 1


async def test_an_answer_may_come_before_the_upload_ends(run: dict[str, Any], web: aiohttp.ClientSession) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(2000):
            yield bytes(65536)

    try:
        async with web.post(run["containerUrl"] + "/refuse-upload", data=endless()) as answer:
            assert answer.status == 413
    except aiohttp.ClientConnectionError:
        pass  # the connection may be closed before the answer is read
    assert (await seen(web, run))["busy"] == 1


async def test_a_slow_reader_slows_the_server_down(
    platform: Platform, run: dict[str, Any], web: aiohttp.ClientSession
) -> None:
    before, peak = (await seen(web, run))["sent"], peak_memory(platform)
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(platform.url).port, limit=2**16)
    size = 400 * MEGABYTE
    host = urlsplit(run["containerUrl"]).netloc
    writer.write(f"GET /big?{size} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    counts = [-1, 0]
    while counts[-1] != counts[-2]:
        await asyncio.sleep(0.3)
        counts.append((await seen(web, run))["sent"] - before)
    assert counts[-1] < 60 * MEGABYTE
    assert peak_memory(platform) - peak < 30 * MEGABYTE
    writer.close()


@pytest.mark.long
async def test_a_gigabyte_each_way_takes_no_memory(
    platform: Platform, run: dict[str, Any], web: aiohttp.ClientSession
) -> None:
    size, peak = 1024 * MEGABYTE, peak_memory(platform)
    total = 0
    async with web.get(f"{run['containerUrl']}/big?{size}") as answer:
        async for chunk in answer.content.iter_any():
            total += len(chunk)
    assert total == size

    async def chunks() -> AsyncIterator[bytes]:
        block = bytes(MEGABYTE)
        for _ in range(1024):
            yield block

    async with web.post(run["containerUrl"] + "/upload", data=chunks()) as answer:
        assert (await answer.json())["total"] == size
    assert peak_memory(platform) - peak < 30 * MEGABYTE


async def test_many_at_once_share_nothing(run: dict[str, Any], web: aiohttp.ClientSession) -> None:
    async def one(number: int) -> None:
        async with web.post(f"{run['containerUrl']}/{number}", data=f"body {number}") as answer:
            echo = json.loads(await answer.read())
            assert (echo["path"], echo["body"]) == (f"/{number}", f"body {number}")

    await asyncio.gather(*(one(number) for number in range(100)))


async def test_broken_answers_are_not_made_whole(run: dict[str, Any], web: aiohttp.ClientSession) -> None:
    async with web.get(run["containerUrl"] + "/broken") as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    async with web.post(run["containerUrl"] + "/silent", headers=JSON) as answer:
        assert answer.status == 502
        assert (await answer.json())["error"]["type"] == "web-server-unreachable"


async def test_unknown_unready_and_finished_runs_get_a_clear_error(
    platform: Platform, web: aiohttp.ClientSession
) -> None:
    port = urlsplit(platform.url).port
    async with web.get(f"http://aaaaaaaaaaaa.runs.localhost:{port}/v2/users/me", headers=JSON) as answer:
        assert (answer.status, (await answer.json())["error"]["type"]) == (404, "record-not-found")
    sleeper = platform.build_actor(
        "no-server", python_actor("import time\nprint('ready', flush=True)\ntime.sleep(600)\n")
    )
    run = platform.call("POST", f"/v2/actors/{sleeper}/runs?memory=128")
    wait_for(lambda: "ready" in platform.log_lines(run["id"]))
    async with web.get(run["containerUrl"], headers=JSON) as answer:
        assert (answer.status, (await answer.json())["error"]["type"]) == (502, "web-server-unreachable")
    async with web.get(run["containerUrl"], headers={"Accept": "text/html,*/*"}) as answer:
        assert answer.status == 502 and answer.content_type == "text/html"
        assert "ACTOR_WEB_SERVER_PORT" in await answer.text()
    assert platform.run(run["id"])["isContainerServerReady"] is False
    platform.call("POST", f"/v2/actor-runs/{run['id']}/abort")
    platform.ended(run["id"])
    await asyncio.sleep(0.6)  # the address is kept for half a second
    async with web.get(run["containerUrl"], headers=JSON) as answer:
        assert (answer.status, (await answer.json())["error"]["type"]) == (404, "run-not-running")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await web.ws_connect(run["containerUrl"])
    assert refused.value.status == 404


async def test_an_abort_ends_answers_under_way(
    platform: Platform, server_actor: str, web: aiohttp.ClientSession
) -> None:
    run = serving(platform, server_actor, "memory=128")
    async with web.get(run["containerUrl"] + "/events") as answer:
        await answer.content.readany()
        platform.call("POST", f"/v2/actor-runs/{run['id']}/abort")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_run_that_dies_in_a_request_answers_502(
    platform: Platform, server_actor: str, web: aiohttp.ClientSession
) -> None:
    run = serving(platform, server_actor, "memory=128")
    async with web.post(run["containerUrl"] + "/die", headers=JSON) as answer:
        assert (answer.status, (await answer.json())["error"]["type"]) == (502, "web-server-unreachable")
    assert platform.ended(run["id"])["exitCode"] == 3


async def test_a_killed_server_serves_the_same_url_again(tmp_path: Path, web: aiohttp.ClientSession) -> None:
    found = Platform(tmp_path / "data").start()
    try:
        found.first_token()
        run = serving(found, found.build_actor("web-server", python_actor(SERVER)), "memory=128")
        async with web.get(run["containerUrl"] + "/x") as answer:
            pid = json.loads(await answer.read())["pid"]
        found.kill()
        found.start()
        assert found.run(run["id"])["containerUrl"] == run["containerUrl"]
        async with web.get(run["containerUrl"] + "/x") as answer:
            assert json.loads(await answer.read())["pid"] == pid
        found.call("POST", f"/v2/actor-runs/{run['id']}/abort")
        found.ended(run["id"])
    finally:
        found.stop()


async def test_websockets_carry_text_and_bytes_both_ways(
    websocket_run: dict[str, Any], web: aiohttp.ClientSession
) -> None:
    url = websocket_run["containerUrl"] + "/a%20b"
    async with web.ws_connect(url, protocols=["other", "chat.v1"], max_msg_size=0) as socket:
        assert socket.protocol == "chat.v1"
        host = urlsplit(websocket_run["containerUrl"]).netloc
        assert await socket.receive_str() == f"hello /a%20b chat.v1 {host}"
        await socket.send_str("grüße")
        assert await socket.receive_str() == "grüße"
        big = bytes(range(256)) * (8 * MEGABYTE // 256)
        await socket.send_bytes(big)
        assert (await socket.receive_bytes()) == big


async def test_websocket_close_codes_pass_both_ways(
    platform: Platform, websocket_run: dict[str, Any], web: aiohttp.ClientSession
) -> None:
    socket = await web.ws_connect(websocket_run["containerUrl"])
    await socket.receive_str()
    await socket.send_str("bye")
    message = await socket.receive()
    assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "you said it")
    socket = await web.ws_connect(websocket_run["containerUrl"] + "/count")
    assert [await socket.receive_str() for _ in range(3)] == ["0", "1", "2"]
    assert (await socket.receive()).data == 4002
    socket = await web.ws_connect(websocket_run["containerUrl"])
    await socket.receive_str()
    await socket.close(code=4003, message=b"mine")
    wait_for(lambda: "closed 4003 mine" in platform.log_lines(websocket_run["id"]))
    socket = await web.ws_connect(websocket_run["containerUrl"])
    await socket.receive_str()
    assert socket._response.connection is not None and socket._response.connection.transport is not None
    socket._response.connection.transport.abort()
    async with asyncio.timeout(20):
        while "closed 1001 -" not in platform.log_lines(websocket_run["id"]):
            await asyncio.sleep(0.05)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await web.ws_connect(websocket_run["containerUrl"] + "/refused")
    assert refused.value.status == 418


async def test_a_websocket_ends_with_its_run(platform: Platform, web: aiohttp.ClientSession) -> None:
    actor = platform.build_actor("websockets-2", python_actor(WEBSOCKETS))
    run = serving(platform, actor, "memory=256")
    async with web.ws_connect(run["containerUrl"]) as socket:
        await socket.receive_str()
        await socket.send_str("die")
        assert (await socket.receive()).data == 1011
    assert platform.ended(run["id"])["status"] == "FAILED"
