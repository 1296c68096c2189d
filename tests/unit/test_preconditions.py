from __future__ import annotations

import pytest

from actorium.api.preconditions import UnsatisfiableRangeError, byte_range, matches


@pytest.mark.parametrize(
    ("header", "strongly", "weakly"),
    [
        ('"a"', True, True),
        ('"b", "a"', True, True),
        ('"b",W/"a"', False, True),
        ('W/"a" , "c"', False, True),
        ("*", True, True),
        (" * ", True, True),
        ('"b"', False, False),
        ('"*"', False, False),
        ("a", False, False),
        ("", False, False),
        ('"x,\\"a"', False, False),
        ('"A"', False, False),
    ],
)
def test_entity_tags(header: str, strongly: bool, weakly: bool) -> None:
    assert matches(header, '"a"') is strongly
    assert matches(header, '"a"', weakly=True) is weakly


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-5", (2, 6)),
        ("bytes=2-", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-300", (0, 10)),
        ("bytes=9-99999999999999999999", (9, 10)),
        (" Bytes = 1 - 2 ", (1, 3)),
        ("bytes=0-1,4-5", None),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1", None),
        ("lines=1-2", None),
        ("", None),
    ],
)
def test_ranges_of_ten_bytes(header: str, expected: tuple[int, int] | None) -> None:
    assert byte_range(header, 10) == expected


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=10-20", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0)]
)
def test_ranges_of_nothing(header: str, size: int) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        byte_range(header, size)
