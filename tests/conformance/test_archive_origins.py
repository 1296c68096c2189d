"""Versions in archives at a URL, over real HTTP. docs: source types, Tarball."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from actorium.builders import BuildFailed, Origin
from actorium.builders.origins import Downloads, GitRules, Origins
from actorium.builders.origins.downloads import without_credentials
from actorium.kit import new_id
from actorium.outbound import Outbound
from support.receiver import Receiver

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
STORE = "storestorestorest"


class Desk:
    """Fetches archives; ``records`` are those of the user ``jane``."""

    def __init__(self, root: Path, *, allow_private: bool = True, own: str = "http://own.example", most: int = 1000):
        self.root = root
        self.log = ""
        self.records: dict[str, bytes] = {}
        outbound = Outbound(allow_private=allow_private)
        rules = GitRules(allow_local=False, mirrors={}, known_hosts=root / "known_hosts", max_bytes=most)
        self.origins = Origins(outbound, Downloads(outbound, (own,), most), rules, self._read, str)

    async def _read(self, user_id: str, store_id: str, key: str) -> AsyncIterator[bytes] | None:
        found = self.records.get(key) if (user_id, store_id) == ("jane", STORE) else None
        return None if found is None else _chunks(found)

    async def fetch(self, url: str) -> bytes:
        folder = self.root / new_id()
        folder.mkdir()

        def write(data: bytes) -> None:
            self.log += data.decode()

        try:
            sources = await self.origins.fetch(Origin(new_id(), "jane", "actor", "TARBALL", url), folder, write)
        finally:
            await self.origins.close()
        assert sources.archive is not None
        return sources.archive.read_bytes()

    async def fails(self, url: str) -> str:
        with pytest.raises(BuildFailed) as error:
            await self.fetch(url)
        return str(error.value)


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = await Receiver().start()
    yield found
    await found.stop()


def moved(target: str) -> Answer:
    return answer(302, headers={"Location": target})


def answer(status: int = 200, **more: Any) -> Answer:
    async def give(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, **more)

    return give


async def test_redirects_are_followed_within_bounds(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers["/a"] = moved("/b/../c?token=secret-text")
    receiver.answers["/c"] = answer(body=b"archive")
    receiver.answers["/round"] = moved("/round")
    receiver.answers["/file"] = moved("file:///etc/passwd")
    desk = Desk(tmp_path)
    address = receiver.url.removeprefix("http://")
    assert await desk.fetch(f"http://jane:password@{address}/a?signature=secret") == b"archive"
    assert "secret" not in desk.log
    assert "password" not in desk.log
    first, second = receiver.received
    assert (first.headers["authorization"], second.path) == ("Basic amFuZTpwYXNzd29yZA==", "/c")
    assert "redirected 10 times" in await desk.fails(f"{receiver.url}/round")
    assert "not http(s)" in await desk.fails(f"{receiver.url}/file")


async def test_what_is_not_there_and_what_is_too_large(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers["/none"] = 404
    receiver.answers["/large"] = answer(body=b"x" * 1001)
    receiver.answers["/whole"] = answer(body=b"x" * 1000)
    desk = Desk(tmp_path)
    assert f"{receiver.url}/none is not there: the answer was 404" in await desk.fails(f"{receiver.url}/none")
    assert "larger than 1000 bytes" in await desk.fails(f"{receiver.url}/large")
    assert len(await desk.fetch(f"{receiver.url}/whole")) == 1000
    assert "cannot be downloaded" in await desk.fails("http://127.0.0.1:1/x")
    assert "cannot be downloaded" in await desk.fails("http://nowhere.invalid/x")


async def test_private_addresses_can_be_forbidden(tmp_path: Path, receiver: Receiver) -> None:
    port = receiver.url.rpartition(":")[2]
    receiver.answers["/own"] = moved(f"http://localhost:{port}/inside")
    desk = Desk(tmp_path, allow_private=False)
    for url in (f"{receiver.url}/x", f"http://localhost:{port}/x", f"http://[::ffff:127.0.0.1]:{port}/x"):
        assert "which is private" in await desk.fails(url)
    assert not receiver.received
    desk = Desk(tmp_path, allow_private=False, own=receiver.url)
    assert "which is private" in await desk.fails(f"{receiver.url}/own"), "only the server itself is allowed"
    assert [one.path for one in receiver.received] == ["/own"]


async def test_a_record_of_ones_own_is_read_without_a_call(tmp_path: Path, receiver: Receiver) -> None:
    desk = Desk(tmp_path)
    desk.records["version 1.zip"] = b"from the store"
    url = f"http://no-such-host.invalid/v2/key-value-stores/{STORE}/records/version%201.zip?disableRedirect=true"
    assert await desk.fetch(url) == b"from the store"
    receiver.answers[f"/v2/key-value-stores/{STORE}/records/other.zip"] = answer(body=b"from a call")
    other = f"{receiver.url}/v2/key-value-stores/{STORE}/records/other.zip?signature=x"
    assert await desk.fetch(other) == b"from a call", "another server's record looks the same"
    assert without_credentials(other).endswith("other.zip?...")
