"""Signed values: any JSON object, signed for a user by this installation. Their inside is nobody else's business."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any, Protocol

import msgspec

from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.models import User
from actorium.services.access import Principal


class UserLookup(Protocol):
    """The part of the users' service this needs."""

    async def get_user(self, id_or_username: str) -> User:
        """A user. Raises 404."""
        ...


class Decoded(msgspec.Struct, frozen=True):
    """What was signed, and by whom; ``is_verified_user`` says whether that user still exists here."""

    value: Any
    user_id: str
    is_verified_user: bool


class _Envelope(msgspec.Struct, frozen=True):
    payload: str
    signature: str


class _Payload(msgspec.Struct, frozen=True):
    value: Any
    user_id: str


class Tools:
    """The service of signed values."""

    def __init__(self, users: UserLookup, instance_key: bytes) -> None:
        self._users = users
        self._key = hmac.digest(instance_key, b"signed-values", "sha256")

    def encode_and_sign(self, principal: Principal, value: dict[str, Any]) -> str:
        """Base64 of ``{"payload", "signature"}``. openapi: tools_encode_and_sign_post."""
        payload = msgspec.json.encode(_Payload(value, principal.user_id)).decode()
        return base64.b64encode(msgspec.json.encode(_Envelope(payload, self._signature(payload)))).decode()

    async def decode_and_verify(self, encoded: str) -> Decoded:
        """The signed value. Raises 400 ``invalid-signature``. openapi: tools_decode_and_verify_post."""
        try:
            envelope = msgspec.json.decode(base64.b64decode(encoded, validate=True), type=_Envelope)
        except (binascii.Error, ValueError, msgspec.DecodeError) as error:
            raise _not_ours() from error
        if not hmac.compare_digest(envelope.signature.encode(), self._signature(envelope.payload).encode()):
            raise _not_ours()
        payload = msgspec.json.decode(envelope.payload, type=_Payload)
        return Decoded(payload.value, payload.user_id, await self._exists(payload.user_id))

    def _signature(self, payload: str) -> str:
        return hmac.new(self._key, payload.encode(), hashlib.sha256).hexdigest()

    async def _exists(self, user_id: str) -> bool:
        try:
            await self._users.get_user(user_id)
        except ApiError:
            return False
        return True


def _not_ours() -> ApiError:
    return ApiError(ErrorType.INVALID_SIGNATURE, "Field encoded is not a value that was encoded and signed here.")
