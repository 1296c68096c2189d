"""Sends what is in the outbox: each dispatch at least once, in order for each webhook, with retries.

A webhook has one request under way at a time, so its events arrive in their order and a slow receiver delays only its
own. A retry takes its turn by its time; events that come after a failed call do not wait for it. All times are columns,
so a restart changes nothing; a call that was under way when a server ended is made again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import structlog

from actorium.domain.models import Build, Run
from actorium.domain.times import DAY_MS, iso
from actorium.domain.webhook_templates import TemplateError, fill_in
from actorium.domain.webhooks import (
    CALL_TIMEOUT_MS,
    MAX_RETRIES,
    MAX_TEST_RETRIES,
    TEST,
    WEBHOOK_DISABLED,
    WEBHOOK_REMOVED,
    DispatchCall,
    Event,
    Webhook,
    retry_delay_ms,
)
from actorium.engine.webhook_calls import Answer, CallFailedError, CallRefusedError, WebhookCalls
from actorium.kit import Clock, Signals, Tasks, forever, wait_until
from actorium.services.builds import BUILDS_TOPIC
from actorium.services.topics import RUNS_TOPIC, WEBHOOKS_TOPIC
from actorium.storage import token_claims, webhook_dispatches
from actorium.storage.db import Database, Tx
from actorium.storage.webhook_dispatches import Claim

_log = structlog.get_logger("actorium.engine")
_POLL_MS = 1000
_RETRY_SECS = 1.0
_CLEAN_UP_SECS = 3600.0
_MAX_CALLS = 100
_LEASE_MS = CALL_TIMEOUT_MS + 60_000
_TEST_RESOURCE = {"joke": "Why do webhooks never knock? Because they are always dispatched."}
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection"})

Render = Callable[[Run | Build], Awaitable[dict[str, Any]]]
"""A run or build as the API shows it."""


class WebhookSettings(msgspec.Struct, frozen=True):
    """``server_name`` tells servers on one database apart and stays over restarts; ``base_urls`` are this server's."""

    server_name: str
    base_urls: tuple[str, ...]
    keep_days: int


class WebhookDelivery:
    """A Service: claims dispatches that are due and sends them. ``user_token`` makes a token of a user's for calls
    to this server's own API, with the scope of the token that has made the webhook."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        signals: Signals,
        calls: WebhookCalls,
        render: Render,
        open_secret: Callable[[str], str],
        user_token: Callable[[str, str | None], str],
        settings: WebhookSettings,
    ) -> None:
        self._db = db
        self._clock = clock
        self._signals = signals
        self._calls = calls
        self._render = render
        self._open_secret = open_secret
        self._user_token = user_token
        self._settings = settings
        self._tasks = Tasks("webhooks")
        self._under_way: set[str] = set()

    async def start(self) -> None:
        """Let go of what a server of this name had claimed before, then begin to send."""
        if len(self._tasks):
            return
        await self._release()
        self._tasks.spawn("send", forever("sending webhooks", _RETRY_SECS, self._send_due))
        self._tasks.spawn("clean up", forever("cleaning up dispatches", _RETRY_SECS, self._clean_up))

    async def stop(self) -> None:
        """Break off what is under way; it is sent again by whoever is next."""
        if len(self._tasks):
            await self._tasks.stop()
            self._under_way.clear()
            await self._calls.close()
            await self._release()

    async def _release(self) -> None:
        async def op(tx: Tx) -> None:
            await webhook_dispatches.release_of(tx, self._settings.server_name)

        await self._db.write("release webhooks", op)

    async def _send_due(self) -> None:
        async with self._signals.listen(WEBHOOKS_TOPIC, RUNS_TOPIC, BUILDS_TOPIC) as wanted:
            while True:
                wanted.clear()
                for claim in await self._claim(_MAX_CALLS - len(self._under_way)):
                    self._under_way.add(claim.webhook.id)
                    self._tasks.spawn(claim.dispatch.id, self._handle(claim))
                await wait_until(self._clock, wanted, self._clock.now_ms() + _POLL_MS)

    async def _claim(self, limit: int) -> Sequence[Claim]:
        now = self._clock.now_ms()

        async def look(tx: Tx) -> bool:
            return await webhook_dispatches.is_any_due(tx, now)

        async def op(tx: Tx) -> Sequence[Claim]:
            return await webhook_dispatches.claim_due(tx, self._settings.server_name, now, now + _LEASE_MS, limit)

        if limit <= 0 or not await self._db.read("look for dispatches", look):
            return []
        return await self._db.write("claim dispatches", op)

    async def _handle(self, claim: Claim) -> None:
        try:
            call, is_final = await self._call(claim)
            await self._insist_on_noting(claim, call, is_final=is_final)
        finally:
            self._under_way.discard(claim.webhook.id)
            self._signals.send(WEBHOOKS_TOPIC)

    async def _call(self, claim: Claim) -> tuple[DispatchCall, bool]:
        """Make one call; says whether no other can change its outcome."""
        started_at = self._clock.now_ms()
        webhook, event = claim.webhook, claim.event

        def ended(error: str | None, answer: Answer | None = None) -> DispatchCall:
            status, body = (None, None) if answer is None else (answer.status, answer.body)
            return DispatchCall(started_at, self._clock.now_ms(), error, status, body)

        if webhook.removed_at is not None:
            return ended(WEBHOOK_REMOVED), True
        if not webhook.fields.is_enabled and event.event_type != TEST:
            return ended(WEBHOOK_DISABLED), True
        try:
            body, headers = await self._request(webhook, event, claim.dispatch.id)
            answer = await self._post(webhook, headers, body)
        except CallFailedError as error:
            return ended(f"Cannot send request: {error}"), False
        except (TemplateError, CallRefusedError) as error:
            return ended(f"Failed to handle dispatch: {error}"), True
        except Exception as error:  # noqa: BLE001  a fault of ours must not stop the others
            _log.exception("dispatch failed unexpectedly", dispatch_id=claim.dispatch.id)
            return ended(f"Failed to handle dispatch: {error}"), False
        if 200 <= answer.status < 300:
            return ended(None, answer), True
        return ended(f"Endpoint responded with HTTP status code {answer.status}", answer), False

    async def _request(self, webhook: Webhook, event: Event, dispatch_id: str) -> tuple[bytes, dict[str, str]]:
        """Body and headers of a dispatch. Raises ``TemplateError``."""
        fields, now = webhook.fields, self._clock.now_ms()
        context = {
            "userId": webhook.user_id,
            "createdAt": iso(event.created_at),
            "eventType": event.event_type,
            "eventData": event.data,
            "resource": await self._resource(event),
            "globals": {"dateISO": iso(now), "dateUnix": now // 1000},
        }
        interpolate = fields.should_interpolate_strings
        payload = fill_in(fields.payload_template, context, interpolate=interpolate)
        given = fill_in(fields.headers_template, context, interpolate=interpolate) if fields.headers_template else {}
        body = msgspec.json.encode(payload)
        headers = _checked_headers(given)
        if self._is_own(fields.request_url) and not _has_token(fields.request_url, headers):
            token = self._user_token(webhook.user_id, await self._scoped_token_of(webhook))
            headers["authorization"] = f"Bearer {token}"
        if fields.signing_secret is not None:
            key, stamp = self._open_secret(fields.signing_secret).encode(), str(now // 1000)
            mac = hmac.new(key, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
            headers["x-actorium-signature"] = f"t={stamp},v1={mac}"
        headers |= {
            "content-type": "application/json",
            "x-apify-webhook": "yo",
            "x-apify-webhook-dispatch-id": dispatch_id,
            "x-apify-request-origin": "WEBHOOK",
        }
        headers.setdefault("user-agent", "Actorium")
        return body, headers

    async def _scoped_token_of(self, webhook: Webhook) -> str | None:
        """The token with a scope that has made a webhook, or started the run that the webhook came with."""
        makers = (webhook.id, webhook.condition_id) if webhook.is_ad_hoc else (webhook.id,)

        async def op(tx: Tx) -> str | None:
            return await token_claims.token_of(tx, makers)

        return await self._db.read("scope of webhook", op)

    async def _resource(self, event: Event) -> dict[str, Any]:
        if event.resource is None:
            return _TEST_RESOURCE
        kind: type[Run | Build] = Run if event.kind == "run" else Build
        return await self._render(msgspec.json.decode(event.resource, type=kind))

    async def _post(self, webhook: Webhook, headers: dict[str, str], body: bytes) -> Answer:
        url = webhook.fields.request_url
        request = asyncio.ensure_future(
            self._calls.post(
                url,
                headers,
                body,
                ignore_ssl_errors=webhook.fields.ignore_ssl_errors,
                is_own=self._is_own(url),
            )
        )
        timer = asyncio.ensure_future(self._clock.sleep_until(self._clock.now_ms() + CALL_TIMEOUT_MS))
        try:
            await asyncio.wait({request, timer}, return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                raise CallFailedError(f"there was no answer within {CALL_TIMEOUT_MS // 1000} seconds")
            return request.result()
        finally:
            for task in (request, timer):
                task.cancel()
            await asyncio.gather(request, timer, return_exceptions=True)

    def _is_own(self, url: str) -> bool:
        return any(url.startswith(f"{base}/") for base in self._settings.base_urls)

    async def _insist_on_noting(self, claim: Claim, call: DispatchCall, *, is_final: bool) -> None:
        retries = MAX_TEST_RETRIES if claim.event.event_type == TEST else MAX_RETRIES
        calls = len(claim.dispatch.calls) + 1
        due_at: int | None = None
        if call.error_message is None:
            status = "SUCCEEDED"
        elif is_final or claim.webhook.fields.do_not_retry or calls > retries:
            status = "FAILED"
        else:
            status = "ACTIVE"
            due_at = call.finished_at + retry_delay_ms(calls, random.random())  # noqa: S311  spreads load, no secret

        async def op(tx: Tx) -> bool:
            return await webhook_dispatches.note_call(
                tx, self._settings.server_name, claim.dispatch, call, status, due_at
            )

        while True:
            try:
                await self._db.write("note call of webhook", op)
                return
            except Exception:  # noqa: BLE001  the database may be away for a while
                _log.exception("cannot note a webhook's call, trying again", dispatch_id=claim.dispatch.id)
                await self._clock.sleep(_RETRY_SECS)

    async def _clean_up(self) -> None:
        """Delete dispatches that ended long ago."""
        while True:
            before = self._clock.now_ms() - self._settings.keep_days * DAY_MS

            async def op(tx: Tx, before: int = before) -> bool:
                return await webhook_dispatches.delete_finished(tx, before)

            while self._settings.keep_days and await self._db.write("delete old dispatches", op):
                pass
            await self._clock.sleep(_CLEAN_UP_SECS)


def _checked_headers(given: Any) -> dict[str, str]:
    """The headers of a filled in template by lower-case names, without those that only the connection may set."""
    if not isinstance(given, dict):
        raise TemplateError("The headers template must be a JSON object.")
    headers = {}
    for name, value in given.items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if not name or not all(33 <= ord(char) < 127 and char not in '()<>@,;:\\"/[]?={}' for char in name):
            raise TemplateError(f"The headers template has the name {name[:50]!r}, which is no header's.")
        if any((ord(char) < 32 and char != "\t") or ord(char) == 127 for char in text):
            raise TemplateError(f"The headers template has a control character in the value of {name}.")
        if name.lower() not in _OURS:
            headers[name.lower()] = text
    return headers


def _has_token(url: str, headers: dict[str, str]) -> bool:
    return "authorization" in headers or "token" in parse_qs(urlsplit(url).query)
