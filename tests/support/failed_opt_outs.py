"""Opt-outs that came in long ago and failed, on a SQLite ledger."""

import sqlite3
from datetime import timedelta

from gateway.assembly import open_ledger
from gateway.consent import OptOut, Outcome
from gateway.errors import ErrorCode, Failure
from gateway.ledger.intake import Entry
from gateway.settings import Settings
from tests.support.factories import make_opt_out_request
from tests.support.ledgers import give_up


def fail(
    settings: Settings,
    *,
    store: str = "PIZZA",
    code: ErrorCode = ErrorCode.CRMTEXT_TIMEOUT,
    days_ago: float = 0,
) -> OptOut:
    """An opt-out that was given up so long ago."""
    ledger = open_ledger(settings)
    request = make_opt_out_request(store=store)
    (recorded,) = ledger.accept([Entry([request])], claims=1)
    assert recorded.claim
    opt_out = give_up(ledger, recorded.claim, Outcome(Failure(code, "Made up.")))
    with sqlite3.connect(settings.database_url.database or "") as connection:
        given_up_at = (opt_out.created_at - timedelta(days=days_ago)).replace(tzinfo=None)
        change = "UPDATE opt_outs SET give_up_at = ? WHERE id = ?"
        connection.execute(change, [given_up_at.isoformat(" ", "microseconds"), opt_out.id])
    connection.close()
    return opt_out
