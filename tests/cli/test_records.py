"""``status`` and ``retry``."""

import re
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.assembly import open_ledger
from gateway.consent import OptOut, Outcome
from gateway.errors import ErrorCode, Failure
from gateway.ledger.ledger import Entry
from gateway.settings import Settings
from tests.support.commands import Printed, gateway, gateway_here
from tests.support.factories import make_opt_out_request
from tests.support.ledgers import give_up


def fail(
    settings: Settings,
    *,
    store: str = "PIZZA",
    code: ErrorCode = ErrorCode.CRMTEXT_TIMEOUT,
    days_ago: float = 0,
) -> OptOut:
    """An opt-out that came in so long ago and failed."""
    ledger = open_ledger(settings)
    request = make_opt_out_request(store=store)
    (recorded,) = ledger.accept([Entry([request])], claims=1)
    assert recorded.claim
    opt_out = give_up(ledger, recorded.claim, Outcome(Failure(code, "Made up.")))
    with sqlite3.connect(settings.database_url.database or "") as connection:
        created_at = (opt_out.created_at - timedelta(days=days_ago)).replace(tzinfo=None)
        change = "UPDATE opt_outs SET created_at = ? WHERE id = ?"
        connection.execute(change, [created_at.isoformat(" ", "microseconds"), opt_out.id])
    connection.close()
    return opt_out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--all"], "3 failed opt-outs will be delivered again."),
        (["--all", "--older-too"], "4 failed opt-outs will be delivered again."),
        (["--all", "--store", "BURGER"], "1 failed opt-out will be delivered again."),
        (["--store", "burger"], "1 failed opt-out will be delivered again."),
        (["--store", "PIZZA", "--older-too"], "3 failed opt-outs will be delivered again."),
        (["--code", "crmtext_timeout"], "1 failed opt-out will be delivered again."),
        (
            ["--code", "crmtext_timeout", "--older-too"],
            "2 failed opt-outs will be delivered again.",
        ),
        (["--code", "internal_error"], "0 failed opt-outs will be delivered again."),
        (
            ["--code", "crmtext_auth_failed", "--store", "BURGER"],
            "1 failed opt-out will be delivered again.",
        ),
    ],
)
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_retry_takes_what_was_asked_for_and_no_more(
    options: list[str], expected: str, dry_run: list[str], settings: Settings
) -> None:
    fail(settings, days_ago=9.9)
    fail(settings, days_ago=10.1)
    fail(settings, code=ErrorCode.CRMTEXT_AUTH_FAILED)
    fail(settings, code=ErrorCode.CRMTEXT_AUTH_FAILED, store="BURGER")
    ledger = open_ledger(settings)
    ledger.accept([Entry([make_opt_out_request()])])
    url = settings.database_url.render_as_string()
    printed = gateway_here("retry", *options, *dry_run, DATABASE_URL=url)
    assert (printed.exit_code, printed.err) == (0, "")
    wanted = expected.replace("will", "would") if dry_run else expected
    assert printed.out.splitlines()[0] == wanted
    summary = ledger.summary()
    assert summary.pending == 1 + (0 if dry_run else int(expected[0]))
    assert sum(summary.opt_outs.values()) == 5


def test_retry_says_what_it_left_alone(settings: Settings) -> None:
    fail(settings, days_ago=11)
    url = settings.database_url.render_as_string()
    printed = gateway_here("retry", "--all", DATABASE_URL=url)
    assert printed.out == (
        "0 failed opt-outs will be delivered again.\n"
        "1 failed opt-out older than 10 days skipped: the customer may have opted in again since. "
        "Use --older-too to include them.\n"
    )


def test_retry_for_a_store_that_is_not_configured_is_refused(settings: Settings) -> None:
    url = settings.database_url.render_as_string()
    printed = gateway_here("retry", "--store", "SUSHI", DATABASE_URL=url)
    assert printed == Printed(1, "", "--store: must be one of PIZZA, BURGER\n")


def test_status_shows_what_is_on_record_and_what_waits(settings: Settings) -> None:
    url = settings.database_url.render_as_string()
    empty = gateway_here("status", DATABASE_URL=url)
    assert empty.out == (
        "opt-outs        none\nerrors          none\npending         0\n"
        "worker          never seen; start one with 'python -m gateway worker'\n"
    )
    fail(settings)
    ledger = open_ledger(settings)
    ledger.accept([Entry([make_opt_out_request(None)])])
    ledger.accept([Entry([make_opt_out_request(source="webhook:shop")])])
    ledger.worker_is_alive()
    with sqlite3.connect(settings.database_url.database or "") as connection:
        connection.execute(
            "UPDATE opt_outs SET created_at = datetime('now', '-3 hours') WHERE status = 'pending'"
        )
    connection.close()
    printed = gateway_here("status", DATABASE_URL=url)
    assert (printed.exit_code, printed.err) == (0, "")
    *lines, worker = printed.out.splitlines()
    assert lines == [
        "opt-outs                1 failed    api:billing",
        "                        1 pending   webhook:shop",
        "                        1 rejected  api:billing",
        "errors                  1 failed    crmtext_timeout PIZZA",
        "                        1 rejected  invalid_phone_number PIZZA",
        "pending         1, the oldest for 3 hours",
    ]
    assert re.fullmatch(r"worker +last seen \d seconds? ago", worker)
    with sqlite3.connect(settings.database_url.database or "") as connection:
        connection.execute("UPDATE clock SET at = datetime('now', '-10 minutes')")
    connection.close()
    printed = gateway_here("status", DATABASE_URL=url)
    assert printed.steps["worker"] == ("last seen 10 minutes ago (silent: is it running?)")


@pytest.mark.parametrize("command", [["status"], ["retry", "--all"]])
def test_a_ledger_without_tables_is_named_as_such(command: list[str], tmp_path: Path) -> None:
    printed = gateway_here(*command, DATABASE_URL=f"sqlite:///{tmp_path}/new.db")
    what = "The database tables don't match this version; run 'python -m gateway release'.\n"
    assert printed == Printed(1, "", what)


@pytest.mark.parametrize("command", [["status"], ["retry", "--all"], ["release"]])
def test_a_database_that_is_away_is_one_line(command: list[str]) -> None:
    failed = gateway(*command, DATABASE_URL="postgres://u:s3cret@127.0.0.1:9/x")
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1
    assert "s3cret" not in failed.stdout + failed.stderr
