"""What memory and time amount to: CPU share, compute units, limits."""

from __future__ import annotations

import math

from actorium.domain.usage import compute_units_of

MIN_MEMORY_MBYTES = 128
MAX_MEMORY_MBYTES = 32_768
MAX_TIMEOUT_SECS = 999_999_999
_MBYTES_OF_A_CORE = 4096
_DISK_OF_MEMORY = 2


def cpu_cores(memory_mbytes: int) -> float:
    """The share of CPU cores that comes with memory: 4096 MB make one core."""
    return memory_mbytes / _MBYTES_OF_A_CORE


def disk_mbytes(memory_mbytes: int) -> int:
    """The disk space that comes with memory."""
    return memory_mbytes * _DISK_OF_MEMORY


def compute_units(memory_mbytes: int, duration_millis: int) -> float:
    """One unit is 1024 MB for an hour."""
    return compute_units_of(memory_mbytes * duration_millis)


def is_valid_memory(memory_mbytes: int) -> bool:
    """A power of two within the platform's bounds."""
    in_bounds = MIN_MEMORY_MBYTES <= memory_mbytes <= MAX_MEMORY_MBYTES
    return in_bounds and memory_mbytes & (memory_mbytes - 1) == 0


def nearest_memory(mbytes: float) -> int:
    """The power of two nearest to an amount, within the platform's bounds."""
    return max(MIN_MEMORY_MBYTES, 1 << max(0, round(math.log2(min(mbytes, MAX_MEMORY_MBYTES)))))


def clamp_memory(memory_mbytes: int, definition: dict[str, object] | None) -> int:
    """``memory_mbytes`` within ``minMemoryMbytes``/``maxMemoryMbytes`` of actor.json; the minimum wins."""
    definition = definition or {}
    highest, lowest = definition.get("maxMemoryMbytes"), definition.get("minMemoryMbytes")
    if isinstance(highest, int):
        memory_mbytes = min(memory_mbytes, highest)
    if isinstance(lowest, int):
        memory_mbytes = max(memory_mbytes, lowest)
    return max(MIN_MEMORY_MBYTES, min(memory_mbytes, MAX_MEMORY_MBYTES))


def start_event_count(memory_mbytes: int) -> int:
    """How often a start counts as the event ``apify-actor-start``: once for every whole GB, at least once."""
    return max(1, memory_mbytes // 1024)
