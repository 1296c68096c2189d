"""HTTP requests of webhooks: one POST, its answer cut to what is kept, no redirects, no connection kept."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
import msgspec
from yarl import URL

from actorium.domain.webhooks import MAX_RESPONSE_BYTES
from actorium.outbound import AddressRefusedError, Outbound

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
        self._outbound = Outbound(allow_private=allow_private)

    async def close(self) -> None:
        """Close what is open."""
        await self._outbound.close()

    async def post(
        self, url: str, headers: dict[str, str], body: bytes, *, ignore_ssl_errors: bool, is_own: bool
    ) -> Answer:
        """Send a request and read its answer, however long that takes.

        ``is_own``: the URL is this server's, so its address is allowed. Raises ``CallFailedError``,
        ``CallRefusedError``.
        """
        try:
            target = URL(url)
            async with self._outbound.session(target.host or "", is_own=is_own).post(
                target, headers=headers, data=body, allow_redirects=False, ssl=not ignore_ssl_errors
            ) as response:
                return Answer(response.status, await _beginning(response))
        except AddressRefusedError as error:
            raise CallRefusedError(f"{error}: this server does not send webhooks there.") from error
        except (aiohttp.InvalidURL, ValueError) as error:
            raise CallRefusedError(f"the URL {url} cannot be called: {error}") from error
        except (aiohttp.ClientError, OSError, ssl.SSLError, asyncio.IncompleteReadError) as error:
            raise CallFailedError(_text_of(error)) from error


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
