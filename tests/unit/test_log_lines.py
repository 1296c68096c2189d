"""How process output becomes log lines."""

from __future__ import annotations

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from actorium.domain.log_lines import CUT_NOTICE, Splitter, cleaned, one_line, stamp, stamped, without_stamps
from actorium.domain.times import iso

AT_MS = 1_788_167_605_123
LINE = re.compile(rb"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z [^\n]*\n")

output = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from(
            [b"\n", b"\r\n", b"\r", b"\r\r\n", "é".encode(), "漢".encode(), "😀".encode(), b"\xf0\x9f", b"\x00"]
        ),
    ),
    max_size=30,
).map(b"".join)


def split(pieces: list[bytes], max_line_bytes: int = 1_048_576) -> bytes:
    splitter = Splitter(max_line_bytes=max_line_bytes)
    return b"".join(splitter.feed(piece) for piece in pieces) + splitter.end()


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


def test_a_stamp_has_three_decimals_and_one_blank() -> None:
    assert stamp(AT_MS) == b"2026-08-31T09:13:25.123Z "
    assert iso(1_000) == "1970-01-01T00:00:01.000Z"


def test_line_ends_are_made_uniform_and_bare_returns_stay() -> None:
    assert split([b"a\r", b"\nb\rc\n", b"\r\r\n"]) == b"a\nb\rc\n\r\n"


def test_a_character_cut_in_two_is_whole_and_a_broken_one_is_replaced() -> None:
    assert split([b"\xe6\xbc", b"\xa2\n"]) == "漢\n".encode()
    assert split([b"a\xe6\xbc\nb\xff\n"]) == "a\ufffd\nb\ufffd\n".encode()


def test_a_partial_line_waits_for_its_end() -> None:
    splitter = Splitter()
    assert splitter.feed(b"one\ntw") == b"one\n"
    assert splitter.feed(b"o") == b""
    assert bytes(splitter.pending) == b"two"
    assert splitter.end() == b"two\n"
    assert splitter.end() == b""


@given(output, st.lists(st.integers(0, 400), max_size=10))
def test_where_the_output_is_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    assert split(pieces_of(data, cuts)) == split([data])


@given(output, st.lists(st.integers(0, 400), max_size=10), st.integers(4, 20))
def test_nor_does_it_for_lines_that_are_too_long(data: bytes, cuts: list[int], limit: int) -> None:
    whole = split([data], limit)
    assert split(pieces_of(data, cuts), limit) == whole
    assert whole.replace(b"\n" + CUT_NOTICE, b"") == split([data])


@given(output)
def test_every_line_is_valid_and_stamped_once(data: bytes) -> None:
    lines = split([data])
    log = stamped(lines, stamp(AT_MS))
    log.decode()
    assert b"".join(LINE.findall(log)) == log
    assert log.count(b"\n") == data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
    if b"Z " not in data:
        assert without_stamps(log) == lines


def test_a_line_that_is_exactly_as_long_as_allowed_stays_whole() -> None:
    assert split([b"12345678\r", b"\n"], 8) == b"12345678\n"
    assert split([b"123456789\n"], 8) == b"12345678\n" + CUT_NOTICE + b"9\n"
    assert split(["1234567漢\n".encode()], 8) == b"1234567\n" + CUT_NOTICE + "漢\n".encode()


def test_a_platform_line_is_one_line() -> None:
    assert one_line("ACTOR: a\r\nb\nc") == b"ACTOR: a b c\n"


def test_cleaning_removes_escapes_and_what_cannot_be_printed() -> None:
    dirty = (
        b"\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]0;title\x07 \x1b(Bz \x1b7q\x00\x7f\x08 "
        b"\xc2\x9b1mC1 tab\there \xc2\xa0 100%\r\n\x1b\n\x1b[\nnext\x1b]open\nlast\n"
    )
    expected = b"red link z q C1 tab\there \xc2\xa0 100%\n\n\nnext\nlast\n"
    assert cleaned(dirty) == expected


@given(output)
def test_cleaning_lines_one_by_one_is_the_same(data: bytes) -> None:
    lines = split([data])
    assert b"".join(cleaned(line + b"\n") for line in lines.split(b"\n")[:-1]) == cleaned(lines)
    assert cleaned(lines).count(b"\n") == lines.count(b"\n")
    cleaned(lines).decode()
