"""What a request gets that reaches no web server: a page for browsers, the API's error for everyone else."""

from __future__ import annotations

import html

import msgspec
from starlette.types import Scope, Send

from actorium.domain.errors import ApiError

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{status} {type}</title>
<meta name="viewport" content="width=device-width">
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:38em;margin:15vh auto;padding:0 1em}}</style>
<h1>This page is not available</h1><p>{message}</p><p><code>{status} {type}</code></p></html>
"""


async def refuse(scope: Scope, send: Send, error: ApiError) -> None:
    """Answer a request or a websocket's handshake with ``error``."""
    if _wants_page(scope):
        kind = b"text/html; charset=utf-8"
        page = _PAGE.format(status=error.type.status, type=error.type.code, message=html.escape(error.message))
        body = page.encode()
    else:
        kind = b"application/json; charset=utf-8"
        body = msgspec.json.encode({"error": {"type": error.type.code, "message": error.message}})
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    prefix = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    await send({"type": f"{prefix}.start", "status": error.type.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})


async def redirect(send: Send, location: str) -> None:
    """Send the client to ``location``, with the same method."""
    headers = [(b"location", location.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _wants_page(scope: Scope) -> bool:
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
