"""Every command of the stock command line that talks to the API (specification of Actors, section 9).

``push``, ``call``, ``runs abort`` and their like have their story in ``test_cli.py``; here are the others, and no
command of a new version of the tool is forgotten.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Cli
from e2e.test_cli import newest_run, write_actor
from support.client_actor import PRICES
from support.platform import TOKEN, Platform, python_actor, wait_for

pytestmark = [pytest.mark.node, pytest.mark.long, pytest.mark.timeout(900), pytest.mark.xdist_group("cli")]

_IN_TEST_CLI = {
    "auth login",
    "actors call",
    "actors info",
    "actors ls",
    "actors push",
    "actors rm",
    "actors start",
    "builds info",
    "builds log",
    "builds ls",
    "datasets get-items",
    "runs abort",
    "runs info",
    "runs log",
    "runs ls",
    "runs resurrect",
}
_ELSEWHERE = {"actor calculate-memory", "actor generate-schema-types", "auth logout"}
"""What never asks the server."""
_DEFINITION: dict[str, Any] = {
    "input": {
        "title": "Input",
        "type": "object",
        "schemaVersion": 1,
        "properties": {"n": {"title": "N", "type": "integer", "description": "A number"}},
    },
    "storages": {"dataset": {"actorSpecification": 1, "fields": {}, "views": {"all": {"title": "All"}}}},
}
_PUBLIC = {"seoDescription": "D", "inputSchemaFields": ["n"], "datasetView": "all"}


class Commands:
    """The command line; remembers which commands worked."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        self.worked: set[str] = set()

    def ok(self, command: str, *words: str, cwd: Path | None = None) -> str:
        printed = self.cli.ok(*command.split(), *words, cwd=cwd)
        self.worked.add(command)
        return printed

    def all(self) -> set[str]:
        """Every command of the groups that talk to the API, as the tool lists them."""
        found = set()
        for group in ("actor", "actors", "builds", "runs", "task", "datasets", "key-value-stores", "auth"):
            text = self.cli.ok(group, "--help").partition("SUBCOMMANDS")[2]
            found |= {f"{group} {name}" for name in re.findall(rf"^  {group} ([a-z-]+)", text, re.MULTILINE)}
        return found


def of_json(printed: str) -> Any:
    """The JSON value in what a command printed."""
    starts = [at for at in (printed.find("{"), printed.find("[")) if at >= 0]
    return json.JSONDecoder().raw_decode(printed[min(starts) :])[0]


def test_every_command_works(cli: Cli, platform: Platform, tmp_path: Path, node_modules: Path) -> None:
    commands = Commands(cli)
    account(commands)
    actor_id = actors_and_builds(commands, platform, tmp_path)
    runs_and_tasks(commands, platform, actor_id)
    storages(commands, platform)
    in_a_run(commands, platform, node_modules)
    assert commands.all() - commands.worked == _IN_TEST_CLI | _ELSEWHERE


def account(commands: Commands) -> None:
    assert TOKEN in commands.ok("auth token")
    assert "admin" in commands.ok("info")
    assert of_json(commands.ok("api", "users/me"))["data"]["username"] == "admin"
    made = of_json(commands.ok("api", "POST", "/v2/datasets", "-p", '{"name": "of-api-command"}'))
    assert made["data"]["name"] == "of-api-command"


def actors_and_builds(commands: Commands, platform: Platform, tmp_path: Path) -> str:
    files = python_actor("print('ready')\n")
    folder = write_actor(tmp_path / "commands", "cli-commands", files)
    definition = json.loads((folder / ".actor" / "actor.json").read_text())
    (folder / ".actor" / "actor.json").write_text(json.dumps({**definition, **_DEFINITION}))
    actor_id = str(platform.call("POST", "/v2/actors", {"name": "cli-commands"})["id"])
    assert "SUCCEEDED" in commands.cli.ok("push", "--force", cwd=folder)
    pulled = tmp_path / "pulled"
    commands.ok("actors pull", "cli-commands", "--dir", pulled.name, cwd=tmp_path)
    assert (pulled / "main.py").read_text() == files["main.py"]

    built = of_json(commands.ok("actors build", "cli-commands", "--version", "0.1", "--json"))["build"]["id"]
    assert "SUCCEEDED" in commands.ok("builds wait", built, "--poll-interval", "1").upper()
    commands.ok("builds create", "cli-commands", "--tag", "latest", "--wait")
    actor = f"/v2/actors/{actor_id}"
    commands.ok("builds add-tag", "--build", built, "--tag", "beta")
    assert platform.call("GET", actor)["taggedBuilds"]["beta"]["buildId"] == built
    commands.ok("builds remove-tag", "--build", built, "--tag", "beta", "--yes")
    assert platform.call("GET", actor)["taggedBuilds"].keys() == {"latest"}
    commands.ok("builds rm", built, "--yes")
    assert platform.call("GET", f"{actor}/builds")["total"] == 2
    platform.call("PUT", actor, {"title": "Commands", "categories": ["OTHER"], "isPublic": True})
    found = of_json(commands.ok("actors search", "commands", "--username", "admin", "--sort-by", "newest", "--json"))
    assert [item["id"] for item in found["items"]] == [actor_id]
    return actor_id


def runs_and_tasks(commands: Commands, platform: Platform, actor_id: str) -> None:
    body = {"actId": actor_id, "name": "cli-task", "description": "D", "publicConfig": _PUBLIC}
    task = f"/v2/actor-tasks/{platform.call('POST', '/v2/actor-tasks', body)['id']}"
    assert "ready" in commands.ok("task run", "cli-task", "--memory", "128")
    run_id = newest_run(platform)
    assert platform.run(run_id)["options"]["memoryMbytes"] == 128
    commands.ok("runs wait", run_id)
    commands.ok("runs rm", run_id, "--yes")
    assert platform.call("GET", f"{task}/runs")["total"] == 0
    commands.ok("task publish", "cli-task")
    assert platform.call("GET", task)["isPublic"] is True
    commands.ok("task unpublish", "admin/cli-task")
    assert platform.call("GET", task)["isPublic"] is False


def storages(commands: Commands, platform: Platform) -> None:
    dataset = of_json(commands.ok("datasets create", "cli-data", "--json"))
    commands.ok("datasets push-items", "cli-data", '[{"n": 1}, {"n": 2}]')
    wait_for(lambda: platform.call("GET", f"/v2/datasets/{dataset['id']}")["itemCount"] == 2)
    assert "cli-data" in commands.ok("datasets ls")
    assert dataset["id"] in commands.ok("datasets info", "cli-data")
    commands.ok("datasets rename", "cli-data", "cli-data-2")
    commands.ok("datasets rm", "cli-data-2", "--yes")

    store = of_json(commands.ok("key-value-stores create", "cli-store", "--json"))["id"]
    commands.ok("key-value-stores set-value", store, "KEY", '{"a": 1}')
    assert of_json(commands.ok("key-value-stores get-value", store, "KEY")) == {"a": 1}
    assert "KEY" in commands.ok("key-value-stores keys", store)
    assert "cli-store" in commands.ok("key-value-stores ls")
    assert store in commands.ok("key-value-stores info", "cli-store")
    commands.ok("key-value-stores delete-value", store, "KEY", "--yes")
    assert platform.call("GET", f"/v2/key-value-stores/{store}/keys")["items"] == []
    commands.ok("key-value-stores rename", "cli-store", "cli-store-2")
    commands.ok("key-value-stores rm", "cli-store-2", "--yes")


_IN_A_RUN = """
import json, os, subprocess, urllib.request

def apify(*words):
    done = subprocess.run([PROGRAM, "actor", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    print(words, done.returncode, done.stdout, done.stderr)
    assert done.returncode == 0
    return done.stdout

given = json.loads(apify("get-input"))
apify("push-data", json.dumps({"double": 2 * given["n"]}))
apify("set-value", "NOTE", json.dumps({"n": given["n"]}))
assert json.loads(apify("get-value", "NOTE")) == given
apify("charge", "seen", "--count", "2")
# The tool puts the platform's own host before the path.
path = apify("get-public-url", "NOTE").strip().partition("/v2/")[2]
assert json.load(urllib.request.urlopen(os.environ["APIFY_API_BASE_URL"] + "/v2/" + path)) == given
"""


def in_a_run(commands: Commands, platform: Platform, node_modules: Path) -> None:
    program = node_modules / ".bin" / "apify"
    actor = platform.build_actor("cli-in-a-run", python_actor(_IN_A_RUN.replace("PROGRAM", repr(str(program)))))
    platform.call("PUT", f"/v2/actors/{actor}", {"pricingInfos": [PRICES]})
    run = platform.ended(platform.call("POST", f"/v2/actors/{actor}/runs?memory=1024", {"n": 21})["id"])
    assert run["status"] == "SUCCEEDED", platform.log_lines(run["id"])
    assert platform.call("GET", f"/v2/datasets/{run['defaultDatasetId']}/items") == [{"double": 42}]
    assert run["chargedEventCounts"] == {"seen": 2}
    called = ("get-input", "push-data", "set-value", "get-value", "charge", "get-public-url")
    commands.worked |= {f"actor {name}" for name in called}
