"""How people sign in with a browser: through an OpenID Connect provider, or as a proxy in front says; and sessions.

A session is an API token of the user's with an end, in a signed cookie. Signing out ends the token.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from actorium.domain.accounts import Role
from actorium.domain.errors import ApiError, ErrorType, sign_in_failed
from actorium.domain.models import User
from actorium.domain.secrets import Vault
from actorium.kit import Clock, new_id, random_text
from actorium.services.accounts import Accounts
from actorium.services.permissions import insufficient
from actorium.storage import accounts, identities
from actorium.storage.db import Database, Tx, UniqueViolationError

if TYPE_CHECKING:
    from actorium.services.oidc import OidcProvider

SESSION_NAME = "session"
FLOW_SECS = 600
"""How long a sign-in with a provider may take."""
_NOT_OF_NAMES = re.compile(r"[^a-zA-Z0-9_.-]+")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]+\.[a-zA-Z]{2,}")
_LIKE_AN_ID = re.compile(r"[a-zA-Z0-9]{17}")
_MOST_TRIES = 100


class SignInRules(msgspec.Struct, frozen=True):
    """Who may sign in: members of ``groups`` (none given: everybody the provider knows) and of ``admin_groups``,
    who become administrators. ``groups_claim`` is where an ID token has the groups."""

    groups: frozenset[str] = frozenset()
    admin_groups: frozenset[str] = frozenset()
    groups_claim: str = "groups"
    session_hours: float = 12


class _Flow(msgspec.Struct, frozen=True):
    """A sign-in under way, in a sealed cookie of the browser that began it."""

    state: str
    nonce: str
    verifier: str
    return_to: str
    expires_at: int


class SignIn:
    """Sign-in and sessions. Without a ``provider`` nobody signs in through one."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        users: Accounts,
        instance_key: bytes,
        provider: OidcProvider | None,
        rules: SignInRules,
    ) -> None:
        self._db = db
        self._clock = clock
        self._users = users
        self._vault = Vault(instance_key)
        self._key = hmac.digest(instance_key, b"sessions", "sha256")
        self._rules = rules
        self.provider = provider

    async def begin(self, redirect_uri: str, return_to: str | None) -> tuple[str, str]:
        """Where to send the browser, and the cookie to give it. ``return_to``: a path of this server."""
        provider = self._given_provider()
        flow = _Flow(
            random_text(32),
            random_text(32),
            random_text(64),
            _own_path(return_to),
            self._clock.now_ms() + FLOW_SECS * 1000,
        )
        url = await provider.authorization_url(redirect_uri, flow.state, flow.nonce, flow.verifier)
        return url, self._vault.seal(msgspec.json.encode(flow).decode())

    async def complete(self, cookie: str, state: str, code: str, redirect_uri: str) -> tuple[User, str]:
        """The user who came back from the provider, and where they wanted to go.

        Raises 401 ``user-not-authenticated``, and 403 for one in no group that may sign in.
        """
        provider = self._given_provider()
        flow = self._opened(cookie)
        if flow is None or flow.expires_at <= self._clock.now_ms():
            raise sign_in_failed("it was not begun in this browser, or took too long. Begin again.")
        if not hmac.compare_digest(flow.state.encode(), state.encode()):
            raise sign_in_failed("the answer belongs to another sign-in. Begin again.")
        claims = await provider.claims(code, redirect_uri, flow.nonce, flow.verifier)
        groups = claims.get(self._rules.groups_claim)
        role = self._role(groups if isinstance(groups, list) else [groups])
        user = await self._known_user(provider.issuer, claims, role)
        return await self._with_role(user, role), flow.return_to

    async def by_header(self, username: str, groups: Iterable[str]) -> User:
        """The user of this name, made if there is none. Raises 400 for a name no user can have, 403 as above."""
        role = self._role(groups)
        try:
            user = await self._users.get_user(username)
        except ApiError as error:
            if error.type is not ErrorType.RECORD_NOT_FOUND:
                raise
            user = await self._users.add_user(username, role=role or Role.USER)
        return await self._with_role(user, role)

    def _given_provider(self) -> OidcProvider:
        if self.provider is None:
            raise ApiError(ErrorType.RECORD_NOT_FOUND, "This server has no identity provider: see oidc_issuer_url.")
        return self.provider

    def _role(self, groups: Iterable[object]) -> Role | None:
        """The role that groups give; ``None``: the one the user has."""
        found = {group for group in groups if isinstance(group, str)}
        if found & self._rules.admin_groups:
            return Role.ADMIN
        if self._rules.groups and not found & self._rules.groups:
            raise insufficient("you are in none of the groups whose members may sign in.")
        return Role.USER if self._rules.admin_groups else None

    async def _with_role(self, user: User, role: Role | None) -> User:
        if role is None or user.role == role:
            return user
        await self._users.set_role(user.id, role)
        return msgspec.structs.replace(user, role=role)

    async def _known_user(self, issuer: str, claims: dict[str, Any], role: Role | None) -> User:
        """The user of a provider's account; made, with a name of its own, at the first sign-in."""
        subject = claims["sub"]

        async def find(tx: Tx) -> User | None:
            return await identities.find_user(tx, issuer, subject)

        # Names that a provider's users choose themselves must not lead into others' accounts.
        names = _names(claims)
        email = claims.get("email")
        for _ in range(_MOST_TRIES):
            user = await self._db.read("find identity", find)
            if user is not None:
                return user
            usable = isinstance(email, str) and _EMAIL.fullmatch(email)
            name = next(names)
            made = User(
                new_id(), name, str(email) if usable else f"{name}@example.com", self._clock.now_ms(), role or Role.USER
            )

            async def insert(tx: Tx, made: User = made) -> User:
                await accounts.insert_user(tx, made)
                await identities.insert(tx, issuer, subject, made.id)
                return made

            try:
                return await self._db.write("add user", insert)
            except UniqueViolationError:
                continue
        raise sign_in_failed("there is no free username left for this account.")

    def _opened(self, cookie: str) -> _Flow | None:
        try:
            return msgspec.json.decode(self._vault.open(cookie), type=_Flow)
        except (ValueError, msgspec.DecodeError):
            return None

    @property
    def session_secs(self) -> int:
        """How long a session lasts."""
        return round(self._rules.session_hours * 3600)

    async def open_session(self, user: User) -> str:
        """The cookie of a new session."""
        expires_at = self._clock.now_ms() + self.session_secs * 1000
        _, text = await self._users.create_token(user.id, SESSION_NAME, expires_at=expires_at)
        return f"{text}.{self._mac('cookie', text)}"

    async def close_session(self, token: str) -> None:
        """End a session. Raises 404 for one that is over."""
        await self._users.revoke_token(token)

    def token_of(self, cookie: str) -> str | None:
        """The token in a session's cookie; ``None`` if this server did not sign it."""
        text, _, mac = cookie.rpartition(".")
        is_signed = hmac.compare_digest(mac.encode(), self._mac("cookie", text).encode())
        return text if is_signed else None

    def csrf_token(self, token: str) -> str:
        """What a page shows, besides the cookie, that it is one of this server's."""
        return self._mac("csrf", token)

    def is_own_page(self, token: str, csrf_token: str) -> bool:
        """Whether a call with the cookie of ``token`` comes from a page that could read the session."""
        return hmac.compare_digest(self.csrf_token(token).encode(), csrf_token.encode())

    def _mac(self, use: str, text: str) -> str:
        return hmac.new(self._key, f"{use} {text}".encode(), hashlib.sha256).hexdigest()


def _own_path(return_to: str | None) -> str:
    """A path of this server; another server's address must not be where a sign-in ends."""
    if return_to and re.fullmatch(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*", return_to):
        return return_to
    return "/actorium/session"


def _names(claims: dict[str, Any]) -> Iterator[str]:
    """Usernames for a new user, the nicest first."""
    given = claims.get("preferred_username") or str(claims.get("email") or "").partition("@")[0] or "user"
    base = _NOT_OF_NAMES.sub("-", str(given)).strip("-.")[:26]
    if len(base) < 3 or _LIKE_AN_ID.fullmatch(base):
        base = f"user-{base}"[:26]
    yield base
    for number in range(2, _MOST_TRIES + 2):
        yield f"{base}-{number}"
