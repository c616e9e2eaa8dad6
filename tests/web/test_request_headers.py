"""The headers that mean something: Prefer, Idempotency-Key, Authorization, X-Request-ID."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorCode, GatewayError
from gateway.web.requests import (
    Preference,
    is_sound_request_id,
    read_bearer,
    read_idempotency_key,
    read_prefer,
)
from tests.support.factories import NUMBER

NONE = Preference()


def asynchronous(wait_seconds: int | None = None) -> Preference:
    wait = "" if wait_seconds is None else f", wait={wait_seconds}"
    return Preference(wait_seconds or 0, f"respond-async{wait}")


def waiting(seconds: int) -> Preference:
    return Preference(seconds, f"wait={seconds}")


@pytest.mark.parametrize(
    ("header", "preference"),
    [
        ("", NONE),
        ("respond-async", asynchronous()),
        ("Respond-Async", asynchronous()),
        (" respond-async ", asynchronous()),
        ('respond-async=""', asynchronous()),
        ("respond-async=", asynchronous()),
        ("respond-async, wait=5", asynchronous(5)),
        ("respond-async,wait=5", asynchronous(5)),
        ("wait=5, respond-async", asynchronous(5)),
        ("WAIT = 5 , respond-async", asynchronous(5)),
        ('respond-async, wait="5"', asynchronous(5)),
        ("respond-async, wait=0", asynchronous(0)),
        ("respond-async, wait=15", asynchronous(15)),
        ("respond-async, wait=16", asynchronous(15)),
        (f"respond-async, wait={'9' * 400}", asynchronous(15)),
        ("respond-async; priority=high, wait=3; x", asynchronous(3)),
        ("respond-async;, wait=3", asynchronous(3)),
        ('handling="a, b", respond-async', asynchronous()),
        ('handling="a \\", wait=9", respond-async, wait=2', asynchronous(2)),
        ("respond-async, wait=4, wait=9", asynchronous(4)),
        ("respond-async, respond-async=no", asynchronous()),
        (",, respond-async ,,", asynchronous()),
        ("return=minimal, respond-async", asynchronous()),
        ("wait=0", waiting(0)),
        ("wait=5", waiting(5)),
        ("wait=60", waiting(15)),
        ("respond-async=yes, wait=5", waiting(5)),
        # What makes no sense is ignored.
        ("return=minimal", NONE),
        ("respond-async=yes", NONE),
        ("respond-async=yes, respond-async", NONE),
        ("respond async", NONE),
        ("respondasync", NONE),
        ("handling=lenient; respond-async", NONE),
        ('handling="respond-async', NONE),
        ('handling="x, respond-async"', NONE),
        ("wait=soon", NONE),
        ("respond-async, wait=soon", asynchronous()),
        ("respond-async, wait=-5", asynchronous()),
        ("respond-async, wait=5.5", asynchronous()),
        ("respond-async, wait=\u0665", asynchronous()),
        ("respond-async, wait", asynchronous()),
    ],
)
def test_prefer_is_read_as_rfc_7240_says(header: str, preference: Preference) -> None:
    assert read_prefer(header) == preference


@given(st.text(st.characters(max_codepoint=255), max_size=80))
def test_a_prefer_header_is_never_an_error(header: str) -> None:
    assert (read_prefer(header).wait_seconds or 0) in range(16)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (None, None),
        ("abc", "abc"),
        ('"abc"', "abc"),
        ("  abc\t", "abc"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('"a \\"quoted\\" \\\\ key"', 'a "quoted" \\ key'),
        ('with "quotes" inside', 'with "quotes" inside'),
        ("a, b", "a, b"),
        ("x" * 255, "x" * 255),
        (f'"{"x" * 255}"', "x" * 255),
        ('"' + '\\"' * 255 + '"', '"' * 255),
    ],
)
def test_an_idempotency_key_is_accepted_quoted_or_bare(header: str | None, key: str | None) -> None:
    assert read_idempotency_key(header) == key


@pytest.mark.parametrize(
    "header",
    [
        "",
        "  ",
        '""',
        '"',
        '"abc',
        '"abc" trailing',
        '"abc";a=1',
        '"a"b"',
        '"a\\b"',
        "x" * 256,
        f'"{"x" * 256}"',
        "schlüssel",
        "a\x7fb",
        "a\tb",
        "a\0b",
        "ключ",
    ],
)
def test_a_malformed_idempotency_key_is_refused_without_being_repeated(header: str) -> None:
    with pytest.raises(GatewayError) as refusal:
        read_idempotency_key(header)

    assert (refusal.value.code, refusal.value.detail) == (
        ErrorCode.INVALID_REQUEST,
        "Idempotency-Key must be 1 to 255 printable ASCII characters, bare or as a quoted string.",
    )


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255))
def test_a_key_means_the_same_quoted_and_bare(key: str) -> None:
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'

    assert read_idempotency_key(quoted) == key


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER   abc ", "abc"),
        ("Bearer", ""),
        ("Bearer ", ""),
        ("", None),
        ("abc", None),
        ("Basic abc", None),
        ("Token abc", None),
        ("Bearer\tabc", None),
    ],
)
def test_a_key_comes_by_the_bearer_scheme_only(header: str, key: str | None) -> None:
    assert read_bearer(header) == key


@pytest.mark.parametrize(
    "text", ["a", "0", "8e03978e-40d5-43dd-bc93-6894a57f9324", "a.b_c:d-e", "x" * 128]
)
def test_a_valid_request_id_is_kept(text: str) -> None:
    assert is_sound_request_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 129,
        "a b",
        "a,b",
        "a\n",
        "a/b",
        '"a"',
        "é",
        "a\r\nX: y",
        "<script>",
        "٣",
        NUMBER,
        f"1{NUMBER}",
    ],
)
def test_an_invalid_request_id_is_not_kept(text: str) -> None:
    assert not is_sound_request_id(text)


@pytest.mark.parametrize("filling", [" ", "a=", ";", ",", '"a,"'])
def test_a_prefer_header_of_many_kilobytes_is_read_like_any_other(filling: str) -> None:
    header = "respond-async, " + filling * 40_000
    assert read_prefer(header) == asynchronous()


def test_a_prefer_header_with_an_unclosed_quote_is_ignored() -> None:
    assert read_prefer("respond-async, " + '"\\' * 40_001) == NONE
