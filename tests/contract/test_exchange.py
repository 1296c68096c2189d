"""Export, import, and import from another Apify API: a second server of ours, read with the stock client."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from actorium.builders import BuildOutput, BuildSpec, WriteLog
from actorium.cli.exchange import exporting
from actorium.cli.exchange.commands import export, import_, import_from_apify, store_import
from support.git_server import commit
from support.program import ACTOR_ID, TASK_ID, Program

ITEMS = 1205
ACTOR = {
    "name": "crawler",
    "title": "The crawler",
    "categories": ["AI"],
    "isPublic": True,
    "defaultRunOptions": {"memoryMbytes": 512, "timeoutSecs": 60, "build": "latest"},
}
FILES = [
    {"name": "src/main.py", "format": "TEXT", "content": "print('ü')\n"},
    {"name": "logo.png", "format": "BASE64", "content": base64.b64encode(b"\x89PNG\x00\xff").decode()},
    {"name": "empty", "folder": True},
]
ODD_KEYS = {"INPUT": b'{"a": 1}', "...": b"dots", "a!b'(c)": b"\x00\xff", "x" * 200: b"long", "lower.part": b"p"}


class InstantBuilder:
    """Builds anything at once."""

    async def build(self, spec: BuildSpec, write_log: WriteLog) -> BuildOutput:
        return BuildOutput(kind="native", state={}, size_bytes=1)

    async def remove(self, kind: str, state: dict[str, Any]) -> None:
        pass


@asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[Program]:
    """A server that builds, and starts no run."""
    mirror = f"https://jane:secret-text@example.com/=file://{data_dir.parent}/repositories/"
    found = Program(data_dir, "", git_mirrors=mirror)
    await found.start()
    try:
        found.platform.build_engine._builder = InstantBuilder()
        await found.platform.build_engine.start()
        yield found
    finally:
        await found.platform.build_engine.stop()
        await found.stop()


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Program]:
    async with running(tmp_path / "source") as found:
        await populate(found)
        yield found


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Program]:
    async with running(tmp_path / "target") as found:
        yield found


async def populate(program: Program) -> None:
    """One of everything for jane."""
    ask = program.ask
    await ask("DELETE", f"/actor-tasks/{TASK_ID}")  # its Actor has no version that could be built elsewhere
    store = await ask("POST", "/key-value-stores?name=pages")
    for key, content in ODD_KEYS.items():
        path = f"/key-value-stores/{store['id']}/records/{key}"
        answer = await program.send("PUT", path, content, headers={"Content-Type": f"application/x-{len(key)}"})
        assert answer.status == 201, answer.body
    await program.send("PUT", f"/key-value-stores/{store['id']}/records/%2E%2E", b"out of reach")
    tarball = f"{program.url}/v2/key-value-stores/{store['id']}/records/INPUT?signature=x"
    variables = [{"name": "PLAIN", "value": "seen"}, {"name": "HIDDEN", "value": "top secret", "isSecret": True}]
    versions = [
        {
            "versionNumber": "0.1",
            "sourceType": "SOURCE_FILES",
            "sourceFiles": FILES,
            "buildTag": "latest",
            "envVars": variables,
        },
        {"versionNumber": "0.2", "sourceType": "TARBALL", "tarballUrl": tarball},
        {"versionNumber": "0.3", "sourceType": "GIT_REPO", "gitRepoUrl": "https://example.com/a.git#main"},
    ]
    actor = await ask("POST", "/actors", {**ACTOR, "versions": versions})
    build = await ask("POST", f"/actors/{actor['id']}/builds?version=0.1")
    while (await ask("GET", f"/actor-builds/{build['id']}"))["finishedAt"] is None:
        await asyncio.sleep(0)
    sealed = "ENCRYPTED_VALUE:abc:def"
    task = {
        "actId": actor["id"],
        "name": "daily",
        "input": {"n": 1, "password": sealed},
        "options": {"memoryMbytes": 256},
    }
    made = await ask("POST", "/actor-tasks", task)
    actions = [
        {"type": "RUN_ACTOR_TASK", "actorTaskId": made["id"]},
        {"type": "RUN_ACTOR", "actorId": actor["id"], "runOptions": {"memoryMbytes": 256}},
    ]
    schedule = {"name": "nightly", "cronExpression": "0 3 * * *", "isEnabled": True, "timezone": "Europe/Prague"}
    await ask("POST", "/schedules", {**schedule, "isExclusive": True, "actions": actions})
    hook = {"requestUrl": "https://example.com/hook?x=1", "headersTemplate": '{"X-Key": "hidden"}'}
    for event, condition in (
        ("ACTOR.RUN.FAILED", {"actorId": actor["id"]}),
        ("ACTOR.RUN.SUCCEEDED", {"actorTaskId": made["id"]}),
    ):
        await ask("POST", "/webhooks", {**hook, "eventTypes": [event], "condition": condition})
    dataset = await ask("POST", "/datasets?name=results")
    await ask("POST", f"/datasets/{dataset['id']}/items", [{"n": n, "text": "ü\n"} for n in range(ITEMS)])
    queue = await ask("POST", "/request-queues?name=urls")
    requests = [{"url": f"https://example.com/{n}", "uniqueKey": str(n), "userData": {"n": n}} for n in range(30)]
    requests[3]["handledAt"] = "2026-01-01T00:00:00.000Z"
    for start in (0, 25):
        await ask("POST", f"/request-queues/{queue['id']}/requests/batch", requests[start : start + 25])
    await ask("POST", "/datasets")  # one without a name stays where it is


async def command(work: Callable[..., None], *args: Any, **more: Any) -> int:
    """Carry out a command beside the servers of this loop; returns its exit code."""

    def call() -> int:
        try:
            work(*args, **more)
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return await asyncio.to_thread(call)


def access(source: Program, target: Program) -> dict[str, Any]:
    return {
        "token": source.token("jane"),
        "from_url": source.url,
        "to_url": target.url,
        "to_token": target.token("john"),
    }


async def everything(program: Program, who: str) -> dict[str, Any]:
    """What there is of a user, without ids and times."""

    async def ask(path: str) -> Any:
        return await program.ask("GET", path, by=who)

    actor = await ask(f"/actors/{who}~crawler")
    task = await ask(f"/actor-tasks/{who}~daily")
    schedules = [await ask(f"/schedules/{one['id']}") for one in (await ask("/schedules"))["items"]]
    hooks = [await ask(f"/webhooks/{one['id']}") for one in (await ask("/webhooks"))["items"]]
    records = {}
    for key in ODD_KEYS:
        path = f"/v2/key-value-stores/{who}~pages/records/{key}"
        answer = await program.request("GET", path, token=program.token(who))
        records[key] = (answer.body, answer.headers["Content-Type"])
    items = await ask(f"/datasets/{who}~results/items")
    requests = (await ask(f"/request-queues/{who}~urls/requests?limit=100"))["items"]
    names = {actor["id"]: "crawler", task["id"]: "daily"}
    return {
        "actor": {key: actor[key] for key in ACTOR},
        "versions": [
            {key: one.get(key) for key in ("versionNumber", "sourceType", "sourceFiles", "buildTag", "gitRepoUrl")}
            for one in actor["versions"]
        ],
        "task": {key: task[key] for key in ("name", "options")},
        "schedules": [
            {key: one[key] for key in ("name", "cronExpression", "timezone", "isExclusive")}
            | {"actions": [names[a.get("actorId") or a.get("actorTaskId")] for a in one["actions"]]}
            for one in schedules
        ],
        "webhooks": sorted(
            [one["requestUrl"], *one["eventTypes"], names[next(iter(one["condition"].values()))]] for one in hooks
        ),
        "records": records,
        "items": items,
        "requests": [{key: value for key, value in one.items() if key != "handledAt"} for one in requests],
        "handled": [one["uniqueKey"] for one in requests if one.get("handledAt")],
    }


async def test_everything_goes_from_one_api_to_another_and_only_once(
    source: Program, target: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await command(import_from_apify, **access(source, target), dry_run=True) == 0
    assert "Would create Actor crawler" in capsys.readouterr().out
    assert (await target.send("GET", "/actors/john~crawler", by="john")).status == 404
    assert (await target.ask("GET", "/datasets", by="john"))["total"] == 0

    assert await command(import_from_apify, **access(source, target)) == 0
    printed = capsys.readouterr().out
    assert "secret values are left out: Actor crawler 0.1: HIDDEN" in printed
    assert "secret values are left out: input of task daily: password" in printed
    assert "a record with the key .. cannot be read" in printed
    expected = await everything(source, "jane")
    there = await everything(target, "john")
    assert there == expected
    assert (len(expected["items"]), len(expected["requests"]), expected["handled"]) == (ITEMS, 30, ["3"])
    actor = await target.ask("GET", "/actors/john~crawler", by="john")
    tarball = next(one["tarballUrl"] for one in actor["versions"] if one["sourceType"] == "TARBALL")
    store = await target.ask("GET", "/key-value-stores/john~pages", by="john")
    assert tarball == f"{target.url}/v2/key-value-stores/{store['id']}/records/INPUT"
    plain, hidden = (await target.ask("GET", f"/actors/{actor['id']}/versions/0.1/env-vars", by="john"))["items"]
    assert (plain["value"], hidden) == ("seen", {"name": "HIDDEN", "isSecret": True})
    task = await target.ask("GET", "/actor-tasks/john~daily", by="john")
    assert task["input"] == {"n": 1}
    (schedule,) = (await target.ask("GET", "/schedules", by="john"))["items"]
    assert schedule["isEnabled"] is False, "it goes on where it came from"

    await target.ask("PUT", f"/schedules/{schedule['id']}", {"isEnabled": True}, by="john")
    await target.ask("PUT", "/actors/john~crawler", {"title": "Changed here"}, by="john")
    assert await command(import_from_apify, **access(source, target)) == 0
    assert await everything(target, "john") == expected
    assert (await target.ask("GET", "/schedules", by="john"))["items"][0]["isEnabled"] is True


async def test_an_export_is_plain_files_and_goes_on_after_a_cut(
    source: Program,
    target: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "export"
    who = {"url": source.url, "token": source.token("jane")}
    assert await command(export, root, **who, dry_run=True) == 0
    assert "Would export 1 datasets" in capsys.readouterr().out
    assert not root.exists()

    # The connection breaks after the first page of items.
    whole = exporting.Api.lines
    calls: list[int] = []

    def cut(self: exporting.Api, path: str, **params: Any) -> list[bytes]:
        calls.append(params["offset"])
        if len(calls) == 2:
            raise OSError("the connection broke")
        return whole(self, path, **params)

    monkeypatch.setattr(exporting.Api, "lines", cut)
    assert await command(export, root, **who) == 1
    part = root / "datasets" / "results" / "items.jsonl.part"
    with part.open("ab") as file:
        file.write(b'{"half a li')
    assert await command(import_, root, url=target.url, token=target.token("john")) == 1
    assert "was not finished" in " ".join(capsys.readouterr().err.split())
    assert await command(export, root, **who) == 0
    assert calls == [0, 1000, 1000, ITEMS], "it went on at the first item that was missing"
    assert len((root / "datasets/results/items.jsonl").read_bytes().splitlines()) == ITEMS
    assert (root / "actors/crawler/versions/0.1/sources/src/main.py").read_text() == "print('ü')\n"
    assert "hidden" not in "".join(path.read_text() for path in root.glob("webhooks/*"))
    assert "top secret" not in "".join(path.read_text() for path in root.glob("actors/*/versions/*/version.json"))
    assert not list(root.rglob("*.part"))

    # A target that an earlier import has left half full is filled, one with other items left alone.
    dataset = await target.ask("POST", "/datasets?name=results", by="john")
    first = [{"n": n, "text": "ü\n"} for n in range(700)]
    await target.ask("POST", f"/datasets/{dataset['id']}/items", first, by="john")
    to = {"url": target.url, "token": target.token("john")}
    assert await command(import_, root, **to) == 0
    assert await everything(target, "john") == await everything(source, "jane")
    (schedule,) = (await target.ask("GET", "/schedules", by="john"))["items"]
    assert schedule["isEnabled"] is True
    await target.ask("POST", f"/datasets/{dataset['id']}/items", {"other": True}, by="john")
    assert await command(import_, root, **to) == 1
    assert "has other items" in capsys.readouterr().out


async def test_without_a_token_a_user_of_the_data_directory_is_meant(source: Program, tmp_path: Path) -> None:
    root = tmp_path / "export"
    place = {"url": source.url, "data_dir": tmp_path / "source"}
    assert await command(export, root, **place, user="jane") == 0
    assert json.loads((root / "export.json").read_text())["username"] == "jane"
    tokens = await source.platform.accounts.list_tokens("jane")
    assert [token.name for token in tokens] == ["tests"], "the token made for it is gone"
    assert await command(export, tmp_path / "other", **place, user="nobody") == 1


async def test_references_that_lead_nowhere_are_reported(
    source: Program, target: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "export"
    task = {"actId": ACTOR_ID, "name": "of-anothers"}
    await source.ask("PUT", f"/actors/{ACTOR_ID}", {"isPublic": True, "title": "Counter", "categories": ["AI"]})
    await source.ask("POST", "/actor-tasks", task, by="john")
    assert await command(export, root, url=source.url, token=source.token("john")) == 0
    capsys.readouterr()
    await target.ask("DELETE", f"/actors/{ACTOR_ID}")
    assert await command(import_, root, url=target.url, token=target.token("john")) == 1
    assert "task of-anothers refers to jane/counter, which is not here" in capsys.readouterr().out
    (root / "export.json").write_text('{"format": 99}')
    assert await command(import_, root, url=target.url, token=target.token("john")) == 1
    assert await command(import_, tmp_path, url=target.url, token=target.token("john")) == 1
    assert await command(export, tmp_path, url=source.url, token=source.token("john")) == 1


async def test_folders_samples_and_repositories_go_into_the_store(
    target: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = {"url": target.url, "token": target.token("john")}
    root = tmp_path / "scraper"
    for file, content in {
        ".actor/actor.json": b'{"name": "my-scraper", "title": "My scraper", /* why */ "description": "It scrapes."}',
        ".gitignore": b"*.log\n",
        "main.py": b"print(1)",
        "logo.bin": b"\xff\x00",
        "debug.log": b"x",
        "node_modules/x.js": b"x",
    }.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content)
    (root / "outside").symlink_to("/etc/passwd")
    assert await command(store_import, str(root), **to) == 0
    (root / "main.py").write_text("print(2)")
    assert await command(store_import, str(root), **to) == 0
    actor = await target.ask("GET", "/actors/john~my-scraper", by="john")
    (version,) = actor["versions"]
    contents = {one["name"]: one["content"] for one in version["sourceFiles"]}
    assert contents.keys() == {".actor/actor.json", ".gitignore", "main.py", "logo.bin"}
    assert contents["main.py"] == "print(2)"
    assert actor["taggedBuilds"]["latest"]["buildNumber"] == "0.0.2"

    commit(tmp_path / "repositories/team/actors.git", {"actors/first/main.py": "print(1)"})
    url = "https://jane:secret-text@example.com/team/actors.git#main:actors/first"
    assert await command(store_import, url, **to) == 0
    assert "secret-text" not in capsys.readouterr().out
    assert await command(store_import, "python-counter", **to, category="AI") == 0
    listed = (await target.ask("GET", "/store", by=None))["items"]
    shown = {one["name"]: (one["title"], one["username"], one["categories"]) for one in listed}
    assert shown == {
        "my-scraper": ("My scraper", "john", ["DEVELOPER_TOOLS"]),
        "first": ("first", "john", ["DEVELOPER_TOOLS"]),
        "python-counter": ("Counter (Python)", "john", ["AI"]),
    }
    assert await command(store_import, str(tmp_path / "nothing"), **to) == 1


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\b"])
def test_a_foreign_api_cannot_write_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(exporting.folder.FolderError):
        exporting.folder.source_path(tmp_path, name)
    assert "/" not in exporting.folder.file_name(name)
    assert not exporting.folder.file_name(name).startswith(".")
