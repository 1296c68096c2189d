"""Watches what an attempt's whole tree uses, often when it could soon reach its memory limit, seldom when calm."""

from __future__ import annotations

import os
import resource
import time
from typing import Any

from . import proctree

_INTERVAL_SECS = (0.1, 0.5)
_BUSY_INTERVAL_SECS = 0.25
_BUSY_CORES = 0.5
_CALMER = 1.5
_NEAR = 0.75
_SOON_SECS = 2.0
# Measuring a tree of thousands must not itself be a load: at most a twentieth of the time.
_COST_SHARE = 20


class MemoryWatch:
    """Measures the tree below this process. ``due_at`` is on the monotonic clock."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._interval_secs = _INTERVAL_SECS[0]
        self._measured_at = time.monotonic()
        self._mem_bytes = self._mem_max_bytes = self._count = 0
        self._cpu_secs = 0.0
        self.due_at = self._measured_at + self._interval_secs

    @property
    def exceeded(self) -> bool:
        """Whether the last measurement was over the limit."""
        return self._mem_bytes > self._limit_bytes

    def measure(self, now: float) -> None:
        """Take a measurement and decide when the next one is due."""
        sample = proctree.sample(os.getpid(), self._limit_bytes)
        cost_secs = time.monotonic() - now
        elapsed = max(now - self._measured_at, 0.001)
        growth = max(0, sample.mem_bytes - self._mem_bytes) / elapsed
        # A child that nobody waits for takes its seconds along; what was counted once stays counted.
        cpu_secs = max(self._cpu_secs, sample.cpu_secs + _waited_secs())
        busy = (cpu_secs - self._cpu_secs) / elapsed > _BUSY_CORES
        self._interval_secs = self._next_interval(sample.mem_bytes, growth, busy=busy)
        self._mem_bytes, self._count, self._cpu_secs = sample.mem_bytes, sample.count, cpu_secs
        self._mem_max_bytes = max(self._mem_max_bytes, sample.mem_bytes)
        self._measured_at = now
        self.due_at = now + max(self._interval_secs, cost_secs * _COST_SHARE)

    def _next_interval(self, mem_bytes: int, growth: float, *, busy: bool) -> float:
        shortest, longest = _INTERVAL_SECS
        if mem_bytes > self._limit_bytes * _NEAR or mem_bytes + growth * _SOON_SECS > self._limit_bytes:
            return shortest
        return min(self._interval_secs * _CALMER, _BUSY_INTERVAL_SECS if busy else longest)

    def usage(self, at_ms: int) -> dict[str, Any]:
        """The last measurement as the runtime's ``Usage``."""
        return {
            "at_ms": at_ms,
            "cpu_secs": self._cpu_secs,
            "mem_bytes": self._mem_bytes,
            "mem_max_bytes": self._mem_max_bytes,
            "process_count": self._count,
        }

    def final_usage(self, at_ms: int, largest_bytes: int) -> dict[str, Any]:
        """The totals once every process has been waited for; ``largest_bytes`` is the biggest one's peak."""
        self._cpu_secs = max(self._cpu_secs, _waited_secs())
        self._mem_max_bytes = max(self._mem_max_bytes, largest_bytes)
        self._mem_bytes = self._count = 0
        return self.usage(at_ms)


def _waited_secs() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
