"""Headers with which a proxy in front says who the user is: believed of that proxy alone, and handed on to nobody."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

IDENTITY = "actorium.identity"
"""Where a request's scope has ``(username, groups)`` as a trusted proxy said."""


class IdentityHeaders:
    """An ASGI application around another one. With an empty ``user_header`` it only passes on.

    It has to see the connection's own address: what ``X-Forwarded-For`` says anybody can say.
    """

    def __init__(
        self,
        application: ASGIApp,
        user_header: str,
        groups_header: str,
        proxies: Sequence[IPv4Network | IPv6Network],
    ) -> None:
        self._application = application
        self._user = user_header.lower().encode("latin-1")
        self._groups = groups_header.lower().encode("latin-1")
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        if self._user and scope["type"] in ("http", "websocket"):
            own = (self._user, self._groups)
            found = [(name, value.decode("latin-1")) for name, value in scope["headers"] if name in own]
            if found:
                scope["headers"] = [header for header in scope["headers"] if header[0] not in own]
                users = [value for name, value in found if name == self._user]
                if len(users) == 1 and users[0] and self._is_trusted(scope):
                    groups = ",".join(value for name, value in found if name == self._groups)
                    scope[IDENTITY] = (users[0], [group.strip() for group in groups.split(",") if group.strip()])
        await self._application(scope, receive, send)

    def _is_trusted(self, scope: Scope) -> bool:
        client = scope.get("client")
        if not client:
            return False
        try:
            address = ip_address(client[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._proxies if network.version == mapped.version)
