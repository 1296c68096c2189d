"""Asking for the end of a run, by a caller or by the platform for a reason of its own."""

from __future__ import annotations

from typing import Any, Protocol

from actorium.domain.models import TERMINAL_STATUSES, JobStatus, Run, StopReason, Wanted
from actorium.kit import Clock, Signals
from actorium.services.run_options import RunSettings
from actorium.services.topics import CHILD_ABORTS_TOPIC, job_topic, run_topic
from actorium.storage import jobs
from actorium.storage.db import Tx

_S = JobStatus


class LogEnds(Protocol):
    """The part of the log store that is needed here."""

    async def finish(self, job_id: str) -> None:
        """No more will come."""
        ...

    async def platform_line(self, job_id: str, at_ms: int, text: str) -> None:
        """A line of the platform's own."""
        ...


async def ask_to_end(tx: Tx, run: Run, settings: RunSettings, *, gracefully: bool, now: int) -> Run | None:
    """Write down that ``run``, read for update, is to end; a finished one stays as it is, one in READY is over now."""
    reason = StopReason.GRACEFUL_ABORT if gracefully else StopReason.ABORT
    if run.status in TERMINAL_STATUSES:
        return run
    if settings.abort_children_with_parent:
        await jobs.want_children_aborted(tx, run, now)
    if run.status is _S.READY:
        return await jobs.transition(tx, run.id, {_S.READY}, _S.ABORTED, finished_at=now, wanted=Wanted.STOP)
    if run.status is _S.ABORTING:
        if gracefully or run.stop_reason is StopReason.ABORT:
            return run
        return await jobs.update(tx, run.id, {_S.ABORTING}, stop_at=now, stop_reason=reason)
    # A run that is timing out was told to end already: no new window.
    has_window = gracefully and run.status is _S.RUNNING
    return await jobs.transition(
        tx,
        run.id,
        {_S.RUNNING, _S.TIMING_OUT},
        _S.ABORTING,
        wanted=Wanted.STOP,
        stop_at=now + round(settings.abort_grace_secs * 1000) if has_window else now,
        stop_reason=reason,
    )


class PlatformStops:
    """Graceful aborts by the platform, with a status message that the Actor cannot replace."""

    def __init__(self, clock: Clock, signals: Signals, logs: LogEnds, settings: RunSettings) -> None:
        self._clock = clock
        self._signals = signals
        self._logs = logs
        self._settings = settings

    async def stop(self, tx: Tx, run: Run, message: str, now: int, **fields: Any) -> Run | None:
        """Set ``fields`` of ``run``, read for update, and stop it for the reason in ``message`` unless it is over."""
        if run.status not in TERMINAL_STATUSES:
            fields |= {"status_message": message, "is_status_message_terminal": True, "is_platform_message": True}
        changed = await jobs.update(tx, run.id, **fields) if fields else run
        if changed is None:
            return None
        return await ask_to_end(tx, changed, self._settings, gracefully=True, now=now)

    async def announce(self, before: Run, after: Run) -> None:
        """After the commit: tell the log and wake whoever waits, if the run was live ``before``."""
        if before.status in TERMINAL_STATUSES:
            return
        await self._logs.platform_line(after.id, self._clock.now_ms(), f"ACTOR: {after.status_message}")
        if after.status in TERMINAL_STATUSES:
            await self._logs.finish(after.id)
            self._signals.send(job_topic(after.id))
        self._signals.send(run_topic(after.id))
        self._signals.send(CHILD_ABORTS_TOPIC)
