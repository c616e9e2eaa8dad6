"""Receipts: a repeat is the same opt-out, also at the same instant."""

import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context

import pytest
from sqlalchemy import update

from gateway.consent import Outcome, Status
from gateway.errors import ErrorCode, GatewayError
from gateway.ledger.claims import Claim
from gateway.ledger.intake import Entry, Recorded
from gateway.ledger.ledger import Ledger
from gateway.ledger.receipts import Receipt
from gateway.ledger.tables import attempts, opt_outs
from tests.support.factories import make_opt_out_request
from tests.support.ledgers import (
    LEASE,
    NOT_FOUND,
    OPTED_OUT,
    at_once,
    begun,
    claimed,
    end_attempt,
    found,
    give_up,
    let_pass,
    make_ledger,
    rows_in,
)
from tests.support.postgres import new_postgres_ledger, running_postgres


def test_a_repeat_with_the_same_receipt_is_the_same_opt_out(ledger: Ledger) -> None:
    entry = Entry([make_opt_out_request()], Receipt("key", "body"))
    (first,) = ledger.accept([entry])
    (second,) = ledger.accept([entry])
    assert (first.is_repeat, second.is_repeat) == (False, True)
    assert second.opt_out == first.opt_out
    (again,) = ledger.accept([entry], claims=1, patience_seconds=2)
    assert (again.is_repeat, again.claim, again.opt_out) == (True, None, first.opt_out)
    assert rows_in(ledger, opt_outs) == 1


def test_a_receipt_given_twice_in_one_go_is_one_opt_out(ledger: Ledger) -> None:
    entry = Entry([make_opt_out_request()], Receipt("key", "body"))
    first, second = ledger.accept([entry, entry])
    assert first.opt_out == second.opt_out
    assert rows_in(ledger, opt_outs) == 1


def test_a_receipt_with_another_fingerprint_is_refused_and_nothing_of_it_kept(
    ledger: Ledger,
) -> None:
    request = make_opt_out_request()
    ledger.accept([Entry([request], Receipt("key", "body"))])
    other = Receipt("key", "another body")
    with pytest.raises(GatewayError) as refused:
        ledger.accept([Entry([request]), Entry([request], other)], claims=2, patience_seconds=2)
    assert refused.value.code == ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert (rows_in(ledger, opt_outs), rows_in(ledger, attempts)) == (1, 0)


def test_a_repeat_is_told_whether_its_first_is_being_sent(ledger: Ledger) -> None:
    receipt = Receipt("key", "body")
    claim = begun(ledger, receipt)
    entry = Entry([make_opt_out_request()], receipt)

    def repeat() -> Recorded:
        (recorded,) = ledger.accept([entry], claims=1, patience_seconds=2)
        assert recorded.is_repeat
        assert recorded.claim is None
        assert recorded.opt_out.id == claim.opt_out.id
        return recorded

    assert repeat().is_being_sent is True
    let_pass(ledger, LEASE - timedelta(seconds=2))
    assert repeat().is_being_sent is True
    let_pass(ledger, timedelta(seconds=3))  # its process has died
    assert (repeat().is_being_sent, repeat().opt_out.status) == (False, Status.PENDING)
    assert end_attempt(ledger, claimed(ledger), OPTED_OUT)
    assert (repeat().is_being_sent, repeat().opt_out.status) == (False, Status.OPTED_OUT)


@pytest.mark.parametrize("outcome", [OPTED_OUT, Outcome(NOT_FOUND)])
def test_the_receipt_of_a_finished_opt_out_starts_no_attempt(
    ledger: Ledger, outcome: Outcome
) -> None:
    receipt = Receipt("key", "body")
    claim = begun(ledger, receipt)
    end_attempt(ledger, claim, outcome)
    done = found(ledger, claim.opt_out.id)
    entry = Entry([make_opt_out_request()], receipt)
    for claims in (0, 1):
        (repeat,) = ledger.accept([entry], claims=claims, patience_seconds=2)
        assert (repeat.opt_out, repeat.claim, repeat.is_repeat) == (done, None, True)


def test_the_receipt_of_a_failed_opt_out_tries_again_under_the_same_id(ledger: Ledger) -> None:
    receipt = Receipt("key", "body")
    first = begun(ledger, receipt)
    give_up(ledger, first)
    second = begun(ledger, receipt)
    assert (second.opt_out.id, second.opt_out.attempts) == (first.opt_out.id, 2)
    give_up(ledger, second)
    (third,) = ledger.accept([Entry([make_opt_out_request()], receipt)])
    assert (third.opt_out.id, third.opt_out.status) == (first.opt_out.id, Status.PENDING)
    assert end_attempt(ledger, claimed(ledger), OPTED_OUT)
    assert len(ledger.attempts_of(first.opt_out.id)) == 3
    assert rows_in(ledger, opt_outs) == 1


def test_a_receipt_for_a_day_is_forgotten_after_it_and_not_before(ledger: Ledger) -> None:
    entry = Entry([make_opt_out_request()], Receipt("key", "body", timedelta(hours=24)))
    (first,) = ledger.accept([entry])
    let_pass(ledger, timedelta(hours=23, minutes=59))
    (second,) = ledger.accept([entry])
    let_pass(ledger, timedelta(minutes=2))
    (third,) = ledger.accept([entry])
    (fourth,) = ledger.accept([entry])
    ids = [one.opt_out.id for one in (first, second, third, fourth)]
    assert (ids[0] == ids[1], ids[1] == ids[2], ids[2] == ids[3]) == (True, False, True)
    assert [one.is_repeat for one in (first, second, third, fourth)] == [False, True, False, True]


def test_a_receipt_of_a_key_is_kept_forever(ledger: Ledger) -> None:
    entry = Entry([make_opt_out_request()], Receipt("key", "body"))
    (first,) = ledger.accept([entry])
    let_pass(ledger, timedelta(days=4 * 365))
    (second,) = ledger.accept([entry])
    assert (second.opt_out.id, second.is_repeat) == (first.opt_out.id, True)


def test_the_same_receipt_at_the_same_instant_is_accepted_once(ledger: Ledger) -> None:
    for number in range(15):
        entry = Entry([make_opt_out_request()], Receipt(f"key-{number}", "body"))
        recorded = at_once(*[partial(ledger.accept, [entry])] * 6)
        assert sorted(one.is_repeat for (one,) in recorded) == [False] + [True] * 5
    assert rows_in(ledger, opt_outs) == 15


def test_the_same_receipts_in_another_order_at_the_same_instant_are_accepted_once(
    ledger: Ledger,
) -> None:
    for number in range(15):
        entries = [
            Entry(
                [make_opt_out_request(reference=str(place))],
                Receipt(f"key-{number}-{place}", "body"),
            )
            for place in range(20)
        ]
        orders = [entries, entries[::-1]] * 2
        recorded = at_once(*[partial(ledger.accept, order) for order in orders])
        in_order = [str(place) for place in range(20)]
        references = [[one.opt_out.reference for one in some] for some in recorded]
        assert references == [in_order, in_order[::-1]] * 2
    assert rows_in(ledger, opt_outs) == 15 * 20


def test_the_same_receipt_at_the_same_instant_is_sent_by_one(ledger: Ledger) -> None:
    for number in range(15):
        receipt = Receipt(f"key-{number}", "body")
        claims = at_once(*[partial(_has_claim, ledger, receipt)] * 6)
        assert sorted(claims) == [False] * 5 + [True]
    assert (rows_in(ledger, opt_outs), rows_in(ledger, attempts)) == (15, 15)


def _has_claim(ledger: Ledger, receipt: Receipt) -> bool:
    entry = Entry([make_opt_out_request()], receipt)
    (recorded,) = ledger.accept([entry], claims=1, patience_seconds=2)
    return recorded.claim is not None


def _accept_many(url: str, keys: list[str], start_at: float) -> list[bool]:
    ledger = make_ledger(url)
    time.sleep(max(start_at - time.time(), 0))
    claims = [_has_claim(ledger, Receipt(key, "body")) for key in keys]
    ledger.engine.dispose()
    return claims


@pytest.mark.slow
def test_the_same_receipts_in_two_processes_at_once_are_sent_once(
    ledger: Ledger,
    any_database_url: str,
) -> None:
    keys = [f"key-{number}" for number in range(40)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        start_at = time.time() + 3
        futures = [pool.submit(_accept_many, any_database_url, keys, start_at) for _ in range(2)]
        claims = [future.result(60) for future in futures]
    assert [sorted(pair) for pair in zip(*claims, strict=True)] == [[False, True]] * 40
    assert rows_in(ledger, opt_outs) == 40


def test_repeats_and_retries_of_a_failed_one_at_the_same_instant_make_one_attempt(
    ledger: Ledger,
) -> None:
    receipt = Receipt("key", "body")
    entry = Entry([make_opt_out_request()], receipt)
    first = begun(ledger, receipt)
    opt_out_id = first.opt_out.id
    give_up(ledger, first)
    claims: list[Claim] = []

    def claim() -> None:
        claims.extend(ledger.claim_due(9, patience_seconds=0).claims)

    def repeat_and_send() -> None:
        (recorded,) = ledger.accept([entry], claims=1, patience_seconds=2)
        claims.extend([recorded.claim] if recorded.claim else [])

    def repeat() -> None:
        ledger.accept([entry])
        claim()

    def retry() -> None:
        ledger.retry(opt_out_id)
        claim()

    for tasks in ([retry, repeat, retry, repeat], [repeat_and_send, retry, repeat]) * 15:
        claims.clear()
        at_once(*tasks)
        claim()
        assert len(claims) == 1
        give_up(ledger, claims[0])
    assert rows_in(ledger, opt_outs) == 1


@pytest.mark.postgres
def test_a_repeat_does_not_overtake_the_worker_that_has_just_been_given_its_opt_out() -> None:
    """On Postgres only: SQLite's writers come one after the other."""
    url = new_postgres_ledger()
    ledger = make_ledger(url)
    receipt = Receipt("key", "body")
    claim = begun(ledger, receipt)
    give_up(ledger, claim)
    with ThreadPoolExecutor(1) as pool:
        with ledger.engine.begin() as connection:  # what retry and claim_due do, in one go
            values: dict[str, object] = {"status": "pending", "claim": "the worker's"}
            values |= {"next_attempt_at": datetime.now(UTC) + LEASE}
            connection.execute(update(opt_outs).values(values))
            entry = Entry([make_opt_out_request()], receipt)
            repeating = pool.submit(ledger.accept, [entry], claims=1, patience_seconds=2)
            _wait_for_a_lock(url)
        (recorded,) = repeating.result(10)
    assert (recorded.claim, recorded.is_repeat) == (None, True)
    ledger.engine.dispose()


def _wait_for_a_lock(url: str) -> None:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        f"AND datname = '{url.rpartition('/')[2]}'"
    )
    ends_at = time.monotonic() + 5
    while running_postgres().execute(waiting) == [(0,)]:
        assert time.monotonic() < ends_at, "nobody waits for a lock"
        time.sleep(0.02)
