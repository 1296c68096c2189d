"""Requests to one run of a Standby server, beside the same requests sent to the Actor's port directly, in turns.

``python bench/standby.py`` prints requests per second of both, the CPU time the server takes for one (the Actor's own
not included), and latencies. The Actor answers 200 bytes from a plain asyncio protocol on uvloop.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sysconfig
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import load
from servers import Server, start_ours

from runs import build

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", "5000"))
CONNECTIONS = 32

ACTOR = f"""
import asyncio, os, sys
sys.path.insert(0, {sysconfig.get_path("purelib")!r})
import uvloop

ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: 200\\r\\n\\r\\n" + b"x" * 200

class Protocol(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.left = transport, b""

    def data_received(self, data):
        data = self.left + data
        *whole, self.left = data.split(b"\\r\\n\\r\\n")
        for _ in whole:
            self.transport.write(ANSWER)

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Protocol, "127.0.0.1", int(os.environ["ACTOR_WEB_SERVER_PORT"]))
    print(os.getpid(), flush=True)
    await server.serve_forever()

uvloop.run(main())
"""


def measure(server: Server) -> None:
    files = {
        "Dockerfile": 'FROM apify/actor-python:3.11\nCOPY . ./\nCMD ["python", "-S", "-u", "main.py"]\n',
        "main.py": ACTOR,
    }
    actor = build(server, "bench", files)
    config = {
        "isEnabled": True,
        "memoryMbytes": 128,
        "desiredRequestsPerActorRun": CONNECTIONS,
        "maxRequestsPerActorRun": 2 * CONNECTIONS,
    }
    server.call("PUT", f"/v2/actors/{actor}", {"actorStandby": config})
    path = f"/actorium/standby/{actor}/path?query=1"
    server.call("GET", path)
    (run,) = server.call("GET", f"/v2/actors/{actor}/runs")["items"]
    pid = int(server.call("GET", f"/v2/logs/{run['id']}?raw=1").split("Z ")[1])
    port = _port_of(pid)
    direct: Any = SimpleNamespace(address=urlsplit(f"http://127.0.0.1:{port}"), cpu_secs=lambda: 0.0)
    asked = [load.request("GET", path)] * REQUESTS
    load.run(server, asked[: REQUESTS // 5], connections=CONNECTIONS)
    rates: dict[str, list[load.Result]] = {"direct": [], "Standby": []}
    for _ in range(ROUNDS):
        rates["direct"].append(load.run(direct, asked, connections=CONNECTIONS))
        rates["Standby"].append(load.run(server, asked, connections=CONNECTIONS))
    for name, results in rates.items():
        latencies = sorted(latency for result in results for latency in result.latencies)
        per_sec = statistics.median(result.per_sec for result in results)
        p50, p99 = (latencies[int(len(latencies) * share)] * 1000 for share in (0.5, 0.99))
        print(f"{name:8} {per_sec:8,.0f} requests/s   p50 {p50:.1f} ms   p99 {p99:.1f} ms", flush=True)
    ratio = statistics.median(
        through.per_sec / alone.per_sec for through, alone in zip(rates["Standby"], rates["direct"], strict=True)
    )
    cpu = statistics.median(result.cpu_micros for result in rates["Standby"])
    print(f"ratio {ratio:.3f}   server CPU {cpu:.0f} us a request: {1e6 / cpu:,.0f} requests/s of one core")
    (again,) = server.call("GET", f"/v2/actors/{actor}/runs")["items"]
    assert again["id"] == run["id"]
    server.call("POST", f"/v2/actor-runs/{run['id']}/abort")


def _port_of(pid: int) -> int:
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next(int(entry.partition(b"=")[2]) for entry in environ if entry.startswith(b"ACTOR_WEB_SERVER_PORT="))


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="actorium-bench-"))
    server = start_ours(folder)
    try:
        measure(server)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
