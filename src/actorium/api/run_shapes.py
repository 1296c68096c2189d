"""The run object on the wire. openapi: Run, RunShort."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from actorium.domain.charges import charged_total, event_totals, events_of, pays_for_usage
from actorium.domain.models import Run
from actorium.domain.pricing import compute_units
from actorium.domain.times import iso, iso_or_none
from actorium.domain.usage import Prices, Quantities, shown
from actorium.domain.web_addresses import WebAddresses
from actorium.kit import Clock


class RunShapes:
    """Renders runs; a live run's durations are those of this moment."""

    def __init__(self, clock: Clock, addresses: WebAddresses, prices: Prices) -> None:
        self._clock = clock
        self._addresses = addresses
        self._prices = prices

    def full(self, run: Run, base_url: str, used: Quantities | None) -> dict[str, Any]:
        """The run with every field; what it ``used`` is left out for callers who may not know (``None``)."""
        duration_millis = self._duration_millis(run)
        units = compute_units(run.options.memory_mbytes, duration_millis)
        shape: dict[str, Any] = {
            "id": run.id,
            "actId": run.actor_id,
            "userId": run.user_id,
            "actorTaskId": run.task_id,
            "startedAt": iso(run.started_at),
            "finishedAt": iso_or_none(run.finished_at),
            "status": run.status.value,
            "meta": _meta(run),
            "stats": self._stats(run, duration_millis, units),
            "options": _options(run),
            "buildId": run.build_id,
            "buildNumber": run.build_number,
            "exitCode": run.exit_code,
            "generalAccess": run.general_access,
            "defaultDatasetId": run.default_dataset_id,
            "defaultKeyValueStoreId": run.default_key_value_store_id,
            "defaultRequestQueueId": run.default_request_queue_id,
            "storageIds": run.storage_ids,
            "platformUsageBillingModel": "USER" if pays_for_usage(run) else "DEVELOPER",
            "containerUrl": self._addresses.container_url(run.container_slug),
            "isContainerServerReady": run.is_container_server_ready,
            "consoleUrl": f"{base_url}/actors/{run.actor_id}/runs/{run.id}",
        }
        if used is not None:
            shape["usage"] = shown(used)
            shape["usageUsd"] = self._prices.cost(used)
            shape["usageTotalUsd"] = _total_usd(run, self._prices.total(used))
        shape |= _pricing(run)
        if run.metamorphs:
            shape["metamorphs"] = [
                {
                    "createdAt": iso(metamorph.created_at),
                    "actorId": metamorph.actor_id,
                    "buildId": metamorph.build_id,
                    "inputKey": metamorph.input_key,
                }
                for metamorph in run.metamorphs
            ]
        if run.standby is not None:
            shape["standby"] = {"deployment": "SINGLE_TENANT"}
        # Absent until a message was ever set. docs: runs, section 1.
        if run.status_message is not None:
            shape["statusMessage"] = run.status_message
            shape["isStatusMessageTerminal"] = run.is_status_message_terminal
        return shape

    def short(self, run: Run, usage_usd: Decimal) -> dict[str, Any]:
        """The run as an item of a list. ``usageTotalUsd`` must be a number for the Python client."""
        return {
            "id": run.id,
            "actId": run.actor_id,
            "userId": run.user_id,
            "actorTaskId": run.task_id,
            "status": run.status.value,
            "startedAt": iso(run.started_at),
            "finishedAt": iso_or_none(run.finished_at),
            "buildId": run.build_id,
            "buildNumber": run.build_number,
            "buildNumberInt": build_number_int(run.build_number),
            "meta": _meta(run),
            "usageTotalUsd": _total_usd(run, usage_usd),
            "defaultKeyValueStoreId": run.default_key_value_store_id,
            "defaultDatasetId": run.default_dataset_id,
            "defaultRequestQueueId": run.default_request_queue_id,
        }

    def _duration_millis(self, run: Run) -> int:
        live = max(0, self._clock.now_ms() - run.running_at) if run.running_at is not None else 0
        return run.stats.duration_millis + live

    @staticmethod
    def _stats(run: Run, duration_millis: int, units: float) -> dict[str, Any]:
        stats = run.stats
        cpu_avg, mem_avg = stats.averages(duration_millis)
        return {
            "inputBodyLen": stats.input_body_len,
            "migrationCount": stats.migration_count,
            "rebootCount": stats.reboot_count,
            "restartCount": stats.restart_count,
            "resurrectCount": stats.resurrect_count,
            "metamorph": len(run.metamorphs),
            "memAvgBytes": mem_avg,
            "memMaxBytes": stats.mem_max_bytes,
            "memCurrentBytes": stats.mem_current_bytes,
            "cpuAvgUsage": cpu_avg,
            "cpuMaxUsage": stats.cpu_max_usage,
            "cpuCurrentUsage": stats.cpu_current_usage,
            "netRxBytes": stats.net_rx_bytes,
            "netTxBytes": stats.net_tx_bytes,
            "durationMillis": duration_millis,
            "runTimeSecs": duration_millis / 1000,
            "computeUnits": units,
        }


def _total_usd(run: Run, usage_usd: Decimal) -> float:
    """What the run costs its user: what the Actor charges, and the services' use unless the developer pays that."""
    return float(charged_total(run) + (usage_usd if pays_for_usage(run) else 0))


def _pricing(run: Run) -> dict[str, Any]:
    """Prices and charges; nothing for a run of an Actor without prices. docs: runs, section 1."""
    if run.pricing_info is None:
        return {}
    shape: dict[str, Any] = {"pricingInfo": run.pricing_info}
    events = events_of(run.pricing_info)
    if events:
        shape["chargedEventCounts"] = run.charged_event_counts or {}
        shape["eventUsage"] = {
            name: {"eventTitle": events[name]["eventTitle"], "eventTotalUsd": float(total)}
            for name, total in event_totals(run).items()
        }
    if run.charging_stopped_at is not None:
        shape["chargingStoppedAt"] = iso(run.charging_stopped_at)
    return shape


def _meta(run: Run) -> dict[str, Any]:
    meta = run.meta
    shape = {"origin": meta.origin, "clientIp": meta.client_ip, "userAgent": meta.user_agent}
    if meta.schedule_id is not None:
        shape |= {"scheduleId": meta.schedule_id, "scheduledAt": iso_or_none(meta.scheduled_at)}
        kind = "scheduledAct2Id" if meta.scheduled_act2_id is not None else "scheduledActorTaskId"
        shape[kind] = meta.schedule_action_id
    return shape


def _options(run: Run) -> dict[str, Any]:
    options = run.options
    shape: dict[str, Any] = {
        "build": options.build,
        "timeoutSecs": options.timeout_secs,
        "memoryMbytes": options.memory_mbytes,
        "diskMbytes": options.disk_mbytes,
        "restartOnError": options.restart_on_error,
    }
    if options.priority:
        shape["priority"] = options.priority
    if options.debug is not None:
        shape["debugPort"] = options.debug.port
    if options.max_items is not None:
        shape["maxItems"] = options.max_items
    if options.max_total_charge_usd is not None:
        shape["maxTotalChargeUsd"] = options.max_total_charge_usd
    if options.max_total_usage_usd is not None:
        shape["maxTotalUsageUsd"] = options.max_total_usage_usd
    return shape


def build_number_int(build_number: str) -> int:
    """A build number as one sortable integer. docs: VERSION_INT_MAJOR_BASE."""
    major, minor, patch = (int(part) for part in build_number.split("."))
    return major * 10_000_000 + minor * 100_000 + patch
