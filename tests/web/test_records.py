"""What is on record: reading an opt-out back with its attempts, and retrying it."""

import sqlite3
import threading
import time
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from gateway.app import create_app
from gateway.settings import Settings
from tests.support.api import (
    ADDRESS,
    ANSWER,
    ASYNC,
    BODY,
    PENDING,
    RESOURCE,
    SECURITY,
    TIME,
    UNKNOWN_ID,
    change_ledger,
    deliver_due,
    ok,
    post,
    read,
    refusal,
    steady,
)
from tests.support.factories import BEARER, BURGER_BEARER, make_settings
from tests.support.fake_crmtext import FakeCrmText, Reply, xml


def test_an_opt_out_is_read_back_as_it_was_answered(client: FlaskClient) -> None:
    answer = post(client, BODY | {"reference": "r", "reason": "because"})

    shown = client.get(f"{ADDRESS}/{ok(answer)['id']}", headers=BEARER)
    assert ok(shown) == ok(answer)


def test_an_id_may_be_written_in_capitals(client: FlaskClient) -> None:
    body = ok(post(client, BODY))

    assert ok(client.get(f"{ADDRESS}/{str(body['id']).upper()}", headers=BEARER)) == body


def test_attempts_are_listed_oldest_first(
    client: FlaskClient, crmtext: FakeCrmText, settings: Settings
) -> None:
    crmtext.answers(Reply(503, b"<html/>"), Reply(reset=True), Reply(200, xml("500", "oops 123")))
    opt_out_id = ok(post(client, BODY), 202)["id"]
    for _ in range(3):
        change_ledger(settings, "UPDATE opt_outs SET next_attempt_at = created_at")
        assert deliver_due(settings) == 1

    answer = client.get(f"{ADDRESS}/{opt_out_id}/attempts", headers=BEARER)

    items = ok(answer)["items"]
    assert isinstance(items, list)
    times = [item.pop(name) for item in items for name in ("started_at", "ended_at")]
    assert times == sorted(times)
    assert all(TIME.fullmatch(one) for one in times)
    assert items == [
        {"outcome": "crmtext_unavailable", "http_status": 503, "crmtext": None},
        {"outcome": "crmtext_unreachable", "http_status": None, "crmtext": None},
        {
            "outcome": "crmtext_unavailable",
            "http_status": 200,
            "crmtext": {"status": "500", "message": "oops ***"},
        },
        {
            "outcome": "opted_out",
            "http_status": 200,
            "crmtext": {"status": "200", "message": "ok"},
        },
    ]


def test_an_opt_out_that_was_never_attempted_has_no_attempts(client: FlaskClient) -> None:
    opt_out_id = ok(post(client, BODY, ASYNC), 202)["id"]

    attempts = client.get(f"{ADDRESS}/{opt_out_id}/attempts", headers=BEARER)
    assert ok(attempts) == {"items": []}


def test_what_a_key_may_not_see_looks_like_what_does_not_exist(client: FlaskClient) -> None:
    pizza = ok(post(client, BODY))["id"]
    burger = ok(post(client, BODY | {"store": "BURGER"}))["id"]

    for opt_out_id in (pizza, UNKNOWN_ID):
        for answer in (
            client.get(f"{ADDRESS}/{opt_out_id}", headers=BURGER_BEARER),
            client.get(f"{ADDRESS}/{opt_out_id}/attempts", headers=BURGER_BEARER),
            client.post(f"{ADDRESS}/{opt_out_id}/retry", headers=BURGER_BEARER),
        ):
            assert refusal(answer) == {
                "code": "not_found",
                "detail": "There is no such opt-out, or the API key may not see it.",
            }
    assert ok(client.get(f"{ADDRESS}/{burger}", headers=BURGER_BEARER))["store"] == "BURGER"


NOT_FOUND, REJECTED = Reply(body=xml("404", "no")), Reply(body=xml("422", "no"))


@pytest.mark.parametrize(
    ("reply", "status"),
    [(Reply(503, b"<html/>"), "failed"), (NOT_FOUND, "rejected"), (REJECTED, "rejected")],
)
def test_a_retry_makes_a_failed_or_rejected_opt_out_pending_and_delivers_it(
    settings: Settings, client: FlaskClient, crmtext: FakeCrmText, reply: Reply, status: str
) -> None:
    crmtext.answers(reply, Reply(body=ANSWER))
    first = post(client, BODY)
    change_ledger(settings, f"UPDATE opt_outs SET status = '{status}', next_attempt_at = NULL")
    location = f"{ADDRESS}/{read(client, first)['id']}"

    answer = client.post(f"{location}/retry", headers=BEARER)

    body = ok(answer, 202)
    assert steady(body) == PENDING | {"attempts": 1}
    assert answer.headers["Location"] == location
    assert deliver_due(settings) == 1
    assert steady(ok(client.get(location, headers=BEARER))) == RESOURCE | {"attempts": 2}


@pytest.mark.parametrize(("headers", "status"), [(ASYNC, 202), (BEARER, 200)])
def test_a_retry_is_refused_in_any_other_state(
    client: FlaskClient, headers: dict[str, str], status: int
) -> None:
    opt_out_id = ok(post(client, BODY, headers), status)["id"]

    answer = client.post(f"{ADDRESS}/{opt_out_id}/retry", headers=BEARER)

    body = refusal(answer)
    assert body.pop("opt_out") == {"id": opt_out_id, "location": f"{ADDRESS}/{opt_out_id}"}
    assert body == {
        "code": "not_retryable",
        "detail": "Only a failed or rejected opt-out with a usable phone number can be retried.",
    }


def test_a_retry_starts_the_days_of_delivery_again(
    client: FlaskClient, crmtext: FakeCrmText, settings: Settings
) -> None:
    crmtext.answer_with(Reply(503, b"<html/>"))
    location = post(client, BODY).headers["Location"]
    change_ledger(
        settings,
        "UPDATE opt_outs SET status = 'failed', next_attempt_at = NULL, failures = 19, "
        "created_at = '2020-01-01 00:00:00.000000', give_up_at = created_at",
    )

    client.post(f"{location}/retry", headers=BEARER)
    deliver_due(settings)

    assert ok(client.get(location, headers=BEARER))["status"] == "pending"


def test_a_request_without_a_turn_within_two_seconds_is_accepted_without_waiting(
    crmtext: FakeCrmText, database_url: str
) -> None:
    settings = make_settings(CRMTEXT_URL=crmtext.url, DATABASE_URL=database_url, CRMTEXT_RATE="0.1")
    client = create_app(settings).test_client()
    began = time.monotonic()

    first, second = (post(client, BODY) for _ in range(2))

    assert time.monotonic() - began < 1
    assert ok(first)["status"] == "opted_out"
    assert steady(ok(second, 202)) == PENDING
    assert len(crmtext.calls) == 1


def test_the_outcome_is_told_even_if_the_ledger_is_gone_by_then(
    client: FlaskClient, crmtext: FakeCrmText, settings: Settings
) -> None:
    file = Path(str(settings.database_url.database))
    crmtext.answers(Reply(body=ANSWER, delay=0.3))
    blocker = sqlite3.connect(file, isolation_level=None, check_same_thread=False)

    def block() -> None:
        while not crmtext.calls:
            time.sleep(0.005)
        blocker.execute("DROP TABLE attempts")

    blocking = threading.Thread(target=block)
    blocking.start()
    answer = post(client, BODY)
    blocking.join()
    blocker.close()

    assert steady(ok(answer)) == RESOURCE
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY
    assert read(client, answer)["status"] == "pending"
