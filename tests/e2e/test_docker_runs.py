"""Actors in containers, with the stock SDK and the real server: aborts, restarts, limits, an engine that fails."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actorium.kit import new_id
from actorium.runtimes.docker.engine import DockerEngine
from e2e.conftest import platform_on
from e2e.test_sdks import abort_in_the_middle, items, resurrected, sample
from support.docker import Engine
from support.docker_images import NODE, PYTHON, SDK, ensure_images
from support.platform import Platform, Refused, processes_of, wait_for

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400), pytest.mark.xdist_group("docker")]

_TICKS = """
import os, sys, time
print("begun", flush=True)
number = 0
while not os.path.exists("/tmp/end"):
    number += 1
    print("tick", number, flush=True)
    time.sleep(0.01)
"""


def program(code: str, image: str = PYTHON) -> dict[str, str]:
    dockerfile = f'FROM {image}\nCOPY . ./\nCMD ["python", "-u", "main.py"]\n'
    return {"Dockerfile": dockerfile, "main.py": code}


def begin(platform: Platform, actor: str, query: str = "memory=256", body: Any = None) -> str:
    return str(platform.call("POST", f"/v2/actors/{actor}/runs?{query}", body)["id"])


def says(platform: Platform, run_id: str, word: str) -> bool:
    return any(word in line for line in platform.log_lines(run_id))


def on_engine(url: str, method: str, path: str, body: Any = None, **params: str) -> Any:
    async def call() -> Any:
        engine = DockerEngine(url)
        try:
            return await engine.call(method, path, body, params=params)
        finally:
            await engine.close()

    return asyncio.run(call())


def containers_of(url: str, run_id: str) -> list[dict[str, Any]]:
    filters = f'{{"label": ["com.apify.actRunId={run_id}"]}}'
    found: list[dict[str, Any]] = on_engine(url, "GET", "containers/json", all="1", filters=filters)
    return found


def test_an_sdk_actor_is_aborted_gracefully_and_goes_on(docker_platform: Platform) -> None:
    files = sample("python-counter")
    files["Dockerfile"] = f'FROM {SDK}\nCOPY . ./\nCMD ["python", "-m", "src"]\n'
    actor = docker_platform.build_actor("counter", files)
    run = abort_in_the_middle(docker_platform, actor, {"count": 25, "delayMillis": 40}, "Item", 5)
    before = [item["number"] for item in items(docker_platform, run)]
    assert before == list(range(1, len(before) + 1))
    assert 5 <= len(before) < 25
    done = resurrected(docker_platform, run)
    assert [item["number"] for item in items(docker_platform, run)] == list(range(1, 26))
    assert done["statusMessage"] == "All 25 items done"
    assert done["stats"]["memMaxBytes"] > 10_000_000


def test_an_sdk_actor_reboots(docker_platform: Platform) -> None:
    code = """
import asyncio
from apify import Actor

async def main() -> None:
    async with Actor:
        count = (await Actor.get_value("count") or 0) + 1
        await Actor.set_value("count", count)
        await Actor.push_data({"life": count})
        Actor.log.info(f"LIFE {count}")
        if count == 1:
            await Actor.reboot()

asyncio.run(main())
"""
    actor = docker_platform.build_actor("rebooter", program(code, SDK))
    ended = docker_platform.ended(begin(docker_platform, actor, "memory=512"))
    assert ended["status"] == "SUCCEEDED", docker_platform.log_lines(ended["id"])
    assert ended["stats"]["rebootCount"] == 1
    assert [item["life"] for item in items(docker_platform, ended)] == [1, 2]


@pytest.mark.node
def test_a_javascript_actor_runs(docker_platform: Platform) -> None:
    files = {
        "Dockerfile": f'FROM {NODE}\nCOPY . ./\nCMD ["node", "main.js"]\n',
        "main.js": "const { APIFY_API_BASE_URL: base, ACTOR_DEFAULT_DATASET_ID: id } = process.env;\n"
        "const url = `${base}/v2/datasets/${id}`;\n"
        "const headers = { authorization: `Bearer ${process.env.APIFY_TOKEN}`, 'content-type': 'application/json' };\n"
        "fetch(`${url}/items`, { method: 'POST', headers, body: '{\"from\": \"node\"}' })"
        ".then((answer) => console.log(answer.status));\n",
    }
    actor = docker_platform.build_actor("javascript", files)
    ended = docker_platform.ended(begin(docker_platform, actor))
    assert ended["status"] == "SUCCEEDED", docker_platform.log_lines(ended["id"])
    assert items(docker_platform, ended) == [{"from": "node"}]


def test_too_much_memory_is_said_so(docker_platform: Platform) -> None:
    actor = docker_platform.build_actor("greedy", program("data = []\nwhile True: data.append(bytearray(2**20))"))
    ended = docker_platform.ended(begin(docker_platform, actor, "memory=128"))
    assert ended["status"] == "FAILED"
    assert "ran out of memory" in ended["statusMessage"]
    assert "128 MB" in ended["statusMessage"]


def test_a_container_killed_by_somebody_else_fails_the_run(docker_platform: Platform, docker_url: str) -> None:
    actor = docker_platform.build_actor("killed", program(_TICKS))
    run_id = begin(docker_platform, actor)
    wait_for(lambda: says(docker_platform, run_id, "tick 3"))
    (container,) = containers_of(docker_url, run_id)
    on_engine(docker_url, "POST", f"containers/{container['Id']}/kill")
    ended = docker_platform.ended(run_id)
    assert (ended["status"], ended["exitCode"]) == ("FAILED", 137)
    assert "SIGKILL" in ended["statusMessage"]


def test_an_immediate_abort_ends_the_container_and_cleans_up(docker_platform: Platform, docker_url: str) -> None:
    actor = docker_platform.build_actor("aborted", program(_TICKS))
    run_id = begin(docker_platform, actor)
    wait_for(lambda: says(docker_platform, run_id, "tick 3"))
    docker_platform.call("POST", f"/v2/actor-runs/{run_id}/abort")
    assert docker_platform.ended(run_id)["status"] == "ABORTED"
    assert processes_of(run_id) == []
    wait_for(lambda: containers_of(docker_url, run_id) == [])


def test_a_web_server_in_a_container_is_reached_at_container_url(docker_platform: Platform) -> None:
    code = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"from inside " + self.path.encode())
http.server.HTTPServer(("", int(os.environ["ACTOR_WEB_SERVER_PORT"])), Handler).serve_forever()
"""
    actor = docker_platform.build_actor("web-server", program(code))
    run_id = begin(docker_platform, actor)
    wait_for(lambda: docker_platform.run(run_id).get("isContainerServerReady"))
    name = docker_platform.run(run_id)["containerUrl"].partition("//")[2].partition(".")[0]
    assert docker_platform.call("GET", f"/actorium/runs-web/{name}/page") == "from inside /page"
    docker_platform.call("POST", f"/v2/actor-runs/{run_id}/abort")


def test_a_server_that_is_killed_finds_its_containers_again(docker_url: str, tmp_path: Path) -> None:
    platform = platform_on(docker_url, tmp_path / "data")
    try:
        actor = platform.build_actor("survivor", program(_TICKS))
        run_id = begin(platform, actor)
        wait_for(lambda: says(platform, run_id, "tick 5"))
        (container,) = containers_of(docker_url, run_id)
        # One that the database does not know, as after a crash between start and commit.
        labels = {
            "com.actorium.installation": (platform.data_dir / "docker" / "installation").read_text(),
            "com.actorium.attempt": (orphan := new_id()),
            "com.apify.actRunId": new_id(),
        }
        config = {"Image": PYTHON, "Cmd": ["sleep", "600"], "Labels": labels}
        on_engine(docker_url, "POST", "containers/create", config, name=f"actorium-{orphan}")
        on_engine(docker_url, "POST", f"containers/actorium-{orphan}/start")
        platform.kill()
        platform.start()
        filters = f'{{"label": ["com.actorium.attempt={orphan}"]}}'
        wait_for(lambda: on_engine(docker_url, "GET", "containers/json", all="1", filters=filters) == [])
        before = platform.log_lines(run_id)
        wait_for(lambda: len(platform.log_lines(run_id)) > len(before) + 20)
        assert platform.run(run_id)["status"] == "RUNNING"
        assert platform.run(run_id)["stats"].get("migrationCount", 0) == 0
        assert [found["Id"] for found in containers_of(docker_url, run_id)] == [container["Id"]]
        platform.call("POST", f"/v2/actor-runs/{run_id}/abort")
        assert platform.ended(run_id)["status"] == "ABORTED"
        ticks = [line for line in platform.log_lines(run_id) if line.startswith("tick")]
        assert ticks == [f"tick {number}" for number in range(1, len(ticks) + 1)]
    finally:
        platform.stop()


def test_a_container_reaches_the_server_and_nothing_else_of_the_machine(docker_platform: Platform) -> None:
    code = """
import json, os, socket, urllib.request
from urllib.parse import urlsplit
env = os.environ
base, headers = env["APIFY_API_BASE_URL"], {"Authorization": "Bearer " + env["APIFY_TOKEN"]}
store = f"{base}/v2/key-value-stores/{env['ACTOR_DEFAULT_KEY_VALUE_STORE_ID']}/records/"
given = json.load(urllib.request.urlopen(urllib.request.Request(store + "INPUT", headers=headers)))
def reach(host, port):
    try:
        socket.create_connection((host, port), 3).close()
    except OSError as error:
        return type(error).__name__
    return "reached"
gateway = urlsplit(base).hostname
said = {
    "server": reach(gateway, urlsplit(base).port),
    "database": [reach(host, given["database"]) for host in (gateway, "127.0.0.1")],
    "engine": [reach(gateway, port) for port in (2375, 2376)],
    "files": [path for path in (given["socket"], "/var/run/docker.sock", given["data"]) if os.path.exists(path)],
}
body = json.dumps(said).encode()
headers["Content-Type"] = "application/json"
urllib.request.urlopen(urllib.request.Request(store + "OUTPUT", body, headers, method="PUT"))
"""
    # As a database listens by default.
    with socket.create_server(("127.0.0.1", 0)) as database:
        actor = docker_platform.build_actor("curious", program(code))
        given = {
            "database": database.getsockname()[1],
            "socket": docker_platform.env["ACTORIUM_DOCKER_HOST"].removeprefix("unix://"),
            "data": str(docker_platform.data_dir),
        }
        ended = docker_platform.ended(begin(docker_platform, actor, body=given))
    assert ended["status"] == "SUCCEEDED", docker_platform.log_lines(ended["id"])
    said = docker_platform.call("GET", f"/v2/key-value-stores/{ended['defaultKeyValueStoreId']}/records/OUTPUT")
    assert said["server"] == "reached"
    assert "reached" not in [*said["database"], *said["engine"]]
    assert said["files"] == []


def test_a_version_may_ask_for_containers_and_not_for_less(docker_platform: Platform, docker_url: str) -> None:
    def version(builder: str) -> dict[str, Any]:
        sources = [{"name": n, "format": "TEXT", "content": c} for n, c in program("print('x')").items()]
        return {
            "versionNumber": "0.0",
            "sourceType": "SOURCE_FILES",
            "buildTag": "latest",
            "sourceFiles": sources,
            "envVars": [{"name": "ACTORIUM_BUILDER", "value": builder}],
        }

    for builder, reason in (("native", "in containers only"), ("magic", "must be docker or native")):
        actor = docker_platform.call("POST", "/v2/actors", {"name": builder, "versions": [version(builder)]})
        build = docker_platform.call("POST", f"/v2/actors/{actor['id']}/builds?version=0.0&waitForFinish=60")
        assert build["status"] == "FAILED"
        assert any(reason in line for line in docker_platform.log_lines(build["id"]))


def test_single_actors_use_containers_on_a_native_server(docker_url: str, tmp_path: Path) -> None:
    platform = platform_on(docker_url, tmp_path / "data", ACTORIUM_BUILDER="native")
    try:
        code = "print('IN', b'docker-init' in open('/proc/1/cmdline', 'rb').read())"
        sources = [{"name": n, "format": "TEXT", "content": c} for n, c in program(code).items()]
        for name, env, inside in (("plain", [], "False"), ("boxed", [("ACTORIUM_BUILDER", "docker")], "True")):
            version = {
                "versionNumber": "0.0",
                "sourceType": "SOURCE_FILES",
                "buildTag": "latest",
                "sourceFiles": sources,
            }
            version["envVars"] = [{"name": key, "value": value} for key, value in env]
            actor = platform.call("POST", "/v2/actors", {"name": name, "versions": [version]})
            build = platform.call("POST", f"/v2/actors/{actor['id']}/builds?version=0.0&waitForFinish=60")
            assert build["status"] == "SUCCEEDED", platform.log_lines(build["id"])
            ended = platform.ended(begin(platform, actor["id"]))
            assert f"IN {inside}" in platform.log_lines(ended["id"])
    finally:
        platform.stop()


def test_a_deleted_build_takes_its_image_along(docker_platform: Platform, docker_url: str) -> None:
    actor = docker_platform.build_actor("short-lived", program("print('x')"))
    (build,) = docker_platform.call("GET", f"/v2/actors/{actor}/builds")["items"]
    filters = f'{{"label": ["com.apify.actBuildId={build["id"]}"]}}'
    assert len(on_engine(docker_url, "GET", "images/json", filters=filters)) == 1
    docker_platform.call("DELETE", f"/v2/actors/{actor}")
    wait_for(lambda: on_engine(docker_url, "GET", "images/json", filters=filters) == [])


# An engine of the test's own, which fails


@pytest.fixture
def failing(own_engine: Engine, tmp_path: Path) -> Iterator[tuple[Engine, Platform]]:
    async def prepare() -> None:
        engine = DockerEngine(own_engine.url)
        try:
            await ensure_images(engine, only=[PYTHON])
        finally:
            await engine.close()

    asyncio.run(prepare())
    platform = platform_on(own_engine.url, tmp_path / "data")
    yield own_engine, platform
    platform.stop()


def test_an_engine_that_hangs_delays_and_loses_nothing(failing: tuple[Engine, Platform]) -> None:
    engine, platform = failing
    actor = platform.build_actor("patient", program(_TICKS))
    run_id = begin(platform, actor)
    wait_for(lambda: says(platform, run_id, "tick 3"))
    os.kill(engine.pid, signal.SIGSTOP)
    waiting = begin(platform, actor)
    assert platform.call("POST", f"/v2/actor-runs/{run_id}/abort")["status"] == "ABORTING"
    # Not before the container is known to be gone.
    assert platform.call("GET", f"/v2/actor-runs/{run_id}?waitForFinish=2")["status"] == "ABORTING"
    assert platform.run(waiting)["status"] == "READY"
    os.kill(engine.pid, signal.SIGCONT)
    assert platform.ended(run_id)["status"] == "ABORTED"
    assert processes_of(run_id) == []
    wait_for(lambda: says(platform, waiting, "tick 3"))
    platform.call("POST", f"/v2/actor-runs/{waiting}/abort")
    assert platform.ended(waiting)["status"] == "ABORTED"
    ticks = [line for line in platform.log_lines(run_id) if line.startswith("tick")]
    assert ticks == [f"tick {number}" for number in range(1, len(ticks) + 1)]


def test_runs_go_on_after_the_engine_was_restarted(failing: tuple[Engine, Platform]) -> None:
    engine, platform = failing
    actor = platform.build_actor("moved", program(_TICKS))
    run_id = begin(platform, actor)
    wait_for(lambda: says(platform, run_id, "tick 3"))
    engine.stop()
    waiting = begin(platform, actor)
    with pytest.raises(Refused):
        platform.call("POST", f"/v2/actors/{actor}/runs?memory=1")
    engine.start()
    wait_for(lambda: platform.run(run_id)["stats"].get("migrationCount") == 1)
    wait_for(lambda: says(platform, waiting, "tick 3"))
    wait_for(lambda: len([line for line in platform.log_lines(run_id) if line == "tick 3"]) == 2)
    for live in (run_id, waiting):
        platform.call("POST", f"/v2/actor-runs/{live}/abort")
        assert platform.ended(live)["status"] == "ABORTED"


def test_an_engine_that_is_killed_keeps_its_containers_or_moves_their_runs(failing: tuple[Engine, Platform]) -> None:
    """With ``live-restore`` the next engine takes the containers over; without, it ends what it finds."""
    engine, platform = failing
    actor = platform.build_actor("kept", program(_TICKS))
    run_id = begin(platform, actor)
    wait_for(lambda: says(platform, run_id, "tick 3"))
    (container,) = containers_of(engine.url, run_id)
    engine.kill()
    engine.start("--live-restore")
    count = len(platform.log_lines(run_id))
    wait_for(lambda: len(platform.log_lines(run_id)) > count + 20)
    assert [found["Id"] for found in containers_of(engine.url, run_id)] == [container["Id"]]
    run = platform.run(run_id)
    assert (run["status"], run["stats"].get("migrationCount", 0)) == ("RUNNING", 0)
    ticks = [line for line in platform.log_lines(run_id) if line.startswith("tick")]
    assert ticks == [f"tick {number}" for number in range(1, len(ticks) + 1)]
    old = processes_of(run_id)
    assert old

    engine.kill()
    engine.start()
    wait_for(lambda: platform.run(run_id)["stats"].get("migrationCount") == 1)
    wait_for(lambda: len([line for line in platform.log_lines(run_id) if line == "tick 3"]) == 2)
    assert set(old).isdisjoint(processes_of(run_id))
    platform.call("POST", f"/v2/actor-runs/{run_id}/abort")
    assert platform.ended(run_id)["status"] == "ABORTED"
    assert processes_of(run_id) == []
