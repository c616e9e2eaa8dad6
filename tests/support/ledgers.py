"""What the tests of the ledger and of all that works on it share: ledgers, their time, threads."""

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Table, func, select, update

from gateway.assembly import open_ledger
from gateway.consent import Customer, OptOut, Outcome, Status
from gateway.errors import CrmTextWords, ErrorCode, Failure
from gateway.ledger.claims import Claim
from gateway.ledger.intake import Entry
from gateway.ledger.ledger import Ledger
from gateway.ledger.migrations.upgrade import upgrade
from gateway.ledger.receipts import Receipt
from gateway.ledger.tables import UtcTime, attempts, clock, opt_outs, receipts
from tests.support.factories import NUMBER, make_opt_out_request, make_settings

T = TypeVar("T")

LEASE = timedelta(seconds=11)  # CRMTEXT_TIMEOUT=1, and ten seconds more
WORDS = CrmTextWords("200", "ok")
CUSTOMER = Customer(
    id="1234567891011",
    name="Jöhn 'Queue' 🍕",
    status="opted_out",
    store_id="456",
    phone_number=NUMBER,
    updated_at=datetime(2014, 8, 11, 21, 23, 36, tzinfo=UTC),
)
OPTED_OUT = Outcome(None, CUSTOMER, http_status=200, crmtext=WORDS)
TIMEOUT = Failure(ErrorCode.CRMTEXT_TIMEOUT, "no answer within 1 second")
TIMED_OUT = Outcome(TIMEOUT)
NOT_FOUND = Failure(ErrorCode.CUSTOMER_NOT_FOUND, "unknown", CrmTextWords("404", "who?"))


def make_ledger(url: str, **changes: str) -> Ledger:
    """A ledger with leases of 11 seconds."""
    return open_ledger(make_settings(**({"DATABASE_URL": url, "CRMTEXT_TIMEOUT": "1"} | changes)))


def make_tables(url: str) -> None:
    """Makes an empty database a ledger."""
    ledger = make_ledger(url)
    upgrade(ledger.engine)
    ledger.engine.dispose()


def accepted(ledger: Ledger, phone_number: str = "9995551234", **fields: str) -> OptOut:
    """An opt-out that the ledger has taken over."""
    request = make_opt_out_request(phone_number, **fields)  # type: ignore[arg-type]  # all are texts
    return ledger.accept([Entry([request])])[0].opt_out


def database_without_tables(folder: Path) -> str:
    """The URL of a SQLite database that has no table of the gateway's."""
    connection = sqlite3.connect(folder / "new.db")
    connection.execute("CREATE TABLE other (name)")
    connection.close()
    return f"sqlite:///{folder / 'new.db'}"


def found(ledger: Ledger, opt_out_id: str) -> OptOut:
    opt_out = ledger.find(opt_out_id)
    assert opt_out is not None
    return opt_out


def rows_in(ledger: Ledger, table: Table) -> int:
    with ledger.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def let_pass(ledger: Ledger, passed: timedelta) -> None:
    """Makes everything on record older."""
    for table in (opt_outs, attempts, receipts, clock):
        for column in table.c:
            if isinstance(column.type, UtcTime):
                _shift(ledger, table, column.name, passed)


def _shift(ledger: Ledger, table: Table, name: str, passed: timedelta) -> None:
    key = next(iter(table.primary_key))
    with ledger.engine.begin() as connection:
        has_one = select(key, table.c[name]).where(table.c[name].is_not(None))
        for row in connection.execute(has_one).all():
            earlier = {name: row[1] - passed}
            connection.execute(update(table).where(key == row[0]).values(earlier))


def at_once(*tasks: Callable[[], T]) -> list[T]:
    """Runs each task in its own thread, all from the same moment; returns or raises as they do."""
    barrier = threading.Barrier(len(tasks))

    def start(task: Callable[[], T]) -> T:
        barrier.wait(10)
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(start, tasks))


def wait_until(is_so: Callable[[], object], seconds: float, what: str) -> float:
    """Waits until it is so, and says how many seconds that took; fails after ``seconds``."""
    started_at = time.monotonic()
    while not is_so():
        assert time.monotonic() - started_at < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - started_at


def begun(ledger: Ledger, receipt: Receipt | None = None) -> Claim:
    """The claim of a request that is sent at once."""
    entry = Entry([make_opt_out_request()], receipt)
    (recorded,) = ledger.accept([entry], claims=1, patience_seconds=2)
    assert recorded.claim is not None
    return recorded.claim


def claimed(ledger: Ledger) -> Claim:
    (claim,) = ledger.claim_due(1, patience_seconds=0).claims
    return claim


def end_attempt(ledger: Ledger, claim: Claim, outcome: Outcome) -> bool:
    return ledger.end_attempt(claim, ledger.after_attempt(claim, outcome, 1.0), outcome)


def give_up(ledger: Ledger, claim: Claim, outcome: Outcome = TIMED_OUT) -> OptOut:
    """The attempt failed, and it was the last one."""
    after = ledger.after_attempt(claim, outcome, 1.0)
    failed = replace(after, status=Status.FAILED, next_attempt_at=None)
    assert ledger.end_attempt(claim, failed, outcome)
    return failed
