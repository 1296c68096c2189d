"""HTTP requests of webhooks: one POST, its answer cut to what is kept, no redirects, no connection kept."""

from __future__ import annotations

import asyncio
import socket
import ssl

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from actorium.domain.addresses import is_address, is_public
from actorium.domain.webhooks import MAX_RESPONSE_BYTES

_BODY_SECS = 10.0
"""How long the rest of an answer may take once its status is there."""


class Answer(msgspec.Struct, frozen=True):
    """Status and the beginning of the body of an answer."""

    status: int
    body: str


class CallFailedError(Exception):
    """There was no answer; another try may have one."""


class CallRefusedError(Exception):
    """This request will never be sent: no such URL, or an address that is not allowed."""


class WebhookCalls:
    """Sends webhooks' requests. Without ``allow_private`` only to addresses that belong to the whole internet."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close what is open."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def post(
        self, url: str, headers: dict[str, str], body: bytes, *, ignore_ssl_errors: bool, is_own: bool
    ) -> Answer:
        """Send a request and read its answer, however long that takes.

        ``is_own``: the URL is this server's, so its address is allowed. Raises ``CallFailedError``,
        ``CallRefusedError``.
        """
        only_public = not (self._allow_private or is_own)
        try:
            target = URL(url)
            if only_public and is_address(target.host or ""):
                _check(target.host or "", target.host or "")
            async with self._session(only_public=only_public).post(
                target, headers=headers, data=body, allow_redirects=False, ssl=not ignore_ssl_errors
            ) as response:
                return Answer(response.status, await _beginning(response))
        except (aiohttp.InvalidURL, ValueError) as error:
            raise CallRefusedError(f"the URL {url} cannot be called: {error}") from error
        except (aiohttp.ClientError, OSError, ssl.SSLError, asyncio.IncompleteReadError) as error:
            raise CallFailedError(_text_of(error)) from error

    def _session(self, *, only_public: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(only_public)
        if session is None:
            resolver = _OnlyPublic() if only_public else aiohttp.resolver.ThreadedResolver()
            # The connection is made to what the resolver answers, without asking again: a name cannot change between.
            connector = aiohttp.TCPConnector(limit=0, force_close=True, resolver=resolver, use_dns_cache=False)
            session = self._sessions[only_public] = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return session


class _OnlyPublic(AbstractResolver):
    """Resolves names to addresses that belong to the whole internet; refuses a name that has any other."""

    def __init__(self) -> None:
        self._resolver = aiohttp.resolver.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name."""
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            _check(host, result["host"])
        return found

    async def close(self) -> None:
        """Nothing is open."""


def _check(host: str, address: str) -> None:
    if not is_public(address):
        raise CallRefusedError(
            f"{host} has the address {address}, which is private: this server does not send webhooks there."
        )


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """The first bytes of a body; what comes late or breaks off is left out, as the status says it all."""
    received = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECS):
            while len(received) < MAX_RESPONSE_BYTES:
                piece = await response.content.read(MAX_RESPONSE_BYTES - len(received))
                if not piece:
                    break
                received += piece
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass
    return bytes(received).decode(errors="replace").replace("\0", "\ufffd")


def _text_of(error: BaseException) -> str:
    return str(error) or type(error).__name__
