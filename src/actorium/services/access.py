"""Who is calling and what they may do: tokens, principals, users."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
from typing import Protocol

import msgspec

from actorium.domain.accounts import RunOwner, Token, TokenOwner
from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.models import User
from actorium.domain.permissions import Scope, scope_of
from actorium.domain.token_scopes import HeldScope, TokenScope
from actorium.kit import Clock, random_text

API_TOKEN_PREFIX = "actorium_api_"  # noqa: S105  a prefix, no secret
RUN_TOKEN_PREFIX = "actorium_run_"  # noqa: S105  a prefix, no secret
_USER_TOKEN_PREFIX = "actorium_own_"  # noqa: S105  a prefix, no secret
_USER_TOKEN_MS = 600_000
SERVER_TOKEN_ID = "own"  # noqa: S105  no secret
"""The token id of calls that the server makes to itself."""
RUN_TOKEN_GRACE_MS = 15_000
"""How long a run's token still works after the run is over, for calls under way. docs: runs, section 9."""

_CACHE_MS = 5_000
_USE_MS = 60_000
"""The last use of a token is written down once in this time."""
_CACHE_SIZE = 10_000


class Principal(msgspec.Struct, frozen=True):
    """A caller: a user, or one of the user's runs acting with its own token (``run_id``, ``actor_id``).

    ``scope`` bounds what a run with limited permissions may reach of what its user owns, ``held`` what a token with
    a scope may (``services/token_scopes.py``).
    """

    user_id: str
    username: str
    token_id: str
    run_id: str | None = None
    actor_id: str | None = None
    scope: Scope | None = None
    held: HeldScope | None = None

    def owns(self, user_id: str) -> bool:
        """Whether a resource of ``user_id`` is the caller's own."""
        return self.user_id == user_id


class AccountStore(Protocol):
    """The part of the storage this service needs."""

    async def find_token(self, token_hash: str) -> TokenOwner | None:
        """The owner of a token that is not revoked."""
        ...

    async def note_use(self, token_id: str, now: int) -> None:
        """Write down when a token was last used."""
        ...

    async def find_run_owner(self, run_id: str) -> RunOwner | None:
        """The user a run belongs to."""
        ...

    async def find_user(self, user_id: str) -> User | None:
        """A user by id."""
        ...

    async def get_token(self, token_id: str) -> Token | None:
        """A token that is not revoked."""
        ...


def hash_token(token: str) -> str:
    """What is stored of a token. Tokens are random, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_api_token() -> str:
    """A token for a user; shown once."""
    return API_TOKEN_PREFIX + random_text(36)


class Access:
    """Turns tokens into principals. Answers are cached for 5 s, so a revoked token dies within that time."""

    def __init__(self, store: AccountStore, clock: Clock, instance_key: bytes) -> None:
        self._store = store
        self._clock = clock
        self._key = hmac.digest(instance_key, b"run-tokens", "sha256")
        self._cache: dict[str, tuple[int, Principal]] = {}

    def run_token(self, run_id: str) -> str:
        """The token of a run; the same for all its attempts, valid only while the run is alive."""
        mac = base64.b32encode(hmac.digest(self._key, run_id.encode(), "sha256")[:20]).decode()
        return f"{RUN_TOKEN_PREFIX}{run_id}_{mac}"

    def user_token(self, user_id: str, scoped_token_id: str | None) -> str:
        """A token of a user's for 10 minutes, with which the server calls itself in that user's name.

        It has the scope of the token ``scoped_token_id``, and ends with it.
        """
        claims = f"{user_id}_{scoped_token_id or ''}_{self._clock.now_ms() + _USER_TOKEN_MS}"
        mac = base64.b32encode(hmac.digest(self._key, f"user {claims}".encode(), "sha256")[:20]).decode()
        return f"{_USER_TOKEN_PREFIX}{claims}_{mac}"

    def forget(self) -> None:
        """Ask the database again for every token."""
        self._cache.clear()

    async def authenticate(self, token: str) -> Principal:
        """The principal of ``token``. Raises 401 ``invalid-token``."""
        now = self._clock.now_ms()
        cached = self._cache.get(token)
        if cached is not None and 0 <= now - cached[0] < _CACHE_MS:
            return cached[1]
        if token.startswith(RUN_TOKEN_PREFIX):
            principal = await self._run(token, now)
        elif token.startswith(_USER_TOKEN_PREFIX):
            principal = await self._own(token, now)
        else:
            principal = await self._user(token, now)
        if principal is None:
            self._cache.pop(token, None)
            raise ApiError(ErrorType.INVALID_TOKEN, "Authentication token is not valid.")
        if len(self._cache) >= _CACHE_SIZE:
            self._cache.clear()
        self._cache[token] = (now, principal)
        return principal

    async def _user(self, token: str, now: int) -> Principal | None:
        owner = await self._store.find_token(hash_token(token))
        if owner is None or (owner.expires_at is not None and owner.expires_at <= now):
            return None
        if owner.last_used_at is None or now - owner.last_used_at >= _USE_MS:
            # Without space on the disk a token works all the same.
            with contextlib.suppress(ApiError):
                await self._store.note_use(owner.token_id, now)
        return Principal(owner.user_id, owner.username, owner.token_id, held=_held(owner.token_id, owner.scope))

    async def _own(self, token: str, now: int) -> Principal | None:
        claims, _, mac = token.removeprefix(_USER_TOKEN_PREFIX).rpartition("_")
        wanted = base64.b32encode(hmac.digest(self._key, f"user {claims}".encode(), "sha256")[:20]).decode()
        if not hmac.compare_digest(mac.encode(), wanted.encode()):
            return None
        user_id, token_id, expires_at = claims.split("_")
        user = await self._store.find_user(user_id) if int(expires_at) > now else None
        if user is None:
            return None
        if not token_id:
            return Principal(user.id, user.username, SERVER_TOKEN_ID)
        maker = await self._store.get_token(token_id)
        if maker is None or (maker.expires_at is not None and maker.expires_at <= now):
            return None
        return Principal(user.id, user.username, SERVER_TOKEN_ID, held=_held(maker.id, maker.scope))

    async def _run(self, token: str, now: int) -> Principal | None:
        run_id = token.removeprefix(RUN_TOKEN_PREFIX).partition("_")[0]
        if not hmac.compare_digest(token.encode(), self.run_token(run_id).encode()):
            return None
        owner = await self._store.find_run_owner(run_id)
        if owner is None:
            return None
        if owner.finished_at is not None and now > owner.finished_at + RUN_TOKEN_GRACE_MS:
            return None
        scope = scope_of(run_id, owner.actor_id, owner.permission_level, owner.storage_grants)
        held = None if owner.scoped_token_id is None else _held(owner.scoped_token_id, owner.scope)
        return Principal(owner.user_id, owner.username, f"run:{run_id}", run_id, owner.actor_id, scope, held)


def _held(token_id: str, scope: TokenScope | None) -> HeldScope | None:
    return None if scope is None else HeldScope(token_id, scope)
