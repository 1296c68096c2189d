"""Versions in Git repositories, with the real ``git`` and real servers. docs: source types, Git repository."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from actorium.builders import BuildFailed, Origin, Sources
from actorium.builders.definition import read_definition
from actorium.builders.native import steps
from actorium.builders.origins import Downloads, GitRules, Origins
from actorium.builders.origins.git_urls import parse_git_url, submodule_url
from actorium.builders.sources import write_sources
from actorium.domain.deployment_keys import DeploymentKeys
from actorium.kit import new_id
from actorium.outbound import Outbound
from support.git_server import GitServer, commit, git

KEYS = DeploymentKeys(b"k" * 32)
ACTOR = "actoractoractoract"[:17]


class Desk:
    """Fetches sources, and keeps what the build's log says."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path
        self.log = ""
        self.rules: dict[str, Any] = {"allow_local": True, "mirrors": {}, "max_bytes": 2**30}
        self.allow_private = True

    async def fetch(self, url: str, source_type: str = "GIT_REPO", folder: Path | None = None) -> Sources:
        outbound = Outbound(allow_private=self.allow_private)
        rules = GitRules(known_hosts=self.root / "keys" / "known_hosts", **self.rules)
        origins = Origins(outbound, Downloads(outbound, (), 2**20), rules, no_record, KEYS.private)
        folder = folder or self.root / new_id()
        folder.mkdir()

        def write(data: bytes) -> None:
            self.log += data.decode()

        try:
            return await origins.fetch(Origin(new_id(), "user", ACTOR, source_type, url), folder, write)
        finally:
            await origins.close()

    async def files(self, url: str, **more: Any) -> dict[str, str]:
        """The Actor's files by name."""
        sources = await self.fetch(url, **more)
        root = write_sources(sources, self.root / new_id())
        return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}

    async def fails(self, url: str, **more: Any) -> str:
        with pytest.raises(BuildFailed) as error:
            await self.fetch(url, **more)
        return str(error.value)


async def no_record(_user_id: str, _store_id: str, _key: str) -> None:
    return None


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., GitServer]]:
    servers: list[GitServer] = []

    def start(root: Path = tmp_path / "repositories", **more: Any) -> GitServer:
        servers.append(GitServer(root, **more))
        return servers[-1]

    yield start
    for server in servers:
        await asyncio.to_thread(server.close)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits on main, the branch ``other``, the tag ``v1`` at the first."""
    folder = tmp_path / "repositories" / "actor"
    commit(folder, {"main.py": "first"})
    git(folder, "tag", "--annotate", "v1", "--message", "One")
    git(folder, "branch", "feature/other")
    commit(folder, {"main.py": "second", "actors/one/main.py": "one"})
    git(folder, "checkout", "--quiet", "feature/other")
    commit(folder, {"main.py": "other"})
    git(folder, "checkout", "--quiet", "main")
    return folder


@pytest.mark.parametrize("way", ["file", "smart", "dumb"])
async def test_branch_tag_commit_and_folder(
    desk: Desk, repository: Path, serve: Callable[..., GitServer], way: str
) -> None:
    if way == "file":
        url = f"file://{repository}"
    else:
        git(repository, "update-server-info")
        url = f"{serve(smart=way == 'smart').url}/actor/.git"
    old = git(repository, "rev-parse", "v1^{commit}")
    assert await desk.files(url) == {"main.py": "second", "actors/one/main.py": "one"}
    assert git(repository, "rev-parse", "HEAD") in desk.log, "the log names the commit"
    assert await desk.files(f"{url}#feature/other") == {"main.py": "other"}
    assert await desk.files(f"{url}#v1") == {"main.py": "first"}
    assert await desk.files(f"{url}#{old}") == {"main.py": "first"}
    assert await desk.files(f"{url}#{old[:12]}") == {"main.py": "first"}
    assert await desk.files(f"{url}#:actors/one") == {"main.py": "one"}
    assert "no branch, tag or commit nowhere" in await desk.fails(f"{url}#nowhere")
    assert "no branch, tag or commit abcdef12" in await desk.fails(f"{url}#abcdef12")


async def test_a_folder_that_is_not_there(desk: Desk, repository: Path, tmp_path: Path) -> None:
    commit(repository, {"actors/two/.actor/actor.json": "{}"})
    sources = await desk.fetch(f"file://{repository}#main:actors/three")
    with pytest.raises(BuildFailed, match=r"no folder actors/three\. Folders with \.actor/actor\.json: actors/two"):
        write_sources(sources, tmp_path / "out")
    assert "'..'" in await desk.fails(f"file://{repository}#main:../x")


async def test_only_what_is_needed_is_fetched(
    desk: Desk, repository: Path, serve: Callable[..., GitServer], tmp_path: Path
) -> None:
    big = os.urandom(300_000).hex()
    commit(repository, {"big": big})
    (repository / "big").unlink()
    commit(repository, {"main.py": "third"})
    url = f"{serve().url}/actor/.git"
    desk.rules["max_bytes"] = 100_000
    assert (await desk.files(url))["main.py"] == "third"
    assert not list(tmp_path.glob("*/repository/.git")), "nothing of Git's own is left"


async def test_submodules_of_submodules(desk: Desk, repository: Path, serve: Callable[..., GitServer]) -> None:
    root = repository.parent
    commit(root / "inner", {"inner.txt": "inner"})
    commit(root / "library", {"library.txt": "library"})
    server = serve()
    git(root / "library", "submodule", "--quiet", "add", f"{server.url}/inner/.git", "inner")
    commit(root / "library", {})
    git(repository, "submodule", "--quiet", "add", f"{server.url}/library/.git", "vendor/library")
    git(repository, "config", "--file", ".gitmodules", "submodule.vendor/library.url", "../../library/.git")
    commit(repository, {})
    # What is there since is not what the Actor was written against.
    commit(root / "library", {"library.txt": "newer"})
    files = await desk.files(f"{server.url}/actor/.git")
    assert (files["vendor/library/library.txt"], files["vendor/library/inner/inner.txt"]) == ("library", "inner")
    git(repository, "config", "--file", ".gitmodules", "submodule.vendor/library.url", "ext::sh -c touch% /tmp/bad")
    commit(repository, {})
    assert "must begin with https://" in await desk.fails(f"{server.url}/actor/.git")


async def test_credentials_are_sent_and_never_shown(
    desk: Desk, repository: Path, serve: Callable[..., GitServer]
) -> None:
    secret = base64.b64encode(b"jane:pass word").decode()
    server = serve(authorization=f"Basic {secret}")
    address = server.url.removeprefix("http://")
    assert (await desk.files(f"http://jane:pass%20word@{address}/actor/.git"))["main.py"] == "second"
    message = await desk.fails(f"http://jane:wrong-one@{address}/actor/.git")
    assert "Authentication failed" in message
    for word in ("pass", "wrong", secret, base64.b64encode(b"jane:wrong-one").decode()):
        assert word not in desk.log + message
    assert "Authentication failed" in await desk.fails(f"{server.url}/actor/.git")


async def test_local_repositories_need_the_setting(desk: Desk, repository: Path) -> None:
    desk.rules["allow_local"] = False
    assert "git_local_repositories" in await desk.fails(f"file://{repository}")
    desk.rules["mirrors"] = {"https://git.example.com/": f"file://{repository.parent}/"}
    assert (await desk.files("https://git.example.com/actor#v1"))["main.py"] == "first"


async def test_a_gist_is_a_repository(desk: Desk, repository: Path) -> None:
    number = "0123456789abcdef0123456789abcdef"
    repository.rename(repository.parent / f"{number}.git")
    desk.rules["mirrors"] = {"https://gist.github.com/": f"file://{repository.parent}/"}
    files = await desk.files(f"https://gist.github.com/jane/{number}", source_type="GITHUB_GIST")
    assert files["main.py"] == "second"
    assert f"{number}.git" in desk.log


async def test_private_addresses_can_be_forbidden(
    desk: Desk, repository: Path, serve: Callable[..., GitServer]
) -> None:
    desk.allow_private = False
    server = serve()
    port = server.url.rpartition(":")[2]
    for url in (f"{server.url}/actor/.git", f"http://localhost:{port}/actor/.git", f"ssh://git@localhost:{port}/x"):
        assert "which is private" in await desk.fails(url)
    assert "which is private" in await desk.fails("git@localhost:actor.git")
    assert not server.seen


async def test_links_that_lead_out_are_refused(desk: Desk, repository: Path) -> None:
    (repository / "inside").symlink_to("main.py")
    commit(repository, {})
    assert (await desk.files(f"file://{repository}"))["inside"] == "second"
    (repository / "outside").symlink_to("/etc/passwd")
    commit(repository, {})
    assert "leads out of them: outside" in await desk.fails(f"file://{repository}")


async def test_a_repository_that_is_too_large(desk: Desk, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actorium.builders.origins.git._WATCH_SECS", 0.0)
    desk.rules["max_bytes"] = 10
    assert "larger than 10 bytes" in await desk.fails(f"file://{repository}")


async def test_an_abort_ends_git(desk: Desk, repository: Path, serve: Callable[..., GitServer], tmp_path: Path) -> None:
    server = serve()
    server.stalls = True
    folder = tmp_path / "aborted"
    fetching = asyncio.create_task(desk.fetch(f"{server.url}/actor/.git", folder=folder))
    async with asyncio.timeout(30):
        await asyncio.to_thread(server.asked.wait)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    running = [path for path in Path("/proc").glob("[0-9]*/environ") if str(folder).encode() in _content(path)]
    assert not running


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_missing_programs_are_named(desk: Desk, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "server_path", lambda: "/nowhere")
    assert "apt install git" in await desk.fails(f"file://{repository}")


async def test_ssh_gets_the_deployment_key(
    desk: Desk, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program in the place of ``ssh`` looks at the key it is given as ``sshd`` would, then does what it is told."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "ssh").write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/asked\n'
        'while [ "$1" != -i ]; do shift; done\n'
        f'ssh-keygen -y -f "$2" >> {tmp_path}/keys.pub || exit 1\n'
        'for word; do last="$word"; done\n'
        'eval "exec $last"\n'
    )
    (bin_dir / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_dir}:{os.environ['PATH']}")
    assert (await desk.files(f"ssh://git@git.example.com{repository}#v1"))["main.py"] == "first"
    assert (await desk.files(f"git@git.example.com:{repository}#v1"))["main.py"] == "first"
    public = KEYS.public(ACTOR).split()[:2]
    keys = (tmp_path / "keys.pub").read_text().splitlines()
    assert keys
    assert all(line.split()[:2] == public for line in keys)
    asked = (tmp_path / "asked").read_text()
    assert "BatchMode=yes" in asked
    assert "IdentityAgent=none" in asked
    assert "git@git.example.com" in asked
    listed = subprocess.run(["ssh-keygen", "-lf", "-"], input=KEYS.public(ACTOR), capture_output=True, text=True)
    assert "ED25519" in listed.stdout, "others can read the public key"


async def test_an_actor_in_a_folder_uses_the_whole_repository(desk: Desk, tmp_path: Path) -> None:
    files = {
        "actors/one/.actor/actor.json": '{"dockerContextDir": "../../..", "dockerfile": "../../../Dockerfile"}',
        "actors/one/main.py": "one",
        "shared/code.py": "shared",
        "Dockerfile": "FROM apify/actor-python\n",
    }
    commit(tmp_path / "mono", files)
    sources = await desk.fetch(f"file://{tmp_path}/mono#main:actors/one")
    actor = write_sources(sources, tmp_path / "out")
    definition = read_definition(actor, tmp_path / "out")
    assert definition.context == tmp_path / "out"
    assert definition.dockerfile == tmp_path / "out" / "Dockerfile"
    assert definition.actor_path == "actors/one"
    with pytest.raises(BuildFailed, match="points outside the Actor root directory"):
        read_definition(actor)


@pytest.mark.parametrize(
    ("text", "address", "ref", "folder"),
    [
        ("https://u:p@example.com/a.git#b:c/d/", "https://example.com/a.git", "b", "c/d"),
        ("https://example.com:8443/a#:c", "https://example.com:8443/a", None, "c"),
        ("ssh://git@example.com/a", "ssh://git@example.com/a", None, ""),
        ("git@example.com:jane/a.git#v1", "git@example.com:jane/a.git", "v1", ""),
    ],
)
def test_parts_of_a_url(text: str, address: str, ref: str | None, folder: str) -> None:
    found = parse_git_url(text, {})
    assert (found.address, found.ref, found.folder) == (address, ref, folder)


@pytest.mark.parametrize(
    "text",
    [
        "ext::sh -c id",
        "https::x",
        "git::x",
        "https:x",
        "/etc",
        "ssh://-oProxyCommand=x/y",
        "file://host/x",
        "ftp://x/y",
    ],
)
def test_urls_that_are_none(text: str) -> None:
    with pytest.raises(BuildFailed, match="must begin with"):
        parse_git_url(text, {})


@pytest.mark.parametrize(
    ("parent", "relative", "expected"),
    [
        ("https://example.com/jane/a.git", "../b.git", "https://example.com/jane/b.git"),
        ("git@example.com:jane/a.git", "../b.git", "git@example.com:jane/b.git"),
        ("https://example.com/jane/a.git", "https://other.org/x", "https://other.org/x"),
        ("file:///srv/a", "../b", "file:///srv/b"),
    ],
)
def test_relative_submodules(parent: str, relative: str, expected: str) -> None:
    assert submodule_url(parse_git_url(parent, {}), relative) == expected
