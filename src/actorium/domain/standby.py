"""Standby: how an Actor's server is to be run, and how many runs its requests need. docs: runs, section 8."""

from __future__ import annotations

from typing import Any

import msgspec

from actorium.domain.models import Actor, StandbyTerms, Task

START_MS = 180_000
"""How long a run may take until its server answers, besides its idle timeout."""
STOP_WINDOW_MS = 15_000
"""From the ``aborting`` event to SIGTERM, and again from there to SIGKILL. docs: runs, section 6."""
RETIREMENT_MS = 10_000
"""How long a retired run lives after the last request it served."""


class StandbyConfig(msgspec.Struct, frozen=True):
    """``actorStandby`` as it applies to an Actor or one of its tasks."""

    is_enabled: bool
    build: str
    memory_mbytes: int
    passes_input: bool
    terms: StandbyTerms


class StandbyRun(msgspec.Struct, frozen=True):
    """A live run of a Standby server; ``address`` is host and port where it serves requests, once it does."""

    run_id: str
    address: tuple[str, int] | None


def standby_config(actor: Actor, task: Task | None, defaults: dict[str, Any]) -> StandbyConfig:
    """The configuration of an Actor, or of a task of it, which may have one of its own if the Actor allows that."""
    fields = {**defaults, **(actor.fields.get("actorStandby") or {})}
    is_enabled = bool(fields["isEnabled"])
    own = task.fields.get("actorStandby") if task is not None else None
    if own and not fields["disableStandbyFieldsOverride"]:
        fields |= own
        is_enabled = is_enabled and bool(fields["isEnabled"])
    return StandbyConfig(
        is_enabled=is_enabled,
        build=fields["build"],
        memory_mbytes=fields["memoryMbytes"],
        passes_input=bool(fields["shouldPassActorInput"]),
        terms=StandbyTerms(
            desired_requests=max(1, fields["desiredRequestsPerActorRun"]),
            max_requests=max(1, fields["maxRequestsPerActorRun"]),
            idle_timeout_secs=fields["idleTimeoutSecs"],
        ),
    )


def runs_needed(request_count: int, terms: StandbyTerms) -> int:
    """How many runs serve this many requests at once with none above the number desired."""
    return -(-request_count // terms.desired_requests)
