"""Idempotency-Key: a repeat is the same opt-out."""

import threading
import time

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gateway.app import create_app
from gateway.settings import Settings
from tests.support.api import (
    ADDRESS,
    ANSWER,
    ASYNC,
    BODY,
    RESOURCE,
    SEARCH,
    WAITING,
    change_ledger,
    deliver_due,
    keyed,
    ok,
    post,
    read,
    refusal,
    steady,
)
from tests.support.factories import BEARER, BURGER_BEARER, make_settings, sha256
from tests.support.fake_crmtext import FakeCrmText, Reply, xml


def test_a_repeat_with_the_same_idempotency_key_is_the_same_opt_out(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    first = post(client, BODY, keyed("a"))

    again = post(client, BODY, keyed('"a"'))

    assert again.get_json() == ok(first)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert len(crmtext.calls) == 1
    assert len(ok(post(client, {}, address=SEARCH))["items"]) == 1  # type: ignore[arg-type]


def test_a_repeat_of_a_refused_request_is_refused_the_same_way(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    crmtext.answer_with(Reply(body=xml("404", "reason for Error")))
    first, again = (post(client, BODY, keyed("a")) for _ in range(2))

    assert refusal(again) == refusal(first)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(crmtext.calls) == 1


def test_a_repeat_of_a_pending_opt_out_is_accepted(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    first = post(client, BODY, ASYNC | keyed("a"))
    again = post(client, BODY, ASYNC | keyed("a"))
    plain = post(client, BODY, keyed("a"))

    assert [ok(one, 202) for one in (again, plain)] == [ok(first, 202)] * 2
    for one in (again, plain):
        assert one.headers["Idempotency-Replayed"] == "true"
        assert one.headers["Location"] == first.headers["Location"]
    assert crmtext.calls == []


def test_a_repeat_of_one_that_crm_text_did_not_take_is_accepted_as_it_stands(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(503, b"<html/>"))
    first = post(client, BODY, keyed("a"))

    again = post(client, BODY, keyed("a"))

    assert ok(again, 202) == ok(first, 202)
    assert ok(again, 202)["error"]["code"] == "crmtext_unavailable"  # type: ignore[index]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(crmtext.calls) == 1


@pytest.mark.parametrize(("prefer", "status"), [({}, 200), ({"Prefer": "respond-async"}, 202)])
def test_a_repeat_of_a_failed_opt_out_is_delivered_again_under_the_same_id(
    client: FlaskClient,
    settings: Settings,
    crmtext: FakeCrmText,
    prefer: dict[str, str],
    status: int,
) -> None:
    crmtext.answers(Reply(503, b"<html/>"), Reply(body=ANSWER))
    first = post(client, BODY, keyed("a"))
    change_ledger(settings, "UPDATE opt_outs SET status = 'failed', next_attempt_at = NULL")

    again = post(client, BODY, keyed("a", **prefer))

    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (status, "true")
    assert deliver_due(settings) == (0 if status == 200 else 1)
    assert steady(read(client, again)) == RESOURCE | {"attempts": 2}
    assert read(client, again)["id"] == ok(first, 202)["id"]


@pytest.mark.parametrize(
    "other",
    [
        b'{"phone_number": "9995551235"}',
        b'{"phone_number":"9995551234"}',
        b'{"phone_number": "9995551234"} ',
        b'{"phone_number": "9995551234", "reference": null}',
    ],
)
def test_an_idempotency_key_cannot_be_reused_with_another_body(
    client: FlaskClient, crmtext: FakeCrmText, other: bytes
) -> None:
    post(client, b'{"phone_number": "9995551234"}', keyed("a"))

    for headers in (keyed("a"), ASYNC | keyed("a"), WAITING | keyed("a")):
        assert refusal(post(client, other, headers)) == {
            "code": "idempotency_key_reused",
            "detail": "This Idempotency-Key was used before, with another body.",
        }
    assert len(crmtext.calls) == 1


def test_callers_do_not_share_idempotency_keys(client: FlaskClient, crmtext: FakeCrmText) -> None:
    one = post(client, BODY, BEARER | {"Idempotency-Key": "a"})
    other = post(client, BODY, BURGER_BEARER | {"Idempotency-Key": "a"})

    assert ok(one)["id"] != ok(other)["id"]
    assert [call.store for call in crmtext.calls] == ["PIZZA", "BURGER"]


def test_a_repeat_waits_like_the_first_request_and_is_not_sent_again(
    app: Flask, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(body=ANSWER, delay=0.4))
    answers: list[TestResponse] = []
    first = threading.Thread(
        target=lambda: answers.append(post(app.test_client(), BODY, keyed("a")))
    )
    first.start()
    while not crmtext.calls:
        time.sleep(0.005)

    at_once = post(app.test_client(), BODY, ASYNC | keyed("a"))
    again = post(app.test_client(), BODY, keyed("a"))
    first.join()

    assert ok(at_once, 202)["status"] == "pending"
    assert ok(again) == ok(answers[0])
    for one in (at_once, again):
        assert one.headers["Idempotency-Replayed"] == "true"
    assert len(crmtext.calls) == 1


def test_a_refused_request_does_not_use_up_its_idempotency_key(client: FlaskClient) -> None:
    headers = BURGER_BEARER | {"Idempotency-Key": "a"}
    post(client, {"phone_number": "x"}, headers)
    post(client, BODY | {"store": "PIZZA"}, headers)

    ok(post(client, BODY, headers))


@pytest.mark.parametrize("key", ["", '"', "x" * 256, "\u00e9"])
def test_a_malformed_idempotency_key_is_refused(refused_client: FlaskClient, key: str) -> None:
    assert refusal(post(refused_client, BODY, keyed(key))) == {
        "code": "invalid_request",
        "detail": "Idempotency-Key must be 1 to 255 printable ASCII characters, bare or as a "
        "quoted string.",
    }


def test_a_repeat_with_another_key_of_the_same_name_shows_no_other_stores_opt_out(
    settings: Settings, crmtext: FakeCrmText
) -> None:
    keys = f"shop:{sha256('one')}:PIZZA shop:{sha256('two')}:BURGER"
    url = settings.database_url.render_as_string(hide_password=False)
    own = make_settings(CRMTEXT_URL=crmtext.url, DATABASE_URL=url, GATEWAY_API_KEYS=keys)
    client = create_app(own).test_client()

    def ask(key: str) -> TestResponse:
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "same"}
        return client.post(ADDRESS, json=BODY, headers=headers)

    assert ask("one").status_code == 200
    answer = ask("two")
    assert refusal(answer) == {
        "code": "not_found",
        "detail": "This Idempotency-Key was already used, by an API key of the same name, for a "
        "store that this API key may not act on. Use a new Idempotency-Key.",
    }


def test_a_repeat_that_waits_for_one_that_is_given_up_hears_its_status_and_no_problem(
    app: Flask, settings: Settings
) -> None:
    first = ok(post(app.test_client(), BODY, ASYNC | keyed("a")), 202)
    being_sent = "UPDATE opt_outs SET claim = 'x', next_attempt_at = '2999-01-01 00:00:00.000000'"
    change_ledger(settings, being_sent)
    answers: list[TestResponse] = []
    waiting = threading.Thread(
        target=lambda: answers.append(post(app.test_client(), BODY, keyed("a")))
    )
    waiting.start()
    time.sleep(0.2)
    change_ledger(
        settings,
        "UPDATE opt_outs SET status = 'failed', claim = NULL, next_attempt_at = NULL, "
        "error_code = 'crmtext_timeout', error_detail = 'no answer'",
    )
    waiting.join()

    body = ok(answers[0])
    assert (body["id"], body["status"]) == (first["id"], "failed")
    assert answers[0].headers["Idempotency-Replayed"] == "true"
