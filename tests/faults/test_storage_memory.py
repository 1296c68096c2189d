"""Bombs, and readers that stop: the server's memory stays bounded, others are answered, and nothing is left behind."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import zlib
from contextlib import ExitStack, closing
from pathlib import Path

import brotli
import pytest
import zstandard

from support.platform import TOKEN, Platform, Refused, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300), pytest.mark.xdist_group("faults")]

_MIB = 1024 * 1024
_BOMB_BYTES = 512 * _MIB


def rss_bytes(platform: Platform) -> int:
    fields = Path(f"/proc/{platform.pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(platform: Platform) -> int:
    status = Path(f"/proc/{platform.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _bombs() -> dict[str, bytes]:
    piece, count = b" " * _MIB, _BOMB_BYTES // _MIB
    br = brotli.Compressor(quality=5)
    zst = zstandard.ZstdCompressor(level=1).compressobj()
    deflate = zlib.compressobj(9)
    inner = {
        "br": b"".join(br.process(piece) for _ in range(count)) + br.finish(),
        "zstd": b"".join(zst.compress(piece) for _ in range(count)) + zst.flush(),
        "deflate": b"".join(deflate.compress(piece) for _ in range(count)) + deflate.flush(),
    }
    return {**inner, "gzip": gzip.compress(b" " * (64 * _MIB), 9)}


def test_bombs(platform: Platform) -> None:
    dataset = platform.call("POST", "/v2/datasets")["id"]
    queue = platform.call("POST", "/v2/request-queues")["id"]
    store = platform.call("POST", "/v2/key-value-stores")["id"]
    bombs = _bombs()
    before = peak_bytes(platform)
    for encoding, bomb in bombs.items():
        assert len(bomb) < _MIB
        headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
        calls = [("POST", f"/v2/datasets/{dataset}/items"), ("PUT", f"/v2/datasets/{dataset}")]
        calls += [("POST", f"/v2/request-queues/{queue}/requests/batch"), ("POST", "/v2/key-value-stores")]
        for method, path in calls:
            with pytest.raises(Refused) as error:
                platform.call(method, path, bomb, headers=headers)
            assert (error.value.status, error.value.type) == (413, "request-too-large"), (encoding, method, path)
    assert platform.call("GET", f"/v2/datasets/{dataset}")["itemCount"] == 0
    for encoding, bomb in bombs.items():
        record = f"/v2/key-value-stores/{store}/records/{encoding}"
        platform.call("PUT", record, bomb, headers={"Content-Encoding": encoding, "Content-Type": "text/plain"})
        with closing(open_reader(platform, record)) as reader:
            head = reader.recv(_MIB)
            assert head.startswith(b"HTTP/1.1 200")
    assert peak_bytes(platform) - before < 100 * _MIB


def open_reader(platform: Platform, path: str) -> socket.socket:
    """A client that has sent its call and reads nothing yet."""
    connection = socket.create_connection(("127.0.0.1", int(platform.url.rpartition(":")[2])), timeout=60)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    return connection


@pytest.fixture
def large(platform: Platform) -> str:
    """A dataset of 160 MB in pushes of 8 MB."""
    dataset = platform.call("POST", "/v2/datasets")["id"]
    item = json.dumps({"number": 1, "text": "x" * 4000})
    push = f"[{','.join([item] * 2000)}]".encode()
    for _ in range(20):
        platform.call("POST", f"/v2/datasets/{dataset}/items", push)
    return str(dataset)


def spreadsheets(platform: Platform) -> list[Path]:
    return list(Path(platform.env["TMPDIR"]).glob("actorium-xlsx-*"))


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, platform: Platform) -> None:
    """A folder of its own for the server's temporary files."""
    (tmp_path / "tmp").mkdir()
    platform.stop()
    platform.env["TMPDIR"] = str(tmp_path / "tmp")
    platform.start()


def connection_count(platform: Platform) -> int:
    links = []
    for path in Path(f"/proc/{platform.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(path.readlink()))
    return sum(link.startswith("socket:") for link in links)


def others_are_answered(platform: Platform, dataset: str) -> None:
    for number in range(20):
        platform.call("POST", f"/v2/datasets/{dataset}/items", {"n": number})
        assert platform.call("GET", f"/v2/datasets/{dataset}/items?desc=1&limit=1") == [{"n": number}]


def test_readers_that_stop(platform: Platform, large: str) -> None:
    other = platform.call("POST", "/v2/datasets")["id"]
    others_are_answered(platform, other)
    before, connections_before = rss_bytes(platform), connection_count(platform)
    with ExitStack() as stack:
        for number in range(50):
            name = ("json", "csv", "jsonl", "xml")[number % 4]
            reader = stack.enter_context(closing(open_reader(platform, f"/v2/datasets/{large}/items?format={name}")))
            assert reader.recv(16).startswith(b"HTTP/1.1 200")
        others_are_answered(platform, other)
        grown = rss_bytes(platform) - before
        assert grown < 50 * 10 * _MIB, f"{grown / 50 / _MIB:.1f} MB for each reader of 160 MB"
    # PostgreSQL's pool may have grown meanwhile: its connections are sockets too.
    wait_for(lambda: connection_count(platform) <= connections_before + 10)
    assert platform.call("GET", f"/v2/datasets/{large}/items?format=csv&fields=number").count("\n") == 40_001


def test_spreadsheets_nobody_waits_for(platform: Platform, large: str) -> None:
    other = platform.call("POST", "/v2/datasets")["id"]
    before = rss_bytes(platform)
    path = f"/v2/datasets/{large}/items?format=xlsx&limit=4000"
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(closing(open_reader(platform, path)))
        wait_for(lambda: len(spreadsheets(platform)) == 3)
        others_are_answered(platform, other)
        assert rss_bytes(platform) - before < 150 * _MIB
    wait_for(lambda: spreadsheets(platform) == [])
