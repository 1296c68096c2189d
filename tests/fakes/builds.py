"""A build as if a builder had made it."""

from __future__ import annotations

from typing import Any

from actorium.domain.models import Actor, Build, JobStatus, Meta


def finished_build(actor: Actor, now: int, actor_version: dict[str, Any] | None = None) -> Build:
    """Build 0.1.1 of ``actor``, tagged ``latest``, whose image a fake runtime can start."""
    return Build(
        id="buildbuildbuildbu",
        actor_id=actor.id,
        user_id=actor.user_id,
        version_number="0.1",
        build_number="0.1.1",
        status=JobStatus.SUCCEEDED,
        started_at=now,
        finished_at=now,
        meta=Meta("API"),
        options={"memoryMbytes": 4096},
        tag="latest",
        exit_code=0,
        status_message=None,
        running_at=now,
        abort_requested=False,
        env_vars=(),
        actor_version=actor_version or {},
        image_kind="native",
        image_state={},
    )
