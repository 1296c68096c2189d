"""Users and their tokens."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actorium.domain.accounts import RunOwner, Token, TokenOwner
from actorium.domain.models import JobStatus, User
from actorium.domain.token_scopes import TokenScope
from actorium.storage.db import Database, Row, Tx


def _user(row: Row) -> User:
    return User(row["id"], row["username"], row["email"], row["created_at"], row["role"])


def _token(row: Row) -> Token:
    columns = {field: row[field] for field in Token.__struct_fields__ if field != "scope"}
    return Token(**columns, scope=_scope(row["scope_json"]))


def _scope(text: str | None) -> TokenScope | None:
    return None if text is None else msgspec.json.decode(text, type=TokenScope)


async def insert_user(tx: Tx, user: User) -> None:
    """Store a new user; raises ``UniqueViolationError`` when the username is taken."""
    await tx.execute(
        "INSERT INTO users (id, username, username_key, email, created_at, role) VALUES (?, ?, ?, ?, ?, ?)",
        user.id,
        user.username,
        user.username.lower(),
        user.email,
        user.created_at,
        user.role,
    )


async def get_user(tx: Tx, user_id: str) -> User | None:
    """A user by id."""
    row = await tx.fetchrow("SELECT * FROM users WHERE id = ?", user_id)
    return _user(row) if row is not None else None


async def find_user(tx: Tx, id_or_username: str) -> User | None:
    """A user by id, or by username in any case."""
    row = await tx.fetchrow(
        "SELECT * FROM users WHERE id = ? OR username_key = ?", id_or_username, id_or_username.lower()
    )
    return _user(row) if row is not None else None


async def lock_user(tx: Tx, user_id: str) -> None:
    """Keep other operations that ask for this lock waiting until this one is over."""
    await tx.fetchrow(f"SELECT id FROM users WHERE id = ? {tx.for_update}", user_id)


async def set_role(tx: Tx, user_id: str, role: str) -> None:
    """Make a user an administrator, or an ordinary user again."""
    await tx.execute("UPDATE users SET role = ? WHERE id = ?", role, user_id)


async def list_users(tx: Tx) -> list[User]:
    """Every user, oldest first."""
    return [_user(row) for row in await tx.fetch("SELECT * FROM users ORDER BY created_at, id")]


async def delete_user(tx: Tx, user_id: str) -> None:
    """Delete a user with tokens and Actors."""
    await tx.execute("DELETE FROM users WHERE id = ?", user_id)


async def insert_token(tx: Tx, token: Token, token_hash: str) -> None:
    """Store a token by its hash; raises ``UniqueViolationError`` when it exists."""
    await tx.execute(
        "INSERT INTO tokens (id, user_id, name, token_hash, created_at, expires_at, scope_json) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        token.id,
        token.user_id,
        token.name,
        token_hash,
        token.created_at,
        token.expires_at,
        None if token.scope is None else msgspec.json.encode(token.scope).decode(),
    )


async def list_tokens(tx: Tx, user_id: str) -> Sequence[Token]:
    """A user's tokens that are not revoked, oldest first."""
    rows = await tx.fetch(
        "SELECT * FROM tokens WHERE user_id = ? AND revoked_at IS NULL ORDER BY created_at, id", user_id
    )
    return [_token(row) for row in rows]


async def find_token_id(tx: Tx, token_hash: str) -> str | None:
    """The id of a token that is not revoked."""
    row = await tx.fetchrow("SELECT id FROM tokens WHERE token_hash = ? AND revoked_at IS NULL", token_hash)
    return row["id"] if row is not None else None


async def get_token(tx: Tx, token_id: str, *, for_update: bool = False) -> Token | None:
    """A token that is not revoked; ``for_update`` keeps it from changing until the operation is over."""
    lock = tx.for_update if for_update else ""
    row = await tx.fetchrow(f"SELECT * FROM tokens WHERE id = ? AND revoked_at IS NULL {lock}", token_id)
    return _token(row) if row is not None else None


async def set_expiry(tx: Tx, token_id: str, expires_at: int) -> None:
    """Let a token end at a time."""
    await tx.execute("UPDATE tokens SET expires_at = ? WHERE id = ?", expires_at, token_id)


async def revoke_token(tx: Tx, token_id: str, now: int) -> None:
    """End a token."""
    await tx.execute("UPDATE tokens SET revoked_at = ? WHERE id = ?", now, token_id)


class AccountReader:
    """What authentication asks of the database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def find_token(self, token_hash: str) -> TokenOwner | None:
        """The owner of a token that is not revoked."""

        async def op(tx: Tx) -> Row | None:
            return await tx.fetchrow(
                "SELECT t.id, t.user_id, u.username, t.expires_at, t.last_used_at, t.scope_json "
                "FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.token_hash = ? AND t.revoked_at IS NULL",
                token_hash,
            )

        row = await self._db.read("find token", op)
        if row is None:
            return None
        return TokenOwner(
            row["id"],
            row["user_id"],
            row["username"],
            row["expires_at"],
            row["last_used_at"],
            _scope(row["scope_json"]),
        )

    async def get_token(self, token_id: str) -> Token | None:
        """A token that is not revoked."""

        async def op(tx: Tx) -> Token | None:
            return await get_token(tx, token_id)

        return await self._db.read("get token", op)

    async def note_use(self, token_id: str, now: int) -> None:
        """Write down when a token was last used."""

        async def op(tx: Tx) -> None:
            await tx.execute("UPDATE tokens SET last_used_at = ? WHERE id = ?", now, token_id)

        await self._db.write("note use of token", op)

    async def find_user(self, user_id: str) -> User | None:
        """A user by id."""

        async def op(tx: Tx) -> User | None:
            return await get_user(tx, user_id)

        return await self._db.read("find user", op)

    async def find_run_owner(self, run_id: str) -> RunOwner | None:
        """The user a run belongs to, and whether it is over."""

        async def op(tx: Tx) -> Row | None:
            return await tx.fetchrow(
                "SELECT r.user_id, u.username, r.status, r.finished_at, r.actor_id, r.permission_level, "
                "r.storage_grants_json, t.id AS token_id, t.scope_json "
                "FROM runs r JOIN users u ON u.id = r.user_id "
                "LEFT JOIN token_claims c ON c.resource_id = r.id AND c.restricts = 1 "
                "LEFT JOIN tokens t ON t.id = c.token_id WHERE r.id = ?",
                run_id,
            )

        row = await self._db.read("find run owner", op)
        if row is None:
            return None
        return RunOwner(
            row["user_id"],
            row["username"],
            JobStatus(row["status"]),
            row["finished_at"],
            row["actor_id"],
            row["permission_level"],
            msgspec.json.decode(row["storage_grants_json"]),
            row["token_id"],
            _scope(row["scope_json"]),
        )
