"""Databases that are away, locked or cut off: ledger_unavailable, soon, and nothing half done."""

import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import text

from gateway.consent import OptOut, Status
from gateway.errors import LedgerUnavailable
from gateway.ledger.claims import Claim
from gateway.ledger.ledger import Ledger
from gateway.ledger.migrations.upgrade import upgrade
from gateway.ledger.search import Criteria, FailedOptOuts
from gateway.ledger.tables import opt_outs
from tests.support.factories import NUMBER, free_port
from tests.support.ledgers import (
    OPTED_OUT,
    accepted,
    at_once,
    begun,
    end_attempt,
    found,
    make_ledger,
    rows_in,
)
from tests.support.postgres import Postgres, new_postgres_ledger, running_postgres

CALLS: dict[str, Callable[[Ledger], object]] = {
    "accept": accepted,
    "begin": begun,
    "claim_due": lambda ledger: ledger.claim_due(1, patience_seconds=0),
    "settle": lambda ledger: end_attempt(ledger, _any_claim(ledger), OPTED_OUT),
    "retry": lambda ledger: ledger.retry("x"),
    "retry_failed": lambda ledger: ledger.retry_failed(FailedOptOuts(), limit=9),
    "count_failed": lambda ledger: ledger.count_failed(FailedOptOuts()),
    "find": lambda ledger: ledger.find("x"),
    "search": lambda ledger: ledger.search(Criteria(phone_number=NUMBER), 9),
    "attempts_of": lambda ledger: ledger.attempts_of("x"),
    "summary": Ledger.summary,
    "worker_is_alive": Ledger.worker_is_alive,
}


def _any_claim(ledger: Ledger) -> Claim:
    now = datetime.now(UTC)
    opt_out = OptOut(
        **dict.fromkeys(OptOut.__dataclass_fields__)  # type: ignore[arg-type]
        | {"id": "x", "phone_number": NUMBER, "created_at": now, "requested_at": now}
    )
    del ledger
    return Claim(
        opt_out,
        "token",
        1,
        failures=0,
        give_up_at=now,
        turn_in_seconds=0,
        claimed_at=now,
    )


def _no_database(folder: Path) -> str:
    (folder / "text.db").write_text("no database at all " * 100)
    return f"sqlite:///{folder / 'text.db'}"


UNUSABLE: dict[str, Callable[[Path], str]] = {
    "no folder": lambda _: "sqlite:////nowhere/at-all/gateway.db",
    "not a database": _no_database,
    "no tables": lambda folder: f"sqlite:///{folder / 'empty.db'}",
    "no server": lambda _: f"postgresql://gateway@127.0.0.1:{free_port()}/gateway",
    "no tables on postgres": lambda _: running_postgres().new_database(),
    "no such database on postgres": lambda _: running_postgres().url("nowhere"),
}
KINDS = [
    pytest.param(kind, marks=[pytest.mark.postgres] if kind.endswith("postgres") else [])
    for kind in UNUSABLE
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_database_that_cannot_be_used_makes_every_call_ledger_unavailable(
    tmp_path: Path, kind: str, call: str
) -> None:
    ledger = make_ledger(UNUSABLE[kind](tmp_path))
    with pytest.raises(LedgerUnavailable) as caught:
        CALLS[call](ledger)
    assert_no_number(caught.value)
    ledger.engine.dispose()


def assert_no_number(error: BaseException) -> None:
    """No number in what is shown or logged of it: causes included, our own source lines not."""
    shown: BaseException | None = error
    while shown is not None:
        assert NUMBER not in str(shown)
        assert NUMBER not in repr(shown.args)
        shown = shown.__cause__ or shown.__context__


@pytest.mark.slow
@pytest.mark.parametrize("call", ["accept", "claim_due"])
def test_a_locked_ledger_is_unavailable_within_seconds_and_nothing_is_kept(
    ledger: Ledger, call: str
) -> None:
    started_at = time.monotonic()
    with ledger.engine.connect() as holder, holder.begin():
        if ledger.engine.dialect.name == "postgresql":
            holder.execute(text("LOCK TABLE opt_outs IN EXCLUSIVE MODE"))
        with pytest.raises(LedgerUnavailable) as caught:
            CALLS[call](ledger)
        assert ledger.search(Criteria(), 9) == []  # reading waits for nobody
    assert 4 < time.monotonic() - started_at < 9
    assert_no_number(caught.value)
    assert rows_in(ledger, opt_outs) == 0
    assert accepted(ledger).status == Status.PENDING


def test_a_program_that_only_reads_the_file_does_not_hold_up_the_ledger(tmp_path: Path) -> None:
    """A back-up, say."""
    ledger = make_ledger(f"sqlite:///{tmp_path / 'gateway.db'}")
    upgrade(ledger.engine)
    accepted(ledger)
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM opt_outs").fetchall() == [(1,)]
        accepted(ledger)
        assert reader.execute("SELECT count(*) FROM opt_outs").fetchall() == [(1,)]
    ledger.engine.dispose()


@pytest.mark.postgres
def test_a_postgres_that_stops_and_starts_again_is_used_again_at_once(
    postgres: Postgres,
) -> None:
    ledger = make_ledger(postgres.new_database())
    upgrade(ledger.engine)
    at_once(*[lambda: accepted(ledger)] * 6)  # all connections of the pool are open
    modes: list[Literal["fast", "immediate"]] = ["fast", "immediate"]
    for mode in modes:
        postgres.stop(mode)
        for call in CALLS.values():
            with pytest.raises(LedgerUnavailable) as caught:
                call(ledger)
            assert_no_number(caught.value)
        postgres.start()
        at_once(*[lambda: accepted(ledger)] * 6)
    assert rows_in(ledger, opt_outs) == 18
    ledger.engine.dispose()


@pytest.mark.postgres
def test_a_connection_that_dies_in_the_middle_of_a_transaction_is_ledger_unavailable() -> None:
    url = new_postgres_ledger()
    ledger = make_ledger(url)
    accepted(ledger)
    killed = threading.Event()

    def kill() -> None:
        name = url.rpartition("/")[2]
        running_postgres().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{name}' AND wait_event_type = 'Lock'"
        )
        killed.set()

    with ledger.engine.connect() as holder, holder.begin():
        holder.execute(text("LOCK TABLE opt_outs IN EXCLUSIVE MODE"))
        threading.Timer(0.5, kill).start()
        with pytest.raises(LedgerUnavailable):
            accepted(ledger)
        assert killed.wait(5)
    assert rows_in(ledger, opt_outs) == 1
    ledger.engine.dispose()


@pytest.mark.postgres
def test_a_postgres_that_is_cut_off_is_noticed_in_seconds() -> None:
    ledger = make_ledger(new_postgres_ledger())
    with ledger.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        with socket.fromfd(driver.pgconn.socket, socket.AF_INET, socket.SOCK_STREAM) as sock:
            options = [
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            ]
            unacknowledged = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    idle, interval, probes = options
    assert idle + interval * probes <= 30
    assert 0 < unacknowledged <= 30_000
    ledger.engine.dispose()


def test_more_threads_than_connections_wait_for_one_instead_of_failing(ledger: Ledger) -> None:
    at_once(*[lambda: accepted(ledger)] * 40)
    assert rows_in(ledger, opt_outs) == 40


@pytest.mark.slow
def test_a_postgres_that_says_nothing_is_given_up_within_5_seconds(postgres: Postgres) -> None:
    ledger = make_ledger(postgres.new_database())
    upgrade(ledger.engine)
    opt_out = accepted(ledger)
    # With a connection that is there, and with one that has to be made.
    asked: list[Callable[[], object]] = [
        lambda: accepted(ledger),
        lambda: found(ledger, opt_out.id),
    ]
    with postgres.frozen():
        for ask in asked:
            started_at = time.monotonic()
            with pytest.raises(LedgerUnavailable) as refused:
                ask()
            assert time.monotonic() - started_at < 6
            assert "no answer in time" in refused.value.detail
    assert found(ledger, opt_out.id) == opt_out
    assert accepted(ledger).status == Status.PENDING
    ledger.engine.dispose()
