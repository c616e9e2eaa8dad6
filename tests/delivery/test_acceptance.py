"""What a caller hears: on record before anything else, and the outcome of the first attempt."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from gateway.consent import Status
from gateway.delivery.acceptance import Acceptance
from gateway.errors import CrmTextWords, ErrorCode, GatewayError, LedgerUnavailable
from gateway.ledger.ledger import Ledger
from gateway.ledger.receipts import Receipt
from gateway.ledger.tables import attempts, opt_outs
from tests.support.deliveries import ask, deliver_due, make_acceptance, make_attempts
from tests.support.factories import NUMBER, make_opt_out_request
from tests.support.fake_crmtext import FakeCrmText, Reply, xml
from tests.support.ledgers import accepted, found, make_ledger, rows_in, wait_until

DOWN = Reply(body=xml("500", "down"))
UNKNOWN = Reply(body=xml("404", "no such customer"))
SLOW = Reply(delay=0.6, body=xml())
BOTH_STORES = [make_opt_out_request(store="PIZZA"), make_opt_out_request(store="BURGER")]


@pytest.fixture
def acceptance(ledger: Ledger, crmtext: FakeCrmText) -> Acceptance:
    return make_acceptance(ledger, crmtext)


def test_an_opt_out_that_crm_text_confirms_at_once_is_opted_out_on_record(
    ledger: Ledger, acceptance: Acceptance, crmtext: FakeCrmText
) -> None:
    opt_out = ask(acceptance).opt_out

    assert (opt_out.status, opt_out.attempts, opt_out.error) == (Status.OPTED_OUT, 1, None)
    assert opt_out.customer is not None
    assert (opt_out.customer.phone_number, opt_out.customer.status) == (NUMBER, "opted_out")
    assert found(ledger, opt_out.id) == opt_out
    assert [(call.store, call.phone_number) for call in crmtext.calls] == [("PIZZA", NUMBER)]
    (attempt,) = ledger.attempts_of(opt_out.id)
    assert attempt.outcome == "opted_out"
    assert (attempt.http_status, attempt.crmtext) == (200, CrmTextWords("200", "ok"))
    assert deliver_due(ledger, make_attempts(ledger, crmtext)) == []


def test_a_caller_hears_of_a_failure_and_the_opt_out_stays_pending(
    ledger: Ledger, acceptance: Acceptance, crmtext: FakeCrmText
) -> None:
    crmtext.answers(DOWN)

    opt_out = ask(acceptance).opt_out

    assert opt_out.error is not None
    assert (opt_out.status, opt_out.error.code) == (Status.PENDING, ErrorCode.CRMTEXT_UNAVAILABLE)
    assert opt_out.next_attempt_at is not None
    assert found(ledger, opt_out.id) == opt_out


def test_a_refusal_by_crm_text_ends_the_opt_out(
    ledger: Ledger, acceptance: Acceptance, crmtext: FakeCrmText
) -> None:
    crmtext.answers(UNKNOWN)

    opt_out = ask(acceptance).opt_out

    assert opt_out.error is not None
    assert (opt_out.status, opt_out.error.code) == (Status.REJECTED, ErrorCode.CUSTOMER_NOT_FOUND)
    assert found(ledger, opt_out.id) == opt_out


def test_a_repeat_with_the_same_key_does_not_ask_crm_text_again(
    ledger: Ledger, acceptance: Acceptance, crmtext: FakeCrmText
) -> None:
    crmtext.answers(DOWN)
    receipt = Receipt("key", "body")

    recorded = [ask(acceptance, receipt) for _ in range(2)]

    assert [one.opt_out.status for one in recorded] == ["pending"] * 2
    assert [one.is_repeat for one in recorded] == [False, True]
    assert recorded[0].opt_out == recorded[1].opt_out
    assert (len(crmtext.calls), rows_in(ledger, opt_outs)) == (1, 1)


def test_a_repeat_waits_for_the_attempt_that_is_under_way(
    acceptance: Acceptance, crmtext: FakeCrmText
) -> None:
    crmtext.answers(SLOW)
    receipt = Receipt("key", "body")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, acceptance, receipt)
        wait_until(lambda: crmtext.calls, 5, "CRM Text is asked")

        at_once = ask(acceptance, receipt, wait_seconds=0)
        repeat = ask(acceptance, receipt)

        assert (at_once.is_repeat, at_once.opt_out.status) == (True, Status.PENDING)
        assert (repeat.is_repeat, repeat.opt_out) == (True, first.result(5).opt_out)
        assert repeat.opt_out.status == Status.OPTED_OUT
    assert len(crmtext.calls) == 1


def test_a_repeat_of_a_failed_opt_out_is_sent_again_under_the_same_id(
    ledger: Ledger, acceptance: Acceptance, crmtext: FakeCrmText
) -> None:
    receipt = Receipt("key", "body")
    crmtext.answers(DOWN)
    first = ask(acceptance, receipt).opt_out
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE opt_outs SET status = 'failed', next_attempt_at = NULL"))

    repeat = ask(acceptance, receipt)

    assert (repeat.opt_out.id, repeat.opt_out.status) == (first.id, Status.OPTED_OUT)
    assert repeat.is_repeat


def test_the_key_of_another_body_is_refused(acceptance: Acceptance, crmtext: FakeCrmText) -> None:
    ask(acceptance, Receipt("key", "body"))

    with pytest.raises(GatewayError) as refused:
        ask(acceptance, Receipt("key", "another body"))

    assert refused.value.code == ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert len(crmtext.calls) == 1


def test_all_stores_are_one_request_with_an_opt_out_each(
    ledger: Ledger, acceptance: Acceptance, crmtext: FakeCrmText
) -> None:
    receipt = Receipt("key", "body")

    first = acceptance.accept(BOTH_STORES, receipt)
    repeat = acceptance.accept(BOTH_STORES, receipt)

    assert [one.opt_out.store for one in first] == ["PIZZA", "BURGER"]
    assert [one.opt_out.status for one in first] == ["opted_out"] * 2
    assert [one.opt_out for one in repeat] == [one.opt_out for one in first]
    assert [one.is_repeat for one in repeat] == [True, True]
    assert sorted(call.store for call in crmtext.calls) == ["BURGER", "PIZZA"]
    assert rows_in(ledger, opt_outs) == 2


def test_all_stores_are_asked_at_the_same_time(
    acceptance: Acceptance, crmtext: FakeCrmText
) -> None:
    crmtext.answer_with(SLOW)
    started_at = time.monotonic()

    recorded = acceptance.accept(BOTH_STORES, None)

    assert [one.opt_out.status for one in recorded] == ["opted_out"] * 2
    assert time.monotonic() - started_at < 1.1


def test_a_store_that_was_configured_later_is_not_part_of_the_repeat(
    ledger: Ledger, acceptance: Acceptance
) -> None:
    receipt = Receipt("key", "body")
    first = acceptance.accept(BOTH_STORES, receipt)

    repeat = acceptance.accept([*BOTH_STORES, make_opt_out_request(store="SUSHI")], receipt)

    assert [one.opt_out for one in repeat] == [one.opt_out for one in first]
    assert rows_in(ledger, opt_outs) == 2


# How long a caller waits


def test_a_caller_who_does_not_wait_leaves_it_to_the_worker(
    ledger: Ledger, acceptance: Acceptance, crmtext: FakeCrmText
) -> None:
    opt_out = ask(acceptance, wait_seconds=0).opt_out

    assert (opt_out.status, crmtext.calls) == (Status.PENDING, [])
    (delivered,) = deliver_due(ledger, make_attempts(ledger, crmtext))
    assert (delivered.id, delivered.status) == (opt_out.id, Status.OPTED_OUT)


def test_a_caller_who_waits_some_seconds_hears_the_outcome(
    acceptance: Acceptance, crmtext: FakeCrmText
) -> None:
    crmtext.answers(UNKNOWN)

    statuses = [ask(acceptance, wait_seconds=5).opt_out.status for _ in range(2)]

    assert statuses == ["rejected", "opted_out"]


def test_an_attempt_goes_on_when_its_caller_has_waited_long_enough(
    ledger: Ledger, acceptance: Acceptance, crmtext: FakeCrmText
) -> None:
    crmtext.answers(SLOW)
    started_at = time.monotonic()

    opt_out = ask(acceptance, wait_seconds=0.2).opt_out

    assert opt_out.status == Status.PENDING
    assert 0.2 <= time.monotonic() - started_at < 0.5
    wait_until(lambda: found(ledger, opt_out.id).status == Status.OPTED_OUT, 5, "delivered")
    assert len(crmtext.calls) == 1


def test_one_caller_more_than_may_wait_is_accepted_without_waiting(
    ledger: Ledger, crmtext: FakeCrmText
) -> None:
    acceptance = make_acceptance(ledger, crmtext, threads=8 + 2)
    crmtext.answer_with(SLOW)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ask, acceptance, wait_seconds=seconds) for seconds in (None, 5)]
        wait_until(lambda: len(crmtext.calls) == 2, 5, "two callers wait")
        for seconds in (None, 5):
            started_at = time.monotonic()
            one_more = ask(acceptance, wait_seconds=seconds).opt_out
            assert (one_more.status, one_more.error) == (Status.PENDING, None)
            assert time.monotonic() - started_at < 0.3
        assert [one.result(5).opt_out.status for one in waiting] == ["opted_out"] * 2
    assert (rows_in(ledger, opt_outs), rows_in(ledger, attempts)) == (4, 2)
    crmtext.answer_with(None)
    assert ask(acceptance).opt_out.status == Status.OPTED_OUT


def test_callers_who_do_not_wait_take_no_place_from_those_who_do(
    ledger: Ledger, crmtext: FakeCrmText
) -> None:
    acceptance = make_acceptance(ledger, crmtext, threads=8 + 1)
    with ThreadPoolExecutor(2) as pool:
        with ledger.engine.begin() as connection:  # both have to wait for the ledger
            if connection.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE opt_outs IN EXCLUSIVE MODE"))
            accepting = pool.submit(ask, acceptance, wait_seconds=0)
            time.sleep(0.2)
            asking = pool.submit(ask, acceptance)
            time.sleep(0.2)
        assert accepting.result(5).opt_out.status == Status.PENDING
        assert asking.result(5).opt_out.status == Status.OPTED_OUT


def test_a_caller_without_a_turn_within_the_rate_limit_is_accepted_without_waiting(
    any_database_url: str, crmtext: FakeCrmText
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="0.1")
    acceptance = make_acceptance(ledger, crmtext)
    ask(acceptance)
    started_at = time.monotonic()

    for seconds in (None, 8):
        opt_out = ask(acceptance, wait_seconds=seconds).opt_out
        assert (opt_out.status, opt_out.error, opt_out.attempts) == (Status.PENDING, None, 0)

    assert time.monotonic() - started_at < 0.5
    assert len(crmtext.calls) == 1
    ledger.engine.dispose()


def test_callers_who_wait_long_do_not_use_up_the_turns_of_the_others(
    any_database_url: str, crmtext: FakeCrmText
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="2")
    acceptance = make_acceptance(ledger, crmtext)
    threads = [
        threading.Thread(target=ask, args=[acceptance], kwargs={"wait_seconds": 3}, daemon=True)
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: rows_in(ledger, opt_outs) == 12, 5, "all are accepted")
    time.sleep(0.6)  # one turn goes by
    assert ask(acceptance).opt_out.status == Status.OPTED_OUT
    for thread in threads:
        thread.join(10)
    ledger.engine.dispose()


# One person, several wishes


def test_a_confirmation_ends_every_other_open_opt_out_of_the_number_and_store(
    ledger: Ledger, acceptance: Acceptance, crmtext: FakeCrmText
) -> None:
    crmtext.answers(DOWN)
    earlier = ask(acceptance).opt_out
    waiting = accepted(ledger)
    elsewhere = accepted(ledger, store="BURGER")
    somebody_else = accepted(ledger, "9995550001")
    refused = accepted(ledger)
    with ledger.engine.begin() as connection:
        refuse = "UPDATE opt_outs SET status = 'rejected', next_attempt_at = NULL WHERE id = :id"
        connection.execute(text(refuse), {"id": refused.id})

    confirmed = ask(acceptance).opt_out

    for one in (earlier, waiting):
        now = found(ledger, one.id)
        assert (now.status, now.error, now.next_attempt_at) == (Status.OPTED_OUT, None, None)
        assert (now.opted_out_at, now.customer) == (confirmed.opted_out_at, confirmed.customer)
        assert now.attempts == one.attempts
    assert found(ledger, elsewhere.id) == elsewhere
    assert found(ledger, somebody_else.id) == somebody_else
    assert found(ledger, refused.id).status == Status.REJECTED
    assert len(crmtext.calls) == 2


def test_a_confirmation_leaves_alone_what_is_being_sent_at_that_moment(
    ledger: Ledger, acceptance: Acceptance
) -> None:
    accepted(ledger)
    (claim,) = ledger.claim_due(9, patience_seconds=0).claims

    ask(acceptance)

    assert found(ledger, claim.opt_out.id) == claim.opt_out


# When something breaks


def test_nothing_is_sent_when_the_request_cannot_be_recorded(
    ledger: Ledger, acceptance: Acceptance, crmtext: FakeCrmText
) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(text("ALTER TABLE opt_outs RENAME TO away"))
    for seconds in (None, 5, 0):
        with pytest.raises(LedgerUnavailable):
            ask(acceptance, wait_seconds=seconds)
    with ledger.engine.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO opt_outs"))

    assert (crmtext.calls, rows_in(ledger, opt_outs)) == ([], 0)
    assert ask(acceptance).opt_out.status == Status.OPTED_OUT
