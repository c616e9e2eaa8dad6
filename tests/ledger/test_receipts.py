"""Receipts: a repeat is the same opt-out, also at the same instant."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context

import pytest
from sqlalchemy import update

from gateway.consent import OptOutRequest, Outcome, Status
from gateway.errors import ErrorCode, GatewayError
from gateway.ledger.ledger import Claim, Ledger, Receipt
from gateway.ledger.tables import attempts, opt_outs
from tests.support.factories import make_opt_out_request
from tests.support.ledgers import (
    LEASE,
    NOT_FOUND,
    OPTED_OUT,
    TIMED_OUT,
    at_once,
    begun,
    claimed,
    found,
    let_pass,
    make_ledger,
    rows_in,
    settle,
)
from tests.support.postgres import new_postgres_ledger, running_postgres


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
