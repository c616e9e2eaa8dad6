"""Only a cursor that was given out for a search is taken back, and only for this search."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from gateway.consent import OptOut, Status
from gateway.errors import ErrorCode, FieldError, GatewayError
from gateway.web.cursors import Cursors

CURSORS = Cursors(b"a secret that all processes share")
SEARCH: dict[str, object] = {"store": "PIZZA", "since": datetime(2026, 11, 1, tzinfo=UTC)}
CREATED_AT = datetime(2026, 11, 22, 20, 0, 0, 123456, tzinfo=UTC)
ID = "0aa50109-1da7-45b8-ba01-486ce4abb337"
LAST = OptOut(
    id=ID,
    status=Status.PENDING,
    phone_number="9995551234",
    store="PIZZA",
    reference=None,
    reason=None,
    means=None,
    source="api:billing",
    customer=None,
    already_opted_out=False,
    attempts=0,
    error=None,
    requested_at=CREATED_AT,
    created_at=CREATED_AT,
    opted_out_at=None,
    next_attempt_at=None,
    phone_number_received="9995551234",
    request_id="request-1",
    delivery_id=None,
)
CURSOR = CURSORS.write(LAST, SEARCH)


def read(cursor: str, search: dict[str, object] | None = None) -> object:
    try:
        return CURSORS.read(cursor, SEARCH if search is None else search)
    except GatewayError as error:
        return error.code, error.failure.errors


REFUSED = (
    ErrorCode.INVALID_REQUEST,
    (
        FieldError(
            "/cursor",
            "invalid",
            "cursor is not a next_cursor of this search; start again without one.",
        ),
    ),
)


def test_a_cursor_leads_back_to_where_the_page_ended() -> None:
    assert read(CURSOR) == (CREATED_AT, ID)


def test_a_cursor_is_safe_in_json_and_addresses() -> None:
    assert re.fullmatch("[A-Za-z0-9._-]+", CURSOR)


def test_a_cursor_shows_no_more_than_a_time_and_an_id() -> None:
    assert URLSafeSerializer("").loads_unsafe(CURSOR) == (False, [CREATED_AT.isoformat(), ID])


def test_processes_with_the_same_secret_accept_each_others_cursors() -> None:
    other = Cursors(b"a secret that all processes share")

    assert other.read(CURSOR, SEARCH) == (CREATED_AT, ID)


@pytest.mark.parametrize(
    "search",
    [
        {},
        {"store": "BURGER", "since": datetime(2026, 11, 1, tzinfo=UTC)},
        {"store": "PIZZA", "since": datetime(2026, 11, 2, tzinfo=UTC)},
        {"store": "PIZZA", "since": None},
    ],
)
def test_a_cursor_of_another_search_is_refused(search: dict[str, object]) -> None:
    assert read(CURSOR, search) == REFUSED


@pytest.mark.parametrize("place", range(0, len(CURSOR) - 1, 3))
def test_a_changed_cursor_is_refused(place: int) -> None:
    changed = CURSOR[:place] + ("A" if CURSOR[place] != "A" else "B") + CURSOR[place + 1 :]

    assert read(changed) == REFUSED


def test_a_cursor_made_with_another_secret_is_refused() -> None:
    assert read(Cursors(b"another secret").write(LAST, SEARCH)) == REFUSED


@given(st.text(max_size=200))
def test_no_other_text_is_accepted(text: str) -> None:
    assert read(text) == REFUSED
