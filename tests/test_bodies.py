"""JSON is read as two honest readers would both read it, or refused without its content."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bodies import BodyFormat, check_media_type, read_json
from gateway.errors import ErrorCode, GatewayError

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def code_of(body: bytes) -> str | None:
    try:
        read_json(body)
    except GatewayError as error:
        return error.code
    return None


@given(values, st.booleans())
def test_every_value_is_read_back_as_it_was_written(value: object, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")

    assert read_json(body) == value


@given(st.binary(max_size=60) | st.text('{}[]",:0123456789.eE+-nulltrefas\\ud8', max_size=40))
def test_any_bytes_are_read_as_json_or_refused(body: bytes | str) -> None:
    assert code_of(body if isinstance(body, bytes) else body.encode()) in (None, "invalid_json")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"{", "expecting property name enclosed in double quotes at line 1 column 2"),
        (b"{'a': 1}", "expecting property name enclosed in double quotes at line 1 column 2"),
        (b'{"a": 1,}', ""),  # each Python has its own words for it
        (b'{"a": 1} {"b": 2}', "extra data at line 1 column 10"),
        (b'{"a": 1}\n{"b": 2}', "extra data at line 2 column 1"),
        (b'{"a": 1}\0', "extra data at line 1 column 9"),
        (b"\xef\xbb\xbf{}", "it begins with a byte order mark; send it without one"),
        ('{"a": 1}'.encode("utf-16"), "byte 0 is not UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), "expecting property name enclosed in double quotes"),
        ('{"a": 1}'.encode("utf-32-be"), "expecting value at line 1 column 1"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "byte 7 is not UTF-8"),
        (b'{"a": "\xc0\x80"}', "byte 7 is not UTF-8"),
        (b'{"a": 1, "a": 1}', "an object has the same key twice"),
        (b'{"a": 1, "\\u0061": 2}', "an object has the same key twice"),
        (b'{"b": [{"a": 1, "a": 2}]}', "an object has the same key twice"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": Infinity}', "Infinity is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1e400}', "a number is out of range"),
        (b'{"a": -1e400}', "a number is out of range"),
        (b'{"a": 1' + b"0" * 400 + b".0}", "a number is out of range"),
        (b'{"a": ' + b"9" * 4301 + b"}", "an integer has too many digits"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "it is nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "it is nested too deeply"),
        (b'{"a": 01}', "expecting ',' delimiter at line 1 column 8"),
        (b'{"a": 0x1}', "expecting ',' delimiter at line 1 column 8"),
        (b'{"a": 9_995}', "expecting ',' delimiter at line 1 column 8"),
        (b'{"a": .5}', "expecting value at line 1 column 7"),
        (b'{"a": "\n"}', "invalid control character at line 1 column 8"),
        (b'{"a": "\\x41"}', "invalid \\escape"),
        (b'{"a": "secret', "unterminated string starting at line 1 column 7"),
        (b"secret", "expecting value at line 1 column 1"),
        (b"phone_number=9995551234", "expecting value at line 1 column 1"),
    ],
    ids=lambda given: repr(given[:24]),
)
def test_what_is_not_json_is_refused_with_the_place_and_without_the_content(
    body: bytes, what: str
) -> None:
    with pytest.raises(GatewayError) as refusal:
        read_json(body)

    assert refusal.value.code == ErrorCode.INVALID_JSON
    assert refusal.value.detail.startswith(f"The body is not valid JSON: {what}")
    assert "secret" not in refusal.value.detail


@pytest.mark.parametrize("body", [b"", b"  ", b"\r\n\t"])
def test_an_empty_body_is_said_to_be_empty(body: bytes) -> None:
    with pytest.raises(GatewayError) as refusal:
        read_json(body)

    assert (refusal.value.code, refusal.value.detail) == (
        ErrorCode.INVALID_JSON,
        "The body is empty; it must be JSON.",
    )


def test_an_integer_of_4300_digits_is_still_read() -> None:
    assert read_json(b"9" * 4300) == int("9" * 4300)


def test_nesting_within_the_limits_of_the_parser_is_read() -> None:
    assert read_json(b"[" * 100 + b"]" * 100) == json.loads("[" * 100 + "]" * 100)


@pytest.mark.parametrize(
    ("content_type", "written_as"),
    [
        ("application/json", BodyFormat.JSON),
        ("Application/JSON; charset=utf-8", BodyFormat.JSON),
        (" application/cloudevents+json ", BodyFormat.JSON),
        ("application/x-www-form-urlencoded;charset=UTF-8", BodyFormat.FORM),
    ],
)
def test_a_body_is_accepted_by_its_media_type(content_type: str, written_as: BodyFormat) -> None:
    check_media_type(content_type, "", written_as)


@pytest.mark.parametrize(
    ("content_type", "written_as"),
    [
        ("text/json", BodyFormat.JSON),
        ("image/svg+json", BodyFormat.JSON),
        ("application/jsonp", BodyFormat.JSON),
        ("application/x-www-form-urlencoded", BodyFormat.JSON),
        ("multipart/form-data; boundary=x", BodyFormat.FORM),
        ("application/json", BodyFormat.FORM),
        ("", BodyFormat.JSON),
        (";", BodyFormat.FORM),
    ],
)
def test_another_media_type_is_refused(content_type: str, written_as: BodyFormat) -> None:
    with pytest.raises(GatewayError) as raised:
        check_media_type(content_type, "", written_as)
    assert raised.value.code == "unsupported_media_type"


def test_a_missing_media_type_may_be_allowed_and_a_content_encoding_never_is() -> None:
    check_media_type("", "", BodyFormat.JSON, may_lack_type=True)
    with pytest.raises(GatewayError, match="Content-Encoding"):
        check_media_type("", "gzip", BodyFormat.JSON, may_lack_type=True)
