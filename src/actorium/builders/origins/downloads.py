"""Source archives from any http(s) URL, within the operator's address policy and a bound on their size."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from actorium.builders import BuildFailed
from actorium.outbound import AddressRefusedError, Outbound

_MAX_REDIRECTS = 10
_IDLE_SECS = 60.0
_CHUNK_BYTES = 1024 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_OK = 200


def without_credentials(url: str) -> str:
    """A URL as it may be shown: without user, password and query, which may hold a token."""
    parts = urlsplit(url)
    query = "?..." if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


class Downloads:
    """Downloads archives of at most ``max_bytes``. ``base_urls`` are this server's own, whose address is allowed."""

    def __init__(self, outbound: Outbound, base_urls: Collection[str], max_bytes: int) -> None:
        self._outbound = outbound
        self._own = {origin_of(url) for url in base_urls}
        self._max_bytes = max_bytes

    async def download(self, url: str, path: Path) -> None:
        """Write what ``url`` answers to ``path``. Raises ``BuildFailed``."""
        shown = without_credentials(url)
        try:
            await self._download(url, path)
        except AddressRefusedError as error:
            raise BuildFailed(f"{error}: this server fetches no sources from there.") from error
        except (aiohttp.InvalidURL, ValueError) as error:
            raise BuildFailed(f"The source archive's URL {shown} is not one that can be called.") from error
        except TimeoutError as error:
            raise BuildFailed(f"The source archive {shown} did not come for {_IDLE_SECS:g} seconds.") from error
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            reason = str(error) or type(error).__name__
            raise BuildFailed(f"The source archive {shown} cannot be downloaded: {reason}") from error

    async def _download(self, url: str, path: Path) -> None:
        target = URL(url)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_IDLE_SECS, sock_read=_IDLE_SECS)
        for _ in range(_MAX_REDIRECTS + 1):
            if target.scheme not in ("http", "https") or not target.host:
                raise BuildFailed(f"The source archive's URL leads to {without_credentials(str(target))}: not http(s).")
            session = self._outbound.session(target.host, is_own=origin_of(str(target)) in self._own)
            async with session.get(target, allow_redirects=False, timeout=timeout) as response:
                location = response.headers.get("Location")
                if response.status in _REDIRECTS and location:
                    target = target.join(URL(location))
                    continue
                if response.status != _OK:
                    raise BuildFailed(
                        f"The source archive {without_credentials(str(target))} is not there: "
                        f"the answer was {response.status} {response.reason or ''}".rstrip()
                    )
                await self.save(response.content.iter_chunked(_CHUNK_BYTES), path)
                return
        raise BuildFailed(f"The source archive {without_credentials(url)} was redirected {_MAX_REDIRECTS} times.")

    async def save(self, chunks: AsyncIterator[bytes], path: Path) -> None:
        """Write ``chunks`` to ``path``. Raises ``BuildFailed`` beyond the bound."""
        size = 0
        with path.open("wb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > self._max_bytes:
                    raise BuildFailed(f"The source archive is larger than {self._max_bytes} bytes.")
                await asyncio.to_thread(file.write, chunk)


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL."""
    parsed = URL(url)
    return parsed.scheme, parsed.host or "", parsed.port
