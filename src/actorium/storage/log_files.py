"""The files of one log, as worker threads see them. Blocking calls only; ``storage/logs.py`` decides when.

Beside ``<id>.log`` lies ``<id>.json``, the checkpoint: how many bytes of the log are certain, and the position in
the process's output they stand for. It is replaced (written aside, synced, renamed) after the log was synced, so
whatever dies in between, the log cut to ``log_bytes`` and the output read on from ``position`` fit together.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from actorium.domain.log_lines import Splitter, one_line, stamp, stamped

_log = structlog.get_logger("actorium.logs")
_RETRY_SECS = 1.0
_CHUNK_BYTES = 262_144
_LONGEST_LINE_BYTES = 4_194_304
"""1 MB of text, every byte of it replaced by the three of U+FFFD, and the stamp."""
_MASK = b"*****"


class Output(msgspec.Struct, frozen=True):
    """What a process wrote; ``position`` names the place in its output right after ``data``."""

    at_ms: int
    data: bytes
    position: str | None


class PlatformLine(msgspec.Struct, frozen=True):
    """A whole line of ours."""

    at_ms: int
    text: str


class Flush(msgspec.Struct, frozen=True):
    """Ends the pending line."""


Entry = Output | PlatformLine | Flush


class Checkpoint(msgspec.Struct, frozen=True):
    """What is certain about a log. ``dropped_bytes``: over the cap; ``lost_bytes``: could not be written."""

    log_bytes: int = 0
    position: str | None = None
    pending: bytes = b""
    last_at_ms: int = 0
    is_full: bool = False
    dropped_bytes: int = 0
    lost_bytes: int = 0


def log_path(root: Path, job_id: str) -> Path:
    """Where a job's log lies; ids are spread over folders by their first two characters."""
    if not (job_id.isascii() and job_id.isalnum()):
        raise ValueError(f"not a run or build id: {job_id!r}")
    return root / job_id[:2] / f"{job_id}.log"


def delete_log(path: Path) -> None:
    """Remove a log's files; one that does not exist is fine."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


class LogWriter:
    """A log that is being written, by one thread at a time. Neither ``write`` nor ``save`` raises for a full disk."""

    def __init__(self, path: Path, max_log_bytes: int, secrets: Sequence[str] = ()) -> None:
        self._path = path
        self._max_log_bytes = max_log_bytes
        self._secrets: tuple[bytes, ...] = ()
        self.mask(secrets)
        self._lock = threading.Lock()
        self._save_lock = threading.Lock()
        self._fd = -1
        self._splitter = Splitter()
        self._retry_at = 0.0
        self._unreported_bytes = 0
        self._turn_bytes = 0
        self._saved: Checkpoint | None = None
        self.size = 0
        self.position: str | None = None
        self.last_at_ms = 0
        self.is_full = False
        self.dropped_bytes = 0
        self.lost_bytes = 0

    def mask(self, secrets: Sequence[str]) -> None:
        """Replace these texts too in what is stored from now on."""
        texts = {*self._secrets, *(text.encode() for text in secrets if text)}
        self._secrets = tuple(sorted(texts, key=lambda text: (-len(text), text)))

    def load(self) -> None:
        """Open the files and cut the log to what is certain. Raises ``OSError``."""
        with self._lock:
            if self._fd < 0:
                self._load()

    def _load(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            checkpoint = self._read_checkpoint(fd)
            os.ftruncate(fd, checkpoint.log_bytes)
        except BaseException:
            os.close(fd)
            raise
        self.size = checkpoint.log_bytes
        self.position = checkpoint.position
        self.last_at_ms = checkpoint.last_at_ms
        self.is_full = checkpoint.is_full
        self.dropped_bytes = checkpoint.dropped_bytes
        self.lost_bytes = checkpoint.lost_bytes
        self._splitter = Splitter(checkpoint.pending)
        self._saved = checkpoint
        self._fd = fd

    def _read_checkpoint(self, fd: int) -> Checkpoint:
        size = os.fstat(fd).st_size
        try:
            checkpoint = msgspec.json.decode(self._path.with_suffix(".json").read_bytes(), type=Checkpoint)
        except FileNotFoundError:
            return Checkpoint()
        except msgspec.DecodeError as error:
            _log.error("checkpoint unreadable, log kept as it is", path=str(self._path), error=str(error))
            return Checkpoint(log_bytes=_whole_lines(fd, size))
        if checkpoint.log_bytes > size:
            _log.error("log shorter than its checkpoint", path=str(self._path), size=size)
            return msgspec.structs.replace(checkpoint, log_bytes=_whole_lines(fd, size))
        return checkpoint

    def write(self, entries: Sequence[Entry]) -> None:
        """Store ``entries`` in order."""
        with self._lock:
            if self._fd < 0:
                try:
                    self._load()
                except OSError as error:
                    self._lose(sum(len(entry.data) for entry in entries if isinstance(entry, Output)), error)
                    return
            out: list[bytes] = []
            self._turn_bytes = 0
            for entry in entries:
                if isinstance(entry, Output):
                    self._output(entry, out)
                elif isinstance(entry, PlatformLine):
                    self.last_at_ms = entry.at_ms
                    out.append(stamp(entry.at_ms) + self._masked(one_line(entry.text)))
                else:
                    self._lines(self._splitter.end(), self.last_at_ms, out)
            self._put(b"".join(out), must_try=any(not isinstance(entry, Output) for entry in entries))

    def _output(self, entry: Output, out: list[bytes]) -> None:
        self.last_at_ms = entry.at_ms
        if entry.position is not None:
            self.position = entry.position
        if self.is_full:
            self.dropped_bytes += len(entry.data)
            return
        self._lines(self._splitter.feed(entry.data), entry.at_ms, out)

    def _masked(self, lines: bytes) -> bytes:
        for secret in self._secrets:
            if secret in lines:
                lines = lines.replace(secret, _MASK)
        return lines

    def _lines(self, texts: bytes, at_ms: int, out: list[bytes]) -> None:
        if not texts:
            return
        lines = stamped(self._masked(texts), stamp(at_ms))
        room = self._max_log_bytes - self.size - self._turn_bytes
        if not self._max_log_bytes or len(lines) <= room:
            self._turn_bytes += len(lines)
            out.append(lines)
            return
        end = lines.rfind(b"\n", 0, max(room, 0)) + 1
        notice = f"ACTOR: The log is longer than {self._max_log_bytes} bytes, further output is not stored."
        out += [lines[:end], stamp(at_ms), one_line(notice)]
        self.dropped_bytes += len(lines) - end + len(self._splitter.pending)
        self._splitter.pending.clear()
        self.is_full = True

    def _put(self, lines: bytes, *, must_try: bool) -> None:
        if not lines and not self._unreported_bytes:
            return
        if self._unreported_bytes and not must_try and time.monotonic() < self._retry_at:
            self._lose(len(lines), None)
            return
        notice = b""
        if self._unreported_bytes:
            text = f"ACTOR: {self._unreported_bytes} bytes of output could not be stored here."
            notice = stamp(self.last_at_ms) + one_line(text)
        try:
            _write_at(self._fd, notice + lines, self.size)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size)
            self._lose(len(lines), error)
            return
        self.size += len(notice) + len(lines)
        self._unreported_bytes = 0

    def _lose(self, count: int, error: OSError | None) -> None:
        if error is not None:
            self._retry_at = time.monotonic() + _RETRY_SECS
            if not self._unreported_bytes:
                _log.error("log cannot be written", path=str(self._path), error=str(error))
        self._unreported_bytes += count
        self.lost_bytes += count

    def save(self, *, for_good: bool) -> bool:
        """Make what is stored by now certain; ``for_good`` also against a power cut right after. Whether it worked.

        May run while another thread writes on.
        """
        with self._save_lock:
            return self._save(for_good=for_good)

    def _save(self, *, for_good: bool) -> bool:
        with self._lock:
            checkpoint = Checkpoint(
                log_bytes=self.size,
                position=self.position,
                pending=bytes(self._splitter.pending),
                last_at_ms=self.last_at_ms,
                is_full=self.is_full,
                dropped_bytes=self.dropped_bytes,
                lost_bytes=self.lost_bytes,
            )
            fd = self._fd
        if fd < 0 or checkpoint == self._saved:
            return True
        try:
            os.fdatasync(fd)
            _replace(self._path.with_suffix(".json"), msgspec.json.encode(checkpoint), for_good=for_good)
        except OSError as error:
            _log.error("log checkpoint failed", path=str(self._path), error=str(error))
            return False
        self._saved = checkpoint
        return True

    def close(self) -> None:
        """Let go of the file."""
        with self._save_lock, self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


class LogReader:
    """Reads a log from its beginning, whole lines only; the file may appear and grow meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._offset = 0
        self._lock = threading.Lock()
        self._is_closed = False

    def next_lines(self, end: int | None) -> bytes:
        """The next whole lines before the byte ``end`` (``None``: all there are), empty when there are none yet."""
        with self._lock:
            return b"" if self._is_closed else self._next_lines(end)

    def _next_lines(self, end: int | None) -> bytes:
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return b""
        length = _CHUNK_BYTES
        while True:
            wanted = length if end is None else min(length, end - self._offset)
            if wanted <= 0:
                return b""
            chunk = os.pread(self._fd, wanted, self._offset)
            lines = chunk.rfind(b"\n") + 1
            if lines:
                self._offset += lines
                return chunk if lines == len(chunk) else chunk[:lines]
            if len(chunk) < length or length >= _LONGEST_LINE_BYTES:
                return b""
            length *= 4

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._is_closed = True
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def read_range(path: Path, offset: int, limit: int) -> bytes:
    """Up to ``limit`` bytes of a log from ``offset``; empty when there is no such log."""
    try:
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), limit, offset)
    except FileNotFoundError:
        return b""


def stored_size(path: Path) -> int:
    """Bytes of a log's file, 0 when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _whole_lines(fd: int, size: int) -> int:
    end = size
    while end > 0:
        start = max(0, end - _CHUNK_BYTES)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _write_at(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def _replace(path: Path, content: bytes, *, for_good: bool) -> None:
    aside = path.with_suffix(".json.new")
    with aside.open("wb", buffering=0) as file:
        _write_at(file.fileno(), content, 0)
        os.fsync(file.fileno())
    aside.replace(path)
    if for_good:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
