"""A full disk under storages: 507, nothing half-stored, reads go on, and writes do when there is space again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.platform import Platform, Refused

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("disk"), pytest.mark.timeout(200)]


@pytest.fixture
def platform(small_disk: Path) -> Iterator[Platform]:
    found = Platform(small_disk / "data").start()
    found.first_token()
    yield found
    found.stop()


@pytest.fixture
def small_disk_filler(small_disk: Path) -> Callable[[int], Path]:
    """Fills the disk up to some bytes; removing the file makes space again."""

    def fill(left: int) -> Path:
        filler = small_disk / "filler"
        free = os.statvfs(small_disk)
        with filler.open("wb") as file:
            file.write(b"x" * (free.f_bavail * free.f_frsize - left))
        return filler

    return fill


def refused(call: Callable[[], Any], most: int = 100) -> tuple[int, Refused]:
    """How often the call succeeds before it is refused, and the refusal."""
    for done in range(most):
        try:
            call()
        except Refused as error:
            return done, error
    raise AssertionError(f"{most} calls fit a disk that has no room for them")


def test_a_push(platform: Platform, small_disk_filler: Callable[[int], Path]) -> None:
    dataset = platform.call("POST", "/v2/datasets")["id"]
    items = f"/v2/datasets/{dataset}/items"
    batch = [{"n": number, "text": "y" * 20_000} for number in range(50)]
    platform.call("POST", items, batch)
    filler = small_disk_filler(3_000_000)
    stored, error = refused(lambda: platform.call("POST", items, batch))
    assert (error.status, error.type) == (507, "out-of-disk-space")
    found = platform.call("GET", items)
    assert [item["n"] for item in found] == list(range(50)) * (stored + 1), "reads go on, and no push is there in part"
    shown = platform.call("GET", f"/v2/datasets/{dataset}")
    assert shown["itemCount"] == 50 * (stored + 1)
    filler.unlink()
    platform.call("POST", items, batch)
    assert len(platform.call("GET", items)) == 50 * (stored + 2)


def test_a_large_record(platform: Platform, small_disk_filler: Callable[[int], Path], small_disk: Path) -> None:
    store = platform.call("POST", "/v2/key-value-stores")["id"]
    records = f"/v2/key-value-stores/{store}/records"
    text = {"Content-Type": "text/plain"}
    platform.call("PUT", f"{records}/OLD", b"o" * 500_000, headers=text)
    filler = small_disk_filler(3_000_000)
    for key in ("OLD", "NEW"):
        with pytest.raises(Refused) as error:
            platform.call("PUT", f"{records}/{key}", b"n" * 8_000_000, headers=text)
        assert (error.value.status, error.value.type) == (507, "out-of-disk-space")
    assert platform.call("GET", f"{records}/OLD") == "o" * 500_000
    assert [item["key"] for item in platform.call("GET", f"{records[:-8]}/keys")["items"]] == ["OLD"]
    assert list((small_disk / "data" / "blobs" / "unfinished").iterdir()) == []
    filler.unlink()
    platform.call("PUT", f"{records}/OLD", b"n" * 8_000_000, headers=text)
    assert platform.call("GET", f"{records}/OLD") == "n" * 8_000_000
    assert platform.call("GET", f"/v2/key-value-stores/{store}")["stats"]["storageBytes"] == 8_000_000


def test_a_batch_of_requests(platform: Platform, small_disk_filler: Callable[[int], Path]) -> None:
    queue = platform.call("POST", "/v2/request-queues")["id"]
    sent = 0

    def add() -> None:
        nonlocal sent
        batch = [
            {"uniqueKey": f"{sent}-{number}", "url": "http://example.com", "userData": {"text": "y" * 20_000}}
            for number in range(25)
        ]
        platform.call("POST", f"/v2/request-queues/{queue}/requests/batch?clientKey=test", batch)
        sent += 1

    add()
    filler = small_disk_filler(3_000_000)
    _, error = refused(add)
    assert (error.status, error.type) == (507, "out-of-disk-space")

    def keys() -> set[str]:
        found = platform.call("GET", f"/v2/request-queues/{queue}/requests?clientKey=test")["items"]
        return {item["uniqueKey"] for item in found}

    assert keys() == {f"{batch}-{number}" for batch in range(sent) for number in range(25)}
    assert platform.call("GET", f"/v2/request-queues/{queue}")["totalRequestCount"] == 25 * sent
    filler.unlink()
    add()
    assert len(keys()) == 25 * sent
    head = platform.call("POST", f"/v2/request-queues/{queue}/head/lock?lockSecs=60&limit=1&clientKey=test")
    assert [item["uniqueKey"] for item in head["items"]] == ["0-0"]


def test_a_spreadsheet(platform: Platform, small_disk_filler: Callable[[int], Path], small_disk: Path) -> None:
    """Its temporary file may find no space either."""
    temporary = small_disk / "tmp"
    temporary.mkdir()
    platform.stop()
    platform.env["TMPDIR"] = str(temporary)
    platform.start()
    dataset = platform.call("POST", "/v2/datasets")["id"]
    batch = [{"text": f"{number} {os.urandom(3000).hex()}"} for number in range(1000)]
    platform.call("POST", f"/v2/datasets/{dataset}/items", batch)
    small_disk_filler(2_000_000)
    with pytest.raises(Refused) as error:
        platform.call("GET", f"/v2/datasets/{dataset}/items?format=xlsx")
    assert (error.value.status, error.value.type) == (507, "out-of-disk-space")
    assert list(temporary.iterdir()) == []
    assert len(platform.call("GET", f"/v2/datasets/{dataset}/items")) == 1000
