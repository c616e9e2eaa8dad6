"""Prefer: respond-async, with and without wait."""

import sqlite3
import time

import pytest
from flask.testing import FlaskClient

from gateway.settings import Settings
from tests.support.api import (
    ADDRESS,
    ANSWER,
    ASYNC,
    BODY,
    PENDING,
    RESOURCE,
    WAITING,
    deliver_due,
    ok,
    post,
    read,
    refusal,
    steady,
    without_record,
)
from tests.support.factories import BEARER, NUMBER
from tests.support.fake_crmtext import FakeCrmText, Reply, xml


def test_respond_async_is_accepted_at_once_and_nothing_is_sent_yet(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    answer = post(client, BODY, ASYNC)

    body = ok(answer, 202)
    assert steady(body) == PENDING
    assert answer.headers["Location"] == f"{ADDRESS}/{body['id']}"
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert read(client, answer) == body
    assert crmtext.calls == []


def test_an_accepted_opt_out_is_on_disk_before_the_answer(
    client: FlaskClient, settings: Settings
) -> None:
    answer = post(client, BODY, ASYNC)

    other = sqlite3.connect(str(settings.database_url.database))
    rows = other.execute("SELECT id, status, phone_number FROM opt_outs").fetchall()
    other.close()
    assert rows == [(ok(answer, 202)["id"], "pending", NUMBER)]


def test_an_accepted_opt_out_is_delivered_by_the_worker(
    settings: Settings, client: FlaskClient, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(body=ANSWER))
    answer = post(client, BODY, ASYNC)

    assert deliver_due(settings) == 1
    assert steady(read(client, answer)) == RESOURCE


def test_an_accepted_opt_out_stays_pending_with_its_last_error_while_crm_text_fails(
    settings: Settings, client: FlaskClient, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(body=xml("401", "Unauthorized")))
    answer = post(client, BODY, ASYNC)

    assert (deliver_due(settings), deliver_due(settings)) == (1, 0)
    assert steady(read(client, answer)) == PENDING | {
        "attempts": 1,
        "error": {
            "code": "crmtext_auth_failed",
            "detail": "CRM Text refused the credentials of store PIZZA: "
            "it answered with status 401.",
            "crmtext": {"status": "401", "message": "Unauthorized"},
        },
    }


def test_with_wait_the_outcome_is_the_answer_if_it_comes_in_time(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(body=ANSWER))

    answer = post(client, BODY, WAITING)

    assert steady(ok(answer)) == RESOURCE
    assert "Location" not in answer.headers
    assert answer.headers["Preference-Applied"] == "respond-async, wait=5"


def test_with_wait_a_refusal_is_the_same_answer_as_without(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(body=xml("404", "reason for Error")))

    answer = post(client, BODY, WAITING)

    assert read(client, answer)["status"] == "rejected"
    assert without_record(refusal(answer)) == {
        "code": "customer_not_found",
        "detail": "CRM Text does not know this customer: it answered with status 404.",
        "crmtext": {"status": "404", "message": "reason for Error"},
    }


def test_with_wait_the_opt_out_is_accepted_if_the_outcome_takes_longer(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(body=ANSWER, delay=1.3))
    began = time.monotonic()

    answer = post(client, BODY, BEARER | {"Prefer": "respond-async, wait=1"})

    assert time.monotonic() - began < 1.25
    assert steady(ok(answer, 202)) == PENDING | {"attempts": 1}
    assert answer.headers["Preference-Applied"] == "respond-async, wait=1"
    time.sleep(0.6)
    assert steady(read(client, answer)) == RESOURCE


def test_with_wait_the_next_attempt_is_not_waited_for_forever(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(503, b"<html/>"))

    answer = post(client, BODY, BEARER | {"Prefer": "respond-async, wait=1"})

    body = ok(answer, 202)
    assert (body["status"], body["attempts"]) == ("pending", 1)


@pytest.mark.parametrize("prefer", ["return=minimal", "respond-async=no", "x"])
def test_any_other_preference_is_ignored(
    client: FlaskClient, crmtext: FakeCrmText, prefer: str
) -> None:
    crmtext.answers(Reply(body=ANSWER))

    answer = post(client, BODY, BEARER | {"Prefer": prefer})

    assert steady(ok(answer)) == RESOURCE
    assert "Preference-Applied" not in answer.headers


def test_wait_alone_says_how_long_to_wait_and_no_more_than_15_seconds_apply(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(body=ANSWER), Reply(body=ANSWER, delay=1.3))

    in_time = post(client, BODY, BEARER | {"Prefer": "wait=60"})
    later = post(client, BODY, BEARER | {"Prefer": "wait=1"})

    assert steady(ok(in_time)) == RESOURCE
    assert in_time.headers["Preference-Applied"] == "wait=15"
    assert steady(ok(later, 202)) == PENDING | {"attempts": 1}
    assert later.headers["Preference-Applied"] == "wait=1"
