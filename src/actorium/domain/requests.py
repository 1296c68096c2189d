"""Requests of a request queue: ids, checks, and the object clients get back. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from actorium.domain.errors import ApiError, ErrorType, invalid
from actorium.domain.json_texts import mend
from actorium.domain.times import iso

MAX_REQUEST_BYTES = 9_437_184
_STATE_FIELDS = ("id", "handledAt", "lockExpiresAt", "lockByClient")
_RawObject = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RawList = msgspec.json.Decoder(list[msgspec.Raw])
_encode = msgspec.json.Encoder().encode
_DEFAULTS = {"retryCount": 0, "noRetry": False, "errorMessages": [], "headers": {}, "userData": {}}
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_OTHER_TYPES: dict[str, tuple[Any, str]] = {
    "userData": (dict[str, Any], "an object"),
    "headers": (dict[str, Any], "an object"),
    "payload": (str | dict[str, Any], "a string or an object"),
    "loadedUrl": (str, "a string"),
    "noRetry": (bool, "true or false"),
    "errorMessages": (list[str], "an array of strings"),
}
_LAST_MS = 253_402_300_799_999
_HANDLED_AT_FRACTION = re.compile(r"\.(\d{6})\d+")


class Client(msgspec.Struct, frozen=True):
    """Who calls: the client key (``None`` = a client of its own) and the run whose token was used."""

    key: str | None
    run_id: str | None = None


class NewRequest(msgspec.Struct, frozen=True):
    """A request as a client sent it.

    ``text`` is its JSON without the fields that are state, ``head`` the JSON of what the head of a queue tells of it.
    """

    id: str
    unique_key: str
    handled_at: int | None
    text: str
    head: str


class StoredRequest(msgspec.Struct, frozen=True):
    """A request with its state."""

    id: str
    text: str
    handled_at: int | None
    lock_expires_at: int | None
    lock_client_key: str | None


def request_id(unique_key: str) -> str:
    """The id that every client computes for itself. docs: request queues, request id."""
    digest = base64.b64encode(hashlib.sha256(unique_key.encode("utf-8", "surrogatepass")).digest()).decode()
    return re.sub(r"[+/=]", "", digest)[:15]


def parse_request(raw: bytes, where: str = "") -> NewRequest:
    """A request out of its JSON; 400 naming the field when it is none. ``where`` prefixes field names."""
    try:
        # What clients hash for the id is the mended text too.
        fields = _RawObject.decode(mend(raw))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"{where.rstrip('.') or 'The request body'} is not a JSON object: {error}") from error
    except RecursionError as error:
        raise invalid(f"{where.rstrip('.') or 'The request body'} is nested too deeply.") from error
    unique_key = _string(fields, "uniqueKey", where)
    url = _string(fields, "url", where)
    method = _value(fields, "method", where) or "GET"
    if method not in _METHODS:
        raise invalid(f"Field {where}method must be one of {', '.join(_METHODS)}.")
    retry_count = _value(fields, "retryCount", where) or 0
    if not isinstance(retry_count, int) or isinstance(retry_count, bool) or not 0 <= retry_count < 2**31:
        raise invalid(f"Field {where}retryCount must be a whole number of at least 0.")
    # Clients check these types when they read: one wrong request would keep them from a whole page.
    for name, (type_, words) in _OTHER_TYPES.items():
        if name in fields and not _is(_value(fields, name, where), type_):
            raise invalid(f"Field {where}{name} must be {words}.")
    found_id = request_id(unique_key)
    given_id = _value(fields, "id", where)
    if given_id is not None and given_id != found_id:
        raise ApiError(ErrorType.REQUEST_ID_INVALID, "Request ID does not correspond to uniqueKey")
    handled_at = _handled_at(_value(fields, "handledAt", where), where)
    kept = {name: value for name, value in fields.items() if name not in _STATE_FIELDS}
    kept.setdefault("method", msgspec.Raw(_encode(method)))
    head = {"id": found_id, "uniqueKey": unique_key, "url": url, "method": method, "retryCount": retry_count}
    return NewRequest(found_id, unique_key, handled_at, _encode(kept).decode(), _encode(head).decode())


def parse_batch(raw: bytes, most: int) -> list[bytes]:
    """The JSON texts in an array of 1 to ``most`` items."""
    try:
        items = _RawList.decode(mend(raw))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"The request body is not a JSON array: {error}") from error
    except RecursionError as error:
        raise invalid("The request body is nested too deeply.") from error
    if not 1 <= len(items) <= most:
        raise invalid(f"The request body must have 1 to {most} requests, got {len(items)}.")
    return [bytes(item) for item in items]


def request_object(stored: StoredRequest, now: int) -> msgspec.Raw:
    """The JSON a client gets: what was sent, with id, state and defaults.

    No field is null: Crawlee for JavaScript refuses a request whose ``handledAt``, ``payload`` or ``loadedUrl`` is,
    the Python SDK one without ``headers``, ``userData`` or ``noRetry``.
    """
    sent = _RawObject.decode(stored.text)
    fields: dict[str, Any] = {"id": stored.id, **_DEFAULTS}
    fields |= {name: value for name, value in sent.items() if bytes(value) != b"null"}
    if stored.handled_at is not None:
        fields["handledAt"] = iso(stored.handled_at)
    elif stored.lock_expires_at is not None and stored.lock_expires_at > now:
        fields["lockExpiresAt"] = iso(stored.lock_expires_at)
        fields["lockByClient"] = stored.lock_client_key
    return msgspec.Raw(_encode(fields))


def head_object(head: str, lock_expires_at: int | None) -> msgspec.Raw:
    """An item of the head: no ``userData``, clients get each request. With its lock where the call took one."""
    if lock_expires_at is not None:
        head = f'{head[:-1]},"lockExpiresAt":"{iso(lock_expires_at)}"}}'
    return msgspec.Raw(head.encode())


def encode_cursor(request_id_: str) -> str:
    """A list's cursor: base64url without padding of ``{"requestId": ...}``."""
    return base64.urlsafe_b64encode(_encode({"requestId": request_id_})).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The request id in a cursor; 400 when it is none."""
    try:
        value = msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        found = value["requestId"]
    except (ValueError, TypeError, KeyError, msgspec.DecodeError) as error:
        raise invalid(f"Query parameter cursor has an invalid value {cursor[:100]!r}.") from error
    if not isinstance(found, str):
        raise invalid(f"Query parameter cursor has an invalid value {cursor[:100]!r}.")
    return found


def _value(fields: dict[str, msgspec.Raw], name: str, where: str) -> Any:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid(f"Field {where}{name} is not valid JSON: {error}") from error


def _is(value: Any, type_: Any) -> bool:
    try:
        msgspec.convert(value, type_ | None)
    except msgspec.ValidationError:
        return False
    return True


def _string(fields: dict[str, msgspec.Raw], name: str, where: str) -> str:
    value = _value(fields, name, where)
    if not isinstance(value, str) or not value:
        raise invalid(f"Field {where}{name} is required and must be a non-empty string.")
    return value


def _handled_at(value: Any, where: str) -> int | None:
    # Clients send ISO times, Python ones also "2025-01-01 12:00:00.123456+00:00".
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(_HANDLED_AT_FRACTION.sub(r".\1", value))
    except (TypeError, ValueError) as error:
        raise invalid(f"Field {where}handledAt has an invalid value {str(value)[:60]!r}: it must be a time.") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    at_ms = round(moment.timestamp() * 1000)
    if not 0 <= at_ms <= _LAST_MS:
        raise invalid(f"Field {where}handledAt has an invalid value {value[:60]!r}: it must be from 1970 to 9999.")
    return at_ms
