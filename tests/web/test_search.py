"""POST /v1/opt-outs/search."""

import pytest
from flask.testing import FlaskClient

from tests.support.api import (
    ASYNC,
    BODY,
    PENDING,
    SEARCH,
    UNKNOWN_ID,
    ok,
    post,
    refusal,
    steady,
)
from tests.support.factories import BEARER, BURGER_BEARER, NUMBER
from tests.support.fake_crmtext import FakeCrmText, Reply, xml


def found(
    client: FlaskClient, fields: dict[str, object], headers: dict[str, str] = BEARER
) -> list[object]:
    """The references that a search finds, in its order."""
    body = ok(post(client, fields, headers, SEARCH))
    items = body["items"]
    assert isinstance(items, list)
    assert body["next_cursor"] is None
    return [item["reference"] for item in items]


FIELDS = (
    "phone_number",
    "store",
    "status",
    "reference",
    "source",
    "code",
    "order",
    "since",
    "until",
    "limit",
    "cursor",
)


@pytest.fixture
def filled(client: FlaskClient, crmtext: FakeCrmText) -> FlaskClient:
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
        ({"status": "pending"}, "ed"),
        ({"status": "rejected"}, "c"),
        ({"status": "failed"}, ""),
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
        ({"code": "customer_not_found"}, "c"),
        ({"code": "crmtext_unavailable", "status": "pending"}, "e"),
        ({"code": "internal_error"}, ""),
        ({"order": "newest"}, "edcba"),
        ({"order": "oldest"}, "abcde"),
        ({"order": "oldest", "status": "opted_out"}, "ab"),
        ({"limit": 200}, "edcba"),
        (
            dict.fromkeys(FIELDS),
            "edcba",
        ),
    ],
)
def test_a_search_finds_what_matches_all_fields_in_the_order_asked_for(
    filled: FlaskClient, fields: dict[str, object], references: str
) -> None:
    assert found(filled, fields) == list(references)


def test_a_search_shows_whole_resources(filled: FlaskClient) -> None:
    items = ok(post(filled, {"reference": "d"}, address=SEARCH))["items"]

    assert isinstance(items, list)
    assert [steady(item) for item in items] == [PENDING | {"reference": "d"}]


def test_since_is_inclusive_and_until_is_exclusive(filled: FlaskClient) -> None:
    items = ok(post(filled, {}, address=SEARCH))["items"]
    assert isinstance(items, list)
    d, b = (item["created_at"] for item in (items[1], items[3]))

    assert found(filled, {"since": b, "until": d}) == ["c", "b"]


def test_a_key_bound_to_a_store_finds_only_that_store(filled: FlaskClient) -> None:
    assert found(filled, {}, BURGER_BEARER) == ["c", "b"]
    assert found(filled, {"store": "BURGER"}, BURGER_BEARER) == ["c", "b"]
    assert found(filled, {"phone_number": "9995559999"}, BURGER_BEARER) == ["b"]
    assert refusal(post(filled, {"store": "PIZZA"}, BURGER_BEARER, SEARCH)) == {
        "code": "forbidden",
        "detail": "The API key may not act on store PIZZA.",
    }


@pytest.mark.parametrize(("order", "expected"), [(None, "edcba"), ("oldest", "abcde")])
@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_pages_show_everything_once(
    filled: FlaskClient, limit: int, order: str | None, expected: str
) -> None:
    references: list[str] = []
    cursor: object = None
    for _ in range(5 // limit + 1):
        fields = {"limit": limit, "cursor": cursor, "order": order}
        page = ok(post(filled, fields, address=SEARCH))
        assert isinstance(page["items"], list)
        references += [item["reference"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert (references, cursor) == (list(expected), None)


def test_pages_are_stable_while_more_comes_in(filled: FlaskClient) -> None:
    page = ok(post(filled, {"limit": 2}, address=SEARCH))
    post(filled, BODY | {"reference": "f"}, ASYNC)

    assert found(filled, {"cursor": page["next_cursor"]}) == list("cba")


def test_a_page_has_fifty_items_by_default(client: FlaskClient) -> None:
    for n in range(51):
        post(client, BODY | {"reference": str(n)}, ASYNC)

    page = ok(post(client, {}, address=SEARCH))
    assert isinstance(page["items"], list)
    assert len(page["items"]) == 50
    assert found(client, {"cursor": page["next_cursor"]}) == ["0"]


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "\u00e9", "a" * 500, "=", "null"])
def test_a_made_up_cursor_is_refused(refused_client: FlaskClient, cursor: str) -> None:
    assert refusal(post(refused_client, {"cursor": cursor}, address=SEARCH)) == {
        "code": "invalid_request",
        "detail": "The cursor is not a next_cursor of this search; start again without one.",
        "errors": [
            {
                "pointer": "/cursor",
                "code": "invalid",
                "detail": "cursor is not a next_cursor of this search; start again without one.",
            }
        ],
    }


def test_a_cursor_is_refused_in_another_search(filled: FlaskClient) -> None:
    cursor = ok(post(filled, {"limit": 1}, address=SEARCH))["next_cursor"]

    for field in ({"store": "PIZZA"}, {"code": "customer_not_found"}, {"order": "oldest"}):
        other = post(filled, {"cursor": cursor, **field}, address=SEARCH)
        assert refusal(other)["code"] == "invalid_request"


def test_a_cursor_belongs_to_what_a_search_means(filled: FlaskClient) -> None:
    cursor = ok(post(filled, {"limit": 1, "phone_number": NUMBER}, address=SEARCH))["next_cursor"]
    same = {"phone_number": f"+1 {NUMBER}", "order": "newest", "status": None, "cursor": cursor}

    assert found(filled, same) == ["c", "a"]


def test_a_cursor_shows_another_key_only_what_it_may_see(filled: FlaskClient) -> None:
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
        ({"code": "timeout"}, "/code", "invalid"),
        ({"code": "not_found"}, "/code", "invalid"),
        ({"order": "desc"}, "/order", "invalid"),
        ({"order": 1}, "/order", "invalid"),
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
def test_an_invalid_search_is_refused(
    refused_client: FlaskClient, fields: dict[str, object], pointer: str, code: str
) -> None:
    problem = refusal(post(refused_client, fields, address=SEARCH))

    assert isinstance(problem["errors"], list)
    assert [(one["pointer"], one["code"]) for one in problem["errors"]] == [(pointer, code)]


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"limit": 1, "limit": 2}'])
def test_a_search_needs_a_json_object(refused_client: FlaskClient, body: bytes) -> None:
    assert refusal(post(refused_client, body, address=SEARCH))["code"] == "invalid_json"


def test_an_unknown_code_is_answered_with_those_that_an_opt_out_can_have(
    refused_client: FlaskClient,
) -> None:
    assert refusal(post(refused_client, {"code": "timeout"}, address=SEARCH))["detail"] == (
        "Some fields are not valid: code must be one of invalid_phone_number, customer_not_found, "
        "crmtext_rejected, crmtext_auth_failed, crmtext_rate_limited, crmtext_unavailable, "
        "crmtext_unreachable, crmtext_timeout, crmtext_invalid_response, internal_error."
    )
