"""Webhooks, the events they wait for, and their dispatches. docs: automation, section 4."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from actorium.domain.models import TERMINAL_STATUSES, JobStatus

RUN_CREATED = "ACTOR.RUN.CREATED"
RUN_RESURRECTED = "ACTOR.RUN.RESURRECTED"
BUILD_CREATED = "ACTOR.BUILD.CREATED"
TEST = "TEST"

_RUN_ENDS = {
    JobStatus.SUCCEEDED: "ACTOR.RUN.SUCCEEDED",
    JobStatus.FAILED: "ACTOR.RUN.FAILED",
    JobStatus.TIMED_OUT: "ACTOR.RUN.TIMED_OUT",
    JobStatus.ABORTED: "ACTOR.RUN.ABORTED",
}
_BUILD_ENDS = {status: name.replace(".RUN.", ".BUILD.") for status, name in _RUN_ENDS.items()}
RUN_ENDS = frozenset(_RUN_ENDS.values())
"""The events that end a run."""
EVENT_TYPES = (RUN_CREATED, *_RUN_ENDS.values(), RUN_RESURRECTED, BUILD_CREATED, *_BUILD_ENDS.values(), TEST)

CONDITIONS = ("actorId", "actorTaskId", "actorRunId")
"""The members of which a condition has exactly one."""

MAX_WEBHOOKS = 100
"""Webhooks a user may have, ad-hoc ones not counted. docs: platform limits."""
MAX_RETRIES = 11
MAX_TEST_RETRIES = 3
_FIRST_DELAY_MS = 60_000
_SPREAD = 0.25
CALL_TIMEOUT_MS = 120_000
MAX_RESPONSE_BYTES = 2048
"""What is kept of an answer's body."""

WEBHOOK_DISABLED = "Webhook was disabled."
WEBHOOK_REMOVED = "Webhook was removed."


def run_event(from_: Collection[JobStatus], to: JobStatus) -> str | None:
    """The event of a run's change of status, if it is one."""
    if to is JobStatus.READY:
        return RUN_RESURRECTED if TERMINAL_STATUSES.issuperset(from_) else None
    return _RUN_ENDS.get(to)


def build_event(to: JobStatus) -> str | None:
    """The event of a build's change of status, if it is one."""
    return _BUILD_ENDS.get(to)


def retry_delay_ms(failed_calls: int, random: float) -> int:
    """Time until the next call after ``failed_calls``: 60 s doubled each time, give or take a quarter.

    ``random`` is from [0, 1).
    """
    doubled: int = _FIRST_DELAY_MS << (failed_calls - 1)
    return round(doubled * (1 - _SPREAD + 2 * _SPREAD * random))


class WebhookFields(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of a webhook, in the API's own words; ``signing_secret`` is sealed."""

    event_types: tuple[str, ...]
    request_url: str
    payload_template: str
    headers_template: str | None = None
    should_interpolate_strings: bool = False
    ignore_ssl_errors: bool = False
    do_not_retry: bool = False
    title: str | None = None
    description: str | None = None
    is_enabled: bool = True
    is_apify_integration: bool = False
    signing_secret: str | None = None


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook. ``condition`` is the kind (one of ``CONDITIONS``), ``condition_id`` the Actor, task or run.

    ``removed_at`` is set on one that is deleted, which stays as long as its dispatches do.
    """

    id: str
    user_id: str
    created_at: int
    modified_at: int
    is_ad_hoc: bool
    condition: str
    condition_id: str
    idempotency_key: str | None
    fields: WebhookFields
    removed_at: int | None = None
    total_dispatches: int = 0
    last_dispatch_status: str | None = None
    last_dispatch_finished_at: int | None = None


class DispatchCall(msgspec.Struct, frozen=True):
    """One HTTP request of a dispatch and what came of it."""

    started_at: int
    finished_at: int
    error_message: str | None = None
    response_status: int | None = None
    response_body: str | None = None


class Target(msgspec.Struct, frozen=True):
    """The webhook of a dispatch as it was at the event, so that the dispatch tells of it when it is gone."""

    condition: str
    condition_id: str
    request_url: str
    is_ad_hoc: bool


class Dispatch(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one webhook. ``status`` is ACTIVE until a call succeeded or none is left to make."""

    id: str
    webhook_id: str
    user_id: str
    event_id: str
    event_type: str
    event_data: dict[str, Any] | None
    created_at: int
    status: str
    target: Target
    calls: tuple[DispatchCall, ...] = ()


class Event(msgspec.Struct, frozen=True):
    """What happened: ``resource`` is the run or build as it was then, ``kind`` ``run``, ``build`` or ``none``."""

    id: str
    event_type: str
    user_id: str
    created_at: int
    data: dict[str, Any] | None
    kind: str
    resource: bytes | None
