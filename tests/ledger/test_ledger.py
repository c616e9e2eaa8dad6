"""The ledger, each test once on SQLite and once on a real PostgreSQL."""

import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, insert, select, text, update

from gateway.consent import Attempt, Customer, OptOut, OptOutRequest, Outcome, Status
from gateway.delivery.attempts import delay_seconds, settled
from gateway.errors import ERRORS, CrmTextWords, ErrorCode, Failure, GatewayError, LedgerUnavailable
from gateway.ledger import migrations
from gateway.ledger.ledger import Claim, Ledger, Receipt
from gateway.ledger.migrations import VERSIONS, is_current
from gateway.ledger.migrations.upgrade import upgrade
from gateway.ledger.search import Criteria
from gateway.ledger.tables import attempts, clock, metadata, opt_outs
from tests.support.factories import NUMBER, free_port, make_opt_out_request
from tests.support.ledgers import accepted, at_once, found, let_pass, make_ledger, rows_in
from tests.support.postgres import Postgres, new_postgres_ledger, running_postgres

LEASE = timedelta(seconds=11)  # CRMTEXT_TIMEOUT=1, and ten seconds more
WORDS = CrmTextWords("200", "ok")
CUSTOMER = Customer(
    id="1234567891011",
    name="Jöhn 'Queue' 🍕",
    status="opted_out",
    store_id="456",
    phone_number=NUMBER,
    updated_at=datetime(2014, 8, 11, 21, 23, 36, tzinfo=UTC),
)
OPTED_OUT = Outcome(None, CUSTOMER, http_status=200, crmtext=WORDS)
TIMEOUT = Failure(ErrorCode.CRMTEXT_TIMEOUT, "no answer within 1 second")
TIMED_OUT = Outcome(TIMEOUT)
NOT_FOUND = Failure(ErrorCode.CUSTOMER_NOT_FOUND, "unknown", CrmTextWords("404", "who?"))


def begun(ledger: Ledger, receipt: Receipt | None = None, *, in_background: bool = False) -> Claim:
    """The claim of a request that is delivered at once."""
    request = make_opt_out_request()
    claim = ledger.begin(request, receipt, patience_seconds=2, in_background=in_background).claim
    assert claim is not None
    return claim


def claimed(ledger: Ledger) -> Claim:
    (claim,) = ledger.claim_due(1, patience_seconds=0).claims
    return claim


def settle(ledger: Ledger, claim: Claim, outcome: Outcome) -> bool:
    return ledger.settle(claim, settled(claim, outcome, 1.0), outcome)


# One opt-out, from beginning to end


def test_an_accepted_opt_out_is_pending_due_and_holds_what_a_dispute_needs(ledger: Ledger) -> None:
    asked_at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    request = make_opt_out_request(
        "+1 (999) 555-1234",
        reference="ticket-123",
        reason="called the shop",
        requested_at=asked_at,
        request_id="request-7",
    )
    before = ledger.summary().now
    (recorded,) = ledger.accept([(request, None)])
    opt_out = recorded.opt_out
    assert opt_out == OptOut(
        id=opt_out.id,
        status=Status.PENDING,
        phone_number=NUMBER,
        store="PIZZA",
        reference="ticket-123",
        reason="called the shop",
        source="api:billing",
        customer=None,
        already_opted_out=False,
        attempts=0,
        error=None,
        requested_at=asked_at,
        created_at=opt_out.created_at,
        opted_out_at=None,
        next_attempt_at=opt_out.created_at,
    )
    assert before <= opt_out.created_at <= ledger.summary().now
    assert ledger.find(opt_out.id) == opt_out
    with ledger.engine.connect() as connection:
        row = connection.execute(select(opt_outs)).one()
    assert (row.phone_number_received, row.request_id) == ("+1 (999) 555-1234", "request-7")


def test_a_request_without_its_own_time_was_asked_for_when_it_came(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    assert opt_out.requested_at == opt_out.created_at


def test_an_unusable_number_is_on_record_as_rejected_and_never_claimed(ledger: Ledger) -> None:
    request = make_opt_out_request("999-555-123")
    (recorded,) = ledger.accept([(request, None)])
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
    assert settle(ledger, claim, Outcome(failure, customer, crmtext=CrmTextWords(odd, odd)))
    after = found(ledger, opt_out.id)
    assert (after.error, after.customer) == (failure, customer)
    assert [one.crmtext for one in ledger.attempts_of(opt_out.id)] == [CrmTextWords(odd, odd)]


def test_a_claimed_opt_out_that_is_confirmed_is_opted_out_with_its_customer(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    claim = claimed(ledger)
    assert claim.opt_out == replace(opt_out, attempts=1, next_attempt_at=claim.claimed_at + LEASE)
    assert ledger.attempts_of(opt_out.id) == [Attempt(claim.claimed_at, None, None, None, None)]
    assert settle(ledger, claim, OPTED_OUT) is True
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
    assert settle(ledger, claimed(ledger), Outcome(NOT_FOUND, crmtext=NOT_FOUND.crmtext))
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
    assert settle(ledger, claim, OPTED_OUT)
    assert ledger.retry(opt_out.id) is None
    assert ledger.retry(str(uuid4())) is None
    assert found(ledger, opt_out.id).status == Status.OPTED_OUT


def test_a_caller_who_was_told_of_a_trouble_has_a_failed_opt_out(ledger: Ledger) -> None:
    claim = begun(ledger)
    assert settle(ledger, claim, TIMED_OUT)
    opt_out = found(ledger, claim.opt_out.id)
    assert (opt_out.status, opt_out.error, opt_out.next_attempt_at) == (
        *(Status.FAILED, TIMEOUT, None),
    )
    assert ledger.claim_due(9, patience_seconds=0).claims == []


def test_troubles_in_the_background_are_tried_again_later_and_later(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    waits = []
    for failures in range(5):
        claim = claimed(ledger)
        assert claim.failures == failures
        assert settle(ledger, claim, TIMED_OUT)
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


def test_after_the_days_of_delivery_it_is_failed_with_its_last_error(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    assert settle(ledger, claimed(ledger), TIMED_OUT)
    let_pass(ledger, timedelta(days=9, hours=23))
    claim = claimed(ledger)
    late = replace(TIMEOUT, retry_after=6 * 3600)
    assert settle(ledger, claim, Outcome(late))
    last = found(ledger, opt_out.id)
    assert (last.status, last.next_attempt_at) == (Status.PENDING, claim.give_up_at)
    let_pass(ledger, timedelta(hours=2))
    refused = Failure(ErrorCode.CRMTEXT_AUTH_FAILED, "expired")
    assert settle(ledger, claimed(ledger), Outcome(refused))
    ended = found(ledger, opt_out.id)
    assert (ended.status, ended.error, ended.next_attempt_at, ended.attempts) == (
        *(Status.FAILED, refused, None, 3),
    )
    assert ledger.retry(opt_out.id) is not None
    again = claimed(ledger)
    assert again.give_up_at - again.claimed_at > timedelta(days=9, hours=23)
    assert again.failures == 0


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


# Claims and leases


def test_a_claim_is_exclusive_until_its_lease_ends(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    first = claimed(ledger)
    let_pass(ledger, LEASE - timedelta(seconds=2))
    assert ledger.claim_due(9, patience_seconds=0).claims == []
    let_pass(ledger, timedelta(seconds=3))
    second = claimed(ledger)
    assert (first.opt_out.id, second.opt_out.id) == (opt_out.id, opt_out.id)
    assert second.opt_out.attempts == 2
    assert second.token != first.token


def test_a_process_that_died_answering_a_caller_leaves_a_row_for_the_worker(
    ledger: Ledger,
) -> None:
    claim = begun(ledger)
    assert ledger.claim_due(9, patience_seconds=0).claims == []
    let_pass(ledger, LEASE + timedelta(seconds=1))
    taken_over = claimed(ledger)
    assert (taken_over.opt_out.id, taken_over.in_background) == (claim.opt_out.id, True)


@pytest.mark.parametrize("outcome", [OPTED_OUT, TIMED_OUT, Outcome(NOT_FOUND)])
def test_settling_after_the_claim_was_lost_changes_nothing(
    ledger: Ledger, outcome: Outcome
) -> None:
    accepted(ledger)
    slow = claimed(ledger)
    let_pass(ledger, LEASE + timedelta(seconds=1))
    fast = claimed(ledger)
    before = found(ledger, slow.opt_out.id)
    assert settle(ledger, slow, outcome) is False
    assert found(ledger, slow.opt_out.id) == before
    assert settle(ledger, fast, OPTED_OUT) is True
    after = found(ledger, slow.opt_out.id)
    assert settle(ledger, slow, outcome) is False
    assert settle(ledger, fast, TIMED_OUT) is False
    assert found(ledger, slow.opt_out.id) == after
    assert after.status == Status.OPTED_OUT


def test_a_lost_claim_s_call_is_on_record_all_the_same(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    slow = claimed(ledger)
    let_pass(ledger, LEASE + timedelta(seconds=1))
    fast = claimed(ledger)
    settle(ledger, fast, OPTED_OUT)
    settle(ledger, slow, TIMED_OUT)
    outcomes = [one.outcome for one in ledger.attempts_of(opt_out.id)]
    assert outcomes == ["crmtext_timeout", "opted_out"]


def test_settling_late_but_before_anybody_took_over_counts(ledger: Ledger) -> None:
    accepted(ledger)
    claim = claimed(ledger)
    let_pass(ledger, LEASE + timedelta(minutes=5))
    assert settle(ledger, claim, OPTED_OUT) is True


def test_those_that_wait_longest_are_claimed_first_and_never_more_than_asked_for(
    ledger: Ledger,
) -> None:
    ids = [accepted(ledger).id for _ in range(5)]
    first = [claim.opt_out.id for claim in ledger.claim_due(3, patience_seconds=0).claims]
    rest = [claim.opt_out.id for claim in ledger.claim_due(3, patience_seconds=0).claims]
    assert (set(first), set(rest)) == (set(ids[:3]), set(ids[3:]))


def test_no_row_is_claimed_twice_by_threads_that_claim_at_once(ledger: Ledger) -> None:
    ids = {accepted(ledger).id for _ in range(60)}
    claims: list[Claim] = []

    def claim_all() -> None:
        while due := ledger.claim_due(7, patience_seconds=0).claims:
            claims.extend(due)

    at_once(*[claim_all] * 6)
    # a thread may find none left while others still hold theirs, so some may remain
    claim_all()
    assert Counter(claim.opt_out.id for claim in claims) == Counter(ids)
    assert {found(ledger, one).attempts for one in ids} == {1}


# Receipts


def test_a_repeat_with_the_same_receipt_is_the_same_opt_out(ledger: Ledger) -> None:
    entry = (make_opt_out_request(), Receipt("key", "body"))
    (first,) = ledger.accept([entry])
    (second,) = ledger.accept([entry])
    assert (first.is_repeat, second.is_repeat) == (False, True)
    assert second.opt_out == first.opt_out
    again = ledger.begin(*entry, patience_seconds=2, in_background=False)
    assert (again.is_repeat, again.claim, again.opt_out) == (True, None, first.opt_out)
    assert rows_in(ledger, opt_outs) == 1


def test_a_receipt_given_twice_in_one_go_is_one_opt_out(ledger: Ledger) -> None:
    entry = (make_opt_out_request(), Receipt("key", "body"))
    first, second = ledger.accept([entry, entry])
    assert first.opt_out == second.opt_out
    assert rows_in(ledger, opt_outs) == 1


def test_a_receipt_with_another_fingerprint_is_refused_and_nothing_of_it_kept(
    ledger: Ledger,
) -> None:
    request = make_opt_out_request()
    ledger.accept([(request, Receipt("key", "body"))])
    other = Receipt("key", "another body")
    entries = [(request, None), (request, other)]
    with pytest.raises(GatewayError) as accepting:
        ledger.accept(entries)
    with pytest.raises(GatewayError) as beginning:
        ledger.begin(request, other, patience_seconds=2, in_background=False)
    codes = [accepting.value.code, beginning.value.code]
    assert codes == [ErrorCode.IDEMPOTENCY_KEY_REUSED] * 2
    assert (rows_in(ledger, opt_outs), rows_in(ledger, attempts)) == (1, 0)


def test_a_receipt_whose_first_request_is_being_answered_is_in_use(ledger: Ledger) -> None:
    receipt = Receipt("key", "body")
    claim = begun(ledger, receipt)
    request = make_opt_out_request()

    def codes() -> list[str]:
        with pytest.raises(GatewayError) as beginning:
            ledger.begin(request, receipt, patience_seconds=2, in_background=False)
        with pytest.raises(GatewayError) as accepting:
            ledger.accept([(request, receipt)])
        return [beginning.value.code, accepting.value.code]

    assert codes() == ["idempotency_key_in_use"] * 2
    let_pass(ledger, LEASE - timedelta(seconds=2))
    assert codes() == ["idempotency_key_in_use"] * 2
    let_pass(ledger, timedelta(seconds=3))  # its process has died
    repeat = ledger.begin(request, receipt, patience_seconds=2, in_background=False)
    assert (repeat.is_repeat, repeat.claim, repeat.opt_out.status) == (True, None, Status.PENDING)
    assert settle(ledger, claimed(ledger), OPTED_OUT)
    repeat = ledger.begin(request, receipt, patience_seconds=2, in_background=False)
    assert (repeat.is_repeat, repeat.opt_out.status) == (True, Status.OPTED_OUT)
    assert repeat.opt_out.id == claim.opt_out.id


@pytest.mark.parametrize("outcome", [OPTED_OUT, Outcome(NOT_FOUND)])
def test_a_receipt_of_one_that_is_done_is_never_tried_again(
    ledger: Ledger, outcome: Outcome
) -> None:
    receipt = Receipt("key", "body")
    claim = begun(ledger, receipt)
    settle(ledger, claim, outcome)
    done = found(ledger, claim.opt_out.id)
    request = make_opt_out_request()
    repeat = ledger.begin(request, receipt, patience_seconds=2, in_background=True)
    (second,) = ledger.accept([(request, receipt)])
    assert (repeat.opt_out, repeat.claim, repeat.is_repeat) == (done, None, True)
    assert (second.opt_out, second.is_repeat) == (done, True)


def test_a_receipt_of_one_that_failed_tries_again_under_the_same_id(ledger: Ledger) -> None:
    receipt = Receipt("key", "body")
    first = begun(ledger, receipt)
    settle(ledger, first, TIMED_OUT)
    second = begun(ledger, receipt)
    assert (second.opt_out.id, second.opt_out.attempts) == (first.opt_out.id, 2)
    settle(ledger, second, TIMED_OUT)
    (third,) = ledger.accept([(make_opt_out_request(), receipt)])
    assert (third.opt_out.id, third.opt_out.status) == (first.opt_out.id, Status.PENDING)
    assert settle(ledger, claimed(ledger), OPTED_OUT)
    assert len(ledger.attempts_of(first.opt_out.id)) == 3
    assert rows_in(ledger, opt_outs) == 1


def test_a_receipt_for_a_day_is_forgotten_after_it_and_not_before(ledger: Ledger) -> None:
    entry = (make_opt_out_request(), Receipt("key", "body", timedelta(hours=24)))
    (first,) = ledger.accept([entry])
    let_pass(ledger, timedelta(hours=23, minutes=59))
    (second,) = ledger.accept([entry])
    let_pass(ledger, timedelta(minutes=2))
    (third,) = ledger.accept([entry])
    (fourth,) = ledger.accept([entry])
    ids = [one.opt_out.id for one in (first, second, third, fourth)]
    assert (ids[0] == ids[1], ids[1] == ids[2], ids[2] == ids[3]) == (True, False, True)
    assert [one.is_repeat for one in (first, second, third, fourth)] == [False, True, False, True]


def test_a_receipt_of_a_key_is_known_for_ever(ledger: Ledger) -> None:
    entry = (make_opt_out_request(), Receipt("key", "body"))
    (first,) = ledger.accept([entry])
    let_pass(ledger, timedelta(days=4 * 365))
    (second,) = ledger.accept([entry])
    assert (second.opt_out.id, second.is_repeat) == (first.opt_out.id, True)


def test_the_same_receipt_at_the_same_instant_is_accepted_once(ledger: Ledger) -> None:
    for number in range(15):
        entry = (make_opt_out_request(), Receipt(f"key-{number}", "body"))
        recorded: list[bool] = []
        at_once(*[lambda: recorded.append(ledger.accept([entry])[0].is_repeat)] * 6)  # noqa: B023
        assert sorted(recorded) == [False] + [True] * 5
    assert rows_in(ledger, opt_outs) == 15


def test_the_same_receipts_in_another_order_at_the_same_instant_are_accepted_once(
    ledger: Ledger,
) -> None:
    for number in range(15):
        entries = [
            (make_opt_out_request(reference=str(place)), Receipt(f"key-{number}-{place}", "body"))
            for place in range(20)
        ]
        references: list[list[str | None]] = []

        def accept(some: Sequence[tuple[OptOutRequest, Receipt]]) -> None:
            recorded = ledger.accept(some)
            references.append([one.opt_out.reference for one in recorded])  # noqa: B023

        at_once(*[partial(accept, entries), partial(accept, entries[::-1])] * 2)
        in_order = [str(place) for place in range(20)]
        assert sorted(references, key=str) == sorted([in_order, in_order[::-1]] * 2, key=str)
    assert rows_in(ledger, opt_outs) == 15 * 20


def test_the_same_receipt_at_the_same_instant_is_sent_by_one_and_in_use_for_the_others(
    ledger: Ledger,
) -> None:
    for number in range(15):
        receipt = Receipt(f"key-{number}", "body")
        codes: list[str] = []
        at_once(*[lambda: codes.append(_begin_code(ledger, receipt))] * 6)  # noqa: B023
        assert Counter(codes) == {"claimed": 1, "idempotency_key_in_use": 5}
    assert (rows_in(ledger, opt_outs), rows_in(ledger, attempts)) == (15, 15)


def _begin_code(ledger: Ledger, receipt: Receipt) -> str:
    try:
        begun(ledger, receipt)
    except GatewayError as error:
        return error.code
    return "claimed"


def _begin_many(url: str, keys: list[str], start_at: float) -> list[str]:
    ledger = make_ledger(url)
    time.sleep(max(start_at - time.time(), 0))
    codes = [_begin_code(ledger, Receipt(key, "body")) for key in keys]
    ledger.engine.dispose()
    return codes


def test_the_same_receipts_in_two_processes_at_once_are_sent_once(
    ledger: Ledger,
    any_database_url: str,
) -> None:
    keys = [f"key-{number}" for number in range(40)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        start_at = time.time() + 3
        futures = [pool.submit(_begin_many, any_database_url, keys, start_at) for _ in range(2)]
        codes = [future.result(60) for future in futures]
    assert [sorted(pair) for pair in zip(*codes, strict=True)] == (
        [["claimed", "idempotency_key_in_use"]] * 40
    )
    assert rows_in(ledger, opt_outs) == 40


def test_repeats_and_retries_of_a_failed_one_at_the_same_instant_make_one_attempt(
    ledger: Ledger,
) -> None:
    receipt = Receipt("key", "body")
    first = begun(ledger, receipt)
    opt_out_id = first.opt_out.id
    settle(ledger, first, TIMED_OUT)
    claims: list[Claim] = []

    def claim() -> None:
        claims.extend(ledger.claim_due(9, patience_seconds=0).claims)

    def begin() -> None:
        with suppress(GatewayError):  # in use
            claims.append(begun(ledger, receipt))

    def retry() -> None:
        ledger.retry(opt_out_id)
        claim()

    def accept() -> None:
        with suppress(GatewayError):  # in use
            ledger.accept([(make_opt_out_request(), receipt)])
        claim()

    for _ in range(15):
        claims.clear()
        at_once(retry, accept, retry, accept)
        claim()
        assert len(claims) == 1
        assert settle(ledger, replace(claims[0], in_background=False), TIMED_OUT) is True
        claims.clear()
        at_once(begin_or_none(begin), retry, accept)
        claim()
        assert len(claims) == 1
        assert settle(ledger, replace(claims[0], in_background=False), TIMED_OUT) is True
    assert rows_in(ledger, opt_outs) == 1


def begin_or_none(begin: Callable[[], None]) -> Callable[[], None]:
    """As ``begin``, but content where somebody else has the claim."""

    def attempt() -> None:
        with suppress(AssertionError):
            begin()

    return attempt


# The pace


def test_turns_are_evenly_spaced_and_none_is_promised_beyond_the_patience(
    any_database_url: str,
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="10")
    turns = [ledger.turn(patience_seconds=0.5) for _ in range(8)]
    promised = [turn for turn in turns if turn is not None]
    assert promised == turns[: len(promised)]
    assert 5 <= len(promised) <= 6
    assert promised[0] == 0
    assert all(turn <= 0.5 for turn in promised)
    assert ledger.has_pace is True
    ledger.engine.dispose()


def test_without_a_rate_it_is_always_anybody_s_turn(ledger: Ledger) -> None:
    assert [ledger.turn(patience_seconds=0) for _ in range(5)] == [0.0] * 5
    assert ledger.has_pace is False


def test_callers_go_first_and_the_worker_takes_what_is_left(
    any_database_url: str,
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="5")
    accepted(ledger)
    for _ in range(3):
        begun(ledger)
    due = ledger.claim_due(9, patience_seconds=0.05)
    assert due.claims == []
    assert due.next_turn_in_seconds > 0
    assert begun(ledger).turn_in_seconds > 0.05
    let_pass(ledger, timedelta(seconds=5))
    due = ledger.claim_due(9, patience_seconds=0.05)
    assert [claim.in_background for claim in due.claims] == [True]
    ledger.engine.dispose()


def test_a_caller_without_a_turn_has_a_failed_opt_out_and_nothing_was_attempted(
    any_database_url: str,
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="0.1")
    receipt = Receipt("key", "body")
    begun(ledger)
    request = make_opt_out_request()
    for _ in range(2):
        recorded = ledger.begin(request, receipt, patience_seconds=2, in_background=False)
        assert recorded.claim is None
        opt_out = recorded.opt_out
        assert opt_out.error is not None
        assert (
            opt_out.status,
            opt_out.error.code,
            ERRORS[opt_out.error.code].retryable,
            opt_out.attempts,
        ) == (*(Status.FAILED, ErrorCode.CRMTEXT_RATE_LIMITED, True, 0),)
    assert ledger.attempts_of(opt_out.id) == []
    recorded = ledger.begin(request, receipt, patience_seconds=2, in_background=True)
    assert (recorded.claim, recorded.opt_out.status) == (None, Status.PENDING)
    assert (recorded.opt_out.id, recorded.opt_out.error) == (opt_out.id, None)
    ledger.engine.dispose()


def test_a_clock_that_was_put_back_does_not_stop_the_deliveries(
    any_database_url: str,
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="30")
    begun(ledger)
    let_pass(ledger, timedelta(hours=-1))  # what was now is an hour ahead
    assert ledger.turn(patience_seconds=2) is not None
    ledger.engine.dispose()


def _take_turns(url: str, start_at: float) -> list[float]:
    """The moments at which one process may call."""
    ledger = make_ledger(url, CRMTEXT_RATE="40")
    accepted(ledger)
    time.sleep(max(start_at - time.time(), 0))
    moments: list[float] = []

    def take() -> None:
        ends_at = time.monotonic() + 3
        while time.monotonic() < ends_at:
            recorded = ledger.begin(
                make_opt_out_request(), None, patience_seconds=0.3, in_background=False
            )
            if recorded.claim:
                at = recorded.claim.claimed_at_monotonic + recorded.claim.turn_in_seconds
                moments.append(at + time.time() - time.monotonic())

    at_once(*[take] * 4)
    ledger.engine.dispose()
    return moments


def test_no_second_ever_holds_more_turns_than_the_rate_of_two_processes(
    any_database_url: str,
) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        start_at = time.time() + 3
        futures = [pool.submit(_take_turns, any_database_url, start_at) for _ in range(2)]
        moments = sorted(moment for future in futures for moment in future.result(60))
    assert most_in_a_second(moments) <= 40
    assert len(moments) >= 100  # nearly all turns of three seconds were used


def most_in_a_second(moments: list[float]) -> int:
    """The most of the sorted moments that any sliding second holds."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= 1:
            first += 1
        most = max(most, last - first + 1)
    return most


# Reading back


def test_a_search_finds_what_meets_all_criteria_newest_first(ledger: Ledger) -> None:
    pizza = accepted(ledger, reference="one")
    other = accepted(ledger, "9995550001", store="BURGER", reference="two", source="webhook:shop")
    newest = accepted(ledger, reference="one", store="BURGER")
    assert settle(ledger, claimed(ledger), OPTED_OUT)
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


def test_pages_lose_none_and_repeat_none_even_within_one_microsecond(ledger: Ledger) -> None:
    entries = [(make_opt_out_request(reference=str(number)), None) for number in range(10)]
    newest_first = sorted((one.opt_out.id for one in ledger.accept(entries)), reverse=True)
    seen: list[str] = []
    after: tuple[datetime, str] | None = None
    while page := ledger.search(Criteria(after=after), 3):
        seen += [one.id for one in page]
        after = (page[-1].created_at, page[-1].id)
    assert seen == newest_first


def test_what_is_not_there_is_none(ledger: Ledger) -> None:
    assert ledger.find(str(uuid4())) is None
    assert ledger.attempts_of(str(uuid4())) == []
    assert ledger.search(Criteria(), 9) == []


def test_all_that_failed_and_match_are_pending_again(ledger: Ledger) -> None:
    old, burger, rejected, fine = (
        accepted(ledger, store=store).id for store in ("PIZZA", "BURGER", "PIZZA", "PIZZA")
    )
    by_id = {claim.opt_out.id: claim for claim in ledger.claim_due(9, patience_seconds=0).claims}
    failing = {
        old: Outcome(TIMEOUT),
        burger: Outcome(Failure(ErrorCode.CRMTEXT_AUTH_FAILED, "expired")),
        rejected: Outcome(NOT_FOUND),
        fine: OPTED_OUT,
    }
    for opt_out_id, outcome in failing.items():
        settle(ledger, replace(by_id[opt_out_id], in_background=False), outcome)

    def retry(
        *, code: str | None = None, store: str | None = None, hours: int | None = None
    ) -> int:
        age = None if hours is None else timedelta(hours=hours)
        return ledger.retry_failed(error_code=code, store=store, younger_than=age)

    let_pass(ledger, timedelta(hours=2))
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
    accepted(ledger, source="webhook:shop")
    settle(ledger, claimed(ledger), OPTED_OUT)
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


def test_the_database_s_clock_decides_on_postgres_and_the_machine_s_on_sqlite(
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
    due: bool,  # noqa: FBT001
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
        rows = connection.execute(text(f"{explain} SELECT id FROM opt_outs WHERE {condition}"))  # noqa: S608
        return "\n".join(str(row) for row in rows)


# The database cannot be used

CALLS: dict[str, Callable[[Ledger], object]] = {
    "accept": accepted,
    "begin": begun,
    "claim_due": lambda ledger: ledger.claim_due(1, patience_seconds=0),
    "settle": lambda ledger: settle(ledger, _any_claim(ledger), OPTED_OUT),
    "retry": lambda ledger: ledger.retry("x"),
    "retry_failed": lambda ledger: ledger.retry_failed(
        error_code=None, store=None, younger_than=None
    ),
    "find": lambda ledger: ledger.find("x"),
    "search": lambda ledger: ledger.search(Criteria(phone_number=NUMBER), 9),
    "attempts_of": lambda ledger: ledger.attempts_of("x"),
    "summary": Ledger.summary,
    "worker_is_alive": Ledger.worker_is_alive,
}


def _any_claim(ledger: Ledger) -> Claim:
    now = datetime.now(UTC)
    opt_out = OptOut(
        **dict.fromkeys(OptOut.__dataclass_fields__)  # type: ignore[arg-type]
        | {"id": "x", "phone_number": NUMBER, "created_at": now, "requested_at": now}
    )
    del ledger
    return Claim(
        opt_out,
        "token",
        1,
        in_background=True,
        failures=0,
        give_up_at=now,
        turn_in_seconds=0,
        claimed_at=now,
    )


def _no_database(folder: Path) -> str:
    (folder / "text.db").write_text("no database at all " * 100)
    return f"sqlite:///{folder / 'text.db'}"


UNUSABLE: dict[str, Callable[[Path], str]] = {
    "no folder": lambda _: "sqlite:////nowhere/at-all/gateway.db",
    "not a database": _no_database,
    "no tables": lambda folder: f"sqlite:///{folder / 'empty.db'}",
    "no tables on postgres": lambda _: running_postgres().new_database(),
    "no such database": lambda _: running_postgres().url("nowhere"),
    "no server": lambda _: f"postgresql://gateway@127.0.0.1:{free_port()}/gateway",
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_database_that_cannot_be_used_makes_every_call_ledger_unavailable(
    tmp_path: Path, kind: str, call: str
) -> None:
    ledger = make_ledger(UNUSABLE[kind](tmp_path))
    with pytest.raises(LedgerUnavailable) as caught:
        CALLS[call](ledger)
    assert_no_number(caught.value)
    ledger.engine.dispose()


def assert_no_number(error: BaseException) -> None:
    """No number in what is shown or logged of it: causes included, our own source lines not."""
    shown: BaseException | None = error
    while shown is not None:
        assert NUMBER not in str(shown)
        assert NUMBER not in repr(shown.args)
        shown = shown.__cause__ or shown.__context__


@pytest.mark.parametrize("call", ["accept", "claim_due"])
def test_a_locked_ledger_is_unavailable_within_seconds_and_nothing_is_kept(
    ledger: Ledger, call: str
) -> None:
    started_at = time.monotonic()
    with ledger.engine.connect() as holder, holder.begin():
        if ledger.engine.dialect.name == "postgresql":
            holder.execute(text("LOCK TABLE opt_outs IN EXCLUSIVE MODE"))
        with pytest.raises(LedgerUnavailable) as caught:
            CALLS[call](ledger)
        assert ledger.search(Criteria(), 9) == []  # reading waits for nobody
    assert 4 < time.monotonic() - started_at < 9
    assert_no_number(caught.value)
    assert rows_in(ledger, opt_outs) == 0
    assert accepted(ledger).status == Status.PENDING


def test_a_program_that_only_reads_the_file_does_not_hold_up_the_ledger(tmp_path: Path) -> None:
    """A back-up, say."""
    ledger = make_ledger(f"sqlite:///{tmp_path / 'gateway.db'}")
    upgrade(ledger.engine)
    accepted(ledger)
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM opt_outs").fetchall() == [(1,)]
        accepted(ledger)
        assert reader.execute("SELECT count(*) FROM opt_outs").fetchall() == [(1,)]
    ledger.engine.dispose()


def test_a_postgres_that_stops_and_starts_again_is_used_again_at_once(
    postgres: Postgres,
) -> None:
    ledger = make_ledger(postgres.new_database())
    upgrade(ledger.engine)
    at_once(*[lambda: accepted(ledger)] * 6)  # all connections of the pool are open
    modes: list[Literal["fast", "immediate"]] = ["fast", "immediate"]
    for mode in modes:
        postgres.stop(mode)
        for call in CALLS.values():
            with pytest.raises(LedgerUnavailable) as caught:
                call(ledger)
            assert_no_number(caught.value)
        postgres.start()
        at_once(*[lambda: accepted(ledger)] * 6)
    assert rows_in(ledger, opt_outs) == 18
    ledger.engine.dispose()


def test_a_connection_that_dies_in_the_middle_of_a_transaction_is_ledger_unavailable() -> None:
    url = new_postgres_ledger()
    ledger = make_ledger(url)
    accepted(ledger)
    killed = threading.Event()

    def kill() -> None:
        name = url.rpartition("/")[2]
        running_postgres().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "  # noqa: S608
            f"WHERE datname = '{name}' AND wait_event_type = 'Lock'"
        )
        killed.set()

    with ledger.engine.connect() as holder, holder.begin():
        holder.execute(text("LOCK TABLE opt_outs IN EXCLUSIVE MODE"))
        threading.Timer(0.5, kill).start()
        with pytest.raises(LedgerUnavailable):
            accepted(ledger)
        assert killed.wait(5)
    assert rows_in(ledger, opt_outs) == 1
    ledger.engine.dispose()


def test_a_postgres_that_is_cut_off_is_noticed_in_seconds() -> None:
    ledger = make_ledger(new_postgres_ledger())
    with ledger.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        with socket.fromfd(driver.pgconn.socket, socket.AF_INET, socket.SOCK_STREAM) as sock:
            options = [
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            ]
            unacknowledged = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    idle, interval, probes = options
    assert idle + interval * probes <= 30
    assert 0 < unacknowledged <= 30_000
    ledger.engine.dispose()


def test_more_threads_than_connections_wait_for_one_instead_of_failing(ledger: Ledger) -> None:
    at_once(*[lambda: accepted(ledger)] * 40)
    assert rows_in(ledger, opt_outs) == 40


def test_a_row_that_cannot_be_read_does_not_stop_the_others(ledger: Ledger) -> None:
    poisoned = accepted(ledger).id
    with ledger.engine.begin() as connection:
        connection.execute(update(opt_outs).values(customer={"no": "customer"}))
    sound = accepted(ledger).id
    claims = [ledger.claim_due(1, patience_seconds=0).claims for _ in range(3)]
    ids = [[claim.opt_out.id for claim in some] for some in claims]
    assert ids == [[], [sound], []]
    assert len(ledger.attempts_of(poisoned)) == 1


def test_a_repeat_does_not_overtake_the_worker_that_has_just_been_given_its_opt_out() -> None:
    """On Postgres only: SQLite's writers come one after the other."""
    url = new_postgres_ledger()
    ledger = make_ledger(url)
    receipt = Receipt("key", "body")
    claim = begun(ledger, receipt)
    settle(ledger, claim, TIMED_OUT)
    with ThreadPoolExecutor(1) as pool:
        with ledger.engine.begin() as connection:  # what retry and claim_due do, in one go
            values = {"status": "pending", "in_background": True, "claim": "the worker's"}
            values |= {"next_attempt_at": datetime.now(UTC) + LEASE}
            connection.execute(update(opt_outs).values(values))
            request = make_opt_out_request()
            beginning = pool.submit(
                ledger.begin, request, receipt, patience_seconds=2, in_background=False
            )
            _wait_for_a_lock(url)
        recorded = beginning.result(10)
    assert (recorded.claim, recorded.is_repeat) == (None, True)
    ledger.engine.dispose()


def _wait_for_a_lock(url: str) -> None:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "  # noqa: S608
        f"AND datname = '{url.rpartition('/')[2]}'"
    )
    ends_at = time.monotonic() + 5
    while running_postgres().execute(waiting) == [(0,)]:
        assert time.monotonic() < ends_at, "nobody waits for a lock"
        time.sleep(0.02)


# Its tables


@pytest.fixture(params=["sqlite", "postgres"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without a table."""
    if request.param == "postgres":
        return running_postgres().new_database()
    return f"sqlite:///{tmp_path / 'new.db'}"


def test_the_migrated_tables_are_those_that_the_ledger_works_with(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_the_versions_that_a_release_knows_are_its_migrations() -> None:
    folder = Path(migrations.__file__).parent / "versions"
    assert [file.name.split("_")[0] for file in sorted(folder.glob("0*.py"))] == list(VERSIONS)


def test_upgrading_twice_is_upgrading_once(new_database: str) -> None:
    ledger = make_ledger(new_database)
    assert is_current(ledger.engine) is False
    upgrade(ledger.engine)
    assert is_current(ledger.engine) is True
    opt_out = accepted(ledger)
    upgrade(ledger.engine)
    assert is_current(ledger.engine) is True
    assert ledger.find(opt_out.id) == opt_out
    assert rows_in(ledger, clock) == 2
    ledger.engine.dispose()


def _upgrade(url: str, start_at: float) -> str:
    ledger = make_ledger(url)
    time.sleep(max(start_at - time.time(), 0))
    try:
        upgrade(ledger.engine)
        return "current" if is_current(ledger.engine) else "not current"
    except LedgerUnavailable as error:
        return error.detail
    finally:
        ledger.engine.dispose()


def test_of_two_upgrades_at_once_one_waits_for_the_other(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path / f'{number}.db'}" for number in range(10)]
    urls += [running_postgres().new_database() for _ in range(5)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(time.sleep, [1, 1]))  # both processes are there
        for url in urls:
            start_at = time.time() + 0.3
            futures = [pool.submit(_upgrade, url, start_at) for _ in range(2)]
            assert [future.result(30) for future in futures] == ["current"] * 2


def test_an_upgrade_waits_for_another_that_takes_long() -> None:
    ledger = make_ledger(running_postgres().new_database())
    with ThreadPoolExecutor(1) as pool:
        with ledger.engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(5307411)"))
            upgrading = pool.submit(upgrade, ledger.engine)
            time.sleep(5.5)  # longer than anything else waits for a lock
            assert not upgrading.done()
        upgrading.result(10)
    assert is_current(ledger.engine) is True
    ledger.engine.dispose()


def test_a_newer_release_s_tables_are_left_alone_and_good_enough(ledger: Ledger) -> None:
    """As while a deployment goes on: the next release's tables are there, this one still serves."""
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert is_current(ledger.engine) is True
    upgrade(ledger.engine)
    assert is_current(ledger.engine) is True
    assert accepted(ledger).status == Status.PENDING


def test_an_upgrade_that_cannot_reach_its_database_says_so() -> None:
    ledger = make_ledger(f"postgresql://gateway:secret-pw@127.0.0.1:{free_port()}/gateway")
    with pytest.raises(LedgerUnavailable) as upgrading:
        upgrade(ledger.engine)
    with pytest.raises(LedgerUnavailable):
        is_current(ledger.engine)
    assert "secret-pw" not in upgrading.value.detail
