"""Records of key-value stores: keys, and a record without and with its place in the storage."""

from __future__ import annotations

import re

import msgspec

from actorium.domain.errors import ApiError, ErrorType

_KEY = re.compile(r"[a-zA-Z0-9!\-_.'()]{1,256}")


class Record(msgspec.Struct, frozen=True):
    """A record as stored. Its value is ``value`` or, when that is ``None``, the blob ``blob_key``."""

    key: str
    version: int
    content_type: str
    content_encoding: str | None
    size_bytes: int
    modified_at: int
    value: bytes | None
    blob_key: str | None

    @property
    def tag(self) -> str:
        """What tells this state of the record from every other one that was ever at its address.

        The version alone would not: a store deleted and made again under its name counts from the start.
        """
        return f"{self.modified_at:x}-{self.version:x}"


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


class KeyRange(msgspec.Struct, frozen=True):
    """Neighbouring keys in the order of their bytes: from ``start`` up to before ``end`` (``None``: to the last)."""

    start: bytes = b""
    end: bytes | None = None

    @classmethod
    def of_prefix(cls, prefix: str) -> KeyRange:
        """The keys that start with ``prefix``, which has characters a key can have."""
        start = prefix.encode()
        return cls(start, start[:-1] + bytes([start[-1] + 1]) if start else None)

    @classmethod
    def of_key(cls, key: str) -> KeyRange:
        """The one key."""
        return cls(key.encode(), key.encode() + b"\0")

    def after(self, key: str) -> KeyRange:
        """Those of the keys that come after ``key``."""
        return KeyRange(max(self.start, key.encode() + b"\0"), self.end) if key else self

    def within(self, other: KeyRange) -> KeyRange:
        """Those of the keys that ``other`` holds too."""
        ends = [end for end in (self.end, other.end) if end is not None]
        return KeyRange(max(self.start, other.start), min(ends, default=None))

    def __contains__(self, key: str) -> bool:
        found = key.encode()
        return self.start <= found and (self.end is None or found < self.end)


def check_key(key: str, what: str = "Record key") -> str:
    """``key`` if it may be a record's, else 400 ``invalid-record-key``, which calls it ``what``."""
    if _KEY.fullmatch(key):
        return key
    raise ApiError(
        ErrorType.INVALID_RECORD_KEY,
        f"{what} {key[:100]!r} is not valid: it must have 1 to 256 characters, "
        "each a letter a-z or A-Z, a digit or one of !-_.'()",
    )
