"""The loop of an Actor's developer: runs of a folder's files, and debuggers of real runs. docs: development."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.platform import Platform, Refused, wait_for

pytestmark = pytest.mark.xdist_group("development")

DOCKERFILE = (
    "FROM apify/actor-python:3.11\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\nCOPY . ./\n"
    'CMD ["python", "-u", "main.py"]\n'
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    found = Platform(tmp_path_factory.mktemp("development") / "data").start()
    found.first_token()
    yield found
    found.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".actor").mkdir()
    (tmp_path / ".actor/actor.json").write_text(
        json.dumps({"actorSpecification": 1, "name": f"a{abs(hash(str(tmp_path)))}", "version": "0.1"})
    )
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "requirements.txt").write_text("six==1.16.0\n")
    (tmp_path / "main.py").write_text("import six\nprint('first', six.__version__)\n")
    return tmp_path


def name_of(folder: Path) -> str:
    return f"admin~{json.loads((folder / '.actor/actor.json').read_text())['name']}"


def start(server: Platform, folder: Path, query: str = "") -> dict[str, Any]:
    run: dict[str, Any] = server.call("POST", f"/v2/actors/{name_of(folder)}/runs?timeout=120{query}")
    return run


def said(server: Platform, run: dict[str, Any]) -> list[str]:
    assert server.ended(run["id"])["status"] == "SUCCEEDED", server.log_lines(run["id"])
    return [line for line in server.log_lines(run["id"]) if not line.startswith("ACTOR:")]


def test_a_run_is_of_the_files_as_they_are(server: Platform, folder: Path) -> None:
    assert f"use the files in {folder}" in server.cli("dev", str(folder)).replace("\n", " ")
    first = start(server, folder)
    assert said(server, first) == ["first 1.16.0"]
    again = start(server, folder)
    assert again["buildId"] == first["buildId"], "nothing was made anew"
    (folder / "main.py").write_text("print('second')\n")
    second = start(server, folder)
    assert said(server, second) == ["second"]
    log = server.log_lines(second["buildId"])
    assert "Using cached dependencies" in log
    (folder / "requirements.txt").write_text("six==1.17.0\n")
    (folder / "main.py").write_text("import six\nprint('third', six.__version__)\n")
    third = start(server, folder)
    assert said(server, third) == ["third 1.17.0"]
    assert "Using cached dependencies" not in server.log_lines(third["buildId"])
    (folder / "Dockerfile").write_text("FROM ubuntu\n")
    with pytest.raises(Refused) as refused:
        start(server, folder)
    assert (refused.value.status, refused.value.type) == (403, "invalid-build")
    assert f"The files in {folder} could not be built: Dockerfile line 1: FROM uses" in refused.value.message
    assert said(server, start(server, folder, f"&build={third['buildNumber']}")) == ["third 1.17.0"]
    server.cli("dev", str(folder), "--end")
    with pytest.raises(Refused) as refused:
        start(server, folder)
    assert refused.value.type == "unknown-build-tag"


class Dap:
    """As much of the Debug Adapter Protocol as lets a program go on."""

    def __init__(self, port: int) -> None:
        self._socket = connected(port)
        self._file = self._socket.makefile("rb")
        self._number = 0

    def send(self, command: str, **arguments: Any) -> None:
        self._number += 1
        message = {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(message).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def until(self, kind: str, name: str) -> dict[str, Any]:
        while True:
            length = int(self._file.readline().split(b":")[1])
            self._file.readline()
            message: dict[str, Any] = json.loads(self._file.read(length))
            if message["type"] == kind and message.get("event", message.get("command")) == name:
                return message

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def connected(port: int) -> socket.socket:
    found: list[socket.socket] = []

    def connect() -> bool:
        try:
            found.append(socket.create_connection(("127.0.0.1", port), 30))
        except ConnectionRefusedError:
            return False
        return True

    wait_for(connect)
    return found[0]


def debug_port(server: Platform, run: dict[str, Any]) -> int:
    mark = "ACTOR: A debugger can be attached at 127.0.0.1:"
    wait_for(lambda: any(line.startswith(mark) for line in server.log_lines(run["id"])))
    line = next(line for line in server.log_lines(run["id"]) if line.startswith(mark))
    return int(line.removeprefix(mark).partition(",")[0].rstrip("."))


def test_a_python_run_waits_for_its_debugger(server: Platform, folder: Path) -> None:
    (folder / "main.py").write_text("answer = 41\nanswer += 1\nprint(answer)\n")
    server.cli("dev", str(folder), "--debug", "0", "--wait")
    run = start(server, folder)
    debugger = Dap(debug_port(server, run))
    debugger.send("initialize", adapterID="test")
    debugger.until("response", "initialize")
    debugger.send("attach", justMyCode=False)
    debugger.until("event", "initialized")
    assert "42" not in server.log_lines(run["id"])
    debugger.send("configurationDone")
    debugger.until("response", "configurationDone")
    assert said(server, run) == ["42"]
    debugger.close()


@pytest.mark.node
def test_a_node_run_waits_for_its_inspector(server: Platform) -> None:
    dockerfile = 'FROM apify/actor-node:20\nCOPY . ./\nCMD ["node", "main.js"]\n'
    actor = server.build_actor("inspected", {"Dockerfile": dockerfile, "main.js": "console.log('on');\n"})
    run = server.call("POST", f"/v2/actors/{actor}/runs?debugPort=0&debugWait=1")
    port = debug_port(server, run)
    connected(port).close()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
        [target] = json.loads(answer.read())
    assert target["type"] == "node"
    assert server.run(run["id"])["status"] == "RUNNING"
    assert "on" not in server.log_lines(run["id"])
    server.call("POST", f"/v2/actor-runs/{run['id']}/abort")
    assert server.ended(run["id"])["status"] == "ABORTED"
