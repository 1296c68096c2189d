"""The directory of one native attempt: what is in it, who may claim it, and what it says about the attempt.

Everything here blocks and is called in threads. Layout, below ``root/<attempt id>``::

    handle.json   the handle, written before anything else
    claim         symlink ``shim:<identity of the keeper>``, or ``gone``: decided once, atomically
    main          symlink with the identity of the main process
    shim.sock     the keeper's control socket, while it lives
    spool         output with time stamps         exit.json   how it ended, once nothing of it is left
    work/ tmp/ home/   what the Actor may write
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from pathlib import Path

import msgspec

from actorium.runtimes import Exit, Handle, Phase, RunSpec, StartError, Usage
from actorium.runtimes.files import copy_tree
from actorium.runtimes.python_commands import python_command
from actorium.runtimes.shim import keeper, proctree

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CONNECT_SECS = 5.0
_KILL_SECS = 10.0


class NativeImage(msgspec.Struct, frozen=True):
    """State of an image that runs as plain processes.

    ``app_dir`` is copied for each attempt; ``links`` (relative name -> absolute target) are put into the
    copy; ``bin_dirs`` go before PATH; ``workdir`` is relative to the copy.
    """

    app_dir: str
    command: list[str]
    links: dict[str, str] = {}
    env: dict[str, str] = {}
    bin_dirs: list[str] = []
    workdir: str = "."


class Ended(msgspec.Struct, frozen=True):
    """The content of ``exit.json``."""

    code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    error: str | None = None
    finished_at_ms: int | None = None
    usage: Usage | None = None
    dropped_bytes: int = 0

    @property
    def exit(self) -> Exit:
        """How the attempt ended, as the runtime's callers want it."""
        return Exit(self.code, self.signal, self.oom_killed, self.error, self.finished_at_ms)


class AttemptDir:
    """One attempt's directory, existing or not."""

    def __init__(self, root: Path, attempt_id: str) -> None:
        if not attempt_id or attempt_id.startswith(".") or "/" in attempt_id:
            raise ValueError(f"{attempt_id!r} cannot name an attempt's directory")
        self.attempt_id = attempt_id
        self.path = root / attempt_id

    def prepare(self, handle: Handle, image: NativeImage) -> None:
        """Create the directory with a fresh copy of the Actor's files; it appears whole or not at all."""
        owner = proctree.identity(os.getpid())
        temporary = self.path.with_name(f".new:{owner}:{self.attempt_id}")
        try:
            temporary.mkdir(mode=0o700)
            work = temporary / "work"
            copy_tree(Path(image.app_dir), work)
            for name, target in image.links.items():
                link = _inside(work, name)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(target)
            for name in ("tmp", "home"):
                (temporary / name).mkdir()
            (temporary / keeper.RESERVED).write_bytes(b" " * keeper.RESERVED_BYTES)
            (temporary / "handle.json").write_bytes(msgspec.json.encode(handle))
            temporary.rename(self.path)
        except StartError:
            _delete_tree(temporary)
            raise
        except OSError as error:
            _delete_tree(temporary)
            raise StartError(f"The Actor's files cannot be prepared: {error}") from error

    def launch_line(self, spec: RunSpec, image: NativeImage, max_spool_bytes: int) -> bytes:
        """What the keeper needs to know."""
        env = {**image.env, "HOME": str(self.path / "home"), "TMPDIR": str(self.path / "tmp"), **spec.env}
        env["PATH"] = os.pathsep.join([*image.bin_dirs, env.get("PATH", _DEFAULT_PATH)])
        env[proctree.MARKER] = self.attempt_id
        message = {
            "directory": str(self.path),
            "cwd": str(_inside(self.path / "work", image.workdir)),
            "command": image.command,
            "python": python_command(image.command),
            "env": env,
            "memory_mbytes": spec.memory_mbytes,
            "max_spool_bytes": max_spool_bytes,
        }
        try:
            return msgspec.json.encode(message) + b"\n"
        except UnicodeEncodeError as error:
            raise StartError(f"The Actor's environment cannot be passed on: {error}") from error

    def handle(self) -> Handle | None:
        """The handle the directory was made for, ``None`` when there is no such directory (any more)."""
        try:
            return msgspec.json.decode((self.path / "handle.json").read_bytes(), type=Handle)
        except FileNotFoundError:
            return None

    def ended(self) -> Ended | None:
        """How it ended, ``None`` before that and for what never was."""
        try:
            return msgspec.json.decode((self.path / "exit.json").read_bytes(), type=Ended)
        except FileNotFoundError:
            return None

    def phase(self, *, decide: bool) -> Phase | None:
        """What can be told from outside: ``None`` means that the keeper is dead and ``settle_lost`` is due.

        With ``decide``, an attempt that no keeper has claimed is given up: it can then never start.
        """
        if self.ended() is not None:
            return Phase.EXITED
        claim = self._claim()
        if claim is None and decide:
            try:
                (self.path / "claim").symlink_to("gone")
            except FileNotFoundError:
                return Phase.GONE
            except FileExistsError:
                pass
            claim = self._claim()
        if claim is None or claim == "gone":
            return Phase.GONE
        if proctree.is_alive(claim.removeprefix("shim:")):
            return Phase.RUNNING
        # The keeper may have written its last file between the two looks.
        return Phase.EXITED if self.ended() is not None else None

    def _claim(self) -> str | None:
        return _link(self.path / "claim")

    def kill_keeper(self) -> None:
        """End a keeper that does not answer; the attempt is then lost."""
        claim = self._claim()
        if claim is not None and claim != "gone":
            proctree.kill(claim.removeprefix("shim:"))

    def settle_lost(self) -> Ended | None:
        """Kill whatever a dead keeper left behind, then record that the attempt is lost.

        Returns ``None`` when something resists; to be tried again.
        """
        if not proctree.kill_marked(self.attempt_id, _link(self.path / "main"), str(self.path), _KILL_SECS):
            return None
        if (ended := self.ended()) is None:
            ended = Ended(error="lost", finished_at_ms=time.time_ns() // 1_000_000)
            with contextlib.suppress(FileNotFoundError):
                keeper.record_exit(msgspec.to_builtins(ended), str(self.path))
        return ended

    def complaint(self) -> str | None:
        """What a keeper that failed wrote about it."""
        try:
            return (self.path / "shim.err").read_text()
        except FileNotFoundError:
            return None

    def connect(self) -> socket.socket | None:
        """A connection to the keeper, ``None`` when there is none to connect to."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            folder = os.open(self.path, os.O_PATH | os.O_DIRECTORY)
            try:
                connection.settimeout(_CONNECT_SECS)
                # The path itself may be longer than a socket address can hold.
                connection.connect(f"/proc/self/fd/{folder}/shim.sock")
            finally:
                os.close(folder)
        except OSError:
            connection.close()
            return None
        connection.setblocking(False)
        return connection

    def delete(self) -> None:
        """Remove the directory and everything in it, if it exists."""
        doomed = self.path.with_name(f".old:{self.attempt_id}")
        try:
            self.path.rename(doomed)
        except FileNotFoundError:
            return
        _delete_tree(doomed)


def list_attempts(root: Path) -> list[str]:
    """The ids of all attempts that have a directory."""
    return [path.name for path in root.iterdir() if not path.name.startswith(".")]


def clear_leftovers(root: Path) -> None:
    """Delete what a server that was killed had begun to make or to delete."""
    for path in root.iterdir():
        kind, *owner = path.name.split(":")
        if kind == ".old" or (kind == ".new" and not proctree.is_alive(":".join(owner[:3]))):
            _delete_tree(path)


def _link(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return None


def _inside(folder: Path, name: str) -> Path:
    path = Path(os.path.normpath(folder / name))
    if path != folder and folder not in path.parents:
        raise StartError(f"{name!r} is not inside the Actor's directory")
    return path


def _delete_tree(path: Path) -> None:
    while path.exists():
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            # Someone else deletes something of it at the same time.
            continue
        except PermissionError:
            # An Actor may take the right to write from its own directories.
            _open_up(path)
            shutil.rmtree(path)


def _open_up(folder: Path) -> None:
    folder.chmod(0o700)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            _open_up(Path(entry.path))
