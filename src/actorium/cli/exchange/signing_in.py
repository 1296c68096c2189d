"""How a command of this machine gets to an API: with a token, or as a user of the server whose data is here."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator

from actorium.app.opening import open_accounts
from actorium.cli.exchange.api import Api
from actorium.kit import new_id
from actorium.settings import Settings


@contextlib.contextmanager
def signed_in(
    settings: Settings, url: str | None, token: str | None, user: str | None, *, use_environment: bool
) -> Iterator[Api]:
    """The API at ``url`` with ``token``; without one, the settings' server as ``user`` (the oldest unless said).

    A token made for that works until the command is over. Raises ``ApiError`` for an unknown user.
    """
    if use_environment and user is None:
        token = token or os.environ.get("APIFY_TOKEN")
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    own = settings.public_base_url or f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    url = url or (os.environ.get("APIFY_CLIENT_BASE_URL") if token and use_environment else None) or own
    if token is not None:
        yield Api(url, token)
        return
    token_id, made = asyncio.run(_make_token(settings, user))
    try:
        yield Api(url, made)
    finally:
        asyncio.run(_revoke(settings, token_id))


async def _make_token(settings: Settings, user: str | None) -> tuple[str, str]:
    async with open_accounts(settings) as accounts:
        name = user or (await accounts.ensure_first_user())[0].username
        token, text = await accounts.create_token(name, f"command {new_id()}")
        return token.id, text


async def _revoke(settings: Settings, token_id: str) -> None:
    async with open_accounts(settings) as accounts:
        await accounts.revoke_token(token_id)
