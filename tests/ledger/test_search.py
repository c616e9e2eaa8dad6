"""Searching, retrying in bulk and summing up, and the indexes that keep them fast."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import func, insert, select, text, update

from gateway.consent import Order, Outcome
from gateway.errors import ErrorCode, Failure
from gateway.ledger.intake import Entry
from gateway.ledger.ledger import Ledger
from gateway.ledger.search import Criteria, FailedOptOuts
from gateway.ledger.tables import opt_outs
from tests.support.factories import NUMBER, make_opt_out_request
from tests.support.ledgers import (
    NOT_FOUND,
    OPTED_OUT,
    TIMEOUT,
    accepted,
    claimed,
    end_attempt,
    found,
    give_up,
    let_pass,
)


def test_a_search_finds_what_matches_all_criteria_newest_first(ledger: Ledger) -> None:
    pizza = accepted(ledger, reference="one")
    other = accepted(ledger, "9995550001", store="BURGER", reference="two", source="webhook:shop")
    newest = accepted(ledger, reference="one", store="BURGER")
    assert end_attempt(ledger, claimed(ledger), OPTED_OUT)
    pizza = found(ledger, pizza.id)

    def search(criteria: Criteria) -> list[str]:
        return [one.id for one in ledger.search(criteria, 9)]

    assert ledger.search(Criteria(), 9) == [newest, other, pizza]
    assert ledger.search(Criteria(), 2) == [newest, other]
    assert search(Criteria(phone_number=NUMBER)) == [newest.id, pizza.id]
    assert search(Criteria(store="BURGER")) == [newest.id, other.id]
    assert search(Criteria(status="opted_out")) == [pizza.id]
    assert search(Criteria(reference="two")) == [other.id]
    assert search(Criteria(source="webhook:shop")) == [other.id]
    assert search(Criteria(stores=frozenset({"PIZZA"}))) == [pizza.id]
    assert search(Criteria(stores=frozenset())) == []
    assert search(Criteria(since=other.created_at)) == [newest.id, other.id]
    assert search(Criteria(until=other.created_at)) == [pizza.id]
    assert search(Criteria(phone_number=NUMBER, store="PIZZA", status="pending")) == []
    assert search(Criteria(after=(newest.created_at, newest.id))) == [other.id, pizza.id]


@pytest.mark.parametrize("order", Order)
def test_pages_lose_none_and_repeat_none_even_within_one_microsecond(
    ledger: Ledger, order: Order
) -> None:
    entries = [Entry([make_opt_out_request(reference=str(number))]) for number in range(10)]
    recorded = [one.opt_out.id for one in ledger.accept(entries)]
    seen: list[str] = []
    after: tuple[datetime, str] | None = None
    while page := ledger.search(Criteria(order=order, after=after), 3):
        seen += [one.id for one in page]
        after = (page[-1].created_at, page[-1].id)
    assert seen == sorted(recorded, reverse=order is Order.NEWEST)


def test_an_unknown_id_is_none(ledger: Ledger) -> None:
    assert ledger.find(str(uuid4())) is None
    assert ledger.attempts_of(str(uuid4())) == []
    assert ledger.search(Criteria(), 9) == []


def test_all_that_failed_and_match_are_pending_again(ledger: Ledger) -> None:
    old, burger, rejected, fine = (
        accepted(ledger, f"999555000{number}", store=store).id
        for number, store in enumerate(["PIZZA", "BURGER", "PIZZA", "PIZZA"])
    )
    by_id = {claim.opt_out.id: claim for claim in ledger.claim_due(9, patience_seconds=0).claims}
    give_up(ledger, by_id[old], Outcome(TIMEOUT))
    give_up(ledger, by_id[burger], Outcome(Failure(ErrorCode.CRMTEXT_AUTH_FAILED, "expired")))
    end_attempt(ledger, by_id[rejected], Outcome(NOT_FOUND))
    end_attempt(ledger, by_id[fine], OPTED_OUT)

    def retry(
        *, code: str | None = None, store: str | None = None, hours: int | None = None
    ) -> int:
        age = None if hours is None else timedelta(hours=hours)
        which = FailedOptOuts(code, store, age)
        counted = ledger.count_failed(which)
        retried = ledger.retry_failed(which, limit=9)
        assert sum(counted.values()) == retried
        return retried

    let_pass(ledger, timedelta(days=10, hours=2))
    assert ledger.count_failed(FailedOptOuts()) == {"crmtext_auth_failed": 1, "crmtext_timeout": 1}
    assert ledger.summary().refused_credentials == {"BURGER": 1}
    assert [retry(code="ledger_unavailable"), retry(hours=1), retry(store="TACOS")] == [0, 0, 0]
    assert retry(code="crmtext_auth_failed", store="PIZZA") == 0
    assert retry(code="crmtext_auth_failed", store="BURGER", hours=3) == 1
    assert retry() == 1
    states = [found(ledger, one).status for one in (old, burger, rejected, fine)]
    assert states == ["pending", "pending", "rejected", "opted_out"]
    assert len(ledger.claim_due(9, patience_seconds=0).claims) == 2


def test_the_summary_counts_and_shows_how_long_somebody_has_waited(ledger: Ledger) -> None:
    empty = ledger.summary()
    assert (dict(empty.opt_outs), dict(empty.attempts), empty.pending) == ({}, {}, 0)
    assert (empty.oldest_pending_seconds, empty.worker_seen_at) == (0, None)
    accepted(ledger)
    accepted(ledger, "9995550001", source="webhook:shop")
    end_attempt(ledger, claimed(ledger), OPTED_OUT)
    let_pass(ledger, timedelta(minutes=5))
    claimed(ledger)
    ledger.worker_is_alive()
    summary = ledger.summary()
    assert dict(summary.opt_outs) == {
        ("opted_out", "api:billing"): 1,
        ("pending", "webhook:shop"): 1,
    }
    assert dict(summary.attempts) == {"opted_out": 1, None: 1}
    assert summary.pending == 1
    assert 300 <= summary.oldest_pending_seconds < 330
    assert summary.worker_seen_at is not None
    assert timedelta(0) <= summary.now - summary.worker_seen_at < timedelta(seconds=5)


def test_postgres_uses_the_clock_of_the_database_and_sqlite_that_of_the_machine(
    ledger: Ledger,
) -> None:
    with ledger.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            now = connection.scalar(select(func.clock_timestamp()))
        else:
            now = datetime.now(UTC)
    assert now is not None
    assert abs(ledger.summary().now - now) < timedelta(seconds=1)
    assert ledger.summary().now.utcoffset() == timedelta(0)


@pytest.mark.parametrize("due", [True, False])
def test_claiming_and_look_ups_use_their_indexes_however_large_the_table_is(
    ledger: Ledger,
    due: bool,
) -> None:
    template = {
        column.name: value
        for column, value in zip(opt_outs.c, _one_row(ledger, accepted(ledger).id), strict=True)
    }
    settled_rows = [
        template
        | {
            "id": str(uuid4()),
            "status": "opted_out",
            "next_attempt_at": None,
            "phone_number": f"{9990000000 + number}",
            "reference": f"ticket-{number}",
        }
        for number in range(3000)
    ]
    with ledger.engine.begin() as connection:
        connection.execute(insert(opt_outs), settled_rows)
        if not due:
            connection.execute(update(opt_outs).values(next_attempt_at=None))
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    assert "opt_outs_due" in _plan(
        ledger, "next_attempt_at <= '2030-01-01' ORDER BY next_attempt_at LIMIT 32"
    )
    for look_up, index in {
        "phone_number = '9990000007' ORDER BY created_at DESC, id DESC LIMIT 51": "by_number",
        "reference = 'ticket-7' ORDER BY created_at DESC, id DESC LIMIT 51": "by_reference",
        "true ORDER BY created_at DESC, id DESC LIMIT 51": "newest",
    }.items():
        assert f"opt_outs_{index}" in _plan(ledger, look_up)


def _one_row(ledger: Ledger, opt_out_id: str) -> tuple[object, ...]:
    with ledger.engine.connect() as connection:
        return tuple(connection.execute(select(opt_outs).where(opt_outs.c.id == opt_out_id)).one())


def _plan(ledger: Ledger, condition: str) -> str:
    explain = "EXPLAIN QUERY PLAN" if ledger.engine.dialect.name == "sqlite" else "EXPLAIN"
    with ledger.engine.connect() as connection:
        rows = connection.execute(text(f"{explain} SELECT id FROM opt_outs WHERE {condition}"))
        return "\n".join(str(row) for row in rows)


def test_a_row_that_cannot_be_read_does_not_stop_the_others(ledger: Ledger) -> None:
    poisoned = accepted(ledger).id
    with ledger.engine.begin() as connection:
        connection.execute(update(opt_outs).values(customer={"no": "customer"}))
    sound = accepted(ledger).id
    claims = [ledger.claim_due(1, patience_seconds=0).claims for _ in range(3)]
    ids = [[claim.opt_out.id for claim in some] for some in claims]
    assert ids == [[], [sound], []]
    assert len(ledger.attempts_of(poisoned)) == 1
