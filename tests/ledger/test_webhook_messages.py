"""Refused and ignored webhooks are counted cheaply, whatever becomes of the database."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import event, text

from gateway.errors import LedgerUnavailable
from gateway.ledger.ledger import Ledger
from gateway.ledger.tables import webhook_messages
from gateway.ledger.webhook_messages import (
    IGNORED,
    Activity,
    Count,
    WebhookMessages,
    read_activity,
)
from tests.support.ledgers import accepted, at_once, make_ledger, rows_in, wait_until


def numbers(ledger: Ledger) -> dict[str, tuple[int, dict[str, int], int]]:
    """Of each source what was accepted, refused by reason, and ignored."""
    return {
        source: (
            activity.accepted.number,
            {reason: count.number for reason, count in activity.refused.items()},
            activity.ignored.number,
        )
        for source, activity in read_activity(ledger.engine).items()
    }


def test_counts_of_all_processes_add_up(ledger: Ledger) -> None:
    before = datetime.now(UTC)
    one, other = WebhookMessages(ledger.engine), WebhookMessages(ledger.engine)
    for messages in (one, other, one):
        messages.count("shop", "wrong_signature")
        messages.count("shop", IGNORED)
        messages.flush()
    other.count("zap", "invalid_json")
    other.flush()
    accepted(ledger, source="webhook:shop")
    accepted(ledger, source="webhook:crm")
    accepted(ledger, source="api:shop")
    assert numbers(ledger) == {
        "crm": (1, {}, 0),
        "shop": (1, {"wrong_signature": 3}, 3),
        "zap": (0, {"invalid_json": 1}, 0),
    }
    shop = read_activity(ledger.engine)["shop"]
    for count in (shop.accepted, shop.refused["wrong_signature"], shop.ignored):
        assert count.last_at is not None
        assert before <= count.last_at <= datetime.now(UTC)


def test_nothing_on_record_counts_as_zero(ledger: Ledger) -> None:
    WebhookMessages(ledger.engine).flush()
    assert read_activity(ledger.engine) == {}
    assert Activity() == Activity(Count(), {}, Count())


def test_a_flood_is_one_write(ledger: Ledger) -> None:
    commits: list[object] = []
    event.listen(ledger.engine, "commit", commits.append)
    messages = WebhookMessages(ledger.engine)

    def flood() -> None:
        for _ in range(1000):
            messages.count("shop", "wrong_signature")

    at_once(*[flood] * 4)
    messages.flush()
    assert len(commits) <= 2  # the timer may have come in between
    assert numbers(ledger) == {"shop": (0, {"wrong_signature": 4000}, 0)}


def test_counts_are_written_without_being_asked_for(ledger: Ledger) -> None:
    messages = WebhookMessages(ledger.engine)
    messages.count("shop", IGNORED)
    assert rows_in(ledger, webhook_messages) == 0
    wait_until(lambda: rows_in(ledger, webhook_messages), 5, "the count is on record")
    messages.count("shop", IGNORED)
    wait_until(lambda: numbers(ledger)["shop"][2] == 2, 5, "the next one is, too")


def test_two_processes_that_write_at_once_do_not_lose_a_count(ledger: Ledger) -> None:
    def write() -> None:
        messages = WebhookMessages(ledger.engine)
        for _ in range(20):
            for source in ("b", "a", "c"):
                messages.count(source, IGNORED)
            messages.flush()

    at_once(write, write)
    assert numbers(ledger) == {source: (0, {}, 40) for source in "abc"}


def test_an_unreachable_database_costs_nothing_but_time() -> None:
    away = make_ledger("postgres://nobody@127.0.0.1:9/none")
    messages = WebhookMessages(away.engine)
    messages.count("shop", IGNORED)
    messages.flush()
    messages.count("shop", IGNORED)
    with pytest.raises(LedgerUnavailable):
        read_activity(away.engine)


def test_what_could_not_be_written_is_written_later(ledger: Ledger) -> None:
    messages = WebhookMessages(ledger.engine)
    with ledger.engine.begin() as connection:
        connection.execute(text("ALTER TABLE webhook_messages RENAME TO elsewhere"))
    messages.count("shop", IGNORED)
    messages.flush()
    messages.count("shop", IGNORED)
    with ledger.engine.begin() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO webhook_messages"))
    messages.flush()
    assert numbers(ledger) == {"shop": (0, {}, 2)}
