"""Interpreters with an image's dependencies imported, from which its runs are forked: a start without the imports."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from actorium.kit import Tasks
from actorium.runtimes.attempts import NativeImage
from actorium.runtimes.link import Boot, Spawner
from actorium.runtimes.python_commands import imported_modules, python_command
from actorium.runtimes.shim.zygote import ROOM_NAME

_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[-2]); from shim.zygote import main; del sys.path[0]\n"
    "program = main(int(sys.argv[-1]), sys.argv[1:-2])\n"
    "if program: program()"
)
_ROOM_BYTES = 96 * 1024
_IDLE_SECS = 600.0
# They decide where modules come from, by paths that are others in each attempt.
_TELLING = frozenset({"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE"})
_log = logging.getLogger("actorium.runtimes.warm")


class _Key(NamedTuple):
    app_dir: str
    interpreter: tuple[str, ...]
    env: tuple[tuple[str, str], ...]


class _Entry:
    def __init__(self) -> None:
        self.spawner: Spawner | None = None
        self.is_ready = False
        self.expiry: asyncio.TimerHandle | None = None


class WarmInterpreters:
    """Keeps one for each of the ``most`` images that were started last, ten minutes beyond their last start.

    The first start of an image begins to prepare its interpreter and does not wait for it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: dict[_Key, _Entry] = {}
        self._unfit: set[_Key] = set()
        self._tasks = Tasks("warm interpreters")

    def take(self, image: NativeImage, shared_env: dict[str, str]) -> Spawner | None:
        """A spawner whose keepers run the image's program in a prepared interpreter, if there is one now."""
        key = _key(image, shared_env) if self._most else None
        if key is None or key in self._unfit:
            return None
        entry = self._entries.pop(key, None)
        if entry is None:
            entry = _Entry()
            self._tasks.spawn("prepare", self._prepare(key, entry))
        # The last one in order is the one used last.
        self._entries[key] = entry
        self._expire_later(key, entry)
        for old in list(self._entries)[: -self._most]:
            self._drop(old)
        return entry.spawner if entry.is_ready else None

    @property
    def spawners(self) -> list[Spawner]:
        """Those there are, ready or not."""
        return [entry.spawner for entry in self._entries.values() if entry.spawner is not None]

    async def ready(self) -> None:
        """Return once everything that is being prepared is ready, or given up."""
        await self._tasks.join()

    async def close(self) -> None:
        """End all of them; what was forked from them lives on."""
        await self._tasks.stop()
        for key in list(self._entries):
            self._drop(key)
        await self._tasks.join()

    async def _prepare(self, key: _Key, entry: _Entry) -> None:
        try:
            entry.spawner = Spawner(await asyncio.to_thread(_boot, key))
            word = (await entry.spawner.first_word()).decode(errors="replace")
        except OSError as error:
            word = str(error)
        if word.startswith("ready"):
            entry.is_ready = True
            return
        _log.info("runs of %s start without a prepared interpreter: %s", key.app_dir, word or "it ended")
        self._unfit.add(key)
        if self._entries.get(key) is entry:
            self._drop(key)

    def _expire_later(self, key: _Key, entry: _Entry) -> None:
        if entry.expiry is not None:
            entry.expiry.cancel()
        entry.expiry = asyncio.get_running_loop().call_later(_IDLE_SECS, self._drop, key)

    def _drop(self, key: _Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            if entry.expiry is not None:
                entry.expiry.cancel()
            if entry.spawner is not None:
                self._tasks.spawn("end", entry.spawner.close())


def _key(image: NativeImage, shared_env: dict[str, str]) -> _Key | None:
    command = python_command(image.command)
    env = {**image.env, **shared_env}
    if command is None or _TELLING & env.keys():
        return None
    env["PATH"] = os.pathsep.join([*image.bin_dirs, env.get("PATH", os.defpath)])
    return _Key(image.app_dir, tuple(command.interpreter), tuple(sorted(env.items())))


def _boot(key: _Key) -> Boot:
    env = dict(key.env)
    program = shutil.which(key.interpreter[0], path=env["PATH"])
    if program is None:
        raise FileNotFoundError(f"{key.interpreter[0]} is not in {env['PATH']}")
    command = [program, *key.interpreter[1:], "-c", _BOOT, *imported_modules(Path(key.app_dir))]
    return Boot(command, {**env, ROOM_NAME: " " * _ROOM_BYTES}, key.app_dir, is_quiet=True)
