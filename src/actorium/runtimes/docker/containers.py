"""What a container is made with, and what the engine's description of one means. No calls here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from actorium.domain.pricing import cpu_cores
from actorium.runtimes import Exit, Handle, RunSpec, Usage

NAME = "docker"
VERSION = 1
LABEL_INSTALLATION = "com.actorium.installation"
_LABEL_ATTEMPT = "com.actorium.attempt"
_LABEL_RUN = "com.apify.actRunId"
_LABEL_BUILD = "com.apify.actBuildId"
_MBYTE = 1024 * 1024
# What a root process needs to install files, change its user and signal its children; nothing of the machine.
_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]
_PIDS_LIMIT = 4096
_CPU_SHARES_PER_CORE = 1024
_LOG_FILE_MBYTES = 1024
_HOST_NAME = "host.docker.internal"
_WEB_SERVER_PORT = "ACTOR_WEB_SERVER_PORT"
_ENGINE_STOPS_SECS = 60.0
_STOPPED_BY_ENGINE = frozenset({137, 143, 255})


class DockerImage(msgspec.Struct, frozen=True):
    """State of an image that runs as a container: its id on the engine, and the build that made it."""

    image: str
    build_id: str
    tag: str = ""


class EngineFacts(msgspec.Struct, frozen=True):
    """What decides how containers are made."""

    has_local_logs: bool
    has_cpu_quota: bool
    cpu_count: int


def container_name(handle: Handle) -> str:
    """The name of an attempt's container."""
    return f"actorium-{handle.attempt_id}"


def container_config(
    spec: RunSpec,
    image: DockerImage,
    facts: EngineFacts,
    *,
    installation: str,
    network: str,
    publish_host: str,
    limits_disk: bool,
) -> dict[str, Any]:
    """The body of the call that makes an attempt's container; its web server is published at ``publish_host``."""
    cores = cpu_cores(spec.memory_mbytes)
    host: dict[str, Any] = {
        "Init": True,
        "NetworkMode": network,
        "Memory": spec.memory_mbytes * _MBYTE,
        "MemorySwap": spec.memory_mbytes * _MBYTE,
        "CpuShares": max(2, round(cores * _CPU_SHARES_PER_CORE)),
        "PidsLimit": _PIDS_LIMIT,
        "ShmSize": spec.memory_mbytes * _MBYTE // 2,
        "CapDrop": ["ALL"],
        "CapAdd": _CAPABILITIES,
        "SecurityOpt": ["no-new-privileges"],
        "RestartPolicy": {"Name": "no"},
    }
    if facts.has_cpu_quota:
        # A quota below one core would make every start several times slower.
        host["NanoCpus"] = round(min(facts.cpu_count, max(1.0, cores)) * 1e9)
    if facts.has_local_logs:
        options = {"max-size": f"{_LOG_FILE_MBYTES}m", "max-file": "2", "compress": "false"}
        host["LogConfig"] = {"Type": "local", "Config": options}
    if limits_disk:
        host["StorageOpt"] = {"size": f"{spec.disk_mbytes}m"}
    if any(f"//{_HOST_NAME}" in value for value in spec.env.values()):
        host["ExtraHosts"] = [f"{_HOST_NAME}:host-gateway"]
    config: dict[str, Any] = {
        "Image": image.image,
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "Labels": {
            LABEL_INSTALLATION: installation,
            _LABEL_ATTEMPT: spec.attempt_id,
            _LABEL_RUN: spec.run_id,
            _LABEL_BUILD: image.build_id,
        },
        "HostConfig": host,
    }
    if spec.published_port:
        port = f"{spec.env[_WEB_SERVER_PORT]}/tcp"
        config["ExposedPorts"] = {port: {}}
        host["PortBindings"] = {port: [{"HostIp": publish_host, "HostPort": str(spec.published_port)}]}
    return config


def handle_of(labels: dict[str, str]) -> Handle:
    """The handle of a container made here."""
    return Handle(NAME, VERSION, labels.get(_LABEL_ATTEMPT, ""), labels.get(_LABEL_RUN, ""), {})


def is_over(state: dict[str, Any]) -> bool:
    """Whether a container has run and ended, given its ``State``."""
    # "stopped" is Podman's.
    return state["Status"] in ("exited", "dead", "stopped")


def may_have_gone_with_engine(state: dict[str, Any]) -> bool:
    """Whether a container that is over, given its ``State``, has an exit code as engines that go down leave."""
    return state["ExitCode"] in _STOPPED_BY_ENGINE and not state.get("OOMKilled")


def exit_of(state: dict[str, Any], engine_started: float) -> Exit:
    """How a container ended, given its ``State``; ``engine_started`` as of ``engine_started_at``, 0 if not known."""
    started_at, finished_at = _seconds(state["StartedAt"]), _seconds(state["FinishedAt"])
    code, oom_killed = int(state["ExitCode"]), bool(state.get("OOMKilled"))
    finished_at_ms = round(finished_at * 1000) if finished_at > 0 else None
    with_engine = started_at < engine_started and finished_at < engine_started + _ENGINE_STOPS_SECS
    if may_have_gone_with_engine(state) and with_engine:
        return Exit(error="lost", finished_at_ms=finished_at_ms)
    return Exit(code=code, oom_killed=oom_killed, finished_at_ms=finished_at_ms)


def usage_of(sample: dict[str, Any], mem_max_bytes: int) -> Usage | None:
    """A measurement out of the engine's statistics, ``None`` for one of a container that is not running."""
    cpu_nanos = sample.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage", 0)
    memory = sample.get("memory_stats", {})
    if not cpu_nanos or "usage" not in memory:
        return None
    details = memory.get("stats", {})
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    mem_bytes = max(0, memory["usage"] - cache)
    networks = (sample.get("networks") or {}).values()
    return Usage(
        at_ms=round(_seconds(sample["read"]) * 1000),
        cpu_secs=cpu_nanos / 1e9,
        mem_bytes=mem_bytes,
        mem_max_bytes=max(mem_max_bytes, mem_bytes),
        # Less the init process; the kernel counts threads here.
        process_count=max(1, sample.get("pids_stats", {}).get("current", 0) - 1),
        net_rx_bytes=sum(network["rx_bytes"] for network in networks),
        net_tx_bytes=sum(network["tx_bytes"] for network in networks),
    )


def engine_started_at(bridge: dict[str, Any]) -> float:
    """When the engine was started: it makes its default network anew each time."""
    return _seconds(bridge["Created"])


def _seconds(stamp: str) -> float:
    """Seconds since the epoch of an RFC 3339 time with up to nine decimals."""
    date, point, rest = stamp.partition(".")
    if point:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        stamp = f"{date}.{rest[: min(digits, 6)]:0<6}{rest[digits:]}"
    return datetime.fromisoformat(stamp).timestamp()
