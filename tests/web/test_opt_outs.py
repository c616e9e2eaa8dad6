"""POST /v1/opt-outs: whole answers, also when CRM Text fails or the ledger is away."""

import sqlite3
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gateway.app import create_app
from gateway.settings import Settings
from tests.support.api import (
    ADDRESS,
    ANSWER,
    PENDING,
    RESOURCE,
    UNKNOWN,
    ok,
    post,
    read,
    refusal,
    steady,
    without_record,
)
from tests.support.factories import BEARER, NUMBER, PIZZA, make_settings
from tests.support.fake_crmtext import FakeCrmText, Reply, xml


def test_an_opt_out_is_answered_with_the_whole_resource(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(body=ANSWER))
    body = {
        "phone_number": "(999) 555-1234",
        "store": "pizza",
        "reference": "ticket-123",
        "reason": "called the shop, 9 o'clock \u2615",
        "means": "phone_call",
        "requested_at": "2026-11-20T14:14:02-05:00",
    }

    answer = post(client, body)

    assert steady(ok(answer)) == RESOURCE | {
        "reference": "ticket-123",
        "reason": "called the shop, 9 o'clock \u2615",
        "means": "phone_call",
        "phone_number_received": "(999) 555-1234",
    }
    assert answer.get_json()["requested_at"] == "2026-11-20T19:14:02Z"
    assert [dict(call.form) for call in crmtext.calls] == [
        {"method": "optoutcustomer", "phone_number": NUMBER}
    ]


def test_an_opt_out_needs_only_a_number(client: FlaskClient, crmtext: FakeCrmText) -> None:
    crmtext.answers(Reply(body=ANSWER))
    before = datetime.now(UTC)

    body = ok(post(client, {"phone_number": NUMBER}))

    assert steady(body) == RESOURCE
    assert body["requested_at"] == body["created_at"]
    created_at = datetime.fromisoformat(str(body["created_at"]))
    opted_out_at = datetime.fromisoformat(str(body["opted_out_at"]))
    assert before <= created_at <= opted_out_at <= datetime.now(UTC)


def test_null_in_an_optional_field_is_the_same_as_no_field(
    client: FlaskClient, crmtext: FakeCrmText
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
def test_ten_digits_are_sent_however_the_number_is_written(
    client: FlaskClient, crmtext: FakeCrmText, number: object
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
def test_any_json_media_type_is_accepted(client: FlaskClient, media_type: str) -> None:
    headers = BEARER | {"Content-Type": media_type}

    ok(post(client, {"phone_number": NUMBER}, headers))


def test_texts_up_to_the_maximum_length_are_kept_unchanged(client: FlaskClient) -> None:
    texts = {"reference": "\U0001f355" * 255, "reason": "\u00e9\n\t'\"\\" * 83 + "xy"}

    body = ok(post(client, {"phone_number": NUMBER, **texts}))

    assert {name: body[name] for name in texts} == texts
    assert len(texts["reason"]) == 500


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2026-11-20T14:14:02Z", "2026-11-20T14:14:02Z"),
        ("2026-11-20t14:14:02z", "2026-11-20T14:14:02Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2026-11-20T14:14:02.5+00:00", "2026-11-20T14:14:02.500000Z"),
        ("2026-11-20T14:14:02-00:00", "2026-11-20T14:14:02Z"),
        ("2026-11-20T14:14:02+05:30", "2026-11-20T08:44:02Z"),
        ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
    ],
)
def test_the_time_of_the_request_is_kept_in_utc(client: FlaskClient, given: str, kept: str) -> None:
    body = ok(post(client, {"phone_number": NUMBER, "requested_at": given}))

    assert body["requested_at"] == kept


@pytest.mark.parametrize(("seconds", "status"), [(50, 200), (70, 422)])
def test_a_minute_of_clock_skew_is_tolerated(
    client: FlaskClient, seconds: int, status: int
) -> None:
    moment = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()

    answer = post(client, {"phone_number": NUMBER, "requested_at": moment})

    assert answer.status_code == status


def test_a_customer_who_is_already_opted_out_is_a_success(client: FlaskClient) -> None:
    first = ok(post(client, {"phone_number": NUMBER}))

    again = ok(post(client, {"phone_number": NUMBER}))

    expected = RESOURCE | {"already_opted_out": True, "customer": None}
    assert steady(again) == expected
    assert again["id"] != first["id"]


def test_each_opt_out_has_an_id_of_its_own(client: FlaskClient) -> None:
    ids = {ok(post(client, {"phone_number": f"999555{n:04}"}))["id"] for n in range(5)}

    assert len(ids) == 5


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (
            Reply(body=xml("404", "reason for Error")),
            {
                "code": "customer_not_found",
                "detail": "CRM Text does not know this customer: it answered with status 404.",
                "crmtext": {"status": "404", "message": "reason for Error"},
            },
        ),
        (
            Reply(body=xml("422", f"{NUMBER} of {PIZZA} is a landline")),
            {
                "code": "crmtext_rejected",
                "detail": "CRM Text refused the request: it answered with status 422.",
                "crmtext": {"status": "422", "message": "********** of [secret] is a landline"},
            },
        ),
    ],
)
def test_a_refusal_by_crm_text_is_a_problem_and_on_record(
    client: FlaskClient, crmtext: FakeCrmText, reply: Reply, body: dict[str, object]
) -> None:
    crmtext.answers(reply)

    answer = post(client, {"phone_number": NUMBER})

    assert without_record(refusal(answer)) == body
    location = answer.get_json(force=True)["opt_out"]["location"]
    assert steady(ok(client.get(location, headers=BEARER))) == RESOURCE | {
        "status": "rejected",
        "customer": None,
        "opted_out_at": None,
        "error": {"crmtext": None} | body,
    }


@pytest.mark.parametrize(
    ("reply", "error", "wait_seconds"),
    [
        (
            Reply(401, xml("401", "Unauthorized"), {"Retry-After": "9"}),
            {
                "code": "crmtext_auth_failed",
                "detail": "CRM Text refused the credentials of store PIZZA: it answered with "
                "status 401.",
                "crmtext": {"status": "401", "message": "Unauthorized"},
            },
            0,
        ),
        (
            Reply(403, b"<html/>"),
            {
                "code": "crmtext_auth_failed",
                "detail": "CRM Text refused the credentials of store PIZZA. "
                "CRM Text's answer (HTTP 403) is not CRM Text's XML.",
            },
            0,
        ),
        (
            Reply(429, xml("429", "Slow down"), {"Retry-After": "30"}),
            {
                "code": "crmtext_rate_limited",
                "detail": "Too many calls to CRM Text: it answered with status 429.",
                "crmtext": {"status": "429", "message": "Slow down"},
            },
            30,
        ),
        (
            Reply(body=xml("500", "")),
            {
                "code": "crmtext_unavailable",
                "detail": "CRM Text reported an internal error: it answered with status 500.",
                "crmtext": {"status": "500", "message": None},
            },
            0,
        ),
        (
            Reply(503, b"<html/>", {"Retry-After": "99999999"}),
            {
                "code": "crmtext_unavailable",
                "detail": "CRM Text's answer (HTTP 503) is not CRM Text's XML.",
            },
            21600,
        ),
        (
            Reply(404, b"<html/>"),
            {
                "code": "crmtext_invalid_response",
                "detail": "CRM Text's answer (HTTP 404) is not CRM Text's XML.",
            },
            0,
        ),
        (
            Reply(body=xml(optinStatus="3")),
            {
                "code": "crmtext_invalid_response",
                "detail": "CRM Text's answer says that it worked, but shows the customer as "
                "not opted out.",
                "crmtext": {"status": "200", "message": "ok"},
            },
            0,
        ),
        (
            Reply(302, headers={"Location": "/elsewhere"}),
            {
                "code": "crmtext_invalid_response",
                "detail": "CRM Text's answer (HTTP 302) is a redirect, which is never followed.",
            },
            0,
        ),
        (
            Reply(body=b"<response><custId>7</custId></response>"),
            {
                "code": "crmtext_invalid_response",
                "detail": "CRM Text's answer has no status, or an unknown one.",
            },
            0,
        ),
        (
            Reply(reset=True),
            {
                "code": "crmtext_unreachable",
                "detail": "There was no connection to CRM Text, or it was lost "
                "(ConnectionResetError).",
            },
            0,
        ),
        (
            Reply(delay=10),
            {
                "code": "crmtext_timeout",
                "detail": "CRM Text gave no complete answer within 1 seconds.",
            },
            0,
        ),
    ],
)
def test_a_failure_at_crm_text_is_told_and_the_opt_out_stays_pending(
    crmtext: FakeCrmText,
    database_url: str,
    reply: Reply,
    error: dict[str, object],
    wait_seconds: int,
) -> None:
    settings = make_settings(
        CRMTEXT_URL=crmtext.url, DATABASE_URL=database_url, CRMTEXT_TIMEOUT="1"
    )
    client = create_app(settings).test_client()
    crmtext.answers(reply)

    answer = post(client, {"phone_number": NUMBER})

    body = ok(answer, 202)
    assert steady(body) == PENDING | {"attempts": 1, "error": {"crmtext": None} | error}
    assert answer.headers["Location"] == f"{ADDRESS}/{body['id']}"
    assert read(client, answer) == body
    waits = datetime.fromisoformat(str(body["next_attempt_at"])) - datetime.now(UTC)
    assert waits.total_seconds() > wait_seconds - 1
    assert len(crmtext.calls) == 1


def test_what_a_refusal_says_about_the_customer_is_kept(
    client: FlaskClient, crmtext: FakeCrmText
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


def test_one_caller_more_than_may_wait_is_accepted_and_other_work_goes_on(
    settings: Settings, crmtext: FakeCrmText
) -> None:
    app = create_app(replace(settings, web_threads=9))  # 8 are kept free, so one may wait
    crmtext.answer_with(Reply(body=ANSWER, delay=0.6))
    answers: list[TestResponse] = []
    first = threading.Thread(
        target=lambda: answers.append(post(app.test_client(), {"phone_number": NUMBER}))
    )
    first.start()
    while not crmtext.calls:
        time.sleep(0.005)
    client = app.test_client()

    accepted = [
        post(client, {"phone_number": number}, BEARER | prefer)
        for number, prefer in [
            ("9995551235", {}),
            ("9995551236", {"Prefer": "respond-async"}),
            ("9995551237", {"Prefer": "wait=5"}),
        ]
    ]
    found = post(client, {}, address=f"{ADDRESS}/search")
    first.join()
    crmtext.answer_with(None)
    after = post(client, {"phone_number": "9995551238"})

    assert [ok(one, 202)["error"] for one in accepted] == [None] * 3
    assert len(crmtext.calls) == 2
    assert len(ok(found)["items"]) == 4  # type: ignore[arg-type]
    assert steady(ok(answers[0])) == RESOURCE
    assert after.status_code == 200


def test_nothing_is_sent_while_the_ledger_is_unreachable(
    settings: Settings, crmtext: FakeCrmText
) -> None:
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
        client.get(UNKNOWN, headers=BEARER),
        client.get(f"{UNKNOWN}/attempts", headers=BEARER),
        client.post(f"{UNKNOWN}/retry", headers=BEARER),
    ]

    detail = "The database cannot be used: unable to open database file."
    assert [refusal(answer) for answer in answers] == (
        [{"code": "ledger_unavailable", "detail": detail}] * len(answers)
    )
    assert {answer.headers["Retry-After"] for answer in answers} == {"5"}
    assert crmtext.calls == []


def test_nothing_is_sent_while_the_ledger_has_no_tables(
    settings: Settings, crmtext: FakeCrmText
) -> None:
    Path(str(settings.database_url.database)).unlink()

    answer = post(create_app(settings).test_client(), {"phone_number": NUMBER})

    assert refusal(answer)["code"] == "ledger_unavailable"
    assert crmtext.calls == []


@pytest.mark.slow
def test_nothing_is_sent_while_the_ledger_is_locked(
    settings: Settings, crmtext: FakeCrmText
) -> None:
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
