"""What the log store promises: order, exactly once, whole lines, followers that end."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actorium.domain.log_lines import Splitter, without_stamps
from actorium.storage.logs import LogStore

AT_MS = 1_788_167_605_123
STAMP = b"2026-08-31T09:13:25.123Z "
LINE = re.compile(rb"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z [^\n]*")
HERE = Path(__file__).parent


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LogStore]:
    store = LogStore(tmp_path / "logs")
    yield store
    await store.stop()


async def log_of(store: LogStore, job_id: str) -> bytes:
    return b"".join([lines async for lines in store.read_lines(job_id)])


async def followed(store: LogStore, job_id: str) -> bytes:
    return b"".join([lines async for lines in store.follow(job_id)])


async def test_output_becomes_stamped_lines(store: LogStore) -> None:
    store.open("run1")
    await store.platform_line("run1", AT_MS, "ACTOR: Starting Docker container.")
    await store.append("run1", AT_MS, b"one\r\ntw")
    await store.append("run1", AT_MS, b"o\x00 \xe6\xbc")
    await store.append("run1", AT_MS, b"\xa2\nbad \xff\nbar\rbar")
    await store.finish("run1")
    texts = ["ACTOR: Starting Docker container.", "one", "two\x00 漢", "bad \ufffd", "bar\rbar"]
    assert await log_of(store, "run1") == b"".join(STAMP + text.encode() + b"\n" for text in texts)


async def test_a_platform_line_goes_before_a_line_under_way(store: LogStore) -> None:
    store.open("run1")
    await store.append("run1", AT_MS, b"under w")
    await store.platform_line("run1", AT_MS, "ACTOR: hello")
    await store.append("run1", AT_MS, b"ay\n")
    await store.checkpoint("run1")
    assert await log_of(store, "run1") == STAMP + b"ACTOR: hello\n" + STAMP + b"under way\n"


async def test_reading_by_offset(store: LogStore) -> None:
    assert await store.read("unknown", 0, 10) == b""
    assert await store.size("unknown") == 0
    store.open("run1")
    await store.append("run1", AT_MS, b"0123456789\npending")
    await store.checkpoint("run1")
    assert await store.size("run1") == len(STAMP) + 11
    assert await store.read("run1", len(STAMP) + 2, 4) == b"2345"
    assert await store.read("run1", len(STAMP) + 8, 100) == b"89\n"
    assert await store.read("run1", 1000, 100) == b""
    await store.finish("run1")
    assert await store.read("run1", len(STAMP) + 11, 100) == STAMP + b"pending\n"


async def test_an_id_cannot_leave_the_folder(store: LogStore) -> None:
    with pytest.raises(ValueError, match="not a run or build id"):
        await store.read("../../etc/passwd", 0, 10)


async def test_secrets_are_masked_wherever_the_output_is_cut(store: LogStore) -> None:
    store.open("run1", secrets=["hunter2", "hunter2-and-more", ""])
    await store.append("run1", AT_MS, b"password is hun")
    await store.append("run1", AT_MS, b"ter2, or hunter2-and-more\n")
    await store.platform_line("run1", AT_MS, "ACTOR: used hunter2")
    log = await log_of(store, "run1")
    assert log == STAMP + b"password is *****, or *****\n" + STAMP + b"ACTOR: used *****\n"


async def test_a_follower_sees_everything_and_ends(store: LogStore) -> None:
    store.open("run1")
    await store.append("run1", AT_MS, b"early\n")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        followers = [group.create_task(followed(store, "run1")) for _ in range(3)]
        for number in range(2000):
            await store.append("run1", AT_MS, b"line %d\nhalf" % number)
            if number % 100 == 0:
                await store.checkpoint("run1")
        await store.finish("run1")
    whole = await log_of(store, "run1")
    assert whole.count(b"\n") == 2002
    assert {follower.result() for follower in followers} == {whole}
    assert store.follower_count("run1") == 0


async def test_followers_get_whole_lines_however_long(store: LogStore) -> None:
    store.open("run1")
    await store.append("run1", AT_MS, b"x" * 900_000 + b"\nshort\n" + b"\xff" * 1_048_576 + b"\n")
    await store.finish("run1")
    chunks = [lines async for lines in store.follow("run1")]
    assert all(chunk.endswith(b"\n") and chunk.startswith(STAMP) for chunk in chunks)
    assert b"".join(chunks) == await log_of(store, "run1")
    assert [len(line) - len(STAMP) for line in b"".join(chunks).splitlines()] == [900_000, 5, 3 * 1_048_576]


async def test_a_follower_sees_a_line_without_waiting_for_more(store: LogStore) -> None:
    store.open("run1")
    follower = store.follow("run1")
    async with asyncio.timeout(20):
        for number in range(5):
            await store.append("run1", AT_MS, b"%d\n" % number)
            assert await anext(follower) == STAMP + b"%d\n" % number
    await follower.aclose()
    assert store.follower_count("run1") == 0


async def test_a_finished_log_goes_on_after_a_resurrection(store: LogStore) -> None:
    store.open("run1")
    await store.append("run1", AT_MS, b"first life", position="a:10")
    await store.finish("run1")
    assert await followed(store, "run1") == STAMP + b"first life\n"
    store.open("run1")
    follower = store.follow("run1")
    async with asyncio.timeout(20):
        assert await anext(follower) == STAMP + b"first life\n"
        await store.append("run1", AT_MS, b"second life\n", position="b:12")
        assert await anext(follower) == STAMP + b"second life\n"
        await store.finish("run1")
        assert [lines async for lines in follower] == []
    with pytest.raises(RuntimeError, match="not open"):
        await store.append("run1", AT_MS, b"too late\n")


async def test_a_job_that_is_not_open_yet_is_waited_for(store: LogStore) -> None:
    asked = asyncio.Event()
    is_over = False

    async def over() -> bool:
        asked.set()
        return is_over

    async def follow() -> bytes:
        return b"".join([lines async for lines in store.follow("run1", over)])

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        queued = group.create_task(follow())
        await asked.wait()
        assert await followed(store, "run1") == b""
        store.open("run1")
        await store.append("run1", AT_MS, b"hello\n")
        await store.finish("run1")
    assert queued.result() == STAMP + b"hello\n"
    is_over = True
    async with asyncio.timeout(20):
        assert await followed(store, "never") == b""
        assert [lines async for lines in store.follow("never", over)] == []


async def test_a_log_another_process_writes_is_followed(tmp_path: Path) -> None:
    root = tmp_path / "logs"
    writing, reading = LogStore(root), LogStore(root)
    is_over = False

    async def over() -> bool:
        return is_over

    writing.open("run1")
    await writing.append("run1", AT_MS, b"one\n")
    await writing.checkpoint("run1")
    follower = reading.follow("run1", over)
    async with asyncio.timeout(20):
        assert await anext(follower) == STAMP + b"one\n"
        await writing.append("run1", AT_MS, b"two\n")
        assert await anext(follower) == STAMP + b"two\n"
        await writing.finish("run1")
        is_over = True
        assert [lines async for lines in follower] == []
    await writing.stop()
    await reading.stop()


async def test_delete_ends_followers_and_leaves_nothing(store: LogStore, tmp_path: Path) -> None:
    store.open("run1")
    await store.append("run1", AT_MS, b"one\n")
    follower = store.follow("run1")
    async with asyncio.timeout(20):
        assert await anext(follower) == STAMP + b"one\n"
        await store.delete("run1")
        assert [lines async for lines in follower] == []
    await store.delete("run1")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert await log_of(store, "run1") == b""


async def test_stopping_the_store_ends_followers_and_loses_nothing(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    store.open("run1")
    await store.append("run1", AT_MS, b"one\npend", position="a:8")
    follower = store.follow("run1")
    async with asyncio.timeout(20):
        assert await anext(follower) == STAMP + b"one\n"
        await store.stop()
        assert [lines async for lines in follower] == []
    again = LogStore(tmp_path)
    assert await again.recover("run1") == "a:8"
    await again.append("run1", AT_MS, b"ing\n", position="a:12")
    await again.finish("run1")
    assert await log_of(again, "run1") == STAMP + b"one\n" + STAMP + b"pending\n"
    await again.stop()


async def test_no_save_is_left_to_do_after_the_store_was_stopped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = LogStore(tmp_path / "logs", checkpoint_secs=0.01)
    await store.start()
    for number in range(20):
        store.open(f"job{number}")
        await store.append(f"job{number}", 0, b"line\n")
    await store.stop()
    await asyncio.sleep(0.05)
    assert caplog.records == []


async def test_recovery_cuts_what_no_checkpoint_knows(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    store.open("run1")
    await store.append("run1", AT_MS, b"one\ntw", position="a:6")
    assert await store.checkpoint("run1") == "a:6"
    await store.stop()
    (log,) = tmp_path.rglob("run1.log")
    with log.open("ab") as file:
        file.write(STAMP + b"two\n" + STAMP + b"torn li")
    again = LogStore(tmp_path)
    assert await again.recover("run1") == "a:6"
    await again.append("run1", AT_MS, b"o\nthree\n", position="a:14")
    await again.finish("run1")
    assert await log_of(again, "run1") == STAMP + b"one\n" + STAMP + b"two\n" + STAMP + b"three\n"
    await again.stop()


async def test_a_log_nobody_checkpointed_starts_again(tmp_path: Path) -> None:
    (tmp_path / "ru").mkdir()
    (tmp_path / "ru" / "run1.log").write_bytes(STAMP + b"written, then killed\n")
    store = LogStore(tmp_path)
    assert await store.recover("run1") is None
    assert await log_of(store, "run1") == b""
    await store.stop()


async def test_the_cap_keeps_the_beginning_and_says_so_once(tmp_path: Path) -> None:
    store = LogStore(tmp_path, max_log_bytes=1000)
    store.open("run1")
    for number in range(100):
        await store.append("run1", AT_MS, b"line %02d\n" % number, position=f"a:{number}")
    await store.platform_line("run1", AT_MS, "ACTOR: still heard")
    assert await store.checkpoint("run1") == "a:99"
    await store.stop()
    again = LogStore(tmp_path, max_log_bytes=1000)
    assert await again.recover("run1") == "a:99"
    await again.append("run1", AT_MS, b"dropped")
    await again.finish("run1")
    kept = 1000 // (len(STAMP) + 8)
    lines = (await log_of(again, "run1")).splitlines()
    assert lines[:kept] == [STAMP + b"line %02d" % number for number in range(kept)]
    notice = b"ACTOR: The log is longer than 1000 bytes, further output is not stored."
    assert lines[kept:] == [STAMP + notice, STAMP + b"ACTOR: still heard"]
    await again.stop()


def test_a_full_disk_loses_output_but_not_the_writer(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, HERE / "log_full_disk_process.py", tmp_path], capture_output=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stderr.decode()
    (log,) = tmp_path.rglob("run1.log")
    first, notice, last = log.read_bytes().splitlines()
    assert (first, last) == (STAMP + b"before", STAMP + b"after")
    lost = sum(len(STAMP + b"lost %d\n" % number) for number in range(50)) + len(STAMP + b"ACTOR: lost as well\n")
    assert notice == STAMP + b"ACTOR: %d bytes of output could not be stored here." % lost


def random_output(rng: random.Random, size: int) -> bytes:
    words = [b"word", b"\n", b"\r\n", b"\r", "é漢😀".encode(), b"\xff", b"\xf0\x9f", b"\x00", b"x" * 200, b"y" * 9_000]
    weights = [20, 15, 3, 1, 5, 1, 1, 1, 5, 1]
    parts = rng.choices(words, weights, k=size // 60)
    parts.insert(len(parts) // 2, b"z" * 2_500_000)
    return b"".join(parts)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(3))
def test_every_byte_is_stored_once_however_often_the_writer_is_killed(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    spool = tmp_path / "spool"
    spool.write_bytes(random_output(rng, 3_000_000))
    durable: list[str] = []
    offsets: list[int] = []
    for life in range(200):
        process = subprocess.Popen(
            [sys.executable, HERE / "log_writer_process.py", tmp_path / "logs", spool, "run1", str(life)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        offsets.append(int(process.stdout.readline().split()[1]))
        marks_left, lines_left = rng.randint(life < 2, 2), rng.randint(0, 15)
        for line in process.stdout:
            word, _, value = line.strip().partition(" ")
            if word == "mark":
                durable.append(value)
                marks_left -= 1
            elif marks_left <= 0:
                lines_left -= 1
            if life < 12 and lines_left < 0:
                process.kill()
        process.wait()
        process.stdout.close()
        if process.returncode == 0:
            break
    assert offsets == sorted(offsets)
    assert len(set(offsets)) > 2, "the writer was not killed on its way"

    (log_file,) = (tmp_path / "logs").rglob("run1.log")
    log = log_file.read_bytes()
    assert log.endswith(b"\n")
    lines = log[:-1].split(b"\n")
    assert all(LINE.fullmatch(line) for line in lines)
    texts = without_stamps(log).split(b"\n")
    marks = [text.removeprefix(b"ACTOR: mark ").decode() for text in texts if text.startswith(b"ACTOR: mark ")]
    assert len(marks) == len(set(marks))
    assert set(durable) <= set(marks)
    splitter = Splitter()
    expected = splitter.feed(spool.read_bytes()) + splitter.end()
    assert b"\n".join(text for text in texts if not text.startswith(b"ACTOR: mark ")) == expected


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_many_logs_leave_no_files_open(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    before = open_files()
    for number in range(30):
        job_id = f"run{number}"
        store.open(job_id)
        await store.append(job_id, AT_MS, b"one\n")
        follower = store.follow(job_id)
        assert await anext(follower) == STAMP + b"one\n"
        if number % 2:
            await store.finish(job_id)
        await follower.aclose()
    await store.stop()
    assert open_files() <= before


async def test_a_writer_that_is_too_fast_is_held_back(store: LogStore) -> None:
    store.open("run1")
    data = b"x" * 99 + b"\n"
    log = store._logs["run1"]
    for _ in range(50):
        await store.append("run1", AT_MS, data * 1000)
        assert log.queued_bytes <= 700_000
    await store.finish("run1")
    assert await store.size("run1") == 50_000 * (100 + len(STAMP))
