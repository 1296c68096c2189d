"""What a version's Git URL says: ``https://host/repository.git#branch-tag-or-commit:folder``."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import msgspec

from actorium.builders import BuildFailed

_PORTS = {"http": 80, "https": 443, "git": 9418, "ssh": 22}
_SCP = re.compile(r"(?P<user>[-\w.]+)@(?P<host>[\w.][-\w.]*|\[[0-9a-fA-F:]+\]):(?P<path>[^:].*)")
_GIST = re.compile(r"(https://gist\.github\.com)/[^/]+/([0-9a-f]{32})", re.IGNORECASE)


class GitUrl(msgspec.Struct, frozen=True):
    """A repository without the credentials of its URL.

    ``address`` is what ``git`` is given and may be shown. ``authorization`` is the value of the HTTP header made of
    the URL's user and password. ``ref`` is a branch, tag or commit, ``folder`` the Actor's, empty for the whole.
    ``is_mirror``: the operator has put it in the place of another and answers for where it leads.
    """

    protocol: str
    address: str
    host: str
    port: int
    authorization: str | None = None
    ref: str | None = None
    folder: str = ""
    is_mirror: bool = False

    @property
    def origin(self) -> str:
        """Scheme, host and port of an http address, as Git's configuration names it."""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}/"


def gist_repository(url: str) -> str:
    """The Git repository of a gist's page."""
    match = _GIST.fullmatch(url)
    if match is None:
        raise BuildFailed(f"{url} is not the URL of a gist.")
    return f"{match[1]}/{match[2]}.git"


def parse_git_url(text: str, mirrors: Mapping[str, str]) -> GitUrl:
    """What ``text`` means, after the longest of the ``mirrors``' prefixes was replaced. Raises ``BuildFailed``."""
    address, _, fragment = text.partition("#")
    ref, _, folder = fragment.partition(":")
    folder = folder.strip("/")
    if ".." in folder.split("/"):
        raise BuildFailed(f"The folder {folder} of the Git URL must not have '..' in it.")
    prefix = max((one for one in mirrors if address.startswith(one)), key=len, default=None)
    if prefix is not None:
        address = mirrors[prefix] + address[len(prefix) :]
    found = _repository(address)
    return msgspec.structs.replace(found, ref=ref or None, folder=folder, is_mirror=prefix is not None)


def _repository(address: str) -> GitUrl:
    scp = _SCP.fullmatch(address)
    if scp is not None:
        return GitUrl("ssh", address, scp["host"].strip("[]"), _PORTS["ssh"])
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BuildFailed(f"The Git URL cannot be read: {error}.") from error
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return GitUrl("file", f"file://{parts.path}", "", 0)
    if parts.scheme not in _PORTS or not host or host.startswith("-"):
        raise BuildFailed("The Git URL must begin with https://, http://, ssh://, git:// or git@host:.")
    netloc = f"[{host}]" if ":" in host else host
    netloc += f":{port}" if port is not None else ""
    authorization = None
    if parts.scheme in ("http", "https"):
        if parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    elif parts.username:
        netloc = f"{parts.username}@{netloc}"
    query = f"?{parts.query}" if parts.query else ""
    shown = f"{parts.scheme}://{netloc}{parts.path}{query}"
    return GitUrl(parts.scheme, shown, host, port or _PORTS[parts.scheme], authorization)


def submodule_url(parent: GitUrl, text: str) -> str:
    """The URL that a ``.gitmodules`` of ``parent`` names, which may be relative to it. docs: git-submodule, add."""
    if not text.startswith(("./", "../")):
        return text
    if parent.protocol == "ssh" and "://" not in parent.address:
        start, colon, path = parent.address.partition(":")
        return f"{start}{colon}{_joined(path, text)}"
    start, _, path = parent.address.partition("://")
    host, _, path = path.partition("/")
    return f"{start}://{host}/{_joined(path, text)}"


def _joined(path: str, relative: str) -> str:
    parts = [part for part in path.split("/") if part]
    for part in relative.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return ("/" if path.startswith("/") else "") + "/".join(parts)
