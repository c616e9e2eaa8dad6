"""Claims and their leases: one process at a time delivers an opt-out."""

from collections import Counter
from datetime import timedelta

import pytest

from gateway.consent import Outcome, Status
from gateway.ledger.claims import Claim
from gateway.ledger.ledger import Ledger
from tests.support.ledgers import (
    LEASE,
    NOT_FOUND,
    OPTED_OUT,
    TIMED_OUT,
    accepted,
    at_once,
    begun,
    claimed,
    end_attempt,
    found,
    let_pass,
)


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
    assert claimed(ledger).opt_out.id == claim.opt_out.id


@pytest.mark.parametrize("outcome", [OPTED_OUT, TIMED_OUT, Outcome(NOT_FOUND)])
def test_an_attempt_that_ends_after_its_claim_was_lost_changes_nothing(
    ledger: Ledger, outcome: Outcome
) -> None:
    accepted(ledger)
    slow = claimed(ledger)
    let_pass(ledger, LEASE + timedelta(seconds=1))
    fast = claimed(ledger)
    before = found(ledger, slow.opt_out.id)
    assert end_attempt(ledger, slow, outcome) is False
    assert found(ledger, slow.opt_out.id) == before
    assert end_attempt(ledger, fast, OPTED_OUT) is True
    after = found(ledger, slow.opt_out.id)
    assert end_attempt(ledger, slow, outcome) is False
    assert end_attempt(ledger, fast, TIMED_OUT) is False
    assert found(ledger, slow.opt_out.id) == after
    assert after.status == Status.OPTED_OUT


def test_the_call_of_a_lost_claim_is_still_on_record(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    slow = claimed(ledger)
    let_pass(ledger, LEASE + timedelta(seconds=1))
    fast = claimed(ledger)
    end_attempt(ledger, fast, OPTED_OUT)
    end_attempt(ledger, slow, TIMED_OUT)
    outcomes = [one.outcome for one in ledger.attempts_of(opt_out.id)]
    assert outcomes == ["crmtext_timeout", "opted_out"]


def test_an_attempt_that_ends_late_but_before_anybody_took_over_counts(ledger: Ledger) -> None:
    accepted(ledger)
    claim = claimed(ledger)
    let_pass(ledger, LEASE + timedelta(minutes=5))
    assert end_attempt(ledger, claim, OPTED_OUT) is True


def test_those_waiting_longest_are_claimed_first_and_never_more_than_asked_for(
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
