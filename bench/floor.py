"""The floor of the storage benchmarks: bare Starlette and uvicorn, and per call the least SQL that stores the same.

One token in a constant, no users, no rights, no counters but those the data needs, no limits, no schemas, no
checks beyond parsing the JSON. SQLite with ``synchronous=FULL`` and group commit in one writer thread, or
PostgreSQL through bare asyncpg with one statement a call. Paths are the API's, so one load fits both.

``python bench/floor.py FILE [POSTGRES_URL]``
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import queue
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import msgspec
import uvicorn
from servers import TOKEN
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_SCHEMA = """
CREATE TABLE datasets (id TEXT PRIMARY KEY, item_count BIGINT NOT NULL);
CREATE TABLE blocks (dataset_id TEXT, first_index BIGINT, items BLOB);
CREATE UNIQUE INDEX blocks_by_index ON blocks (dataset_id, first_index);
CREATE TABLE records (store_id TEXT, key TEXT, content_type TEXT, value BLOB);
CREATE UNIQUE INDEX records_by_key ON records (store_id, key);
CREATE TABLE queues (id TEXT PRIMARY KEY, total_count BIGINT NOT NULL, handled_count BIGINT NOT NULL);
CREATE TABLE requests (queue_id TEXT, id TEXT, order_no BIGINT, locked_until BIGINT, request TEXT);
CREATE UNIQUE INDEX requests_by_id ON requests (queue_id, id);
CREATE INDEX requests_by_order ON requests (queue_id, order_no) WHERE order_no IS NOT NULL;
"""
_raw_list = msgspec.json.Decoder(list[msgspec.Raw])


class _Wanted(msgspec.Struct):
    uniqueKey: str


_keys = msgspec.json.Decoder(list[_Wanted])
_key = msgspec.json.Decoder(_Wanted)


def request_id(unique_key: str) -> str:
    digest = base64.b64encode(hashlib.sha256(unique_key.encode()).digest()).decode()
    return digest.replace("+", "").replace("/", "").replace("=", "")[:15]


class SqliteFloor:
    """All calls on SQLite: one writer thread that commits whatever waits together, reads in a second thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._jobs: dict[str, queue.SimpleQueue[Any]] = {"write": queue.SimpleQueue(), "read": queue.SimpleQueue()}
        connection = self._connect()
        connection.executescript(_SCHEMA)
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, cached_statements=512)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-8000"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    async def start(self) -> None:
        threading.Thread(target=self._loop, args=("write", True), daemon=True).start()
        threading.Thread(target=self._loop, args=("read", False), daemon=True).start()

    def _loop(self, kind: str, commits: bool) -> None:
        connection = self._connect()
        jobs = self._jobs[kind]
        while True:
            group = [jobs.get()]
            while len(group) < 256 and not jobs.empty():
                group.append(jobs.get())
            if commits:
                connection.execute("BEGIN IMMEDIATE")
            results = [(future, op(connection)) for future, op in group]
            if commits:
                connection.execute("COMMIT")
            group[0][0].get_loop().call_soon_threadsafe(_resolve, results)

    def _run(self, kind: str, op: Callable[[sqlite3.Connection], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._jobs[kind].put((future, op))
        return future

    async def create(self, table: str, storage_id: str) -> None:
        counters = "(?, 0, 0)" if table == "queues" else "(?, 0)"
        await self._run("write", lambda c: c.execute(f"INSERT INTO {table} VALUES {counters}", (storage_id,)))

    async def push(self, dataset_id: str, count: int, block: bytes) -> None:
        def op(c: sqlite3.Connection) -> None:
            (total,) = c.execute(
                "UPDATE datasets SET item_count = item_count + ? WHERE id = ? RETURNING item_count", (count, dataset_id)
            ).fetchone()
            c.execute("INSERT INTO blocks VALUES (?, ?, ?)", (dataset_id, total - count, block))

        await self._run("write", op)

    async def read(self, dataset_id: str, offset: int, limit: int) -> list[bytes]:
        sql = (
            "SELECT items FROM blocks WHERE dataset_id = ?1 AND first_index < ?2 AND first_index >= "
            "(SELECT MAX(first_index) FROM blocks WHERE dataset_id = ?1 AND first_index <= ?3) ORDER BY first_index"
        )
        args = (dataset_id, offset + limit, offset)
        return await self._run("read", lambda c: [row[0] for row in c.execute(sql, args)])

    async def put(self, store_id: str, key: str, content_type: str, value: bytes) -> None:
        sql = "INSERT INTO records VALUES (?, ?, ?, ?) ON CONFLICT (store_id, key) DO UPDATE SET value = excluded.value"
        await self._run("write", lambda c: c.execute(sql, (store_id, key, content_type, value)))

    async def get(self, store_id: str, key: str) -> tuple[str, bytes]:
        sql = "SELECT content_type, value FROM records WHERE store_id = ? AND key = ?"
        return await self._run("read", lambda c: c.execute(sql, (store_id, key)).fetchone())

    async def add(self, queue_id: str, requests: list[tuple[str, str]]) -> list[bool]:
        now = time.time_ns()
        rows = [(queue_id, found, now + n, None, text) for n, (found, text) in enumerate(requests)]

        def op(c: sqlite3.Connection) -> list[bool]:
            before = c.total_changes
            c.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)
            added = c.total_changes - before
            c.execute("UPDATE queues SET total_count = total_count + ? WHERE id = ?", (added, queue_id))
            return [added < len(rows)] * len(rows)

        return await self._run("write", op)

    async def lock(self, queue_id: str, limit: int, secs: int) -> list[str]:
        now = time.time_ns()
        sql = (
            "UPDATE requests SET order_no = ?, locked_until = ? WHERE queue_id = ? AND id IN (SELECT id FROM requests "
            "WHERE queue_id = ? AND order_no IS NOT NULL AND (locked_until IS NULL OR locked_until <= ?) "
            "ORDER BY order_no LIMIT ?) RETURNING request"
        )
        until = now + secs * 1_000_000_000
        args = (until, until, queue_id, queue_id, now, limit)
        return await self._run("write", lambda c: [row[0] for row in c.execute(sql, args)])

    async def handle(self, queue_id: str, request: str, text: str) -> None:
        def op(c: sqlite3.Connection) -> None:
            c.execute(
                "UPDATE requests SET order_no = NULL, locked_until = NULL, request = ? WHERE queue_id = ? AND id = ?",
                (text, queue_id, request),
            )
            c.execute("UPDATE queues SET handled_count = handled_count + 1 WHERE id = ?", (queue_id,))

        await self._run("write", op)


def _resolve(results: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in results:
        future.set_result(result)


# Its first statement makes callers take turns, so that each gets a full batch.
_LOCK_HEAD = """
CREATE FUNCTION lock_head(queue TEXT, until BIGINT, now BIGINT, most BIGINT) RETURNS SETOF TEXT AS $$
BEGIN
  PERFORM 1 FROM queues q WHERE q.id = queue FOR UPDATE;
  RETURN QUERY UPDATE requests SET order_no = until, locked_until = until WHERE queue_id = queue AND id IN (
    SELECT r.id FROM requests r WHERE r.queue_id = queue AND r.order_no IS NOT NULL
      AND (r.locked_until IS NULL OR r.locked_until <= now) ORDER BY r.order_no LIMIT most) RETURNING request;
END $$ LANGUAGE plpgsql;
"""


class PostgresFloor:
    """All calls on PostgreSQL: one statement each."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def start(self) -> None:
        self._pool = await asyncpg.create_pool(self._url, min_size=10, max_size=10)
        await self._pool.execute(_SCHEMA.replace("BLOB", "BYTEA") + _LOCK_HEAD)

    async def create(self, table: str, storage_id: str) -> None:
        counters = "($1, 0, 0)" if table == "queues" else "($1, 0)"
        await self._pool.execute(f"INSERT INTO {table} VALUES {counters}", storage_id)

    async def push(self, dataset_id: str, count: int, block: bytes) -> None:
        await self._pool.execute(
            "WITH d AS (UPDATE datasets SET item_count = item_count + $2 WHERE id = $1 RETURNING item_count) "
            "INSERT INTO blocks SELECT $1, item_count - $2, $3 FROM d",
            dataset_id,
            count,
            block,
        )

    async def read(self, dataset_id: str, offset: int, limit: int) -> list[bytes]:
        rows = await self._pool.fetch(
            "SELECT items FROM blocks WHERE dataset_id = $1 AND first_index < $2 AND first_index >= "
            "(SELECT MAX(first_index) FROM blocks WHERE dataset_id = $1 AND first_index <= $3) ORDER BY first_index",
            dataset_id,
            offset + limit,
            offset,
        )
        return [row[0] for row in rows]

    async def put(self, store_id: str, key: str, content_type: str, value: bytes) -> None:
        await self._pool.execute(
            "INSERT INTO records VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (store_id, key) DO UPDATE SET value = excluded.value",
            store_id,
            key,
            content_type,
            value,
        )

    async def get(self, store_id: str, key: str) -> tuple[str, bytes]:
        row = await self._pool.fetchrow(
            "SELECT content_type, value FROM records WHERE store_id = $1 AND key = $2", store_id, key
        )
        return row[0], row[1]

    async def add(self, queue_id: str, requests: list[tuple[str, str]]) -> list[bool]:
        added = await self._pool.fetchval(
            "WITH a AS (INSERT INTO requests SELECT $1, r.id, $2 + r.n, NULL, r.request "
            "FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS r (id, request, n) "
            "ON CONFLICT DO NOTHING RETURNING 1), "
            "u AS (UPDATE queues SET total_count = total_count + (SELECT COUNT(*) FROM a) WHERE id = $1) "
            "SELECT COUNT(*) FROM a",
            queue_id,
            time.time_ns(),
            [found for found, _ in requests],
            [text for _, text in requests],
        )
        return [added < len(requests)] * len(requests)

    async def lock(self, queue_id: str, limit: int, secs: int) -> list[str]:
        now = time.time_ns()
        rows = await self._pool.fetch(
            "SELECT * FROM lock_head($1, $2, $3, $4)", queue_id, now + secs * 1_000_000_000, now, limit
        )
        return [row[0] for row in rows]

    async def handle(self, queue_id: str, request: str, text: str) -> None:
        await self._pool.execute(
            "WITH q AS (UPDATE queues SET handled_count = handled_count + 1 WHERE id = $1) "
            "UPDATE requests SET order_no = NULL, locked_until = NULL, request = $3 WHERE queue_id = $1 AND id = $2",
            queue_id,
            request,
            text,
        )


def application(store: SqliteFloor | PostgresFloor) -> Starlette:
    """The calls."""
    names = iter(range(10**9))

    def checked(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                return Response(status_code=401)
            response: Response = await handler(request)
            return response

        return handle

    def answer(value: Any, status: int = 200) -> Response:
        return Response(msgspec.json.encode(value), status, media_type="application/json; charset=utf-8")

    async def noop(_request: Request) -> Response:
        return answer({"data": {"status": "ok"}})

    def create(table: str) -> Callable[[Request], Any]:
        async def handle(_request: Request) -> Response:
            storage_id = f"{table}-{next(names)}"
            if table != "stores":
                await store.create(table, storage_id)
            return answer({"data": {"id": storage_id}}, 201)

        return checked(handle)

    async def push(request: Request) -> Response:
        body = await request.body()
        texts = _raw_list.decode(body) if body[:1] == b"[" else [msgspec.json.decode(body) and body]
        await store.push(request.path_params["id"], len(texts), b"\n".join(bytes(text) for text in texts))
        return answer({}, 201)

    async def read(request: Request) -> Response:
        offset, limit = int(request.query_params["offset"]), int(request.query_params["limit"])
        blocks = await store.read(request.path_params["id"], offset, limit)
        body = b"[" + b",".join(block.replace(b"\n", b",") for block in blocks) + b"]"
        return Response(body, media_type="application/json; charset=utf-8")

    async def export(request: Request) -> Response:
        path, query = request.path_params, request.query_params
        offsets = range(0, int(query["count"]), int(query["step"]))

        async def pieces() -> AsyncIterator[bytes]:
            for offset in offsets:
                for block in await store.read(path["id"], offset, offsets.step):
                    yield block

        return StreamingResponse(pieces(), media_type="application/json")

    async def copy(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            with open(request.query_params["file"], "rb", buffering=0) as file:  # noqa: PTH123
                while piece := file.read(262_144):
                    yield piece

        return StreamingResponse(pieces(), media_type="application/json")

    async def put(request: Request) -> Response:
        path = request.path_params
        await store.put(path["id"], path["key"], request.headers["content-type"], await request.body())
        return answer({}, 201)

    async def get(request: Request) -> Response:
        content_type, value = await store.get(request.path_params["id"], request.path_params["key"])
        return Response(value, headers={"content-type": content_type})

    async def add(request: Request) -> Response:
        body = await request.body()
        found = request_id(_key.decode(body).uniqueKey)
        (was_present,) = await store.add(request.path_params["id"], [(found, body.decode())])
        return answer({"data": {"requestId": found, "wasAlreadyPresent": was_present, "wasAlreadyHandled": False}}, 201)

    async def add_batch(request: Request) -> Response:
        body = await request.body()
        keys = [wanted.uniqueKey for wanted in _keys.decode(body)]
        found = [
            (request_id(key), bytes(text).decode()) for key, text in zip(keys, _raw_list.decode(body), strict=True)
        ]
        were_present = await store.add(request.path_params["id"], found)
        processed = [
            {"requestId": n, "uniqueKey": key, "wasAlreadyPresent": was_present, "wasAlreadyHandled": False}
            for (n, _), key, was_present in zip(found, keys, were_present, strict=True)
        ]
        return answer({"data": {"processedRequests": processed, "unprocessedRequests": []}}, 201)

    async def lock(request: Request) -> Response:
        query = request.query_params
        texts = await store.lock(request.path_params["id"], int(query["limit"]), int(query["lockSecs"]))
        items = [msgspec.Raw(text.encode()) for text in texts]
        return answer({"data": {"limit": 25, "lockSecs": 60, "queueHasLockedRequests": True, "items": items}}, 201)

    async def handle_request(request: Request) -> Response:
        body = await request.body()
        found = request_id(_key.decode(body).uniqueKey)
        await store.handle(request.path_params["id"], found, body.decode())
        return answer({"data": {"requestId": found, "wasAlreadyPresent": True, "wasAlreadyHandled": False}})

    queue_path = "/v2/request-queues/{id}"
    return Starlette(
        routes=[
            Route("/actorium/health", noop),
            Route("/v2/users/me", checked(noop)),
            Route("/copy", copy),
            Route("/v2/datasets", create("datasets"), methods=["POST"]),
            Route("/v2/key-value-stores", create("stores"), methods=["POST"]),
            Route("/v2/request-queues", create("queues"), methods=["POST"]),
            Route("/v2/datasets/{id}/items", checked(push), methods=["POST"]),
            Route("/v2/datasets/{id}/items", checked(read)),
            Route("/v2/datasets/{id}/export", checked(export)),
            Route("/v2/key-value-stores/{id}/records/{key}", checked(put), methods=["PUT"]),
            Route("/v2/key-value-stores/{id}/records/{key}", checked(get)),
            Route(f"{queue_path}/requests", checked(add), methods=["POST"]),
            Route(f"{queue_path}/requests/batch", checked(add_batch), methods=["POST"]),
            Route(f"{queue_path}/head/lock", checked(lock), methods=["POST"]),
            Route(f"{queue_path}/requests/{{rid}}", checked(handle_request), methods=["PUT"]),
        ]
    )


async def main() -> None:
    """Serve until killed."""
    path, url = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    store: SqliteFloor | PostgresFloor = PostgresFloor(url) if url else SqliteFloor(path)
    await store.start()
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = uvicorn.Server(uvicorn.Config(application(store), log_config=None, http="httptools", access_log=False))
    print(json.dumps({"event": "server started", "url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
