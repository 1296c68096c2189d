"""Which users identity providers' accounts are."""

from __future__ import annotations

from actorium.domain.models import User
from actorium.storage import accounts
from actorium.storage.db import Tx


async def find_user(tx: Tx, issuer: str, subject: str) -> User | None:
    """The user of an account ``subject`` with an identity provider."""
    row = await tx.fetchrow("SELECT user_id FROM user_identities WHERE issuer = ? AND subject = ?", issuer, subject)
    return None if row is None else await accounts.get_user(tx, row["user_id"])


async def insert(tx: Tx, issuer: str, subject: str, user_id: str) -> None:
    """Note whose an account is; raises ``UniqueViolationError`` when it is somebody's."""
    await tx.execute(
        "INSERT INTO user_identities (issuer, subject, user_id) VALUES (?, ?, ?)", issuer, subject, user_id
    )
