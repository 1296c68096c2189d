"""JSON that is no text: half of a surrogate pair alone is allowed as an escape, but stands for no character."""

from __future__ import annotations

import re

_surrogate = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
# A whole pair, else (group 1) half of one, else any other escape, so that an escaped backslash is skipped.
_escape = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


def mend(text: bytes) -> bytes:
    """``text`` with each half of a surrogate pair that stands alone as U+FFFD: it is JSON, but msgspec refuses it."""
    return text if _surrogate.search(text) is None else _escape.sub(_mended, text)


def _mended(match: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if match[1] is not None else match[0]
