"""All records of a store as one zip archive."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import io
import os
import tracemalloc
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import brotli
import pytest

from actorium.domain.storages import DefaultStorageIds
from api.test_key_value_stores import LARGE, blob_files, new_store, record
from support.storage_server import Answer, StorageServer, data, error


def entries(answer: Answer) -> dict[str, bytes]:
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def archive(store: str, query: str = "") -> str:
    return f"/v2/key-value-stores/{store}/records{query}"


async def stats(server: StorageServer, store: str) -> dict[str, int]:
    found: dict[str, int] = data(await server.request("GET", f"/v2/key-value-stores/{store}"))["stats"]
    return found


async def test_every_record_once_and_decoded(server: StorageServer) -> None:
    store = await new_store(server)
    values = {f"key-{n:03}": os.urandom(n) for n in range(70)} | {"INPUT": b'{"a": 1}', "large": LARGE, "(a)'.txt": b""}
    for key, value in values.items():
        await server.request("PUT", record(store, key), value)
    for key in (".", ".."):
        await server.request("PUT", record(store, key), b"dots")
    await server.request("PUT", record(store, "packed"), gzip.compress(LARGE * 3), {"Content-Encoding": "gzip"})
    await server.request("PUT", record(store, "small"), brotli.compress(b"text"), {"Content-Encoding": "br"})
    await server.request("PUT", record(store, "liar"), b"no gzip", {"Content-Encoding": "gzip"})
    await server.request("PUT", record(store, "cut"), gzip.compress(LARGE)[:-9], {"Content-Encoding": "gzip"})
    expected = values | {"packed": LARGE * 3, "small": b"text", "liar": b"no gzip", "cut": gzip.compress(LARGE)[:-9]}
    got = await server.request("GET", archive(store))
    found = entries(got)
    assert list(found) == sorted(expected, key=str.encode)
    assert {key: value for key, value in found.items() if key != "cut"} == {
        key: value for key, value in expected.items() if key != "cut"
    }
    assert found["cut"][10:] == expected["cut"][10:]
    assert got.headers["Content-Disposition"] == f'attachment; filename="key-value-store-{store}.zip"'
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    counts = await stats(server, store)
    assert (counts["listCount"], counts["readCount"]) == (1, len(expected) + 2)


async def test_the_time_of_an_entry_is_when_it_was_stored(server: StorageServer) -> None:
    store = await new_store(server)
    await server.request("PUT", record(store, "new"), b"x")
    for key, at in (("early", 0), ("late", 4_102_444_800_000), ("then", 1_767_225_600_000)):
        await server.request("PUT", record(store, key), b"x")

        async def change(tx: Any, key: str = key, at: int = at) -> None:
            await tx.execute("UPDATE records SET modified_at = ? WHERE key_bytes = ?", at, key.encode())

        await server.database.write("change time", change)
    got = await server.request("GET", archive(store))
    with zipfile.ZipFile(io.BytesIO(got.body)) as found:
        assert found.getinfo("then").date_time == (2026, 1, 1, 0, 0, 0)
        assert found.getinfo("early").date_time[0] == 1980
        assert found.getinfo("late").date_time[0] == 2038


async def test_what_is_compressed_is_not_compressed_again(server: StorageServer) -> None:
    store = await new_store(server)
    for key, content_type in (("a.png", "Image/PNG"), ("b.svg", "image/svg+xml"), ("c", "text/plain")):
        await server.request("PUT", record(store, key), bytes(100_000), {"Content-Type": content_type})
    got = await server.request("GET", archive(store))
    assert set(entries(got).values()) == {bytes(100_000)}
    with zipfile.ZipFile(io.BytesIO(got.body)) as found:
        sizes = [info.compress_size for info in found.infolist()]
    assert sizes[0] >= 100_000 and max(sizes[1:]) < 1_000


async def test_some_records(server: StorageServer) -> None:
    store = await new_store(server)
    for key in ("a", "a-1", "a-2", "b"):
        await server.request("PUT", record(store, key), key.encode())
    assert list(entries(await server.request("GET", archive(store, "?prefix=a-")))) == ["a-1", "a-2"]
    assert entries(await server.request("GET", archive(store, "?prefix=zzz"))) == {}
    assert error(await server.request("GET", archive(store, "?prefix=%20"))) == (400, "invalid-record-key")
    assert error(await server.request("GET", archive(store, "?collection=c"))) == (400, "invalid-collection")
    head = await server.request("HEAD", archive(store))
    assert (head.status, head.headers["Content-Type"], head.body) == (200, "application/zip", b"")
    assert head.headers["Content-Length"] is None


async def test_who_may_read_it(server: StorageServer) -> None:
    client = server.client()
    created = await client.key_value_stores().get_or_create()
    await client.key_value_store(created.id).set_record("K", "v")
    signature = str(created.keys_public_url).partition("?")[2]
    signed = await server.request("GET", archive(created.id, f"?{signature}"), token=None)
    assert entries(signed) == {"K": b"v"}
    key_signature = str((await client.key_value_store(created.id).list_keys()).items[0].record_public_url)
    for query in ("", "?" + key_signature.partition("?")[2]):
        refused = await server.request("GET", archive(created.id, query), token=None)
        assert error(refused) == (403, "insufficient-permissions")
    assert error(await server.request("GET", archive(created.id), token="john-token"))[0] == 404
    assert error(await server.request("GET", archive("A" * 17))) == (404, "record-not-found")
    assert error(await server.request("PUT", archive(created.id), b""))[0] == 405


async def test_below_a_run(server: StorageServer) -> None:
    store = await new_store(server)
    await server.request("PUT", record(store, "OUTPUT"), b"out")
    server.runs["runId00000000000A"] = DefaultStorageIds("", store, "")
    for path in ("/v2/actor-runs/runId00000000000A", "/v2/actors/runId00000000000A/runs/last"):
        got = await server.request("GET", f"{path}/key-value-store/records?status=SUCCEEDED&prefix=O")
        assert entries(got) == {"OUTPUT": b"out"}
        assert (await server.request("HEAD", f"{path}/key-value-store/records")).status == 200


class SlowReader:
    """A client that has asked for the archive and not read any of it yet."""

    def __init__(self, server: StorageServer, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=30)
        self._path = path

    async def start(self) -> None:
        await asyncio.to_thread(
            self._connection.request, "GET", self._path, headers={"Authorization": "Bearer jane-token"}
        )
        self._response = await asyncio.to_thread(self._connection.getresponse)

    async def rest(self) -> Answer:
        try:
            body = await asyncio.to_thread(self._response.read)
            return Answer(self._response.status, self._response.headers, body)
        finally:
            self._connection.close()

    def go_away(self) -> None:
        self._response.close()
        self._connection.close()


async def fill(server: StorageServer, store: str) -> dict[str, bytes]:
    """More than the buffers between server and client hold."""
    values = {f"large-{n}": os.urandom(8_000_000) for n in range(3)} | {f"small-{n}": b"x" for n in range(50)}
    for key, value in values.items():
        await server.request("PUT", record(store, key), value)
    return values


async def expire_blobs(server: StorageServer) -> None:
    await server.database.write("time passes", lambda tx: tx.execute("UPDATE blob_garbage SET due_at = 0"))
    await server.housekeeping.sweep()


async def test_records_change_while_the_archive_is_sent(server: StorageServer) -> None:
    store = await new_store(server)
    values = await fill(server, store)
    reader = SlowReader(server, archive(store))
    await reader.start()
    await server.request("DELETE", record(store, "large-1"))
    await server.request("PUT", record(store, "large-2"), b"replaced")
    await server.request("DELETE", record(store, "small-9"))
    await server.request("PUT", record(store, "small-8"), LARGE)
    await expire_blobs(server)
    found = entries(await reader.rest())
    assert found["large-0"] == values["large-0"]
    assert "large-1" not in found
    assert found["large-2"] == b"replaced"
    assert found["small-8"] in (b"x", LARGE)
    assert len(found) in (51, 52)


async def lose_store(server: StorageServer, store: str) -> None:
    await server.request("DELETE", f"/v2/key-value-stores/{store}")
    await expire_blobs(server)


async def lose_file(server: StorageServer, store: str) -> None:
    for path in server.blob_directory.rglob("*"):
        if path.is_file():
            path.unlink()


async def shorten_file(server: StorageServer, store: str) -> None:
    for path in server.blob_directory.rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("lose", [lose_store, lose_file, shorten_file])
async def test_an_archive_that_cannot_be_completed_does_not_look_whole(
    server: StorageServer, lose: Callable[[StorageServer, str], Awaitable[None]]
) -> None:
    store = await new_store(server)
    await fill(server, store)
    reader = SlowReader(server, archive(store))
    await reader.start()
    await lose(server, store)
    with pytest.raises(http.client.IncompleteRead):
        await reader.rest()


async def test_a_client_that_goes_away_leaves_nothing_open(server: StorageServer) -> None:
    store = await new_store(server)
    await fill(server, store)
    reader = SlowReader(server, archive(store))
    await reader.start()

    def open_blobs() -> list[Path]:
        links = [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]
        return [Path(link) for link in links if link.startswith(str(server.blob_directory))]

    while not open_blobs():
        await asyncio.sleep(0)
    reader.go_away()
    while open_blobs() or [task for task in asyncio.all_tasks() if task.get_name() == "record-archive"]:
        await asyncio.sleep(0)
    assert len(blob_files(server)) == 3


async def test_a_client_that_stops_reading_costs_little_memory(server: StorageServer) -> None:
    store = await new_store(server)
    await server.request(
        "PUT", record(store, "packed"), brotli.compress(bytes(300_000_000)), {"Content-Encoding": "br"}
    )
    for n in range(3):
        await server.request("PUT", record(store, f"large-{n}"), os.urandom(8_000_000))
    tracemalloc.start()
    reader = SlowReader(server, archive(store, "?prefix=large"))
    await reader.start()
    peak = tracemalloc.get_traced_memory()[1]
    reader.go_away()
    got = await server.request("GET", archive(store, "?prefix=packed"))
    assert len(got.body) < 5_000_000
    peak = max(peak, tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peak < 30_000_000
