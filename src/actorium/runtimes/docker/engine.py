"""Calls to a Docker engine. Each one ends in bounded time, whether the engine answers, is away or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiodocker
import aiohttp
import msgspec

_CALL_SECS = 30.0
_CONNECT_SECS = 5.0
_NO_CONNECTION = 900
DEFAULT_URL = "unix:///var/run/docker.sock"


class EngineAwayError(ConnectionError):
    """The engine is not there or does not answer; what was asked for may or may not happen."""


class DockerEngine:
    """A client of the engine at ``url``: ``unix://path``, ``tcp://host:port`` or ``http(s)://host:port``.

    Empty: ``DOCKER_HOST``, else the usual socket. What the engine refuses raises ``aiodocker.DockerError``.
    """

    def __init__(self, url: str = "") -> None:
        self.url = url or os.environ.get("DOCKER_HOST") or DEFAULT_URL
        self._docker: aiodocker.Docker | None = None

    def _client(self) -> aiodocker.Docker:
        if self._docker is None:
            # Every live attempt holds three connections; the default limit is 100 for all.
            if self.url.startswith("unix://"):
                connector: aiohttp.BaseConnector = aiohttp.UnixConnector(self.url.removeprefix("unix://"), limit=0)
                self._docker = aiodocker.Docker("unix://localhost", connector=connector)
            else:
                self._docker = aiodocker.Docker(self.url)
                self._docker.connector._limit = 0
        return self._docker

    async def close(self) -> None:
        """Close every connection; a later call opens new ones."""
        docker, self._docker = self._docker, None
        if docker is not None:
            await docker.close()
            await docker.connector.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout_secs: float = _CALL_SECS,
    ) -> Any:
        """The decoded answer, ``None`` when it is empty."""
        data = None if body is None else msgspec.json.encode(body)
        timeout = aiohttp.ClientTimeout(total=timeout_secs, sock_connect=_CONNECT_SECS)
        async with self._request(method, path, data, params=params, timeout=timeout) as answer:
            text = await answer.read()
        return msgspec.json.decode(text) if text.strip() else None

    async def probe(self) -> None:
        """Raise ``EngineAwayError`` unless the engine takes new calls; one that goes down still answers old ones."""
        fresh = DockerEngine(self.url)
        try:
            await fresh.call("GET", "info")
        finally:
            await fresh.close()

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        data: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        silence_secs: float | None = None,
        answer_secs: float | None = _CALL_SECS,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that is read as it comes.

        The engine must begin to answer within ``answer_secs`` and never be silent for ``silence_secs``
        (``None``: as long as it likes).
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECS, sock_read=silence_secs)
        async with self._request(
            method, path, data, params=params, headers=headers, timeout=timeout, answer_secs=answer_secs
        ) as answer:
            yield answer

    @contextlib.asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        data: Any,
        *,
        timeout: aiohttp.ClientTimeout,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        answer_secs: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(answer_secs):
                    request = self._client()._query(
                        path,
                        method,
                        params=dict(params) if params is not None else None,
                        data=data,
                        headers=headers,
                        timeout=timeout,
                    )
                    answer = await stack.enter_async_context(request)
                # The library leaves the answer open; dropping it half-read ends what it was for.
                stack.callback(answer.close)
                yield answer
        except TimeoutError as error:
            raise EngineAwayError(f"the Docker engine at {self.url} does not answer") from error
        except (aiohttp.ClientError, OSError) as error:
            raise EngineAwayError(f"the Docker engine at {self.url} cannot be reached: {error}") from error
        except aiodocker.DockerError as error:
            if error.status == _NO_CONNECTION:
                reason = getattr(error.__context__, "strerror", None) or error.message
                raise EngineAwayError(f"the Docker engine at {self.url} cannot be reached: {reason}") from error
            raise
