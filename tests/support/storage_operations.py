"""One example of every storage operation, by its id in the API's OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from actorium.domain.requests import request_id
from support.platform import Platform

ZIP = "keyValueStore_records_get"
"""All records as a ZIP: left out of the checks while it is not served."""

_REQUEST = {"url": "http://site/1", "uniqueKey": "1", "userData": {"n": 1}, "headers": {"A": "b"}}
_ID = request_id("1")


@dataclass(frozen=True)
class Step:
    """A call below a storage (``kind``) that succeeds, and how it can be refused (``bad`` query or body)."""

    operation: str
    method: str
    kind: str
    tail: str = ""
    body: Any = None
    bad: str | bytes | None = None


_LOCK = f"/requests/{_ID}/lock"
STEPS = (
    Step("dataset_get", "GET", "dataset"),
    Step("dataset_put", "PUT", "dataset", body={"title": "T"}, bad=b'{"title": 1}'),
    Step("dataset_items_post", "POST", "dataset", "/items", [{"a": 1}, {"b": None}], bad=b"[1]"),
    Step("dataset_items_get", "GET", "dataset", "/items", bad="limit=x"),
    *(Step("dataset_items_get", "GET", "dataset", f"/items?format={name}") for name in ("jsonl", "csv", "html")),
    *(Step("dataset_items_get", "GET", "dataset", f"/items?format={name}") for name in ("xlsx", "xml", "rss")),
    Step("dataset_items_head", "HEAD", "dataset", "/items", bad="limit=x"),
    Step("dataset_statistics_get", "GET", "dataset", "/statistics"),
    Step("keyValueStore_get", "GET", "store"),
    Step("keyValueStore_put", "PUT", "store", body={"title": "T"}, bad=b"[]"),
    Step("keyValueStore_record_put", "PUT", "store", "/records/K", {"a": 1}),
    Step("keyValueStore_record_post", "POST", "store", "/records/L", {"a": 1}),
    Step("keyValueStore_record_get", "GET", "store", "/records/K", bad="attachment=x"),
    Step("keyValueStore_record_head", "HEAD", "store", "/records/K"),
    Step("keyValueStore_keys_get", "GET", "store", "/keys?limit=1", bad="limit=x"),
    Step("keyValueStore_keys_get", "GET", "store", "/keys"),
    Step(ZIP, "GET", "store", "/records"),
    Step("keyValueStore_record_delete", "DELETE", "store", "/records/K"),
    Step("requestQueue_get", "GET", "queue"),
    Step("requestQueue_put", "PUT", "queue", body={"title": "T"}, bad=b'{"generalAccess": 1}'),
    Step("requestQueue_requests_post", "POST", "queue", "/requests", _REQUEST, bad=b"[]"),
    Step("requestQueue_requests_batch_post", "POST", "queue", "/requests/batch", [_REQUEST], bad=b"[{}]"),
    Step("requestQueue_requests_get", "GET", "queue", "/requests?limit=1", bad="cursor=!"),
    Step("requestQueue_requests_get", "GET", "queue", "/requests?exclusiveStartId=a"),
    Step("requestQueue_request_get", "GET", "queue", f"/requests/{_ID}"),
    Step("requestQueue_request_put", "PUT", "queue", f"/requests/{_ID}", {**_REQUEST, "id": _ID}, bad=b'{"url": 1}'),
    Step("requestQueue_head_get", "GET", "queue", "/head", bad="limit=x"),
    Step("requestQueue_head_lock_post", "POST", "queue", "/head/lock?lockSecs=60&clientKey=c", bad="lockSecs=0"),
    Step("requestQueue_requests_get", "GET", "queue", "/requests?filter=locked"),
    Step("requestQueue_request_get", "GET", "queue", f"/requests/{_ID}"),
    Step("requestQueue_request_lock_put", "PUT", "queue", f"{_LOCK}?lockSecs=60&clientKey=c", bad="lockSecs=x"),
    Step("requestQueue_request_lock_delete", "DELETE", "queue", f"{_LOCK}?clientKey=c", bad="clientKey="),
    Step("requestQueue_requests_unlock_post", "POST", "queue", "/requests/unlock", bad="clientKey="),
    Step(
        "requestQueue_request_put",
        "PUT",
        "queue",
        f"/requests/{_ID}",
        {**_REQUEST, "handledAt": "2026-01-01T00:00:00.000Z", "payload": "p", "errorMessages": ["e"], "noRetry": True},
    ),
    Step("requestQueue_request_get", "GET", "queue", f"/requests/{_ID}"),
    Step("requestQueue_request_delete", "DELETE", "queue", f"/requests/{_ID}", bad="clientKey="),
    Step("requestQueue_requests_batch_delete", "DELETE", "queue", "/requests/batch", [{"uniqueKey": "1"}], bad=b"[{}]"),
    Step("dataset_delete", "DELETE", "dataset"),
    Step("keyValueStore_delete", "DELETE", "store"),
    Step("requestQueue_delete", "DELETE", "queue"),
)
"""In this order they succeed on fresh storages."""

COLLECTIONS = {"datasets": "datasets", "key-value-stores": "keyValueStores", "request-queues": "requestQueues"}

Bases = dict[str, str]


def of_storages(platform: Platform, actor: str) -> Bases:
    """Paths of three fresh storages."""
    return {
        kind: f"/v2/{path}/{platform.call('POST', f'/v2/{path}')['id']}"
        for kind, path in (("dataset", "datasets"), ("store", "key-value-stores"), ("queue", "request-queues"))
    }


def below(path: str) -> Bases:
    return {"dataset": f"{path}/dataset", "store": f"{path}/key-value-store", "queue": f"{path}/request-queue"}


def of_run(platform: Platform, actor: str) -> Bases:
    """Paths of the storages of a finished run."""
    run = platform.ended(platform.call("POST", f"/v2/actors/{actor}/runs?memory=128")["id"])
    return below(f"/v2/actor-runs/{run['id']}")


def of_last_run(platform: Platform, actor: str) -> Bases:
    """Paths of the storages of an Actor's last run."""
    of_run(platform, actor)
    return below(f"/v2/actors/{actor}/runs/last")


PREFIXES: dict[str, Callable[[Platform, str], Bases]] = {
    "": of_storages,
    "actorRun_": of_run,
    "actor_runs_last_": of_last_run,
}
