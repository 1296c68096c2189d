"""Users and their limits."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.responses import Response

from actorium.api.http import Call, Route, data_response, json_response
from actorium.api.shapes import iso
from actorium.domain.errors import invalid
from actorium.domain.models import User
from actorium.domain.queueing import Use
from actorium.domain.usage import Prices, Quantities, month_of, shown
from actorium.services.budgets import Budgets
from actorium.services.limits import Limits
from actorium.services.usage import Usage

# All ten, or the Python client silently takes the answer for another user's.
_FEATURES = (
    "ACTORS",
    "STORAGE",
    "SCHEDULER",
    "PROXY",
    "PROXY_EXTERNAL_ACCESS",
    "PROXY_RESIDENTIAL",
    "PROXY_SERPS",
    "WEBHOOKS",
    "ACTORS_PUBLIC_ALL",
    "ACTORS_PUBLIC_DEVELOPER",
)
_ENABLED = frozenset({"ACTORS", "STORAGE", "ACTORS_PUBLIC_ALL", "ACTORS_PUBLIC_DEVELOPER"})


_MOST_USD = 1_000_000_000
_MOST_DAYS = 1_000_000


class UserLookup(Protocol):
    """The part of the accounts service these routes need."""

    async def get_user(self, id_or_username: str) -> User:
        """A user by id or username. Raises 404."""
        ...


class AccountRoutes:
    """Handlers of the user routes."""

    def __init__(self, users: UserLookup, limits: Limits, usage: Usage, budgets: Budgets) -> None:
        self._users = users
        self._limits = limits
        self._usage = usage
        self._budgets = budgets
        self._retention_days = limits.retention_days or _MOST_DAYS

    def routes(self) -> list[Route]:
        """All routes of this module."""
        return [
            Route("GET", "/v2/users/me", "users_me_get", self.me),
            Route("GET", "/v2/users/me/limits", "users_me_limits_get", self.limits),
            Route("PUT", "/v2/users/me/limits", "users_me_limits_put", self.update_limits),
            Route("GET", "/v2/users/me/usage/monthly", "users_me_usage_monthly_get", self.monthly_usage),
            Route("GET", "/v2/users/{userId}", "user_get", self.get, public=True),
        ]

    async def me(self, call: Call) -> Response:
        """The caller's own account, without the address for a run."""
        user = await self._users.get_user(call.principal.user_id)
        shape: dict[str, Any] = {
            "id": user.id,
            "username": user.username,
            "createdAt": iso(user.created_at),
            "isPaying": True,
            "proxy": {"password": "", "groups": []},
            "effectivePlatformFeatures": {name: _feature(name) for name in _FEATURES},
            "profile": profile_of(user),
            # Without a plan the Python SDK takes the answer for another user's and fails on the proxy's password.
            "plan": self._plan(await self._limits.allowed(user.id)),
        }
        if call.principal.run_id is None:
            shape["email"] = user.email
        return data_response(shape)

    async def get(self, call: Call) -> Response:
        """What everybody may know of a user."""
        user = await self._users.get_user(call.path["userId"])
        return data_response({"username": user.username, "profile": profile_of(user)})

    async def limits(self, call: Call) -> Response:
        """What the server allows, and what the caller uses of it."""
        current = await self._limits.current(call.principal)
        monthly_limit = await self._budgets.monthly_limit(call.principal.user_id)
        start_at, end_at = month_of(current.at)
        own = current.set
        unlimited = 1_000_000_000.0
        return data_response(
            {
                "monthlyUsageCycle": {"startAt": iso(start_at), "endAt": iso(end_at)},
                "limits": {
                    "maxMonthlyUsageUsd": unlimited if monthly_limit is None else monthly_limit,
                    "maxMonthlyActorComputeUnits": unlimited,
                    "maxMonthlyExternalDataTransferGbytes": unlimited,
                    "maxMonthlyProxySerps": int(unlimited),
                    "maxMonthlyResidentialProxyGbytes": unlimited,
                    "maxActorMemoryGbytes": current.allowed.memory_mbytes / 1024,
                    "maxActorCount": self._limits.max_actors,
                    "maxActorTaskCount": self._limits.max_tasks,
                    "maxScheduleCount": self._limits.max_schedules,
                    "maxConcurrentActorJobs": current.allowed.run_count,
                    "maxTeamAccountSeatCount": int(unlimited),
                    "dataRetentionDays": own.data_retention_days or self._retention_days,
                },
                "current": {
                    "monthlyUsageUsd": current.month_usage_usd,
                    "monthlyActorComputeUnits": current.month_compute_units,
                    "monthlyExternalDataTransferGbytes": current.month_external_bytes / 10**9,
                    "monthlyProxySerps": 0,
                    "monthlyResidentialProxyGbytes": 0.0,
                    "actorMemoryGbytes": current.used.memory_mbytes / 1024,
                    "actorCount": current.actor_count,
                    "actorTaskCount": current.task_count,
                    "scheduleCount": current.schedule_count,
                    "activeActorJobCount": current.used.run_count,
                    "teamAccountSeatCount": 1,
                },
            }
        )

    async def update_limits(self, call: Call) -> Response:
        """Set the caller's own limits of spending and retention. openapi: UpdateLimitsRequest."""
        body = await call.json_object()
        changes: dict[str, Any] = {}
        if (usd := body.get("maxMonthlyUsageUsd")) is not None:
            if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd <= _MOST_USD:
                raise invalid(f"Field maxMonthlyUsageUsd must be a number from 0 to {_MOST_USD:,}, got {usd!r:.100}.")
            changes["max_monthly_usage_usd"] = float(usd)
        if (days := body.get("dataRetentionDays")) is not None:
            if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= _MOST_DAYS:
                raise invalid(
                    f"Field dataRetentionDays must be a whole number from 1 to {_MOST_DAYS:,}, got {days!r:.100}."
                )
            changes["data_retention_days"] = days
        await self._limits.update(call.principal, changes)
        return json_response({}, 201)

    async def monthly_usage(self, call: Call) -> Response:
        """What the caller used this month, or in the month around ``date``, at today's prices."""
        used = await self._usage.monthly(call.principal.user_id, call.query.date("date"))
        prices = self._usage.prices
        total = float(prices.total(used.total))
        return data_response(
            {
                "usageCycle": {"startAt": iso(used.start_at), "endAt": iso(used.end_at)},
                "monthlyServiceUsage": {
                    name: {
                        **item,
                        "baseUnitPriceUsd": prices.unit_usd(name),
                        "amountAfterVolumeDiscountUsd": item["baseAmountUsd"],
                        "priceTiers": [],
                    }
                    for name, item in _items(used.total, prices).items()
                },
                "dailyServiceUsages": [
                    {
                        "date": iso(day),
                        "serviceUsage": _items(quantities, prices),
                        "totalUsageCreditsUsd": float(prices.total(quantities)),
                    }
                    for day, quantities in used.days.items()
                ],
                "totalUsageCreditsUsdBeforeVolumeDiscount": total,
                "totalUsageCreditsUsdAfterVolumeDiscount": total,
            }
        )

    def _plan(self, allowed: Use) -> dict[str, Any]:
        return {
            "id": "SELF_HOSTED",
            "description": "Self-hosted",
            "isEnabled": True,
            "monthlyBasePriceUsd": 0,
            "monthlyUsageCreditsUsd": 0,
            "usageDiscountPercent": 0,
            "enabledPlatformFeatures": sorted(_ENABLED),
            "maxMonthlyUsageUsd": 1_000_000_000,
            "maxActorMemoryGbytes": allowed.memory_mbytes / 1024,
            "maxMonthlyActorComputeUnits": 1_000_000_000,
            "maxMonthlyResidentialProxyGbytes": 0,
            "maxMonthlyProxySerps": 0,
            "maxMonthlyExternalDataTransferGbytes": 1_000_000_000,
            "maxActorCount": self._limits.max_actors,
            "maxActorTaskCount": self._limits.max_tasks,
            "maxScheduleCount": self._limits.max_schedules,
            "dataRetentionDays": self._retention_days,
            "availableProxyGroups": {},
            "teamAccountSeatCount": 1,
            "supportLevel": "COMMUNITY",
            "availableAddOns": [],
            "tier": "FREE",
        }


def _items(quantities: Quantities, prices: Prices) -> dict[str, dict[str, Any]]:
    costs = prices.cost(quantities)
    return {name: {"quantity": count, "baseAmountUsd": costs[name]} for name, count in shown(quantities).items()}


def profile_of(user: User) -> dict[str, Any]:
    """A user's public profile."""
    # The CLI reads profile.name without a check.
    unknown = ("bio", "pictureUrl", "githubUsername", "websiteUrl", "twitterUsername")
    return {"name": user.username, **dict.fromkeys(unknown)}


def _feature(name: str) -> dict[str, Any]:
    enabled = name in _ENABLED
    return {
        "isEnabled": enabled,
        "disabledReason": None if enabled else "This server does not provide it.",
        "disabledReasonType": None if enabled else "DISABLED",
        "isTrial": False,
        "trialExpirationAt": None,
    }
