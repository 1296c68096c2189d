"""Conditional requests and byte ranges of RFC 9110: which answer a client's headers ask for. Pure."""

from __future__ import annotations

import re

_ENTITY_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,30})\s*-\s*(\d{0,30})\s*", re.ASCII | re.IGNORECASE)


class UnsatisfiableRangeError(ValueError):
    """The representation has none of the bytes the client asked for."""


def matches(header: str, entity_tag: str, *, weakly: bool = False) -> bool:
    """Whether ``entity_tag``, a strong one, is in a list such as ``If-Match`` has, or the list is ``*``.

    ``weakly``: tags marked as weak count too, as they do in ``If-None-Match`` (section 8.8.3.2).
    """
    if header.strip() == "*":
        return True
    return any(tag == entity_tag and (weakly or not is_weak) for is_weak, tag in _ENTITY_TAG.findall(header))


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last of a ``Range``, for a representation of ``size`` bytes.

    ``None`` sends it whole: for several ranges and for what is no range (section 14.2 allows both). Raises
    ``UnsatisfiableRangeError``.
    """
    match = _RANGE.fullmatch(header)
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, end = size - min(int(match[2]), size), size
    else:
        start, end = int(match[1]), size
        if match[2] != "":
            if int(match[2]) < start:
                return None
            end = min(int(match[2]) + 1, size)
    if start >= end:
        raise UnsatisfiableRangeError
    return start, end
