"""Which requests are for the web server of a run or for a Standby server, and what they ask of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from actorium.domain.web_addresses import RUNS_PATH, STANDBY_PATH, WebAddresses

_RUNS_PATH, _STANDBY_PATH = RUNS_PATH.encode(), STANDBY_PATH.encode()


class Place(msgspec.Struct, frozen=True):
    """What a request is for: the ``name`` of a server, and the raw path there.

    ``prefix`` is what comes before the path where the server has no host name of its own; then the path is empty
    for a URL without the slash after the name.
    """

    name: str
    path: bytes
    prefix: str = ""

    def query(self, scope: Scope) -> str:
        """The request's query with its question mark."""
        query: bytes = scope["query_string"]
        return f"?{query.decode('latin-1')}" if query else ""


Serve = Callable[[Place, Scope, Receive, Send], Awaitable[None]]


class Server(Protocol):
    """Serves everything of one kind of places."""

    async def serve(self, place: Place, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or websocket."""
        ...


class WebRouter:
    """Finds the application of a request by its host name or path; ``None`` for the server's own ones."""

    def __init__(self, addresses: WebAddresses, runs: Server, standby: Server) -> None:
        self._addresses = addresses
        self._runs = runs
        self._standby = standby

    def find(self, scope: Scope) -> ASGIApp | None:
        """Who serves a request or websocket."""
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        if (slug := self._addresses.run_slug(host)) is not None:
            return _application(self._runs.serve, Place(slug, raw_path))
        if (label := self._addresses.standby_label(host)) is not None:
            return _application(self._standby.serve, Place(label, raw_path))
        if raw_path.startswith(_RUNS_PATH):
            return _application(self._runs.serve, _below(RUNS_PATH, raw_path))
        if raw_path.startswith(_STANDBY_PATH):
            return _application(self._standby.serve, _below(STANDBY_PATH, raw_path))
        return None


def _below(root: str, raw_path: bytes) -> Place:
    name, slash, rest = raw_path[len(root) :].decode("latin-1").partition("/")
    return Place(name, f"{slash}{rest}".encode("latin-1"), f"{root}{name}")


def _application(serve: Serve, place: Place) -> ASGIApp:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await serve(place, scope, receive, send)

    return application
