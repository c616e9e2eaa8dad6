"""``status``: what is on record, what is waiting, and whether a worker is there."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.assembly import open_ledger
from gateway.errors import ErrorCode
from gateway.ledger.ledger import Entry
from gateway.settings import Settings
from tests.support.commands import Printed, gateway, gateway_here
from tests.support.factories import make_opt_out_request
from tests.support.failed_opt_outs import fail


def change(settings: Settings, statement: str) -> None:
    with closing(sqlite3.connect(settings.database_url.database or "")) as connection, connection:
        connection.execute(statement)


@pytest.fixture
def url(settings: Settings) -> str:
    return settings.database_url.render_as_string()


@pytest.fixture
def busy_url(url: str, settings: Settings) -> str:
    """A ledger with something of each kind, and a worker that was just seen."""
    fail(settings, code=ErrorCode.CRMTEXT_AUTH_FAILED)
    ledger = open_ledger(settings)
    ledger.accept([Entry([make_opt_out_request(None)])])
    ledger.accept([Entry([make_opt_out_request(source="webhook:shop")])])
    ledger.worker_is_alive()
    waiting = "created_at = datetime('now', '-3 hours') WHERE status = 'pending'"
    change(settings, f"UPDATE opt_outs SET {waiting}")
    return url


def test_an_empty_ledger_has_no_worker_yet(url: str) -> None:
    assert gateway_here("status", DATABASE_URL=url) == Printed(
        1,
        "opt-outs        none\n"
        "errors          none\n"
        "pending         0\n"
        "worker          never seen; start one with 'python -m gateway worker'\n",
        "",
    )


def test_status_shows_what_is_on_record_and_what_waits(busy_url: str) -> None:
    printed = gateway_here("status", DATABASE_URL=busy_url)

    assert (printed.exit_code, printed.err) == (0, "")
    *lines, worker = printed.out.splitlines()
    assert lines == [
        "opt-outs                1 failed     api:billing",
        "                        1 pending    webhook:shop",
        "                        1 rejected   api:billing",
        "errors                  1 failed     crmtext_auth_failed PIZZA",
        "                        1 rejected   invalid_phone_number PIZZA",
        "pending         1, the oldest for 3 hours",
        "refused         CRM Text refuses the credentials of PIZZA; 1 opt-out is undelivered",
    ]
    assert re.fullmatch(r"worker +last seen \d seconds? ago", worker)


def test_a_silent_worker_is_1(busy_url: str, settings: Settings) -> None:
    change(settings, "UPDATE clock SET at = datetime('now', '-10 minutes')")

    printed = gateway_here("status", DATABASE_URL=busy_url)

    assert printed.exit_code == 1
    assert printed.steps["worker"] == "last seen 10 minutes ago (silent: is it running?)"


def test_a_program_can_read_it(busy_url: str, settings: Settings) -> None:
    change(settings, "UPDATE clock SET at = '2026-11-24 20:00:00.000000'")

    printed = gateway_here("status", "--json", DATABASE_URL=busy_url)

    assert (printed.exit_code, printed.err) == (1, "")
    assert json.loads(printed.out) == {
        "opt_outs": [
            {"status": "failed", "source": "api:billing", "count": 1},
            {"status": "pending", "source": "webhook:shop", "count": 1},
            {"status": "rejected", "source": "api:billing", "count": 1},
        ],
        "errors": [
            {"status": "failed", "code": "crmtext_auth_failed", "store": "PIZZA", "count": 1},
            {"status": "rejected", "code": "invalid_phone_number", "store": "PIZZA", "count": 1},
        ],
        "pending": 1,
        "oldest_pending_seconds": pytest.approx(3 * 3600, abs=30),
        "refused_credentials": [{"store": "PIZZA", "count": 1}],
        "worker": {"last_seen_at": "2026-11-24T20:00:00Z", "is_silent": True},
    }


@pytest.mark.parametrize(
    "command", [["status"], ["retry", "--all", "--yes"], ["list"], ["show", "9995550001"]]
)
def test_a_ledger_without_tables_is_named_as_such(command: list[str], tmp_path: Path) -> None:
    printed = gateway_here(*command, DATABASE_URL=f"sqlite:///{tmp_path}/new.db")
    what = "The database tables do not match this version; run 'python -m gateway release'.\n"
    assert printed == Printed(1, "", what)


@pytest.mark.parametrize("command", [["status"], ["retry", "--all", "--yes"], ["release"]])
def test_a_database_that_is_away_is_one_line(command: list[str]) -> None:
    failed = gateway(*command, DATABASE_URL="postgres://u:s3cret@127.0.0.1:9/x")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.splitlines()[0].endswith(": connection refused.")
    assert len(failed.stderr.splitlines()) == 1
