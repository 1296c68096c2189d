"""Docker runs: what a container may do, output, exits, losses of engine and server. On a real engine."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from actorium.runtimes import Handle, Phase, StartError
from actorium.runtimes.docker.containers import container_name
from actorium.runtimes.docker.engine import DockerEngine
from conformance.docker_harness import DockerHarness, description
from conformance.runtimes import DEADLINE_SECS, joined, no_checkpoint, read_all, read_until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

_FOREVER = "import time\nprint('ready', flush=True)\ntime.sleep(600)"


@pytest.fixture
async def harness(docker_url: str, tmp_path: Path) -> AsyncIterator[DockerHarness]:
    found = DockerHarness(docker_url, tmp_path)
    await found.runtime.open()
    yield found
    await found.close()


async def ready(harness: DockerHarness, code: str = _FOREVER) -> Handle:
    handle = await harness.start(code)
    await read_until(harness.runtime, handle, b"ready\n")
    return handle


async def test_a_container_has_the_limits_of_its_run_and_nothing_of_the_machine(
    harness: DockerHarness, docker: DockerEngine
) -> None:
    handle = await ready(harness)
    found = await description(docker, handle)
    host = found["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 512 * 2**20
    assert host["ShmSize"] == 256 * 2**20
    assert host["PidsLimit"] == 4096
    assert host["NanoCpus"] == 10**9
    assert host["CpuShares"] == 128
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Init"] is True
    assert host["Privileged"] is False
    assert not host["Binds"]
    assert found["Mounts"] == []
    labels = found["Config"]["Labels"]
    assert labels["com.apify.actRunId"] == handle.run_id
    assert labels["com.apify.actBuildId"] == "a-build"
    assert (found["Config"]["OpenStdin"], found["Config"]["Tty"]) == (False, False)


async def test_what_a_process_sees_of_its_limits(harness: DockerHarness) -> None:
    code = """
import json, os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
size = os.statvfs("/dev/shm")
print(json.dumps({
    "capabilities": int(status["CapEff"], 16),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "shm": size.f_blocks * size.f_frsize,
    "init": open("/proc/1/cmdline").read().split("\\0")[0],
    "sockets": [path for path in ("/var/run/docker.sock", "/run/docker.sock") if os.path.exists(path)],
}))
"""
    seen = json.loads(await harness.output_of(code))
    # CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID. Source: linux/capability.h
    assert seen["capabilities"] == sum(1 << bit for bit in (0, 1, 3, 5, 6, 7))
    assert seen["no_new_privileges"] == "1"
    assert seen["shm"] == 256 * 2**20
    assert "init" in seen["init"]
    assert seen["sockets"] == []


async def test_containers_cannot_talk_to_each_other(harness: DockerHarness, docker: DockerEngine) -> None:
    serve = """
import socket
server = socket.create_server(("0.0.0.0", 8000))
print("ready", flush=True)
while True: server.accept()[0].close()
"""
    first = await ready(harness, serve)
    networks = (await description(docker, first))["NetworkSettings"]["Networks"]
    (network,) = networks.values()
    reach = f"""
import socket
for address in ("127.0.0.1", {network["IPAddress"]!r}):
    try:
        socket.create_connection((address, 8000), 2).close()
        print("reached", address)
    except OSError as error:
        print(type(error).__name__)
"""
    said = (await harness.output_of(reach)).split("\n")
    assert said[:2] == ["ConnectionRefusedError", "TimeoutError"]
    # From the machine it can be reached: the server is there.
    _, writer = await asyncio.open_connection(network["IPAddress"], 8000)
    writer.close()


async def test_a_web_server_is_published_on_the_loopback_address(harness: DockerHarness) -> None:
    code = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"hello")
server = http.server.HTTPServer(("", int(os.environ["ACTOR_WEB_SERVER_PORT"])), Handler)
print("ready", flush=True)
server.serve_forever()
"""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    spec = harness.python(code, env={"ACTOR_WEB_SERVER_PORT": "4321"})
    handle = await harness.runtime.start(msgspec.structs.replace(spec, published_port=port), no_checkpoint)
    await read_until(harness.runtime, handle, b"ready\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await reader.read()).endswith(b"hello")
    writer.close()


async def test_a_port_that_somebody_took_is_a_reason_to_try_again(harness: DockerHarness) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        spec = harness.python(_FOREVER, env={"ACTOR_WEB_SERVER_PORT": "4321"})
        spec = msgspec.structs.replace(spec, published_port=taken.getsockname()[1])
        with pytest.raises(ConnectionError, match="port"):
            await harness.runtime.start(spec, no_checkpoint)
    assert await harness.runtime.list_managed() == []


async def test_too_much_memory_is_told_apart_from_a_kill(harness: DockerHarness, docker: DockerEngine) -> None:
    greedy = harness.python("data = []\nwhile True: data.append(bytearray(2**20))", memory_mbytes=128)
    ended = await harness.runtime.wait(await harness.runtime.start(greedy, no_checkpoint))
    assert (ended.code, ended.oom_killed) == (137, True)

    handle = await ready(harness)
    await docker.call("POST", f"containers/{container_name(handle)}/kill")
    ended = await harness.runtime.wait(handle)
    assert (ended.code, ended.oom_killed, ended.error) == (137, False, None)


async def test_a_child_that_runs_out_of_memory_counts_too(harness: DockerHarness) -> None:
    code = """
import os
child = os.fork()
if child == 0:
    open("/proc/self/oom_score_adj", "w").write("1000")
    data = []
    while True: data.append(bytearray(2**20))
os.waitpid(child, 0)
os._exit(0)
"""
    handle = await harness.runtime.start(harness.python(code, memory_mbytes=128), no_checkpoint)
    ended = await harness.runtime.wait(handle)
    assert (ended.code, ended.oom_killed) == (0, True)


async def test_what_the_main_process_leaves_behind_is_gone(harness: DockerHarness, docker: DockerEngine) -> None:
    code = """
import os, signal, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
print("ready", flush=True)
"""
    handle = await harness.start(code)
    await read_until(harness.runtime, handle, b"ready\n")
    pids = (await description(docker, handle))["State"]["Pid"]
    assert (await harness.runtime.wait(handle)).code == 0
    assert pids == 0 or not Path(f"/proc/{pids}").exists()
    assert (await description(docker, handle))["State"]["Pid"] == 0


async def test_an_image_without_a_command_and_a_missing_one_are_start_errors(harness: DockerHarness) -> None:
    with pytest.raises(StartError, match="No such image"):
        await harness.runtime.start(harness.run_spec("actorium-test/none:1"), no_checkpoint)


# Server and engine


async def test_another_server_goes_on_reading_where_the_first_left_off(harness: DockerHarness) -> None:
    code = "import sys\nfor n in range(3000): print(n, flush=n % 100 == 0)\nsys.stdin.read()"
    handle = await harness.start(code)
    seen, position = b"", 0
    chunks = harness.runtime.logs(handle, 0)
    async for chunk in chunks:
        seen, position = seen + chunk.data, chunk.next_offset
        if len(seen) > 2000:
            break
    await chunks.aclose()
    await harness.runtime.close()

    other = harness.another_runtime()
    await other.open()
    harness.runtime = other
    assert [found.attempt_id for found in await other.list_managed()] == [handle.attempt_id]
    seen += joined(await read_all(other, handle, position))
    assert seen.decode().split() == [str(number) for number in range(3000)]
    assert (await other.wait(handle)).code == 0


async def test_the_first_starts_at_once_all_learn_what_the_engine_cannot_do(harness: DockerHarness) -> None:
    """Where it cannot limit disk space, each of them is refused once and asks again without."""
    handles = await asyncio.gather(*(harness.start("print('ran')") for _ in range(4)))
    for handle in handles:
        assert (await harness.runtime.wait(handle)).code == 0


async def test_a_start_that_was_cut_off_never_happens(harness: DockerHarness) -> None:
    handles: list[Handle] = []

    async def crash(handle: Handle) -> None:
        handles.append(handle)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await harness.runtime.start(harness.python(_FOREVER), crash)
    other = harness.another_runtime()
    await other.open()
    assert [seen.phase for seen in await other.inspect(handles)] == [Phase.GONE]
    assert await other.list_managed() == []
    await other.close()


async def test_a_removed_container_is_lost(harness: DockerHarness, docker: DockerEngine) -> None:
    handle = await ready(harness)
    waiting = asyncio.create_task(harness.runtime.wait(handle))
    await docker.call("DELETE", f"containers/{container_name(handle)}", params={"force": "1"})
    async with asyncio.timeout(DEADLINE_SECS):
        assert (await waiting).error is not None or (await waiting).code == 137
    assert (await harness.runtime.wait(handle)).error == "lost"


async def test_an_engine_that_is_away_is_a_connection_error(tmp_path: Path) -> None:
    harness = DockerHarness(f"unix://{tmp_path}/nothing.sock", tmp_path)
    await harness.runtime.open()
    with pytest.raises(ConnectionError, match="cannot be reached"):
        await harness.runtime.start(harness.python(_FOREVER), no_checkpoint)
    with pytest.raises(ConnectionError):
        await harness.runtime.inspect([Handle("docker", 1, "a", "b", {})])
    assert await harness.runtime.list_managed() == []
    await harness.runtime.close()


async def test_a_flood_arrives_whole(harness: DockerHarness) -> None:
    code = """
import hashlib, os
data = b"".join(b"%07d %s\\n" % (number, b"x" * 91) for number in range(60_000))
sent = hashlib.sha256(data).hexdigest()
while data: data = data[os.write(1, data[:65536]):]
os.write(1, sent.encode() + b"\\n")
"""
    output = joined(await read_all(harness.runtime, await harness.start(code)))
    data, digest = output[:-65], output[-65:-1]
    assert len(data) == 6_000_000
    assert hashlib.sha256(data).hexdigest() == digest.decode()
