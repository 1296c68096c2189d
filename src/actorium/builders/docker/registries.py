"""Accounts at registries, in the forms in which the engine takes them. Nothing here is ever logged."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import msgspec

_HUB = "docker.io"
_HUB_NAMES = frozenset({_HUB, "index.docker.io", "registry-1.docker.io"})
# Under this name the engine looks for the account at Docker Hub. docs: Docker Engine API, X-Registry-Config.
_HUB_KEY = "https://index.docker.io/v1/"


class Registries:
    """Accounts by registry, as ``user:password``; a registry is a host with or without port, Docker Hub docker.io."""

    def __init__(self, logins: Mapping[str, str]) -> None:
        self._logins = {_HUB if name in _HUB_NAMES else name: login for name, login in logins.items()}

    def header_for_build(self) -> dict[str, str]:
        """The header of a build that pulls with these accounts; empty without any."""
        if not self._logins:
            return {}
        accounts = {_HUB_KEY if name == _HUB else name: _account(login) for name, login in self._logins.items()}
        return {"X-Registry-Config": _encoded(accounts)}

    def header_for_pull(self, image: str) -> dict[str, str]:
        """The header for pulling ``image``; empty where its registry has no account here."""
        registry = registry_of(image)
        if (login := self._logins.get(registry)) is None:
            return {}
        return {"X-Registry-Auth": _encoded({**_account(login), "serveraddress": registry})}


def registry_of(image: str) -> str:
    """The registry that an image's name names, Docker Hub where it names none."""
    first, slash, _ = image.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return _HUB
    return _HUB if first in _HUB_NAMES else first


def _account(login: str) -> dict[str, str]:
    user, _, password = login.partition(":")
    return {"username": user, "password": password}


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode()
