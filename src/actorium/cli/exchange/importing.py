"""A folder -> an API. The same again changes nothing, and an import that was cut off is finished by the next one."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from apify_client.errors import ApifyApiError

from actorium.cli.exchange import folder
from actorium.cli.exchange.api import Api
from actorium.cli.exchange.exporting import ACTOR_FIELDS, SCHEDULE_FIELDS, TASK_FIELDS, WEBHOOK_FIELDS, Say, picked
from actorium.domain.actors import DEFAULT_STANDBY, RUN_OPTION_KEYS

_RECORD_URL = re.compile(r"https?://[^/]+/v2/key-value-stores/([A-Za-z0-9]{17})/records/([^/?]+)(?:\?.*)?")
_KNOWN_KEYS = {"defaultRunOptions": RUN_OPTION_KEYS, "actorStandby": tuple(DEFAULT_STANDBY)}
_ACTOR = ("actors", "actorId", "actor")
_TASK = ("actor-tasks", "actorTaskId", "task")
_PUSH_BYTES = 4 * 1024 * 1024
_PUSH_ITEMS = 1000
_BATCH = 25


class Import:
    """Puts an export into an API, for the user it is called by. ``dry_run`` only says what would be done.

    Resources are known by their names, webhooks by the id they had. What is at the target and not in the export stays.
    ``build``: Actors without a build are built, as a task's input is held against one.
    ``enable``: schedules and webhooks that are new there are enabled if they were; else they come disabled.
    """

    def __init__(self, target: Api, root: Path, say: Say, *, dry_run: bool, build: bool, enable: bool) -> None:
        self._target = target
        self._root = root
        self._say = say
        self._dry_run = dry_run
        self._build = build
        self._enable = enable
        self._source_user = str(folder.manifest_of(root)["username"])
        self._stores: dict[str, str] = {}
        self._ids: dict[tuple[str, str], str] = {}
        self.problems = 0

    def run(self) -> None:
        """Import everything. Raises ``FolderError``, and ``ApifyApiError`` where nothing can go on."""
        steps = (
            ("key-value-stores", "store.json", self._store),
            ("datasets", "dataset.json", self._dataset),
            ("request-queues", "queue.json", self._queue),
            ("actors", "actor.json", self._actor),
            ("tasks", None, self._task),
            ("schedules", None, self._schedule),
            ("webhooks", None, self._webhook),
        )
        for part, file, step in steps:
            for path, described in folder.entries(self._root, part, file):
                try:
                    step(path, described)
                except ApifyApiError as error:
                    self._problem(f"{part} {described.get('name') or described['id']}: {error}")

    def _problem(self, text: str) -> None:
        self.problems += 1
        self._say(f"PROBLEM: {text}")

    def _note(self, verb: str, what: str) -> None:
        self._say(f"{'Would ' if self._dry_run else ''}{verb} {what}")

    def _put(self, what: str, found: dict[str, Any] | None, paths: tuple[str, str], body: dict[str, Any]) -> str:
        """Create (at the first path) or update (at the second) a resource; returns its id, empty in a dry run."""
        self._note("update" if found else "create", what)
        if self._dry_run:
            return str(found["id"]) if found else ""
        made = self._target.send("PUT", paths[1], body) if found else self._target.send("POST", paths[0], body)
        return str(made["id"])

    def _find(self, kind: str, name: str) -> dict[str, Any] | None:
        """A resource by ``username/name``; what was the exporting user's is the caller's here."""
        username, _, own = name.partition("/")
        owner = self._target.username if username == self._source_user else username
        found: dict[str, Any] | None = self._target.find(f"{kind}/{owner}~{own}")
        return found

    def _id_of(self, kind: str, name: str | None, user: str) -> str | None:
        """The id of what a task, schedule or webhook refers to; ``None`` and a problem where it is not there."""
        if name is not None:
            if (known := self._ids.get((kind, name))) is not None:
                return known
            if (found := self._find(kind, name)) is not None:
                return str(found["id"])
        self._problem(f"{user} refers to {name or 'something unknown'}, which is not here: left out.")
        return None

    def _actor(self, root: Path, actor: dict[str, Any]) -> None:
        name = f"{self._source_user}/{actor['name']}"
        found = self._find("actors", name)
        body = {"name": actor["name"], **picked(actor, ACTOR_FIELDS)}
        for field, known in _KNOWN_KEYS.items():
            if isinstance(body.get(field), dict):
                body[field] = picked(body[field], known)
        path = f"actors/{found['id']}" if found else ""
        actor_id = self._put(f"Actor {actor['name']}", found, ("actors", path), body)
        self._ids["actors", name] = actor_id
        numbers = {one["versionNumber"] for one in (found or {}).get("versions") or []}
        for version_path in sorted(root.glob("versions/*/version.json")):
            version = folder.read_json(version_path)
            number = version["versionNumber"]
            self._note("update" if number in numbers else "create", f"version {number} of Actor {actor['name']}")
            if self._dry_run:
                continue
            body = self._version(version, version_path.parent)
            if number in numbers:
                self._target.send("PUT", f"actors/{actor_id}/versions/{number}", body)
            else:
                self._target.send("POST", f"actors/{actor_id}/versions", body)

        self._build_once(actor_id, actor["name"])

    def _build_once(self, actor_id: str, name: str) -> None:
        """Build what the Actor's runs use unless it has been built."""
        if not self._build or self._dry_run:
            return
        actor = self._target.get(f"actors/{actor_id}")
        tag = (actor.get("defaultRunOptions") or {}).get("build") or "latest"
        version = next((one for one in actor["versions"] if one.get("buildTag") == tag), None)
        if version is None or (actor.get("taggedBuilds") or {}).get(tag):
            return
        self._say(f"Building Actor {name}")
        number = version["versionNumber"]
        build = self._target.send("POST", f"actors/{actor_id}/builds", None, version=number, useCache=1)
        while build.get("finishedAt") is None:
            build = self._target.get(f"actor-builds/{build['id']}", waitForFinish=20)
        if build["status"] != "SUCCEEDED":
            self._problem(f"the build of Actor {name} ended {build['status']}: see 'apify builds log {build['id']}'.")

    def _version(self, version: dict[str, Any], root: Path) -> dict[str, Any]:
        body = dict(version)
        if "sourceFiles" in version:
            body["sourceFiles"] = [_source_file(one, root / "sources") for one in version["sourceFiles"]]
        record = _RECORD_URL.fullmatch(version.get("tarballUrl") or "")
        if record and record[1] in self._stores:
            body["tarballUrl"] = f"{self._target.url}/v2/key-value-stores/{self._stores[record[1]]}/records/{record[2]}"
        return body

    def _task(self, _path: Path, task: dict[str, Any]) -> None:
        actor_id = self._id_of("actors", task.get("actor"), f"task {task['name']}")
        if actor_id is None:
            return
        name = f"{self._source_user}/{task['name']}"
        found = self._find("actor-tasks", name)
        body = {"name": task["name"], **picked(task, TASK_FIELDS)}
        if found is None:
            body["actId"] = actor_id
        path = f"actor-tasks/{found['id']}" if found else ""
        self._ids["actor-tasks", name] = self._put(f"task {task['name']}", found, ("actor-tasks", path), body)

    def _schedule(self, _path: Path, schedule: dict[str, Any]) -> None:
        what = f"schedule {schedule['name']}"
        found = next((one for one in self._target.pages("schedules") if one["name"] == schedule["name"]), None)
        actions = []
        for action in schedule["actions"]:
            kind, field, key = _TASK if "task" in action else _ACTOR
            target_id = self._id_of(kind, action.get(key), what)
            if target_id is not None:
                kept = {name: value for name, value in action.items() if name not in ("task", "actor")}
                actions.append({**kept, field: target_id})
        body = {"name": schedule["name"], **picked(schedule, SCHEDULE_FIELDS), "actions": actions}
        self._keep_state(body, found)
        self._put(what, found, ("schedules", f"schedules/{found['id']}" if found else ""), body)

    def _webhook(self, _path: Path, webhook: dict[str, Any]) -> None:
        what = f"webhook {webhook['id']} to {webhook.get('requestUrl', '').partition('?')[0]}"
        kind, field, key = _TASK if "task" in webhook else _ACTOR
        target_id = self._id_of(kind, webhook.get(key), what)
        if target_id is None:
            return
        condition = {field: target_id}
        body = {**picked(webhook, WEBHOOK_FIELDS), "condition": condition}
        found = next((one for one in self._webhooks(target_id, kind) if _is_same(one, body)), None)
        self._keep_state(body, found)
        if found is None:
            body["idempotencyKey"] = f"import-{webhook['id']}"
        self._put(what, found, ("webhooks", f"webhooks/{found['id']}" if found else ""), body)

    def _webhooks(self, target_id: str, kind: str) -> Iterator[dict[str, Any]]:
        return self._target.pages(f"{kind}/{target_id}/webhooks") if target_id else iter(())

    def _keep_state(self, body: dict[str, Any], found: dict[str, Any] | None) -> None:
        if found is not None:
            body["isEnabled"] = found["isEnabled"]
        elif not self._enable:
            body["isEnabled"] = False

    def _storage(self, kind: str, described: dict[str, Any]) -> str | None:
        """The id of a named storage, which is made if need be; ``None`` for a new one in a dry run."""
        name = described["name"]
        found = self._target.find(f"{kind}/{self._target.username}~{quote(name, safe='')}")
        if found is None and self._dry_run:
            return None
        return str((found or self._target.send("POST", kind, None, name=name))["id"])

    def _store(self, root: Path, store: dict[str, Any]) -> None:
        self._note("write", f"{len(store['records'])} records of key-value store {store['name']}")
        store_id = self._storage("key-value-stores", store)
        if store_id is None:
            return
        self._stores[store["id"]] = store_id
        for record in [] if self._dry_run else store["records"]:
            path = folder.source_path(root / "records", record["file"])
            with path.open("rb") as source:
                address = f"key-value-stores/{store_id}/records/{quote(record['key'], safe='')}"
                self._target.upload(address, source, record["contentType"])

    def _dataset(self, root: Path, dataset: dict[str, Any]) -> None:
        dataset_id = self._storage("datasets", dataset)
        there = 0
        if dataset_id is not None:
            there = self._items_there(dataset_id, root / "items.jsonl")
            if there < 0:
                self._problem(f"dataset {dataset['name']} has other items than the export here: left alone.")
                return
        chunks = _chunks(root / "items.jsonl", there)
        count = 0
        for chunk in chunks:
            count += len(chunk)
            if not self._dry_run and dataset_id is not None:
                self._target.send("POST", f"datasets/{dataset_id}/items", [json.loads(line) for line in chunk])
        self._note("push", f"{count} items to dataset {dataset['name']}, which has {there} of them")

    def _items_there(self, dataset_id: str, path: Path) -> int:
        """How many items of the file the dataset has already; -1 = it has others."""
        total = int(self._target.get(f"datasets/{dataset_id}")["itemCount"])
        position = -1
        with path.open("rb") as file:
            for position, line in enumerate(file):
                if position in (0, total - 1) and position < total:
                    found = self._target.lines(f"datasets/{dataset_id}/items", format="jsonl", offset=position, limit=1)
                    if not found or json.loads(found[0]) != json.loads(line):
                        return -1
        return total if total <= position + 1 else -1

    def _queue(self, root: Path, queue: dict[str, Any]) -> None:
        queue_id = self._storage("request-queues", queue)
        with (root / "requests.jsonl").open("rb") as file:
            requests = [json.loads(line) for line in file]
        self._note("add", f"{len(requests)} requests to request queue {queue['name']}, where they are not there")
        if queue_id is None or self._dry_run:
            return
        # The order they were added in is not in the export; first come, first served of what it has.
        for start in range(0, len(requests), _BATCH):
            batch = [
                {key: value for key, value in one.items() if key != "id"} for one in requests[start : start + _BATCH]
            ]
            answer = self._target.send("POST", f"request-queues/{queue_id}/requests/batch", batch)
            if answer["unprocessedRequests"]:
                self._problem(f"request queue {queue['name']}: {len(answer['unprocessedRequests'])} were not taken.")


def _is_same(found: dict[str, Any], body: dict[str, Any]) -> bool:
    return found["requestUrl"] == body.get("requestUrl") and sorted(found["eventTypes"]) == sorted(body["eventTypes"])


def _source_file(file: dict[str, Any], root: Path) -> dict[str, Any]:
    if file.get("folder"):
        return file
    content = folder.source_path(root, file["name"]).read_bytes()
    is_binary = file["format"] == "BASE64"
    return {**file, "content": base64.b64encode(content).decode() if is_binary else content.decode()}


def _chunks(path: Path, skip: int) -> Iterator[list[bytes]]:
    """The lines of a file after the first ``skip``, as many at once as one call takes."""
    chunk: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if number < skip:
                continue
            if chunk and (size + len(line) > _PUSH_BYTES or len(chunk) >= _PUSH_ITEMS):
                yield chunk
                chunk, size = [], 0
            chunk.append(line)
            size += len(line)
    if chunk:
        yield chunk
