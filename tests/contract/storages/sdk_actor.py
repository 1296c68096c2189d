"""The Actor of ``test_sdk.py``: drives storages through the stock SDK. Its input names the scenario."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import urllib.request
from typing import Any

from apify import Actor, Request
from apify.storage_clients import ApifyStorageClient, SmartApifyStorageClient
from crawlee import service_locator

BIG = 10_000


async def datasets() -> None:
    """Every way to open a dataset, 10 MB in one push, every way to read, exports."""
    default = await Actor.open_dataset()
    assert default.id == Actor.configuration.default_dataset_id
    assert (await Actor.open_dataset(id=default.id)).id == default.id
    named = await Actor.open_dataset(name="sdk-named")
    assert named.name == "sdk-named"
    assert (await Actor.open_dataset(name="sdk-named")).id == named.id
    defined = await Actor.open_dataset(alias="errors")
    assert defined.id == Actor.configuration.actor_storages["datasets"]["errors"]
    made = await Actor.open_dataset(alias="made")
    assert made.id not in (default.id, named.id, defined.id)
    assert (await Actor.open_dataset(alias="made")).id == made.id

    await Actor.push_data([{"n": n, "pad": "é" * 500, "#hidden": True} for n in range(BIG)])
    await Actor.push_data({"n": BIG})
    metadata = await default.get_metadata()
    assert metadata.item_count == BIG + 1, metadata
    page = await default.get_data(offset=BIG - 1, limit=5, clean=True)
    assert [item["n"] for item in page.items] == [BIG - 1, BIG]
    assert (page.total, page.offset, page.limit, page.count) == (BIG + 1, BIG - 1, 5, 2)
    assert (await default.get_data(desc=True, limit=2, fields=["n"])).items == [{"n": BIG}, {"n": BIG - 1}]
    assert [item["n"] async for item in default.iterate_items(fields=["n"])] == list(range(BIG + 1))
    listed = await default.list_items(offset=5, limit=2, omit=["pad"], skip_hidden=True)
    assert listed == [{"n": 5}, {"n": 6}]

    await made.push_data([{"a": 1, "list": [{"b": 1}, {"b": 2}]}, {}, {"a": 2, "c": "x,é"}])
    assert (await made.get_data(unwind=["list"], fields=["b"], skip_empty=True)).items == [{"b": 1}, {"b": 2}]
    await made.export_to("export.json", content_type="json", to_kvs_name="sdk-exports")
    await made.export_to("export.csv", content_type="csv", to_kvs_name="sdk-exports", collect_all_keys=True)
    exports = await Actor.open_key_value_store(name="sdk-exports")
    assert [item.get("a") for item in await exports.get_value("export.json")] == [1, None, 2]
    rows = list(csv.reader(io.StringIO(await exports.get_value("export.csv"))))
    assert rows[0] == ["a", "list", "c"] and rows[-1] == ["2", "", "x,é"], rows
    for storage in (named, made, exports):
        await storage.drop()
    assert (await Actor.open_dataset(name="sdk-named")).id != named.id
    await (await Actor.open_dataset(name="sdk-named")).drop()


async def key_value_stores() -> None:
    """Every way to open a store; values of all kinds; keys; public addresses; state."""
    default = await Actor.open_key_value_store()
    assert default.id == Actor.configuration.default_key_value_store_id
    assert (await Actor.open_key_value_store(id=default.id)).id == default.id
    named = await Actor.open_key_value_store(name="sdk-named")
    made = await Actor.open_key_value_store(alias="made")
    assert (await Actor.open_key_value_store(alias="made")).id == made.id
    mapping = await Actor.get_value("__STORAGE_ALIASES_MAPPING")
    assert made.id in mapping.values(), mapping

    values: dict[str, Any] = {
        "object": {"a": [1, None, "é"]},
        "text": "héllo",
        "number": 1.5,
        "bytes": bytes(range(256)) * 1000,
        "large": {"text": "x" * 200_000},
    }
    for store in (named, made):
        for key, value in values.items():
            await store.set_value(key, value)
        assert {key: await store.get_value(key) for key in values} == values
        assert await store.get_value("absent") is None
        assert await store.get_value("absent", default_value=5) == 5
        assert await store.record_exists("text") and not await store.record_exists("Text")
        assert [key.key for key in await store.list_keys()] == sorted(values)
        assert [key.key for key in await store.list_keys(exclusive_start_key="large", limit=1)] == ["number"]
        assert [key.key async for key in store.iterate_keys(limit=2)] == sorted(values)[:2]
        assert {key: value async for key, value in store.iterate_entries()} == values
        await store.set_value("page.html", "<p>é</p>", content_type="text/html; charset=utf-8")
        address = await store.get_public_url("page.html")
        with await asyncio.to_thread(urllib.request.urlopen, address) as answer:
            assert answer.read().decode() == "<p>é</p>"
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        await store.delete_value("text")
        assert await store.get_value("text") is None
    await Actor.set_value("OUTPUT", {"done": True})
    assert await Actor.get_value("OUTPUT") == {"done": True}
    state = await Actor.use_state(default_value={"count": 0})
    state["count"] += 1
    await (await Actor.open_key_value_store()).persist_autosaved_values()
    assert await Actor.get_value("APIFY_GLOBAL_STATE") == {"count": 1}
    await named.drop()
    await made.drop()


async def request_queue() -> None:
    """A queue from empty to finished: order, forefront, handling, reclaiming, counts."""
    default = await Actor.open_request_queue()
    assert default.id == Actor.configuration.default_request_queue_id
    named = await Actor.open_request_queue(name="sdk-named")
    made = await Actor.open_request_queue(alias="made")
    assert (await Actor.open_request_queue(alias="made")).id == made.id
    for queue in (default, named, made):
        await _drive(queue)
    await named.drop()
    await made.drop()


async def _drive(queue: Any) -> None:
    assert await queue.is_empty() and await queue.is_finished()
    assert await queue.fetch_next_request() is None
    added = await queue.add_request(Request.from_url("http://site/first", user_data={"deep": {"n": [1, None]}}))
    assert not added.was_already_present
    assert (await queue.add_request("http://site/first")).was_already_present
    await queue.add_requests([f"http://site/{n}" for n in range(300)], wait_for_all_requests_to_be_added=True)
    await queue.add_request("http://site/front", forefront=True)
    assert not await queue.is_empty()

    fetched = []
    reclaimed = False
    while (request := await queue.fetch_next_request()) is not None:
        fetched.append(request.url.rpartition("/")[2])
        if fetched[-1] == "first":
            assert request.user_data["deep"] == {"n": [1, None]}
        if fetched[-1] == "5" and not reclaimed:
            reclaimed = True
            request.retry_count += 1
            assert await queue.reclaim_request(request, forefront=True) is not None
            continue
        handled = await queue.mark_request_as_handled(request)
        assert handled is not None and not handled.was_already_handled
    assert len(fetched) == 303, len(fetched)
    assert sorted({*fetched} - {"first", "front"}, key=int) == [str(n) for n in range(300)]
    assert fetched.count("5") == 2 and fetched.index("front") <= 1, fetched[:3]
    assert await queue.is_empty() and await queue.is_finished()
    stored = await queue.get_request(Request.from_url("http://site/5").unique_key)
    assert stored.handled_at is not None and stored.retry_count == 1
    assert await queue.get_request("never") is None
    metadata = await queue.get_metadata()
    assert (metadata.total_request_count, metadata.handled_request_count, metadata.pending_request_count) == (
        302,
        302,
        0,
    )
    assert (await queue.get_handled_count(), await queue.get_total_count()) == (302, 302)
    again = await queue.reclaim_request(stored)
    assert again is not None and again.was_already_handled
    assert not await queue.is_finished()
    once_more = await queue.fetch_next_request()
    assert once_more is not None and once_more.url == "http://site/5"
    await queue.mark_request_as_handled(once_more)
    assert await queue.is_finished()


async def worker() -> None:
    """One of several that empty a shared queue together; says what it handled."""
    queue = await Actor.open_request_queue(name="sdk-shared")
    handled = []
    while not await queue.is_finished():
        request = await queue.fetch_next_request()
        if request is None:
            await asyncio.sleep(0.05)
            continue
        if request.retry_count == 0 and request.url.endswith("7"):
            request.retry_count = 1
            await queue.reclaim_request(request)
            continue
        await queue.mark_request_as_handled(request)
        handled.append(request.url)
    await Actor.push_data([{"url": url} for url in handled])


async def main() -> None:
    """Run the scenario of the input."""
    store = json.loads(await asyncio.to_thread(_input))
    cloud = ApifyStorageClient(request_queue_access=store["access"])
    service_locator.set_storage_client(SmartApifyStorageClient(cloud_storage_client=cloud))
    scenarios = {found.__name__: found for found in (datasets, key_value_stores, request_queue, worker)}
    async with Actor:
        await scenarios[store["scenario"]]()


def _input() -> bytes:
    configuration = Actor.configuration
    url = f"{configuration.api_base_url}/v2/key-value-stores/{configuration.default_key_value_store_id}/records/INPUT"
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {configuration.token}"})
    with urllib.request.urlopen(asked) as answer:
        return answer.read()


if __name__ == "__main__":
    asyncio.run(main())
