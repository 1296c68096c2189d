"""The stock command line does its whole story with only environment variables set."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from e2e.conftest import Cli
from support.platform import Platform, processes_of, python_actor, wait_for

pytestmark = [pytest.mark.node, pytest.mark.timeout(300), pytest.mark.xdist_group("cli")]

_CODE = """
import json, os, time, urllib.request
base, token = os.environ["APIFY_API_BASE_URL"], os.environ["APIFY_TOKEN"]

def call(method, path, body=None):
    request = urllib.request.Request(base + path, body, method=method, headers={
        "Authorization": "Bearer " + token, "Content-Type": "application/json"})
    return urllib.request.urlopen(request).read()

store, dataset = os.environ["ACTOR_DEFAULT_KEY_VALUE_STORE_ID"], os.environ["ACTOR_DEFAULT_DATASET_ID"]
actor_input = json.loads(call("GET", f"/v2/key-value-stores/{store}/records/INPUT"))
for number in range(actor_input["count"]):
    call("POST", f"/v2/datasets/{dataset}/items", json.dumps({"number": number}).encode())
    print("item", number)
    time.sleep(actor_input.get("delay", 0))
"""


def write_actor(folder: Path, name: str, files: dict[str, str], version: str = "0.1") -> Path:
    definition = {"actorSpecification": 1, "name": name, "version": version, "dockerfile": "../Dockerfile"}
    definition["buildTag"] = "latest"
    for path, text in {**files, ".actor/actor.json": json.dumps(definition)}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def newest_run(platform: Platform) -> str:
    found = platform.call("GET", "/v2/actor-runs?desc=1&limit=1")["items"]
    return str(found[0]["id"])


def test_push_call_and_the_run_commands(cli: Cli, platform: Platform, tmp_path: Path) -> None:
    folder = write_actor(tmp_path / "cli-actor", "cli-actor", python_actor(_CODE))
    actor_id = platform.call("POST", "/v2/actors", {"name": "cli-actor"})["id"]

    pushed = cli.ok("push", "--force", cwd=folder)
    assert "SUCCEEDED" in pushed
    assert "Step 1/3 : FROM apify/actor-python:3.11" in pushed, "the build's log is streamed"

    called = cli.ok("call", "--input", '{"count": 3}', cwd=folder)
    assert "item 2" in called, "the run's log is streamed"
    assert "SUCCEEDED" in called
    run_id = newest_run(platform)

    assert run_id in cli.ok("runs", "ls", cwd=folder)
    info = cli.ok("runs", "info", run_id)
    assert "Succeeded (exit code: 0)" in info
    assert "Results: 3" in info
    assert re.findall(r"item \d", cli.ok("runs", "log", run_id)) == ["item 0", "item 1", "item 2"]

    dataset_id = platform.run(run_id)["defaultDatasetId"]
    printed = cli.ok("datasets", "get-items", dataset_id)
    assert json.loads(printed[printed.index("[") : printed.rindex("]") + 1]) == [{"number": n} for n in range(3)]

    assert "admin/cli-actor" in cli.ok("actors", "ls")
    assert actor_id in cli.ok("actors", "info", "cli-actor")
    assert "0.1.1" in cli.ok("builds", "ls", "cli-actor")
    build_id = platform.call("GET", f"/v2/actors/{actor_id}/builds")["items"][0]["id"]
    assert "0.1.1" in cli.ok("builds", "info", build_id)
    assert "Step 1/3" in cli.ok("builds", "log", build_id)
    cli.ok("actors", "rm", "cli-actor", "--yes")
    assert "not found" in cli.run("actors", "info", "cli-actor")[1]


def test_abort_and_resurrect(cli: Cli, platform: Platform, tmp_path: Path) -> None:
    write_actor(tmp_path / "cli-abort", "cli-abort", python_actor(_CODE))
    platform.call("POST", "/v2/actors", {"name": "cli-abort"})
    cli.ok("push", "--force", cwd=tmp_path / "cli-abort")
    # It exits 1 for a run that has not finished, whatever the server.
    _, printed = cli.run("actors", "start", "cli-abort", "--input", '{"count": 10000, "delay": 0.05}', "--json")
    run_id = newest_run(platform)
    assert run_id in printed
    wait_for(lambda: "item 1" in platform.log_lines(run_id))

    assert "abort" in cli.ok("runs", "abort", run_id)
    assert platform.run(run_id)["status"] == "ABORTING", "graceful is the command's default"
    # The command itself refuses a second abort; its Ctrl-C makes this call.
    platform.call("POST", f"/v2/actor-runs/{run_id}/abort")
    assert platform.ended(run_id)["status"] == "ABORTED"
    assert processes_of(run_id) == []

    cli.ok("runs", "resurrect", run_id)
    wait_for(lambda: platform.log_lines(run_id).count("item 1") == 2)
    assert "immediate" in cli.ok("runs", "abort", "--force", run_id)
    ended = platform.ended(run_id)
    assert (ended["status"], ended["stats"]["resurrectCount"]) == ("ABORTED", 1)


def test_a_large_actor_takes_the_archive_route(cli: Cli, platform: Platform, tmp_path: Path) -> None:
    files = python_actor("print(len(open('data.txt').read()))\n")
    files["data.txt"] = "0123456789" * 400_000
    folder = write_actor(tmp_path / "large", "large", files)
    actor_id = platform.call("POST", "/v2/actors", {"name": "large"})["id"]
    for _ in range(5):
        code, printed = cli.run("push", "--force", cwd=folder)
        # The CLI itself sometimes uploads its archive before it has written it whole.
        if "a zip file without its end" not in printed:
            break
    assert code == 0, printed
    assert "SUCCEEDED" in printed
    version = platform.call("GET", f"/v2/actors/{actor_id}/versions/0.1")
    assert version["sourceType"] == "TARBALL"
    assert "4000000" in cli.ok("call", cwd=folder)


def test_a_failing_build_and_a_failing_run_are_told(cli: Cli, platform: Platform, tmp_path: Path) -> None:
    files = python_actor("import sys; sys.exit(5)\n")
    broken = {**files, "Dockerfile": files["Dockerfile"].replace("COPY . ./", "COPY . ./\nRUN curl x | sh")}
    platform.call("POST", "/v2/actors", {"name": "failing"})
    folder = write_actor(tmp_path / "failing", "failing", broken)
    code, printed = cli.run("push", "--force", cwd=folder)
    assert code == 1
    assert "Dockerfile line 3: RUN uses curl" in printed
    write_actor(folder, "failing", files)
    cli.ok("push", "--force", cwd=folder)
    code, printed = cli.run("call", cwd=folder)
    assert code != 0
    assert "exit code 5" in printed
