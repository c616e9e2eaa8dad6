"""Deliveries, with a real ledger on both databases and a CRM Text that speaks HTTP."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text, update

from gateway.assembly import open_crmtext
from gateway.consent import OptOut, Status
from gateway.delivery.attempts import Delivery
from gateway.errors import CrmTextWords, ErrorCode, GatewayError, LedgerUnavailable
from gateway.ledger.ledger import Ledger, Receipt
from gateway.ledger.tables import attempts, opt_outs
from tests.support.factories import NUMBER, PIZZA, make_opt_out_request, make_settings
from tests.support.fake_crmtext import FakeCrmText, Reply, xml
from tests.support.ledgers import (
    accepted,
    at_once,
    found,
    let_pass,
    make_ledger,
    rows_in,
    wait_until,
)

DOWN = Reply(body=xml("500", "down"))
UNKNOWN = Reply(body=xml("404", "no such customer"))
SLOW = Reply(delay=0.6, body=xml("400", "Customer is opted out"))


@pytest.fixture
def delivery(ledger: Ledger, crmtext: FakeCrmText) -> Delivery:
    return make_delivery(ledger, crmtext)


def make_delivery(
    ledger: Ledger, crmtext: FakeCrmText, *, threads: int = 32, **changes: str
) -> Delivery:
    settings = make_settings(CRMTEXT_URL=crmtext.url, CRMTEXT_TIMEOUT="1", **changes)
    return Delivery(ledger, open_crmtext(settings), threads=threads)


def deliver_due(delivery: Delivery) -> list[OptOut]:
    """What a worker does in one step."""
    return [delivery.attempt(claim) for claim in delivery.claim_due(32).claims]


def outcomes(ledger: Ledger, opt_out: OptOut) -> list[str | None]:
    return [attempt.outcome for attempt in ledger.attempts_of(opt_out.id)]


# The caller owns the retry


def test_an_opt_out_that_crm_text_confirms_at_once_is_opted_out_on_record(
    ledger: Ledger, delivery: Delivery, crmtext: FakeCrmText
) -> None:
    recorded = delivery.opt_out_now(make_opt_out_request(), None)
    opt_out = recorded.opt_out
    assert (opt_out.status, opt_out.attempts, opt_out.error) == (Status.OPTED_OUT, 1, None)
    assert opt_out.customer is not None
    assert (opt_out.customer.phone_number, opt_out.customer.status) == (NUMBER, "opted_out")
    assert found(ledger, opt_out.id) == opt_out
    assert [(call.store, call.phone_number) for call in crmtext.calls] == [("PIZZA", NUMBER)]
    (attempt,) = ledger.attempts_of(opt_out.id)
    assert (attempt.outcome, attempt.http_status, attempt.crmtext) == (
        "opted_out",
        200,
        CrmTextWords("200", "ok"),
    )
    assert deliver_due(delivery) == []


def test_a_caller_who_owns_the_retry_finds_a_trouble_failed_and_a_refusal_rejected(
    ledger: Ledger, delivery: Delivery, crmtext: FakeCrmText
) -> None:
    crmtext.answers(DOWN, UNKNOWN)
    failed, rejected = (
        delivery.opt_out_now(make_opt_out_request(), None).opt_out for _ in range(2)
    )
    assert failed.error is not None
    assert rejected.error is not None
    assert (failed.status, failed.error.code) == (Status.FAILED, ErrorCode.CRMTEXT_UNAVAILABLE)
    assert (rejected.status, rejected.error.code) == (Status.REJECTED, ErrorCode.CUSTOMER_NOT_FOUND)
    assert [found(ledger, one.id) for one in (failed, rejected)] == [failed, rejected]
    let_pass(ledger, timedelta(days=1))
    assert deliver_due(delivery) == []


def test_a_repeat_with_the_same_key_never_asks_crm_text_again_once_it_is_done(
    delivery: Delivery, crmtext: FakeCrmText
) -> None:
    crmtext.answers(DOWN)
    entry = (make_opt_out_request(), Receipt("key", "body"))
    statuses = [delivery.opt_out_now(*entry) for _ in range(4)]
    assert [one.opt_out.status for one in statuses] == ["failed"] + ["opted_out"] * 3
    assert [one.is_repeat for one in statuses] == [False, False, True, True]
    assert len({one.opt_out.id for one in statuses}) == 1
    assert len(crmtext.calls) == 2


def test_more_requests_than_may_wait_are_told_that_the_gateway_is_busy(
    ledger: Ledger, crmtext: FakeCrmText
) -> None:
    delivery = make_delivery(ledger, crmtext, threads=8 + 2)
    crmtext.answer_with(SLOW)
    with ThreadPoolExecutor(2) as pool:
        request = make_opt_out_request()
        waiting = [pool.submit(delivery.opt_out_now, request, None) for _ in range(2)]
        wait_until(lambda: len(crmtext.calls) == 2, 5, "two callers wait")
        with pytest.raises(GatewayError) as refused:
            delivery.opt_out_now(request, None)
        assert refused.value.code == ErrorCode.GATEWAY_BUSY
        started_at = time.monotonic()
        at_once_accepted = delivery.accept(request, None, wait_seconds=5)
        assert at_once_accepted.opt_out.status == Status.PENDING
        assert time.monotonic() - started_at < 0.3
        assert [one.result(5).opt_out.status for one in waiting] == ["opted_out"] * 2
    assert (rows_in(ledger, opt_outs), rows_in(ledger, attempts)) == (3, 2)
    assert delivery.opt_out_now(request, None).opt_out.status == Status.OPTED_OUT


def test_those_who_hand_over_and_go_take_nobody_s_place_to_wait(
    ledger: Ledger, crmtext: FakeCrmText
) -> None:
    delivery = make_delivery(ledger, crmtext, threads=8 + 1)
    request = make_opt_out_request()
    with ThreadPoolExecutor(2) as pool:
        with ledger.engine.begin() as connection:  # both have to wait for the ledger
            if connection.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE opt_outs IN EXCLUSIVE MODE"))
            accepting = pool.submit(delivery.accept, request, None, wait_seconds=0)
            time.sleep(0.2)
            asking = pool.submit(delivery.opt_out_now, request, None)
            time.sleep(0.2)
        assert accepting.result(5).opt_out.status == Status.PENDING
        assert asking.result(5).opt_out.status == Status.OPTED_OUT


# The gateway owns the retry


def test_an_accepted_opt_out_lives_through_every_trouble_until_it_is_confirmed(
    ledger: Ledger, delivery: Delivery, crmtext: FakeCrmText
) -> None:
    crmtext.answers(
        DOWN,
        Reply(reset=True),
        Reply(delay=3),
        Reply(401, xml("401", "Unauthorized")),
        Reply(429, xml("429", "slower"), {"Retry-After": "120"}),
        Reply(body=b"<html>"),
        Reply(404, b"<html>"),
    )
    opt_out = delivery.accept(make_opt_out_request(), None, wait_seconds=0).opt_out
    assert (opt_out.status, crmtext.calls) == (Status.PENDING, [])
    waits = []
    for _ in range(8):
        (after,) = deliver_due(delivery)
        on_record = found(ledger, opt_out.id)
        assert on_record == replace(after, error=on_record.error)
        assert outcomes(ledger, opt_out)[-1] == (after.error.code if after.error else "opted_out")
        if after.next_attempt_at:
            waits.append((after.next_attempt_at - ledger.summary().now).total_seconds())
            assert deliver_due(delivery) == []
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
    assert deliver_due(delivery) == []


def test_a_refusal_ends_an_accepted_opt_out_and_a_retry_begins_it_again(
    ledger: Ledger, delivery: Delivery, crmtext: FakeCrmText
) -> None:
    crmtext.answers(UNKNOWN)
    opt_out = delivery.accept(make_opt_out_request(), None, wait_seconds=0).opt_out
    assert [one.status for one in deliver_due(delivery)] == ["rejected"]
    let_pass(ledger, timedelta(days=1))
    assert deliver_due(delivery) == []
    assert ledger.retry(opt_out.id) is not None
    assert [one.status for one in deliver_due(delivery)] == ["opted_out"]


def test_who_waits_for_the_outcome_is_told_it(delivery: Delivery, crmtext: FakeCrmText) -> None:
    crmtext.answers(UNKNOWN)
    refused = delivery.accept(make_opt_out_request(), None, wait_seconds=5)
    done = delivery.accept(make_opt_out_request(), None, wait_seconds=5)
    assert [one.opt_out.status for one in (refused, done)] == ["rejected", "opted_out"]
    assert len(crmtext.calls) == 2


def test_who_waited_in_vain_has_a_pending_one_that_is_delivered_all_the_same(
    ledger: Ledger, crmtext: FakeCrmText
) -> None:
    settings = make_settings(CRMTEXT_URL=crmtext.url, CRMTEXT_TIMEOUT="3")
    delivery = Delivery(ledger, open_crmtext(settings), threads=32)
    crmtext.answers(Reply(delay=1.6, body=xml()))
    started_at = time.monotonic()
    recorded = delivery.accept(make_opt_out_request(), None, wait_seconds=1)
    assert recorded.opt_out.status == Status.PENDING
    assert 1 <= time.monotonic() - started_at < 1.5
    opt_out_id = recorded.opt_out.id
    wait_until(lambda: found(ledger, opt_out_id).status == Status.OPTED_OUT, 5, "delivered")
    assert len(crmtext.calls) == 1


def test_who_waits_while_the_attempt_fails_has_a_pending_one_with_its_error(
    delivery: Delivery, crmtext: FakeCrmText
) -> None:
    crmtext.answer_with(DOWN)
    opt_out = delivery.accept(make_opt_out_request(), None, wait_seconds=1).opt_out
    assert opt_out.error is not None
    assert (opt_out.status, opt_out.error.code) == (Status.PENDING, ErrorCode.CRMTEXT_UNAVAILABLE)


def test_who_waits_without_a_turn_is_told_what_the_worker_reached(
    any_database_url: str,
    crmtext: FakeCrmText,
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="0.3")
    delivery = make_delivery(ledger, crmtext)
    delivery.opt_out_now(make_opt_out_request(), None)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(delivery.accept, make_opt_out_request(), None, wait_seconds=8)
        delivered: list[OptOut] = []

        def is_delivered() -> bool:
            delivered.extend(deliver_due(delivery))
            return bool(delivered)

        wait_until(is_delivered, 8, "a worker delivers it")
        assert waiting.result(8).opt_out == delivered[0]
    assert len(crmtext.calls) == 2
    ledger.engine.dispose()


def test_those_who_wait_long_do_not_use_up_the_turns_of_the_others(
    any_database_url: str,
    crmtext: FakeCrmText,
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="2")
    delivery = make_delivery(ledger, crmtext)
    request = make_opt_out_request()
    threads = [
        threading.Thread(
            target=delivery.accept, args=[request, None], kwargs={"wait_seconds": 3}, daemon=True
        )
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: rows_in(ledger, opt_outs) == 12, 5, "all are accepted")
    time.sleep(0.6)  # one turn goes by
    assert delivery.opt_out_now(request, None).opt_out.status == Status.OPTED_OUT
    for thread in threads:
        thread.join(10)
    ledger.engine.dispose()


# When something breaks


def test_an_outcome_that_cannot_be_written_down_is_told_and_the_row_is_delivered_once_more(
    ledger: Ledger, delivery: Delivery, crmtext: FakeCrmText
) -> None:
    crmtext.answers(Reply(delay=0.4, body=xml()))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(delivery.opt_out_now, make_opt_out_request(), None)
        wait_until(lambda: crmtext.calls, 5, "CRM Text is asked")
        rename(ledger, "attempts", "away")
        opt_out = asking.result(10).opt_out
    rename(ledger, "away", "attempts")
    assert opt_out.status == Status.OPTED_OUT
    assert found(ledger, opt_out.id).status == Status.PENDING
    assert deliver_due(delivery) == []
    let_pass(ledger, timedelta(seconds=12))
    crmtext.answers(Reply(body=xml("400", "Customer is Opted-Out")))
    (again,) = deliver_due(delivery)
    assert (again.id, again.status, again.already_opted_out) == (opt_out.id, "opted_out", True)
    assert found(ledger, opt_out.id) == again
    assert outcomes(ledger, opt_out) == [None, "opted_out"]


def rename(ledger: Ledger, table: str, name: str) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))


def test_nothing_is_sent_when_the_request_cannot_be_written_down(
    ledger: Ledger, delivery: Delivery, crmtext: FakeCrmText
) -> None:
    rename(ledger, "attempts", "away")
    with pytest.raises(LedgerUnavailable):
        delivery.opt_out_now(make_opt_out_request(), None)
    with pytest.raises(LedgerUnavailable):
        delivery.accept(make_opt_out_request(), None, wait_seconds=5)
    rename(ledger, "away", "attempts")
    assert (crmtext.calls, rows_in(ledger, opt_outs)) == ([], 0)


def test_a_slow_attempt_does_not_settle_what_another_has_taken_over(
    ledger: Ledger, delivery: Delivery, crmtext: FakeCrmText
) -> None:
    opt_out = accepted(ledger)
    crmtext.answers(Reply(delay=0.5, body=xml("404", "who?")))
    (slow,) = delivery.claim_due(9).claims
    with ThreadPoolExecutor(1) as pool:
        attempting = pool.submit(delivery.attempt, slow)
        wait_until(lambda: crmtext.calls, 5, "CRM Text is asked")
        let_pass(ledger, timedelta(seconds=12))
        (fast,) = deliver_due(delivery)
        assert attempting.result(5).status == Status.REJECTED
    assert fast.status == Status.OPTED_OUT
    assert found(ledger, opt_out.id) == fast
    assert outcomes(ledger, opt_out) == ["customer_not_found", "opted_out"]


def test_a_store_that_was_removed_keeps_its_opt_outs_until_it_is_back(
    ledger: Ledger, crmtext: FakeCrmText
) -> None:
    pizza, burger = accepted(ledger), accepted(ledger, store="BURGER")
    without = make_delivery(
        ledger, crmtext, CRMTEXT_AUTH_STRINGS=PIZZA, GATEWAY_API_KEYS=f"billing:{'0' * 64}"
    )
    after = {one.id: one for one in deliver_due(without)}
    error = after[burger.id].error
    assert error is not None
    assert (after[pizza.id].status, after[burger.id].status, error.code) == (
        Status.OPTED_OUT,
        Status.PENDING,
        ErrorCode.CRMTEXT_AUTH_FAILED,
    )
    let_pass(ledger, timedelta(seconds=5))
    (back,) = deliver_due(make_delivery(ledger, crmtext))
    assert (back.id, back.status) == (burger.id, Status.OPTED_OUT)
    assert [call.store for call in crmtext.calls] == ["PIZZA", "BURGER"]


def test_a_turn_that_was_slept_through_is_not_used(
    any_database_url: str,
    crmtext: FakeCrmText,
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="0.2")
    delivery = make_delivery(ledger, crmtext)
    opt_out = accepted(ledger)
    (claim,) = delivery.claim_due(9).claims
    late = replace(claim, claimed_at_monotonic=claim.claimed_at_monotonic - 3)
    after = delivery.attempt(late)
    assert after.error is not None
    assert (after.status, after.error.code) == (Status.PENDING, ErrorCode.CRMTEXT_RATE_LIMITED)
    assert (crmtext.calls, outcomes(ledger, opt_out)) == ([], ["crmtext_rate_limited"])
    let_pass(ledger, timedelta(seconds=30))
    assert [one.status for one in deliver_due(delivery)] == ["opted_out"]
    ledger.engine.dispose()


def test_callers_and_workers_at_once_keep_to_the_pace_in_every_second(
    any_database_url: str,
    crmtext: FakeCrmText,
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="40")
    delivery = make_delivery(ledger, crmtext)
    for number in range(40):
        accepted(ledger, f"9995{number:06}")
    ends_at = time.monotonic() + 2.5

    def call() -> None:
        while time.monotonic() < ends_at:
            delivery.opt_out_now(make_opt_out_request(), None)

    def work() -> None:
        while time.monotonic() < ends_at:
            if not deliver_due(delivery):
                time.sleep(0.02)

    at_once(call, call, call, work, work)
    moments = sorted(call.received_at for call in crmtext.calls)
    assert len(moments) > 60
    assert max(sum(at <= moment < at + 1 for moment in moments) for at in moments) <= 40
    ledger.engine.dispose()


def test_an_impossible_row_is_not_sent_and_raises_nothing_but_its_own_error(
    ledger: Ledger, delivery: Delivery, crmtext: FakeCrmText
) -> None:
    accepted(ledger)
    with ledger.engine.begin() as connection:
        connection.execute(update(opt_outs).values(phone_number=None))
    (claim,) = delivery.claim_due(9).claims
    with pytest.raises(ValueError, match="without a number"):
        delivery.attempt(claim)
    assert crmtext.calls == []
