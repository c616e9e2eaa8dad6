"""Everything wrong with the environment is reported at once, a line each, and without a secret."""

import pytest

from gateway.errors import ConfigurationError
from gateway.settings import Settings
from tests.support.setting_faults import SECRET, A, B, faults

ADDRESS = "must be an address like https://host/path"
WHOLE_SECONDS = "must be a whole number from 1 to 20"
STORE = "is not USERNAME:PASSWORD:KEYWORD"
KEYWORD = (
    "the keyword of entry 1 must be 4 to 19 ASCII characters, not only digits, and without a comma"
)
KEY = (
    "is not NAME:SHA256HEX[:STORES[:RIGHTS]] with a NAME of up to 64 letters, digits and . _ - "
    "and the 64 hex digits of the key's SHA-256"
)
UNKNOWN_STORE = "entry 1 (billing) names the store TACOS, which CRMTEXT_AUTH_STRINGS does not have"
NO_STORE = "entry 1 (billing) names a store, which CRMTEXT_AUTH_STRINGS does not have"
UNKNOWN_RIGHT = "entry 1 (billing) has an unknown right; the rights are opt-in, desk"
QUOTES = "has quotes around it that became part of it (docker --env-file keeps them)"
LEVEL = "must be debug, info, warning, error or critical"
RATE = "must be a number of calls per second, or 0 for no limit"
PATH = "is taken for the path of a file, because it has no '='; the file cannot be read"
NO_FILE = "No such file or directory"
DATABASE = "must begin with sqlite:///, postgres:// or postgresql://"


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        (
            "CRMTEXT_AUTH_STRINGS",
            "",
            "is not set. Set it to one USERNAME:PASSWORD:KEYWORD for each",
        ),
        ("CRMTEXT_AUTH_STRINGS", "hunter2", f"entry 1 {STORE}"),
        ("CRMTEXT_AUTH_STRINGS", "user:hunter2", f"entry 1 {STORE}"),
        ("CRMTEXT_AUTH_STRINGS", "user:hunter2:PIZZA :hunter2:PIZZAS", f"entry 2 {STORE}"),
        ("CRMTEXT_AUTH_STRINGS", "user::PIZZA", f"entry 1 {STORE}"),
        ("CRMTEXT_AUTH_STRINGS", "user:hunter2:", f"entry 1 {STORE}"),
        ("CRMTEXT_AUTH_STRINGS", "user:hunter2:ABC", KEYWORD),
        ("CRMTEXT_AUTH_STRINGS", f"user:hunter2:{'A' * 20}", KEYWORD),
        ("CRMTEXT_AUTH_STRINGS", "user:hunter2:12345", KEYWORD),
        ("CRMTEXT_AUTH_STRINGS", "user:hunter2:PIZ,ZA", KEYWORD),
        ("CRMTEXT_AUTH_STRINGS", "user:hunter2:PIZZÄ", KEYWORD),
        (
            "CRMTEXT_AUTH_STRINGS",
            "user:hunter2:PIZZA other:hunter2:pizza",
            "entry 2 has the keyword PIZZA, like an earlier one",
        ),
        ("GATEWAY_API_KEYS", "", "is not set. Create a key with 'python -m gateway make-key NAME'"),
        ("GATEWAY_API_KEYS", "hunter2", f"entry 1 {KEY}"),
        ("GATEWAY_API_KEYS", "billing:hunter2", f"entry 1 {KEY}"),
        ("GATEWAY_API_KEYS", f"billing:{A} :{B}", f"entry 2 {KEY}"),
        ("GATEWAY_API_KEYS", f"bil ling:{A}", f"entry 1 {KEY}"),
        ("GATEWAY_API_KEYS", f"{'x' * 65}:{A}", f"entry 1 {KEY}"),
        ("GATEWAY_API_KEYS", f"bìlling:{A}", f"entry 1 {KEY}"),
        ("GATEWAY_API_KEYS", f"billing:{A}0", f"entry 1 {KEY}"),
        ("GATEWAY_API_KEYS", f"billing:{A[1:]}g", f"entry 1 {KEY}"),
        ("GATEWAY_API_KEYS", f"billing:{A}:TACOS", UNKNOWN_STORE),
        ("GATEWAY_API_KEYS", f"billing:{A}:PIZZA,", NO_STORE),
        ("GATEWAY_API_KEYS", f"billing:{A}:hunter2-hunter2-hunter2", NO_STORE),
        ("GATEWAY_API_KEYS", f"billing:{A}:", f"entry 1 {KEY}"),
        ("GATEWAY_API_KEYS", f"billing:{A}:*:", f"entry 1 {KEY}"),
        ("GATEWAY_API_KEYS", f"billing:{A}::desk", f"entry 1 {KEY}"),
        ("GATEWAY_API_KEYS", f"billing:{A}:*:desk:x", f"entry 1 {KEY}"),
        ("GATEWAY_API_KEYS", f"billing:{A}:PIZZA:BURGER", UNKNOWN_RIGHT),
        ("GATEWAY_API_KEYS", f"billing:{A}:*:desk,", UNKNOWN_RIGHT),
        (
            "GATEWAY_API_KEYS",
            f"billing:{A} other:{A.upper()}",
            "entry 2 (other) has the same key as an earlier one",
        ),
        ("CRMTEXT_URL", "hunter2", ADDRESS),
        ("CRMTEXT_URL", "ftp://crm.example.com", ADDRESS),
        ("CRMTEXT_URL", "https://", ADDRESS),
        ("CRMTEXT_URL", "https://[::1", ADDRESS),
        ("CRMTEXT_URL", "https://host:0/", ADDRESS),
        ("CRMTEXT_URL", "https://host:65536/", ADDRESS),
        ("CRMTEXT_URL", "https://host/#top", ADDRESS),
        *(
            ("CRMTEXT_URL", f"https://{host}/", "must have a valid host name")
            for host in ["...", "*.example.com", "crm..example.com", "a%00b", f"{'a' * 64}.com"]
        ),
        ("CRMTEXT_URL", "https://crm example.com/", "must be ASCII without spaces"),
        ("CRMTEXT_URL", "https://exämple.com/", "must be ASCII without spaces"),
        (
            "CRMTEXT_URL",
            "https://user:hunter2@crm.example.com/",
            "must not contain a user name or password",
        ),
        *(
            ("CRMTEXT_URL", url, "must be https, because passwords are sent there")
            for url in (
                "http://crm.example.com/",
                "http://localhost.example.com/",
                "http://127.0.0.1.example.com/",
                "http://0.0.0.0/",
                "http://10.0.0.1/",
                "http://127.1/",
            )
        ),
        *(
            ("CRMTEXT_TIMEOUT", text, WHOLE_SECONDS)
            for text in ["0", "21", "6.5", "-6", "+6", "6s", "٦", "1e1"]
        ),
        *(
            ("CRMTEXT_RATE", text, RATE)
            for text in ["-1", "fast", "1e3", "inf", "nan", "1/s", ".5"]
        ),
        ("DATABASE_URL", "hunter2", "must be like sqlite:///file.db or postgres://…"),
        (
            "DATABASE_URL",
            "postgres://u:hunter2@h:port/d",
            "must be like sqlite:///file.db or postgres://…",
        ),
        (
            "DATABASE_URL",
            "sqlite:////x.db?timeout=abc",
            "must not have options after the file name",
        ),
        ("DATABASE_URL", "sqlite:////\udcff.db", "is not UTF-8"),
        ("CRMTEXT_AUTH_STRINGS", "user:hunter2\udcff:PIZZA", "is not UTF-8"),
        *(
            ("DATABASE_URL", f"postgres://u:{rest}", "must have a valid host name; in the password")
            for rest in ["p@hunter2@host/d", "p@hunter2/x@host/d", "p@hunter2 @host/d"]
        ),
        ("DATABASE_URL", "mysql://u:hunter2@h/d", DATABASE),
        ("DATABASE_URL", "postgresql+psycopg2://u:hunter2@h/d", DATABASE),
        ("DATABASE_URL", "sqlite://", "must name a file, because all processes share it"),
        ("DATABASE_URL", "sqlite:///:memory:", "must name a file, because all processes share it"),
        *(
            ("DELIVERY_DAYS", text, "must be a number of days greater than 0")
            for text in ["0", "0.0", "-1", "ten", "10000000", "inf"]
        ),
        (
            "WEBHOOK_SOURCES",
            "/nowhere/hooks.toml",
            f"/nowhere/hooks.toml cannot be read: {NO_FILE}",
        ),
        *(("WEBHOOK_SOURCES", text, f"{PATH}: {NO_FILE}") for text in ["hunter2", "[hunter2"]),
        ("WEBHOOK_SOURCES", "/", f"{PATH}: Is a directory"),
        ("PUBLIC_URL", "hunter2", ADDRESS),
        ("PUBLIC_URL", "https://gateway.example.com/?a=hunter2", "must not have a query"),
        (
            "PUBLIC_URL",
            "https://u:hunter2@gateway.example.com",
            "must not contain a user name or password",
        ),
        *(
            ("HOST", text, "must be an IP address or a host name, without a port")
            for text in ["http://127.0.0.1", "127.0.0.1:8000", "a b", "*", "hunter2/x"]
        ),
        *(
            ("PORT", text, "must be a whole number from 1 to 65535")
            for text in ["0", "65536", "http", "80.0"]
        ),
        *(
            ("WEB_CONCURRENCY", text, "must be a whole number from 1 to 64")
            for text in ["0", "65", "two"]
        ),
        ("LOG_LEVEL", "verbose", LEVEL),
        ("LOG_LEVEL", "10", LEVEL),
        *(
            (name, f"{quote}hunter2{quote}", QUOTES)
            for name in ["CRMTEXT_AUTH_STRINGS", "GATEWAY_API_KEYS", "DATABASE_URL", "PORT"]
            for quote in "\"'"
        ),
    ],
)
def test_a_fault_is_one_line_that_names_the_variable_and_no_secret(
    name: str, text: str, fault: str
) -> None:
    found = faults(**{name: text})

    assert [line[: len(f"{name}: {fault}")] for line in found] == [f"{name}: {fault}"]
    assert "hunter2" not in found[0]
    assert "\n" not in found[0]


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Settings.from_env(
            {
                "CRMTEXT_AUTH_STRINGS": f"{SECRET} user:{SECRET}:ABC",
                "GATEWAY_API_KEYS": f"billing:{SECRET}",
                "CRMTEXT_URL": f"https://user:{SECRET}@crm.example.com/",
                "CRMTEXT_TIMEOUT": SECRET,
                "CRMTEXT_RATE": SECRET,
                "DATABASE_URL": f"oracle://user:{SECRET}@host/db",
                "DELIVERY_DAYS": SECRET,
                "WEBHOOK_SOURCES": f"/nowhere/{SECRET}",
                "PUBLIC_URL": f"https://user:{SECRET}@gateway.example.com/",
                "PORT": SECRET,
                "WEB_CONCURRENCY": SECRET,
                "LOG_LEVEL": SECRET,
            }
        )

    assert [line.partition(":")[0] for line in sorted(refusal.value.faults)] == [
        "CRMTEXT_AUTH_STRINGS",
        "CRMTEXT_AUTH_STRINGS",
        "CRMTEXT_RATE",
        "CRMTEXT_TIMEOUT",
        "CRMTEXT_URL",
        "DATABASE_URL",
        "DELIVERY_DAYS",
        "GATEWAY_API_KEYS",
        "LOG_LEVEL",
        "PORT",
        "PUBLIC_URL",
        "WEBHOOK_SOURCES",
        "WEB_CONCURRENCY",
    ]
    assert SECRET not in str(refusal.value)
    assert SECRET not in repr(refusal.value)


def test_an_empty_environment_names_what_is_required() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Settings.from_env({})

    assert [line.partition(".")[0] for line in refusal.value.faults] == [
        "CRMTEXT_AUTH_STRINGS: is not set",
        "GATEWAY_API_KEYS: is not set",
    ]
