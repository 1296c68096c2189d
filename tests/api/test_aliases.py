"""Default storages below runs and last runs: which run is meant, and who may read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from apify_client.errors import NotFoundError

from actorium.domain.models import JobStatus, Run
from actorium.domain.signing import content_signature, record_signature
from support.program import ACTOR_ID, TASK_ID, Program
from support.storage_server import error

LAST = [f"/actors/{ACTOR_ID}/runs/last", f"/acts/{ACTOR_ID}/runs/last", f"/actor-tasks/{TASK_ID}/runs/last"]
FORBIDDEN, ABSENT, NO_TOKEN = (
    (403, "insufficient-permissions"),
    (404, "record-not-found"),
    (401, "token-not-provided"),
)


async def dataset_of(program: Program, path: str, query: str = "") -> str:
    return str((await program.ask("GET", f"{path}/dataset{query}"))["id"])


def ids_of(run: Run) -> dict[str, str]:
    return {
        "dataset": run.default_dataset_id,
        "key-value-store": run.default_key_value_store_id,
        "request-queue": run.default_request_queue_id,
    }


@pytest.mark.parametrize("last", LAST)
async def test_the_last_run_is_the_newest_that_fits(program: Program, last: str) -> None:
    for kind in ("dataset", "key-value-store", "request-queue"):
        assert error(await program.send("GET", f"{last}/{kind}")) == ABSENT
    first = await program.run(JobStatus.SUCCEEDED, origin="API", task_id=TASK_ID)
    second = await program.run(JobStatus.FAILED, origin="WEB", task_id=TASK_ID)
    newest = await program.run(JobStatus.READY, origin="API", task_id=TASK_ID)
    for kind, storage_id in ids_of(newest).items():
        assert (await program.ask("GET", f"{last}/{kind}"))["id"] == storage_id
    for query, run in (
        ("?status=SUCCEEDED", first),
        ("?status=FAILED&origin=WEB", second),
        ("?origin=WEB", second),
        ("?origin=API&status=SUCCEEDED", first),
        ("?status=&origin=", newest),
    ):
        assert await dataset_of(program, last, query) == run.default_dataset_id, query
    for query in ("?status=TIMED-OUT", "?origin=SCHEDULER", "?status=FAILED&origin=API"):
        assert error(await program.send("GET", f"{last}/dataset{query}")) == ABSENT
    for query, message in (
        ("?status=DONE", "Status parameter has an invalid value"),
        ("?status=succeeded", "Status parameter has an invalid value"),
        ("?origin=NOWHERE", "Origin parameter has an invalid value"),
    ):
        refused = await program.send("GET", f"{last}/dataset{query}")
        assert error(refused) == (400, "invalid-request")
        assert json.loads(refused.body)["error"]["message"] == message
    assert error(await program.send("GET", f"{last}/dataset", by="john")) == ABSENT
    assert error(await program.send("GET", f"{last}/dataset", by=None)) == NO_TOKEN


async def test_a_task_has_only_its_own_runs(program: Program) -> None:
    mine = await program.run(task_id=TASK_ID)
    await program.run(task_id="x" * 17)
    other = await program.run()
    assert await dataset_of(program, LAST[2]) == mine.default_dataset_id
    assert await dataset_of(program, LAST[0]) == other.default_dataset_id
    assert error(await program.send("GET", f"/actor-tasks/{'y' * 17}/runs/last/dataset")) == ABSENT


@pytest.mark.parametrize("last", LAST)
async def test_every_tail_works_and_filters_are_stripped(program: Program, last: str) -> None:
    run = await program.run(JobStatus.SUCCEEDED, task_id=TASK_ID)
    filters = "status=SUCCEEDED&origin=API"
    await program.ask("POST", f"{last}/dataset/items?{filters}", [{"n": 1}, {"n": 2}])
    assert await program.ask("GET", f"{last}/dataset/items?{filters}&limit=1&desc=1") == [{"n": 2}]
    assert await program.ask("GET", f"{last}/dataset/statistics?{filters}") == {"fieldStatistics": None}
    head = await program.send("HEAD", f"{last}/dataset/items?{filters}")
    assert (head.status, head.body, head.headers["X-Apify-Pagination-Total"]) == (200, b"", "2")
    for method in ("PUT", "POST"):
        await program.ask(method, f"{last}/key-value-store/records/K?{filters}", b"value")
    assert (await program.send("GET", f"{last}/key-value-store/records/K?{filters}")).body == b"value"
    assert (await program.send("HEAD", f"{last}/key-value-store/records/K?{filters}")).status == 200
    assert [key["key"] for key in (await program.ask("GET", f"{last}/key-value-store/keys?{filters}"))["items"]] == [
        "K"
    ]
    await program.ask("DELETE", f"{last}/key-value-store/records/K?{filters}")
    requests = f"{last}/request-queue/requests"
    added = await program.ask("POST", f"{requests}?{filters}", {"url": "http://x", "uniqueKey": "x"})
    await program.ask("POST", f"{requests}/batch?{filters}", [{"url": "http://y", "uniqueKey": "y"}])
    one = f"{requests}/{added['requestId']}"
    assert (await program.ask("GET", f"{one}?{filters}"))["uniqueKey"] == "x"
    assert len((await program.ask("GET", f"{requests}?{filters}"))["items"]) == 2
    assert len((await program.ask("GET", f"{last}/request-queue/head?{filters}&limit=1"))["items"]) == 1
    lock = f"lockSecs=60&clientKey=me&{filters}"
    assert len((await program.ask("POST", f"{last}/request-queue/head/lock?{lock}"))["items"]) == 2
    await program.ask("PUT", f"{one}/lock?{lock}")
    await program.ask("DELETE", f"{one}/lock?{lock}")
    assert await program.ask("POST", f"{requests}/unlock?{lock}") == {"unlockedCount": 1}
    done = {"id": added["requestId"], "url": "http://x", "uniqueKey": "x", "handledAt": "2026-01-01T00:00:00Z"}
    await program.ask("PUT", f"{one}?{filters}", done)
    await program.ask("DELETE", f"{one}?{filters}")
    await program.ask("DELETE", f"{requests}/batch?{filters}", [{"uniqueKey": "y"}])
    for kind, storage_id in ids_of(run).items():
        renamed = await program.ask("PUT", f"{last}/{kind}?{filters}", {"name": f"kept-{kind}"})
        assert (renamed["id"], renamed["name"]) == (storage_id, f"kept-{kind}")
        await program.ask("DELETE", f"{last}/{kind}?{filters}")
        assert error(await program.send("GET", f"{last}/{kind}?{filters}")) == ABSENT
    assert (await program.ask("GET", f"/actor-runs/{run.id}"))["status"] == "SUCCEEDED"


@pytest.mark.parametrize("last", LAST)
async def test_a_filter_is_no_storage_parameter(program: Program, last: str) -> None:
    """``status`` and ``origin`` choose a run only below ``runs/last``; elsewhere they mean nothing."""
    run = await program.run(task_id=TASK_ID)
    assert await dataset_of(program, f"/actor-runs/{run.id}", "?status=DONE") == run.default_dataset_id
    assert error(await program.send("GET", f"{last}/dataset?status=DONE")) == (400, "invalid-request")


READS = [
    ("dataset", "", None),
    ("dataset", "/items", "content"),
    ("key-value-store", "", None),
    ("key-value-store", "/keys", "content"),
    ("key-value-store", "/records/K", "record"),
    ("request-queue", "", None),
    ("request-queue", "/head", None),
    ("request-queue", "/requests", None),
]
_PATHS = {"dataset": "datasets", "key-value-store": "key-value-stores", "request-queue": "request-queues"}


async def signature_of(program: Program, kind: str, storage_id: str, what: str) -> str:
    secret = (await program.ask("GET", f"/{_PATHS[kind]}/{storage_id}"))["urlSigningSecretKey"]
    return record_signature(secret, "K") if what == "record" else content_signature(secret, storage_id)


@pytest.mark.parametrize(("kind", "tail", "signed"), READS)
async def test_who_may_read_through_a_run(program: Program, kind: str, tail: str, signed: str | None) -> None:
    run = await program.run()
    path, storage = f"/actor-runs/{run.id}/{kind}{tail}", f"/{_PATHS[kind]}/{ids_of(run)[kind]}"
    await program.ask("PUT", f"/actor-runs/{run.id}/key-value-store/records/K", b"value")
    query = f"?signature={await signature_of(program, kind, ids_of(run)[kind], signed)}" if signed else ""

    async def outcome(by: Any, query: str = "") -> Any:
        answer = await program.send("GET", path + query, by=by)
        return answer.status if answer.status == 200 else error(answer)

    async def set_access(run_access: str, storage_access: str) -> None:
        await program.ask("PUT", f"/actor-runs/{run.id}", {"generalAccess": run_access})
        await program.ask("PUT", storage, {"generalAccess": storage_access})

    anyone = ("ANYONE_WITH_ID_CAN_READ", "ANYONE_WITH_NAME_CAN_READ")
    for storage_access in ("FOLLOW_USER_SETTING", "RESTRICTED", *anyone):
        for run_access in ("FOLLOW_USER_SETTING", "RESTRICTED"):
            await set_access(run_access, storage_access)
            assert (await outcome("jane"), await outcome(run)) == (200, 200)
            assert (await outcome("john"), await outcome(None)) == (ABSENT, NO_TOKEN)
            if signed:
                assert (await outcome("john", query), await outcome(None, query)) == (ABSENT, NO_TOKEN)
        await set_access("ANYONE_WITH_ID_CAN_READ", storage_access)
        readable = storage_access in anyone
        assert await outcome("john") == (200 if readable else ABSENT)
        assert await outcome(None) == (200 if readable else FORBIDDEN)
        if signed:
            assert (await outcome("john", query), await outcome(None, query)) == (200, 200)
            if not readable:
                assert await outcome(None, query + "x") == FORBIDDEN


async def test_what_anyone_may_read_only_the_owner_may_change(program: Program) -> None:
    run = await program.run(general_access="ANYONE_WITH_ID_CAN_READ")
    for kind, storage_id in ids_of(run).items():
        await program.ask("PUT", f"/{_PATHS[kind]}/{storage_id}", {"generalAccess": "ANYONE_WITH_NAME_CAN_READ"})
    for method, tail, body in (
        ("PUT", "dataset", {"title": "x"}),
        ("DELETE", "dataset", None),
        ("POST", "dataset/items", {}),
        ("PUT", "key-value-store/records/K", b"x"),
        ("DELETE", "key-value-store/records/K", None),
        ("DELETE", "key-value-store", None),
        ("POST", "request-queue/requests", {"url": "u", "uniqueKey": "u"}),
        ("POST", "request-queue/head/lock?lockSecs=9", None),
        ("DELETE", "request-queue", None),
    ):
        path = f"/actor-runs/{run.id}/{tail}"
        assert error(await program.send(method, path, body, by="john")) == FORBIDDEN, path
        assert error(await program.send(method, path, body, by=None)) == NO_TOKEN, path


async def test_the_stock_client_finds_the_last_run_of_a_task(program: Program) -> None:
    run = await program.run(JobStatus.SUCCEEDED, task_id=TASK_ID)
    last = program.client(program.token("jane")).task(TASK_ID).last_run(status="SUCCEEDED", origin="API")
    await last.dataset().push_items([{"n": 1}])
    assert (await last.dataset().list_items()).items == [{"n": 1}]
    await last.key_value_store().set_record("K", {"a": 1})
    record = await last.key_value_store().get_record("K")
    assert record is not None and record["value"] == {"a": 1}
    await last.request_queue().add_request({"url": "http://x", "uniqueKey": "x"})
    found = await last.dataset().get()
    assert found is not None and found.id == run.default_dataset_id
    running = program.client(program.token("jane")).task(TASK_ID).last_run(status="RUNNING")
    with pytest.raises(NotFoundError, match="Actor run was not found"):
        await running.dataset().get()
