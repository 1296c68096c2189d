"""Tokens, and what authentication knows of their owners."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from actorium.domain.models import JobStatus
from actorium.domain.token_scopes import TokenScope


class Role(StrEnum):
    """What a user may do of others': nothing, or read the whole audit log."""

    USER = "USER"
    ADMIN = "ADMIN"


class Token(msgspec.Struct, frozen=True):
    """A user's API token without its secret. Without a ``scope`` it may do all that its user may."""

    id: str
    user_id: str
    name: str
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None
    scope: TokenScope | None = None


class UserLimits(msgspec.Struct, frozen=True):
    """What is set for one user; ``None``: as the settings say.

    ``max_memory_mbytes`` and ``max_concurrent_runs`` bound what the user's runs hold at once and are the
    administrator's to set; the other two are the user's own (openapi: UpdateLimitsRequest).
    """

    max_memory_mbytes: int | None = None
    max_concurrent_runs: int | None = None
    max_monthly_usage_usd: float | None = None
    data_retention_days: int | None = None


class TokenOwner(msgspec.Struct, frozen=True):
    """Who a user token belongs to."""

    token_id: str
    user_id: str
    username: str
    expires_at: int | None
    last_used_at: int | None = None
    scope: TokenScope | None = None


class RunOwner(msgspec.Struct, frozen=True):
    """Who the run belongs to that a run token was made for; ``scope`` of the token it is bound to, if it is."""

    user_id: str
    username: str
    status: JobStatus
    finished_at: int | None
    actor_id: str
    permission_level: str
    storage_grants: dict[str, bool]
    scoped_token_id: str | None = None
    scope: TokenScope | None = None
