"""Tokens, and what authentication knows of their owners."""

from __future__ import annotations

import msgspec

from actorium.domain.models import JobStatus


class Token(msgspec.Struct, frozen=True):
    """A user's API token without its secret."""

    id: str
    user_id: str
    name: str
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None


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


class RunOwner(msgspec.Struct, frozen=True):
    """Who the run belongs to that a run token was made for."""

    user_id: str
    username: str
    status: JobStatus
    finished_at: int | None
    actor_id: str
    permission_level: str
    storage_grants: dict[str, bool]
