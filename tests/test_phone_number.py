"""The contract's rules for phone numbers, against the pattern as the contract writes it."""

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.errors import ErrorCode, Failure
from gateway.phone_number import PhoneNumber, mask_phone_numbers, read_phone_number

S = r"[ \u00a0\-.()/]"
CONTRACT = rf"(?:\+?1{S}*)?\(?[0-9](?:{S}*[0-9]){{9}}"

separators = st.text(" \u00a0-.()/", max_size=2)


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """What CONTRACT matches, in at most 32 characters; made by hand, since that is quick."""
    prefixes = ("", "1", "+1", "1 ", "+1-", "1.(/")
    prefix, opening = draw(st.sampled_from(prefixes)), draw(st.sampled_from(["", "("]))
    digits = draw(st.text("0123456789", min_size=10, max_size=10))
    between = draw(st.lists(separators, min_size=9, max_size=9))
    text = "".join(map(str.__add__, digits, [*between, ""]))
    assume(len(prefix + opening + text) <= 32)
    return prefix + opening + text


near_misses = st.text("0123456789019  \u00a0\u2003\t\n-.()/+,;x#&=\u0660\uff19²eE_t:l", max_size=34)


def expected(text: str) -> str | None:
    """The contract's sentence, word for word; None is a refusal."""
    if len(text) > 32:
        return None
    trimmed = text.strip()
    trimmed = trimmed[4:] if trimmed[:4].lower() == "tel:" else trimmed
    if not re.fullmatch(CONTRACT, trimmed, re.ASCII):
        return None
    return re.sub("[^0-9]", "", trimmed)[-10:]


@pytest.mark.parametrize(
    "value",
    [
        "9995551234",
        "(999) 555-1234",
        "+1 999-555-1234",
        "1.999.555.1234",
        "tel:+19995551234",
        "TEL:9995551234",
        "Tel:(999)555-1234",
        9995551234,
        19995551234,
        "19995551234",
        "+19995551234",
        "+1(999)555/1234",
        "1\u00a0(999)\u00a0555\u00a01234",
        "999 555  1234",
        "(999)) 555-1234",
        "\u2003\t9995551234\r\n ",
        "9 9 9 5 5 5 1 2 3 4",
    ],
)
def test_usual_spellings_are_read_as_ten_digits(value: object) -> None:
    assert read_phone_number(value).digits == "9995551234"


@given(spellings())
def test_everything_that_the_contracts_pattern_allows_is_read(text: str) -> None:
    assert re.fullmatch(CONTRACT, text, re.ASCII)
    assert read_phone_number(text).digits == re.sub("[^0-9]", "", text)[-10:]


@given(near_misses | spellings() | st.text(max_size=40))
@example("9995551234\n")
@example("tel: 9995551234")
@example("tel:tel:9995551234")
@example(" " * 23 + "9995551234")
def test_everything_else_is_refused(text: str) -> None:
    assert read_phone_number(text).digits == expected(text)


@given(st.integers())
@example(-9995551234)
@example(1999555123)
@example(29995551234)
def test_an_integer_is_read_as_its_digits(number: int) -> None:
    assert read_phone_number(number).digits == expected(str(number))


@given(
    st.none() | st.booleans() | st.floats() | st.binary() | st.lists(st.text()) | st.just({"a": 1})
)
@example(9995551234.0)
def test_what_is_neither_text_nor_integer_is_refused(value: object) -> None:
    assert read_phone_number(value).digits is None


PLUS = "has a + that is not right before the leading 1"
NOT_1 = "has 11 digits that do not begin with 1; a US number has 10, or 11 with the leading 1"
OTHER_DIGITS = "contains digits other than 0 to 9; write it with the digits 0 to 9"
BEGINNING = "does not begin with a digit, ( or +"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("tel:", "is empty"),
        (True, "must be a string or an integer"),
        (False, "must be a string or an integer"),
        (None, "is missing"),
        (9995551234.0, "must be a string or an integer"),
        (["9995551234"], "must be a string or an integer"),
        ({"number": "9995551234"}, "must be a string or an integer"),
        ("+9995551234", "is from another country; only US numbers (+1) can be opted out"),
        ("+529995551234", "is from another country; only US numbers (+1) can be opted out"),
        ("+ 529995551234", "is from another country; only US numbers (+1) can be opted out"),
        *((text, PLUS) for text in ("++19995551234", "+ 19995551234", "1+9995551234")),
        ("+", "has no digits; a US number has 10, or 11 with the leading 1"),
        ("?", "has no digits; a US number has 10, or 11 with the leading 1"),
        ("1", "has 1 digit; a US number has 10, or 11 with the leading 1"),
        ("99955512345", NOT_1),
        ("29995551234", NOT_1),
        (29995551234, NOT_1),
        ("9995551234#5", NOT_1),
        ("99955512\u00b2", "has 8 digits; a US number has 10, or 11 with the leading 1"),
        ("+44 20 7946 0958", "is from another country; only US numbers (+1) can be opted out"),
        ("529995551234", "has 12 digits; a US number has 10, or 11 with the leading 1"),
        ("0019995551234", "has 13 digits; a US number has 10, or 11 with the leading 1"),
        ("999555123", "has 9 digits; a US number has 10, or 11 with the leading 1"),
        ("9995551234 9995551235", "has 20 digits; a US number has 10, or 11 with the leading 1"),
        (
            "9995551234 x5",
            "contains letters; give only the 10 digits of a US number",
        ),
        (
            "9995551234 ext. 12",
            "contains letters; give only the 10 digits of a US number",
        ),
        ("1-800-FLOWERS", "contains letters; give only the 10 digits of a US number"),
        (
            "{{customer.phone}}",
            "contains letters; give only the 10 digits of a US number",
        ),
        (
            "9995551234&method=optincustomer",
            "contains letters; give only the 10 digits of a US number",
        ),
        ("9.995551234e9", "contains letters; give only the 10 digits of a US number"),
        ("x" * 33, "is longer than 32 characters"),
        ("9" * 33, "is longer than 32 characters"),
        (int("9" * 4300), "is longer than 32 characters"),
        ("٩٩٩٥٥٥١٢٣٤", OTHER_DIGITS),
        ("\uff19\uff19\uff19\uff15\uff15\uff15\uff11\uff12\uff13\uff14", OTHER_DIGITS),
        ("+٩995551234", OTHER_DIGITS),
        ("-9995551234", BEGINNING),
        ("tel: 9995551234", BEGINNING),
        ("9995551234-", "does not end with a digit"),
        ("9995551234)", "does not end with a digit"),
        (
            "((999) 555-1234",
            "is not a US number as usually written: 10 digits, with or without +1 before them",
        ),
        *(
            (
                text,
                f"contains {name}; between the digits only spaces and - . ( ) / are understood",
            )
            for text, name in (
                ("9995551234,", "COMMA (U+002C)"),
                ("9995551234;", "SEMICOLON (U+003B)"),
                ("999_555_1234", "LOW LINE (U+005F)"),
                ("999\t555\t1234", "UNNAMED CHARACTER (U+0009)"),
                ("999\n5551234", "UNNAMED CHARACTER (U+000A)"),
                ("999\u20115551234", "NON-BREAKING HYPHEN (U+2011)"),
                ("999\u200b5551234", "ZERO WIDTH SPACE (U+200B)"),
                ("\ufeff9995551234", "ZERO WIDTH NO-BREAK SPACE (U+FEFF)"),
                ("'9995551234", "APOSTROPHE (U+0027)"),
                ("9995551234\0", "UNNAMED CHARACTER (U+0000)"),
                ("9995551234\ud800", "UNNAMED CHARACTER (U+D800)"),
                ("#9995551234", "NUMBER SIGN (U+0023)"),
                ("9995551234\u00b2", "SUPERSCRIPT TWO (U+00B2)"),
                ("999\u2013555\u20131234", "EN DASH (U+2013)"),
            )
        ),
    ],
)
def test_a_refusal_says_what_is_wrong_and_never_repeats_the_number(
    value: object, reason: str
) -> None:
    number = read_phone_number(value)

    assert (number.digits, number.flaw) == (None, reason)
    assert number.failure == Failure(ErrorCode.INVALID_PHONE_NUMBER, f"The phone number {reason}.")


def test_what_was_received_is_kept_fit_to_be_stored() -> None:
    usable = read_phone_number(" (999) 555-1234 ")
    assert usable == PhoneNumber(" (999) 555-1234 ", "9995551234", None)
    assert usable.failure is None
    assert read_phone_number("call\0\ud800" + "é" * 300).received == "call\ufffd\ufffd" + "é" * 249
    assert read_phone_number({"a": 1}).received == '{"a": 1}'
    assert read_phone_number(9995551234).received == "9995551234"
    assert read_phone_number(None).received == ""


@given(st.text("abc:,", max_size=5), spellings(), st.text("abc:,", max_size=5))
def test_masking_leaves_at_most_four_digits_of_a_number(
    before: str, number: str, after: str
) -> None:
    masked = mask_phone_numbers(f"{before}{number}{after}")

    assert len(re.findall("[0-9]", masked)) <= 4
    assert masked.startswith(before)
    assert masked.endswith(after)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("9995551234", "******1234"),
        ("to +1 (999) 555-1234 now", "to +******1234 now"),
        ("'19995551234'", "'******1234'"),
        ("9995551234,9995551235", "******1234,******1235"),
        ("٩٩٩٥٥٥١٢٣٤", "******١٢٣٤"),
        ("call 555-1234 at 10:15", "call 555-1234 at 10:15"),
    ],
)
def test_masking_cuts_full_numbers_to_their_last_four_digits(text: str, masked: str) -> None:
    assert mask_phone_numbers(text) == masked
