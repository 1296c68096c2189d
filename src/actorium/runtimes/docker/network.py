"""The network of runs: containers on it reach the internet and the server, but not each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import aiodocker

from actorium.runtimes import StartError
from actorium.runtimes.docker.engine import DockerEngine

_NOT_FOUND = 404
_CONFLICT = 409

OpenDoor = Callable[[str], Awaitable[str]]
"""Makes the server listen on an address of this machine too and returns its URL there; ``OSError`` if it cannot."""


class RunNetwork:
    """The network ``name``, made when it is missing."""

    def __init__(self, engine: DockerEngine, name: str, api_base_url: str, open_door: OpenDoor) -> None:
        self.name = name
        self._engine = engine
        self._api_base_url = api_base_url
        self._open_door = open_door
        self.is_made = False

    async def ensure(self) -> dict[str, Any]:
        """The network's description."""
        path = f"networks/{quote(self.name, safe='')}"
        try:
            return await self._show(path)
        except aiodocker.DockerError as error:
            if error.status != _NOT_FOUND:
                raise
        config = {
            "Name": self.name,
            "CheckDuplicate": True,
            "Driver": "bridge",
            "Options": {"com.docker.network.bridge.enable_icc": "false"},
        }
        try:
            await self._engine.call("POST", "networks/create", config)
        except aiodocker.DockerError as error:
            # Another server may have made it just now.
            if error.status != _CONFLICT and "already exists" not in error.message:
                raise
        return await self._show(path)

    async def _show(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._engine.call("GET", path)
        self.is_made = True
        return found

    async def api_base_url(self) -> str:
        """The server's URL as containers on the network reach it. Raises ``StartError`` when there is none."""
        network = await self.ensure()
        if self._api_base_url:
            return self._api_base_url
        gateway = next(
            (entry["Gateway"].partition("/")[0] for entry in network["IPAM"]["Config"] or () if entry.get("Gateway")),
            None,
        )
        if gateway is None:
            raise StartError(f"the Docker network {self.name} has no gateway; set docker_api_base_url")
        try:
            return await self._open_door(gateway)
        except OSError as error:
            raise StartError(
                f"the server cannot listen on {gateway}, where the Docker network {self.name} reaches this machine "
                f"({error.strerror or error}); set docker_api_base_url"
            ) from error
