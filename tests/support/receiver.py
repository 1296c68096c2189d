"""A real HTTP server that receives webhooks, and behaves as badly as the test wants."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

_STOPPING = web.AppKey("stopping", asyncio.Event)


@dataclass
class Received:
    """One request, read whole."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Answers 200 unless ``answers`` has something else for the path: a status, or a function of the request."""

    received: list[Received] = field(default_factory=list)
    answers: dict[str, int | Callable[[web.Request], Any]] = field(default_factory=dict)
    open_count: int = 0
    most_open: dict[str, int] = field(default_factory=dict)
    url: str = ""

    async def start(self) -> Receiver:
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        application = web.Application()
        self._stopping = application[_STOPPING] = asyncio.Event()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=1, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()
        self._open: dict[str, int] = {}
        return self

    async def stop(self) -> None:
        self._stopping.set()
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self._open[path] = self._open.get(path, 0) + 1
        self.most_open[path] = max(self.most_open.get(path, 0), self._open[path])
        try:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.received.append(Received(path, headers, await request.read()))
            answer = self.answers.get(path, 200)
            if isinstance(answer, int):
                return web.Response(status=answer, text="noted")
            response: web.StreamResponse = await answer(request)
            return response
        finally:
            self._open[path] -= 1

    def at(self, path: str) -> list[Received]:
        """What was received at a path."""
        return [one for one in self.received if one.path == path]


async def hang(request: web.Request) -> web.StreamResponse:
    """Never answers while the test goes on."""
    await request.app[_STOPPING].wait()
    return web.Response()


async def close_early(request: web.Request) -> web.StreamResponse:
    """Closes the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def redirect(request: web.Request) -> web.StreamResponse:
    """Sends the caller elsewhere."""
    return web.Response(status=302, headers={"Location": "/elsewhere"})


async def long_answer(request: web.Request) -> web.StreamResponse:
    """More than anybody wants to keep."""
    return web.Response(body=b"\xffx" * 5_000_000)
