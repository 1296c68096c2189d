"""API tokens of the caller, with or without a scope: an extension below ``/actorium``."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from actorium.api.http import Call, Route, data_response
from actorium.api.query import parse_time
from actorium.api.shapes import iso, iso_or_none
from actorium.domain.accounts import Token
from actorium.domain.errors import invalid
from actorium.domain.token_scopes import TokenScope, parse_scope
from actorium.services.accounts import Accounts
from actorium.services.token_scopes import ScopeGate

_MAX_NAME = 100
_FIELDS = ("name", "expiresAt", "scope")


class TokenRoutes:
    """Handlers of routes below ``/actorium/tokens``."""

    def __init__(self, accounts: Accounts, gate: ScopeGate) -> None:
        self._accounts = accounts
        self._gate = gate

    def routes(self) -> list[Route]:
        """All routes of this module."""
        one = "/actorium/tokens/{tokenId}"
        return [
            Route("GET", "/actorium/tokens", "actorium_tokens_get", self.list),
            Route("POST", "/actorium/tokens", "actorium_tokens_post", self.create),
            Route("DELETE", one, "actorium_token_delete", self.revoke),
            Route("POST", f"{one}/rotate", "actorium_token_rotate_post", self.rotate),
        ]

    async def list(self, call: Call) -> Response:
        """The caller's tokens, without their texts."""
        found = await self._accounts.list_tokens(call.principal.user_id)
        return data_response({"total": len(found), "items": [_shape(token) for token in found]})

    async def create(self, call: Call) -> Response:
        """Make a token; only this answer has its text."""
        body = await call.json_object()
        for name in body:
            if name not in _FIELDS:
                raise invalid(f"Field {name[:100]!r} is not known; known ones are {', '.join(_FIELDS)}.")
        token_name = body.get("name", "")
        if not isinstance(token_name, str) or not 0 < len(token_name) <= _MAX_NAME:
            raise invalid(f"Field name must be a text of 1 to {_MAX_NAME} characters, got {token_name!r:.100}.")
        expires = body.get("expiresAt")
        if expires is not None and not isinstance(expires, str):
            raise invalid(f"Field expiresAt must be a time such as 2030-01-31T12:00:00.000Z, got {expires!r:.100}.")
        scope = None
        if body.get("scope") is not None:
            scope = await self._gate.resolved(call.principal, parse_scope(body["scope"]))
        created, secret = await self._accounts.create_token(
            call.principal.user_id,
            token_name,
            expires_at=None if expires is None else parse_time("Field expiresAt", expires),
            scope=scope,
        )
        return data_response({**_shape(created), "token": secret}, 201)

    async def rotate(self, call: Call) -> Response:
        """Put a new token in the place of one, which works for another day."""
        made, secret = await self._accounts.rotate_token(call.path["tokenId"], of_user=call.principal.user_id)
        return data_response({**_shape(made), "token": secret}, 201)

    async def revoke(self, call: Call) -> Response:
        """End a token."""
        await self._accounts.revoke_token(call.path["tokenId"], of_user=call.principal.user_id)
        return Response(status_code=204)


def _shape(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "createdAt": iso(token.created_at),
        "expiresAt": iso_or_none(token.expires_at),
        "lastUsedAt": iso_or_none(token.last_used_at),
        "scope": None if token.scope is None else scope_shape(token.scope),
    }


def scope_shape(scope: TokenScope) -> dict[str, Any]:
    """A scope as the API shows it."""
    return {
        "account": {kind.value: list(rights) for kind, rights in scope.account.items()},
        "resources": [
            {"type": one.type.value, "id": one.id, "permissions": list(one.permissions)} for one in scope.resources
        ],
        "runAccess": scope.run_access.value,
        "runStorages": scope.run_storages,
    }
