"""The events websocket as processes meet it: the websockets client and the stock Python SDK."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from apify import Configuration
from apify.events import ApifyEventManager
from crawlee.events import Event as SdkEvent
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from actorium.edge.events import MAX_QUEUED_EVENTS, Events
from actorium.kit import SystemClock
from actorium.services.events import Event, EventSink, SystemInfo

SECRET = "s3cret"
AT_MS = 1_788_167_605_123
MBYTE = 1024 * 1024


class Runs:
    """Live runs and their memory; ``gate`` holds the look-up back."""

    def __init__(self) -> None:
        self.memory_mbytes: dict[str, int] = {"run1": 512, "run2": 1024}
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()

    async def find_run_for_events(self, run_id: str, secret: str) -> int | None:
        memory_mbytes = self.memory_mbytes.get(run_id) if secret == SECRET else None
        self.asked.set()
        await self.gate.wait()
        return memory_mbytes


class Server:
    """A real server with the websocket, and one way to connect to it."""

    def __init__(self) -> None:
        self.runs = Runs()
        self.start_again()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"ws://127.0.0.1:{self.listener.getsockname()[1]}"

    def start_again(self) -> None:
        self.events = Events(self.runs, SystemClock(), max_connections_per_run=3)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.events(scope, receive, send)

    def url(self, run_id: str = "run1", secret: str = SECRET) -> str:
        return f"{self.base}/actorium/events/{run_id}?secret={secret}"

    def connect(self, run_id: str = "run1", secret: str = SECRET, **options: Any) -> connect:
        return connect(self.url(run_id, secret), **options)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    config = uvicorn.Config(server, lifespan="off", log_config=None, ws="websockets-sansio", http="httptools")
    uvicorn_server = uvicorn.Server(config)
    serving = asyncio.create_task(uvicorn_server.serve([server.listener]))
    async with asyncio.timeout(60):
        yield server
        await server.events.stop()
        uvicorn_server.should_exit = True
        await serving


async def receive(connection: ClientConnection) -> dict[str, Any]:
    frame = await connection.recv()
    assert isinstance(frame, str)
    return json.loads(frame)


async def receive_named(connection: ClientConnection, name: str) -> dict[str, Any]:
    while (event := await receive(connection))["name"] != name:
        pass
    return event


async def close_code(connection: ClientConnection) -> int | None:
    with contextlib.suppress(ConnectionClosed):
        async for _ in connection:
            pass
    return connection.close_code


def info(**fields: Any) -> SystemInfo:
    return SystemInfo(created_at=AT_MS, mem_max_bytes=512 * MBYTE, **fields)


def test_it_is_the_engines_sink() -> None:
    sink: EventSink = Events(Runs(), SystemClock())
    assert sink.connection_count("run1") == 0


@pytest.mark.parametrize(("run_id", "secret"), [("unknown", SECRET), ("run1", "wrong"), ("run1", ""), ("a/b", SECRET)])
async def test_a_refusal_is_a_close_code_after_the_handshake(server: Server, run_id: str, secret: str) -> None:
    async with server.connect(run_id, secret) as connection:
        assert await close_code(connection) == 1008
    assert server.events._by_run == {}


async def test_other_paths_are_refused_the_same_way(server: Server) -> None:
    async with connect(f"{server.base}/elsewhere?secret={SECRET}") as connection:
        assert await close_code(connection) == 1008


async def test_the_first_frame_is_system_info_with_all_eight_fields(server: Server) -> None:
    async with server.connect() as connection:
        event = await receive(connection)
        created_at = event["data"].pop("createdAt")
        assert created_at.endswith("Z")
        assert event["name"] == "systemInfo"
        assert event["data"] == {
            "memAvgBytes": 0.0,
            "memCurrentBytes": 0,
            "memMaxBytes": 512 * MBYTE,
            "cpuAvgUsage": 0.0,
            "cpuMaxUsage": 0.0,
            "cpuCurrentUsage": 0.0,
            "isCpuOverloaded": False,
        }
        server.events.send_system_info("run1", info(cpu_current_usage=12.5))
        assert (await receive(connection))["data"]["cpuCurrentUsage"] == 12.5
    async with server.connect() as connection:
        event = await receive(connection)
        assert event["data"]["cpuCurrentUsage"] == 12.5
        assert event["data"]["createdAt"] == "2026-08-31T09:13:25.123Z"


async def test_events_reach_every_connection_of_the_run_and_no_other(server: Server) -> None:
    async with server.connect() as one, server.connect() as two, server.connect("run2") as other:
        for connection in (one, two, other):
            await receive(connection)
        assert (server.events.connection_count("run1"), server.events.connection_count("run2")) == (2, 1)
        server.events.send("run1", "aborting", {})
        server.events.send("run1", "persistState", {"isMigrating": False})
        server.events.send("run1", "bare")
        for connection in (one, two):
            aborting, persist, bare = [await receive(connection) for _ in range(3)]
            assert (aborting["name"], aborting["data"]) == ("aborting", {})
            assert (persist["name"], persist["data"]) == ("persistState", {"isMigrating": False})
            assert "data" not in bare
        server.events.send("run2", "last", {})
        assert (await receive(other))["name"] == "last"
    await until_gone(server, "run1")


async def until_gone(server: Server, run_id: str) -> None:
    while server.events.connection_count(run_id):
        await asyncio.sleep(0)


async def test_an_open_window_is_told_to_whoever_connects(server: Server) -> None:
    server.events.set_pending("run1", [Event("aborting", {}), Event("persistState", {"isMigrating": False})])
    for _ in range(2):
        async with server.connect() as connection:
            names = [(await receive(connection))["name"] for _ in range(3)]
            assert names == ["systemInfo", "aborting", "persistState"]
    server.events.clear_pending("run1")
    async with server.connect() as connection:
        await receive(connection)
        server.events.send("run1", "after", {})
        assert (await receive(connection))["name"] == "after"


async def test_a_window_and_its_event_reach_each_process_once(server: Server) -> None:
    server.runs.gate.clear()
    async with server.connect() as connection:
        await server.runs.asked.wait()
        server.events.set_pending("run1", [Event("aborting", {})])
        server.events.send("run1", "aborting", {})
        server.runs.gate.set()
        assert [(await receive(connection))["name"] for _ in range(2)] == ["systemInfo", "aborting"]
        server.events.send("run1", "last", {})
        assert (await receive(connection))["name"] == "last"


async def test_the_end_of_the_run_closes_normally_after_what_was_queued(server: Server) -> None:
    async with server.connect() as one, server.connect() as two:
        await receive(one)
        await receive(two)
        server.events.send("run1", "last", {})
        server.events.close_run("run1")
        assert (await receive(one))["name"] == "last"
        assert await close_code(one) == 1000
        assert await close_code(two) == 1000
    assert server.events.connection_count("run1") == 0


async def test_a_run_that_ends_during_the_look_up_closes_too(server: Server) -> None:
    server.runs.gate.clear()
    async with server.connect() as connection:
        await server.runs.asked.wait()
        server.events.close_run("run1")
        server.runs.gate.set()
        assert await close_code(connection) == 1000


async def test_one_connection_too_many_is_refused(server: Server) -> None:
    async with server.connect() as one, server.connect() as two, server.connect() as three:
        for connection in (one, two, three):
            await receive(connection)
        async with server.connect() as four:
            assert await close_code(four) == 1008
        assert server.events.connection_count("run1") == 3
    await until_gone(server, "run1")
    async with server.connect() as again:
        assert (await receive(again))["name"] == "systemInfo"


async def test_cpu_info_is_sent_on_change_only(server: Server) -> None:
    async with server.connect() as connection:
        for is_overloaded in (False, True, True, False):
            server.events.send_system_info("run1", info(is_cpu_overloaded=is_overloaded))
            await receive_named(connection, "systemInfo")
        server.events.send("run1", "last", {})
        names = []
        while not names or names[-1] != "last":
            names.append((await receive(connection))["name"])
        assert names == ["cpuInfo", "last"]


async def test_what_a_process_sends_is_ignored(server: Server) -> None:
    async with server.connect() as connection:
        await receive(connection)
        await connection.send("hello")
        await connection.send(b"\x00\xff")
        server.events.send("run1", "last", {})
        assert (await receive(connection))["name"] == "last"


async def test_a_process_that_does_not_read_keeps_its_events_and_one_state(server: Server) -> None:
    async with server.connect(compression=None, max_size=None) as connection:
        await receive(connection)
        connection.transport.pause_reading()
        (held,) = server.events._by_run["run1"].connections
        big = {"text": "x" * 2_000_000}
        for _ in range(10):
            server.events.send("run1", "big", big)
        while len(held.queue) == 10:
            await asyncio.sleep(0)
        for number in range(1000):
            server.events.send_system_info(
                "run1", info(cpu_current_usage=float(number), is_cpu_overloaded=number % 2 == 0)
            )
        server.events.send("run1", "aborting", {})
        assert len(held.queue) <= 13
        connection.transport.resume_reading()
        names = []
        while not names or names[-1] != "aborting":
            event = await receive(connection)
            names.append(event["name"])
            if event["name"] == "systemInfo":
                assert event["data"]["cpuCurrentUsage"] == 999.0
        assert names == ["big"] * 10 + ["systemInfo", "cpuInfo", "aborting"]


async def test_a_hopeless_process_is_cut_off(server: Server) -> None:
    async with server.connect(compression=None, max_size=None) as connection:
        await receive(connection)
        connection.transport.pause_reading()
        big = {"text": "x" * 2_000_000}
        for _ in range(10):
            server.events.send("run1", "big", big)
        for _ in range(2 * MAX_QUEUED_EVENTS):
            server.events.send("run1", "small", {})
        (held,) = server.events._by_run["run1"].connections
        assert held.close_code == 1013
        assert len(held.queue) == 0
        connection.transport.resume_reading()
        assert await close_code(connection) == 1013


async def test_a_server_that_stops_says_so(server: Server) -> None:
    async with server.connect() as connection:
        await receive(connection)
        await server.events.stop()
        assert server.events._by_run == {}
        assert await close_code(connection) == 1012
    async with server.connect() as late:
        assert await close_code(late) == 1012


async def test_the_stock_python_sdk_understands_every_event(server: Server) -> None:
    heard: asyncio.Queue[tuple[SdkEvent, Any]] = asyncio.Queue()
    configuration = Configuration(actor_events_ws_url=server.url(), dedicated_cpus=0.5)
    async with ApifyEventManager(configuration=configuration) as manager:

        def listen(event: SdkEvent) -> None:
            async def listener(data: Any) -> None:
                await heard.put((event, data))

            manager.on(event=event, listener=listener)

        for event in (SdkEvent.SYSTEM_INFO, SdkEvent.ABORTING, SdkEvent.PERSIST_STATE, SdkEvent.MIGRATING):
            listen(event)
        server.events.send_system_info("run1", info(cpu_current_usage=25.0, mem_current_bytes=7 * MBYTE))
        while True:
            name, data = await heard.get()
            if name is SdkEvent.SYSTEM_INFO and data.memory_info.current_size.bytes:
                break
        assert data.cpu_info.used_ratio == 0.5
        assert data.memory_info.current_size.bytes == 7 * MBYTE

        server.events.send("run1", "aborting", {})
        server.events.send("run1", "persistState", {"isMigrating": False})
        server.events.send("run1", "migrating", {"timeRemainingSecs": 30.0})
        seen: dict[SdkEvent, list[Any]] = {}
        while SdkEvent.MIGRATING not in seen or len(seen.get(SdkEvent.PERSIST_STATE, [])) < 2:
            name, data = await heard.get()
            seen.setdefault(name, []).append(data)
        assert SdkEvent.ABORTING in seen
        assert seen[SdkEvent.MIGRATING][0].time_remaining.total_seconds() == 30
        assert [data.is_migrating for data in seen[SdkEvent.PERSIST_STATE]][-1] is True
    await until_gone(server, "run1")


async def test_the_stock_python_sdk_survives_a_refusal_and_comes_back_after_a_restart(server: Server) -> None:
    configuration = Configuration(actor_events_ws_url=server.url("unknown"))
    async with ApifyEventManager(configuration=configuration) as manager:
        task = manager._process_platform_messages_task
        assert task is not None
        await task

    configuration = Configuration(actor_events_ws_url=server.url())
    async with ApifyEventManager(configuration=configuration):
        while not server.events.connection_count("run1"):
            await asyncio.sleep(0)
        stopped = server.events
        server.start_again()
        await stopped.stop()
        while not server.events.connection_count("run1"):
            await asyncio.sleep(0)
