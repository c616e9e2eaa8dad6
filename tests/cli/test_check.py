"""``check``: whether the settings are complete, and what they say."""

import socket
from pathlib import Path

import pytest

from gateway.settings import Settings
from tests.support.commands import HOOKS, Printed, gateway, gateway_here
from tests.support.factories import NUMBER, sha256
from tests.support.fake_crmtext import FakeCrmText, Reply, xml
from tests.support.ledgers import database_without_tables
from tests.support.signing import SECRET


def test_check_says_what_is_configured() -> None:
    checked = gateway("check", CRMTEXT_RATE="2.5", **HOOKS)
    assert (checked.returncode, checked.stderr) == (0, "")
    lines = checked.stdout.splitlines()
    assert lines[:10] == [
        "stores          PIZZA, user pizzeria, the default",
        "                BURGER, user burgerbar",
        "API keys        billing, all stores",
        "                burger, BURGER",
        "CRM Text        http://127.0.0.1:9/smapi/rest, 2 s a call",
        "rate limit      2.5 calls a second",
        "database        SQLite, for one machine",
        "delivery        10 days",
        "listens on      127.0.0.1, port 8000",
        "public URL      https://gateway.example.com",
    ]
    assert lines[10] == "webhooks        standard-webhooks (standard-webhooks)"
    for secret in ("pizza:secret", "burger-secret", SECRET, "/nowhere"):
        assert secret not in checked.stdout


def test_check_tells_postgres_without_its_password() -> None:
    checked = gateway("check", DATABASE_URL="postgres://us3r:pa55@db.example.com/x")
    assert "database        Postgres\n" in checked.stdout
    assert "us3r" not in checked.stdout
    assert "pa55" not in checked.stdout


def test_check_points_out_two_auth_strings_that_became_one() -> None:
    checked = gateway("check", CRMTEXT_AUTH_STRINGS="a:b:PIZZAc:d:BURGER")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "stores          BURGER, user a, the default\n" in checked.stdout
    assert (
        "warnings        CRMTEXT_AUTH_STRINGS: the password of store BURGER looks as if it "
        "contained another entry; are quotes missing"
    ) in checked.stdout
    assert "b:PIZZA" not in checked.stdout


def test_check_shows_warnings_beside_what_is_wrong() -> None:
    key = f"pizza:{sha256('pizza')}:PIZZA"
    checked = gateway_here(
        "check", CRMTEXT_AUTH_STRINGS="u:p:PIZZAu:p:BURGER", GATEWAY_API_KEYS=key
    )
    assert (checked.exit_code, checked.out) == (1, "")
    fault, warning = checked.err.splitlines()
    assert fault == (
        "GATEWAY_API_KEYS: entry 1 (pizza) names the store PIZZA, which CRMTEXT_AUTH_STRINGS does "
        "not have"
    )
    assert warning.startswith(
        "Warning: CRMTEXT_AUTH_STRINGS: the password of store BURGER looks as if it contained "
        "another entry"
    )


def test_check_warns_of_a_host_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    checked = gateway_here("check", HOST="nohost.invalid")
    assert checked.exit_code == 0
    assert checked.steps["warnings"].startswith(
        "HOST: nohost.invalid is not the name of a machine that is known here (Name or service not "
        "known); "
    )
    assert ", but see the warnings;" in checked.out


TWO_STORES = "pizzeria:sandbox:PIZZA burgerbar:sandbox:BURGER"


def live(crmtext: FakeCrmText, settings: Settings, *options: str, **changes: str) -> Printed:
    url = settings.database_url.render_as_string()
    defaults = {"CRMTEXT_AUTH_STRINGS": TWO_STORES, "DATABASE_URL": url}
    return gateway_here(
        "check", "--live", *options, CRMTEXT_URL=crmtext.url, **(defaults | changes)
    )


def test_check_asks_the_database_and_crm_text_for_each_store(
    crmtext: FakeCrmText, settings: Settings
) -> None:
    checked = live(crmtext, settings)

    assert (checked.exit_code, checked.err) == (0, "")
    assert checked.out.partition("\n\n")[2] == (
        "database        can be written\n"
        "CRM Text        PIZZA: answers, and knows the customer\n"
        "                BURGER: answers, and knows the customer\n"
        "The settings are complete. The database can be written, and CRM Text answers for every "
        "store.\n"
    )
    asked = {(call.method, call.store, call.phone_number) for call in crmtext.calls}
    assert asked == {("getcustomerinfo", store, NUMBER) for store in ("PIZZA", "BURGER")}


def test_a_store_whose_credentials_are_refused_is_named(
    crmtext: FakeCrmText, settings: Settings
) -> None:
    checked = live(
        crmtext, settings, CRMTEXT_AUTH_STRINGS="pizzeria:wrong:PIZZA burgerbar:sandbox:BURGER"
    )

    assert checked.exit_code == 1
    assert "PIZZA: crmtext_auth_failed: CRM Text refused the credentials" in checked.out
    assert "BURGER: answers, and knows the customer" in checked.out
    assert checked.out.endswith("The settings are complete, but not everything can be used.\n")


def test_a_customer_that_crm_text_does_not_know_proves_the_credentials(
    crmtext: FakeCrmText, settings: Settings
) -> None:
    crmtext.answer_with(Reply(body=xml("404", "Customer not found", "getcustomerinfo")))

    checked = live(crmtext, settings, "--number", "(999) 555-0001")

    assert checked.exit_code == 0
    assert "PIZZA: answers (customer_not_found)" in checked.out
    assert {call.phone_number for call in crmtext.calls} == {"9995550001"}


def test_a_database_without_tables_does_not_keep_crm_text_from_being_asked(
    crmtext: FakeCrmText, settings: Settings, tmp_path: Path
) -> None:
    checked = live(crmtext, settings, DATABASE_URL=database_without_tables(tmp_path))

    assert checked.exit_code == 1
    assert "database        The database tables do not match this version; run" in checked.out
    assert "PIZZA: answers" in checked.out


def test_an_unreachable_crm_text_is_reported_for_each_store(settings: Settings) -> None:
    url = settings.database_url.render_as_string()

    checked = gateway_here("check", "--live", DATABASE_URL=url)

    assert checked.exit_code == 1
    assert "database        can be written" in checked.out
    assert "PIZZA: crmtext_unreachable: " in checked.out
    assert "BURGER: crmtext_unreachable: " in checked.out
