"""The body of a request: its JSON, its media type, its size, and what is checked first."""

import json
from io import BytesIO

import pytest
from flask.testing import FlaskClient

from tests.support.api import ADDRESS, ok, post, refusal
from tests.support.factories import BEARER, BURGER_BEARER, NUMBER

REQUIRED = [("/phone_number", "required")]
BAD_NUMBER = [("/phone_number", "invalid_phone_number")]


def with_number(**fields: object) -> bytes:
    return json.dumps({"phone_number": NUMBER, **fields}).encode()


def number(value: object) -> bytes:
    return json.dumps({"phone_number": value}).encode()


ODD_BODIES: list[tuple[bytes, list[tuple[str, str]] | None]] = [
    # Not one JSON object in UTF-8: no errors, since no field was read.
    *(
        (body, None)
        for body in (
            b"",
            b" ",
            b"null",
            b"true",
            b"9995551234",
            b'"9995551234"',
            b"[]",
            b'[{"phone_number": "9995551234"}]',
            b"{",
            b"{}{}",
            b'{"phone_number": "9995551234"}{"phone_number": "9995551235"}',
            b'{"phone_number": "9995551234"},',
            b"{'phone_number': '9995551234'}",
            b'{phone_number: "9995551234"}',
            b'{"phone_number": "9995551234",}',
            b'{"phone_number": 09995551234}',
            b'{"phone_number": 999_555_1234}',
            b'{"phone_number": "9995551234", "phone_number": "9995551234"}',
            b'{"phone_number": "9995551234", "phone_numbe\\u0072": "9995551235"}',
            b'{"phone_number": "9995551234", "reason": NaN}',
            b'{"phone_number": Infinity}',
            b'{"phone_number": 1e400}',
            b'{"phone_number": ' + b"9" * 4301 + b"}",
            b'{"phone_number": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
            b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
            b'\xef\xbb\xbf{"phone_number": "9995551234"}',
            '{"phone_number": "9995551234"}'.encode("utf-16"),
            '{"phone_number": "9995551234"}'.encode("utf-32-le"),
            b'{"phone_number": "9995551234", "reason": "\xff"}',
            b'{"phone_number": "9995551234", "reason": "\xed\xa0\x80"}',
            b'{"phone_number": "9995551234", "reason": "a\nb"}',
            b'{"phone_number": "9995551234"}\0',
            b"phone_number=9995551234&method=optoutcustomer",
            b"<phone_number>9995551234</phone_number>",
            b"\x1f\x8b\x08\0\0\0\0\0\0\xff",
        )
    ),
    # Numbers that are none.
    (b"{}", REQUIRED),
    (number(None), REQUIRED),
    *(
        (number(value), BAD_NUMBER)
        for value in (
            "",
            "   ",
            True,
            False,
            0,
            1,
            -9995551234,
            99955512345,
            999555123,
            9995551234.0,
            9995551234.5,
            1e9,
            [],
            ["9995551234"],
            {},
            {"number": "9995551234"},
            "999555123",
            "99955512345",
            "+9995551234",
            "+529995551234",
            "0019995551234",
            "9995551234 x5",
            "9995551234 ext 5",
            "9995551234#5",
            "9995551234;ext=5",
            "999-555-123O",
            "1-800-FLOWERS",
            "{{customer.phone}}",
            "${phone}",
            "%phone%",
            "null",
            "undefined",
            "N/A",
            "9995551234, 9995551235",
            "9995551234 9995551235",
            "9995551234/9995551235",
            "-9995551234",
            "9995551234-",
            "9.995551234e9",
            "\u0669\u0669\u0669\u0665\u0665\u0665\u0661\u0662\u0663\u0664",
            "\uff19\uff19\uff19\uff15\uff15\uff15\uff11\uff12\uff13\uff14",
            "999\u2013555\u20131234",
            "\u202d9995551234",
            "9995551234\0",
            "9995551234\ud800",
            "999\n555\n1234",
            "9995551234&method=optincustomer",
            "9995551234%26method%3Doptincustomer",
            "9995551234\r\nX-Evil: 1",
            "9995551234' OR '1'='1",
            "<b>9995551234</b>",
            "9" * 33,
            "9995551234" + " " * 23,
        )
    ),
    (b'{"phone_number": ' + b"9" * 4300 + b"}", BAD_NUMBER),
    # Fields that are smuggled in, mistyped, or of the wrong kind.
    (with_number(method="optincustomer"), [("/method", "unknown_field")]),
    (with_number(Store="PIZZA"), [("/Store", "unknown_field")]),
    (with_number(phoneNumber=NUMBER), [("/phoneNumber", "unknown_field")]),
    (with_number(custId="1", op="x"), [("/custId", "unknown_field"), ("/op", "unknown_field")]),
    (with_number(__class__={}), [("/__class__", "unknown_field")]),
    (with_number(**{"": 1}), [("/", "unknown_field")]),
    (with_number(**{"a/b~c": 1}), [("/a~1b~0c", "unknown_field")]),
    (with_number(**{"x" * 200: 1}), [("/" + "x" * 100, "unknown_field")]),
    (with_number(**{"9995559999": 1}), [("/******9999", "unknown_field")]),
    (with_number(**{"a\ud800": 1}), [("/a\ufffd", "unknown_field")]),
    (b'{"phone_numbers": ["9995551234"]}', [*REQUIRED, ("/phone_numbers", "unknown_field")]),
    (with_number(store="TACOS"), [("/store", "unknown_store")]),
    (with_number(store=""), [("/store", "unknown_store")]),
    (with_number(store=" PIZZA"), [("/store", "unknown_store")]),
    (with_number(store="PIZZA\0"), [("/store", "unknown_store")]),
    (with_number(store="p\u0131zza"), [("/store", "unknown_store")]),
    (with_number(store=5), [("/store", "invalid")]),
    (with_number(store=["PIZZA"]), [("/store", "invalid")]),
    (with_number(reference=123), [("/reference", "invalid")]),
    (with_number(reference=True), [("/reference", "invalid")]),
    (with_number(reference=["a"]), [("/reference", "invalid")]),
    (with_number(reference="x" * 256), [("/reference", "invalid")]),
    (with_number(reference="a\0b"), [("/reference", "invalid")]),
    (with_number(reference="a\ud800b"), [("/reference", "invalid")]),
    (with_number(reason={}), [("/reason", "invalid")]),
    (with_number(reason="x" * 501), [("/reason", "invalid")]),
    (with_number(reason="\0"), [("/reason", "invalid")]),
    (with_number(reason="\udfff"), [("/reason", "invalid")]),
    *(
        (with_number(requested_at=moment), [("/requested_at", "invalid")])
        for moment in (
            "",
            "now",
            "yesterday",
            "2026-11-20",
            "2026-11-20T14:14:02",
            "2026-11-20T14:14Z",
            "2026-11-20 14:14:02Z",
            "20261120T141402Z",
            "2026-13-20T14:14:02Z",
            "2026-02-30T14:14:02Z",
            "2026-11-20T25:14:02Z",
            "2026-11-20T14:14:60Z",
            "2026-11-20T14:14:02+24:30",
            "2026-11-20T14:14:02 +00:00",
            "\u0662026-11-20T14:14:02Z",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
            "2999-01-01T00:00:00Z",
            1795377600,
            1795377600.5,
            True,
            ["2026-11-20T14:14:02Z"],
        )
    ),
    # Everything that is wrong is told at once.
    (
        b'{"phone_number": "x", "store": "TACOS", "reference": 1, "reason": 2, "requested_at": 3, '
        b'"method": 4}',
        [
            ("/method", "unknown_field"),
            ("/phone_number", "invalid_phone_number"),
            ("/reason", "invalid"),
            ("/reference", "invalid"),
            ("/requested_at", "invalid"),
            ("/store", "unknown_store"),
        ],
    ),
]


@pytest.mark.parametrize(("body", "errors"), ODD_BODIES, ids=lambda x: repr(x)[:60])
def test_an_odd_body_is_refused_and_nothing_is_sent_or_recorded(
    refused_client: FlaskClient,
    body: bytes,
    errors: list[tuple[str, str]] | None,
) -> None:
    found = refusal(post(refused_client, body))

    items = found.pop("errors", [])
    assert isinstance(items, list)
    assert sorted((one["pointer"], one["code"]) for one in items) == (errors or [])
    assert {name for one in items for name in one} <= {"pointer", "code", "detail"}
    words = " ".join(one["detail"] for one in items)
    assert found == (
        {"code": "validation_failed", "detail": f"Some fields are not valid: {words}"}
        if errors
        else {"code": "invalid_json", "detail": found["detail"]}
    )
    assert NUMBER not in str(found) + str(items)
    assert ok(post(refused_client, {}, address=f"{ADDRESS}/search"))["items"] == []


def test_an_invalid_body_is_explained_field_by_field(refused_client: FlaskClient) -> None:
    body = {"phone_number": "999555123", "store": "TACOS", "methd": 1}

    problem = refusal(post(refused_client, body))

    details = {
        "/phone_number": "phone_number has 9 digits; a US number has 10, or 11 with the leading 1.",
        "/methd": "methd is not a field of this request.",
        "/store": "store is not the primary keyword of a configured store.",
    }
    codes = ("invalid_phone_number", "unknown_field", "unknown_store")
    assert problem == {
        "code": "validation_failed",
        "detail": "Some fields are not valid: " + " ".join(details.values()),
        "errors": [
            {"pointer": pointer, "code": code, "detail": detail}
            for (pointer, detail), code in zip(details.items(), codes, strict=True)
        ],
    }


def test_a_body_with_a_thousand_unknown_fields_gets_a_short_answer(
    refused_client: FlaskClient,
) -> None:
    answer = post(refused_client, with_number(**{f"field{n}": n for n in range(1000)}))

    assert len(answer.get_json(force=True)["errors"]) == 100
    assert len(answer.data) < 30_000


SIXTY_FOUR_KIB = 64 * 1024


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/jsonp",
        "application/json-patch",
        "json",
        "application/json, text/plain",
        "text/plain; application/json",
    ],
)
def test_another_media_type_is_refused(refused_client: FlaskClient, media_type: str) -> None:
    answer = post(refused_client, {"phone_number": NUMBER}, BEARER | {"Content-Type": media_type})

    assert refusal(answer) == {
        "code": "unsupported_media_type",
        "detail": "Send 'Content-Type: application/json'.",
    }


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity", "gzip, gzip"])
def test_an_encoded_body_is_refused(refused_client: FlaskClient, encoding: str) -> None:
    answer = post(refused_client, {"phone_number": NUMBER}, BEARER | {"Content-Encoding": encoding})

    assert refusal(answer) == {
        "code": "unsupported_media_type",
        "detail": "Send the body without a Content-Encoding.",
    }


@pytest.mark.parametrize("address", [ADDRESS, f"{ADDRESS}/search"])
def test_a_body_over_64_kib_is_refused(refused_client: FlaskClient, address: str) -> None:
    answer = post(refused_client, b" " * (SIXTY_FOUR_KIB + 1), address=address)

    assert refusal(answer) == {
        "code": "payload_too_large",
        "detail": "The body is larger than 64 KiB, the most that is accepted here.",
    }


def test_a_body_of_64_kib_is_read(client: FlaskClient) -> None:
    ok(post(client, with_number() + b" " * (SIXTY_FOUR_KIB - len(with_number()))))


@pytest.mark.parametrize(("size", "status"), [(SIXTY_FOUR_KIB, 400), (SIXTY_FOUR_KIB + 1, 413)])
def test_a_body_without_a_length_is_measured_while_it_is_read(
    refused_client: FlaskClient, size: int, status: int
) -> None:
    answer = refused_client.post(
        ADDRESS,
        input_stream=BytesIO(b"[" + b" " * (size - 1)),
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
        headers=BEARER | {"Content-Type": "application/json"},
    )

    assert answer.status_code == status


BIG = b"x" * (SIXTY_FOUR_KIB + 1)
PLAIN = {"Content-Type": "text/plain"}


@pytest.mark.parametrize(
    ("method", "address", "headers", "body", "code"),
    [
        ("PUT", f"{ADDRESS}x", PLAIN, BIG, "not_found"),
        ("PUT", ADDRESS, PLAIN, BIG, "method_not_allowed"),
        ("POST", ADDRESS, PLAIN, BIG, "unauthorized"),
        ("POST", ADDRESS, PLAIN | BURGER_BEARER, BIG, "unsupported_media_type"),
        ("POST", ADDRESS, BURGER_BEARER, BIG, "payload_too_large"),
        ("POST", ADDRESS, BURGER_BEARER, b'{"store": "PIZZA", "a": 1', "invalid_json"),
        ("POST", ADDRESS, BURGER_BEARER, b'{"store": "PIZZA", "a": 1}', "validation_failed"),
        ("POST", ADDRESS, BURGER_BEARER, with_number(store="PIZZA"), "forbidden"),
    ],
)
def test_checks_run_in_the_order_of_the_contract(
    refused_client: FlaskClient,
    *,
    method: str,
    address: str,
    headers: dict[str, str],
    body: bytes,
    code: str,
) -> None:
    given = {"Content-Type": "application/json", **headers}

    answer = refused_client.open(address, method=method, data=body, headers=given)

    assert refusal(answer)["code"] == code
