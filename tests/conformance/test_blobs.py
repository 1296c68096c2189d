"""What every blob store must do: a local directory, and S3 (``--s3``)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actorium.storage.blobs import BlobNotFoundError, Blobs, LocalBlobs


async def pieces(*values: bytes) -> AsyncIterator[bytes]:
    for value in values:
        yield value


async def whole(blobs: Blobs, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in await blobs.get(key, start, end)])


@pytest.mark.parametrize("size", [0, 1, 65_537, 1_048_576, 20_000_003])
async def test_values_come_back_whole(blobs: Blobs, size: int) -> None:
    value = os.urandom(size)
    chunks = [value[start : start + 300_000] for start in range(0, size, 300_000)]
    assert await blobs.put("records/store/key-_1", pieces(*chunks)) == size
    assert await whole(blobs, "records/store/key-_1") == value


async def test_parts(blobs: Blobs) -> None:
    value = os.urandom(3_000_000)
    await blobs.put("a/b", pieces(value))
    for start, end in ((0, 1), (0, None), (5, None), (2_999_999, None), (1_000_000, 2_500_000), (0, 3_000_000)):
        assert await whole(blobs, "a/b", start, end) == value[start:end]
        assert await blobs.read("a/b", start, end or len(value)) == value[start:end]
    with pytest.raises(BlobNotFoundError):
        await whole(blobs, "a/missing", 5, 7)
    # A value that was cut is not there either: nobody is to take a part of it for the whole.
    for key, start, end in (("a/missing", 5, 7), ("a/b", 2_999_000, 3_000_001)):
        with pytest.raises(BlobNotFoundError):
            await blobs.read(key, start, end)


async def test_put_replaces(blobs: Blobs) -> None:
    await blobs.put("a/b", pieces(b"first"))
    await blobs.put("a/b", pieces(b"second"))
    assert await whole(blobs, "a/b") == b"second"


async def test_missing(blobs: Blobs) -> None:
    with pytest.raises(BlobNotFoundError):
        await blobs.get("a/missing")
    await blobs.delete("a/missing")


async def test_delete(blobs: Blobs) -> None:
    await blobs.put("a/gone", pieces(b"x"))
    await blobs.put("a/kept", pieces(b"y"))
    await blobs.delete("a/gone")
    with pytest.raises(BlobNotFoundError):
        await blobs.get("a/gone")
    assert await whole(blobs, "a/kept") == b"y"


@pytest.mark.parametrize("after", [0, 100_000, 20_000_000])
async def test_a_failed_upload_stores_nothing(blobs: Blobs, after: int) -> None:
    async def failing() -> AsyncIterator[bytes]:
        for _ in range(0, after, 100_000):
            yield bytes(100_000)
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError, match="the client went away"):
        await blobs.put("a/failed", failing())
    with pytest.raises(BlobNotFoundError):
        await blobs.get("a/failed")


async def test_local_start_clears_what_a_crash_left(tmp_path: Path) -> None:
    first = LocalBlobs(tmp_path)
    await first.start()
    await first.put("a/b", pieces(b"kept"))
    (tmp_path / "unfinished" / "half").write_bytes(b"half")
    await first.stop()
    second = LocalBlobs(tmp_path)
    await second.start()
    assert await whole(second, "a/b") == b"kept"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["b"]
    await second.stop()


async def test_local_read_goes_on_after_a_delete(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    await blobs.start()
    value = os.urandom(3_000_000)
    await blobs.put("a/b", pieces(value))
    chunks = await blobs.get("a/b")
    begun = await anext(chunks)
    await blobs.delete("a/b")
    assert begun + b"".join([chunk async for chunk in chunks]) == value
    await blobs.stop()


async def test_local_file_that_goes_before_it_is_opened(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    await blobs.start()
    await blobs.put("a/b", pieces(b"value"))
    chunks = await blobs.get("a/b")
    await blobs.delete("a/b")
    with pytest.raises(BlobNotFoundError):
        await anext(chunks)
    await blobs.stop()


async def test_local_read_that_is_cancelled_leaves_no_file_open(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    await blobs.start()
    await blobs.put("a/b", pieces(os.urandom(3_000_000)))
    for steps in range(6):
        chunks = await blobs.get("a/b")
        reading = asyncio.ensure_future(anext(chunks))
        for _ in range(steps):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await chunks.aclose()
    await blobs.stop()
    opened = [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]
    assert [path for path in opened if path.startswith(str(tmp_path))] == []
