"""Sealing of secret values at rest: AES-GCM under a key derived from the instance key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_PREFIX = "sealed:1:"
_NONCE_BYTES = 12


class Vault:
    """Seals and opens texts with one instance key."""

    def __init__(self, instance_key: bytes) -> None:
        self._cipher = AESGCM(hmac.digest(instance_key, b"secret-values", "sha256"))

    def seal(self, text: str) -> str:
        """``text`` as it is stored; different every time."""
        nonce = os.urandom(_NONCE_BYTES)
        return _PREFIX + base64.b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), None)).decode()

    def open(self, sealed: str) -> str:
        """The text. Raises ``ValueError`` when it was sealed with another instance key."""
        raw = base64.b64decode(sealed.removeprefix(_PREFIX))
        try:
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None).decode()
        except InvalidTag as error:
            raise ValueError("a secret value was sealed with another instance key") from error


def value_hash(sealed: str) -> str:
    """Six hex characters that change whenever a secret is set. docs: environment variables."""
    return hashlib.sha256(sealed.encode()).hexdigest()[:6]
