"""Logs of runs and builds: append, read from an offset, follow.

A log belongs to a run or build and grows over all its attempts. Disk work happens in a few threads; the event loop
only hands over. Output is taken exactly once: ``recover`` says from which position to read it on after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from actorium.kit import Tasks
from actorium.storage.log_files import (
    Entry,
    Flush,
    LogReader,
    LogWriter,
    Output,
    PlatformLine,
    delete_log,
    log_path,
    read_range,
    stored_size,
)

T = TypeVar("T")
_log = structlog.get_logger("actorium.logs")
CHECKPOINT_SECS = 1.0
CHECKPOINT_BYTES = 16_777_216
_TURN_BYTES = 262_144
"""Most output of one log handled before the other logs have their turn."""
_TURN_ENTRIES = 2_000
_QUEUE_BYTES = 524_288
"""Output waiting for the disk from which ``append`` makes its caller wait."""
_POLL_SECS = 1.0


class _Log:
    """A log this process writes."""

    def __init__(self, writer: LogWriter) -> None:
        self.writer = writer
        self.queue: deque[tuple[Entry | None, asyncio.Future[None] | None]] = deque()
        self.queued_bytes = 0
        self.room = asyncio.Event()
        self.room.set()
        self.pump: asyncio.Task[None] | None = None
        self.saving = asyncio.Lock()
        self.saved_at = asyncio.get_running_loop().time()
        self.saved_size = 0
        self.save_due: asyncio.TimerHandle | None = None
        self.size = 0
        self.is_loaded = False
        self.is_finished = False
        self.openings = 1


class LogStore:
    """All logs under ``root``. ``max_log_bytes`` caps the process output kept per log (0: no cap)."""

    def __init__(
        self,
        root: Path,
        max_log_bytes: int = 0,
        *,
        checkpoint_secs: float = CHECKPOINT_SECS,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
    ) -> None:
        self._root = root
        self._max_log_bytes = max_log_bytes
        self._checkpoint_secs = checkpoint_secs
        self._checkpoint_bytes = checkpoint_bytes
        self._logs: dict[str, _Log] = {}
        self._followers: dict[str, set[asyncio.Event]] = {}
        self._tasks = Tasks("logs")
        self._writers = ThreadPoolExecutor(2, "logs-write")
        self._savers = ThreadPoolExecutor(2, "logs-save")
        self._readers = ThreadPoolExecutor(2, "logs-read")
        self._is_stopped = False

    async def start(self) -> None:
        """Make the folder. Raises ``OSError``."""
        await self._in(self._savers, partial(self._root.mkdir, mode=0o700, parents=True, exist_ok=True))

    # Writing

    def open(self, job_id: str, secrets: Sequence[str] = ()) -> None:
        """More will come for this log, also after it was finished (resurrection): followers wait for it.

        ``secrets`` are texts to mask in what comes, besides those given before. They live in memory only: give them
        again when a log is opened after a restart.
        """
        log = self._logs.get(job_id)
        if log is None:
            self._logs[job_id] = _Log(LogWriter(log_path(self._root, job_id), self._max_log_bytes, secrets))
        else:
            log.is_finished = False
            log.openings += 1
            log.writer.mask(secrets)
        self._wake(job_id)

    async def recover(self, job_id: str) -> str | None:
        """Open the log as the last checkpoint left it; the position its process's output is to be read on from.

        ``None``: from the beginning. Raises ``OSError`` when the log cannot be opened.
        """
        self.open(job_id)
        log = self._logs[job_id]
        await self._in(self._writers, log.writer.load)
        await self._barrier(job_id, log)
        return log.writer.position

    async def append(self, job_id: str, at_ms: int, data: bytes, *, position: str | None = None) -> None:
        """Add raw process output, cut anywhere. ``position`` names the place in the output right after ``data``.

        ``data`` is taken at once, even when the caller is cancelled; the wait only slows down a process that writes
        faster than the disk. Output that cannot be stored (full disk) is dropped with a notice in the log.
        """
        log = self._open_log(job_id)
        self._enqueue(job_id, log, Output(at_ms, data, position))
        log.queued_bytes += len(data)
        if log.queued_bytes > _QUEUE_BYTES:
            log.room.clear()
        if not log.room.is_set():
            await log.room.wait()

    async def platform_line(self, job_id: str, at_ms: int, text: str) -> None:
        """Add a line of the platform and make it durable. It goes before a process's line still under way.

        A log that is not open gets none: that of a run which is over by then, or which the engine has yet to attach to.
        """
        log = self._logs.get(job_id)
        if log is None or log.is_finished:
            return
        await self._barrier(job_id, log, PlatformLine(at_ms, text))
        await self._save(log, for_good=True)

    async def flush(self, job_id: str) -> None:
        """End the pending line (a process is over) and make everything durable."""
        log = self._open_log(job_id)
        await self._barrier(job_id, log, Flush())
        await self._save(log, for_good=True)

    async def checkpoint(self, job_id: str) -> str | None:
        """Make what was appended by now durable; the position that ``recover`` would give after a crash."""
        log = self._open_log(job_id)
        await self._barrier(job_id, log)
        position = log.writer.position
        return position if await self._save(log, for_good=True) else None

    async def finish(self, job_id: str) -> None:
        """No more will come: the last line ends, followers end. Unknown or finished logs are fine."""
        log = self._logs.get(job_id)
        if log is not None and not log.is_finished:
            openings = log.openings
            await self.flush(job_id)
            if log.openings != openings:  # resurrected meanwhile
                return
            log.is_finished = True
            self._wake(job_id)
            self._tasks.spawn(f"release {job_id}", self._release(job_id, log))
        else:
            self._wake(job_id)

    async def delete(self, job_id: str) -> None:
        """Remove a log for good; its followers end. An unknown one is fine."""
        path = log_path(self._root, job_id)
        log = self._logs.pop(job_id, None)
        if log is not None:
            log.is_finished = True
            await self._barrier(job_id, log)
            await self._in(self._savers, log.writer.close)
        await self._in(self._savers, delete_log, path)
        self._wake(job_id)

    async def stop(self) -> None:
        """Make everything durable, end the followers, stop the threads. Logs of live jobs go on by ``recover``."""
        self._is_stopped = True
        for job_id in list(self._followers):
            self._wake(job_id)
        for job_id, log in list(self._logs.items()):
            if log.save_due is not None:
                log.save_due.cancel()
            await self._barrier(job_id, log)
            await self._save(log, for_good=True)
            await self._in(self._savers, log.writer.close)
        self._logs.clear()
        await self._tasks.stop()
        for pool in (self._writers, self._savers, self._readers):
            pool.shutdown(wait=False)

    # Reading

    async def size(self, job_id: str) -> int:
        """Bytes a reader can have by now."""
        log = self._logs.get(job_id)
        if log is None:
            return await self._in(self._readers, stored_size, log_path(self._root, job_id))
        await self._loaded(job_id, log)
        return log.size

    async def read(self, job_id: str, offset: int, limit: int) -> bytes:
        """Up to ``limit`` bytes from ``offset``; empty behind the end and for a log that does not exist."""
        log = self._logs.get(job_id)
        if log is not None:
            await self._loaded(job_id, log)
            limit = min(limit, log.size - offset)
        if limit <= 0:
            return b""
        return await self._in(self._readers, read_range, log_path(self._root, job_id), offset, limit)

    async def read_lines(self, job_id: str) -> AsyncGenerator[bytes, None]:
        """What the log holds now, in chunks of whole lines."""
        end = await self.size(job_id)
        reader = LogReader(log_path(self._root, job_id))
        try:
            while not self._is_stopped and (lines := await self._in(self._readers, reader.next_lines, end)):
                yield lines
        finally:
            self._let_go(reader)

    async def follow(
        self, job_id: str, is_over: Callable[[], Awaitable[bool]] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The log from its beginning in chunks of whole lines, until ``finish``.

        A log that is not open here counts as finished, unless ``is_over`` says that the job still lives (queued, or
        written by another process): then it is looked at every second until ``is_over``.
        """
        wake = asyncio.Event()
        reader = LogReader(log_path(self._root, job_id))
        self._followers.setdefault(job_id, set()).add(wake)
        was_live = False
        try:
            while not self._is_stopped:
                wake.clear()
                log = self._logs.get(job_id)
                if log is not None and not log.is_finished:
                    was_live, is_last = True, False
                    await self._loaded(job_id, log)
                else:
                    log = None
                    is_last = was_live or is_over is None or await is_over()
                while not self._is_stopped and (
                    lines := await self._in(self._readers, reader.next_lines, log.size if log else None)
                ):
                    yield lines
                if is_last:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), None if log else _POLL_SECS)
        finally:
            followers = self._followers[job_id]
            followers.discard(wake)
            if not followers:
                del self._followers[job_id]
            self._let_go(reader)

    def follower_count(self, job_id: str) -> int:
        """How many follow this log."""
        return len(self._followers.get(job_id, ()))

    # Inside

    def _open_log(self, job_id: str) -> _Log:
        log = self._logs.get(job_id)
        if log is None or log.is_finished:
            raise RuntimeError(f"the log of {job_id} is not open")
        return log

    def _wake(self, job_id: str) -> None:
        for event in self._followers.get(job_id, ()):
            event.set()

    def _let_go(self, reader: LogReader) -> None:
        if self._is_stopped:
            reader.close()
        else:
            self._readers.submit(reader.close)

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, function: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, function, *values)

    def _enqueue(self, job_id: str, log: _Log, entry: Entry | None, waiter: asyncio.Future[None] | None = None) -> None:
        log.queue.append((entry, waiter))
        if log.pump is None:
            log.pump = self._tasks.spawn(f"write {job_id}", self._pump(job_id, log))

    async def _barrier(self, job_id: str, log: _Log, entry: Entry | None = None) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enqueue(job_id, log, entry, waiter)
        await waiter

    async def _loaded(self, job_id: str, log: _Log) -> None:
        if not log.is_loaded:
            await self._barrier(job_id, log)

    async def _pump(self, job_id: str, log: _Log) -> None:
        """Store what is queued, a turn at a time."""
        while log.queue:
            entries: list[Entry] = []
            waiters: list[asyncio.Future[None]] = []
            taken = 0
            while log.queue and taken < _TURN_BYTES and len(entries) < _TURN_ENTRIES:
                entry, waiter = log.queue.popleft()
                if entry is not None:
                    entries.append(entry)
                if isinstance(entry, Output):
                    taken += len(entry.data)
                if waiter is not None:
                    waiters.append(waiter)
            failure: BaseException | None = None
            try:
                await self._in(self._writers, log.writer.write, entries)
            except Exception as error:  # noqa: BLE001  given to whoever waits, and the log goes on
                _log.exception("log entries lost", job_id=job_id)
                failure = error
            log.is_loaded = True
            log.size = log.writer.size
            log.queued_bytes -= taken
            if log.queued_bytes <= _QUEUE_BYTES // 2:
                log.room.set()
            self._wake(job_id)
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None) if failure is None else waiter.set_exception(failure)
            self._plan_save(job_id, log)
        log.pump = None

    def _plan_save(self, job_id: str, log: _Log) -> None:
        loop = asyncio.get_running_loop()
        wait_secs = log.saved_at + self._checkpoint_secs - loop.time()
        if log.size - log.saved_size >= self._checkpoint_bytes:
            wait_secs = 0.0
        if log.save_due is None and not log.saving.locked() and not self._is_stopped:
            log.save_due = loop.call_later(max(wait_secs, 0.0), self._start_save, job_id, log)

    def _start_save(self, job_id: str, log: _Log) -> None:
        log.save_due = None
        self._tasks.spawn(f"save {job_id}", self._save(log, for_good=False))

    async def _save(self, log: _Log, *, for_good: bool) -> bool:
        async with log.saving:
            size = log.size
            saved = await self._in(self._savers, partial(log.writer.save, for_good=for_good))
            log.saved_at = asyncio.get_running_loop().time()
            log.saved_size = size
        return saved

    async def _release(self, job_id: str, log: _Log) -> None:
        """Forget a finished log once it is safe on disk."""
        while not await self._save(log, for_good=True):  # noqa: ASYNC110  a disk sends no event
            await asyncio.sleep(_POLL_SECS)
        if log.is_finished and self._logs.get(job_id) is log:
            del self._logs[job_id]
            await self._in(self._savers, log.writer.close)
