"""The options of a run: what is asked for, what applies, and which values are refused. docs: runs, section 4.1."""

from __future__ import annotations

from typing import Any

import msgspec

from actorium.domain.actor_prices import collapsed, in_force
from actorium.domain.errors import ApiError, ErrorType, invalid
from actorium.domain.memory_expressions import MemoryExpressionError, evaluate_memory
from actorium.domain.models import Actor, Build, Debug, Run, RunOptions, StartKey
from actorium.domain.pricing import (
    MAX_MEMORY_MBYTES,
    MAX_TIMEOUT_SECS,
    MIN_MEMORY_MBYTES,
    clamp_memory,
    disk_mbytes,
    is_valid_memory,
    nearest_memory,
)
from actorium.domain.queueing import MAX_PRIORITY, MIN_PRIORITY, Capacity
from actorium.domain.webhook_bodies import AdHocWebhook


class RunSettings(msgspec.Struct, frozen=True):
    """Defaults and limits of runs.

    ``approval_base_url`` is where users approve others' Actors with full permissions; ``None``: they need not.
    """

    default_memory_mbytes: int
    default_timeout_secs: int
    capacity: Capacity
    abort_grace_secs: float
    abort_children_with_parent: bool = False
    approval_base_url: str | None = None

    def approval_url(self, actor_id: str) -> str | None:
        """Where a user approves the Actor."""
        base_url = self.approval_base_url
        return None if base_url is None else f"{base_url}/actors/{actor_id}?approvePermissions=true"


class StartOptions(msgspec.Struct, frozen=True):
    """Options as asked for; ``None`` = not given.

    ``start_key`` makes a repeated call the same run, ``webhooks`` are those of this run alone.
    """

    build: str | None = None
    timeout_secs: int | None = None
    memory_mbytes: int | None = None
    max_items: int | None = None
    max_total_charge_usd: float | None = None
    restart_on_error: bool | None = None
    priority: int | None = None
    max_total_usage_usd: float | None = None
    force_permission_level: str | None = None
    start_key: StartKey | None = None
    webhooks: tuple[AdHocWebhook, ...] = ()
    debug: Debug | None = None


def over_task(asked: StartOptions, options: dict[str, Any]) -> StartOptions:
    """What a call asks for, with the task's ``options`` (the API's names) where it asks for nothing."""
    missing = {name: options.get(wire) for name, wire in _WIRE_NAMES.items() if getattr(asked, name) is None}
    return msgspec.structs.replace(asked, **missing)


def chosen_build(asked: StartOptions, defaults: dict[str, Any]) -> str:
    """The tag or number of the build to run."""
    return asked.build or defaults.get("build") or "latest"


def memory_by_input(
    asked: StartOptions, defaults: dict[str, Any], build: Build, values: dict[str, Any]
) -> tuple[int | None, str | None]:
    """The memory ``defaultMemoryMbytes`` of actor.json gives a run with this input, and what is wrong with it."""
    given = (build.actor_definition or {}).get("defaultMemoryMbytes")
    if asked.memory_mbytes is not None or not isinstance(given, int | str) or isinstance(given, bool):
        return None, None
    try:
        amount = evaluate_memory(given, values, {**defaults, **_given(asked)}) if isinstance(given, str) else given
    except MemoryExpressionError as error:
        return None, f"The expression of defaultMemoryMbytes gives no memory for this input: {error}."
    return nearest_memory(amount), None


def resolve_options(
    asked: StartOptions,
    defaults: dict[str, Any],
    build: Build,
    settings: RunSettings,
    memory_mbytes: int | None = None,
) -> RunOptions:
    """What applies: the call's value, else that of ``defaults`` (the API's names), else the setting.

    ``memory_mbytes`` is the build's own default, which goes before ``defaults``. Raises 400 for a value that no run
    may have.
    """
    check_options(asked)
    debug = asked.debug
    merged = {**defaults, **_given(asked)}
    memory = asked.memory_mbytes or memory_mbytes or merged.get("memoryMbytes") or settings.default_memory_mbytes
    timeout = merged.get("timeoutSecs")
    memory = clamp_memory(memory, build.actor_definition)
    return msgspec.convert(
        {
            "build": chosen_build(asked, defaults),
            "timeout_secs": settings.default_timeout_secs if timeout is None else timeout,
            "memory_mbytes": memory,
            "disk_mbytes": disk_mbytes(memory),
            "max_items": merged.get("maxItems"),
            # 0 among the Actor's defaults is no limit; the Python SDK would take it literally.
            "max_total_charge_usd": merged.get("maxTotalChargeUsd") or None,
            "restart_on_error": bool(merged.get("restartOnError")),
            "priority": asked.priority or 0,
            "max_total_usage_usd": asked.max_total_usage_usd,
            "debug": None if debug is None else msgspec.to_builtins(debug),
        },
        RunOptions,
    )


def resurrected_options(run: Run, asked: StartOptions, build: Build | None) -> RunOptions:
    """The options of a resurrected run: as before, but for what is asked, within the bounds of its ``build``."""
    changes: dict[str, Any] = {}
    if asked.memory_mbytes is not None:
        memory = clamp_memory(asked.memory_mbytes, build.actor_definition if build else None)
        changes |= {"memory_mbytes": memory, "disk_mbytes": disk_mbytes(memory)}
    if asked.max_total_charge_usd is not None:
        current = run.options.max_total_charge_usd
        if asked.max_total_charge_usd and current is not None and asked.max_total_charge_usd < current:
            raise ApiError(
                ErrorType.PARAMETERS_MISMATCHED,
                "Parameters mismatched: Maximum cost per run cannot be decreased when resurrecting run",
            )
        changes["max_total_charge_usd"] = asked.max_total_charge_usd or None
    if asked.max_total_usage_usd is not None:
        changes["max_total_usage_usd"] = asked.max_total_usage_usd or None
    for name in ("build", "timeout_secs", "max_items", "restart_on_error", "priority", "debug"):
        if (value := getattr(asked, name)) is not None:
            changes[name] = value
    return msgspec.structs.replace(run.options, **changes)


def run_pricing(actor: Actor, options: RunOptions, now: int) -> dict[str, Any] | None:
    """The pricing a run of ``actor`` starts with; ``None`` without one. Raises 400 for a limit below its minimum."""
    info = in_force(actor.fields.get("pricingInfos") or [], now)
    if info is None:
        return None
    minimum, limit = info.get("minimalMaxTotalChargeUsd"), options.max_total_charge_usd
    if minimum is not None and limit is not None and limit < minimum:
        raise ApiError(
            ErrorType.MAX_TOTAL_CHARGE_USD_BELOW_MINIMUM,
            f"Parameter maxTotalChargeUsd has an invalid value {limit:g}: this Actor needs at least {minimum:g}.",
        )
    return collapsed(info)


def _given(asked: StartOptions) -> dict[str, Any]:
    return {wire: value for name, wire in _WIRE_NAMES.items() if (value := getattr(asked, name)) is not None}


_WIRE_NAMES = {
    "build": "build",
    "memory_mbytes": "memoryMbytes",
    "timeout_secs": "timeoutSecs",
    "max_items": "maxItems",
    "max_total_charge_usd": "maxTotalChargeUsd",
    "restart_on_error": "restartOnError",
}


def check_options(asked: StartOptions) -> None:
    """Refuse values no run may have. Raises 400."""
    memory = asked.memory_mbytes
    if memory is not None and not is_valid_memory(memory):
        raise invalid(
            f"Query parameter memory has an invalid value {memory}: memory needs to be a power of two, like 512, 1024, "
            f"2048, 4096, from {MIN_MEMORY_MBYTES} to {MAX_MEMORY_MBYTES} MB."
        )
    if asked.timeout_secs is not None and not 0 <= asked.timeout_secs <= MAX_TIMEOUT_SECS:
        raise invalid(
            f"Query parameter timeout has an invalid value {asked.timeout_secs}: it must be a number of seconds "
            f"from 0 (none) to {MAX_TIMEOUT_SECS}."
        )
    if asked.priority is not None and not MIN_PRIORITY <= asked.priority <= MAX_PRIORITY:
        raise invalid(
            f"Query parameter priority has an invalid value {asked.priority}: it must be a whole number from "
            f"{MIN_PRIORITY} to {MAX_PRIORITY}; of the runs that wait, larger ones start first."
        )
