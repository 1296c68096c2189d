"""When schedules fire, as section 3.2 of the specification of automation says, in zones that change their clocks."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorium.domain.cron import MIN_SPACING_MS, check_expression, is_timezone, next_time
from actorium.domain.errors import ApiError


def ms(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def times(expression: str, zone: str, start: str, count: int) -> list[str]:
    """The next times in UTC, each found from the one before as the scheduler does."""
    now, last, found = ms(start), None, []
    for _ in range(count):
        now = last = next_time(expression, zone, now, last)
        found.append(datetime.fromtimestamp(now / 1000, UTC).strftime("%m-%d %H:%M:%S").removesuffix(":00"))
    return found


@pytest.mark.parametrize(
    ("expression", "start", "wanted"),
    [
        ("* * * * *", "2026-01-01T00:00:00", ["01-01 00:01", "01-01 00:02"]),
        ("*/15 8-9 * * *", "2026-01-01T08:20:00", ["01-01 08:30", "01-01 08:45", "01-01 09:00"]),
        ("0 12 * * 0", "2026-01-01T00:00:00", ["01-04 12:00", "01-11 12:00"]),
        ("0 12 * * 7", "2026-01-01T00:00:00", ["01-04 12:00"]),
        ("0 12 * * MON,wed", "2026-01-01T00:00:00", ["01-05 12:00", "01-07 12:00"]),
        ("30 6 1 jan,FEB *", "2026-01-01T07:00:00", ["02-01 06:30"]),
        ("0 0 13 * 5", "2026-01-01T00:00:00", ["01-02 00:00", "01-09 00:00", "01-13 00:00"]),
        ("15 30 6 * * *", "2026-01-01T00:00:00", ["01-01 06:30:15", "01-02 06:30:15"]),
        ("*/20 * * * * *", "2026-01-01T00:00:05", ["01-01 00:00:20", "01-01 00:00:40", "01-01 00:01"]),
        # Nearer than 10 s to the last one is passed over.
        ("* * * * * *", "2026-01-01T00:00:00", ["01-01 00:00:01", "01-01 00:00:11", "01-01 00:00:21"]),
        ("0,4,8,12 * * * * *", "2026-01-01T00:00:00", ["01-01 00:00:04", "01-01 00:01", "01-01 00:01:12"]),
        ("@hourly", "2026-01-01T00:30:00", ["01-01 01:00"]),
        ("@daily", "2026-01-01T00:00:00", ["01-02 00:00"]),
        ("@midnight", "2026-01-01T00:00:00", ["01-02 00:00"]),
        ("@weekly", "2026-01-01T00:00:00", ["01-04 00:00"]),
        ("@monthly", "2026-01-01T00:00:00", ["02-01 00:00"]),
        ("@Yearly", "2026-01-01T00:00:00", ["01-01 00:00"]),
        ("@annually", "2026-01-02T00:00:00", ["01-01 00:00"]),
        (" 0  0 29 2 * ", "2026-01-01T00:00:00", ["02-29 00:00"]),
    ],
)
def test_expressions(expression: str, start: str, wanted: list[str]) -> None:
    assert times(expression, "UTC", start, len(wanted)) == wanted


@pytest.mark.parametrize(
    "expression",
    ["", "x", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 8",
     "*/0 * * * *",
     "5-1 * * * *", "@reboot", "@secondly", "0 0 31 2 *", "* * * * * * *", "-1 * * * *", "1,,2 * * * *",
     "\u0661 * * * *",
     "0 " * 200, "* * * * MOO", "L * * * *", "99999999999999999999 * * * *"],
)  # fmt: skip
def test_what_is_no_expression(expression: str) -> None:
    with pytest.raises(ApiError) as error:
        check_expression(expression)
    assert error.value.type.code == "cron-expression-invalid"
    assert error.value.message.startswith("Cron expression is not valid")


def test_zones() -> None:
    for name in ("UTC", "Europe/Prague", "America/New_York", "US/Eastern", "Asia/Calcutta", "Etc/GMT+5"):
        assert is_timezone(name)
    for name in ("", "Mars/Phobos", "europe/prague", "../etc/passwd", "localtime"):
        assert not is_timezone(name)


@pytest.mark.parametrize(
    ("zone", "day", "skipped", "shown"),
    [
        # 02:30 is skipped and comes right after the gap; in Lord Howe the gap is half an hour.
        ("Europe/Prague", "2026-03-28T12:00:00", "30 2 * * *", ["03-29 01:00", "03-30 00:30", "03-31 00:30"]),
        ("America/New_York", "2026-03-07T12:00:00", "30 2 * * *", ["03-08 07:00", "03-09 06:30", "03-10 06:30"]),
        ("Australia/Lord_Howe", "2026-10-03T00:00:00", "15 2 * * *", ["10-03 15:30", "10-04 15:15", "10-05 15:15"]),
        # With seconds the same, as long as minutes and hours are fixed.
        ("Europe/Prague", "2026-03-28T12:00:00", "20 30 2 * * *", ["03-29 01:00:20", "03-30 00:30:20"]),
        # Two skipped times are one.
        ("Europe/Prague", "2026-03-28T12:00:00", "15,45 2 * * *", ["03-29 01:00", "03-30 00:15", "03-30 00:45"]),
    ],
)
def test_a_time_that_summer_time_skips_comes_after_the_gap(zone: str, day: str, skipped: str, shown: list[str]) -> None:
    assert times(skipped, zone, day, len(shown)) == shown


@pytest.mark.parametrize(
    ("zone", "day", "repeated", "shown"),
    [
        ("Europe/Prague", "2026-10-24T12:00:00", "30 2 * * *", ["10-25 00:30", "10-26 01:30", "10-27 01:30"]),
        ("America/New_York", "2026-10-31T12:00:00", "30 1 * * *", ["11-01 05:30", "11-02 06:30", "11-03 06:30"]),
        ("Australia/Lord_Howe", "2026-04-04T00:00:00", "45 1 * * *", ["04-04 14:45", "04-05 15:15", "04-06 15:15"]),
        ("Europe/Prague", "2026-10-24T12:00:00", "5 30 2 * * *", ["10-25 00:30:05", "10-26 01:30:05"]),
    ],
)
def test_a_time_that_winter_time_repeats_comes_once(zone: str, day: str, repeated: str, shown: list[str]) -> None:
    assert times(repeated, zone, day, len(shown)) == shown


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("Europe/Prague", "2026-03-29T00:00:00"),
        ("Europe/Prague", "2026-10-25T00:00:00"),
        ("America/New_York", "2026-03-08T06:00:00"),
        ("America/New_York", "2026-11-01T05:00:00"),
    ],
)
def test_wildcards_follow_elapsed_time_through_both_changes(zone: str, start: str) -> None:
    now, last = ms(start), None
    for number in range(1, 9):
        now = last = next_time("*/30 * * * *", zone, now, last)
        assert now == ms(start) + number * 1_800_000


def test_every_hour_exists_in_a_year_of_three_zones() -> None:
    for zone in ("Europe/Prague", "America/New_York", "Australia/Lord_Howe"):
        start, now, count = ms("2026-01-01T00:00:00", zone), ms("2026-01-01T00:00:00", zone), 0
        while (now := next_time("30 2 * * *", zone, now, None)) < start + 365 * 86_400_000:
            count += 1
            local = datetime.fromtimestamp(now / 1000, ZoneInfo(zone))
            assert (local.hour, local.minute) in ((2, 30), (3, 0)), local
        assert count == 365, zone


def test_a_time_found_while_the_hour_is_repeated() -> None:
    zone = "Europe/Prague"
    second_half = ms("2026-10-25T01:10:00")
    assert next_time("30 2 * * *", zone, second_half, None) == ms("2026-10-26T01:30:00")
    assert next_time("20 * * * *", zone, second_half, None) == ms("2026-10-25T01:20:00")


FIELDS = st.tuples(
    st.sampled_from(["*", "*/7", "0", "13,44", "5-20/5"]),
    st.sampled_from(["*", "2", "*/6", "1-3", "23"]),
    st.sampled_from(["*", "1", "15", "28-31"]),
    st.sampled_from(["*", "3", "10", "3,10,11"]),
    st.sampled_from(["*", "0", "1-5", "7"]),
)


@given(
    FIELDS,
    st.sampled_from(["", "0 ", "*/15 ", "30,59 "]),
    st.sampled_from(["UTC", "Europe/Prague", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.datetimes(datetime(2025, 1, 1), datetime(2030, 1, 1)),
)
def test_times_only_go_forward_and_match(fields: tuple[str, ...], seconds: str, zone: str, start: datetime) -> None:
    expression = seconds + " ".join(fields)
    now, found = round(start.replace(tzinfo=UTC).timestamp() * 1000), []
    last = None
    for _ in range(4):
        now = last = next_time(expression, zone, now, last)
        found.append(now)
    assert all(later - earlier >= MIN_SPACING_MS for earlier, later in itertools.pairwise(found))
    months, hours = fields[3], fields[1]
    for at in found:
        local = datetime.fromtimestamp(at / 1000, ZoneInfo(zone))
        assert months == "*" or str(local.month) in months.split(",")
        if hours in ("2", "23"):
            moved = local - timedelta(hours=1)
            assert hours in (str(local.hour), str(moved.hour)), local
