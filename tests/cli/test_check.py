"""``check``: whether the settings are complete, and what they say."""

from tests.support.commands import HOOKS, gateway
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
