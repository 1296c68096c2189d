"""Users and tokens as their administrator handles them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from actorium.domain.accounts import Role, Token, UserLimits
from actorium.domain.errors import ApiError, ErrorType, invalid, not_found
from actorium.domain.models import User
from actorium.domain.pricing import MIN_MEMORY_MBYTES
from actorium.domain.times import DAY_MS
from actorium.domain.token_scopes import TokenScope
from actorium.kit import Clock, new_id
from actorium.services.access import API_TOKEN_PREFIX, RUN_TOKEN_PREFIX, hash_token, new_api_token
from actorium.storage import accounts, run_queue, token_claims, user_limits
from actorium.storage.db import Database, Tx, UniqueViolationError

_USERNAME = re.compile(r"[a-z0-9_.-]{3,30}", re.IGNORECASE)
_LIKE_AN_ID = re.compile(r"[a-zA-Z0-9]{17}")
_TOKEN = re.compile(r"[\x21-\x7e]{16,256}")
FIRST_USERNAME = "admin"
_MOST = 2**31 - 1


class Accounts:
    """Adds and removes users, creates and revokes their tokens."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def add_user(self, username: str, email: str | None = None, role: Role = Role.USER) -> User:
        """A new user. Raises 400 for a username that is not allowed, 409 for one that is taken."""
        if not _USERNAME.fullmatch(username) or _LIKE_AN_ID.fullmatch(username):
            raise invalid(
                f"Username {username[:50]!r} is not allowed: it must have 3 to 30 of the characters a-z, 0-9, '_', '.' "
                "and '-', and not look like an id (17 letters and digits)."
            )
        user = User(new_id(), username, email or f"{username}@example.com", self._clock.now_ms(), role)

        async def op(tx: Tx) -> User:
            await accounts.insert_user(tx, user)
            return user

        try:
            await self._db.write("add user", op)
        except UniqueViolationError as error:
            raise ApiError(ErrorType.NAME_NOT_UNIQUE, f"Username {username!r} is already used.") from error
        return user

    async def list_users(self) -> Sequence[User]:
        """Every user, oldest first."""
        return await self._db.read("list users", accounts.list_users)

    async def get_user(self, id_or_username: str) -> User:
        """A user by id or username. Raises 404."""

        async def op(tx: Tx) -> User | None:
            return await accounts.find_user(tx, id_or_username)

        user = await self._db.read("find user", op)
        if user is None:
            raise not_found("User")
        return user

    async def set_role(self, id_or_username: str, role: Role) -> None:
        """Make a user an administrator, or an ordinary user. Raises 404."""
        user = await self.get_user(id_or_username)

        async def op(tx: Tx) -> User:
            await accounts.set_role(tx, user.id, role)
            return user

        await self._db.write("set role", op)

    async def remove_user(self, id_or_username: str) -> None:
        """Remove a user with everything that is theirs; refused while a run of theirs is not over."""
        user = await self.get_user(id_or_username)

        async def op(tx: Tx) -> User:
            if (await run_queue.in_use(tx, user.id, waiting_too=True)).run_count:
                raise invalid(f"User {user.username!r} has runs that are not over: abort them first.")
            await accounts.delete_user(tx, user.id)
            return user

        await self._db.write("remove user", op)

    async def get_limits(self, id_or_username: str) -> UserLimits:
        """What is set for a user alone. Raises 404."""
        user = await self.get_user(id_or_username)

        async def op(tx: Tx) -> UserLimits:
            return await user_limits.get(tx, user.id)

        return await self._db.read("get limits", op)

    async def set_limits(self, id_or_username: str, changes: dict[str, int | None]) -> None:
        """Set ``max_memory_mbytes`` or ``max_concurrent_runs`` of a user; ``None``: as the settings say."""
        user = await self.get_user(id_or_username)
        for name, least in (("max_memory_mbytes", MIN_MEMORY_MBYTES), ("max_concurrent_runs", 0)):
            value = changes.get(name)
            if value is not None and not least <= value <= _MOST:
                raise invalid(f"Limit {name} has an invalid value {value}: it must be from {least} to {_MOST}.")

        async def op(tx: Tx) -> User:
            await user_limits.update(tx, user.id, changes)
            return user

        await self._db.write("set limits", op)

    async def create_token(
        self,
        id_or_username: str,
        name: str,
        *,
        token: str | None = None,
        expires_at: int | None = None,
        scope: TokenScope | None = None,
    ) -> tuple[Token, str]:
        """A new token and its secret text, which is not stored. ``token`` sets a given text of 16 to 256 characters.

        ``scope`` names resources by their ids; without one the token may do all that its user may.
        """
        if token is not None and (not _TOKEN.fullmatch(token) or token.startswith(RUN_TOKEN_PREFIX)):
            raise invalid(
                "A token must have 16 to 256 printable characters without blanks, and must not begin with "
                f"{RUN_TOKEN_PREFIX!r}."
            )
        user = await self.get_user(id_or_username)
        secret = token or new_api_token()
        now = self._clock.now_ms()
        if expires_at is not None and expires_at <= now:
            raise invalid("The time at which a token expires must be in the future.")
        created = Token(new_id(), user.id, name, now, expires_at, scope=scope)

        async def op(tx: Tx) -> Token:
            await accounts.insert_token(tx, created, hash_token(secret))
            return created

        try:
            await self._db.write("create token", op)
        except UniqueViolationError as error:
            raise ApiError(ErrorType.NAME_NOT_UNIQUE, "This token exists already.") from error
        return created, secret

    async def list_tokens(self, id_or_username: str) -> Sequence[Token]:
        """A user's tokens without their secret texts."""
        user = await self.get_user(id_or_username)

        async def op(tx: Tx) -> Sequence[Token]:
            return await accounts.list_tokens(tx, user.id)

        return await self._db.read("list tokens", op)

    async def rotate_token(self, token_id_or_text: str, *, of_user: str | None = None) -> tuple[Token, str]:
        """A new token in the place of one, and its secret text; the old one works for another day.

        The new one has the name, the scope and what was created with the old one. Raises 404 when there is no such
        token (of the user ``of_user``), or it has expired.
        """
        now, secret = self._clock.now_ms(), new_api_token()

        async def op(tx: Tx) -> Token:
            old = await accounts.get_token(tx, await _token_id(tx, token_id_or_text), for_update=True)
            if (
                old is None
                or (old.expires_at is not None and old.expires_at <= now)
                or (of_user is not None and old.user_id != of_user)
            ):
                raise not_found("Token")
            made = Token(new_id(), old.user_id, old.name, now, scope=old.scope)
            await accounts.insert_token(tx, made, hash_token(secret))
            await token_claims.copy(tx, old.id, made.id)
            await accounts.set_expiry(tx, old.id, min(old.expires_at or now + DAY_MS, now + DAY_MS))
            return made

        return await self._db.write("rotate token", op), secret

    async def revoke_token(self, token_id_or_text: str, *, of_user: str | None = None) -> Token:
        """End a token, named by its id or its text. Raises 404 when there is none (of the user ``of_user``)."""
        now = self._clock.now_ms()

        async def op(tx: Tx) -> Token:
            token = await accounts.get_token(tx, await _token_id(tx, token_id_or_text), for_update=True)
            if token is None or (of_user is not None and token.user_id != of_user):
                raise not_found("Token")
            await accounts.revoke_token(tx, token.id, now)
            return token

        return await self._db.write("revoke token", op)

    async def ensure_first_user(self, *, token: str | None = None) -> tuple[User, str | None]:
        """The oldest user; made with a token on the very first start. ``token`` is that token's text.

        Where users exist, ``token`` is added to the oldest one unless it is a token already.
        """
        users = await self.list_users()
        if users:
            if token is not None and not await self._token_exists(token):
                await self.create_token(users[0].id, "given at start", token=token)
            return users[0], None
        user = await self.add_user(FIRST_USERNAME, role=Role.ADMIN)
        _, secret = await self.create_token(user.id, "first start", token=token)
        return user, secret

    async def _token_exists(self, token: str) -> bool:
        async def op(tx: Tx) -> str | None:
            return await accounts.find_token_id(tx, hash_token(token))

        return await self._db.read("find token", op) is not None


async def _token_id(tx: Tx, token_id_or_text: str) -> str:
    """The id of the token that an id or a text means; empty when none has this text."""
    if _LIKE_AN_ID.fullmatch(token_id_or_text) and not token_id_or_text.startswith(API_TOKEN_PREFIX):
        return token_id_or_text
    return await accounts.find_token_id(tx, hash_token(token_id_or_text)) or ""
