"""Passes HTTP requests and websockets on to the web server of a run, streaming both ways.

Knows addresses only: who may reach which run is decided by ``web_servers.py`` and ``standby.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace

import aiohttp
import msgspec
import structlog
from multidict import CIMultiDict
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

_log = structlog.get_logger("actorium.edge")

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers of one connection, not of the message. RFC 9110, section 7.6.1."""
_SET_HERE = frozenset({b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix", b"expect"})
_WITHOUT_LENGTH = frozenset({204, 304})

MAX_MESSAGE_BYTES = 16 * 2**20
"""Longest websocket message; a longer one closes the connection with 1009."""
_KEEP_ALIVE_SECS = 2.0
"""Less than servers keep an idle connection (Node.js and uvicorn 5 s): one they are about to close is not used."""
_CONNECT_SECS = 10.0
_HEAD_BYTES = 256 * 1024
_BUFFER_BYTES = 128 * 1024
_NO_CODE, _GOING_AWAY, _NORMAL, _ERROR = 1005, 1001, 1000, 1011


class UnreachableError(Exception):
    """No connection came about: the request was not sent, and may be sent elsewhere."""


class BrokenError(Exception):
    """The web server took the request, and ended the connection or gave no answer; nothing was sent to the client."""


class SilentError(BrokenError):
    """The web server took the request and did not begin to answer in the time it has."""


class Target(msgspec.Struct, frozen=True):
    """Where a request goes: address, the raw path there, and what is added on the way.

    ``prefix`` is what was cut from the path. It is then not the only one at its origin, so cookies are kept from it,
    and its pages get an origin of their own.
    """

    host: str
    port: int
    path: bytes
    prefix: str = ""
    request_headers: Sequence[tuple[str, str]] = ()
    answer_headers: Sequence[tuple[bytes, bytes]] = ()
    answer_secs: float | None = None
    """Longest time from the last part of the request's body until the answer begins."""


_ISOLATING = (
    (b"content-security-policy", b"sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts"),
    (b"x-content-type-options", b"nosniff"),
)


class Proxy:
    """Holds the connections to web servers; used from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Begin; must be called in the event loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECS),
                cookie_jar=aiohttp.DummyCookieJar(),
                max_field_size=_HEAD_BYTES,
                max_line_size=_HEAD_BYTES,
                read_bufsize=_BUFFER_BYTES,
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECS),
                trace_configs=[_noting_reuse()],
                trust_env=False,
            )

    async def stop(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def http(self, scope: Scope, body: Body, send: Send, target: Target) -> None:
        """Pass on one request. Raises ``UnreachableError`` or ``BrokenError`` while nothing was answered."""
        if self._session is None:
            raise RuntimeError("the proxy was not started")
        attempt = _Attempt()
        async with body.until_gone():
            try:
                async with asyncio.timeout(target.answer_secs) as timer:
                    body.on_chunk = lambda: _restart(timer, target.answer_secs)
                    answer = await self._session.request(
                        scope["method"],
                        _url("http", target, scope),
                        headers=_request_headers(scope, target),
                        data=body.content(),
                        allow_redirects=False,
                        trace_request_ctx=attempt,
                    )
            except aiohttp.ClientConnectorError as error:
                # After a kept connection broke, aiohttp tries a new one: the request may have been seen already.
                raise (BrokenError if attempt.reused else UnreachableError)(str(error)) from error
            except TimeoutError as error:
                raise SilentError(f"it did not begin to answer in {target.answer_secs:g} seconds") from error
            except (aiohttp.ClientError, OSError) as error:
                raise BrokenError(str(error) or type(error).__name__) from error
            async with answer:
                await _pass_back(answer, send, target)

    async def websocket(self, scope: Scope, receive: Receive, send: Send, target: Target) -> None:
        """Pass on one websocket, whose ``websocket.connect`` was received. Raises as ``http`` does."""
        if self._session is None:
            raise RuntimeError("the proxy was not started")
        try:
            upstream = await self._session.ws_connect(
                _url("ws", target, scope),
                protocols=scope["subprotocols"],
                headers=_request_headers(scope, target),
                autoclose=False,
                max_msg_size=MAX_MESSAGE_BYTES,
            )
        except aiohttp.WSServerHandshakeError as error:
            await _refuse_websocket(scope, send, error.status)
            return
        except aiohttp.ClientConnectorError as error:
            raise UnreachableError(str(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise BrokenError(str(error) or type(error).__name__) from error
        async with upstream:
            await send({"type": "websocket.accept", "subprotocol": upstream.protocol, "headers": []})
            there = asyncio.create_task(_to_server(receive, upstream), name="websocket-to-server")
            back = asyncio.create_task(_to_client(upstream, send), name="websocket-to-client")
            try:
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (there, back):
                    task.cancel()
                await asyncio.gather(there, back, return_exceptions=True)


class Body:
    """A request's body as it comes, and word of the client's leaving. Its beginning can be passed on only once."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._is_read = not _has_body(scope)
        self._begun = False
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.is_gone = False
        """Whether the client left before it had its answer."""
        self.on_chunk: Callable[[], None] = _nothing
        """Called whenever a part of the body came."""

    def content(self) -> AsyncIterator[bytes] | None:
        """What to send to the server."""
        return None if self._is_read else self._chunks()

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it was passed on yet, so that the request can be sent to another server."""
        return not self._begun

    @contextlib.asynccontextmanager
    async def until_gone(self) -> AsyncIterator[None]:
        """A block that is left, in silence, when the client is gone."""
        self._task = asyncio.current_task()
        if self._is_read:
            self._watch()
        try:
            yield
        except asyncio.CancelledError:
            if not self.is_gone:
                raise
            if self._task is not None:
                self._task.uncancel()
        finally:
            if self._watcher is not None:
                self._watcher.cancel()
                self._watcher = None
            self._task = None

    async def _chunks(self) -> AsyncIterator[bytes]:
        self._begun = True
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._left()
                raise ConnectionAbortedError
            self.on_chunk()
            if message["body"]:
                yield message["body"]
            if not message["more_body"]:
                break
        self._is_read = True
        self._watch()

    def _watch(self) -> None:
        if self._task is not None:
            self._watcher = asyncio.create_task(self._await_gone(), name="client-gone")

    async def _await_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        self.is_gone = True
        if self._task is not None:
            self._task.cancel()


class _Attempt:
    """What became of one request on the way."""

    reused = False


def _noting_reuse() -> aiohttp.TraceConfig:
    async def note(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx.reused = True

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(note)
    return tracing


def _nothing() -> None:
    return


def _restart(timer: asyncio.Timeout, secs: float | None) -> None:
    if secs is not None and not timer.expired():
        timer.reschedule(asyncio.get_running_loop().time() + secs)


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _url(scheme: str, target: Target, scope: Scope) -> URL:
    host = f"[{target.host}]" if ":" in target.host else target.host
    query = scope["query_string"]
    raw = target.path + b"?" + query if query else target.path
    return URL(f"{scheme}://{host}:{target.port}{raw.decode('latin-1')}", encoded=True)


def _request_headers(scope: Scope, target: Target) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    dropped = _of_connection(scope["headers"]) | _SET_HERE
    forwarded: list[str] = []
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for":
            forwarded.append(_text(value))
        if name in dropped or (scope["type"] == "websocket" and name.startswith(b"sec-websocket-")):
            continue
        if target.prefix and name == b"cookie":
            continue
        headers.add(_text(name), _text(value))
    # With a trusted proxy in front, the client is the one that proxy told of already.
    if scope.get("client") and not ", ".join(forwarded).endswith(scope["client"][0]):
        forwarded.append(scope["client"][0])
    headers["x-forwarded-for"] = ", ".join(forwarded)
    headers["x-forwarded-host"] = headers.get("host", "")
    proto: str = scope["scheme"]
    headers["x-forwarded-proto"] = proto.replace("ws", "http")
    if target.prefix:
        headers["x-forwarded-prefix"] = target.prefix
    for key, own in target.request_headers:
        headers[key] = own
    return headers


def _of_connection(headers: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The names of headers that end at this hop: the fixed ones, and those that ``Connection`` names."""
    for name, value in headers:
        if name.lower() == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            return HOP_BY_HOP | {part.strip().lower() for part in value.split(b",")}
    return HOP_BY_HOP


def _text(raw: bytes) -> str:
    # Headers are written as UTF-8, so what is UTF-8 stays the same bytes.
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


async def _pass_back(answer: aiohttp.ClientResponse, send: Send, target: Target) -> None:
    if not 200 <= answer.status < 600:
        raise BrokenError(f"the answer has the status {answer.status}")
    dropped = _of_connection(answer.raw_headers)
    headers = []
    for name, value in answer.raw_headers:
        lower = name.lower()
        # The date of this server is on every answer.
        if lower in dropped or lower == b"date" or (target.prefix and lower == b"set-cookie"):
            continue
        if lower == b"content-length" and answer.status in _WITHOUT_LENGTH:
            continue
        headers.append((lower, value))
    headers.extend(target.answer_headers)
    if target.prefix:
        headers.extend(_ISOLATING)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    content = answer.content
    try:
        while True:
            chunk = await content.readany()
            ended = content.at_eof()
            await send({"type": "http.response.body", "body": chunk, "more_body": not ended})
            if ended:
                return
    except aiohttp.ClientError as error:
        # Without its end the client sees that the answer is not whole: the server closes the connection.
        _log.info("a run's web server broke off its answer", port=target.port, error=str(error))


async def _refuse_websocket(scope: Scope, send: Send, status: int) -> None:
    if "websocket.http.response" in scope.get("extensions", {}) and 400 <= status < 600:
        await send({"type": "websocket.http.response.start", "status": status, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b""})
    else:
        await send({"type": "websocket.close"})


async def _to_server(receive: Receive, upstream: aiohttp.ClientWebSocketResponse) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            await upstream.close(code=_code_for_server(message), message=(message.get("reason") or "").encode())
            return
        text = message.get("text")
        if text is not None:
            await upstream.send_str(text)
        else:
            await upstream.send_bytes(message["bytes"])


def _code_for_server(message: Message) -> int:
    code: int = message.get("code") or _NO_CODE
    if code in (_NO_CODE, 1006):
        # A connection that was lost comes without a reason, one that was closed without a code with one.
        return _NORMAL if code == _NO_CODE and "reason" in message else _GOING_AWAY
    return code


async def _to_client(upstream: aiohttp.ClientWebSocketResponse, send: Send) -> None:
    while True:
        message = await upstream.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type is aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
        else:
            await send(_close(message, upstream))
            return


def _close(message: aiohttp.WSMessage, upstream: aiohttp.ClientWebSocketResponse) -> Message:
    if message.type is aiohttp.WSMsgType.CLOSE:
        code = message.data or _NORMAL
        return {"type": "websocket.close", "code": code, "reason": message.extra or ""}
    code = upstream.close_code
    return {"type": "websocket.close", "code": _ERROR if code in (None, _NO_CODE, 1006) else code, "reason": ""}
