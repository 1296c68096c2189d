"""The names of the signals with which services and the engine wake each other."""

from __future__ import annotations

RUNS_TOPIC = "runs"
"""Signalled when a run waits to be started."""

CHILD_ABORTS_TOPIC = "child-aborts"
"""Signalled when the children of a run are to be aborted."""
SCHEDULES_TOPIC = "schedules"
"""Signalled when the next time of a schedule may have changed, or a tick waits."""

WEBHOOKS_TOPIC = "webhooks"
"""Signalled when a dispatch waits to be sent; an event's dispatches are found with ``RUNS_TOPIC`` and the like."""

STANDBY_TOPIC = "standby"
"""Signalled when a run of a Standby server begins to serve requests or ends."""


def run_topic(run_id: str) -> str:
    """Signalled when something else is wanted of a live run."""
    return f"run:{run_id}"


def job_topic(job_id: str) -> str:
    """Signalled when a run or build is over."""
    return f"job:{job_id}"
