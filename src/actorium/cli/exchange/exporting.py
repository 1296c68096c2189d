"""An API -> a folder. An export that was cut off goes on where it was, record by record and item by item."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from actorium.cli.exchange import folder
from actorium.cli.exchange.api import Api

ACTOR_FIELDS = (
    "title",
    "description",
    "seoTitle",
    "seoDescription",
    "pictureUrl",
    "isPublic",
    "isDeprecated",
    "isSourceCodeHidden",
    "hasNoDataset",
    "isAnonymouslyRunnable",
    "actorPermissionLevel",
    "defaultRunOptions",
    "exampleRunInput",
    "actorStandby",
    "categories",
    "notice",
    "readmeSummary",
)
TASK_FIELDS = ("title", "description", "options", "input", "actorStandby")
SCHEDULE_FIELDS = (
    "title",
    "description",
    "cronExpression",
    "timezone",
    "isEnabled",
    "isExclusive",
    "notifications",
)
WEBHOOK_FIELDS = (
    "isEnabled",
    "eventTypes",
    "requestUrl",
    "payloadTemplate",
    "headersTemplate",
    "shouldInterpolateStrings",
    "ignoreSslErrors",
    "doNotRetry",
    "title",
    "description",
    "isApifyIntegration",
)
_URL_FIELDS = ("gitRepoUrl", "tarballUrl", "gitHubGistUrl")
_SEALED = "ENCRYPTED_"
_PAGE = 1000
Say = Callable[[str], None]


def picked(value: dict[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    """The ``fields`` of ``value`` that have one."""
    return {name: value[name] for name in fields if value.get(name) is not None}


class Export:
    """Writes all that a user has, less runs, builds and unnamed storages, into the folder ``root``.

    Secret values are never in it: the API does not give them out. ``with_headers`` adds the header templates of
    webhooks, which often hold tokens.
    """

    def __init__(self, source: Api, root: Path, say: Say, *, with_headers: bool) -> None:
        self._source = source
        self._root = root
        self._say = say
        self._with_headers = with_headers
        self._names: dict[tuple[str, str], str] = {}

    def count(self) -> dict[str, int]:
        """How much there is of each part."""
        return {part: sum(1 for _ in self._list(part)) for part in folder.PARTS}

    def run(self) -> None:
        """Export everything. Raises ``FolderError``, ``ApifyApiError``."""
        if folder.begin(self._root, self._source.url, self._source.username):
            self._say("Going on with the export that was cut off.")
        for short in self._list("actors"):
            self._actor(short["id"])
        for short in self._list("tasks"):
            self._task(self._source.get(f"actor-tasks/{short['id']}"))
        for short in self._list("schedules"):
            self._schedule(self._source.get(f"schedules/{short['id']}"))
        for short in self._list("webhooks"):
            self._webhook(self._source.get(f"webhooks/{short['id']}"))
        for short in self._list("datasets"):
            self._dataset(short)
        for short in self._list("key-value-stores"):
            self._store(short)
        for short in self._list("request-queues"):
            self._queue(short)
        folder.finish(self._root)

    def _list(self, part: str) -> Iterator[dict[str, Any]]:
        if part == "actors":
            return self._source.pages("actors", my=1)
        if part == "webhooks":
            # One that belongs to a single run is of no use elsewhere.
            return (one for one in self._source.pages(part) if not one.get("isAdHoc"))
        if part in ("tasks", "schedules"):
            return self._source.pages("actor-tasks" if part == "tasks" else part)
        return (one for one in self._source.pages(part) if one.get("name") and self._is_own(one))

    def _is_own(self, storage: dict[str, Any]) -> bool:
        return storage.get("username") in (None, self._source.username)

    def _actor(self, actor_id: str) -> None:
        actor = self._source.get(f"actors/{actor_id}")
        root = self._root / "actors" / folder.file_name(actor["name"])
        for version in actor.get("versions") or []:
            self._version(actor["name"], version, root / "versions" / folder.file_name(version["versionNumber"]))
        described = {"id": actor_id, "name": actor["name"], **picked(actor, ACTOR_FIELDS)}
        folder.write_json(root / "actor.json", described)
        self._say(f"Actor {actor['name']}")

    def _version(self, actor_name: str, version: dict[str, Any], root: Path) -> None:
        described = picked(version, ("versionNumber", "sourceType", "buildTag", "applyEnvVarsToBuild", *_URL_FIELDS))
        variables = version.get("envVars") or []
        described["envVars"] = [
            {"name": one["name"], "isSecret": True} if one.get("isSecret") else picked(one, ("name", "value"))
            for one in variables
        ]
        secret = [one["name"] for one in variables if one.get("isSecret")]
        if secret:
            number = version["versionNumber"]
            self._say(f"NOTE: secret values are left out: Actor {actor_name} {number}: {', '.join(secret)}")
        if version.get("sourceType") == "SOURCE_FILES":
            described["sourceFiles"] = [self._source_file(one, root) for one in version.get("sourceFiles") or []]
        folder.write_json(root / "version.json", described)

    @staticmethod
    def _source_file(file: dict[str, Any], root: Path) -> dict[str, Any]:
        path = folder.source_path(root / "sources", file["name"])
        if file.get("folder"):
            path.mkdir(parents=True, exist_ok=True)
            return {"name": file["name"], "folder": True}
        path.parent.mkdir(parents=True, exist_ok=True)
        content = file.get("content") or ""
        is_binary = file.get("format") == "BASE64"
        path.write_bytes(base64.b64decode(content) if is_binary else content.encode())
        return {"name": file["name"], "format": "BASE64" if is_binary else "TEXT"}

    def _name(self, kind: str, resource_id: str) -> str | None:
        """``username/name`` of an Actor or task, ``None`` for one that cannot be read."""
        key = (kind, resource_id)
        if key not in self._names:
            found = self._source.find(f"{kind}/{resource_id}") or {}
            self._names[key] = f"{found['username']}/{found['name']}" if found else ""
        return self._names[key] or None

    def _task(self, task: dict[str, Any]) -> None:
        described = {"id": task["id"], "name": task["name"], **picked(task, TASK_FIELDS)}
        described["actor"] = self._name("actors", task["actId"])
        sealed = [name for name, value in (task.get("input") or {}).items() if str(value).startswith(_SEALED)]
        if sealed:
            kept = {name: value for name, value in task["input"].items() if name not in sealed}
            described["input"] = kept
            self._say(f"NOTE: secret values are left out: input of task {task['name']}: {', '.join(sealed)}")
        folder.write_json(self._root / "tasks" / f"{folder.file_name(task['name'])}.json", described)
        self._say(f"Task {task['name']}")

    def _schedule(self, schedule: dict[str, Any]) -> None:
        described = {"id": schedule["id"], "name": schedule["name"], **picked(schedule, SCHEDULE_FIELDS)}
        described["actions"] = [self._action(one) for one in schedule.get("actions") or []]
        folder.write_json(self._root / "schedules" / f"{folder.file_name(schedule['name'])}.json", described)
        self._say(f"Schedule {schedule['name']}")

    def _action(self, action: dict[str, Any]) -> dict[str, Any]:
        described = picked(action, ("type", "runInput", "runOptions", "input"))
        if "actorTaskId" in action:
            return {**described, "task": self._name("actor-tasks", action["actorTaskId"])}
        return {**described, "actor": self._name("actors", action["actorId"])}

    def _webhook(self, webhook: dict[str, Any]) -> None:
        described = {"id": webhook["id"], **picked(webhook, WEBHOOK_FIELDS)}
        if not self._with_headers and described.pop("headersTemplate", None):
            self._say(f"NOTE: the headers of webhook {webhook['id']} are left out (--webhook-headers)")
        condition = webhook.get("condition") or {}
        if condition.get("actorTaskId"):
            described["task"] = self._name("actor-tasks", condition["actorTaskId"])
        elif condition.get("actorId"):
            described["actor"] = self._name("actors", condition["actorId"])
        else:
            return
        folder.write_json(self._root / "webhooks" / f"{folder.file_name(webhook['id'])}.json", described)
        self._say(f"Webhook {webhook['id']}")

    def _dataset(self, dataset: dict[str, Any]) -> None:
        root = self._root / "datasets" / folder.file_name(dataset["name"])
        path = root / "items.jsonl"

        def page(done: int) -> list[bytes]:
            return self._source.lines(f"datasets/{dataset['id']}/items", format="jsonl", offset=done, limit=_PAGE)

        count = _append_lines(path, page)
        folder.write_json(root / "dataset.json", picked(dataset, ("id", "name", "title")))
        self._say(f"Dataset {dataset['name']}: {count} items")

    def _queue(self, queue: dict[str, Any]) -> None:
        root = self._root / "request-queues" / folder.file_name(queue["name"])
        last: list[str] = []

        def page(_done: int) -> list[bytes]:
            after = {"exclusiveStartId": last[0]} if last else {}
            found = self._source.get(f"request-queues/{queue['id']}/requests", limit=_PAGE, **after)["items"]
            last[:] = [found[-1]["id"]] if found else []
            return [json.dumps(one, ensure_ascii=False).encode() for one in found]

        # Requests come in the order of their ids, in which new ones may be anywhere: it begins again.
        (root / "requests.jsonl.part").unlink(missing_ok=True)
        count = _append_lines(root / "requests.jsonl", page)
        folder.write_json(root / "queue.json", picked(queue, ("id", "name", "title")))
        self._say(f"Request queue {queue['name']}: {count} requests")

    def _store(self, store: dict[str, Any]) -> None:
        root = self._root / "key-value-stores" / folder.file_name(store["name"])
        if (root / "store.json").exists():
            return
        described = [self._record(store["id"], key, root) for key in self._keys(store["id"])]
        folder.write_json(root / "store.json", {**picked(store, ("id", "name", "title")), "records": described})
        for path in root.glob("records/*.part"):
            path.unlink()
        self._say(f"Key-value store {store['name']}: {len(described)} records")

    def _keys(self, store_id: str) -> Iterator[str]:
        after: dict[str, str] = {}
        while True:
            found = self._source.get(f"key-value-stores/{store_id}/keys", limit=_PAGE, **after)
            for key in (one["key"] for one in found["items"]):
                if key in (".", ".."):
                    # Every client that keeps to the URL standard takes these for folders, however they are written.
                    self._say(f"NOTE: a record with the key {key} cannot be read and is left out")
                else:
                    yield key
            if not found.get("isTruncated"):
                return
            after = {"exclusiveStartKey": found["nextExclusiveStartKey"]}

    def _record(self, store_id: str, key: str, root: Path) -> dict[str, str]:
        path = root / "records" / folder.file_name(key)
        described = path.with_name(path.name + ".type.part")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            with part.open("wb") as target:
                address = f"key-value-stores/{store_id}/records/{quote(key, safe='')}"
                content_type = self._source.download(address, target)
            described.write_text(content_type)
            part.replace(path)
        return {"key": key, "contentType": described.read_text(), "file": path.name}


def _append_lines(path: Path, page: Callable[[int], list[bytes]]) -> int:
    """Write pages of lines until one is empty, after those that are there from before; returns the number of all."""
    if path.exists():
        return _count_lines(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("ab+") as target:
        done = _whole_lines(target)
        while lines := page(done):
            target.write(b"".join(line + b"\n" for line in lines))
            done += len(lines)
    part.replace(path)
    return done


def _whole_lines(target: Any) -> int:
    """The number of whole lines of a file; cuts off what follows the last one."""
    target.seek(0)
    count = size = 0
    for line in target:
        if line.endswith(b"\n"):
            count += 1
            size += len(line)
    target.truncate(size)
    return count


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
