"""Sources that are not kept here: Git repositories, gists and archives, brought to this machine for a build."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote

from actorium.builders import BuildFailed, Origin, Sources, WriteLog
from actorium.builders.native.steps import StepRunner
from actorium.builders.origins.downloads import Downloads, without_credentials
from actorium.builders.origins.git import GitRules, Repository
from actorium.builders.origins.git_urls import gist_repository, parse_git_url
from actorium.outbound import Outbound

__all__ = ["Downloads", "GitRules", "Origins"]

_RECORD = re.compile(r"https?://[^/]+/v2/key-value-stores/([A-Za-z0-9]{17})/records/([^/?]+)(?:\?.*)?")

ReadRecord = Callable[[str, str, str], Awaitable[AsyncIterator[bytes] | None]]
"""``(user_id, store_id, key)`` -> the record's bytes, ``None`` when that user has no such record."""


class Origins:
    """The ``FetchSources`` for every type of source. ``private_key`` gives an Actor's key by its id."""

    def __init__(
        self,
        outbound: Outbound,
        downloads: Downloads,
        git: GitRules,
        read_record: ReadRecord,
        private_key: Callable[[str], str],
    ) -> None:
        self._outbound = outbound
        self._downloads = downloads
        self._git = git
        self._read_record = read_record
        self._private_key = private_key

    async def close(self) -> None:
        """Close what is open."""
        await self._outbound.close()

    async def fetch(self, origin: Origin, folder: Path, write_log: WriteLog) -> Sources:
        """See ``FetchSources.fetch``."""

        def say(text: str) -> None:
            write_log(f"{text}\n".encode())

        if origin.source_type == "TARBALL":
            return await self._archive(origin, folder / "archive", say)
        if origin.source_type not in ("GIT_REPO", "GITHUB_GIST"):
            raise BuildFailed(f"Sources of type {origin.source_type} are not known to this server.")
        text = gist_repository(origin.url) if origin.source_type == "GITHUB_GIST" else origin.url
        url = parse_git_url(text, self._git.mirrors)
        warnings = bytearray()
        runner = StepRunner(origin.build_id, folder / "home", warnings.extend)
        key = self._private_key(origin.actor_id)
        tree = await Repository(self._git, self._outbound, runner, warnings, folder, key, say).fetch(url)
        return Sources(folder=tree, actor_path=url.folder)

    async def _archive(self, origin: Origin, path: Path, say: Callable[[str], None]) -> Sources:
        # A record of the user's own is read here: its URL may be one that only the user's network can reach.
        own = _RECORD.fullmatch(origin.url)
        record = await self._read_record(origin.user_id, own[1], unquote(own[2])) if own else None
        if record is not None:
            await self._downloads.save(record, path)
        else:
            say(f"Downloading {without_credentials(origin.url)}")
            await self._downloads.download(origin.url, path)
        return Sources(archive=path)
