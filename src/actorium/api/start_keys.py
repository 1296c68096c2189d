"""The header ``Idempotency-Key`` of calls that start a run: an extension, as clients repeat unanswered calls."""

from __future__ import annotations

import hashlib
import re

import msgspec

from actorium.api.http import Call
from actorium.domain.errors import invalid
from actorium.domain.models import StartKey

_KEY = re.compile(r"[\x20-\x7e]{1,256}")
_NOT_OF_THE_RUN = ("token", "waitForFinish", "method")


def start_key(call: Call, data: bytes) -> StartKey | None:
    """The key of a call with the body ``data``; ``None`` without one. Raises 400."""
    text = call.headers.get("idempotency-key")
    if text is None:
        return None
    if _KEY.fullmatch(text) is None:
        raise invalid(
            f"Header Idempotency-Key has an invalid value {text[:100]!r}: it must have 1 to 256 printable characters."
        )
    told_apart_by = [sorted(call.path.items()), call.query.without(*_NOT_OF_THE_RUN).canonical(), call.content_type]
    digest = hashlib.sha256(msgspec.json.encode(told_apart_by))
    digest.update(b"\0" + data)
    return StartKey(text, digest.hexdigest())
