"""Attempts, with a real ledger on both databases and a CRM Text that speaks HTTP."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text, update

from gateway.consent import Status
from gateway.delivery.attempts import Attempts
from gateway.errors import ErrorCode
from gateway.ledger.ledger import Ledger
from gateway.ledger.tables import opt_outs
from tests.support.deliveries import ask, deliver_due, make_acceptance, make_attempts, outcomes
from tests.support.factories import PIZZA
from tests.support.fake_crmtext import FakeCrmText, Reply, xml
from tests.support.ledgers import accepted, at_once, found, let_pass, make_ledger, wait_until

DOWN = Reply(body=xml("500", "down"))
UNKNOWN = Reply(body=xml("404", "no such customer"))


@pytest.fixture
def attempts(ledger: Ledger, crmtext: FakeCrmText) -> Attempts:
    return make_attempts(ledger, crmtext)


def test_an_accepted_opt_out_is_tried_again_after_every_failure_until_it_is_confirmed(
    ledger: Ledger, attempts: Attempts, crmtext: FakeCrmText
) -> None:
    crmtext.answers(
        DOWN,
        Reply(reset=True),  # of the kept connection, so the call is made once more
        Reply(reset=True),
        Reply(delay=3),
        Reply(401, xml("401", "Unauthorized")),
        Reply(429, xml("429", "slower"), {"Retry-After": "120"}),
        Reply(body=b"<html>"),
        Reply(404, b"<html>"),
    )
    opt_out = accepted(ledger)
    assert (opt_out.status, crmtext.calls) == (Status.PENDING, [])
    waits = []
    for _ in range(8):
        (after,) = deliver_due(ledger, attempts)
        on_record = found(ledger, opt_out.id)
        assert on_record == replace(after, error=on_record.error)
        assert outcomes(ledger, opt_out)[-1] == (after.error.code if after.error else "opted_out")
        if after.next_attempt_at:
            waits.append((after.next_attempt_at - ledger.summary().now).total_seconds())
            assert deliver_due(ledger, attempts) == []
            let_pass(ledger, timedelta(seconds=waits[-1] + 1))
    assert (after.status, after.attempts, after.error) == (Status.OPTED_OUT, 8, None)
    assert outcomes(ledger, opt_out) == [
        "crmtext_unavailable",
        "crmtext_unreachable",
        "crmtext_timeout",
        "crmtext_auth_failed",
        "crmtext_rate_limited",
        "crmtext_invalid_response",
        "crmtext_invalid_response",
        "opted_out",
    ]
    for wait, least in zip(waits, [2, 4, 8, 16, 120, 64, 128], strict=True):
        assert least - 0.5 < wait <= least * 1.25
    assert deliver_due(ledger, attempts) == []


def test_a_refusal_ends_an_accepted_opt_out_and_a_retry_begins_it_again(
    ledger: Ledger, attempts: Attempts, crmtext: FakeCrmText
) -> None:
    crmtext.answers(UNKNOWN)
    opt_out = accepted(ledger)
    assert [one.status for one in deliver_due(ledger, attempts)] == ["rejected"]
    let_pass(ledger, timedelta(days=1))
    assert deliver_due(ledger, attempts) == []
    assert ledger.retry(opt_out.id) is not None
    assert [one.status for one in deliver_due(ledger, attempts)] == ["opted_out"]


# When something breaks


def test_an_outcome_that_cannot_be_recorded_is_answered_and_the_row_is_delivered_once_more(
    ledger: Ledger, attempts: Attempts, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(delay=0.4, body=xml()))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, make_acceptance(ledger, crmtext))
        wait_until(lambda: crmtext.calls, 5, "CRM Text is asked")
        rename(ledger, "attempts", "away")
        opt_out = asking.result(10).opt_out
    rename(ledger, "away", "attempts")
    assert opt_out.status == Status.OPTED_OUT
    assert found(ledger, opt_out.id).status == Status.PENDING
    assert deliver_due(ledger, attempts) == []
    let_pass(ledger, timedelta(seconds=12))
    crmtext.answers(Reply(body=xml("400", "Customer is Opted-Out")))
    (again,) = deliver_due(ledger, attempts)
    assert (again.id, again.status, again.already_opted_out) == (opt_out.id, "opted_out", True)
    assert found(ledger, opt_out.id) == again
    assert outcomes(ledger, opt_out) == [None, "opted_out"]


def rename(ledger: Ledger, table: str, name: str) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))


def test_a_slow_attempt_does_not_end_what_another_has_taken_over(
    ledger: Ledger, attempts: Attempts, crmtext: FakeCrmText
) -> None:
    opt_out = accepted(ledger)
    crmtext.answers(Reply(delay=0.5, body=xml("404", "who?")))
    (slow,) = ledger.claim_due(9, patience_seconds=0).claims
    with ThreadPoolExecutor(1) as pool:
        attempting = pool.submit(attempts.make, slow)
        wait_until(lambda: crmtext.calls, 5, "CRM Text is asked")
        let_pass(ledger, timedelta(seconds=12))
        (fast,) = deliver_due(ledger, attempts)
        assert attempting.result(5).status == Status.REJECTED
    assert fast.status == Status.OPTED_OUT
    assert found(ledger, opt_out.id) == fast
    assert outcomes(ledger, opt_out) == ["customer_not_found", "opted_out"]


def test_a_store_that_was_removed_keeps_its_opt_outs_until_it_is_back(
    ledger: Ledger, crmtext: FakeCrmText
) -> None:
    pizza, burger = accepted(ledger), accepted(ledger, store="BURGER")
    without = make_attempts(
        ledger, crmtext, CRMTEXT_AUTH_STRINGS=PIZZA, GATEWAY_API_KEYS=f"billing:{'0' * 64}"
    )
    after = {one.id: one for one in deliver_due(ledger, without)}
    error = after[burger.id].error
    assert error is not None
    assert (after[pizza.id].status, after[burger.id].status, error.code) == (
        Status.OPTED_OUT,
        Status.PENDING,
        ErrorCode.CRMTEXT_AUTH_FAILED,
    )
    let_pass(ledger, timedelta(seconds=5))
    (back,) = deliver_due(ledger, make_attempts(ledger, crmtext))
    assert (back.id, back.status) == (burger.id, Status.OPTED_OUT)
    assert [call.store for call in crmtext.calls] == ["PIZZA", "BURGER"]


def test_a_turn_that_has_passed_is_not_used(
    any_database_url: str,
    crmtext: FakeCrmText,
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="0.2")
    attempts = make_attempts(ledger, crmtext)
    opt_out = accepted(ledger)
    (claim,) = ledger.claim_due(9, patience_seconds=0).claims
    late = replace(claim, claimed_at_monotonic=claim.claimed_at_monotonic - 3)
    attempts.make(late)
    on_record = found(ledger, opt_out.id)
    assert (on_record.status, on_record.attempts, on_record.error) == (Status.PENDING, 0, None)
    assert (crmtext.calls, outcomes(ledger, opt_out)) == ([], [])
    let_pass(ledger, timedelta(seconds=30))
    assert [one.status for one in deliver_due(ledger, attempts)] == ["opted_out"]
    ledger.engine.dispose()


def test_callers_and_workers_at_once_keep_to_the_rate_limit_in_every_second(
    any_database_url: str,
    crmtext: FakeCrmText,
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="40")
    attempts, acceptance = make_attempts(ledger, crmtext), make_acceptance(ledger, crmtext)
    for number in range(40):
        accepted(ledger, f"9995{number:06}")
    ends_at = time.monotonic() + 2.5

    def call() -> None:
        while time.monotonic() < ends_at:
            ask(acceptance)

    def work() -> None:
        while time.monotonic() < ends_at:
            if not deliver_due(ledger, attempts):
                time.sleep(0.02)

    at_once(call, call, call, work, work)
    moments = sorted(call.received_at for call in crmtext.calls)
    assert len(moments) > 60
    assert max(sum(at <= moment < at + 1 for moment in moments) for at in moments) <= 40
    ledger.engine.dispose()


def test_an_impossible_row_is_not_sent_and_raises_nothing_but_its_own_error(
    ledger: Ledger, attempts: Attempts, crmtext: FakeCrmText
) -> None:
    accepted(ledger)
    with ledger.engine.begin() as connection:
        connection.execute(update(opt_outs).values(phone_number=None))
    (claim,) = ledger.claim_due(9, patience_seconds=0).claims
    with pytest.raises(ValueError, match="without a number"):
        attempts.make(claim)
    assert crmtext.calls == []
