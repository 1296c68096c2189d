"""The Actor on which tests of clients try all methods: it stores, says that it is ready, and waits if it is told to.

The record ``TOKEN`` is the run's token. Its build has an input schema and a dataset with a view; ``PRICES`` are for it.
"""

from __future__ import annotations

import json

from support.platform import python_actor

_CODE = """
import json, os, time, urllib.request
base, token = os.environ["APIFY_API_BASE_URL"], os.environ["APIFY_TOKEN"]

def call(method, path, body=None):
    headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
    return urllib.request.urlopen(urllib.request.Request(base + path, body, method=method, headers=headers)).read()

store, dataset = os.environ["ACTOR_DEFAULT_KEY_VALUE_STORE_ID"], os.environ["ACTOR_DEFAULT_DATASET_ID"]
given = json.loads(call("GET", f"/v2/key-value-stores/{store}/records/INPUT"))
call("POST", f"/v2/datasets/{dataset}/items", b'[{"n": 1}, {"n": 2}]')
call("PUT", f"/v2/key-value-stores/{store}/records/TOKEN", json.dumps(token).encode())
print("ready")
time.sleep(600 if given.get("wait") else 0)
"""
_INPUT_SCHEMA = {
    "title": "Input",
    "type": "object",
    "schemaVersion": 1,
    "properties": {"wait": {"title": "Wait", "type": "boolean", "description": "For ever", "editor": "checkbox"}},
}
_DEFINITION = {
    "actorSpecification": 1,
    "name": "methods",
    "version": "0.1",
    "input": _INPUT_SCHEMA,
    "storages": {
        "dataset": {"actorSpecification": 1, "fields": {}, "views": {"all": {"title": "All", "transformation": {}}}}
    },
}
FILES = {**python_actor(_CODE), ".actor/actor.json": json.dumps(_DEFINITION)}
PRICES = {
    "pricingModel": "PAY_PER_EVENT",
    "apifyMarginPercentage": 0.2,
    "createdAt": "2020-01-01T00:00:00.000Z",
    "startedAt": "2020-01-01T00:00:00.000Z",
    "pricingPerEvent": {
        "actorChargeEvents": {"seen": {"eventTitle": "Seen", "eventDescription": "A page", "eventPriceUsd": 0.1}}
    },
}
