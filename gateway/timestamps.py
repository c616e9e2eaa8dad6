"""Points in time as other services write them. Every reading is total: a moment, or None."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import formatdate, parsedate_to_datetime
from enum import StrEnum

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_EVENT = datetime(2000, 1, 1, tzinfo=UTC)
_CLOCK_SKEW = timedelta(seconds=60)
_LEAST_MILLISECONDS = 10**11  # as seconds the year 5138, as milliseconds 1973
_TOO_LARGE = 10**14
_LONGEST = 64
_HOUR_AND_MINUTE = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_RFC3339 = re.compile(
    rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})[Tt ]({_HOUR_AND_MINUTE}):([0-9]{{2}})(\.[0-9]+)?"
    rf"([Zz]|[+-]{_HOUR_AND_MINUTE})"
)


class TimestampFormat(StrEnum):
    """How a sender writes the time of sending into a header."""

    UNIX = "unix"
    UNIX_MS = "unix_ms"
    RFC3339 = "rfc3339"
    HTTP_DATE = "http_date"


def read_timestamp(text: str, written_as: TimestampFormat) -> datetime | None:
    """The aware moment that the text means in this format, or None if it is not in it."""
    if len(text) > _LONGEST:
        return None
    match written_as:
        case TimestampFormat.UNIX:
            return _EPOCH + timedelta(seconds=int(text)) if _is_digits(text, 11) else None
        case TimestampFormat.UNIX_MS:
            return _EPOCH + timedelta(milliseconds=int(text)) if _is_digits(text, 14) else None
        case TimestampFormat.RFC3339:
            return read_rfc3339(text)
        case TimestampFormat.HTTP_DATE:
            return _read_http_date(text)


def write_timestamp(moment: datetime, written_as: TimestampFormat) -> str:
    """The moment, to the second, as a sender writes it."""
    seconds = int(moment.timestamp())
    match written_as:
        case TimestampFormat.UNIX:
            return str(seconds)
        case TimestampFormat.UNIX_MS:
            return str(seconds * 1000)
        case TimestampFormat.RFC3339:
            return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case TimestampFormat.HTTP_DATE:
            return formatdate(seconds, usegmt=True)


def read_rfc3339(text: str) -> datetime | None:
    """The moment in UTC that the text means in RFC 3339, or None if it means none.

    A leap second, 23:59:60 in UTC, is read as the second that follows.
    """
    match = _RFC3339.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    date, hour_and_minute, second, fraction, offset = match.groups("")
    is_leap = second == "60"
    text = f"{date}T{hour_and_minute}:{'59' if is_leap else second}{fraction}{offset.upper()}"
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC) + timedelta(seconds=is_leap)
    except (
        ValueError,
        OverflowError,
    ):  # there is no such day, or it ends outside of years 1 to 9999
        return None
    if is_leap and (moment.hour, moment.minute) != (0, 0):
        return None
    return moment


def read_event_time(value: object, now: datetime) -> datetime | None:
    """When something happened, in UTC, if the value is a plausible time.

    Plausible is RFC 3339 with an offset, or Unix seconds or milliseconds as a number or its digits;
    from 2000 on and at most a minute, the skew of two clocks, after ``now``.
    """
    if isinstance(value, str):
        moment = _read_unix(int(value)) if _is_digits(value, 14) else read_rfc3339(value)
    elif isinstance(value, int | float):  # true is 1970 and so implausible
        moment = _read_unix(value)
    else:
        moment = None
    if moment is None or not _EARLIEST_EVENT <= moment <= now + _CLOCK_SKEW:
        return None
    return moment.astimezone(UTC)


def _is_digits(text: str, most: int) -> bool:
    """int() also takes signs, spaces, underscores and other scripts' digits; none is meant here."""
    return len(text) <= most and text.isascii() and text.isdigit()


def _read_unix(number: float) -> datetime | None:
    if not 0 <= number < _TOO_LARGE:
        return None
    if number < _LEAST_MILLISECONDS:
        return _EPOCH + timedelta(seconds=number)
    return _EPOCH + timedelta(milliseconds=number)


def _read_http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, LookupError, OverflowError):  # its parser promises none of them
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
