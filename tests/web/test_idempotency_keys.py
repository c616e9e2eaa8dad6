"""Idempotency-Key: a repeat is the same opt-out."""

import threading
import time

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gateway.app import Gateway, create_app
from gateway.settings import Settings
from tests.support.api import (
    ADDRESS,
    ANSWER,
    ASYNC,
    BODY,
    RESOURCE,
    SEARCH,
    WAITING,
    deliver_due,
    keyed,
    ok,
    post,
    read,
    refusal,
    steady,
)
from tests.support.factories import BEARER, BURGER_BEARER, NUMBER, make_settings, sha256
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


def test_a_repeat_of_a_failed_opt_out_is_another_attempt_under_the_same_id(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(503, b"<html/>"), Reply(body=ANSWER))
    first = post(client, BODY, keyed("a"))

    again = post(client, BODY, keyed("a"))

    body = ok(again)
    assert steady(body) == RESOURCE | {"attempts": 2}
    assert body["id"] == first.get_json(force=True)["opt_out"]["id"]
    assert len(crmtext.calls) == 2


def test_a_failed_opt_out_can_be_handed_over_to_the_gateway(
    app: Gateway, client: FlaskClient, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(503, b"<html/>"), Reply(body=ANSWER))
    first = post(client, BODY, keyed("a"))

    again = post(client, BODY, ASYNC | keyed("a"))

    body = ok(again, 202)
    assert body["id"] == first.get_json(force=True)["opt_out"]["id"]
    assert deliver_due(app) == 1
    assert steady(read(client, again)) == RESOURCE | {"attempts": 2}


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


def test_an_idempotency_key_is_in_use_while_its_first_request_is_being_answered(
    app: Gateway, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(body=ANSWER, delay=0.4))
    first = threading.Thread(target=lambda: post(app.test_client(), BODY, keyed("a")))
    first.start()
    while not crmtext.calls:
        time.sleep(0.005)

    again = post(app.test_client(), BODY, keyed("a"))
    handed_over = post(app.test_client(), BODY, ASYNC | keyed("a"))
    first.join()

    for answer in (again, handed_over):
        assert refusal(answer) == {
            "code": "idempotency_key_in_use",
            "detail": "The first request with this Idempotency-Key has not been answered yet.",
        }
        assert answer.headers["Retry-After"] == "1"
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
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
    assert NUMBER not in answer.text
