"""Calls that meet: the same name twice, deleting under writers and readers, renaming under pushes by name."""

from __future__ import annotations

import asyncio
import http.client
import json

import pytest

from actorium.storage.db import Tx
from api.test_datasets import new_dataset
from support.storage_server import Answer, StorageServer, data, error

KINDS = ["datasets", "key-value-stores", "request-queues"]


@pytest.mark.parametrize("kind", KINDS)
async def test_creating_one_name_at_once_makes_one_storage(server: StorageServer, kind: str) -> None:
    names = ["Same-Name", "same-name", "SAME-NAME"]
    calls = [server.request("POST", f"/v2/{kind}?name={names[number % 3]}") for number in range(12)]
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status for answer in answers) == [200] * 11 + [201]
    assert len({data(answer)["id"] for answer in answers}) == 1
    assert data(await server.request("GET", f"/v2/{kind}"))["total"] == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_one_of_two_renames_to_one_name_wins(server: StorageServer, kind: str) -> None:
    ids = [data(await server.request("POST", f"/v2/{kind}"))["id"] for _ in range(4)]
    body = b'{"name":"wanted"}'
    answers = await asyncio.gather(*(server.request("PUT", f"/v2/{kind}/{one}", body) for one in ids))
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]
    refused = next(answer for answer in answers if answer.status == 409)
    assert error(refused) == (409, "name-not-unique")


async def test_deleting_under_writers(server: StorageServer) -> None:
    dataset = await new_dataset(server)
    store = data(await server.request("POST", "/v2/key-value-stores"))["id"]
    queue = data(await server.request("POST", "/v2/request-queues"))["id"]
    storages = (f"/v2/datasets/{dataset}", f"/v2/key-value-stores/{store}", f"/v2/request-queues/{queue}")

    async def write(number: int) -> list[Answer]:
        request = json.dumps({"uniqueKey": str(number), "url": "u"}).encode()
        return [
            await server.request("POST", f"{storages[0]}/items", b'{"n":1}'),
            await server.request("PUT", f"{storages[1]}/records/K{number}", b"x" * 100_000),
            await server.request("POST", f"{storages[2]}/requests", request),
        ]

    async def delete() -> list[Answer]:
        return [await server.request("DELETE", path) for path in storages]

    *written, deleted = await asyncio.gather(*(write(number) for number in range(8)), delete())
    assert [answer.status for answer in deleted] == [204] * 3
    assert {answer.status for answers in written for answer in answers} <= {201, 404}
    for answers in await asyncio.gather(write(99)):
        assert [error(answer) for answer in answers] == [(404, "record-not-found")] * 3
    await server.housekeeping.sweep()
    await _nothing_is_left(server)


async def _nothing_is_left(server: StorageServer) -> None:
    async def count(tx: Tx) -> list[int]:
        tables = ("dataset_blocks", "records", "requests", "storage_garbage")
        rows = [await tx.fetchrow(f"SELECT COUNT(*) AS number FROM {table}") for table in tables]
        return [row["number"] for row in rows if row is not None]

    assert await server.database.read("count what is left", count) == [0, 0, 0, 0]


async def test_renaming_under_pushes_by_name(server: StorageServer) -> None:
    dataset = data(await server.request("POST", "/v2/datasets?name=first"))["id"]

    async def push(number: int) -> int:
        body = json.dumps([{"n": number}] * 3).encode()
        return (await server.request("POST", "/v2/datasets/~first/items", body)).status

    async def rename() -> int:
        return (await server.request("PUT", f"/v2/datasets/{dataset}", b'{"name":"second"}')).status

    *pushed, renamed = await asyncio.gather(*(push(number) for number in range(10)), rename())
    assert renamed == 200
    assert set(pushed) <= {201, 404}
    assert await push(99) == 404
    items = json.loads((await server.request("GET", "/v2/datasets/~second/items")).body)
    assert len(items) == 3 * pushed.count(201)


@pytest.mark.parametrize("wanted", ["json", "jsonl", "csv", "xml"])
async def test_deleting_under_an_export_breaks_it_off(server: StorageServer, wanted: str) -> None:
    """The reader must see that the answer is not complete."""
    dataset = await new_dataset(server)
    for _ in range(12):
        await server.request("POST", f"/v2/datasets/{dataset}/items", json.dumps({"t": "x" * 1_500_000}).encode())
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        headers = {"Authorization": "Bearer jane-token"}
        path = f"/v2/datasets/{dataset}/items?format={wanted}"
        await asyncio.to_thread(connection.request, "GET", path, headers=headers)
        response = await asyncio.to_thread(connection.getresponse)
        assert response.status == 200
        assert (await server.request("DELETE", f"/v2/datasets/{dataset}")).status == 204
        await server.housekeeping.sweep()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            await asyncio.to_thread(response.read)
    finally:
        connection.close()


async def test_a_dataset_that_goes_before_the_answer_begins_is_not_found(server: StorageServer) -> None:
    """A table is read for its columns before anything is sent."""
    dataset = await new_dataset(server)
    for _ in range(3):
        await server.request("POST", f"/v2/datasets/{dataset}/items", json.dumps({"t": "x" * 1_500_000}).encode())

    async def lose(tx: Tx) -> None:
        await tx.execute("DELETE FROM dataset_blocks WHERE first_index = 1")

    await server.database.write("lose a block", lose)
    for wanted in ("xlsx", "csv&fields=t"):
        answer = await server.request("GET", f"/v2/datasets/{dataset}/items?format={wanted}")
        assert error(answer) == (404, "record-not-found")
