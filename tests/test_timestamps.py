"""The one reader of RFC 3339. The senders' other formats are tried with their signatures."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.timestamps import read_rfc3339


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T20:00:00Z", datetime(2026, 11, 22, 20, tzinfo=UTC)),
        ("2026-11-22t20:00:00z", datetime(2026, 11, 22, 20, tzinfo=UTC)),
        ("2026-11-22 20:00:00Z", datetime(2026, 11, 22, 20, tzinfo=UTC)),
        ("2026-11-22T15:00:00.5-05:00", datetime(2026, 11, 22, 20, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-22T20:00:00.123456789Z", datetime(2026, 11, 22, 20, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-11-22T20:00:00-00:00", datetime(2026, 11, 22, 20, tzinfo=UTC)),
        ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
        # RFC 3339, 5.8: the same leap second in UTC and in California
        ("1990-12-31T23:59:60Z", datetime(1991, 1, 1, tzinfo=UTC)),
        ("1990-12-31T15:59:60-08:00", datetime(1991, 1, 1, tzinfo=UTC)),
        ("2016-12-31T23:59:60.5Z", datetime(2017, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_in_utc(text: str, moment: datetime) -> None:
    assert read_rfc3339(text) == moment
    assert read_rfc3339(text).tzinfo is UTC  # type: ignore[union-attr]  # it is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-22",
        "2026-11-22T20:00:00",
        "2026-11-22T20:00Z",
        "20261122T200000Z",
        "2026-11-22T20:00:00+0500",
        "2026-11-22T20:00:00+05",
        "2026-11-22T20:00:00 Z",
        "2026-11-22T20:00:00Z\n",
        "2026-11-22T20:00:00,5Z",
        "2026-11-22T20:00:00.Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T20:60:00Z",
        "2026-11-22T20:00:61Z",
        "2026-11-22T20:00:60Z",
        "2026-11-22T23:59:60-05:00",
        "2026-11-22T20:00:00+24:00",
        "2026-11-22T20:00:00+05:60",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "9999-12-31T23:59:60Z",
        "\uff12026-11-22T20:00:00Z",
        "2026-11-22T20:00:00." + "0" * 5000 + "Z",
    ],
)
def test_what_is_not_a_time_is_none(text: str) -> None:
    assert read_rfc3339(text) is None


@given(st.datetimes(timezones=st.timezones()))
def test_a_moment_written_by_python_is_read_back(moment: datetime) -> None:
    text = moment.isoformat()
    # None: an offset with seconds, or a year before 1 or after 9999 in UTC
    assert read_rfc3339(text) in (None, datetime.fromisoformat(text))


@given(st.text() | st.text("0123456789TtZz:-+. "))
def test_any_text_is_read_or_none(text: str) -> None:
    assert read_rfc3339(text) is None or text[4] == "-"
