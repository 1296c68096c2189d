"""Databases and object stores the conformance suites run on."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from blockbuster import blockbuster_ctx

from actorium.kit import random_text
from actorium.services.access import Principal
from actorium.storage.blobs import Blobs, LocalBlobs, ObjectStoreBlobs
from actorium.storage.db import Database, Tx
from actorium.storage.postgres import PostgresDatabase
from actorium.storage.sqlite import SqliteDatabase
from conformance.process_harness import ProcessHarness, end_everything


def _wanted(config: pytest.Config, flag: str) -> bool:
    return bool(config.getoption(flag, default=False))


def database_kinds(config: pytest.Config) -> list[Any]:
    """Parameters of what runs on SQLite, and with ``--postgres`` on PostgreSQL as well."""
    kinds = [pytest.param("sqlite"), pytest.param("postgres", marks=pytest.mark.postgres)]
    return kinds if _wanted(config, "--postgres") else kinds[:1]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database_url" in metafunc.fixturenames:
        kinds = [pytest.param("sqlite"), pytest.param("postgres", marks=pytest.mark.postgres)]
        wanted = kinds if _wanted(metafunc.config, "--postgres") else kinds[:1]
        metafunc.parametrize("database_url", wanted, indirect=True)
    if "blobs" in metafunc.fixturenames:
        stores = [pytest.param("local"), pytest.param("s3", marks=pytest.mark.s3)]
        metafunc.parametrize("blobs", stores if _wanted(metafunc.config, "--s3") else stores[:1], indirect=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def postgres_program(name: str) -> str:
    """A program of the PostgreSQL installation."""
    found = shutil.which(name)
    if found is None:
        candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        if not candidates:
            pytest.fail(f"--postgres needs PostgreSQL's {name}, which is not installed")
        found = str(candidates[-1])
    return found


def _as_postgres() -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"] if os.geteuid() == 0 else []


class PostgresServer:
    """A private PostgreSQL server in a folder of its own. ``durable`` keeps commits over a crash of the server."""

    def __init__(self, *, durable: bool = False) -> None:
        # A fixed place, because a unix socket's path is limited to 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="actorium-pg-", dir="/tmp"))
        self._prefix, self._user = _as_postgres(), "postgres" if os.geteuid() == 0 else getpass.getuser()
        self._fsync = "on" if durable else "off"
        self._server: subprocess.Popen[bytes] | None = None
        if self._prefix:
            shutil.chown(self._folder, "postgres", "postgres")
        options = ["-U", self._user, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        command = [*self._prefix, postgres_program("initdb"), "-D", str(self._folder / "data"), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def url(self, database: str = "postgres") -> str:
        """The address of a database."""
        return f"postgresql://{self._user}@/{database}?host={self._folder}"

    def start(self) -> None:
        """Start, after a crash too, and wait until it takes connections."""
        settings = {"fsync": self._fsync, "listen_addresses": "", "max_connections": "50"}
        settings["unix_socket_directories"] = str(self._folder)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                [*self._prefix, postgres_program("postgres"), "-D", str(self._folder / "data"), *options],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        ready = [postgres_program("pg_isready"), "-q", "-h", str(self._folder)]
        while subprocess.run(ready, check=False).returncode:
            if self._server.poll() is not None or time.monotonic() > deadline:
                pytest.fail((self._folder / "server.log").read_text())

    def kill(self) -> None:
        """``kill -9`` of all its processes."""
        if self._server is not None:
            children = subprocess.run(
                ["ps", "-o", "pid=", "--ppid", str(self._server.pid)], check=False, capture_output=True, text=True
            )
            self._server.kill()
            self._server.wait(30)
            self._server = None
            for pid in map(int, children.stdout.split()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End it and remove its folder."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A private PostgreSQL server for this test process; the value is a URL without a database name."""
    server = PostgresServer()
    try:
        server.start()
        yield server.url("{}")
    finally:
        server.close()


def new_postgres_database(server: str) -> str:
    """The URL of an empty database on ``postgres_server``, for a server process."""
    name = "server_" + random_text(12, "abcdefghijklmnopqrstuvwxyz")
    create = [postgres_program("psql"), server.format("postgres"), "-c", f"CREATE DATABASE {name}"]
    subprocess.run(create, check=True, capture_output=True)
    return server.format(name)


Query = Callable[[str], list[tuple[Any, ...]]]
"""SQL to its rows."""


def sqlite_query(path: Path) -> Query:
    """Reads the database file of a server, running or not."""

    def query(sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(path)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    return query


def postgres_query(url: str) -> Query:
    """Reads a PostgreSQL database."""

    async def fetch(sql: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    return lambda sql: asyncio.run(fetch(sql))


_EMPTY_TABLES = """
DO $$
DECLARE
  name text;
  is_filled boolean;
  filled text[];
BEGIN
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migrations' LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO is_filled;
    IF is_filled THEN filled := array_append(filled, quote_ident(name)); END IF;
  END LOOP;
  IF filled IS NOT NULL THEN EXECUTE 'TRUNCATE ' || array_to_string(filled, ', ') || ' CASCADE'; END IF;
END $$
"""
_SCHEMA = """
SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'
UNION SELECT tablename, indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2
"""


class PostgresDatabases:
    """Databases for one test each; a used one is emptied for the next test, which is faster than making one anew."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._free: list[str] = []
        self._schema: list[Any] | None = None

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[str]:
        """The URL of a database without rows: an empty one at first, later one with all tables."""
        if not self._free:
            self._free.append("test_" + random_text(12, "abcdefghijklmnopqrstuvwxyz"))
            await self._execute("postgres", f"CREATE DATABASE {self._free[-1]}")
        name = self._free.pop()
        yield self._server.format(name)
        if await self._empty(name):
            self._free.append(name)
        else:
            await self._execute("postgres", f"DROP DATABASE {name}")

    async def _empty(self, name: str) -> bool:
        """Remove all rows; whether the tables are still the platform's own. Fails while the test is still connected."""
        connection = await asyncpg.connect(self._server.format(name))
        try:
            others = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"
            deadline = time.monotonic() + 20
            while left := await connection.fetchval(others, name):
                assert time.monotonic() < deadline, f"{left} connections to the database were left open"
                await asyncio.sleep(0.01)
            schema = await connection.fetch(_SCHEMA)
            self._schema = self._schema or schema
            await connection.execute(_EMPTY_TABLES)
            return schema == self._schema
        finally:
            await connection.close()

    async def _execute(self, database: str, statement: str) -> None:
        connection = await asyncpg.connect(self._server.format(database))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def postgres_databases(postgres_server: str) -> PostgresDatabases:
    """Databases on ``postgres_server`` for the tests of this process."""
    return PostgresDatabases(postgres_server)


@pytest.fixture
async def database_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The setting ``database_url``: empty for SQLite, and with ``--postgres`` a database of PostgreSQL as well."""
    if request.param == "sqlite":
        yield ""
        return
    databases: PostgresDatabases = request.getfixturevalue("postgres_databases")
    async with databases.one() as url:
        yield url


@pytest.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    """A fresh, migrated database: SQLite, and with ``--postgres`` PostgreSQL as well."""
    opened: Database
    if database_url:
        opened = PostgresDatabase(database_url)
    else:
        opened = SqliteDatabase(tmp_path / "test.sqlite", synchronous="OFF")
    await opened.start()
    yield opened
    await opened.stop()


AddUser = Callable[[str, str], Awaitable[Principal]]


@pytest.fixture
def add_user(database: Database) -> AddUser:
    """Insert a user by id and name; returns it as a caller."""

    async def add(user_id: str, username: str) -> Principal:
        async def op(tx: Tx) -> None:
            await tx.execute(
                "INSERT INTO users (id, username, username_key, email, created_at) VALUES (?, ?, ?, ?, 0)",
                user_id,
                username,
                username.lower(),
                f"{username}@example.com",
            )

        await database.write("add user", op)
        return Principal(user_id, username, f"token-of-{user_id}")

    return add


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3-speaking server for this test process; the value is its URL."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail("the S3 server does not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Blobs]:
    """An empty blob store: a local directory, and with ``--s3`` an S3 bucket as well."""
    store: Blobs
    if request.param == "local":
        store = LocalBlobs(tmp_path / "blobs")
    else:
        endpoint = request.getfixturevalue("s3_server")
        bucket = "test-" + random_text(12, "abcdefghijklmnopqrstuvwxyz")
        # moto knows every signature, so a bucket is made by a plain PUT.
        made = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")
        await asyncio.to_thread(lambda: urllib.request.urlopen(made).close())
        store = ObjectStoreBlobs(
            f"s3://{bucket}/some/prefix",
            endpoint=endpoint,
            access_key_id="test",
            secret_access_key="test",
            region="us-east-1",
            client_options={"allow_http": True},
        )
    await store.start()
    yield store
    await store.stop()


@pytest.fixture(params=["cold", "warm"])
async def harness(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ProcessHarness]:
    """An open process runtime, also with a prepared interpreter; whatever still runs in it at the end is ended."""
    harness = ProcessHarness(tmp_path, warm=request.param == "warm")
    with blockbuster_ctx("actorium"):
        await harness.open()
        yield harness
        await harness.runtime.close()
        await end_everything(harness.root)
