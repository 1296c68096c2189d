"""The HTTP side of every route: matching, authentication, errors, CORS. Knows no resource."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from http.cookies import CookieError, SimpleCookie
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from actorium.api.body import drain, read_body
from actorium.api.compression import compress
from actorium.api.query import Query
from actorium.domain.audit import Caller
from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.json_texts import mend
from actorium.domain.token_scopes import HeldScope
from actorium.observability import redact
from actorium.services.access import Access, Principal
from actorium.services.audit_log import caller_of, is_change
from actorium.services.permissions import check_call
from actorium.services.token_scopes import Asked

_log = structlog.get_logger("actorium.api")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_FIRST_ERROR = 400
SESSION_COOKIE = "actorium_session"
SESSION_OPERATION = "actorium_session_get"
CSRF_HEADER = "x-actorium-csrf"
_DENIALS = frozenset({401, 403, 404})
_PRINCIPAL = "actorium.principal"

MAX_BODY_BYTES = 9_437_184
"""Largest request body after decoding. docs: storages, section 2.1."""

_CORS = [
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-expose-headers",
        b"X-Apify-Pagination-Offset, X-Apify-Pagination-Limit, X-Apify-Pagination-Count, "
        b"X-Apify-Pagination-Total, X-Apify-Pagination-Desc, X-RateLimit-Limit, Location, "
        b"Accept-Ranges, Content-Disposition, Content-Range, ETag, Last-Modified",
    ),
]
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "*, Authorization, Content-Type, Content-Encoding",
    "Access-Control-Max-Age": "86400",
}


class Call:
    """One request as handlers see it: path values, query, caller, body."""

    __slots__ = (
        "_body",
        "_public_base_url",
        "headers",
        "path",
        "principal_or_none",
        "query",
        "request",
        "route",
        "session_token",
    )

    def __init__(
        self,
        request: Request,
        headers: dict[str, str],
        route: Route,
        path: dict[str, str],
        query: Query,
        public_base_url: str | None,
    ) -> None:
        self.request = request
        self.headers = headers
        self.route = route
        self.path = path
        self.query = query
        self.principal_or_none: Principal | None = None
        self._public_base_url = public_base_url
        self._body: bytes | None = None
        self.session_token: str | None = None

    @property
    def public_base_url(self) -> str:
        """Where clients reach this server: the setting, or what the request itself was sent to."""
        if self._public_base_url:
            return self._public_base_url
        return f"{self.request.scope['scheme']}://{self.headers.get('host') or 'localhost'}"

    @property
    def principal(self) -> Principal:
        """The caller. Raises 401 ``token-not-provided`` for an anonymous one."""
        if self.principal_or_none is None:
            raise ApiError(ErrorType.TOKEN_NOT_PROVIDED, "Authentication token was not provided.")
        return self.principal_or_none

    @property
    def client_ip(self) -> str | None:
        """Address of the caller."""
        return self.request.client.host if self.request.client else None

    @property
    def user_agent(self) -> str | None:
        """The caller's ``User-Agent``."""
        return self.headers.get("user-agent")

    @property
    def content_type(self) -> str | None:
        """``Content-Type`` as sent."""
        return self.headers.get("content-type")

    async def body(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """The whole body, decoded from its ``Content-Encoding``; 413 over ``limit`` bytes."""
        if self._body is None:
            self._body = await read_body(self.request, self.headers, limit)
        return self._body

    def parameter(self, name: str) -> str | None:
        """A value of the query, ``None`` where there is none."""
        return self.query.text(name)

    async def json(self, *, default: Any = None) -> Any:
        """The body as JSON; ``default`` when there is none; 400 ``invalid-request`` when it is not JSON."""
        raw = await self.body()
        if not raw.strip():
            return default
        return parse_json(raw)

    async def json_object(self) -> dict[str, Any]:
        """The body as a JSON object; an absent one is ``{}``."""
        value = await self.json(default={})
        if not isinstance(value, dict):
            raise ApiError(ErrorType.INVALID_REQUEST, "The request body must be a JSON object.")
        return value


Handler = Callable[[Call], Awaitable[Response]]


class Route(msgspec.Struct, frozen=True):
    """A method and a path with ``{names}``, served by one handler.

    ``operation_id`` is the OpenAPI document's. A route that is not ``public`` needs a token. The answer of
    one that is ``verbatim`` is sent as its handler made it, never compressed.
    """

    method: str
    path: str
    operation_id: str
    handler: Handler
    public: bool = False
    verbatim: bool = False


def parse_json(raw: bytes) -> Any:
    """Decode JSON; 400 ``invalid-request`` saying where it breaks."""
    try:
        return msgspec.json.decode(mend(raw))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(ErrorType.INVALID_REQUEST, f"The request body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise ApiError(ErrorType.INVALID_REQUEST, "The request body is nested too deeply.") from error


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A bare JSON answer."""
    return Response(msgspec.json.encode(value), status, headers=headers, media_type="application/json; charset=utf-8")


def data_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The API's usual answer: ``{"data": value}``."""
    return json_response({"data": value}, status, headers)


def error_response(error: ApiError) -> Response:
    """The API's error answer."""
    body: dict[str, Any] = {"type": error.type.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    return json_response({"error": body}, error.type.status)


class _Node:
    __slots__ = ("children", "names", "parameter", "routes")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.routes: dict[str, tuple[Route, tuple[str, ...]]] = {}


class Router:
    """Finds a path's routes segment by segment: fixed text first, then a parameter.

    Segments are decoded once, after splitting the raw path, so ``%2F`` stays inside its segment.
    ``/v2/acts`` is the old name of ``/v2/actors``.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        self.routes = tuple(routes)
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node, names = self._root, []
        for segment in route.path.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.children.setdefault(segment, _Node())
        if route.method in node.routes:
            raise ValueError(f"{route.method} {route.path} is served twice")
        node.routes[route.method] = (route, tuple(names))

    def find(self, raw_path: str) -> tuple[dict[str, tuple[Route, tuple[str, ...]]], list[str]] | None:
        """The routes of ``raw_path`` by method, and the values of its parameters."""
        segments = raw_path.strip("/").split("/")
        if len(segments) > 1 and segments[0] == "v2" and segments[1] == "acts":
            segments[1] = "actors"
        return self._walk(self._root, segments, 0, [])

    def _walk(
        self, node: _Node, segments: list[str], index: int, values: list[str]
    ) -> tuple[dict[str, tuple[Route, tuple[str, ...]]], list[str]] | None:
        if index == len(segments):
            return (node.routes, values) if node.routes else None
        segment = segments[index]
        child = node.children.get(segment)
        if child is not None:
            found = self._walk(child, segments, index + 1, values)
            if found is not None:
                return found
        if node.parameter is not None and segment:
            return self._walk(node.parameter, segments, index + 1, [*values, unquote(segment)])
        return None


class Gate(Protocol):
    """What decides for tokens with a scope."""

    async def check(self, principal: Principal, held: HeldScope, operation_id: str, asked: Asked) -> None:
        """Refuse a call unless the scope allows it. Raises 403, or 404."""
        ...


class Sessions(Protocol):
    """What browsers' sessions are made of."""

    def token_of(self, cookie: str) -> str | None:
        """The token in a session's cookie; ``None`` if this server did not sign it."""
        ...

    def is_own_page(self, token: str, csrf_token: str) -> bool:
        """Whether a call with the cookie of ``token`` comes from a page that could read the session."""
        ...


class AuditLog(Protocol):
    """The part of the audit log that calls need."""

    def call(self, caller: Caller) -> AbstractContextManager[None]:
        """Log what a call changes."""
        ...

    async def refused(self, caller: Caller) -> None:
        """Log that a call's rights did not suffice."""
        ...


class Api:
    """The ASGI application of the REST API."""

    def __init__(
        self,
        routes: Iterable[Route],
        access: Access,
        public_base_url: str | None,
        add_transfer: Callable[[Principal, int], None],
        gate: Gate,
        sessions: Sessions,
        audit_log: AuditLog,
    ) -> None:
        self.router = Router(routes)
        self._gate = gate
        self._sessions = sessions
        self._audit_log = audit_log
        self._changes = frozenset(
            route.operation_id for route in self.router.routes if is_change(route.method, route.operation_id)
        )
        self._access = access
        self._public_base_url = public_base_url
        self._add_transfer = add_transfer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request. The bytes of its body and of the answer's are the caller's transfer."""
        body_bytes = 0

        async def send_with_cors(message: Any) -> None:
            nonlocal body_bytes
            if message["type"] == "http.response.start":
                message["headers"].extend(_CORS)
            else:
                body_bytes += len(message.get("body", b""))
            await send(message)

        body_is_read = False

        async def noted_receive() -> Any:
            nonlocal body_is_read, body_bytes
            message = await receive()
            body_is_read = not message.get("more_body", False)
            body_bytes += len(message.get("body", b""))
            return message

        request = Request(scope, noted_receive)
        headers = _headers(scope)
        try:
            response = await self._respond(request, headers)
        except ClientDisconnect:
            return
        except ApiError as error:
            response = error_response(error)
        except Exception:  # noqa: BLE001  becomes a 500 answer
            _log.exception("request failed", method=scope["method"], path=redact(scope["path"]))
            response = error_response(
                ApiError(ErrorType.INTERNAL_SERVER_ERROR, "An unexpected error occurred on the server.")
            )
        if response.status_code >= _FIRST_ERROR and not body_is_read and _has_body(headers):
            await drain(request)
        if scope["method"] == "HEAD":
            response = _without_body(response)
        try:
            await response(scope, receive, send_with_cors)
        except ApiError:
            _log.exception("answer broke off", path=redact(scope["path"]))
            raise
        finally:
            principal = scope.get(_PRINCIPAL)
            if principal is not None:
                self._add_transfer(principal, body_bytes)

    async def _respond(self, request: Request, headers: dict[str, str]) -> Response:
        scope = request.scope
        query = Query.parse(scope["query_string"])
        method: str = scope["method"]
        override = query.get("method")
        if override is not None and override.upper() in _METHODS:
            method = override.upper()
        if method == "OPTIONS":
            return Response(status_code=204, headers=_PREFLIGHT)
        raw_path = scope.get("raw_path") or scope["path"].encode()
        found = self.router.find(raw_path.decode("latin-1").partition("?")[0])
        if found is None:
            raise ApiError(ErrorType.PAGE_NOT_FOUND, "We have nothing at this URL: check the path and the API version.")
        by_method, values = found
        match = by_method.get(method) or (by_method.get("GET") if method == "HEAD" else None)
        if match is None:
            allowed = ", ".join(sorted({*by_method, "OPTIONS"} | ({"HEAD"} if "GET" in by_method else set())))
            raise ApiError(
                ErrorType.METHOD_NOT_ALLOWED, f"Method {method} is not allowed here. Allowed methods are: {allowed}."
            )
        route, names = match
        path = dict(zip(names, values, strict=True))
        call = Call(request, headers, route, path, query, self._public_base_url)
        token = bearer_token(headers) or query.get("token")
        if not token and "cookie" in headers:
            token = call.session_token = self._session_token(headers, route)
        if token:
            call.principal_or_none = scope[_PRINCIPAL] = await self._access.authenticate(token)
        elif not route.public:
            raise ApiError(ErrorType.TOKEN_NOT_PROVIDED, "Authentication token was not provided.")
        if call.principal_or_none is None or route.operation_id not in self._changes:
            response = await self._handle(call)
        else:
            response = await self._handle_logged(call, call.principal_or_none)
        if not route.verbatim and method != "HEAD":
            await compress(response, headers.get("accept-encoding"))
        return response

    def _session_token(self, headers: dict[str, str], route: Route) -> str | None:
        """The token of a browser's session. Any page can make a browser send the cookie, so that alone only shows
        who is signed in, which no other page can read."""
        token = self._sessions.token_of(cookie_of(headers, SESSION_COOKIE))
        if token is None or route.operation_id == SESSION_OPERATION:
            return token
        return token if self._sessions.is_own_page(token, headers.get(CSRF_HEADER, "")) else None

    async def _handle(self, call: Call) -> Response:
        """What the handler answers, if the caller's token may ask for it.

        Where anybody is answered, a call that the token's scope does not allow is answered as one without a token.
        """
        principal, route = call.principal_or_none, call.route
        if principal is None:
            return await route.handler(call)
        check_call(principal, route.operation_id)
        if principal.held is None:
            return await route.handler(call)
        try:
            await self._gate.check(principal, principal.held, route.operation_id, call)
        except ApiError as refusal:
            if not route.public or refusal.type is not ErrorType.INSUFFICIENT_PERMISSIONS:
                raise
            call.principal_or_none = None
            try:
                return await route.handler(call)
            except ApiError as error:
                if error.type.status in _DENIALS:
                    raise refusal from error
                raise
        return await route.handler(call)

    async def _handle_logged(self, call: Call, principal: Principal) -> Response:
        """The same, and what it changes goes to the audit log."""
        caller = caller_of(
            principal,
            call.route.operation_id,
            next(reversed(call.path.values()), ""),
            call.client_ip,
            call.user_agent,
        )
        try:
            with self._audit_log.call(caller):
                return await self._handle(call)
        except ApiError as error:
            if error.type is ErrorType.INSUFFICIENT_PERMISSIONS:
                await self._audit_log.refused(caller)
            raise


def _headers(scope: Scope) -> dict[str, str]:
    """A request's headers by their lower-case names, the first of each; many times faster to ask than Starlette's."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


def _has_body(headers: dict[str, str]) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def bearer_token(headers: dict[str, str]) -> str | None:
    """The token of the ``Authorization`` header."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def cookie_of(headers: dict[str, str], name: str) -> str:
    """A cookie of a request; empty if there is none."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _without_body(response: Response) -> Response:
    headers = {key: value for key, value in response.headers.items() if key != "content-length"}
    length = response.headers.get("content-length")
    empty = Response(status_code=response.status_code, headers=headers)
    if length is not None:
        empty.headers["content-length"] = length
    else:
        # Not 0: the answer with a body would not have said its length either.
        del empty.headers["content-length"]
    return empty


def mount(
    api: ASGIApp, websockets: ASGIApp, lifespan: ASGIApp, find_other: Callable[[Scope], ASGIApp | None]
) -> ASGIApp:
    """One ASGI application out of the three kinds of connections; ``find_other`` says which are not for this API."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        own = {"http": api, "websocket": websockets}.get(kind)
        target = lifespan if own is None else find_other(scope) or own
        await target(scope, receive, send)

    return application
