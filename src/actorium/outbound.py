"""Connections to addresses that users choose: sessions which reach nothing but what the operator allows.

Knows no webhook and no build; who calls words the refusal.
"""

from __future__ import annotations

import asyncio
import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from actorium.domain.addresses import is_address, is_public


class AddressRefusedError(Exception):
    """``host`` has ``address``, which does not belong to the whole internet."""

    def __init__(self, host: str, address: str) -> None:
        super().__init__(f"{host} has the address {address}, which is private")


class Outbound:
    """HTTP sessions without cookies, kept connections and time limits.

    Without ``allow_private`` they connect only to addresses that belong to the whole internet.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close what is open."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    def session(self, host: str, *, is_own: bool) -> aiohttp.ClientSession:
        """The session for calls to ``host``; ``is_own``: it is this server's, so its address is allowed.

        Redirects must not be followed with it, as a numeric address is only looked at here.
        Raises ``AddressRefusedError`` now or when connecting.
        """
        only_public = not (self._allow_private or is_own)
        if only_public and is_address(host):
            _check(host, host)
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

    async def address_for(self, host: str, port: int) -> str | None:
        """The address to which a program must connect for ``host``; ``None`` = it may find out itself.

        Raises ``AddressRefusedError``, and ``OSError`` for a name without an address.
        """
        if self._allow_private:
            return None
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            _check(host, address)
        return addresses[0]


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
        raise AddressRefusedError(host, address)
