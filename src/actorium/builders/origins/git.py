"""Repositories through the program ``git``: shallow, with submodules, and with nothing of the operator's own.

``git`` sees no configuration, credentials or agent of the server's account, runs no hook, and speaks only the protocol
of the repository at hand.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import stat
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec

from actorium.builders import BuildFailed
from actorium.builders.links import settle_links
from actorium.builders.native.steps import StepRunner, find_program
from actorium.builders.origins.git_urls import GitUrl, parse_git_url, submodule_url
from actorium.outbound import AddressRefusedError, Outbound

MAX_FILES = 100_000
MAX_BYTES = 2 * 1024**3
_MAX_SUBMODULES = 100
_MAX_DEPTH = 5
_WATCH_SECS = 1.0
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MAYBE_COMMIT = re.compile(r"[0-9a-f]{4,64}")
_GITLINK = "160000"
_CONFIG = {
    "advice.detachedHead": "false",
    "core.hooksPath": "/dev/null",
    "core.symlinks": "true",
    "core.protectNTFS": "true",
    "credential.helper": "",
    "gc.auto": "0",
    "http.lowSpeedLimit": "100",
    "http.lowSpeedTime": "60",
    "protocol.version": "2",
    "submodule.recurse": "false",
}


class GitRules(msgspec.Struct, frozen=True):
    """What the operator allows. ``mirrors`` maps prefixes of URLs to what takes their place.

    ``known_hosts`` keeps the keys of ssh hosts as they were first seen. ``max_bytes`` bounds a clone on disk.
    """

    allow_local: bool
    mirrors: Mapping[str, str]
    known_hosts: Path
    max_bytes: int


class Repository:
    """Fetches one repository with its submodules below ``folder``; ``say`` takes lines for the build's log.

    ``warnings`` is where ``runner`` puts what ``git`` says beside its output: it may hold what no log should.
    ``private_key`` is what ssh hosts know the Actor by.
    """

    def __init__(
        self,
        rules: GitRules,
        outbound: Outbound,
        runner: StepRunner,
        warnings: bytearray,
        folder: Path,
        private_key: str,
        say: Callable[[str], None],
    ) -> None:
        self._rules = rules
        self._outbound = outbound
        self._runner = runner
        self._warnings = warnings
        self._folder = folder
        self._private_key = private_key
        self._say = say
        self._submodules = 0
        self._secrets: set[str] = set()

    async def fetch(self, url: GitUrl) -> Path:
        """The files of ``url``, without Git's own and with links replaced by copies. Raises ``BuildFailed``."""
        if find_program("git") is None:
            raise BuildFailed(
                "Sources in a Git repository need the program git, which this machine does not have. "
                "Install it (Debian: apt install git)."
            )
        tree = self._folder / "repository"
        await self._bounded(self._checkout(url, url.ref, tree, depth=0))
        dangling = await asyncio.to_thread(_clean, tree)
        for name in dangling:
            self._say(f"WARNING: the link {name} leads nowhere and is left out.")
        return tree

    async def _bounded(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``, and end it when it has put too much on the disk."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=_WATCH_SECS))[0]:
                if await asyncio.to_thread(_size_bytes, self._folder) > self._rules.max_bytes:
                    raise BuildFailed(f"The repository is larger than {self._rules.max_bytes} bytes.")
            task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _checkout(self, url: GitUrl, ref: str | None, tree: Path, *, depth: int) -> None:
        env = await self._environment(url)
        if depth == 0:
            self._say(f"Fetching {url.address}" + (f" at {ref}" if ref else ""))
        await self._git(env, self._folder, "init", "--quiet", str(tree))
        commit = await self._fetch(env, url, ref, tree)
        await self._git(env, tree, "checkout", "--quiet", "--detach", commit)
        if depth == 0:
            self._say(await self._git(env, tree, "log", "-1", "--format=Commit %H of %ad", "--date=iso-strict"))
        await self._check_out_submodules(env, url, tree, depth)

    async def _fetch(self, env: dict[str, str], url: GitUrl, ref: str | None, tree: Path) -> str:
        """Fetch ``ref`` (``None``: the default branch); returns what to check out."""
        wanted = ref or "HEAD"
        if ref is None or not _COMMIT.fullmatch(ref):
            patterns = ["HEAD"] if ref is None else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
            listed = await self._git(env, tree, "ls-remote", "--", url.address, *patterns)
            names = [line.partition("\t")[2] for line in listed.splitlines()]
            found = next((name for name in patterns if name in names), None)
            if found is None and not (ref and _MAYBE_COMMIT.fullmatch(ref)):
                what = f"no branch, tag or commit {ref}" if ref else "no commit on its default branch"
                raise BuildFailed(f"The repository {url.address} has {what}.")
            wanted = found or wanted
        if wanted != ref or _COMMIT.fullmatch(wanted):
            try:
                await self._git(env, tree, "fetch", "--quiet", "--no-tags", "--depth=1", "--", url.address, wanted)
                return "FETCH_HEAD"
            except _GitError as error:
                # Servers without the smart protocol know no shallow clone; others give out no commit by its number.
                if not _COMMIT.fullmatch(wanted) and "shallow" not in error.output:
                    raise
        specs = ["+HEAD:refs/whole/HEAD", "+refs/heads/*:refs/whole/heads/*", "+refs/tags/*:refs/whole/tags/*"]
        await self._git(env, tree, "fetch", "--quiet", "--no-tags", "--", url.address, *specs)
        if wanted == "HEAD" or wanted.startswith("refs/"):
            return f"refs/whole/{wanted.removeprefix('refs/')}"
        try:
            return await self._git(env, tree, "rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}")
        except _GitError as error:
            raise BuildFailed(f"The repository {url.address} has no branch, tag or commit {ref}.") from error

    async def _check_out_submodules(self, env: dict[str, str], parent: GitUrl, tree: Path, depth: int) -> None:
        modules = tree / ".gitmodules"
        if modules.is_symlink() or not modules.is_file():
            return
        listed = await self._git(env, tree, "config", "--file", ".gitmodules", "--null", "--list")
        entries = dict(entry.partition("\n")[::2] for entry in listed.split("\0") if entry)
        urls = {
            path: entries.get(key.removesuffix(".path") + ".url")
            for key, path in entries.items()
            if key.startswith("submodule.") and key.endswith(".path")
        }
        for entry in (await self._git(env, tree, "ls-tree", "-r", "-z", "HEAD")).split("\0"):
            what, _, path = entry.partition("\t")
            if what.startswith(_GITLINK) and (address := urls.get(path)):
                await self._check_out_submodule(parent, address, what.split()[2], tree / path, depth + 1)

    async def _check_out_submodule(self, parent: GitUrl, address: str, commit: str, tree: Path, depth: int) -> None:
        self._submodules += 1
        if depth > _MAX_DEPTH or self._submodules > _MAX_SUBMODULES:
            raise BuildFailed(f"More than {_MAX_SUBMODULES} submodules, or more than {_MAX_DEPTH} within one another.")
        url = parse_git_url(submodule_url(parent, address), self._rules.mirrors)
        if url.authorization is None and (url.protocol, url.host, url.port) == _place(parent):
            url = msgspec.structs.replace(url, authorization=parent.authorization)
        if not await asyncio.to_thread(_is_inside, tree, self._folder):
            raise BuildFailed(f"The submodule {url.address} has a place outside the repository.")
        self._say(f"Submodule {url.address} at {commit}")
        await self._checkout(url, commit, tree, depth=depth)

    async def _environment(self, url: GitUrl) -> dict[str, str]:
        """The environment for ``git`` with one repository; refuses those that are not allowed."""
        if url.protocol == "file" and not (self._rules.allow_local or url.is_mirror):
            raise BuildFailed(
                "Repositories on this server's own disk are not allowed (setting git_local_repositories)."
            )
        pinned = None if url.is_mirror or url.protocol == "file" else await self._pinned(url)
        config = dict(_CONFIG)
        if url.authorization is not None:
            self._secrets.add(url.authorization.split()[-1])
            config[f"http.{url.origin}.extraHeader"] = f"Authorization: {url.authorization}"
        if pinned is not None:
            config["http.followRedirects"] = "false"
            config["http.curloptResolve"] = f"{url.host}:{url.port}:{f'[{pinned}]' if ':' in pinned else pinned}"
        env = {
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_ALLOW_PROTOCOL": "http:https" if url.protocol == "http" else url.protocol,
            "GIT_SSH_COMMAND": await asyncio.to_thread(self._ssh_command, url, pinned),
            "GIT_CONFIG_COUNT": str(len(config)),
        }
        for number, (name, value) in enumerate(config.items()):
            env |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        return env

    async def _pinned(self, url: GitUrl) -> str | None:
        try:
            address = await self._outbound.address_for(url.host, url.port)
        except AddressRefusedError as error:
            raise BuildFailed(f"{error}: this server fetches no sources from there.") from error
        except OSError as error:
            raise BuildFailed(f"The host {url.host} of the Git URL was not found: {error.strerror}.") from error
        if address is not None and url.protocol == "git":
            raise BuildFailed("This server fetches no sources over git://. Use https.")
        return address

    def _ssh_command(self, url: GitUrl, pinned: str | None) -> str:
        if url.protocol != "ssh":
            return "false"
        if find_program("ssh") is None:
            raise BuildFailed(
                "A Git URL of this kind needs the program ssh, which this machine does not have. "
                "Install it (Debian: apt install openssh-client), or use https."
            )
        key = self._runner.home / "deployment_key"
        key.touch(mode=0o600)
        key.write_text(self._private_key)
        self._rules.known_hosts.parent.mkdir(parents=True, exist_ok=True)
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "30",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "ServerAliveInterval": "30",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": f'"{self._rules.known_hosts}"',
            "GlobalKnownHostsFile": "/dev/null",
        }
        if pinned is not None:
            options |= {"HostName": pinned, "HostKeyAlias": url.host}
        words = ["ssh", "-F", "/dev/null", "-i", str(key)]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        return shlex.join(words)

    async def _git(self, env: dict[str, str], cwd: Path, *words: str) -> str:
        """The output of a ``git`` command. Raises ``_GitError``."""
        self._warnings.clear()
        code, output = await self._runner.run(["git", *words], cwd, env, keep_output=True)
        if code != 0:
            text = (self._warnings + output).decode(errors="replace").strip()
            raise _GitError(f"git {words[0]} failed: {self._without_secrets(text) or f'exit code {code}'}", text)
        return output.decode(errors="replace").strip()

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class _GitError(BuildFailed):
    """A ``git`` command failed; ``output`` is all it said."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message[:4000])
        self.output = output


def _place(url: GitUrl) -> tuple[str, str, int]:
    return url.protocol, url.host, url.port


def _is_inside(tree: Path, folder: Path) -> bool:
    return not tree.is_symlink() and tree.resolve().is_relative_to(folder.resolve())


def _size_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                found = (Path(parent) / name).lstat()
            except FileNotFoundError:  # git works there
                continue
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total


def _clean(tree: Path) -> list[str]:
    """Remove what is Git's own, then links; returns those that led nowhere."""
    for path in list(tree.rglob(".git")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return settle_links(tree, max_files=MAX_FILES, max_bytes=MAX_BYTES)
