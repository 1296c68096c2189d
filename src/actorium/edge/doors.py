"""Further addresses at which the server listens, opened while it runs: containers reach it at their gateway only."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104
_BACKLOG = 2048


class Doors:
    """Opens the server's port at more addresses of this machine.

    Works once ``attach`` was given a server that has started; who asks earlier waits.
    """

    def __init__(self) -> None:
        self._server: uvicorn.Server | None = None
        self._attached = asyncio.Event()
        self._open: set[str] = set()
        self._port = 0

    def attach(self, server: uvicorn.Server, host: str, port: int) -> None:
        """``server`` listens at ``host`` and ``port``."""
        self._server, self._port = server, port
        self._open = {host}
        self._attached.set()

    async def open(self, address: str) -> str:
        """Listen at ``address`` too, and return the URL there. Raises ``OSError`` when that is not possible."""
        await self._attached.wait()
        if self._server is None:
            raise AssertionError("attached without a server")
        if not self._open & {address, *_EVERYWHERE}:
            self._open.add(address)
            try:
                await self._listen(self._server, address)
            except OSError:
                self._open.discard(address)
                raise
        return f"http://{address}:{self._port}"

    async def _listen(self, server: uvicorn.Server, address: str) -> None:
        config = server.config
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, self._port))
        except OSError:
            listener.close()
            raise
        server.servers.append(
            await asyncio.get_running_loop().create_server(
                lambda: config.http_protocol_class(  # type: ignore[call-arg]
                    config=config, server_state=server.server_state, app_state=server.lifespan.state
                ),
                sock=listener,
                backlog=_BACKLOG,
            )
        )
