"""What callers may say of a webhook, checked field by field. docs: automation, sections 4.2 and 4.6."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import urlsplit

import msgspec

from actorium.domain.errors import invalid, refused
from actorium.domain.json_texts import mend
from actorium.domain.webhook_templates import DEFAULT_PAYLOAD_TEMPLATE, TemplateError, check_template
from actorium.domain.webhooks import CONDITIONS, EVENT_TYPES, WebhookFields

_ID = re.compile(r"[a-zA-Z0-9]{17}")
_MAX_URL = 500
_MAX_TEMPLATE = 1_000_000
_MAX_AT_A_START = 100
_FLAGS = {
    "shouldInterpolateStrings": "should_interpolate_strings",
    "ignoreSslErrors": "ignore_ssl_errors",
    "doNotRetry": "do_not_retry",
    "isEnabled": "is_enabled",
    "isApifyIntegration": "is_apify_integration",
}
_TEXTS = {"title": ("title", 63), "description": ("description", 320)}


class AdHocWebhook(msgspec.Struct, frozen=True):
    """A webhook given at the start of a run."""

    fields: WebhookFields
    idempotency_key: str | None = None


def new_fields(body: dict[str, Any]) -> WebhookFields:
    """The fields of a new webhook. Raises 400. The signing secret is not sealed yet."""
    for required in ("eventTypes", "requestUrl"):
        if body.get(required) is None:
            raise refused(f"Field {required} is required.")
    start = WebhookFields(event_types=(), request_url="", payload_template=DEFAULT_PAYLOAD_TEMPLATE)
    return changed_fields(start, body)


def changed_fields(fields: WebhookFields, body: dict[str, Any]) -> WebhookFields:
    """``fields`` with what ``body`` names; a ``null`` means the default where the field cannot be empty."""
    action = body.get("actionType")
    if action not in (None, "HTTP_REQUEST"):
        raise invalid(f"Field actionType has an invalid value {str(action)[:50]!r}: it must be HTTP_REQUEST.")
    changes: dict[str, Any] = {}
    if body.get("eventTypes") is not None:
        changes["event_types"] = _event_types(body["eventTypes"])
    if body.get("requestUrl") is not None:
        changes["request_url"] = _request_url(body["requestUrl"])
    for name, field in _FLAGS.items():
        if name in body:
            value = (name == "isEnabled") if body[name] is None else body[name]
            if not isinstance(value, bool):
                raise refused(f"Field {name} must be a boolean.")
            changes[field] = value
    for name, (field, longest) in _TEXTS.items():
        if name in body:
            changes[field] = _text(name, body[name], 0, longest)
    if "payloadTemplate" in body:
        payload = _text("payloadTemplate", body["payloadTemplate"], 2, _MAX_TEMPLATE)
        changes["payload_template"] = DEFAULT_PAYLOAD_TEMPLATE if payload is None else payload
    if "headersTemplate" in body:
        changes["headers_template"] = _text("headersTemplate", body["headersTemplate"], 0, _MAX_TEMPLATE) or None
    if "signingSecret" in body:
        changes["signing_secret"] = _text("signingSecret", body["signingSecret"], 16, 256)
    changed = msgspec.structs.replace(fields, **changes)
    if changes.keys() & {"payload_template", "headers_template", "should_interpolate_strings"}:
        _check_templates(changed)
    return changed


def check_condition(value: object) -> tuple[str, str]:
    """``(kind, id)`` of a condition, which has exactly one member."""
    given = {key: found for key, found in value.items() if found is not None} if isinstance(value, dict) else {}
    if len(given) == 1:
        ((kind, resource_id),) = given.items()
        if kind in CONDITIONS and isinstance(resource_id, str) and _ID.fullmatch(resource_id):
            return kind, resource_id
    raise refused(
        f"Webhook condition isn't valid. It must have exactly one of {', '.join(CONDITIONS)}, with an ID of 17 letters "
        "and digits."
    )


def check_idempotency_key(value: object) -> str | None:
    """An ``idempotencyKey`` of 1 to 128 characters, or none."""
    return _text("idempotencyKey", value, 1, 128)


def ad_hoc_webhooks(encoded: str) -> tuple[AdHocWebhook, ...]:
    """The webhooks in the query parameter of a run's start: base64, in either alphabet, of a JSON array."""
    if not encoded:
        return ()
    # A client that does not escape "+" sends a blank.
    text = re.sub(r"\s", "+", encoded.strip()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        items = msgspec.json.decode(mend(decoded))
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise invalid(
            f"Query parameter webhooks has an invalid value {encoded[:50]!r}: it must be a base64-encoded JSON array."
        ) from error
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise invalid("Query parameter webhooks must be a base64-encoded JSON array of objects.")
    if len(items) > _MAX_AT_A_START:
        raise invalid(f"Query parameter webhooks has {len(items)} webhooks: at most {_MAX_AT_A_START} are allowed.")
    for item in items:
        item.pop("signingSecret", None)
    return tuple(AdHocWebhook(new_fields(item), check_idempotency_key(item.get("idempotencyKey"))) for item in items)


def _event_types(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise refused("Field eventTypes must be an array of event types.")
    if not value:
        raise refused("Field eventTypes has an invalid value: You must specify at least 1 values.")
    for item in value:
        if item not in EVENT_TYPES:
            raise refused(
                f"Field eventTypes has an invalid value: {str(item)[:50]} is not an allowed value. "
                f"Allowed are {', '.join(EVENT_TYPES)}."
            )
    return tuple(dict.fromkeys(value))


def _request_url(value: object) -> str:
    problem = refused(
        "Field requestUrl has an invalid value: Webhook URL must be a valid URL. It must begin with http:// or "
        f"https:// and have at most {_MAX_URL} characters."
    )
    if not isinstance(value, str) or len(value) > _MAX_URL or re.search(r"[\s\x00-\x1f\x7f]", value):
        raise problem
    try:
        parts = urlsplit(value)
        is_url = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise problem from None
    if not is_url:
        raise problem
    return value


def _text(name: str, value: object, shortest: int, longest: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise refused(f"Field {name} must be a string.")
    if not shortest <= len(value) <= longest:
        raise refused(f"Field {name} has {len(value)} characters: it must have {shortest} to {longest}.")
    return value


def _check_templates(fields: WebhookFields) -> None:
    interpolate = fields.should_interpolate_strings
    name = "payloadTemplate"
    try:
        check_template(fields.payload_template, interpolate=interpolate)
        name = "headersTemplate"
        if fields.headers_template is not None:
            check_template(fields.headers_template, interpolate=interpolate, is_object=True)
    except TemplateError as error:
        raise refused(f"Field {name} has an invalid value: {error}") from error
