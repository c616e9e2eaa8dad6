"""The rate limit that all processes share."""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from multiprocessing import get_context

import pytest

from gateway.consent import Status
from gateway.ledger.intake import Entry
from gateway.ledger.ledger import Ledger
from tests.support.factories import make_opt_out_request
from tests.support.ledgers import (
    accepted,
    at_once,
    begun,
    claimed,
    found,
    let_pass,
    make_ledger,
)
from tests.support.postgres import new_postgres_ledger


def test_turns_are_evenly_spaced_and_none_is_later_than_the_caller_waits(
    any_database_url: str,
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="1")
    turns = [ledger.turn(patience_seconds=5) for _ in range(8)]
    promised = [turn for turn in turns if turn is not None]
    assert promised == turns[: len(promised)]
    assert 5 <= len(promised) <= 6
    assert promised[0] == 0
    assert all(turn <= 5 for turn in promised)
    assert ledger.has_pace is True
    ledger.engine.dispose()


def test_without_a_rate_limit_nobody_waits_for_a_turn(ledger: Ledger) -> None:
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
    assert len(due.claims) == 1
    ledger.engine.dispose()


def test_a_request_without_a_turn_is_due_for_the_worker_and_nothing_was_attempted(
    any_database_url: str,
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="0.1")
    begun(ledger)
    entry = Entry([make_opt_out_request()])
    (recorded,) = ledger.accept([entry], claims=1, patience_seconds=2)
    opt_out = recorded.opt_out
    assert recorded.claim is None
    assert (opt_out.status, opt_out.error, opt_out.attempts) == (Status.PENDING, None, 0)
    assert opt_out.next_attempt_at == opt_out.created_at
    assert ledger.attempts_of(opt_out.id) == []
    ledger.engine.dispose()


def test_a_claim_that_is_put_back_is_due_again_as_if_nothing_had_been(ledger: Ledger) -> None:
    opt_out = accepted(ledger)
    ledger.put_back(claimed(ledger))
    again = found(ledger, opt_out.id)
    assert again == replace(opt_out, next_attempt_at=again.next_attempt_at)
    assert ledger.attempts_of(opt_out.id) == []
    assert claimed(ledger).opt_out.attempts == 1


def test_a_clock_that_was_set_back_does_not_stop_the_deliveries(
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
            entry = Entry([make_opt_out_request()])
            (recorded,) = ledger.accept([entry], claims=1, patience_seconds=0.3)
            if recorded.claim:
                at = recorded.claim.claimed_at_monotonic + recorded.claim.turn_in_seconds
                moments.append(at + time.time() - time.monotonic())

    at_once(*[take] * 4)
    ledger.engine.dispose()
    return moments


@pytest.mark.slow
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


@pytest.mark.postgres
def test_accepting_goes_on_while_the_row_of_the_rate_limit_is_locked() -> None:
    ledger = make_ledger(new_postgres_ledger(), CRMTEXT_RATE="30")
    seconds: list[float] = []

    def accept(claims: int) -> None:
        started_at = time.monotonic()
        entry = Entry([make_opt_out_request()])
        (recorded,) = ledger.accept([entry], claims=claims, patience_seconds=2)
        assert (recorded.opt_out.status, recorded.claim) == (Status.PENDING, None)
        seconds.append(time.monotonic() - started_at if not claims else 0)

    other = make_ledger(ledger.engine.url.render_as_string(hide_password=False))
    with other.engine.begin() as connection:
        connection.exec_driver_sql("SELECT * FROM clock WHERE name = 'pace' FOR UPDATE")
        at_once(*[partial(accept, 1)] * 20, *[partial(accept, 0)] * 14)

    assert max(seconds) < 3
    assert len(seconds) == 34
    other.engine.dispose()
    ledger.engine.dispose()
