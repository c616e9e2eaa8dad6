"""One opt-out in the ledger, from acceptance to its end."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import update

from gateway.consent import Attempt, OptOut, Outcome, Status
from gateway.errors import CrmTextWords, ErrorCode, Failure, LedgerUnavailable
from gateway.ledger.intake import Entry
from gateway.ledger.ledger import Ledger
from gateway.ledger.migrations.upgrade import upgrade
from gateway.ledger.schedule import delay_seconds, enough_attempts
from gateway.ledger.search import Criteria
from gateway.ledger.tables import metadata, opt_outs
from tests.support.factories import NUMBER, make_opt_out_request
from tests.support.ledgers import (
    CUSTOMER,
    LEASE,
    NOT_FOUND,
    OPTED_OUT,
    TIMED_OUT,
    TIMEOUT,
    WORDS,
    accepted,
    claimed,
    end_attempt,
    found,
    let_pass,
    make_ledger,
)
from tests.support.postgres import running_postgres


def test_an_accepted_opt_out_is_pending_due_and_holds_what_a_dispute_needs(ledger: Ledger) -> None:
    asked_at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    request = make_opt_out_request(
        "+1 (999) 555-1234",
        reference="ticket-123",
        reason="called the shop",
        means="phone_call",
        requested_at=asked_at,
        request_id="request-7",
    )
    before = ledger.summary().now
    (recorded,) = ledger.accept([Entry([request])])
    opt_out = recorded.opt_out
    assert opt_out == OptOut(
        id=opt_out.id,
        status=Status.PENDING,
        phone_number=NUMBER,
        store="PIZZA",
        reference="ticket-123",
        reason="called the shop",
        means="phone_call",
        source="api:billing",
        customer=None,
        already_opted_out=False,
        attempts=0,
        error=None,
        requested_at=asked_at,
        created_at=opt_out.created_at,
        opted_out_at=None,
        next_attempt_at=opt_out.created_at,
        phone_number_received="+1 (999) 555-1234",
        request_id="request-7",
        delivery_id=None,
    )
    assert before <= opt_out.created_at <= ledger.summary().now
    assert ledger.find(opt_out.id) == opt_out


def test_a_request_without_a_time_gets_that_of_its_arrival(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    assert opt_out.requested_at == opt_out.created_at


def test_an_unusable_number_is_on_record_as_rejected_and_never_claimed(ledger: Ledger) -> None:
    request = make_opt_out_request("999-555-123")
    (recorded,) = ledger.accept([Entry([request])])
    opt_out = recorded.opt_out
    failure = Failure(
        ErrorCode.INVALID_PHONE_NUMBER,
        "The phone number has 9 digits; a US number has 10, or 11 with the leading 1.",
    )
    assert (opt_out.status, opt_out.phone_number, opt_out.error, opt_out.next_attempt_at) == (
        *(Status.REJECTED, None, failure, None),
    )
    assert ledger.claim_due(9, patience_seconds=0).claims == []
    assert ledger.retry(opt_out.id) is None
    assert ledger.find(opt_out.id) == opt_out


def test_texts_with_odd_characters_come_back_unchanged(ledger: Ledger) -> None:
    odd = "Grüße 🍕 \u202e 'quoted\" %s :name \\x00 \x1f\x7f\n\t{}\u2028\U0010ffff"
    opt_out = accepted(ledger, reference=odd, reason=odd)
    assert (opt_out.reference, opt_out.reason) == (odd, odd)
    assert ledger.search(Criteria(reference=odd), 9) == [opt_out]
    claim = claimed(ledger)
    customer = replace(CUSTOMER, name=odd, status=odd, updated_at=None)
    failure = replace(NOT_FOUND, detail=odd, crmtext=CrmTextWords(odd, odd))
    assert end_attempt(ledger, claim, Outcome(failure, customer, crmtext=CrmTextWords(odd, odd)))
    after = found(ledger, opt_out.id)
    assert (after.error, after.customer) == (failure, customer)
    assert [one.crmtext for one in ledger.attempts_of(opt_out.id)] == [CrmTextWords(odd, odd)]


def test_a_claimed_opt_out_that_is_confirmed_is_opted_out_with_its_customer(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    claim = claimed(ledger)
    assert claim.opt_out == replace(opt_out, attempts=1, next_attempt_at=claim.claimed_at + LEASE)
    assert ledger.attempts_of(opt_out.id) == [Attempt(claim.claimed_at, None, None, None, None)]
    assert end_attempt(ledger, claim, OPTED_OUT) is True
    after = found(ledger, opt_out.id)
    assert after == replace(
        opt_out,
        status=Status.OPTED_OUT,
        customer=CUSTOMER,
        attempts=1,
        opted_out_at=after.opted_out_at,
        next_attempt_at=None,
    )
    assert after.opted_out_at is not None
    assert claim.claimed_at <= after.opted_out_at <= ledger.summary().now
    (attempt,) = ledger.attempts_of(opt_out.id)
    assert attempt == Attempt(claim.claimed_at, attempt.ended_at, "opted_out", 200, WORDS)
    assert ledger.claim_due(9, patience_seconds=0).claims == []


def test_a_refused_opt_out_is_rejected_and_can_be_retried(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    assert end_attempt(ledger, claimed(ledger), Outcome(NOT_FOUND, crmtext=NOT_FOUND.crmtext))
    rejected = found(ledger, opt_out.id)
    assert (rejected.status, rejected.error, rejected.next_attempt_at) == (
        *(Status.REJECTED, NOT_FOUND, None),
    )
    assert ledger.claim_due(9, patience_seconds=0).claims == []
    again = ledger.retry(opt_out.id)
    assert again is not None
    assert again == replace(
        rejected, status=Status.PENDING, error=None, next_attempt_at=again.next_attempt_at
    )
    assert claimed(ledger).opt_out.attempts == 2


def test_only_a_failed_or_rejected_opt_out_can_be_retried(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    assert ledger.retry(opt_out.id) is None
    claim = claimed(ledger)
    assert ledger.retry(opt_out.id) is None
    assert end_attempt(ledger, claim, OPTED_OUT)
    assert ledger.retry(opt_out.id) is None
    assert ledger.retry(str(uuid4())) is None
    assert found(ledger, opt_out.id).status == Status.OPTED_OUT


def test_failures_are_retried_later_and_later(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    waits = []
    for failures in range(5):
        claim = claimed(ledger)
        assert claim.failures == failures
        assert end_attempt(ledger, claim, TIMED_OUT)
        after = found(ledger, opt_out.id)
        assert (after.status, after.error, after.attempts) == (
            *(Status.PENDING, TIMEOUT, failures + 1),
        )
        assert after.next_attempt_at is not None
        waits.append((after.next_attempt_at - claim.claimed_at).total_seconds())
        assert ledger.claim_due(9, patience_seconds=0).claims == []
        let_pass(ledger, timedelta(seconds=waits[-1] + 1))
    assert [round(wait) for wait in waits] == [2, 4, 8, 16, 32]
    outcomes = [one.outcome for one in ledger.attempts_of(opt_out.id)]
    assert outcomes == ["crmtext_timeout"] * 5


def fail_often(ledger: Ledger, failures: int) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(update(opt_outs).values(failures=failures))


def test_after_the_days_of_delivery_it_is_failed_with_its_last_error(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    fail_often(ledger, 18)
    let_pass(ledger, timedelta(days=9, hours=23))
    claim = claimed(ledger)
    late = replace(TIMEOUT, retry_after=6 * 3600)
    assert end_attempt(ledger, claim, Outcome(late))
    last = found(ledger, opt_out.id)
    assert (last.status, last.next_attempt_at) == (Status.PENDING, claim.give_up_at)
    let_pass(ledger, timedelta(hours=2))
    refused = Failure(ErrorCode.CRMTEXT_AUTH_FAILED, "expired")
    assert end_attempt(ledger, claimed(ledger), Outcome(refused))
    ended = found(ledger, opt_out.id)
    assert (ended.status, ended.error) == (Status.FAILED, refused)
    assert (ended.next_attempt_at, ended.attempts) == (None, 2)
    assert ledger.retry(opt_out.id) is not None
    again = claimed(ledger)
    assert again.give_up_at - again.claimed_at > timedelta(days=9, hours=23)
    assert again.failures == 0


def test_a_clock_that_jumps_ahead_does_not_fail_what_was_hardly_tried(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    let_pass(ledger, timedelta(days=3650))
    for failures in (0, 1, 18):
        fail_often(ledger, failures)
        claim = claimed(ledger)
        assert end_attempt(ledger, claim, TIMED_OUT)
        after = found(ledger, opt_out.id)
        assert after.status == Status.PENDING
        assert after.next_attempt_at is not None
        delay = (after.next_attempt_at - claim.claimed_at).total_seconds()
        assert round(delay) == delay_seconds(failures + 1, None, 1.0)
        let_pass(ledger, timedelta(seconds=delay + 1))
    assert end_attempt(ledger, claimed(ledger), TIMED_OUT)
    assert found(ledger, opt_out.id).status == Status.FAILED


@pytest.mark.parametrize(
    ("days", "attempts"),
    [
        (0.00001, 1),  # under a second
        (3 / 86400, 2),
        (6 / 86400, 3),
        (1 / 24, 11),
        (0.5, 20),
        (10, 20),
        (9999, 20),
    ],
)
def test_as_many_attempts_are_enough_as_the_delays_allow_within_the_days_but_no_more_than_20(
    days: float, attempts: int
) -> None:
    assert enough_attempts(days) == attempts


@pytest.mark.parametrize(
    ("failures", "retry_after", "stretch", "seconds"),
    [
        (1, None, 1.0, 2.0),
        (1, None, 1.25, 2.5),
        (2, None, 1.0, 4.0),
        (10, None, 1.0, 1024.0),
        (11, None, 1.0, 2048.0),
        (12, None, 1.0, 3600.0),
        (12, None, 1.25, 3600.0),
        (10**9, None, 1.25, 3600.0),
        (1, 1, 1.0, 2.0),
        (1, 60, 1.25, 60.0),
        (30, 21600, 1.0, 21600.0),
    ],
)
def test_the_next_attempt_comes_after_a_doubling_delay_or_as_crm_text_wishes(
    failures: int, retry_after: int | None, stretch: float, seconds: float
) -> None:
    assert delay_seconds(failures, retry_after, stretch) == seconds


def test_a_status_that_only_a_newer_version_knows_is_shown_as_it_is(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    with ledger.engine.begin() as connection:
        connection.execute(update(opt_outs).values(status="mystery", next_attempt_at=None))

    assert found(ledger, opt_out.id).status == "mystery"
    assert [one.status for one in ledger.search(Criteria(), 9)] == ["mystery"]
    assert dict(ledger.summary().opt_outs) == {("mystery", "api:billing"): 1}
    assert ledger.retry(opt_out.id) is None


@pytest.mark.postgres
def test_a_database_in_another_encoding_is_refused_and_keeps_no_outcome_from_being_recorded() -> (
    None
):
    server = running_postgres()
    url = server.new_database(
        template="template0", options="ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    ledger = make_ledger(url)
    with pytest.raises(LedgerUnavailable) as refused:
        upgrade(ledger.engine)
    assert refused.value.detail == (
        "The database's encoding is LATIN1, which cannot store every text; create one with "
        "ENCODING 'UTF8'."
    )
    metadata.create_all(ledger.engine)  # as an older version would have done
    opt_out = accepted(ledger)
    odd = Failure(ErrorCode.CUSTOMER_NOT_FOUND, "unknown", CrmTextWords("404", "no 🍕"))
    customer = replace(CUSTOMER, name="Jo 🍕")

    assert end_attempt(ledger, claimed(ledger), Outcome(odd, customer, crmtext=odd.crmtext))

    after = found(ledger, opt_out.id)
    assert (after.status, after.error) == (
        Status.REJECTED,
        replace(odd, crmtext=CrmTextWords("404", "no ?")),
    )
    ledger.engine.dispose()
