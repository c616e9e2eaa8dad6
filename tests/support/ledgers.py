"""What the tests of the ledger and of all that works on it share: ledgers, their time, threads."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from sqlalchemy import Table, func, select, update

from gateway.assembly import open_ledger
from gateway.consent import OptOut
from gateway.ledger.ledger import Ledger
from gateway.ledger.tables import UtcTime, attempts, clock, opt_outs, receipts
from tests.support.factories import make_opt_out_request, make_settings


def make_ledger(url: str, **changes: str) -> Ledger:
    """A ledger with leases of 11 seconds."""
    return open_ledger(make_settings(**({"DATABASE_URL": url, "CRMTEXT_TIMEOUT": "1"} | changes)))


def accepted(ledger: Ledger, phone_number: str = "9995551234", **fields: str) -> OptOut:
    """An opt-out that the ledger has taken over."""
    request = make_opt_out_request(phone_number, **fields)  # type: ignore[arg-type]  # all are texts
    return ledger.accept([(request, None)])[0].opt_out


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
        for row in connection.execute(select(key, table.c[name]).where(table.c[name].is_not(None))):
            earlier = {name: row[1] - passed}
            connection.execute(update(table).where(key == row[0]).values(earlier))


def at_once(*tasks: Callable[[], object]) -> None:
    """Runs each task in a thread of its own, all from the same moment; raises what they raise."""
    barrier = threading.Barrier(len(tasks))

    def start(task: Callable[[], object]) -> None:
        barrier.wait(10)
        task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        list(pool.map(start, tasks))


def wait_until(is_so: Callable[[], object], seconds: float, what: str) -> float:
    """Waits until it is so, and says how many seconds that took; fails after ``seconds``."""
    started_at = time.monotonic()
    while not is_so():
        assert time.monotonic() - started_at < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - started_at
