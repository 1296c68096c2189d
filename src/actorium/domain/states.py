"""The life of a run as data and as one pure function.

``TRANSITIONS`` says which status may follow which; ``plan`` says what the engine does next.
The diagram in ``docs/architecture/runs.md`` is generated from ``TRANSITIONS``.
"""

from __future__ import annotations

from enum import Enum
from signal import Signals
from typing import Any

import msgspec

from actorium.domain.models import JobStatus, Run, StopReason, Wanted
from actorium.domain.standby import STOP_WINDOW_MS

RESTART_LIMIT = 3
"""Restarts on error within ``RESTART_WINDOW_MS``; then the run fails. docs: ACTOR_RESTART_ON_ERROR."""
RESTART_WINDOW_MS = 60_000
LOSS_LIMIT = 3
"""Processes that may vanish within ``RESTART_WINDOW_MS`` and be replaced; the next one fails the run."""
RESTART_PAUSE_MS = 1000
"""Pause before a restart on error for each recent one, so that the first one comes at once."""

_LAST_EVENTS: tuple[tuple[str, dict[str, Any]], ...] = (("aborting", {}), ("persistState", {"isMigrating": False}))
_S = JobStatus
_CRASHES = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS"})
_SIGNAL_BASE = 128
_KNOWN_CODES = {
    91: "an exception in it was not caught",
    126: "a command in it could not be executed",
    127: "a command in it was not found",
}
"""Codes of the SDKs (docs: runs, section 5) and of shells."""

TRANSITIONS: dict[JobStatus, dict[JobStatus, str]] = {
    _S.READY: {
        _S.RUNNING: "process started",
        _S.ABORTED: "abort",
        _S.FAILED: "cannot be started",
    },
    _S.RUNNING: {
        _S.SUCCEEDED: "exits 0",
        _S.FAILED: "exits otherwise, or runs out of memory",
        _S.TIMING_OUT: "timeout reached",
        _S.ABORTING: "abort",
    },
    _S.TIMING_OUT: {_S.TIMED_OUT: "process gone", _S.ABORTING: "abort"},
    _S.ABORTING: {_S.ABORTED: "process gone"},
    _S.SUCCEEDED: {_S.READY: "resurrect"},
    _S.FAILED: {_S.READY: "resurrect"},
    _S.TIMED_OUT: {_S.READY: "resurrect"},
    _S.ABORTED: {_S.READY: "resurrect"},
}
"""Every allowed change of a run's status, with what causes it."""


class Life(Enum):
    """What the engine sees of a run's newest attempt."""

    NONE = "none"
    """There is none, or it is over and accounted for."""
    LIVE = "live"
    EXITED = "exited"
    GONE = "gone"
    """It vanished, and nobody saw how."""


class Launch(msgspec.Struct, frozen=True):
    """Start an attempt; ``counter`` is the statistic of the run that counts it, if one does.

    ``is_loss``: the one before vanished.
    """

    counter: str | None = None
    is_loss: bool = False


class Observation(msgspec.Struct, frozen=True):
    """What is known of the newest attempt; exit fields are meaningful when EXITED.

    ``signal`` ended the main process, where one is known to have; ``exited_at`` is when it ended. ``due`` is how the
    next attempt was to be started when the last one was accounted for, should that not have come about yet; meaningful
    when NONE.
    """

    life: Life
    exit_code: int | None = None
    oom_killed: bool = False
    exited_at: int | None = None
    signal: int | None = None
    due: Launch | None = None


class Wait(msgspec.Struct, frozen=True):
    """Nothing to do until the clock reads ``until`` or something changes."""

    until: int | None = None


class Notify(msgspec.Struct, frozen=True):
    """Tell the process, then wait until ``until``."""

    events: tuple[tuple[str, dict[str, Any]], ...]
    until: int


class TimeOut(msgspec.Struct, frozen=True):
    """The time budget is used up: become TIMING-OUT."""


class Stop(msgspec.Struct, frozen=True):
    """End the process tree; ``kill`` without SIGTERM first, else with ``grace_secs`` (``None``: the usual) after it."""

    kill: bool
    grace_secs: float | None = None


class WindDown(msgspec.Struct, frozen=True):
    """The run of a Standby server is idle: begin to end it."""


class Park(msgspec.Struct, frozen=True):
    """The attempt was ended for a migration; another one continues the run where a server runs."""


class Finish(msgspec.Struct, frozen=True):
    """The run is over. ``message`` is the platform's own reason, where it has one."""

    status: JobStatus
    message: str | None = None


Step = Wait | Launch | Notify | TimeOut | WindDown | Stop | Park | Finish


def plan(run: Run, seen: Observation, now: int, *, may_launch: bool = True) -> Step:
    """The next step for ``run``, given what is seen of its newest attempt.

    ``may_launch`` is false on a server that is stopping. Times are milliseconds since the epoch.
    """
    match run.status:
        case _S.READY:
            return Launch() if may_launch else Park()
        case _S.ABORTING:
            return _plan_aborting(run, seen, now)
        case _S.TIMING_OUT:
            return Stop(kill=False) if seen.life is Life.LIVE else Finish(_S.TIMED_OUT, _timeout_message(run))
        case _S.RUNNING:
            return _plan_running(run, seen, now, may_launch=may_launch)
    return Park()


def _plan_aborting(run: Run, seen: Observation, now: int) -> Step:
    # Whatever the exit code: JavaScript Actors exit 0 on "aborting". docs: runs, section 2 rule 2.
    if seen.life is not Life.LIVE:
        return Finish(_S.ABORTED)
    if run.stop_at is not None and now < run.stop_at:
        return Notify(_LAST_EVENTS, run.stop_at)
    return Stop(kill=run.stop_reason is StopReason.ABORT)


def _plan_running(run: Run, seen: Observation, now: int, *, may_launch: bool) -> Step:
    if run.wanted is Wanted.STOP:
        return _plan_wind_down(run, seen, now)
    if run.wanted is Wanted.METAMORPH and seen.life is not Life.LIVE:
        # However the old Actor ended: the run is the new one's since the request was answered.
        return Launch() if may_launch else Park()
    match seen.life:
        case Life.NONE:
            return (seen.due or Launch("migration_count")) if may_launch else Park()
        case Life.GONE:
            losses = len(recent(run.stats.losses_at, now))
            if losses >= LOSS_LIMIT:
                return Finish(_S.FAILED, _loss_message(losses + 1))
            return Launch("migration_count", is_loss=True) if may_launch else Park()
        case Life.EXITED:
            return _plan_exited(run, seen, now, may_launch=may_launch)
        case Life.LIVE:
            if run.timeout_at is not None and now >= run.timeout_at:
                return TimeOut()
            if run.wanted is Wanted.RUN:
                if run.idle_at is not None and now >= run.idle_at:
                    return WindDown()
                return Wait(min((at for at in (run.timeout_at, run.idle_at) if at is not None), default=None))
            if run.wanted is Wanted.MIGRATE and run.stop_at is not None and now < run.stop_at:
                window = (("migrating", {"timeRemainingSecs": (run.stop_at - now) / 1000}),)
                return Notify(window, min(run.stop_at, run.timeout_at or run.stop_at))
            return Stop(kill=run.wanted in (Wanted.RESTART, Wanted.METAMORPH))
    raise AssertionError(f"unknown {seen.life}")


def _plan_wind_down(run: Run, seen: Observation, now: int) -> Step:
    # Only the run of an idle Standby server is stopped while it is RUNNING. docs: runs, section 2 rule 10.
    if seen.life is not Life.LIVE:
        return Finish(_S.SUCCEEDED)
    stop_at = run.stop_at or now
    if now < stop_at:
        return Notify(_LAST_EVENTS, stop_at)
    left_ms = stop_at + STOP_WINDOW_MS - now
    return Stop(kill=left_ms <= 0, grace_secs=max(0, left_ms) / 1000)


def _plan_exited(run: Run, seen: Observation, now: int, *, may_launch: bool) -> Step:
    # Only an exit the platform itself caused is swallowed; one inside the window is the Actor's own.
    ours = run.stop_at is not None and seen.exited_at is not None and seen.exited_at >= run.stop_at
    if ours and run.wanted in (Wanted.MIGRATE, Wanted.RESTART):
        counter = "migration_count" if run.wanted is Wanted.MIGRATE else "reboot_count"
        return Launch(counter) if may_launch else Park()
    if seen.exit_code == 0 and not seen.oom_killed:
        return Finish(_S.SUCCEEDED)
    restarts = len(recent(run.stats.restarts_at, now))
    if not run.options.restart_on_error or restarts >= RESTART_LIMIT:
        return Finish(_S.FAILED, _failure_message(run, seen))
    if not may_launch:
        return Park()
    due_at = (seen.exited_at or now) + restarts * RESTART_PAUSE_MS
    return Launch("restart_count") if now >= due_at else Wait(due_at)


def recent(times: tuple[int, ...], now: int) -> tuple[int, ...]:
    """Those of ``times`` that still count against ``RESTART_LIMIT`` or ``LOSS_LIMIT``."""
    # The clock may have been set back since.
    return tuple(at for at in times if now - RESTART_WINDOW_MS < at <= now)


def _timeout_message(run: Run) -> str:
    return f"The Actor timed out: it ran for {run.options.timeout_secs} seconds, which is its limit."


def _failure_message(run: Run, seen: Observation) -> str:
    if seen.oom_killed:
        return (
            f"The Actor ran out of memory: its processes together used more than {run.options.memory_mbytes} MB "
            "and were killed. Run it with more memory."
        )
    if seen.exit_code is None:
        return "The Actor's process ended and left no exit code."
    code = f"exit code {seen.exit_code}"
    if seen.signal is not None:
        name = _signal_name(seen.signal)
        if name in _CRASHES:
            return f"The Actor's process crashed with {name} ({code})."
        return (
            f"The Actor's process was killed with {name} ({code}), and not by this server: by somebody or something "
            "else on the machine, such as the system when memory ran out."
        )
    if seen.exit_code > _SIGNAL_BASE:
        return f"The Actor's process ended with {code}, as after {_signal_name(seen.exit_code - _SIGNAL_BASE)}."
    known = _KNOWN_CODES.get(seen.exit_code)
    return f"The Actor's process ended with {code}{'' if known is None else f': {known}'}."


def _loss_message(count: int) -> str:
    return f"The Actor's process vanished {count} times within a minute, and nobody saw how it ended."


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def diagram() -> str:
    """``TRANSITIONS`` as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> READY: start"]
    for source, targets in TRANSITIONS.items():
        name = source.value.replace("-", "_")
        lines += [f"    {name} --> {target.value.replace('-', '_')}: {why}" for target, why in targets.items()]
    return "\n".join(lines) + "\n"
