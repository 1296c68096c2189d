"""Finds out when the web server of a run answers. docs: runs, section 8."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aiohttp

from actorium.kit import Clock

PROBE_HEADER = "x-apify-container-server-readiness-probe"
FindWebServer = Callable[[str, int], Awaitable[str | None]]
"""The host at which any HTTP answer came, out of the one given and its twin; ``None`` if none did."""

_FIRST_PAUSE_SECS = 0.1
_LONGEST_PAUSE_SECS = 5.0
_STANDBY_PAUSE_SECS = 0.25
_ANSWER_SECS = 10.0
_TWINS = {"127.0.0.1": "::1"}
"""A server that listens on ``localhost`` may have chosen either."""


class Prober:
    """Asks with real requests. ``stop`` closes what it holds."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def find(self, host: str, port: int) -> str | None:
        """See ``FindWebServer``."""
        for candidate in (host, _TWINS.get(host)):
            if candidate is not None and await self._answers(candidate, port):
                return candidate
        return None

    async def _answers(self, host: str, port: int) -> bool:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_ANSWER_SECS)
            self._session = aiohttp.ClientSession(
                timeout=timeout, connector=aiohttp.TCPConnector(limit=0, force_close=True), trust_env=False
            )
        name = f"[{host}]" if ":" in host else host
        try:
            async with self._session.get(f"http://{name}:{port}/", headers={PROBE_HEADER: "1"}, allow_redirects=False):
                return True
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def stop(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def until_ready(clock: Clock, find: FindWebServer, host: str, port: int, *, is_standby: bool) -> str:
    """Ask again and again, for a Standby run often, as requests wait for it; returns the host that answered.

    Most other runs have no web server at all, so they are asked ever more seldom.
    """
    pause_secs = _FIRST_PAUSE_SECS
    while (found := await find(host, port)) is None:
        await clock.sleep(pause_secs)
        pause_secs = min(pause_secs * 2, _STANDBY_PAUSE_SECS if is_standby else _LONGEST_PAUSE_SECS)
    return found
