"""The stock JavaScript client: its calls, their answers as it parses them, its errors."""

from __future__ import annotations

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.client_actor import FILES, PRICES
from support.platform import TOKEN, Platform, python_actor

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]
_SCRIPT = Path(__file__).parent / "javascript_client.mjs"


def test_the_life_of_a_run_and_its_storages(platform: Platform, node_modules: Path) -> None:
    command = ["node", str(_SCRIPT), platform.url, TOKEN, str(node_modules.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all calls answered as expected" in done.stdout


@pytest.mark.parametrize("kind", ["datasets", "key_value_stores", "request_queues"])
def test_storages_with_every_option(platform: Platform, node_modules: Path, kind: str) -> None:
    actor = platform.build_actor(f"js-{kind.replace('_', '-')}", python_actor("pass\n"))
    run = platform.ended(platform.call("POST", f"/v2/actors/{actor}/runs?memory=128", {"text": "input"})["id"])
    script = _SCRIPT.parent / "javascript_storages" / f"{kind}.mjs"
    command = ["node", str(script), platform.url, TOKEN, str(node_modules.parent), actor, run["id"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all calls answered as expected" in done.stdout


def test_every_method(platform: Platform, node_modules: Path) -> None:
    described = {"title": "Methods", "categories": ["OTHER"], "isPublic": True}
    actor = platform.build_actor("js-methods", FILES, **described)
    platform.call("PUT", f"/v2/actors/{actor}", {"pricingInfos": [PRICES]})
    script = _SCRIPT.parent / "javascript_methods.mjs"
    command = ["node", str(script), platform.url, TOKEN, str(node_modules.parent), actor]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all calls answered as expected" in done.stdout


def test_webhooks_and_schedules(platform: Platform, node_modules: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            return

    actor = platform.build_actor("js-automation", python_actor("pass\n"))
    task = platform.call("POST", "/v2/actor-tasks", {"actId": actor, "name": "js-automation-task"})["id"]
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{receiver.server_address[1]}"
    script = _SCRIPT.parent / "javascript_automation.mjs"
    command = ["node", str(script), platform.url, TOKEN, str(node_modules.parent), actor, task, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    receiver.shutdown()
    receiver.server_close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all calls answered as expected" in done.stdout
