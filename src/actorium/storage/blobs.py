"""Large values as objects: one small port over a local directory and S3-compatible (or other) object stores."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import obstore
import obstore.store

from actorium.kit import random_text
from actorium.storage.db import noticing_full_disk

T = TypeVar("T")
_THREADS = 8
_CHUNK_BYTES = 1024 * 1024
_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 2


class BlobNotFoundError(Exception):
    """No object has this key."""


class Blobs(Protocol):
    """Objects by key. Keys are made by the program: ``/``-separated parts of ``[A-Za-z0-9_-]``."""

    async def start(self) -> None:
        """Prepare the store; fails when it cannot be used."""
        ...

    async def stop(self) -> None:
        """Release what is held."""
        ...

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Store an object and return its size. It is durable on return, and either whole or not there.

        Raises ``OutOfDiskSpaceError``.
        """
        ...

    async def get(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Open an object for reading in pieces, from byte ``start`` up to before ``end`` (``None``: to its end).

        ``start`` is before ``end``, or 0. Raises ``BlobNotFoundError``, at the latest with the first piece.
        """
        ...

    async def read(self, key: str, start: int, end: int) -> bytes:
        """The part of an object from byte ``start`` up to before ``end``, in one piece.

        Raises ``BlobNotFoundError`` also when the object ends before.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there counts as removed."""
        ...


class LocalBlobs:
    """Objects as files below a directory: written aside, flushed to disk, then renamed into place."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Threads of its own: waiting for the disk must not take them from others, nor the other way round.
        self._threads = ThreadPoolExecutor(_THREADS, "blobs")
        self._unfinished = directory / "unfinished"

    async def start(self) -> None:
        """Make the directory, and clear it of what an interrupted program left."""
        await self._run(self._start)

    async def stop(self) -> None:
        """Let what was begun finish."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, function: Callable[..., T], *args: Any) -> T:
        with noticing_full_disk():
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    def _start(self) -> None:
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._unfinished.mkdir(parents=True)

    def _path(self, key: str) -> Path:
        # Two levels of folders by the key's end, which is random, keep folders small.
        head, _, name = key.rpartition("/")
        return self._directory / "objects" / head / name[-2:] / name

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Write, flush, rename, flush the folder."""
        unfinished = self._unfinished / random_text(24)
        size = 0
        file = await self._run(unfinished.open, "wb", 0)
        try:
            gathered: list[bytes] = []
            waiting = 0
            async for chunk in chunks:
                gathered.append(chunk)
                waiting += len(chunk)
                if waiting >= _CHUNK_BYTES:
                    await self._run(_write_all, file.fileno(), gathered)
                    size, waiting, gathered = size + waiting, 0, []
            await self._run(self._finish, file.fileno(), gathered, unfinished, self._path(key))
            return size + waiting
        finally:
            await self._run(_close, file, unfinished)

    def _finish(self, fd: int, gathered: list[bytes], unfinished: Path, path: Path) -> None:
        _write_all(fd, gathered)
        os.fsync(fd)
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.rename(path)
        for folder in (path.parent, *(folder.parent for folder in made)):
            _fsync_folder(folder)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Read the file; once reading has begun it goes on even when the object is deleted meanwhile."""
        path = self._path(key)
        if not await self._run(path.is_file):
            raise BlobNotFoundError(key)

        async def read() -> AsyncGenerator[bytes, None]:
            opening = self._threads.submit(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fd = await asyncio.wrap_future(opening)
            except FileNotFoundError:
                raise BlobNotFoundError(key) from None
            except asyncio.CancelledError:
                opening.add_done_callback(_close_opened)
                raise
            try:
                at = start
                while size := _CHUNK_BYTES if end is None else min(_CHUNK_BYTES, end - at):
                    if not (chunk := await self._run(os.pread, fd, size, at)):
                        return
                    at += len(chunk)
                    yield chunk
            finally:
                os.close(fd)

        return read()

    async def read(self, key: str, start: int, end: int) -> bytes:
        """Open the file, read, close it."""
        return await self._run(_read, self._path(key), start, end)

    async def delete(self, key: str) -> None:
        """Remove the file."""
        await self._run(self._path(key).unlink, True)


def _close_opened(opening: Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())


def _read(path: Path, start: int, end: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise BlobNotFoundError(path.name) from None
    try:
        # One call gives less only at the end of the file, or beyond 2 GB.
        found = os.pread(fd, end - start, start)
    finally:
        os.close(fd)
    if len(found) < end - start:
        raise BlobNotFoundError(path.name)
    return found


def _write_all(fd: int, chunks: list[bytes]) -> None:
    view = memoryview(b"".join(chunks))
    while view:
        view = view[os.write(fd, view) :]


def _close(file: Any, unfinished: Path) -> None:
    file.close()
    unfinished.unlink(missing_ok=True)


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class ObjectStoreBlobs:
    """Objects in an S3-compatible store, or another one ``obstore`` knows, below a URL such as ``s3://bucket/prefix``.

    ``options`` are obstore's: ``endpoint``, ``access_key_id``, ``secret_access_key``, ``region``,
    ``virtual_hosted_style_request``, ``client_options``...; what is missing comes from the environment.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._store: Any = obstore.store.from_url(url, **options)

    async def start(self) -> None:
        """Write and remove a small object, so that wrong settings show at once."""
        key = f"probe/{random_text(24)}"
        await obstore.put_async(self._store, key, b"")
        await obstore.delete_async(self._store, key)

    async def stop(self) -> None:
        """Nothing is held."""

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Upload in parts; an object that is not completed does not appear."""
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in chunks:
                size += len(chunk)
                yield chunk

        await obstore.put_async(
            self._store, key, counted(), use_multipart=True, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
        )
        return size

    async def get(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Start the download."""
        options: Any = {}
        if end is not None:
            options["range"] = (start, end)
        elif start:
            options["range"] = {"offset": start}
        try:
            result = await obstore.get_async(self._store, key, options=options)
        except FileNotFoundError:
            raise BlobNotFoundError(key) from None

        async def read() -> AsyncGenerator[bytes, None]:
            async for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)

        return read()

    async def read(self, key: str, start: int, end: int) -> bytes:
        """Download the range."""
        try:
            found = bytes(await obstore.get_range_async(self._store, key, start=start, end=end))
        except FileNotFoundError:
            raise BlobNotFoundError(key) from None
        if len(found) < end - start:
            raise BlobNotFoundError(key)
        return found

    async def delete(self, key: str) -> None:
        """Remove the object."""
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return
