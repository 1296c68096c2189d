"""Small tools every layer may use: clock, services, guarded tasks, wake-up signals, ids.

Knows nothing of Actors, HTTP or databases, and imports nothing of this package.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import string
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
_ALPHABET = string.ascii_letters + string.digits
_log = logging.getLogger("actorium.tasks")
_CLOCK_CHECK_SECS = 60.0
_SMALL_STEP_MS = 1000


def new_id() -> str:
    """A random resource id: 17 characters of ``[A-Za-z0-9]`` (about 101 bits)."""
    return random_text(17)


def random_text(length: int, alphabet: str = _ALPHABET) -> str:
    """Unguessable text of ``length`` characters drawn from ``alphabet``."""
    # Bytes from the limit on would favour the first characters. One call for all is 5 times faster than one each.
    limit = 256 - 256 % len(alphabet)
    text = ""
    while len(text) < length:
        text += "".join([alphabet[byte % len(alphabet)] for byte in os.urandom(2 * length) if byte < limit])
    return text[:length]


class Clock(Protocol):
    """Where every piece of the program gets its time from; tests inject their own.

    When the machine's clock is set, this one goes on as before until whoever keeps times takes the step over.
    """

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds since the epoch."""
        ...

    def step_ms(self) -> int:
        """By how much the machine's clock was set and this one not yet."""
        ...

    def take_step(self, step_ms: int) -> None:
        """Go on by the machine's clock; waits under way take as long as they would have."""
        ...

    async def sleep(self, secs: float) -> None:
        """Wait ``secs`` of this clock's time."""
        ...

    async def sleep_until(self, at_ms: int) -> None:
        """Wait until this clock reads ``at_ms``, as far as can be told now."""
        ...


class SystemClock:
    """The machine's clock; corrections of less than a second are taken over at once."""

    def __init__(self) -> None:
        self._offset_ms = _wall_ms() - _steady_ms()

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds since the epoch."""
        step = self.step_ms()
        if abs(step) < _SMALL_STEP_MS:
            self._offset_ms += step
        return _steady_ms() + self._offset_ms

    def step_ms(self) -> int:
        """By how much the machine's clock was set and this one not yet."""
        return _wall_ms() - _steady_ms() - self._offset_ms

    def take_step(self, step_ms: int) -> None:
        """Go on by the machine's clock; waits under way take as long as they would have."""
        self._offset_ms += step_ms

    async def sleep(self, secs: float) -> None:
        """Wait ``secs`` of real time."""
        await asyncio.sleep(secs)

    async def sleep_until(self, at_ms: int) -> None:
        """Wait until this clock reads ``at_ms``, as far as can be told now. Looks again, as the machine may sleep."""
        end_ms = _steady_ms() + at_ms - self.now_ms()
        while (left_ms := end_ms - _steady_ms()) > 0:  # noqa: ASYNC110  a clock sends no event
            await asyncio.sleep(min(left_ms / 1000, _CLOCK_CHECK_SECS))


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _steady_ms() -> int:
    # Goes on while the machine sleeps, as the wall clock does.
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


async def wait_until(clock: Clock, event: asyncio.Event, deadline_ms: int | None) -> bool:
    """Wait for ``event`` until the clock reads ``deadline_ms`` (``None``: for ever).

    Returns whether the event is set.
    """
    if event.is_set() or deadline_ms is None:
        await event.wait()
        return True
    if clock.now_ms() >= deadline_ms:
        return event.is_set()
    waiter = asyncio.ensure_future(event.wait())
    timer = asyncio.ensure_future(clock.sleep_until(deadline_ms))
    try:
        await asyncio.wait({waiter, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
        timer.cancel()
        # Awaiting the tasks themselves would take a cancellation of the caller for theirs, and lose it.
        await asyncio.wait({waiter, timer})
    return event.is_set()


def kill_marked(name: str, value: str) -> None:
    """Kill every process that has ``name=value`` in its environment, until there is none.

    Finds what left its process group, its session and its parents. Blocks: call it in a thread.
    """
    mark = f"{name}={value}".encode()
    while True:
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _carries(int(entry), mark)]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def _carries(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


class Service(Protocol):
    """A part with a life: ``start`` returns once it works, ``stop`` once it is quiet. Both tolerate repetition."""

    async def start(self) -> None:
        """Begin working."""
        ...

    async def stop(self) -> None:
        """End all work and release what is held."""
        ...


class Tasks:
    """Named background tasks of one owner: no task dies unseen, ``stop`` ends them all."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, name: str, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``coro`` in the background; an exception it ends with is logged with its name."""
        task = asyncio.create_task(coro, name=f"{self._owner}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task %s failed", task.get_name(), exc_info=error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def join(self) -> None:
        """Wait until none is left."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def stop(self) -> None:
        """Cancel what still runs and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def forever(name: str, pause_secs: float, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Call ``step`` again and again; a failing step is logged and tried again after ``pause_secs``."""
    while True:
        try:
            await step()
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001  logged and tried again
            _log.exception("%s failed, trying again in %s s", name, pause_secs)
            await asyncio.sleep(pause_secs)


class Signals:
    """In-process wake-ups by topic. A signal carries no data and may be lost: whoever waits re-reads the database."""

    def __init__(self) -> None:
        self._waiters: dict[str, set[asyncio.Event]] = {}

    def send(self, topic: str) -> None:
        """Wake everyone who listens to ``topic``."""
        for event in self._waiters.get(topic, ()):
            event.set()

    @contextlib.contextmanager
    def _listening(self, topics: tuple[str, ...]) -> Any:
        event = asyncio.Event()
        for topic in topics:
            self._waiters.setdefault(topic, set()).add(event)
        try:
            yield event
        finally:
            for topic in topics:
                events = self._waiters[topic]
                events.discard(event)
                if not events:
                    del self._waiters[topic]

    @contextlib.asynccontextmanager
    async def listen(self, *topics: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever one of ``topics`` is signalled; the listener clears it."""
        with self._listening(topics) as event:
            yield event
