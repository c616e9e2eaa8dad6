"""The worker: in this process where its work is looked at, as a process where its end is."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from gateway.assembly import open_crmtext
from gateway.consent import Outcome, Status
from gateway.crmtext.client import CrmText
from gateway.delivery.attempts import Attempts
from gateway.delivery.worker import THREADS, Worker
from gateway.ledger.ledger import Ledger
from gateway.ledger.migrations.upgrade import upgrade
from gateway.ledger.tables import opt_outs
from gateway.settings import Settings
from tests.support.factories import make_environment, make_settings, run
from tests.support.fake_crmtext import FakeCrmText, Reply, xml
from tests.support.ledgers import accepted, found, make_ledger, wait_until
from tests.support.postgres import Postgres
from tests.support.processes import has_started, running_worker

SECONDS_TO_END = 3.0


@pytest.fixture
def environment(crmtext: FakeCrmText, any_database_url: str) -> dict[str, str]:
    return make_environment(
        CRMTEXT_URL=crmtext.url, CRMTEXT_TIMEOUT="1", DATABASE_URL=any_database_url
    )


@contextmanager
def working(ledger: Ledger, crmtext: CrmText) -> Iterator[None]:
    """A worker in a thread of this process."""
    worker = Worker(ledger, Attempts(ledger, crmtext))
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(10)
        assert not thread.is_alive()


def is_opted_out(ledger: Ledger, *ids: str) -> bool:
    return all(found(ledger, one).status == Status.OPTED_OUT for one in ids)


def end(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Asks it to end; its exit code, and after how many seconds."""
    asked_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    return process.wait(20), time.monotonic() - asked_at


# What it does


def test_all_that_is_due_is_delivered_and_the_ledger_shows_that_a_worker_is_alive(
    ledger: Ledger, crmtext: FakeCrmText, settings: Settings
) -> None:
    ids = [accepted(ledger, f"9995{number:06}").id for number in range(100)]
    with working(ledger, open_crmtext(settings)):
        wait_until(lambda: is_opted_out(ledger, *ids), 20, "all are delivered")
    summary = ledger.summary()
    assert summary.worker_seen_at is not None
    assert summary.now - summary.worker_seen_at < timedelta(seconds=20)
    assert dict(summary.attempts) == {"opted_out": 100}
    assert sorted(call.phone_number for call in crmtext.calls) == sorted(
        f"9995{number:06}" for number in range(100)
    )


def test_a_worker_calls_on_many_threads_at_once(
    ledger: Ledger, crmtext: FakeCrmText, settings: Settings
) -> None:
    crmtext.answer_with(Reply(delay=0.5, body=xml()))
    ids = [accepted(ledger, f"9995{number:06}").id for number in range(2 * THREADS)]
    with working(ledger, open_crmtext(settings)):
        seconds = wait_until(lambda: is_opted_out(ledger, *ids), 20, "all are delivered")
    assert seconds < 6  # one after the other they would take 32


class _WithABug(CrmText):
    """Meets something that nobody has thought of, for one number."""

    def opt_out(self, phone_number: str, store: str) -> Outcome:
        if phone_number == "9995550666":
            raise ZeroDivisionError(phone_number)
        return super().opt_out(phone_number, store)


def test_a_bug_in_one_opt_out_does_not_stop_the_others_and_loses_nothing(
    ledger: Ledger, settings: Settings
) -> None:
    first, unreadable, impossible = (accepted(ledger, f"9995{number:06}").id for number in range(3))
    unlucky = accepted(ledger, "9995550666").id
    with ledger.engine.begin() as connection:
        for opt_out_id, column, poison in [
            (unreadable, opt_outs.c.customer, {"no": "customer"}),
            (impossible, opt_outs.c.phone_number, None),
        ]:
            its_row = update(opt_outs).where(opt_outs.c.id == opt_out_id)
            connection.execute(its_row.values({column: poison}))
    last = accepted(ledger).id
    crmtext = _WithABug(settings.crmtext_url, 1, settings.stores)
    with working(ledger, crmtext):
        wait_until(lambda: is_opted_out(ledger, first, last), 10, "the others are delivered")
        wait_until(lambda: found(ledger, unlucky).error, 10, "the unlucky one has its error")
        later = accepted(ledger).id
        wait_until(lambda: is_opted_out(ledger, later), 10, "it goes on")
    error = found(ledger, unlucky).error
    assert error is not None
    assert (found(ledger, unlucky).status, error.code, error.detail) == (
        Status.PENDING,
        "internal_error",
        "Internal error; see the gateway's log.",
    )
    with ledger.engine.begin() as connection:
        connection.execute(update(opt_outs).values(customer=None))
    assert [found(ledger, one).status for one in (unreadable, impossible)] == ["pending"] * 2


@pytest.mark.slow
def test_a_low_rate_does_not_make_a_worker_look_dead(
    any_database_url: str,
    crmtext: FakeCrmText,
) -> None:
    ledger = make_ledger(any_database_url, CRMTEXT_RATE="0.01")
    for _ in range(3):
        accepted(ledger)
    settings = make_settings(CRMTEXT_URL=crmtext.url)
    with working(ledger, open_crmtext(settings)):
        wait_until(lambda: ledger.summary().worker_seen_at, 5, "the first sign")
        first = ledger.summary().worker_seen_at
        wait_until(lambda: ledger.summary().worker_seen_at != first, 8, "the second sign")
        stopping_at = time.monotonic()
    assert time.monotonic() - stopping_at < SECONDS_TO_END
    assert len(crmtext.calls) == 1
    ledger.engine.dispose()


# How it ends, and what does not end it


def test_sigterm_ends_an_idle_worker_at_once_with_exit_code_0(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with running_worker(environment, tmp_path) as process:
        wait_until(lambda: has_started(tmp_path), 20, "it has started")
        code, seconds = end(process)
    assert code == 0
    assert seconds < SECONDS_TO_END


def test_sigterm_finishes_what_is_in_flight_and_claims_nothing_new(
    environment: dict[str, str], ledger: Ledger, crmtext: FakeCrmText, tmp_path: Path
) -> None:
    seconds_of_a_call = 2.5  # so that none has ended before all have begun
    crmtext.answer_with(Reply(delay=seconds_of_a_call, body=xml()))
    ids = [accepted(ledger, f"9995{number:06}").id for number in range(THREADS + 20)]
    with running_worker(environment | {"CRMTEXT_TIMEOUT": "5"}, tmp_path) as process:
        wait_until(lambda: len(crmtext.calls) == THREADS, 20, "all its threads are at work")
        code, seconds = end(process)
    assert code == 0
    assert seconds < seconds_of_a_call + SECONDS_TO_END
    assert len(crmtext.calls) == THREADS
    statuses = sorted(found(ledger, one).status for one in ids)
    assert statuses == ["opted_out"] * THREADS + ["pending"] * 20
    assert len(ledger.claim_due(99, patience_seconds=0).claims) == 20  # nobody holds them


def test_many_signals_end_a_worker_like_one(environment: dict[str, str], tmp_path: Path) -> None:
    with running_worker(environment, tmp_path) as process:
        wait_until(lambda: has_started(tmp_path), 20, "it has started")
        for _ in range(20):
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_no_log_line_of_a_delivery_shows_the_number(
    environment: dict[str, str], ledger: Ledger, crmtext: FakeCrmText, tmp_path: Path
) -> None:
    crmtext.answers(Reply(body=b"<html>9995551234"), Reply(reset=True))
    ids = [accepted(ledger, f"9995{number:06}").id for number in range(3)]
    with running_worker(environment, tmp_path) as process:
        wait_until(lambda: is_opted_out(ledger, *ids), 20, "all are delivered")
        assert end(process)[0] == 0
    output = (tmp_path / "worker.log").read_text()
    assert "9995551234" not in output
    messages = [json.loads(line)["message"] for line in output.splitlines()]
    assert (messages[0], messages[-1]) == ("worker started", "worker stopped")
    assert sorted(messages[1:-1]) == ["attempt failed"] * 2 + ["attempt succeeded"] * 3


@pytest.mark.postgres
def test_a_postgres_that_is_away_at_the_start_and_in_the_middle_is_waited_for(
    postgres: Postgres,
    crmtext: FakeCrmText,
    tmp_path: Path,
) -> None:
    url = postgres.new_database()
    environment = make_environment(CRMTEXT_URL=crmtext.url, DATABASE_URL=url)
    ledger = make_ledger(url)
    postgres.stop("fast")
    with running_worker(environment, tmp_path) as process:
        wait_until(lambda: has_started(tmp_path), 20, "it has started")
        time.sleep(1.5)
        assert process.poll() is None
        postgres.start()  # without tables
        time.sleep(1.5)
        assert process.poll() is None
        upgrade(ledger.engine)
        first = accepted(ledger).id
        wait_until(lambda: is_opted_out(ledger, first), 10, "the tables are there")
        postgres.stop("immediate")
        time.sleep(1.5)
        assert process.poll() is None
        postgres.start()
        ledger.engine.dispose()
        second = accepted(ledger).id
        wait_until(lambda: is_opted_out(ledger, second), 10, "the server is back")
        postgres.stop("fast")
        time.sleep(0.5)
        code, seconds = end(process)
    assert code == 0
    assert seconds < SECONDS_TO_END
    ledger.engine.dispose()


def test_an_sqlite_ledger_that_is_not_there_yet_is_waited_for(
    crmtext: FakeCrmText, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'later' / 'gateway.db'}"
    environment = make_environment(CRMTEXT_URL=crmtext.url, DATABASE_URL=url)
    with running_worker(environment, tmp_path) as process:
        wait_until(lambda: has_started(tmp_path), 20, "it has started")
        time.sleep(1.2)
        assert process.poll() is None
        (tmp_path / "later").mkdir()
        ledger = make_ledger(url)
        upgrade(ledger.engine)
        opt_out_id = accepted(ledger).id
        wait_until(lambda: is_opted_out(ledger, opt_out_id), 10, "the file is there")
        assert end(process)[0] == 0
    ledger.engine.dispose()


@pytest.mark.postgres
def test_a_postgres_that_hangs_does_not_keep_the_worker_from_ending(
    postgres: Postgres,
    crmtext: FakeCrmText,
    tmp_path: Path,
) -> None:
    url = postgres.new_database()
    environment = make_environment(CRMTEXT_URL=crmtext.url, DATABASE_URL=url)
    ledger = make_ledger(url)
    upgrade(ledger.engine)
    with running_worker(environment, tmp_path) as process:
        wait_until(lambda: has_started(tmp_path), 20, "it has started")
        wait_until(lambda: ledger.summary().worker_seen_at, 5, "it is at work")
        with ledger.engine.begin() as connection:
            connection.exec_driver_sql("LOCK TABLE clock, opt_outs IN ACCESS EXCLUSIVE MODE")
            time.sleep(0.5)
            code, seconds = end(process)
    assert code == 0
    assert seconds < 5 + SECONDS_TO_END  # a lock is waited for that long
    ledger.engine.dispose()


def test_without_its_settings_a_worker_ends_with_exit_code_1_and_says_what_is_wrong() -> None:
    ended = run("-m", "gateway", "worker", environment=make_environment(CRMTEXT_AUTH_STRINGS=""))
    assert ended.returncode == 1
    assert ended.stderr.startswith("CRMTEXT_AUTH_STRINGS: is not set")
