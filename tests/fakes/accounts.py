"""Two users and their tokens, without a database behind them."""

from __future__ import annotations

import contextlib

from actorium.domain.accounts import Token
from actorium.domain.audit import Caller
from actorium.domain.models import User
from actorium.domain.token_scopes import HeldScope
from actorium.services.access import Principal, RunOwner, TokenOwner, hash_token
from actorium.services.token_scopes import Asked

USERS = {"janeUserId0000001": "jane", "johnUserId0000002": "john"}
TOKENS = {"jane-token": "janeUserId0000001", "john-token": "johnUserId0000002"}


class Accounts:
    """The users above, by their tokens."""

    async def find_token(self, token_hash: str) -> TokenOwner | None:
        for token, user_id in TOKENS.items():
            if hash_token(token) == token_hash:
                return TokenOwner(f"token-of-{user_id}", user_id, USERS[user_id], None)
        return None

    async def note_use(self, token_id: str, now: int) -> None:
        return

    async def find_run_owner(self, run_id: str) -> RunOwner | None:
        return None

    async def find_user(self, id_or_username: str) -> User | None:
        return None

    async def get_token(self, token_id: str) -> Token | None:
        return None


class NoScopes:
    """These users' tokens have no scopes."""

    async def check(self, principal: Principal, held: HeldScope, operation_id: str, asked: Asked) -> None:
        raise AssertionError(operation_id)


class NoSessions:
    """Nobody signs in with a browser."""

    def token_of(self, cookie: str) -> str | None:
        return None

    def is_own_page(self, token: str, csrf_token: str) -> bool:
        return False


class NoAuditLog:
    """Nothing is written down."""

    def call(self, caller: Caller) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    async def refused(self, caller: Caller) -> None:
        return
