"""What is on record, through the API: Prefer, idempotency, reading back, searching, retrying."""

import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gateway.app import Gateway, create_app
from gateway.settings import Settings
from tests.support.factories import BEARER, BURGER_BEARER, NUMBER, make_settings, sha256
from tests.support.fake_crmtext import FakeCrmText, Reply, xml
from tests.web.test_opt_outs import (
    ADDRESS,
    ANSWER,
    RESOURCE,
    SECURITY,
    TIME,
    ok,
    post,
    refusal,
    steady,
    without_record,
)

SEARCH = f"{ADDRESS}/search"
PENDING = RESOURCE | {
    "status": "pending",
    "customer": None,
    "attempts": 0,
    "opted_out_at": None,
    "next_attempt_at": "TIME",
}
ASYNC = BEARER | {"Prefer": "respond-async"}
WAITING = BEARER | {"Prefer": "respond-async, wait=5"}
BODY = {"phone_number": NUMBER}
UNKNOWN_ID = "0aa50109-1da7-45b8-ba01-486ce4abb337"


def deliver_due(app: Gateway) -> int:
    """What the worker does, once."""
    claims = app.delivery.claim_due(100).claims
    for claim in claims:
        app.delivery.attempt(claim)
    return len(claims)


def keyed(key: str, **more: str) -> dict[str, str]:
    return BEARER | {"Idempotency-Key": key, **more}


def read(client: FlaskClient, answer: TestResponse) -> dict[str, object]:
    """The opt-out that an answer is about, as it stands."""
    body = answer.get_json(force=True)
    opt_out_id = body["opt_out"]["id"] if "opt_out" in body else body["id"]
    return ok(client.get(f"{ADDRESS}/{opt_out_id}", headers=BEARER))


def found(
    client: FlaskClient, fields: dict[str, object], headers: dict[str, str] = BEARER
) -> list[object]:
    """The references that a search finds, in its order."""
    body = ok(post(client, fields, headers, SEARCH))
    items = body["items"]
    assert isinstance(items, list)
    assert body["next_cursor"] is None
    return [item["reference"] for item in items]


class TestPreferRespondAsync:
    def test_is_accepted_at_once_and_nothing_is_sent_yet(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        answer = post(client, BODY, ASYNC)

        body = ok(answer, 202)
        assert steady(body) == PENDING
        assert answer.headers["Location"] == f"{ADDRESS}/{body['id']}"
        assert answer.headers["Preference-Applied"] == "respond-async"
        assert read(client, answer) == body
        assert crmtext.calls == []

    def test_is_on_disk_when_it_is_answered(self, client: FlaskClient, settings: Settings) -> None:
        answer = post(client, BODY, ASYNC)

        other = sqlite3.connect(str(settings.database_url.database))
        rows = other.execute("SELECT id, status, phone_number FROM opt_outs").fetchall()
        other.close()
        assert rows == [(ok(answer, 202)["id"], "pending", NUMBER)]

    def test_is_delivered_by_the_worker(
        self, app: Gateway, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        crmtext.answers(Reply(body=ANSWER))
        answer = post(client, BODY, ASYNC)

        assert deliver_due(app) == 1
        assert steady(read(client, answer)) == RESOURCE

    def test_stays_pending_with_its_last_error_while_there_is_trouble(
        self, app: Gateway, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        crmtext.answers(Reply(body=xml("401", "Unauthorized")))
        answer = post(client, BODY, ASYNC)

        assert (deliver_due(app), deliver_due(app)) == (1, 0)
        assert steady(read(client, answer)) == PENDING | {
            "attempts": 1,
            "error": {
                "code": "crmtext_auth_failed",
                "detail": "CRM Text refused the gateway's credentials: it answered with "
                "status 401.",
                "retryable": False,
                "crmtext": {"status": "401", "message": "Unauthorized"},
            },
        }

    def test_with_wait_answers_with_the_outcome_if_it_comes_in_time(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        crmtext.answers(Reply(body=ANSWER))

        answer = post(client, BODY, WAITING)

        assert steady(ok(answer)) == RESOURCE
        assert "Location" not in answer.headers
        assert "Preference-Applied" not in answer.headers

    def test_with_wait_answers_with_a_refusal_as_if_none_had_been_given(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        crmtext.answers(Reply(body=xml("404", "reason for Error")))

        answer = post(client, BODY, WAITING)

        assert read(client, answer)["status"] == "rejected"
        assert without_record(refusal(answer)) == {
            "code": "customer_not_found",
            "detail": "CRM Text does not know this customer: it answered with status 404.",
            "crmtext": {"status": "404", "message": "reason for Error"},
        }

    def test_with_wait_is_accepted_when_the_outcome_takes_longer(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        crmtext.answers(Reply(body=ANSWER, delay=1.3))
        began = time.monotonic()

        answer = post(client, BODY, BEARER | {"Prefer": "respond-async, wait=1"})

        assert time.monotonic() - began < 1.25
        assert steady(ok(answer, 202)) == PENDING | {"attempts": 1}
        assert answer.headers["Preference-Applied"] == "respond-async"
        time.sleep(0.6)
        assert steady(read(client, answer)) == RESOURCE

    def test_with_wait_does_not_wait_for_the_next_attempt_for_ever(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        crmtext.answers(Reply(503, b"<html/>"))

        answer = post(client, BODY, BEARER | {"Prefer": "respond-async, wait=1"})

        body = ok(answer, 202)
        assert (body["status"], body["attempts"]) == ("pending", 1)

    @pytest.mark.parametrize("prefer", ["wait=5", "return=minimal", "respond-async=no", "x"])
    def test_any_other_preference_is_ignored(
        self, client: FlaskClient, crmtext: FakeCrmText, prefer: str
    ) -> None:
        crmtext.answers(Reply(body=ANSWER))

        answer = post(client, BODY, BEARER | {"Prefer": prefer})

        assert steady(ok(answer)) == RESOURCE
        assert "Preference-Applied" not in answer.headers


class TestAnIdempotencyKey:
    def test_makes_a_repeat_the_same_opt_out(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        first = post(client, BODY, keyed("a"))

        again = post(client, BODY, keyed('"a"'))

        assert again.get_json() == ok(first)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert "Idempotency-Replayed" not in first.headers
        assert len(crmtext.calls) == 1
        assert len(ok(post(client, {}, address=SEARCH))["items"]) == 1  # type: ignore[arg-type]

    def test_makes_a_repeat_of_a_refusal_the_same_refusal(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        crmtext.answer_with(Reply(body=xml("404", "reason for Error")))
        first, again = (post(client, BODY, keyed("a")) for _ in range(2))

        assert refusal(again) == refusal(first)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert len(crmtext.calls) == 1

    def test_makes_a_repeat_of_a_pending_one_accepted(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        first = post(client, BODY, ASYNC | keyed("a"))
        again = post(client, BODY, ASYNC | keyed("a"))
        plain = post(client, BODY, keyed("a"))

        assert [ok(one, 202) for one in (again, plain)] == [ok(first, 202)] * 2
        for one in (again, plain):
            assert one.headers["Idempotency-Replayed"] == "true"
            assert one.headers["Location"] == first.headers["Location"]
        assert crmtext.calls == []

    def test_makes_a_repeat_of_a_failed_one_another_try_under_the_same_id(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        crmtext.answers(Reply(503, b"<html/>"), Reply(body=ANSWER))
        first = post(client, BODY, keyed("a"))

        again = post(client, BODY, keyed("a"))

        body = ok(again)
        assert steady(body) == RESOURCE | {"attempts": 2}
        assert body["id"] == first.get_json(force=True)["opt_out"]["id"]
        assert len(crmtext.calls) == 2

    def test_lets_a_failed_one_be_handed_over_to_the_gateway(
        self, app: Gateway, client: FlaskClient, crmtext: FakeCrmText
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
    def test_does_not_go_with_another_body(
        self, client: FlaskClient, crmtext: FakeCrmText, other: bytes
    ) -> None:
        post(client, b'{"phone_number": "9995551234"}', keyed("a"))

        for headers in (keyed("a"), ASYNC | keyed("a"), WAITING | keyed("a")):
            assert refusal(post(client, other, headers)) == {
                "code": "idempotency_key_reused",
                "detail": "This Idempotency-Key was used before, with another body.",
            }
        assert len(crmtext.calls) == 1

    def test_is_of_one_caller(self, client: FlaskClient, crmtext: FakeCrmText) -> None:
        one = post(client, BODY, BEARER | {"Idempotency-Key": "a"})
        other = post(client, BODY, BURGER_BEARER | {"Idempotency-Key": "a"})

        assert ok(one)["id"] != ok(other)["id"]
        assert [call.store for call in crmtext.calls] == ["PIZZA", "BURGER"]

    def test_is_in_use_while_the_first_is_being_answered(
        self, app: Gateway, crmtext: FakeCrmText
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

    def test_is_not_used_up_by_a_request_that_was_refused(self, client: FlaskClient) -> None:
        headers = BURGER_BEARER | {"Idempotency-Key": "a"}
        post(client, {"phone_number": "x"}, headers)
        post(client, BODY | {"store": "PIZZA"}, headers)

        ok(post(client, BODY, headers))

    @pytest.mark.parametrize("key", ["", '"', "x" * 256, "\u00e9"])
    def test_that_is_malformed_is_refused(self, refused_client: FlaskClient, key: str) -> None:
        assert refusal(post(refused_client, BODY, keyed(key))) == {
            "code": "invalid_request",
            "detail": "Idempotency-Key must be 1 to 255 printable ASCII characters, bare or as a "
            "quoted string.",
        }


class TestReadingBack:
    def test_shows_the_opt_out_as_it_was_answered(self, client: FlaskClient) -> None:
        answer = post(client, BODY | {"reference": "r", "reason": "because"})

        shown = client.get(f"{ADDRESS}/{ok(answer)['id']}", headers=BEARER)
        assert ok(shown) == ok(answer)

    def test_takes_an_id_in_capitals(self, client: FlaskClient) -> None:
        body = ok(post(client, BODY))

        assert ok(client.get(f"{ADDRESS}/{str(body['id']).upper()}", headers=BEARER)) == body

    def test_lists_every_call_to_crm_text_oldest_first(
        self, client: FlaskClient, crmtext: FakeCrmText
    ) -> None:
        crmtext.answers(
            Reply(503, b"<html/>"), Reply(reset=True), Reply(200, xml("500", "oops 123"))
        )
        for _ in range(3):
            post(client, BODY, keyed("a"))
        opt_out_id = ok(post(client, BODY, keyed("a")))["id"]

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

    def test_of_one_never_tried_lists_no_call(self, client: FlaskClient) -> None:
        opt_out_id = ok(post(client, BODY, ASYNC), 202)["id"]

        attempts = client.get(f"{ADDRESS}/{opt_out_id}/attempts", headers=BEARER)
        assert ok(attempts) == {"items": []}

    def test_hides_what_a_key_may_not_see_as_if_it_were_not_there(
        self, client: FlaskClient
    ) -> None:
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


FIELDS = (
    "phone_number",
    "store",
    "status",
    "reference",
    "source",
    "since",
    "until",
    "limit",
    "cursor",
)
NOT_FOUND, REJECTED = Reply(body=xml("404", "no")), Reply(body=xml("422", "no"))


class TestSearching:
    @pytest.fixture
    def filled(self, client: FlaskClient, crmtext: FakeCrmText) -> FlaskClient:
        """a to e, oldest first: two stores, two callers, three states, two numbers."""
        post(client, BODY | {"reference": "a"})
        post(client, {"phone_number": "9995559999", "reference": "b", "store": "BURGER"})
        crmtext.answers(Reply(body=xml("404", "no")))
        post(client, BODY | {"reference": "c"}, BURGER_BEARER)
        post(client, BODY | {"reference": "d"}, ASYNC)
        crmtext.answers(Reply(503, b"<html/>"))
        post(client, {"phone_number": "9995559999", "reference": "e"})
        return client

    @pytest.mark.parametrize(
        ("fields", "references"),
        [
            ({}, "edcba"),
            ({"phone_number": "+1 (999) 555-1234"}, "dca"),
            ({"phone_number": 9995559999}, "eb"),
            ({"phone_number": "9995550000"}, ""),
            ({"store": "pizza"}, "eda"),
            ({"store": "BURGER"}, "cb"),
            ({"status": "opted_out"}, "ba"),
            ({"status": "pending"}, "d"),
            ({"status": "rejected"}, "c"),
            ({"status": "failed"}, "e"),
            ({"reference": "b"}, "b"),
            ({"reference": "B"}, ""),
            ({"reference": ""}, ""),
            ({"reference": "%"}, ""),
            ({"source": "api:billing"}, "edba"),
            ({"source": "api:burger"}, "c"),
            ({"source": "webhook:shop"}, ""),
            ({"since": "2020-01-01T00:00:00Z"}, "edcba"),
            ({"since": "2999-01-01T00:00:00Z"}, ""),
            ({"until": "2999-01-01T00:00:00Z"}, "edcba"),
            ({"until": "2020-01-01T00:00:00Z"}, ""),
            ({"phone_number": NUMBER, "store": "PIZZA", "status": "opted_out"}, "a"),
            ({"limit": 200}, "edcba"),
            (
                dict.fromkeys(FIELDS),
                "edcba",
            ),
        ],
    )
    def test_finds_what_meets_all_fields_newest_first(
        self, filled: FlaskClient, fields: dict[str, object], references: str
    ) -> None:
        assert found(filled, fields) == list(references)

    def test_shows_whole_resources(self, filled: FlaskClient) -> None:
        items = ok(post(filled, {"reference": "d"}, address=SEARCH))["items"]

        assert isinstance(items, list)
        assert [steady(item) for item in items] == [PENDING | {"reference": "d"}]

    def test_is_of_created_at_from_since_until_before_until(self, filled: FlaskClient) -> None:
        items = ok(post(filled, {}, address=SEARCH))["items"]
        assert isinstance(items, list)
        d, b = (item["created_at"] for item in (items[1], items[3]))

        assert found(filled, {"since": b, "until": d}) == ["c", "b"]

    def test_shows_a_key_bound_to_a_store_only_that_store(self, filled: FlaskClient) -> None:
        assert found(filled, {}, BURGER_BEARER) == ["c", "b"]
        assert found(filled, {"store": "BURGER"}, BURGER_BEARER) == ["c", "b"]
        assert found(filled, {"phone_number": "9995559999"}, BURGER_BEARER) == ["b"]
        assert refusal(post(filled, {"store": "PIZZA"}, BURGER_BEARER, SEARCH)) == {
            "code": "forbidden",
            "detail": "The API key may not act on store PIZZA.",
        }

    @pytest.mark.parametrize("limit", [1, 2, 3, 5])
    def test_pages_through_everything_once(self, filled: FlaskClient, limit: int) -> None:
        references: list[str] = []
        cursor: object = None
        for _ in range(5 // limit + 1):
            page = ok(post(filled, {"limit": limit, "cursor": cursor}, address=SEARCH))
            assert isinstance(page["items"], list)
            references += [item["reference"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break

        assert (references, cursor) == (list("edcba"), None)

    def test_pages_are_stable_while_more_comes_in(self, filled: FlaskClient) -> None:
        page = ok(post(filled, {"limit": 2}, address=SEARCH))
        post(filled, BODY | {"reference": "f"}, ASYNC)

        assert found(filled, {"cursor": page["next_cursor"]}) == list("cba")

    def test_has_fifty_on_a_page_unless_told_otherwise(self, client: FlaskClient) -> None:
        for n in range(51):
            post(client, BODY | {"reference": str(n)}, ASYNC)

        page = ok(post(client, {}, address=SEARCH))
        assert isinstance(page["items"], list)
        assert len(page["items"]) == 50
        assert found(client, {"cursor": page["next_cursor"]}) == ["0"]

    @pytest.mark.parametrize("cursor", ["", "x", "AAAA", "\u00e9", "a" * 500, "=", "null"])
    def test_a_made_up_cursor_is_refused(self, refused_client: FlaskClient, cursor: str) -> None:
        assert refusal(post(refused_client, {"cursor": cursor}, address=SEARCH)) == {
            "code": "invalid_request",
            "detail": "The cursor is not a next_cursor of this search; start again without one.",
            "errors": [
                {
                    "pointer": "/cursor",
                    "code": "invalid",
                    "detail": "cursor is not a next_cursor of this search; start again without "
                    "one.",
                }
            ],
        }

    def test_a_cursor_is_good_for_its_own_search_only(self, filled: FlaskClient) -> None:
        cursor = ok(post(filled, {"limit": 1}, address=SEARCH))["next_cursor"]

        other = post(filled, {"cursor": cursor, "store": "PIZZA"}, address=SEARCH)

        assert refusal(other)["code"] == "invalid_request"

    def test_a_cursor_shows_another_key_nothing_that_it_may_not_see(
        self, filled: FlaskClient
    ) -> None:
        cursor = ok(post(filled, {"limit": 1}, address=SEARCH))["next_cursor"]

        assert found(filled, {"cursor": cursor}, BURGER_BEARER) == ["c", "b"]

    @pytest.mark.parametrize(
        ("fields", "pointer", "code"),
        [
            ({"phone_number": "x"}, "/phone_number", "invalid_phone_number"),
            ({"store": "TACOS"}, "/store", "unknown_store"),
            ({"status": "done"}, "/status", "invalid"),
            ({"status": ""}, "/status", "invalid"),
            ({"status": 1}, "/status", "invalid"),
            ({"reference": 1}, "/reference", "invalid"),
            ({"reference": "x\0"}, "/reference", "invalid"),
            ({"source": ["api:billing"]}, "/source", "invalid"),
            ({"since": "yesterday"}, "/since", "invalid"),
            ({"until": "2026-11-22"}, "/until", "invalid"),
            ({"limit": 0}, "/limit", "invalid"),
            ({"limit": 201}, "/limit", "invalid"),
            ({"limit": "5"}, "/limit", "invalid"),
            ({"limit": 5.0}, "/limit", "invalid"),
            ({"limit": True}, "/limit", "invalid"),
            ({"cursor": 5}, "/cursor", "invalid"),
            ({"cursor": "x" * 501}, "/cursor", "invalid"),
            ({"id": UNKNOWN_ID}, "/id", "unknown_field"),
            ({"phone": NUMBER}, "/phone", "unknown_field"),
        ],
    )
    def test_refuses_what_it_does_not_understand(
        self, refused_client: FlaskClient, fields: dict[str, object], pointer: str, code: str
    ) -> None:
        problem = refusal(post(refused_client, fields, address=SEARCH))

        assert isinstance(problem["errors"], list)
        assert [(one["pointer"], one["code"]) for one in problem["errors"]] == [(pointer, code)]

    @pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"limit": 1, "limit": 2}'])
    def test_needs_a_json_object(self, refused_client: FlaskClient, body: bytes) -> None:
        assert refusal(post(refused_client, body, address=SEARCH))["code"] == "invalid_json"


class TestRetrying:
    @pytest.mark.parametrize(
        "reply",
        [Reply(503, b"<html/>"), NOT_FOUND, REJECTED],
    )
    def test_makes_a_failed_or_rejected_one_pending_and_delivers_it(
        self, app: Gateway, client: FlaskClient, crmtext: FakeCrmText, reply: Reply
    ) -> None:
        crmtext.answers(reply, Reply(body=ANSWER))
        first = post(client, BODY).get_json(force=True)["opt_out"]

        answer = client.post(f"{first['location']}/retry", headers=BEARER)

        body = ok(answer, 202)
        assert steady(body) == PENDING | {"attempts": 1}
        assert body["id"] == first["id"]
        assert answer.headers["Location"] == first["location"]
        assert deliver_due(app) == 1
        assert steady(ok(client.get(first["location"], headers=BEARER))) == RESOURCE | {
            "attempts": 2
        }

    @pytest.mark.parametrize(("headers", "status"), [(ASYNC, 202), (BEARER, 200)])
    def test_is_refused_for_one_in_another_state(
        self, client: FlaskClient, headers: dict[str, str], status: int
    ) -> None:
        opt_out_id = ok(post(client, BODY, headers), status)["id"]

        answer = client.post(f"{ADDRESS}/{opt_out_id}/retry", headers=BEARER)

        body = refusal(answer)
        assert body.pop("opt_out") == {"id": opt_out_id, "location": f"{ADDRESS}/{opt_out_id}"}
        assert body == {
            "code": "not_retryable",
            "detail": "Only a failed or rejected opt-out with a usable phone number can be "
            "retried.",
        }

    def test_starts_its_days_anew(
        self, app: Gateway, client: FlaskClient, crmtext: FakeCrmText, settings: Settings
    ) -> None:
        crmtext.answer_with(Reply(503, b"<html/>"))
        first = post(client, BODY).get_json(force=True)["opt_out"]
        other = sqlite3.connect(str(settings.database_url.database))
        long_ago = (datetime.now(UTC) - timedelta(days=400)).replace(tzinfo=None).isoformat(" ")
        other.execute("UPDATE opt_outs SET created_at = ?, give_up_at = ?", (long_ago, long_ago))
        other.commit()
        other.close()

        client.post(f"{first['location']}/retry", headers=BEARER)
        deliver_due(app)

        assert ok(client.get(first["location"], headers=BEARER))["status"] == "pending"


def test_a_synchronous_call_waits_for_its_turn_at_most_two_seconds(
    crmtext: FakeCrmText, database_url: str
) -> None:
    settings = make_settings(CRMTEXT_URL=crmtext.url, DATABASE_URL=database_url, CRMTEXT_RATE="0.1")
    client = create_app(settings).test_client()
    began = time.monotonic()

    first, second = (post(client, BODY) for _ in range(2))

    assert time.monotonic() - began < 3
    assert ok(first)["status"] == "opted_out"
    assert without_record(refusal(second)) == {
        "code": "crmtext_rate_limited",
        "detail": "No turn came up within the pace that all calls to CRM Text keep to; nothing "
        "was sent.",
    }
    assert second.headers["Retry-After"] == "2"
    assert read(client, second)["attempts"] == 0
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
