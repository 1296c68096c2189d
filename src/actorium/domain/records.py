"""Records of key-value stores: keys, and a record without and with its place in the storage."""

from __future__ import annotations

import re

import msgspec

from actorium.domain.errors import ApiError, ErrorType

_KEY = re.compile(r"[a-zA-Z0-9!\-_.'()]{1,256}")


class Record(msgspec.Struct, frozen=True):
    """A record as stored. Its value is ``value`` or, when that is ``None``, the blob ``blob_key``."""

    key: str
    content_type: str
    content_encoding: str | None
    size_bytes: int
    modified_at: int
    value: bytes | None
    blob_key: str | None


class NewRecord(msgspec.Struct, frozen=True):
    """A record to store. A large value was put into the blob store before, under ``blob_key``."""

    key: str
    content_type: str
    content_encoding: str | None
    size_bytes: int
    value: bytes | None = None
    blob_key: str | None = None


class Key(msgspec.Struct, frozen=True):
    """A record as listings show it."""

    key: str
    size_bytes: int


def check_key(key: str, what: str = "Record key") -> str:
    """``key`` if it may be a record's, else 400 ``invalid-record-key``, which calls it ``what``."""
    if _KEY.fullmatch(key):
        return key
    raise ApiError(
        ErrorType.INVALID_RECORD_KEY,
        f"{what} {key[:100]!r} is not valid: it must have 1 to 256 characters, "
        "each a letter a-z or A-Z, a digit or one of !-_.'()",
    )
