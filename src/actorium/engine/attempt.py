"""The supervision of one live run: do what ``plan`` says, one step after the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import structlog

from actorium.domain.models import TERMINAL_STATUSES, Attempt, JobStatus, Run, StopReason, Wanted
from actorium.domain.pricing import cpu_cores
from actorium.domain.standby import STOP_WINDOW_MS
from actorium.domain.states import (
    Finish,
    Launch,
    Life,
    Notify,
    Observation,
    Park,
    Stop,
    TimeOut,
    Wait,
    WindDown,
    plan,
    recent,
)
from actorium.engine.launch import Ended, LostRaceError, launch, open_log
from actorium.engine.parts import Meter, Parts
from actorium.engine.readiness import until_ready
from actorium.kit import Tasks, wait_until
from actorium.runtimes import Exit, Handle, Phase, StartError, Usage
from actorium.services.events import Event, SystemInfo
from actorium.services.topics import STANDBY_TOPIC, job_topic, run_topic
from actorium.storage import jobs, web_servers
from actorium.storage.db import Tx

T = TypeVar("T")
_log = structlog.get_logger("actorium.engine")
_RETRY_SECS = 1.0
_SAMPLE_SECS = 1.0
_SAMPLES_PER_SAVE = 5
_CPU_OVERLOADED = 0.95


class LiveRun:
    """Supervises one run until it is over, parked, or this object is cancelled.

    Cancelling leaves the process alone: the next server attaches to it again.
    """

    def __init__(self, parts: Parts, run: Run) -> None:
        self._parts = parts
        self._run = run
        self._stats = run.stats
        self._tasks = Tasks(f"run-{run.id}")
        self._changed = asyncio.Event()
        self._may_launch = True
        self._handle: Handle | None = None
        self._exit: Exit | None = None
        self._vanished = False
        self._meter = Meter(run.started_at)
        self._ended: Ended | None = None
        self._due: Launch | None = None
        self._idle_since: int | None = None
        self._pump: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._stopping_kill: bool | None = None
        self._notified: tuple[str, ...] = ()
        self._clock_steps = 0

    @property
    def user_id(self) -> str:
        """Whose run it is."""
        return self._run.user_id

    @property
    def memory_mbytes(self) -> int:
        """What the run has reserved."""
        return self._run.options.memory_mbytes

    def allow_launching(self, *, allowed: bool) -> None:
        """Whether further attempts may be started here: not when the server is about to stop, or drained."""
        self._may_launch = allowed
        self._changed.set()

    def notice(self, current: Run) -> None:
        """Act on what is asked of the run, should its signal have been lost."""
        known = self._run
        if (current.status, current.wanted, current.stop_at) != (known.status, known.wanted, known.stop_at):
            self._changed.set()

    def move_times(self, step_ms: int) -> None:
        """Take over that the clock was set; what was read from the database before is read anew."""
        self._clock_steps += 1
        self._meter.move(step_ms)
        if self._idle_since is not None:
            self._idle_since += step_ms
        if self._exit is not None and self._exit.finished_at_ms is not None:
            moved = self._exit.finished_at_ms + step_ms
            self._exit = msgspec.structs.replace(self._exit, finished_at_ms=moved)
        self._changed.set()

    async def supervise(self) -> None:
        """Work until nothing is left to do."""
        async with self._parts.signals.listen(run_topic(self._run.id)) as changed:
            self._changed = changed
            try:
                await self._attach()
                while await self._step():
                    pass
            finally:
                await self._tasks.stop()

    async def _attach(self) -> None:
        """Find the newest attempt of a run that was started before this server was."""
        if self._run.status is JobStatus.READY and self._run.stats.resurrect_count == 0:
            return

        async def op(tx: Tx) -> list[Attempt]:
            return await jobs.list_attempts(tx, self._run.id)

        attempts = await self._parts.db.read("list attempts", op)
        await open_log(self._parts, self._run)
        position = await self._parts.logs.recover(self._run.id)
        if not attempts:
            return
        last = attempts[-1]
        if last.finished_at is not None or last.handle is None:
            self._idle_since = last.finished_at
            return
        handle = msgspec.convert(last.handle, Handle)
        seen = (await self._parts.runtime.inspect([handle]))[0]
        self._meter = Meter(last.created_at)
        if seen.phase is Phase.GONE:
            self._handle, self._vanished = handle, True
            return
        self._follow(handle, _offset(position, handle.attempt_id))

    async def _step(self) -> bool:
        self._changed.clear()
        steps = self._clock_steps
        run = await self._read()
        if run is None or run.status in TERMINAL_STATUSES:
            return False
        if steps != self._clock_steps:
            return True
        self._run = run
        step = plan(run, self._observation(), self._parts.clock.now_ms(), may_launch=self._may_launch)
        match step:
            case Launch():
                return await self._launch(step)
            case Wait(until):
                await wait_until(self._parts.clock, self._changed, until)
            case Notify():
                await self._notify(step)
            case TimeOut():
                await self._time_out()
            case WindDown():
                await self._wind_down()
            case Stop(kill, grace_secs):
                self._stop(kill=kill, grace_secs=grace_secs)
                await self._changed.wait()
            case Park():
                await self._park()
                return False
            case Finish():
                await self._finish(step)
                return False
        return True

    async def _read(self) -> Run | None:
        async def op(tx: Tx) -> Run | None:
            return await jobs.get_run(tx, self._run.id)

        return await self._parts.db.read("read live run", op)

    def _observation(self) -> Observation:
        if self._exit is not None and self._exit.error is None:
            return Observation(
                Life.EXITED,
                self._exit.exit_code,
                self._exit.oom_killed,
                self._exit.finished_at_ms,
                self._exit.signal,
            )
        if self._vanished or self._exit is not None:
            return Observation(Life.GONE)
        return Observation(Life.NONE, due=self._due) if self._handle is None else Observation(Life.LIVE)

    async def _launch(self, step: Launch) -> bool:
        now, counter = self._parts.clock.now_ms(), step.counter
        ended = await self._settle()
        stats = self._stats
        if counter is not None:
            stats = msgspec.structs.replace(stats, **{counter: getattr(stats, counter) + 1})
            if self._due is None:
                await self._say(_LOSS_LINE if step.is_loss else _RELAUNCH_LINES[counter])
        if counter == "restart_count":
            stats = msgspec.structs.replace(stats, restarts_at=(*recent(stats.restarts_at, now), now))
        if step.is_loss:
            stats = msgspec.structs.replace(stats, losses_at=(*recent(stats.losses_at, now), now))
        self._due = step
        try:
            launched = await launch(self._parts, self._run, stats, ended, self._idle_since)
        except LostRaceError:
            return True
        except StartError as error:
            await self._fail_to_start(str(error), ended)
            return False
        self._stats, self._run = stats, launched.run
        self._meter = Meter(launched.started_at)
        self._ended, self._due = None, None
        self._stopping_kill, self._notified = None, ()
        self._follow(launched.handle, 0)
        return True

    def _follow(self, handle: Handle, offset: int) -> None:
        self._handle = handle
        self._pump = self._tasks.spawn("log", self._pump_log(handle, offset))
        self._tasks.spawn("wait", self._await_exit(handle))
        self._tasks.spawn("sample", self._sample(handle))
        if self._run.web_server_port is not None and not self._run.is_container_server_ready:
            self._probe = self._tasks.spawn("probe", self._await_ready(self._run))

    async def _await_ready(self, run: Run) -> None:
        host, port, running_at = run.web_server_host, run.web_server_port, run.running_at
        if host is None or port is None or running_at is None:
            return
        is_standby = run.standby is not None
        found = await until_ready(self._parts.clock, self._parts.find_web_server, host, port, is_standby=is_standby)

        async def op(tx: Tx) -> bool:
            idle_ms = None if run.standby is None else run.standby.idle_timeout_secs * 1000
            idle_at = None if idle_ms is None else self._parts.clock.now_ms() + idle_ms
            return await web_servers.mark_ready(tx, run.id, running_at, found, idle_at)

        await self._insist("note that the web server answers", lambda: self._parts.db.write("ready", op))
        self._changed.set()
        self._signal_standby()

    def _signal_standby(self) -> None:
        if self._run.standby is not None:
            self._parts.signals.send(STANDBY_TOPIC)

    async def _await_exit(self, handle: Handle) -> None:
        ended = await self._insist("wait for the process", lambda: self._parts.runtime.wait(handle))
        if self._handle is handle:
            self._exit = ended
            self._changed.set()

    async def _insist(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        """Do ``act`` until it succeeds: a runtime or database that is away comes back."""
        while True:
            try:
                return await act()
            except Exception:  # noqa: BLE001  logged and tried again
                _log.exception("failed, trying again", action=what, run_id=self._run.id)
            await self._parts.clock.sleep(_RETRY_SECS)

    async def _pump_log(self, handle: Handle, offset: int) -> None:
        async with contextlib.aclosing(self._parts.runtime.logs(handle, offset)) as chunks:
            async for chunk in chunks:
                position = f"{handle.attempt_id}:{chunk.next_offset}"
                await self._parts.logs.append(self._run.id, chunk.at_ms, chunk.data, position=position)
        await self._parts.logs.flush(self._run.id)

    async def _sample(self, handle: Handle) -> None:
        count = 0
        while self._handle is handle and self._exit is None:
            usage = await self._insist("measure", lambda: self._parts.runtime.stats(handle))
            if usage is not None and self._handle is handle:
                self._measure(usage)
                count += 1
                if count % _SAMPLES_PER_SAVE == 1:
                    await self._insist("save statistics", self._save_stats)
            await self._parts.clock.sleep(_SAMPLE_SECS)

    def _measure(self, usage: Usage) -> None:
        self._meter.add(usage)
        cpu_secs, mem_byte_secs = self._meter.totals
        current = self._meter.cpu_current
        stats = self._stats = msgspec.structs.replace(
            self._stats,
            mem_max_bytes=max(self._stats.mem_max_bytes, usage.mem_max_bytes),
            mem_current_bytes=usage.mem_bytes,
            cpu_max_usage=max(self._stats.cpu_max_usage, current),
            cpu_current_usage=current,
            net_rx_bytes=max(self._stats.net_rx_bytes, usage.net_rx_bytes),
            net_tx_bytes=max(self._stats.net_tx_bytes, usage.net_tx_bytes),
            attempt_cpu_secs=cpu_secs,
            attempt_mem_byte_secs=mem_byte_secs,
        )
        cpu_avg, mem_avg = stats.averages(self._duration_millis(usage.at_ms))
        granted = cpu_cores(self._run.options.memory_mbytes) * 100
        self._parts.events.send_system_info(
            self._run.id,
            SystemInfo(
                created_at=usage.at_ms,
                mem_current_bytes=usage.mem_bytes,
                mem_avg_bytes=mem_avg,
                mem_max_bytes=self._run.options.memory_mbytes * 1024 * 1024,
                cpu_current_usage=current,
                cpu_avg_usage=cpu_avg,
                cpu_max_usage=stats.cpu_max_usage,
                is_cpu_overloaded=current / granted > _CPU_OVERLOADED,
            ),
        )

    def _duration_millis(self, now: int) -> int:
        since = self._run.running_at
        return self._stats.duration_millis + (max(0, now - since) if since is not None else 0)

    async def _save_stats(self) -> None:
        live = (JobStatus.RUNNING, JobStatus.TIMING_OUT, JobStatus.ABORTING)
        stats = self._stats

        async def op(tx: Tx) -> None:
            await jobs.update(tx, self._run.id, live, stats=stats)

        await self._parts.db.write("save statistics", op)

    async def _notify(self, step: Notify) -> None:
        names = tuple(name for name, _ in step.events)
        if self._notified != names:
            self._notified = names
            self._parts.events.set_pending(self._run.id, [Event(name, data) for name, data in step.events])
            for name, data in step.events:
                self._parts.events.send(self._run.id, name, data)
        await wait_until(self._parts.clock, self._changed, step.until)

    async def _time_out(self) -> None:
        now = self._parts.clock.now_ms()

        async def op(tx: Tx) -> None:
            await jobs.transition(
                tx,
                self._run.id,
                {JobStatus.RUNNING},
                JobStatus.TIMING_OUT,
                stop_at=now,
                stop_reason=StopReason.TIMEOUT,
            )

        await self._parts.db.write("time out run", op)

    async def _wind_down(self) -> None:
        now = self._parts.clock.now_ms()

        async def op(tx: Tx) -> Run | None:
            current = await jobs.get_run(tx, self._run.id, for_update=True)
            if current is None or current.wanted is not Wanted.RUN or current.idle_at is None or current.idle_at > now:
                return None
            stop = {"wanted": Wanted.STOP, "stop_at": now + STOP_WINDOW_MS, "stop_reason": StopReason.IDLE}
            return await jobs.update(tx, current.id, {JobStatus.RUNNING}, **stop)

        if (stopping := await self._parts.db.write("wind down Standby run", op)) is not None:
            await self._say(_REPLACED_LINE if stopping.is_retired else _IDLE_LINE)
            self._signal_standby()

    def _stop(self, *, kill: bool, grace_secs: float | None) -> None:
        if self._handle is None or self._stopping_kill is kill or self._stopping_kill:
            return
        self._stopping_kill = kill
        wait_secs = self._parts.settings.stop_grace_secs if grace_secs is None else grace_secs
        grace_secs = 0.0 if kill else wait_secs
        handle = self._handle
        stop = self._insist("stop the process", lambda: self._parts.runtime.stop(handle, grace_secs))
        self._tasks.spawn("stop", stop)

    async def _settle(self) -> Ended | None:
        """Take in everything an ended attempt left: its log to the last byte, its last measurement.

        Returns the attempt that still has to be written down as ended, once with what comes after it.
        """
        handle, ended = self._handle, self._exit
        if handle is None:
            return self._ended
        reading = self._pump if self._pump is not None else self._parts.logs.flush(self._run.id)
        usage, _ = await asyncio.gather(self._parts.runtime.stats(handle), reading)
        if usage is not None:
            self._measure(usage)
        now = self._parts.clock.now_ms()
        finished_at = (ended.finished_at_ms if ended is not None else None) or now
        self._stats = msgspec.structs.replace(
            self._stats,
            mem_current_bytes=0,
            cpu_current_usage=0.0,
            duration_millis=self._duration_millis(finished_at),
            cpu_secs=self._stats.cpu_secs + self._stats.attempt_cpu_secs,
            mem_byte_secs=self._stats.mem_byte_secs + self._stats.attempt_mem_byte_secs,
            attempt_cpu_secs=0.0,
            attempt_mem_byte_secs=0.0,
        )
        self._idle_since = finished_at
        if self._probe is not None:
            self._probe.cancel()
        self._parts.events.clear_pending(self._run.id)
        self._ended = Ended(handle.attempt_id, finished_at, ended if ended is not None else Exit(error="gone"))
        self._handle, self._pump = None, None
        self._exit, self._vanished = None, False
        return self._ended

    async def _park(self) -> None:
        ended = await self._settle()
        if ended is None:
            return
        await self._say("The run was taken off this server; it goes on when the server starts runs again.")
        at_rest = {"stats": self._stats, "running_at": None, "is_container_server_ready": False}

        async def op(tx: Tx) -> None:
            await jobs.finish_attempt(tx, ended.attempt_id, ended.finished_at, msgspec.to_builtins(ended.exit))
            await jobs.update(tx, self._run.id, {JobStatus.RUNNING}, **at_rest)

        await self._parts.db.write("park run", op)
        self._parts.events.close_run(self._run.id)

    async def _finish(self, step: Finish) -> None:
        ended = await self._settle()
        await self._write_end(step, None if ended is None else ended.exit.exit_code, ended)

    async def _fail_to_start(self, reason: str, ended: Ended | None) -> None:
        message = f"Cannot start run: {reason}"
        await self._say(message)
        await self._write_end(Finish(JobStatus.FAILED, message), None, ended)

    async def _say(self, text: str) -> None:
        self._parts.logs.open(self._run.id)
        await self._parts.logs.platform_line(self._run.id, self._parts.clock.now_ms(), f"ACTOR: {text}")

    async def _write_end(self, step: Finish, exit_code: int | None, ended: Ended | None) -> None:
        """The final status, in one transaction with everything that belongs to it."""
        stats, before = self._stats, self._run.status
        finished_at = self._parts.clock.now_ms()

        async def op(tx: Tx) -> Run | None:
            current = await jobs.get_run(tx, self._run.id, for_update=True)
            if current is None or current.status is not before:
                return None
            message: dict[str, Any] = {}
            if step.message is not None and not current.is_status_message_terminal:
                message = {"status_message": step.message, "is_platform_message": True}
            if ended is not None:
                await jobs.finish_attempt(tx, ended.attempt_id, ended.finished_at, msgspec.to_builtins(ended.exit))
            return await jobs.transition(
                tx,
                self._run.id,
                {before},
                step.status,
                finished_at=finished_at,
                running_at=None,
                is_container_server_ready=False,
                exit_code=exit_code,
                stats=stats,
                **message,
            )

        if step.message is not None:
            await self._say(step.message)
        # An abort between the exit and this write wins: it finds no process left and ends ABORTED.
        while await self._parts.usage.settle(self._run.id, "finish run", op) is None:
            run = await self._read()
            if run is None or run.status in TERMINAL_STATUSES:
                break
            before = run.status
            if run.status is JobStatus.ABORTING:
                step = Finish(JobStatus.ABORTED)
            elif run.status is JobStatus.TIMING_OUT:
                step = Finish(JobStatus.TIMED_OUT, step.message)
        await self._parts.logs.finish(self._run.id)
        self._parts.events.close_run(self._run.id)
        self._parts.signals.send(job_topic(self._run.id))
        self._signal_standby()


_LOSS_LINE = "The process is gone, and nobody saw how it ended; continuing the run in a new one."
_IDLE_LINE = "Actor Standby server was idle for too long, finishing run."
"""The platform's own words. docs: runs, section 8."""
_REPLACED_LINE = "Actor Standby server was replaced, finishing run."
_RELAUNCH_LINES = {
    "migration_count": "Continuing the run in a new process.",
    "reboot_count": "Rebooting the run: starting a new process.",
    "restart_count": "The process failed; restarting it, as restartOnError is set.",
}


def _offset(position: str | None, attempt_id: str) -> int:
    """Where to go on reading an attempt's output, given the log's recovered position."""
    if position is None:
        return 0
    owner, _, offset = position.rpartition(":")
    return int(offset) if owner == attempt_id else 0
