"""Runs attempts as plain processes of this machine, each under a keeper that outlives the server."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from actorium.runtimes import (
    Capabilities,
    Checkpoint,
    Exit,
    Handle,
    Image,
    LogChunk,
    Observed,
    Phase,
    RunSpec,
    StartError,
    Usage,
)
from actorium.runtimes.attempts import AttemptDir, Ended, NativeImage, clear_leftovers, list_attempts
from actorium.runtimes.debugging import under_debugger
from actorium.runtimes.link import Link, Spawner, first_of
from actorium.runtimes.shim.spool import read_frames
from actorium.runtimes.warm import WarmInterpreters

T = TypeVar("T")
NAME = "process"
_VERSION = 1
_FILE_THREADS = 4
# Each may hold the interpreter for 5 ms before the event loop gets its turn.
_READ_THREADS = 2
_READ_BYTES = 256 * 1024
_JOIN_MS = 4
_RETRY_SECS = (0.005, 1.0)
_START_SECS = 30.0
_HUNG_SECS = 15.0
_log = logging.getLogger("actorium.runtimes.process")


class ProcessRuntime:
    """The ``Runtime`` for images of kind ``native``.

    ``root`` holds one directory per attempt and belongs to this runtime; ``max_spool_bytes`` bounds
    the output kept of one attempt, what comes after is dropped and said so; ``warm_interpreters`` is for how many
    images an interpreter with their dependencies imported is kept. ``open`` it before use.
    """

    def __init__(self, root: Path, *, max_spool_bytes: int = 1 << 33, warm_interpreters: int = 0) -> None:
        self._root = root.absolute()
        self._max_spool_bytes = max_spool_bytes
        self._spawner = Spawner()
        self._warm = WarmInterpreters(warm_interpreters)
        self._links: dict[str, Link] = {}
        self._connecting: dict[str, asyncio.Task[Link | Ended | None]] = {}
        self._unannounced: set[str] = set()
        self._is_closed = False
        self._make_pools()

    def _make_pools(self) -> None:
        # Reading floods of output must not keep starts waiting.
        self._files = ThreadPoolExecutor(_FILE_THREADS, "attempt-files")
        self._reads = ThreadPoolExecutor(_READ_THREADS, "attempt-output")

    async def open(self) -> None:
        """Get ready: clear up after a killed predecessor and start the spawner."""
        if self._is_closed:
            self._is_closed = False
            self._make_pools()
        await self._in_thread(self._open_root)
        await self._spawner.open()

    def _open_root(self) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        clear_leftovers(self._root)

    async def close(self) -> None:
        """Let go of everything; attempts go on and are found again by their handles."""
        self._is_closed = True
        await asyncio.gather(*self._connecting.values(), return_exceptions=True)
        for link in list(self._links.values()):
            link.close()
        self._links.clear()
        await self._spawner.close()
        await self._warm.close()
        for pool in (self._files, self._reads):
            pool.shutdown(wait=False)

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, function, *arguments)

    def _directory(self, handle: Handle) -> AttemptDir:
        return AttemptDir(self._root, handle.attempt_id)

    @property
    def spawner_pids(self) -> list[int]:
        """The processes that fork keepers; none before ``open`` and after ``close``."""
        return [pid for spawner in (self._spawner, *self._warm.spawners) if (pid := spawner.pid) is not None]

    def capabilities(self) -> Capabilities:
        """What this runtime can do here."""
        return Capabilities(
            name=NAME,
            survives_server=True,
            enforces_memory=True,
            detail="memory is limited by watching the processes of a run, 2 to 10 times a second",
        )

    async def prepare(self, image: Image, shared_env: dict[str, str]) -> bool:
        """Get an interpreter ready for runs of ``image``, as its first start does; returns whether there is one."""
        native = msgspec.convert(image.state, NativeImage)
        self._warm.take(native, shared_env)
        await self._warm.ready()
        return self._warm.take(native, shared_env) is not None

    async def start(self, spec: RunSpec, checkpoint: Checkpoint) -> Handle:
        """Start the attempt and return once its main process exists; see ``Runtime.start``."""
        if spec.image.kind != "native":
            raise StartError(f"An image of kind {spec.image.kind!r} cannot run as a plain process")
        image = msgspec.convert(spec.image.state, NativeImage)
        if spec.debug is not None:
            image = msgspec.structs.replace(image, command=under_debugger(image.command, spec.debug))
        handle = Handle(NAME, _VERSION, spec.attempt_id, spec.run_id, {})
        directory = self._directory(handle)
        launch = directory.launch_line(spec, image, self._max_spool_bytes)
        self._unannounced.add(spec.attempt_id)
        try:
            await self._in_thread(directory.prepare, handle, image)
            try:
                await checkpoint(handle)
            except Exception:
                await self._in_thread(directory.delete)
                raise
        finally:
            self._unannounced.discard(spec.attempt_id)
        try:
            # A prepared interpreter is past the point where a debugger begins.
            warm = self._warm.take(image, spec.shared_env) if spec.debug is None else None
            await self._spawn(directory, launch, warm or self._spawner)
        except StartError:
            await self._in_thread(directory.delete)
            raise
        return handle

    async def _spawn(self, directory: AttemptDir, launch: bytes, first: Spawner) -> None:
        # Both kinds of spawner may have died just now, unnoticed.
        for spawner in (first, self._spawner, self._spawner):
            link = await self._fork_keeper(spawner)
            link.write(launch)
            try:
                is_late = not await self._has_answered(directory, link)
            except asyncio.CancelledError:
                link.close()
                raise
            if link.started.done() and not link.started.cancelled():
                if (failure := link.started.result()) is not None:
                    link.close()
                    raise StartError(f"The Actor's process cannot be started: {failure}")
                self._adopt(directory.attempt_id, link)
                return
            link.close()
            if is_late:
                await self._stop(directory, 0)
                raise StartError(f"The Actor's process cannot be started: it did not begin within {_START_SECS:g} s")
            # The spawner or the keeper died on the way. Unclaimed, nothing was executed.
            phase = await self._in_thread(lambda: directory.phase(decide=False))
            if phase is not Phase.GONE and (await self._stop(directory, 0)).error == "lost":
                # Nobody can tell how far it came: whoever waits for it hears that it is lost.
                return
            if phase is not Phase.GONE:
                break
            await self._spawner.open()
        await self._in_thread(lambda: directory.phase(decide=True))
        raise StartError("The Actor's process cannot be started: its keeper ended before it")

    async def _has_answered(self, directory: AttemptDir, link: Link) -> bool:
        """Wait for the keeper's first word, or its end. If neither comes in time, the attempt is given up."""
        await first_of(link.started, link.closed, timeout_secs=_START_SECS)
        if not (link.started.done() or link.closed.done()):
            phase = await self._in_thread(lambda: directory.phase(decide=True))
            if phase is Phase.RUNNING:
                # Claimed: it is about to start, or has, and this process was held up itself.
                await first_of(link.started, link.closed, timeout_secs=_START_SECS)
        return link.started.done() or link.closed.done()

    async def _fork_keeper(self, spawner: Spawner) -> Link:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            link = await self._connected(ours)
            await spawner.request(b"S", theirs)
        return link

    async def _connected(self, connection: socket.socket) -> Link:
        _, link = await asyncio.get_running_loop().create_unix_connection(Link, sock=connection)
        return link

    def _adopt(self, attempt_id: str, link: Link) -> None:
        self._links[attempt_id] = link

        def forget(_: object) -> None:
            if self._links.get(attempt_id) is link:
                del self._links[attempt_id]

        link.closed.add_done_callback(forget)

    async def _reach(self, directory: AttemptDir) -> Link | Ended | None:
        """A live connection to the attempt's keeper, or how the attempt ended; ``None`` for an unknown one."""
        if self._is_closed:
            raise ConnectionError("the process runtime is closed")
        link = self._links.get(directory.attempt_id)
        if link is not None and not link.closed.done():
            return link
        task = self._connecting.get(directory.attempt_id)
        if task is None or task.done():
            task = asyncio.create_task(self._find(directory), name=f"reach {directory.attempt_id}")
            self._connecting[directory.attempt_id] = task
            task.add_done_callback(lambda done: self._forget(directory.attempt_id, done))
        return await asyncio.shield(task)

    def _forget(self, attempt_id: str, done: asyncio.Task[Link | Ended | None]) -> None:
        if self._connecting.get(attempt_id) is done:
            del self._connecting[attempt_id]

    async def _find(self, directory: AttemptDir) -> Link | Ended | None:
        pause_secs, longest_secs = _RETRY_SECS
        while not self._is_closed:
            phase = await self._in_thread(lambda: directory.phase(decide=True))
            if phase is Phase.GONE:
                return None
            if phase is Phase.EXITED:
                return await self._in_thread(directory.ended)
            if phase is None:
                if (ended := await self._settle_lost(directory)) is not None:
                    return ended
            elif (connection := await self._in_thread(directory.connect)) is not None:
                link = await self._connected(connection)
                self._adopt(directory.attempt_id, link)
                return link
            # Between its last file and its end, or just killed and not yet gone.
            await asyncio.sleep(pause_secs)
            pause_secs = min(2 * pause_secs, longest_secs)
        raise ConnectionError("the process runtime is closed")

    async def _settle_lost(self, directory: AttemptDir) -> Ended | None:
        complaint = await self._in_thread(directory.complaint)
        _log.error("the keeper of attempt %s is gone: %s", directory.attempt_id, complaint or "killed")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            await self._spawner.request(b"K", theirs)
            theirs.close()
            # What the spawner adopted dies here. No answer: it died itself, and init adopted them.
            if await asyncio.get_running_loop().sock_recv(ours, 16) == b"left\n":
                return None
        return await self._in_thread(directory.settle_lost)

    async def _end_of(self, directory: AttemptDir) -> Exit:
        while True:
            found = await self._reach(directory)
            if found is None:
                return Exit(error="lost")
            if isinstance(found, Ended):
                return found.exit
            await asyncio.shield(found.closed)
            if found.exit is not None:
                return found.exit

    async def _stop(self, directory: AttemptDir, grace_secs: float) -> Exit:
        end = asyncio.create_task(self._end_of(directory))
        asked = asyncio.create_task(self._ask_to_stop(directory, grace_secs))
        try:
            await asyncio.wait({end}, timeout=grace_secs + _HUNG_SECS)
            while not end.done():
                _log.error("the keeper of attempt %s does not end it; killing the keeper", directory.attempt_id)
                await self._in_thread(directory.kill_keeper)
                await asyncio.wait({end}, timeout=_HUNG_SECS)
            return end.result()
        finally:
            end.cancel()
            asked.cancel()

    async def _ask_to_stop(self, directory: AttemptDir, grace_secs: float) -> None:
        """Tell the keeper, and tell it again over a new connection if the one used is lost."""
        while isinstance(link := await self._reach(directory), Link):
            link.send({"do": "stop", "grace_secs": grace_secs})
            await asyncio.shield(link.closed)

    async def inspect(self, handles: Sequence[Handle]) -> list[Observed]:
        """What each of the attempts is doing, in the order asked."""
        directories = [self._directory(handle) for handle in handles]
        seen = await self._in_thread(lambda: [self._look(directory) for directory in directories])
        return [
            observed if observed is not None else Observed(Phase.EXITED, await self._end_of(directory))
            for directory, observed in zip(directories, seen, strict=True)
        ]

    @staticmethod
    def _look(directory: AttemptDir) -> Observed | None:
        phase = directory.phase(decide=True)
        ended = directory.ended() if phase is Phase.EXITED else None
        return Observed(phase, ended.exit if ended is not None else None) if phase is not None else None

    async def wait(self, handle: Handle) -> Exit:
        """Return once nothing of the attempt is left; ``error`` is ``lost`` for an unknown one."""
        return await self._end_of(self._directory(handle))

    async def stop(self, handle: Handle, grace_secs: float) -> Exit:
        """End the attempt: SIGTERM, after ``grace_secs`` SIGKILL to the whole tree (0: SIGKILL at once)."""
        return await self._stop(self._directory(handle), grace_secs)

    async def remove(self, handle: Handle) -> None:
        """Delete the attempt's directory."""
        await self._in_thread(self._directory(handle).delete)

    async def logs(self, handle: Handle, since: int) -> AsyncGenerator[LogChunk, None]:
        """Follow the output from offset ``since``; ends when the attempt is over and everything was read."""
        directory = self._directory(handle)
        loop = asyncio.get_running_loop()
        file: int | None = None
        over = False
        try:
            while True:
                if file is None:
                    file = await loop.run_in_executor(self._reads, _open_spool, directory.path / "spool")
                chunks: list[tuple[int, bytes, int]] = []
                if file is not None:
                    chunks = await loop.run_in_executor(self._reads, _read, file, since, over)
                for at_ms, data, since in chunks:
                    yield LogChunk(at_ms, data, since)
                if chunks:
                    continue
                if over:
                    return
                found = await self._reach(directory)
                if isinstance(found, Link):
                    await found.output_beyond(since)
                else:
                    over = True
        finally:
            if file is not None:
                os.close(file)

    async def stats(self, handle: Handle) -> Usage | None:
        """A new measurement while the attempt lives, the totals after it."""
        directory = self._directory(handle)
        while True:
            found = await self._reach(directory)
            if found is None:
                return None
            if isinstance(found, Ended):
                return found.usage
            if (usage := await found.measure()) is not None:
                return usage

    async def list_managed(self) -> list[Handle]:
        """Every attempt that has a directory, except those whose start has not been made known yet."""
        found = await self._in_thread(self._list)
        return [handle for handle in found if handle.attempt_id not in self._unannounced]

    def _list(self) -> list[Handle]:
        handles = []
        for name in list_attempts(self._root):
            try:
                handle = AttemptDir(self._root, name).handle()
            except msgspec.DecodeError:
                # A machine that lost power may leave it empty; the directory's name is enough to clear up.
                handle = Handle(NAME, _VERSION, name, "", {})
            if handle is not None:
                handles.append(handle)
        return handles


def _open_spool(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None


def _read(file: int, offset: int, final: bool) -> list[tuple[int, bytes, int]]:
    return read_frames(file, offset, _READ_BYTES, _JOIN_MS, final=final)
