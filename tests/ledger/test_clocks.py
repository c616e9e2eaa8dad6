"""Clocks that are set while opt-outs wait: none of them waits longer for it."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.engine import make_url

from gateway.consent import Status
from gateway.ledger.ledger import Ledger
from gateway.ledger.tables import opt_outs
from tests.support.ledgers import (
    LEASE,
    TIMED_OUT,
    accepted,
    claimed,
    end_attempt,
    found,
    let_pass,
)

BACK = [timedelta(hours=1), timedelta(days=1), timedelta(days=3650)]


class Clock:
    """A machine's clock that can be set."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.mark.parametrize("back", BACK)
def test_a_clock_that_was_put_back_delays_no_opt_out_once_a_worker_is_there(
    ledger: Ledger, back: timedelta
) -> None:
    waiting, failing = accepted(ledger), accepted(ledger, "9995550001")
    for _ in range(2):
        claim = claimed(ledger)
        if claim.opt_out.id == failing.id:
            end_attempt(ledger, claim, TIMED_OUT)
        else:
            ledger.put_back(claim)
    ledger.worker_is_alive()
    let_pass(ledger, -back)  # what was now is ahead

    ledger.worker_is_alive()

    due = {claim.opt_out.id for claim in ledger.claim_due(9, patience_seconds=0).claims}
    assert due == {waiting.id, failing.id}


@pytest.mark.parametrize("back", BACK)
def test_what_is_being_sent_is_taken_over_when_its_lease_would_end(
    ledger: Ledger, back: timedelta
) -> None:
    accepted(ledger)
    first = claimed(ledger)
    ledger.worker_is_alive()
    let_pass(ledger, -back)
    ledger.worker_is_alive()
    assert ledger.claim_due(9, patience_seconds=0).claims == []

    let_pass(ledger, LEASE + timedelta(seconds=1))

    assert claimed(ledger).opt_out.id == first.opt_out.id


@pytest.mark.parametrize("ahead", [timedelta(hours=7), timedelta(days=1), timedelta(days=3650)])
def test_a_due_time_further_ahead_than_any_rule_allows_is_not_believed(
    ledger: Ledger, ahead: timedelta
) -> None:
    opt_out = accepted(ledger)
    with ledger.engine.begin() as connection:
        far = opt_out.created_at + ahead
        connection.execute(
            update(opt_outs).values(next_attempt_at=far, give_up_at=far + timedelta(days=10))
        )

    ledger.worker_is_alive()

    claim = claimed(ledger)
    assert claim.opt_out.id == opt_out.id
    assert claim.give_up_at - claim.claimed_at <= timedelta(days=10)


def test_what_came_in_while_the_clock_was_ahead_is_due_when_it_is_right_again(
    ledger: Ledger,
) -> None:
    opt_out = accepted(ledger)
    let_pass(ledger, -timedelta(hours=1))
    assert ledger.claim_due(9, patience_seconds=0).claims == []

    ledger.worker_is_alive()

    claim = claimed(ledger)
    assert claim.opt_out.id == opt_out.id
    end_attempt(ledger, claim, TIMED_OUT)
    ledger.worker_is_alive()
    assert ledger.claim_due(9, patience_seconds=0).claims == []  # its delay counts


def test_a_worker_that_sees_the_clock_go_back_does_not_wait(database_url: str) -> None:
    clock = Clock()
    ledger = Ledger(
        make_url(database_url),
        lease_seconds=11,
        calls_per_second=0,
        delivery_days=10,
        machine_clock=clock,
    )
    opt_out = accepted(ledger)
    clock.ahead = timedelta(days=400)  # for a moment, as on a machine that boots
    assert end_attempt(ledger, claimed(ledger), TIMED_OUT)
    assert found(ledger, opt_out.id).status == Status.PENDING
    clock.ahead = timedelta(0)
    assert found(ledger, opt_out.id).status == Status.PENDING

    ledger.worker_is_alive()

    assert claimed(ledger).opt_out.id == opt_out.id
    ledger.engine.dispose()


def test_the_oldest_pending_one_is_told_also_when_the_clock_went_back(ledger: Ledger) -> None:
    accepted(ledger)
    let_pass(ledger, -timedelta(hours=1))

    assert 3590 < ledger.summary().oldest_pending_seconds <= 3600


def test_clocks_that_are_right_change_nothing(ledger: Ledger) -> None:
    accepted(ledger)
    assert end_attempt(ledger, claimed(ledger), TIMED_OUT)
    opt_out = accepted(ledger, "9995550001")
    held = claimed(ledger).opt_out

    for _ in range(3):
        ledger.worker_is_alive()

    assert found(ledger, opt_out.id) == held
    assert ledger.claim_due(9, patience_seconds=0).claims == []
