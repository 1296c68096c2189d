"""Requests of a request queue: ids, checks, and the object clients get back. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from actorium.domain.errors import ApiError, ErrorType, invalid
from actorium.domain.json_texts import MAX_DEPTH, is_too_deep, mend
from actorium.domain.times import iso

MAX_REQUEST_BYTES = 9_437_184
_STATE_FIELDS = ("id", "handledAt", "lockExpiresAt", "lockByClient")
_RawObject = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RawList = msgspec.json.Decoder(list[msgspec.Raw])
_encode = msgspec.json.Encoder().encode
_METHODS = dict.fromkeys(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
_DEFAULTS = {"method": "GET", "retryCount": 0, "noRetry": False, "errorMessages": [], "headers": {}, "userData": {}}
_YEAR_10000_MS = 253_402_300_800_000
_HANDLED_AT_FRACTION = re.compile(r"\.(\d{6})\d+")


class Client(msgspec.Struct, frozen=True):
    """Who calls: the client key (``None`` = a client of its own) and the run whose token was used."""

    key: str | None
    run_id: str | None = None


class NewRequest(msgspec.Struct, frozen=True):
    """A request as a client sent it.

    ``text`` is its JSON without the fields that are state, ``head`` the JSON of what the head of a queue tells of it;
    ``size_bytes`` is the size of ``text``.
    """

    id: str
    unique_key: str
    handled_at: int | None
    size_bytes: int
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
    digest = binascii.b2a_base64(hashlib.sha256(unique_key.encode("utf-8", "surrogatepass")).digest(), newline=False)
    return digest.translate(None, b"+/=")[:15].decode()


class _Head(msgspec.Struct, rename="camel"):
    """What the head of a queue tells of a request."""

    id: str
    unique_key: str
    url: str
    method: str
    retry_count: int


_Filled = Annotated[str, msgspec.Meta(min_length=1)]


class _Sent(msgspec.Struct, rename="camel"):
    """The fields of a sent request that mean something here, or that clients read with strict types.

    One wrong value among the latter would keep them from reading a whole list. openapi: RequestBase.
    """

    unique_key: _Filled
    url: _Filled
    method: str | None = None
    retry_count: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    user_data: dict[str, msgspec.Raw] | None = None
    headers: dict[str, msgspec.Raw] | None = None
    payload: str | dict[str, msgspec.Raw] | None = None
    loaded_url: str | None = None
    no_retry: bool | None = None
    error_messages: list[str] | None = None
    id: str | None = None
    handled_at: str | None = None
    lock_expires_at: Any = None
    lock_by_client: Any = None


_SentRequest = msgspec.json.Decoder(_Sent)


def parse_request(raw: bytes, where: str = "") -> NewRequest:
    """A request out of its JSON; 400 naming the field when it is none. ``where`` names the request in a batch."""
    what = where or "The request body"
    # What clients hash for the id is the mended text too.
    try:
        text = mend(raw)
        sent = _SentRequest.decode(text)
    except msgspec.ValidationError as error:
        raise invalid(f"{what} must be a JSON object with the fields of a request: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"{what} is not a JSON object: {error}") from error
    except RecursionError as error:
        raise invalid(f"{what} is nested too deeply.") from error
    if is_too_deep(text):
        raise invalid(f"{what} is nested more than {MAX_DEPTH} levels deep.")
    method = "GET" if sent.method is None else sent.method.upper()
    if method not in _METHODS:
        raise invalid(
            f"{what} has an invalid value {method[:60]!r} in the field method: it must be one of {', '.join(_METHODS)}."
        )
    found_id = request_id(sent.unique_key)
    if sent.id is not None and sent.id != found_id:
        raise ApiError(ErrorType.REQUEST_ID_INVALID, "Request ID does not correspond to uniqueKey")
    handled_at = None if sent.handled_at is None else _handled_at(sent.handled_at, what)
    has_state = sent.id or sent.handled_at or sent.lock_expires_at is not None or sent.lock_by_client is not None
    if has_state or (sent.method is not None and sent.method != method):
        fields = _RawObject.decode(text)
        kept: dict[str, Any] = {name: value for name, value in fields.items() if name not in _STATE_FIELDS}
        if sent.method is not None:
            kept["method"] = method
        text = _encode(kept)
    head = _Head(found_id, sent.unique_key, sent.url, method, sent.retry_count or 0)
    return NewRequest(found_id, sent.unique_key, handled_at, len(text), text.decode(), _encode(head).decode())


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


def head_array(heads: Sequence[str], lock_expires_at: int | None) -> msgspec.Raw:
    """The items of a head: no ``userData``, clients get each request. With their lock where the call took one."""
    if lock_expires_at is None or not heads:
        return msgspec.Raw(f"[{','.join(heads)}]".encode())
    lock = f',"lockExpiresAt":"{iso(lock_expires_at)}"}}'
    items = f"{lock},".join([head[:-1] for head in heads])
    return msgspec.Raw(f"[{items}{lock}]".encode())


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


def _handled_at(value: str, what: str) -> int:
    # Clients send ISO times, Python ones also "2025-01-01 12:00:00.123456+00:00".
    try:
        moment = datetime.fromisoformat(_HANDLED_AT_FRACTION.sub(r".\1", value))
    except ValueError as error:
        raise invalid(
            f"{what} has an invalid value {value[:60]!r} in the field handledAt: it must be a time."
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    at_ms = round(moment.timestamp() * 1000)
    if not 0 <= at_ms < _YEAR_10000_MS:
        raise invalid(
            f"{what} has an invalid value {value[:60]!r} in the field handledAt: it must be from 1970 to 9999."
        )
    return at_ms
