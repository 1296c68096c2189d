"""Tools: what the server sees of a request, and signed values."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from actorium.api.http import Call, Route, data_response, json_response
from actorium.domain.errors import ApiError, ErrorType, invalid
from actorium.services.tools import Tools


class ToolRoutes:
    """Handlers of the tool routes."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def routes(self) -> list[Route]:
        """All routes of this module."""
        return [
            *(
                Route(
                    method, "/v2/browser-info", f"tools_browser_info_{method.lower()}", self.browser_info, public=True
                )
                for method in ("GET", "POST", "PUT", "DELETE")
            ),
            Route("POST", "/v2/tools/encode-and-sign", "tools_encode_and_sign_post", self.encode_and_sign),
            Route(
                "POST",
                "/v2/tools/decode-and-verify",
                "tools_decode_and_verify_post",
                self.decode_and_verify,
                public=True,
            ),
        ]

    async def browser_info(self, call: Call) -> Response:
        """What of the request arrived here: Actors try their proxies with it."""
        body = await call.body()
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in call.request.scope["headers"]]
        found: dict[str, Any] = {
            "method": call.request.method,
            "clientIp": call.client_ip,
            "countryCode": None,
            "bodyLength": len(body),
        }
        if not call.query.flag("skipHeaders"):
            found["headers"] = _grouped(pairs)
        if call.query.flag("rawHeaders"):
            found["rawHeaders"] = [text for pair in pairs for text in pair]
        return json_response(found)

    async def encode_and_sign(self, call: Call) -> Response:
        """Sign a JSON object for the caller."""
        _check_content_type(call)
        return data_response({"encoded": self._tools.encode_and_sign(call.principal, await call.json_object())})

    async def decode_and_verify(self, call: Call) -> Response:
        """Read a signed object."""
        _check_content_type(call)
        encoded = (await call.json_object()).get("encoded")
        if not isinstance(encoded, str):
            raise invalid("Field encoded is required: the text that encode-and-sign gave.")
        found = await self._tools.decode_and_verify(encoded)
        return data_response(
            {"decoded": found.value, "encodedByUserId": found.user_id, "isVerifiedUser": found.is_verified_user}
        )


def _check_content_type(call: Call) -> None:
    if (call.content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(
            ErrorType.INVALID_CONTENT_TYPE_HEADER, "Header Content-Type must be application/json for this call."
        )


def _grouped(pairs: list[tuple[str, str]]) -> dict[str, str | list[str]]:
    """The headers by name; one that came several times has all its values."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}
