"""JSON as text: how deeply it is nested, and what of it is no text.

Half of a surrogate pair alone is allowed as an escape, but stands for no character.
"""

from __future__ import annotations

import re

_surrogate = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
# A whole pair, else (group 1) half of one, else any other escape, so that an escaped backslash is skipped.
_escape = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)

MAX_DEPTH = 200
"""How deeply objects and arrays may be nested in what is stored: every reader takes each level on its stack."""

_string = re.compile(rb'"(?:[^"\\]|\\.)*"')
_bracket = re.compile(rb"[\[\]{}]")


def is_too_deep(text: bytes) -> bool:
    """Whether more than ``MAX_DEPTH`` objects and arrays are nested in ``text``, which is valid JSON."""
    if text.count(b"{") + text.count(b"[") <= MAX_DEPTH:
        return False
    level = 0
    for bracket in _bracket.findall(_string.sub(b"", text)):
        level += 1 if bracket in (b"[", b"{") else -1
        if level > MAX_DEPTH:
            return True
    return False


def mend(text: bytes) -> bytes:
    """``text`` with each half of a surrogate pair that stands alone as U+FFFD: it is JSON, but msgspec refuses it."""
    return text if _surrogate.search(text) is None else _escape.sub(_mended, text)


def _mended(match: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if match[1] is not None else match[0]
