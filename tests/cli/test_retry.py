"""``retry``: which opt-outs are delivered again, and that it asks before."""

import os
import pty
import subprocess
import sys

import pytest

from gateway.assembly import open_ledger
from gateway.errors import ErrorCode
from gateway.ledger.intake import Entry
from gateway.settings import Settings
from tests.support.api import change_ledger
from tests.support.commands import gateway_here
from tests.support.factories import ROOT, make_environment, make_opt_out_request
from tests.support.failed_opt_outs import fail


def url_of(settings: Settings) -> str:
    return settings.database_url.render_as_string()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--all"], {"crmtext_auth_failed": 2, "crmtext_timeout": 1}),
        (["--all", "--older-too"], {"crmtext_auth_failed": 2, "crmtext_timeout": 2}),
        (["--all", "--store", "BURGER"], {"crmtext_auth_failed": 1}),
        (["--store", "burger"], {"crmtext_auth_failed": 1}),
        (["--store", "PIZZA", "--older-too"], {"crmtext_auth_failed": 1, "crmtext_timeout": 2}),
        (["--code", "crmtext_timeout"], {"crmtext_timeout": 1}),
        (["--older-too", "--code", "crmtext_timeout"], {"crmtext_timeout": 2}),
        (["--code", "internal_error"], {}),
        (["--code", "crmtext_auth_failed", "--store", "BURGER"], {"crmtext_auth_failed": 1}),
    ],
)
@pytest.mark.parametrize("option", ["--yes", "--dry-run"])
def test_retry_takes_what_was_asked_for_and_no_more(
    options: list[str], expected: dict[str, int], option: str, settings: Settings
) -> None:
    fail(settings, days_ago=9.9)
    fail(settings, days_ago=10.1)
    fail(settings, code=ErrorCode.CRMTEXT_AUTH_FAILED)
    fail(settings, code=ErrorCode.CRMTEXT_AUTH_FAILED, store="BURGER")
    ledger = open_ledger(settings)
    ledger.accept([Entry([make_opt_out_request()])])

    printed = gateway_here("retry", *options, option, DATABASE_URL=url_of(settings))

    assert printed.exit_code == 0
    shown = [f"{count:>9} {code}" for code, count in expected.items()] or ["none"]
    assert [line[16:] for line in printed.out.splitlines()[: len(shown)]] == shown
    retried = sum(expected.values()) if option == "--yes" else 0
    summary = ledger.summary()
    assert summary.pending == 1 + retried
    assert sum(summary.opt_outs.values()) == 5


def test_retry_says_what_it_skips(settings: Settings) -> None:
    fail(settings, days_ago=11)
    fail(settings)

    printed = gateway_here("retry", "--all", "--yes", DATABASE_URL=url_of(settings))

    assert printed.out == (
        "failed                  1 crmtext_timeout\n"
        "skipped                 1 given up over 10 days ago: the customer may have opted in again "
        "since; --older-too includes them\n"
        "1 failed opt-out will be delivered again.\n"
    )


@pytest.mark.parametrize("option", ["--yes", "--dry-run"])
def test_retry_for_a_store_that_is_not_configured_is_a_usage_error(
    option: str, settings: Settings
) -> None:
    printed = gateway_here("retry", "--store", "SUSHI", option, DATABASE_URL=url_of(settings))

    assert (printed.exit_code, printed.out) == (2, "")
    assert printed.err.endswith("Error: Invalid value for --store: must be one of PIZZA, BURGER\n")


def test_without_a_terminal_nothing_is_delivered_unless_it_says_yes(settings: Settings) -> None:
    fail(settings)

    printed = gateway_here("retry", "--all", DATABASE_URL=url_of(settings))

    assert (printed.exit_code, printed.out) == (2, "")
    assert "there is no terminal to ask on; use --yes, or --dry-run to look" in printed.err
    assert open_ledger(settings).summary().pending == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "exit_code", "last_line", "pending"),
    [
        ("y\n", 0, "1 failed opt-out will be delivered again.", 1),
        ("n\n", 1, "Aborted!", 0),
        ("\n", 1, "Aborted!", 0),
    ],
)
def test_on_a_terminal_it_asks(
    answer: str, exit_code: int, last_line: str, pending: int, settings: Settings
) -> None:
    fail(settings)
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())

    left = subprocess.run(
        [sys.executable, "-m", "gateway", "retry", "--all"],
        cwd=ROOT,
        env={**make_environment(DATABASE_URL=url_of(settings)), "PATH": os.environ["PATH"]},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    os.close(ours)
    os.close(theirs)

    assert left.returncode == exit_code
    assert "Deliver 1 failed opt-out again? [y/N]: " in left.stdout
    assert left.stdout.splitlines()[-1].endswith(last_line)
    assert open_ledger(settings).summary().pending == pending


def test_many_are_retried_in_batches_until_none_is_left(settings: Settings) -> None:
    ledger = open_ledger(settings)
    ledger.accept([Entry([make_opt_out_request()]) for _ in range(4_100)])
    change_ledger(
        settings,
        "UPDATE opt_outs SET status = 'failed', error_code = 'crmtext_timeout', "
        "error_detail = '', next_attempt_at = NULL",
    )

    printed = gateway_here("retry", "--all", "--yes", DATABASE_URL=url_of(settings))

    assert printed.out.splitlines()[-1] == "4100 failed opt-outs will be delivered again."
    assert ledger.summary().pending == 4_100
