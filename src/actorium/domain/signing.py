"""Signatures in the URLs of storages. Scheme and vectors: the platform's public utilities (hmac, storages)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

_BASE62 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_VERSION = "0"


def hmac_signature(secret: str, message: str) -> str:
    """The first 120 bits of an HMAC-SHA-256 as a base-62 number."""
    number = int(hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()[:30], 16)
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits or "0"


def record_signature(secret: str, key: str) -> str:
    """Permanent signature for reading the record ``key``; the key as it is, not percent-encoded."""
    return hmac_signature(secret, key)


def content_signature(secret: str, storage_id: str, expires_at: int = 0) -> str:
    """Signature for reading a whole storage until ``expires_at`` (ms; 0: for ever), without base64 padding."""
    inner = hmac_signature(secret, f"{_VERSION}.{expires_at}.{storage_id}")
    return base64.urlsafe_b64encode(f"{_VERSION}.{expires_at}.{inner}".encode()).rstrip(b"=").decode()


def is_record_signature(signature: str | None, secret: str | None, key: str) -> bool:
    """Whether ``signature`` opens the record ``key``."""
    if not signature or not secret:
        return False
    return hmac.compare_digest(signature.encode(), record_signature(secret, key).encode())


def is_content_signature(signature: str | None, secret: str | None, storage_id: str, now: int) -> bool:
    """Whether ``signature`` (with or without padding) opens the storage now."""
    if not signature or not secret:
        return False
    bare = signature.rstrip("=")
    try:
        text = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return False
    version, expires_at, *_ = [*text.split("."), ""]
    if version != _VERSION or not (expires_at.isascii() and expires_at.isdigit()) or len(expires_at) > 20:
        return False
    if int(expires_at) != 0 and now > int(expires_at):
        return False
    # The whole text is compared: base64 has several ways to write the same bytes.
    return hmac.compare_digest(bare.encode(), content_signature(secret, storage_id, int(expires_at)).encode())
