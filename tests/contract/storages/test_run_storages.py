"""Storages through the paths of a run and of an Actor's last run, with the filters that choose it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from apify_client.errors import ApifyApiError

from actorium.domain.requests import request_id
from support.platform import Platform, python_actor

pytestmark = [pytest.mark.xdist_group("storages")]


def refusal(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(ApifyApiError) as error:
        call()
    return error.value.status_code, error.value.type


@pytest.fixture(scope="session")
def quick(platform: Platform) -> str:
    """An Actor that ends at once, and whose runs only these tests start."""
    return platform.build_actor("quick", python_actor("pass\n"))


def by_run(client: Any, actor: str, run_id: str) -> Any:
    return client.run(run_id)


def by_last_run(client: Any, actor: str, run_id: str) -> Any:
    return client.actor(actor).last_run()


def by_filtered_last_run(client: Any, actor: str, run_id: str) -> Any:
    return client.actor(actor).last_run(status="SUCCEEDED", origin="API")


def by_name_of_the_actor(client: Any, actor: str, run_id: str) -> Any:
    return client.actor("admin/quick").last_run(status="SUCCEEDED")


@pytest.fixture(params=[by_run, by_last_run, by_filtered_last_run, by_name_of_the_actor])
def run(request: pytest.FixtureRequest, platform: Platform, client: Any, quick: str) -> tuple[Any, dict[str, Any]]:
    """The client of a finished run, reached in one of the ways, and the run itself."""
    started = platform.call("POST", f"/v2/actors/{quick}/runs?memory=128&timeout=60", {"text": "input"})
    ended = platform.ended(started["id"])
    assert ended["status"] == "SUCCEEDED"
    return request.param(client, quick, ended["id"]), ended


def test_dataset(run: tuple[Any, dict[str, Any]]) -> None:
    dataset, fields = run[0].dataset(), run[1]
    info = dataset.get()
    assert (info.id, info.act_run_id, info.act_id) == (fields["defaultDatasetId"], fields["id"], fields["actId"])
    dataset.push_items([{"n": n, "#hidden": n} for n in range(5)])
    page = dataset.list_items(offset=1, limit=2, desc=True, clean=True)
    assert (page.items, page.total, page.limit) == ([{"n": 3}, {"n": 2}], 5, 2)
    assert [item["n"] for item in dataset.iterate_items(chunk_size=2)] == list(range(5))
    assert dataset.get_items_as_bytes(item_format="csv", bom=False, fields=["n"], limit=1) == b"n\r\n0\r\n"
    assert dataset.get_statistics().field_statistics is None
    assert dataset.update(title="Titled").title == "Titled"
    dataset.delete()
    assert refusal(dataset.get) == (404, "record-not-found")


def test_key_value_store(run: tuple[Any, dict[str, Any]]) -> None:
    store, fields = run[0].key_value_store(), run[1]
    info = store.get()
    assert (info.id, info.act_run_id) == (fields["defaultKeyValueStoreId"], fields["id"])
    assert store.get_record("INPUT")["value"] == {"text": "input"}
    store.set_record("OUTPUT", b"\x00\x01", content_type="image/png")
    found = store.get_record_as_bytes("OUTPUT")
    assert (found["value"], found["content_type"]) == (b"\x00\x01", "image/png")
    assert store.record_exists("OUTPUT") and not store.record_exists("absent")
    assert [item.key for item in store.list_keys(limit=1, exclusive_start_key="INPUT").items] == ["OUTPUT"]
    assert [item.key for item in store.iterate_keys(chunk_size=1, prefix="O")] == ["OUTPUT"]
    store.delete_record("OUTPUT")
    assert store.get_record("OUTPUT") is None
    assert store.update(title="Titled").title == "Titled"
    store.delete()
    assert refusal(store.get) == (404, "record-not-found")


def test_request_queue(run: tuple[Any, dict[str, Any]]) -> None:
    queue, fields = run[0].request_queue(), run[1]
    info = queue.get()
    assert (info.id, info.act_run_id) == (fields["defaultRequestQueueId"], fields["id"])
    requests = [{"url": f"http://site/{n}", "uniqueKey": str(n)} for n in range(4)]
    queue.add_request(requests[0])
    assert len(queue.batch_add_requests(requests[1:]).processed_requests) == 3
    assert [item.unique_key for item in queue.list_head(limit=2).items] == ["0", "1"]
    locked = queue.list_and_lock_head(lock_duration=timedelta(seconds=60), limit=2)
    assert [item.unique_key for item in locked.items] == ["0", "1"]
    assert queue.get_request(request_id("3")).url == "http://site/3"
    queue.update_request({**requests[3], "id": request_id("3")}, forefront=True)
    queue.delete_request(request_id("2"))
    assert len(queue.batch_delete_requests([{"uniqueKey": "1"}]).processed_requests) == 1
    assert {item.unique_key for item in queue.list_requests(limit=10).items} == {"0", "3"}
    assert len(list(queue.iterate_requests(chunk_size=1))) == 2
    assert queue.update(title="Titled").title == "Titled"
    queue.delete()
    assert refusal(queue.get) == (404, "record-not-found")


def test_locks_below_a_run_belong_to_the_client_key(platform: Platform, client: Any, quick: str) -> None:
    started = platform.call("POST", f"/v2/actors/{quick}/runs?memory=128&waitForFinish=60")
    queue = client.run(started["id"]).request_queue()
    queue.add_request({"url": "http://site/1", "uniqueKey": "1"})
    path = f"/v2/actor-runs/{started['id']}/request-queue"
    mine = "clientKey=of-this-test"
    assert len(platform.call("POST", f"{path}/head/lock?lockSecs=60&{mine}")["items"]) == 1
    lock = f"{path}/requests/{request_id('1')}/lock"
    assert platform.call("PUT", f"{lock}?lockSecs=90&forefront=1&{mine}")["lockExpiresAt"]
    platform.call("DELETE", f"{lock}?forefront=0&{mine}")
    assert len(platform.call("POST", f"{path}/head/lock?lockSecs=60&{mine}")["items"]) == 1
    assert platform.call("POST", f"{path}/requests/unlock?{mine}") == {"unlockedCount": 1}


def test_no_such_run(client: Any, quick: str, platform: Platform) -> None:
    platform.ended(platform.call("POST", f"/v2/actors/{quick}/runs?memory=128")["id"])
    for run in (
        client.run("A" * 17),
        client.actor("A" * 17).last_run(),
        client.actor(quick).last_run(status="TIMED-OUT"),
        client.actor(quick).last_run(origin="SCHEDULER"),
    ):
        for call in (run.dataset().get, run.key_value_store().get, run.request_queue().get, run.dataset().list_items):
            assert refusal(call) == (404, "record-not-found")
        assert run.key_value_store().get_record("INPUT") is None
    for wrong in ({"status": "DONE"}, {"origin": "MARS"}):
        assert refusal(client.actor(quick).last_run(**wrong).dataset().get) == (400, "invalid-request")


def test_others_do_not_reach_the_storages(
    client_of: Callable[[str | None], Any], only_lister: str, platform: Platform, quick: str
) -> None:
    run = platform.ended(platform.call("POST", f"/v2/actors/{quick}/runs?memory=128")["id"])
    other, anonymous = client_of(only_lister), client_of(None)
    assert refusal(other.run(run["id"]).dataset().get) == (404, "record-not-found")
    assert refusal(lambda: other.run(run["id"]).dataset().push_items({})) == (404, "record-not-found")
    assert other.actor(quick).last_run().key_value_store().get_record("INPUT") is None
    assert refusal(anonymous.run(run["id"]).request_queue().list_head) == (401, "token-not-provided")
