"""Behind PgBouncer in transaction mode, where no session belongs to anybody."""

from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from gateway.consent import Status
from gateway.ledger.intake import Entry
from gateway.ledger.ledger import Ledger
from gateway.ledger.migrations.upgrade import upgrade
from gateway.ledger.receipts import Receipt
from gateway.ledger.search import Criteria
from gateway.ledger.tables import opt_outs
from tests.support.factories import make_opt_out_request
from tests.support.ledgers import (
    OPTED_OUT,
    TIMED_OUT,
    accepted,
    at_once,
    end_attempt,
    found,
    make_ledger,
    rows_in,
)
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import running_postgres

pytestmark = pytest.mark.postgres


@pytest.fixture
def pooled() -> Iterator[Ledger]:
    """An upgraded, empty ledger behind a pooler."""
    with PgBouncer(running_postgres().new_database()) as pooler:
        ledger = make_ledger(pooler.url, CRMTEXT_RATE="1000")
        upgrade(ledger.engine)
        yield ledger
        ledger.engine.dispose()


def test_opt_outs_are_accepted_delivered_and_read_back_by_many_at_once(pooled: Ledger) -> None:
    def accept_and_deliver() -> None:
        for number in range(40):
            entry = Entry([make_opt_out_request()], Receipt(f"key-{number}", "body"))
            pooled.accept([entry], claims=number % 2, patience_seconds=2)
            for claim in pooled.claim_due(3, patience_seconds=1).claims:
                end_attempt(pooled, claim, TIMED_OUT if number % 3 else OPTED_OUT)
            pooled.summary()
            pooled.search(Criteria(status="pending"), 5)

    at_once(*[accept_and_deliver] * 8)

    assert rows_in(pooled, opt_outs) == 40
    outcomes = Counter(outcome for outcome in pooled.summary().attempts if outcome)
    assert set(outcomes) == {"opted_out", "crmtext_timeout"}


def test_an_opt_out_lives_as_it_does_without_a_pooler(pooled: Ledger) -> None:
    opt_out = accepted(pooled)
    (claim,) = pooled.claim_due(9, patience_seconds=0).claims
    assert end_attempt(pooled, claim, OPTED_OUT)
    assert found(pooled, opt_out.id).status == Status.OPTED_OUT
    assert len(pooled.attempts_of(opt_out.id)) == 1
    pooled.check_writable()


def test_the_limits_that_keep_one_from_holding_up_others_are_set_in_each_transaction(
    pooled: Ledger,
) -> None:
    with pooled.engine.begin() as connection:
        limits = [
            connection.scalar(text(f"SHOW {name}"))
            for name in (
                "lock_timeout",
                "statement_timeout",
                "idle_in_transaction_session_timeout",
                "plan_cache_mode",
            )
        ]
    assert limits == ["4s", "15s", "10s", "force_custom_plan"]
