"""POST /v1/opt-outs as the contract has it: whole answers, and what must never go upstream."""

import json
import re
import sqlite3
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import gateway.ledger.database
from gateway.app import Gateway, create_app
from gateway.errors import ERRORS, ErrorCode
from gateway.settings import Settings
from tests.support.factories import BEARER, BURGER_BEARER, NUMBER, PIZZA, make_settings, sha256
from tests.support.fake_crmtext import FakeCrmText, Reply, xml

ADDRESS = "/v1/opt-outs"
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z")
SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}
ANSWER = xml(
    custId="1234567891011",
    subacct="456",
    timestamp="2014-08-11 14:23:36",
    optinStatus="5",
    custName="John Queue",
    custMobile=NUMBER,
)
CUSTOMER = {
    "id": "1234567891011",
    "name": "John Queue",
    "status": "opted_out",
    "store_id": "456",
    "phone_number": NUMBER,
    "updated_at": "2014-08-11T21:23:36Z",
}
RESOURCE = {
    "id": "ID",
    "status": "opted_out",
    "phone_number": NUMBER,
    "store": "PIZZA",
    "reference": None,
    "reason": None,
    "source": "api:billing",
    "customer": CUSTOMER,
    "already_opted_out": False,
    "attempts": 1,
    "error": None,
    "requested_at": "TIME",
    "created_at": "TIME",
    "opted_out_at": "TIME",
    "next_attempt_at": None,
}


def post(
    client: FlaskClient, body: object, headers: Mapping[str, str] = BEARER, address: str = ADDRESS
) -> TestResponse:
    """Posts JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(
        address, data=content, headers={"Content-Type": "application/json", **headers}
    )


def steady(body: dict[str, object]) -> dict[str, object]:
    """A resource with what is new each time replaced by its kind."""
    assert ID.fullmatch(str(body["id"]))
    times = ("requested_at", "created_at", "opted_out_at", "next_attempt_at")
    known = {name: "TIME" for name in times if TIME.fullmatch(str(body[name]))}
    return {**body, **known, "id": "ID"}


def ok(answer: TestResponse, status: int = 200) -> dict[str, object]:
    """The body of an answer that is no problem, its headers checked."""
    assert (answer.status_code, answer.content_type) == (status, "application/json")
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY
    assert answer.headers["X-Request-ID"]
    body = answer.get_json()
    assert isinstance(body, dict)
    return body


def refusal(answer: TestResponse) -> dict[str, object]:
    """The body of a problem without what its code alone decides, its headers checked."""
    body = answer.get_json(force=True)
    kind = ERRORS[ErrorCode(body["code"])]
    by_code = {
        "type": f"/problems/{body['code']}",
        "title": kind.title,
        "status": kind.status,
        "retryable": kind.retryable,
        "request_id": answer.headers["X-Request-ID"],
    }
    assert {name: body.pop(name) for name in by_code} == by_code
    assert (answer.status_code, answer.content_type) == (kind.status, "application/problem+json")
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY
    assert ("Retry-After" in answer.headers) == kind.retryable
    assert (answer.headers.get("WWW-Authenticate") == "Bearer") == (kind.status == 401)
    return dict(body)


def without_record(body: dict[str, object]) -> dict[str, object]:
    """A problem's body whose opt-out is shown to be where it says."""
    opt_out = body.pop("opt_out")
    assert isinstance(opt_out, dict)
    assert ID.fullmatch(opt_out["id"])
    assert opt_out == {"id": opt_out["id"], "location": f"{ADDRESS}/{opt_out['id']}"}
    return body


class TestOneOptOut:
    def test_is_answered_with_the_whole_resource(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        crmtext.answers(Reply(body=ANSWER))
        body = {
            "phone_number": "(999) 555-1234",
            "store": "pizza",
            "reference": "ticket-123",
            "reason": "called the shop, 9 o'clock \u2615",
            "requested_at": "2026-11-20T14:14:02-05:00",
        }

        answer = post(client, body)

        assert steady(ok(answer)) == RESOURCE | {
            "reference": "ticket-123",
            "reason": "called the shop, 9 o'clock \u2615",
        }
        assert answer.get_json()["requested_at"] == "2026-11-20T19:14:02Z"
        assert [dict(call.form) for call in crmtext.calls] == [
            {"method": "optoutcustomer", "phone_number": NUMBER}
        ]

    def test_needs_a_number_only(self, client: FlaskClient, crmtext: FakeCrmText) -> None:
        crmtext.answers(Reply(body=ANSWER))
        before = datetime.now(UTC)

        body = ok(post(client, {"phone_number": NUMBER}))

        assert steady(body) == RESOURCE
        assert body["requested_at"] == body["created_at"]
        created_at = datetime.fromisoformat(str(body["created_at"]))
        opted_out_at = datetime.fromisoformat(str(body["opted_out_at"]))
        assert before <= created_at <= opted_out_at <= datetime.now(UTC)

    def test_takes_null_for_an_optional_field_left_out(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        crmtext.answers(Reply(body=ANSWER))
        optional = dict.fromkeys(["store", "reference", "reason", "requested_at"])

        assert steady(ok(post(client, {"phone_number": NUMBER, **optional}))) == RESOURCE

    @pytest.mark.parametrize(
        "number",
        [
            "9995551234",
            "+1 999-555-1234",
            "tel:+19995551234",
            9995551234,
            19995551234,
            "\u00a0999 555 1234 ",
        ],
    )
    def test_sends_ten_digits_whatever_the_spelling(
        self, client: FlaskClient, crmtext: FakeCrmText, number: object
    ) -> None:
        assert ok(post(client, {"phone_number": number}))["phone_number"] == NUMBER
        assert [call.phone_number for call in crmtext.calls] == [NUMBER]

    @pytest.mark.parametrize(
        "media_type",
        [
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON",
            "application/vnd.api+json",
            "application/problem+json;v=1",
        ],
    )
    def test_comes_as_any_json_type(self, client: FlaskClient, media_type: str) -> None:
        headers = BEARER | {"Content-Type": media_type}

        ok(post(client, {"phone_number": NUMBER}, headers))

    def test_keeps_texts_unchanged_up_to_their_longest(self, client: FlaskClient) -> None:
        texts = {"reference": "\U0001f355" * 255, "reason": "\u00e9\n\t'\"\\" * 83 + "xy"}

        body = ok(post(client, {"phone_number": NUMBER, **texts}))

        assert {name: body[name] for name in texts} == texts
        assert len(texts["reason"]) == 500

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("2026-11-20T14:14:02Z", "2026-11-20T14:14:02Z"),
            ("2026-11-20t14:14:02z", "2026-11-20T14:14:02Z"),
            ("2026-11-20T14:14:02.5+00:00", "2026-11-20T14:14:02.500000Z"),
            ("2026-11-20T14:14:02-00:00", "2026-11-20T14:14:02Z"),
            ("2026-11-20T14:14:02+05:30", "2026-11-20T08:44:02Z"),
            ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
        ],
    )
    def test_keeps_the_moment_of_the_request_in_utc(
        self, client: FlaskClient, given: str, kept: str
    ) -> None:
        body = ok(post(client, {"phone_number": NUMBER, "requested_at": given}))

        assert body["requested_at"] == kept

    @pytest.mark.parametrize(("seconds", "status"), [(50, 200), (70, 422)])
    def test_bears_a_minute_of_clock_skew(
        self, client: FlaskClient, seconds: int, status: int
    ) -> None:
        moment = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()

        answer = post(client, {"phone_number": NUMBER, "requested_at": moment})

        assert answer.status_code == status

    def test_done_already_is_a_success(self, client: FlaskClient) -> None:
        first = ok(post(client, {"phone_number": NUMBER}))

        again = ok(post(client, {"phone_number": NUMBER}))

        expected = RESOURCE | {"already_opted_out": True, "customer": None}
        assert steady(again) == expected
        assert again["id"] != first["id"]

    def test_of_another_person_shares_nothing(self, client: FlaskClient) -> None:
        ids = {ok(post(client, {"phone_number": f"999555{n:04}"}))["id"] for n in range(5)}

        assert len(ids) == 5


class TestStoresAndKeys:
    @pytest.mark.parametrize(
        ("headers", "named", "store"),
        [
            (BEARER, None, "PIZZA"),
            (BEARER, "PIZZA", "PIZZA"),
            (BEARER, "bUrGeR", "BURGER"),
            (BURGER_BEARER, None, "BURGER"),
            (BURGER_BEARER, "burger", "BURGER"),
        ],
    )
    def test_the_store_is_the_one_named_or_the_keys_first(
        self,
        client: FlaskClient,
        crmtext: FakeCrmText,
        headers: dict[str, str],
        named: str | None,
        store: str,
    ) -> None:
        body = ok(post(client, {"phone_number": NUMBER, "store": named}, headers))

        assert body["store"] == store
        assert [call.store for call in crmtext.calls] == [store]

    def test_a_key_bound_to_other_stores_may_not_act(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        answer = post(client, {"phone_number": NUMBER, "store": "pizza"}, BURGER_BEARER)

        detail = "The API key may not act on store PIZZA."
        assert refusal(answer) == {"code": "forbidden", "detail": detail}
        assert crmtext.calls == []

    @pytest.mark.parametrize(
        ("authorization", "detail"),
        [
            (None, "This address needs 'Authorization: Bearer KEY' with an API key."),
            ("", "This address needs 'Authorization: Bearer KEY' with an API key."),
            ("key-of-billing", "This address needs 'Authorization: Bearer KEY' with an API key."),
            ("Basic a2V5", "This address needs 'Authorization: Bearer KEY' with an API key."),
            ("Bearer", "The API key is not known."),
            ("Bearer ", "The API key is not known."),
            ("Bearer another", "The API key is not known."),
            ("Bearer key-of-billin", "The API key is not known."),
            ("Bearer key-of-billing2", "The API key is not known."),
            ("Bearer KEY-OF-BILLING", "The API key is not known."),
            ("Bearer \u00fc", "The API key is not known."),
            (f"Bearer {sha256('key-of-billing')}", "The API key is not known."),
        ],
    )
    def test_without_a_known_key_nothing_goes(
        self,
        refused_client: FlaskClient,
        authorization: str | None,
        detail: str,
    ) -> None:
        headers = {} if authorization is None else {"Authorization": authorization}

        for answer in (
            post(refused_client, {"phone_number": NUMBER}, headers),
            refused_client.get(f"{ADDRESS}/0aa50109-1da7-45b8-ba01-486ce4abb337", headers=headers),
            refused_client.get(
                f"{ADDRESS}/0aa50109-1da7-45b8-ba01-486ce4abb337/attempts", headers=headers
            ),
            refused_client.post(
                f"{ADDRESS}/0aa50109-1da7-45b8-ba01-486ce4abb337/retry", headers=headers
            ),
            post(refused_client, {}, headers, f"{ADDRESS}/search"),
        ):
            assert refusal(answer) == {"code": "unauthorized", "detail": detail}

    def test_the_scheme_is_known_in_any_case(self, client: FlaskClient) -> None:
        ok(post(client, {"phone_number": NUMBER}, {"Authorization": "bearer key-of-billing"}))

    def test_both_keys_of_a_rotation_are_the_same_caller(
        self, crmtext: FakeCrmText, database_url: str
    ) -> None:
        settings = make_settings(
            CRMTEXT_URL=crmtext.url,
            DATABASE_URL=database_url,
            GATEWAY_API_KEYS=f"billing:{sha256('old')} billing:{sha256('new')}",
        )
        client = create_app(settings).test_client()

        key = {"Idempotency-Key": "1"}
        old = post(client, {"phone_number": NUMBER}, {"Authorization": "Bearer old", **key})
        new = post(client, {"phone_number": NUMBER}, {"Authorization": "Bearer new", **key})

        assert old.get_json() == new.get_json()
        assert new.headers["Idempotency-Replayed"] == "true"


class TestAProblemOfCrmTexts:
    @pytest.mark.parametrize(
        ("reply", "body", "retry_after"),
        [
            (
                Reply(body=xml("404", "reason for Error")),
                {
                    "code": "customer_not_found",
                    "detail": "CRM Text does not know this customer: it answered with status 404.",
                    "crmtext": {"status": "404", "message": "reason for Error"},
                },
                None,
            ),
            (
                Reply(body=xml("422", f"{NUMBER} of {PIZZA} is a landline")),
                {
                    "code": "crmtext_rejected",
                    "detail": "CRM Text refused the opt-out: it answered with status 422.",
                    "crmtext": {"status": "422", "message": "********** of [secret] is a landline"},
                },
                None,
            ),
            (
                Reply(401, xml("401", "Unauthorized"), {"Retry-After": "9"}),
                {
                    "code": "crmtext_auth_failed",
                    "detail": "CRM Text refused the gateway's credentials: it answered with "
                    "status 401.",
                    "crmtext": {"status": "401", "message": "Unauthorized"},
                },
                None,
            ),
            (
                Reply(403, b"<html/>"),
                {
                    "code": "crmtext_auth_failed",
                    "detail": "CRM Text's answer (HTTP 403) is not CRM Text's XML.",
                },
                None,
            ),
            (
                Reply(429, xml("429", "Slow down"), {"Retry-After": "30"}),
                {
                    "code": "crmtext_rate_limited",
                    "detail": "Too many calls to CRM Text: it answered with status 429.",
                    "crmtext": {"status": "429", "message": "Slow down"},
                },
                "30",
            ),
            (
                Reply(body=xml("500", "")),
                {
                    "code": "crmtext_unavailable",
                    "detail": "CRM Text has trouble of its own: it answered with status 500.",
                    "crmtext": {"status": "500", "message": None},
                },
                "5",
            ),
            (
                Reply(503, b"<html/>", {"Retry-After": "99999999"}),
                {
                    "code": "crmtext_unavailable",
                    "detail": "CRM Text's answer (HTTP 503) is not CRM Text's XML.",
                },
                "21600",
            ),
            (
                Reply(404, b"<html/>"),
                {
                    "code": "crmtext_invalid_response",
                    "detail": "CRM Text's answer (HTTP 404) is not CRM Text's XML.",
                },
                "5",
            ),
            (
                Reply(body=xml(optinStatus="3")),
                {
                    "code": "crmtext_invalid_response",
                    "detail": "CRM Text's answer says that it worked, but shows the customer as "
                    "not opted out.",
                    "crmtext": {"status": "200", "message": "ok"},
                },
                "5",
            ),
            (
                Reply(302, headers={"Location": "/elsewhere"}),
                {
                    "code": "crmtext_invalid_response",
                    "detail": "CRM Text's answer (HTTP 302) is a redirect, which is never "
                    "followed.",
                },
                "5",
            ),
            (
                Reply(body=b"<response><custId>7</custId></response>"),
                {
                    "code": "crmtext_invalid_response",
                    "detail": "CRM Text's answer has no status, or one that is not known.",
                },
                "5",
            ),
            (
                Reply(reset=True),
                {
                    "code": "crmtext_unreachable",
                    "detail": "There was no connection to CRM Text, or it was lost "
                    "(ConnectionResetError).",
                },
                "5",
            ),
            (
                Reply(delay=10),
                {
                    "code": "crmtext_timeout",
                    "detail": "CRM Text gave no complete answer within 1 seconds.",
                },
                "5",
            ),
        ],
    )
    def test_reaches_the_caller_whole(
        self,
        crmtext: FakeCrmText,
        database_url: str,
        reply: Reply,
        body: dict[str, object],
        retry_after: str | None,
    ) -> None:
        settings = make_settings(
            CRMTEXT_URL=crmtext.url, DATABASE_URL=database_url, CRMTEXT_TIMEOUT="1"
        )
        client = create_app(settings).test_client()
        crmtext.answers(reply)

        answer = post(client, {"phone_number": NUMBER})

        location = answer.get_json(force=True)["opt_out"]["location"]
        assert without_record(refusal(answer)) == body
        assert answer.headers.get("Retry-After") == retry_after
        status = ERRORS[ErrorCode(str(body["code"]))]
        assert len(crmtext.calls) == 1
        rejected = body["code"] in ("customer_not_found", "crmtext_rejected")
        assert steady(ok(client.get(location, headers=BEARER))) == RESOURCE | {
            "status": "rejected" if rejected else "failed",
            "customer": None,
            "opted_out_at": None,
            "error": {
                "code": body["code"],
                "detail": body["detail"],
                "retryable": status.retryable,
                "crmtext": body.get("crmtext"),
            },
        }

    def test_keeps_what_a_refusal_told_about_the_customer(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        crmtext.answers(Reply(body=xml("422", "no", custName="Jo", optinStatus="4")))

        answer = post(client, {"phone_number": NUMBER})

        record = client.get(answer.get_json(force=True)["opt_out"]["location"], headers=BEARER)
        assert ok(record)["customer"] == {
            "id": None,
            "name": "Jo",
            "status": "pending",
            "store_id": None,
            "phone_number": None,
            "updated_at": None,
        }


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
    (with_number(**{"\ud800": 1}), [("/\ud800", "unknown_field")]),
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
            "2026-11-20 14:14:02Z",
            "2026-11-20T14:14Z",
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


class TestAnOddBody:
    @pytest.mark.parametrize(("body", "errors"), ODD_BODIES, ids=lambda x: repr(x)[:60])
    def test_is_refused_with_its_code_and_nothing_is_sent_or_recorded(
        self,
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

    def test_is_explained_field_by_field(self, refused_client: FlaskClient) -> None:
        body = {"phone_number": "999555123", "store": "TACOS", "methd": 1}

        problem = refusal(post(refused_client, body))

        details = {
            "/store": "store is not the primary keyword of a configured store.",
            "/phone_number": "phone_number has 9 digits; a US number has 10, or 11 with the "
            "leading 1.",
            "/methd": "methd is not a field of this request.",
        }
        codes = ("unknown_store", "invalid_phone_number", "unknown_field")
        assert problem == {
            "code": "validation_failed",
            "detail": "Some fields are not valid: " + " ".join(details.values()),
            "errors": [
                {"pointer": pointer, "code": code, "detail": detail}
                for (pointer, detail), code in zip(details.items(), codes, strict=True)
            ],
        }

    def test_of_a_thousand_unknown_fields_is_answered_shortly(
        self, refused_client: FlaskClient
    ) -> None:
        answer = post(refused_client, with_number(**{f"field{n}": n for n in range(1000)}))

        assert len(answer.get_json(force=True)["errors"]) == 100
        assert len(answer.data) < 30_000


SIXTY_FOUR_KIB = 64 * 1024


class TestTypeAndSize:
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
    def test_another_media_type_is_refused(
        self, refused_client: FlaskClient, media_type: str
    ) -> None:
        answer = post(
            refused_client, {"phone_number": NUMBER}, BEARER | {"Content-Type": media_type}
        )

        assert refusal(answer) == {
            "code": "unsupported_media_type",
            "detail": "Send 'Content-Type: application/json'.",
        }

    @pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity", "gzip, gzip"])
    def test_an_encoded_body_is_refused(self, refused_client: FlaskClient, encoding: str) -> None:
        answer = post(
            refused_client, {"phone_number": NUMBER}, BEARER | {"Content-Encoding": encoding}
        )

        assert refusal(answer) == {
            "code": "unsupported_media_type",
            "detail": "Send the body without a Content-Encoding.",
        }

    @pytest.mark.parametrize("address", [ADDRESS, f"{ADDRESS}/search"])
    def test_a_body_over_64_kib_is_refused(self, refused_client: FlaskClient, address: str) -> None:
        answer = post(refused_client, b" " * (SIXTY_FOUR_KIB + 1), address=address)

        assert refusal(answer) == {
            "code": "payload_too_large",
            "detail": "The body is larger than 64 KiB, the most that is taken here.",
        }

    def test_a_body_of_64_kib_is_read(self, client: FlaskClient) -> None:
        ok(post(client, with_number() + b" " * (SIXTY_FOUR_KIB - len(with_number()))))

    @pytest.mark.parametrize(("size", "status"), [(SIXTY_FOUR_KIB, 400), (SIXTY_FOUR_KIB + 1, 413)])
    def test_a_body_without_a_length_is_measured_while_it_is_read(
        self, refused_client: FlaskClient, size: int, status: int
    ) -> None:
        answer = refused_client.post(
            ADDRESS,
            input_stream=BytesIO(b"[" + b" " * (size - 1)),
            environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
            headers=BEARER | {"Content-Type": "application/json"},
        )

        assert answer.status_code == status


KNOWN = f"{ADDRESS}/0aa50109-1da7-45b8-ba01-486ce4abb337"


class TestAddressesAndMethods:
    @pytest.mark.parametrize(
        "address",
        [
            "/",
            "/v1",
            "/v1/",
            "/v2/opt-outs",
            "/v1/opt-outs/",
            "/v1/optouts",
            "/V1/opt-outs",
            "//v1/opt-outs",
            "/v1//opt-outs",
            "/v1/opt-outs/1",
            "/v1/opt-outs/0aa50109",
            f"{KNOWN}/",
            f"{KNOWN}/attempts/",
            f"{KNOWN}/delete",
            "/v1/opt-outs/%00",
            "/v1/opt-outs/%ff%fe",
            "/v1/opt-outs/..%2f..%2fetc",
            "/static/x",
            "/favicon.ico",
            "/problems/9995551234",
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_an_unknown_address_is_a_problem(
        self, refused_client: FlaskClient, address: str, method: str
    ) -> None:
        body = refusal(refused_client.open(address, method=method))

        assert body["code"] in ("not_found", "method_not_allowed")
        if method == "GET" or not address.startswith("/problems"):
            assert body["code"] == "not_found"
        assert "9995551234" not in str(body)

    @pytest.mark.parametrize(
        ("method", "address", "allowed"),
        [
            ("GET", ADDRESS, {"POST", "OPTIONS"}),
            ("HEAD", ADDRESS, {"POST", "OPTIONS"}),
            ("PUT", ADDRESS, {"POST", "OPTIONS"}),
            ("PATCH", ADDRESS, {"POST", "OPTIONS"}),
            ("DELETE", ADDRESS, {"POST", "OPTIONS"}),
            ("TRACE", ADDRESS, {"POST", "OPTIONS"}),
            ("OPTOUT", ADDRESS, {"POST", "OPTIONS"}),
            ("GET", f"{ADDRESS}/search", {"POST", "OPTIONS"}),
            ("POST", KNOWN, {"GET", "HEAD", "OPTIONS"}),
            ("DELETE", KNOWN, {"GET", "HEAD", "OPTIONS"}),
            ("POST", f"{KNOWN}/attempts", {"GET", "HEAD", "OPTIONS"}),
            ("GET", f"{KNOWN}/retry", {"POST", "OPTIONS"}),
            ("POST", "/healthz", {"GET", "HEAD", "OPTIONS"}),
            ("POST", "/problems/not_found", {"GET", "HEAD", "OPTIONS"}),
        ],
    )
    def test_another_method_is_refused_with_those_that_are_taken(
        self, refused_client: FlaskClient, method: str, address: str, allowed: set[str]
    ) -> None:
        answer = refused_client.open(address, method=method)

        assert set(answer.headers["Allow"].split(", ")) == allowed
        assert answer.status_code == 405
        if method != "HEAD":
            assert refusal(answer) == {
                "code": "method_not_allowed",
                "detail": "This address does not take the method; the Allow header lists those "
                "it takes.",
            }

    @pytest.mark.parametrize(
        ("address", "allowed"),
        [
            (ADDRESS, {"POST", "OPTIONS"}),
            (KNOWN, {"GET", "HEAD", "OPTIONS"}),
            ("/healthz", {"GET", "HEAD", "OPTIONS"}),
        ],
    )
    def test_options_lists_the_methods_without_a_key(
        self, refused_client: FlaskClient, address: str, allowed: set[str]
    ) -> None:
        answer = refused_client.options(address)

        assert (answer.status_code, answer.data) == (200, b"")
        assert set(answer.headers["Allow"].split(", ")) == allowed
        assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY

    def test_head_is_get_without_the_body(self, client: FlaskClient) -> None:
        opt_out = ok(post(client, {"phone_number": NUMBER}))
        address = f"{ADDRESS}/{opt_out['id']}"

        whole, head = (client.open(address, method=m, headers=BEARER) for m in ("GET", "HEAD"))

        assert (head.status_code, head.data) == (200, b"")
        assert head.headers["Content-Length"] == str(len(whole.data))
        assert client.head(address).status_code == 401

    def test_a_bug_is_a_problem_without_anything_of_the_inside(
        self, app: Gateway, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken() -> str:
            raise RuntimeError("the inside of 9995551234")

        app.add_url_rule("/broken", view_func=broken)

        body = refusal(app.test_client().get("/broken"))

        assert body == {
            "code": "internal_error",
            "detail": "Something unforeseen happened; the gateway's log has it under this "
            "request_id.",
        }
        assert [record.message for record in caplog.records if record.exc_info] == [
            "unforeseen RuntimeError"
        ]


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
def test_checks_run_in_the_contracts_order(
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


class TestRequestIds:
    @pytest.mark.parametrize("given", ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "a:b_c.d"])
    def test_a_sound_one_comes_back(self, refused_client: FlaskClient, given: str) -> None:
        headers = {"X-Request-ID": given}

        assert refused_client.get("/healthz", headers=headers).headers["X-Request-ID"] == given
        problem = refused_client.get("/nothing", headers=headers)
        assert problem.headers["X-Request-ID"] == given
        assert problem.get_json(force=True)["request_id"] == given

    @pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a,b", "<a>", "\u00e9"])
    def test_for_any_other_there_is_a_new_one(
        self, refused_client: FlaskClient, given: str | None
    ) -> None:
        headers = {} if given is None else {"X-Request-ID": given}

        ids = {
            refused_client.get("/healthz", headers=headers).headers["X-Request-ID"]
            for _ in range(3)
        }

        assert len(ids) == 3
        assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


class TestHealth:
    def test_lives_without_ledger_and_crm_text(self) -> None:
        client = create_app(make_settings()).test_client()

        assert ok(client.get("/healthz")) == {"status": "ok"}


class TestBusy:
    def test_one_more_than_may_wait_is_refused_while_other_work_goes_on(
        self, app: Gateway, crmtext: FakeCrmText
    ) -> None:
        app.serve_with(threads=9)  # 8 are kept free, so one may wait
        crmtext.answer_with(Reply(body=ANSWER, delay=0.6))
        answers: list[TestResponse] = []
        first = threading.Thread(
            target=lambda: answers.append(post(app.test_client(), {"phone_number": NUMBER}))
        )
        first.start()
        while not crmtext.calls:
            time.sleep(0.005)
        client = app.test_client()

        busy = post(client, {"phone_number": "9995551235"})
        accepted = post(
            client, {"phone_number": "9995551236"}, BEARER | {"Prefer": "respond-async"}
        )
        waiting = post(
            client, {"phone_number": "9995551237"}, BEARER | {"Prefer": "respond-async, wait=5"}
        )
        found = post(client, {}, address=f"{ADDRESS}/search")
        first.join()
        crmtext.answer_with(None)
        after = post(client, {"phone_number": "9995551238"})

        assert refusal(busy) == {
            "code": "gateway_busy",
            "detail": "Too many requests wait for CRM Text already.",
        }
        assert busy.headers["Retry-After"] == "1"
        assert [one.status_code for one in (accepted, waiting)] == [202, 202]
        items = ok(found)["items"]
        assert isinstance(items, list)
        assert "9995551235" not in [one["phone_number"] for one in items]
        assert steady(ok(answers[0])) == RESOURCE
        assert after.status_code == 200


class TestALedgerThatIsAway:
    def test_means_that_nothing_is_sent(self, settings: Settings, crmtext: FakeCrmText) -> None:
        file = Path(str(settings.database_url.database))
        file.unlink()
        file.mkdir()
        client = create_app(settings).test_client()

        answers = [
            post(client, {"phone_number": NUMBER}),
            post(client, {"phone_number": NUMBER}, BEARER | {"Prefer": "respond-async"}),
            post(client, {"phone_number": NUMBER}, BEARER | {"Prefer": "respond-async, wait=2"}),
            post(client, {"phone_number": NUMBER}, BEARER | {"Idempotency-Key": "1"}),
            post(client, {}, address=f"{ADDRESS}/search"),
            client.get(KNOWN, headers=BEARER),
            client.get(f"{KNOWN}/attempts", headers=BEARER),
            client.post(f"{KNOWN}/retry", headers=BEARER),
        ]

        detail = "The ledger cannot be used (OperationalError); nothing was accepted."
        assert [refusal(answer) for answer in answers] == (
            [{"code": "ledger_unavailable", "detail": detail}] * len(answers)
        )
        assert {answer.headers["Retry-After"] for answer in answers} == {"5"}
        assert crmtext.calls == []

    def test_means_the_same_without_its_tables(
        self, settings: Settings, crmtext: FakeCrmText
    ) -> None:
        Path(str(settings.database_url.database)).unlink()

        answer = post(create_app(settings).test_client(), {"phone_number": NUMBER})

        assert refusal(answer)["code"] == "ledger_unavailable"
        assert crmtext.calls == []

    def test_means_the_same_locked(
        self, settings: Settings, crmtext: FakeCrmText, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gateway.ledger.database, "BUSY_SECONDS", 0.1)
        client = create_app(settings).test_client()
        with sqlite3.connect(str(settings.database_url.database), isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")

            answer = post(client, {"phone_number": NUMBER})
            reading = post(client, {}, address=f"{ADDRESS}/search")
            other.execute("ROLLBACK")
        other.close()

        assert refusal(answer)["code"] == "ledger_unavailable"
        assert ok(reading) == {"items": [], "next_cursor": None}
        assert crmtext.calls == []
        ok(post(client, {"phone_number": NUMBER}))
