"""``status``: what is on record, what is waiting, and whether a worker is there."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from unittest.mock import ANY

import pytest

from gateway.assembly import open_ledger
from gateway.errors import ErrorCode
from gateway.ledger.intake import Entry
from gateway.ledger.webhook_messages import IGNORED, WebhookMessages
from gateway.settings import Settings
from tests.support.commands import Printed, gateway, gateway_here
from tests.support.factories import make_opt_out_request
from tests.support.failed_opt_outs import fail
from tests.support.ledgers import database_without_tables


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
        "webhooks        shop: accepted 1, last 3 hours ago; refused 0; ignored 0",
    ]
    assert re.fullmatch(r"worker +last seen \d seconds? ago", worker)


@pytest.fixture
def with_webhooks(url: str, settings: Settings) -> dict[str, str]:
    """Two sources, and what came of messages to one of them and to one that is gone."""
    messages = WebhookMessages(open_ledger(settings).engine)
    for reason in ("wrong_signature", "wrong_signature", "invalid_json", IGNORED):
        messages.count("shop", reason)
    messages.count("gone", IGNORED)
    messages.flush()
    sources = "\n".join(
        f"[{name}]\nrecipe = 'shopify'\nsecret_env = 'HOOK'" for name in ("quiet", "shop")
    )
    return {"DATABASE_URL": url, "WEBHOOK_SOURCES": sources, "HOOK": "secret"}


def test_status_shows_the_result_of_each_sources_messages(
    with_webhooks: dict[str, str], settings: Settings
) -> None:
    change(settings, "UPDATE webhook_messages SET last_at = datetime('now', '-5 minutes')")

    printed = gateway_here("status", **with_webhooks)

    assert printed.out.splitlines()[3:6] == [
        "webhooks        quiet: accepted 0; refused 0; ignored 0",
        "                shop: accepted 0; refused 3, last 5 minutes ago: 1 invalid_json, "
        "2 wrong_signature; ignored 1, last 5 minutes ago",
        "                gone: accepted 0; refused 0; ignored 1, last 5 minutes ago",
    ]


def test_the_json_status_shows_the_result_of_each_sources_messages(
    with_webhooks: dict[str, str], settings: Settings
) -> None:
    change(settings, "UPDATE webhook_messages SET last_at = '2026-11-24 20:00:00.000000'")

    printed = gateway_here("status", "--json", **with_webhooks)

    nothing = {"count": 0, "last_at": None}
    at = "2026-11-24T20:00:00Z"
    assert json.loads(printed.out)["webhooks"][1:] == [
        {
            "source": "shop",
            "accepted": nothing,
            "refused": {
                "count": 3,
                "last_at": at,
                "reasons": {"invalid_json": 1, "wrong_signature": 2},
            },
            "ignored": {"count": 1, "last_at": at},
        },
        {
            "source": "gone",
            "accepted": nothing,
            "refused": nothing | {"reasons": {}},
            "ignored": {"count": 1, "last_at": at},
        },
    ]


def test_a_silent_worker_exits_with_1(busy_url: str, settings: Settings) -> None:
    change(settings, "UPDATE clock SET at = datetime('now', '-10 minutes')")

    printed = gateway_here("status", DATABASE_URL=busy_url)

    assert printed.exit_code == 1
    assert printed.steps["worker"] == "last seen 10 minutes ago (silent: is it running?)"


def test_status_can_be_read_by_a_program(busy_url: str, settings: Settings) -> None:
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
        "webhooks": [
            {
                "source": "shop",
                "accepted": {"count": 1, "last_at": ANY},
                "refused": {"count": 0, "last_at": None, "reasons": {}},
                "ignored": {"count": 0, "last_at": None},
            }
        ],
        "worker": {"last_seen_at": "2026-11-24T20:00:00Z", "is_silent": True},
    }


@pytest.mark.parametrize(
    "command", [["status"], ["retry", "--all", "--yes"], ["list"], ["show", "9995550001"]]
)
def test_a_ledger_without_tables_is_named_as_such(command: list[str], tmp_path: Path) -> None:
    printed = gateway_here(*command, DATABASE_URL=database_without_tables(tmp_path))
    what = "The database tables do not match this version; run 'python -m gateway release'.\n"
    assert printed == Printed(1, "", what)


@pytest.mark.slow
@pytest.mark.parametrize("command", [["status"], ["retry", "--all", "--yes"], ["release"]])
def test_an_unreachable_database_is_reported_in_one_line(command: list[str]) -> None:
    failed = gateway(*command, DATABASE_URL="postgres://u:s3cret@127.0.0.1:9/x")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.splitlines()[0].endswith(": connection refused.")
    assert len(failed.stderr.splitlines()) == 1
