"""Settings are read from the environment, with their defaults."""

from dataclasses import fields
from pathlib import Path

import pytest
from sqlalchemy import String

from gateway.accounts import ApiKey, Right, Store
from gateway.ledger.tables import opt_outs
from gateway.settings import Settings
from tests.support.factories import make_environment, make_settings, sha256
from tests.support.setting_faults import SECRET, A, B, C, faults

DEMO = f"demo:{sha256('demo-key-for-the-sandbox')}"


def test_a_complete_environment_is_read(tmp_path: Path) -> None:
    settings = make_settings(
        CRMTEXT_AUTH_STRINGS=" user:pass:word:Pizza\n other:pw:BURGER ",
        CRMTEXT_URL="https://crm.example.com/api",
        CRMTEXT_TIMEOUT="20",
        CRMTEXT_RATE="2.5",
        GATEWAY_API_KEYS=f"""
            billing:{A}
            billing:{B.upper()}:pizza,BURGER:desk,opt-in
            desk:{C}:*:desk
        """,
        DATABASE_URL=f"sqlite:///{tmp_path}/gateway.db",
        DELIVERY_DAYS="0.5",
        PUBLIC_URL="https://gateway.example.com/",
        HOST="::1",
        PORT="5000",
        WEB_CONCURRENCY="3",
        LOG_LEVEL="WARNING",
    )

    assert {one.name: getattr(settings, one.name) for one in fields(Settings)} == {
        "stores": (
            Store("PIZZA", "user:pass:word:Pizza"),
            Store("BURGER", "other:pw:BURGER"),
        ),
        "api_keys": (
            ApiKey("billing", bytes.fromhex(A), None),
            ApiKey("billing", bytes.fromhex(B), frozenset({"PIZZA", "BURGER"}), frozenset(Right)),
            ApiKey("desk", bytes.fromhex(C), None, frozenset({Right.DESK})),
        ),
        "crmtext_url": "https://crm.example.com/api",
        "crmtext_timeout_seconds": 20,
        "crmtext_calls_per_second": 2.5,
        "database_url": settings.database_url,
        "delivery_days": 0.5,
        "webhook_sources": {},
        "public_url": "https://gateway.example.com",
        "host": "::1",
        "port": 5000,
        "web_processes": 3,
        "web_threads": 264,
        "log_level": "warning",
    }
    assert settings.database_url.database == f"{tmp_path}/gateway.db"


def test_only_stores_and_keys_are_needed() -> None:
    settings = Settings.from_env(
        {"CRMTEXT_AUTH_STRINGS": "user:pass:PIZZA", "GATEWAY_API_KEYS": f"billing:{A}"}
    )

    assert {one.name: getattr(settings, one.name) for one in fields(Settings)} == {
        "stores": (Store("PIZZA", "user:pass:PIZZA"),),
        "api_keys": (ApiKey("billing", bytes.fromhex(A), None),),
        "crmtext_url": "https://restapi.crmtext.com/smapi/rest",
        "crmtext_timeout_seconds": 6,
        "crmtext_calls_per_second": 30.0,
        "database_url": settings.database_url,
        "delivery_days": 10.0,
        "webhook_sources": {},
        "public_url": None,
        "host": "127.0.0.1",
        "port": 8000,
        "web_processes": 2,
        "web_threads": 264,
        "log_level": "info",
    }
    assert str(settings.database_url) == "sqlite:///gateway.db"


DEFAULTS = {
    "CRMTEXT_URL": "https://restapi.crmtext.com/smapi/rest",
    "CRMTEXT_TIMEOUT": "6",
    "CRMTEXT_RATE": "30",
    "DATABASE_URL": "sqlite:///gateway.db",
    "DELIVERY_DAYS": "10",
    "WEBHOOK_SOURCES": "",
    "PUBLIC_URL": "",
    "HOST": "127.0.0.1",
    "PORT": "8000",
    "WEB_CONCURRENCY": "2",
    "LOG_LEVEL": "info",
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_an_empty_variable_counts_as_unset(name: str) -> None:
    environment = make_environment(**{name: ""})

    blank = Settings.from_env(environment | {name: "  "})

    assert blank == Settings.from_env(environment)
    assert blank == Settings.from_env(environment | {name: DEFAULTS[name]})


HOOKS = """
[shop]
recipe = "shopify"
secret_env = "SHOP_SECRET"
"""


def test_webhook_sources_are_read_from_a_file_or_from_the_variable_itself(tmp_path: Path) -> None:
    file = tmp_path / "hooks.toml"
    file.write_text(HOOKS, encoding="utf-8")

    from_file = make_settings(WEBHOOK_SOURCES=str(file), SHOP_SECRET=SECRET)
    from_text = make_settings(WEBHOOK_SOURCES=HOOKS, SHOP_SECRET=SECRET)

    assert from_file == from_text
    assert list(from_file.webhook_sources) == ["shop"]


def test_toml_may_begin_and_end_with_a_quote() -> None:
    sources = '"shop".recipe = "shopify"\n"shop".secret_env = "SHOP_SECRET"'

    settings = make_settings(WEBHOOK_SOURCES=sources, SHOP_SECRET=SECRET)

    assert list(settings.webhook_sources) == ["shop"]


def test_a_fault_of_a_webhook_source_is_one_line_too() -> None:
    (fault,) = faults(WEBHOOK_SOURCES=HOOKS)

    assert fault.startswith("WEBHOOK_SOURCES: ")
    assert "SHOP_SECRET" in fault


def test_no_secret_is_in_the_repr_of_settings() -> None:
    settings = make_settings(
        CRMTEXT_AUTH_STRINGS=f"user:{SECRET}:PIZZA",
        GATEWAY_API_KEYS=f"billing:{A}",
        DATABASE_URL=f"postgres://user:{SECRET}@host/db?password={SECRET}&sslpassword={SECRET}",
        WEBHOOK_SOURCES=HOOKS,
        SHOP_SECRET=SECRET,
    )

    shown = repr(settings) + str(settings) + repr(settings.stores) + repr(settings.api_keys)
    assert SECRET not in shown
    assert A not in shown
    assert repr(bytes.fromhex(A)) not in shown


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgres_is_known_by_all_its_names(scheme: str) -> None:
    url = make_settings(DATABASE_URL=f"{scheme}://user:pw@host:5433/db?sslmode=require")

    assert url.database_url.render_as_string(hide_password=False) == (
        "postgresql+psycopg://user:pw@host:5433/db?sslmode=require"
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8001/smapi/rest",
        "http://127.0.0.1:8001/smapi/rest",
        "http://127.9.9.9/",
        "http://[::1]:8001/",
        "https://crm.example.com/?tenant=1",
        "https://10.0.0.1:8443/",
        "https://crm_test.example.com/",
    ],
)
def test_crm_text_is_reached_by_https_or_on_this_machine(url: str) -> None:
    assert make_settings(CRMTEXT_URL=url).crmtext_url == url


def test_the_demo_key_works_with_a_crm_text_on_this_machine_only() -> None:
    local = faults(GATEWAY_API_KEYS=DEMO, CRMTEXT_URL="http://localhost:8001/")
    real = faults(GATEWAY_API_KEYS=f"a:{A} {DEMO}", CRMTEXT_URL="https://crm.example.com/")

    assert local == ()
    assert real == (
        "GATEWAY_API_KEYS: the README's demo key is public, so it works with the sandbox only; "
        "create your own with 'python -m gateway make-key NAME'",
    )


def test_sqlite_is_refused_where_the_disk_is_not_kept() -> None:
    assert faults(DYNO="web.1", DATABASE_URL="postgres://host/db") == ()
    assert faults(DYNO="web.1") == (
        "DATABASE_URL: SQLite would lose every opt-out here, because a dyno's disk is not kept; "
        "add a Postgres database (heroku addons:create heroku-postgresql)",
    )


def test_a_dyno_listens_on_all_addresses() -> None:
    url = "postgres://host/db"

    assert make_settings(DYNO="web.1", DATABASE_URL=url).host == "0.0.0.0"
    assert make_settings(DYNO="web.1", DATABASE_URL=url, HOST="10.0.0.1").host == "10.0.0.1"


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"HOST": "0.0.0.0", "PORT": "5000"}, "http://127.0.0.1:5000"),
        ({"HOST": "::"}, "http://[::1]:8000"),
        ({"HOST": "gateway.local"}, "http://gateway.local:8000"),
        ({"PUBLIC_URL": "https://gateway.example.com/"}, "https://gateway.example.com"),
    ],
)
def test_the_gateway_knows_where_it_is_found(changes: dict[str, str], url: str) -> None:
    assert make_settings(**changes).base_url == url


@pytest.mark.parametrize(
    ("auth_strings", "fused"),
    [
        ("a:b:PIZZAc:d:TACO", ["TACO"]),
        ("a:b:PIZZA,c:d:TACO", ["TACO"]),
        ("a:b:PIZZAc:d:e:TACOSf:g:SUSHI h:i:BURGER", ["SUSHI"]),
        ("a:b:PIZZA c:d:TACO", []),
        ("a:b:c:d:e:f:PIZZA", []),
        ("a:long-password:long-password:PIZZA", []),
    ],
)
def test_a_password_that_looks_like_two_entries_is_pointed_out(
    auth_strings: str, fused: list[str]
) -> None:
    settings = make_settings(CRMTEXT_AUTH_STRINGS=auth_strings, GATEWAY_API_KEYS=f"billing:{A}")

    start = "CRMTEXT_AUTH_STRINGS: the password of store "
    assert [warning.removeprefix(start).split()[0] for warning in settings.warnings] == fused
    assert "b:PIZZA" not in str(settings.warnings)


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        (ApiKey("a", bytes.fromhex(A), None), f"a:{A}"),
        (ApiKey("a", bytes.fromhex(A), frozenset({"PIZZA", "BURGER"})), f"a:{A}:BURGER,PIZZA"),
        (ApiKey("a", bytes.fromhex(A), None, frozenset(Right)), f"a:{A}:*:desk,opt-in"),
        (
            ApiKey("a", bytes.fromhex(A), frozenset({"PIZZA"}), frozenset({Right.DESK})),
            f"a:{A}:PIZZA:desk",
        ),
    ],
)
def test_a_key_is_read_from_its_own_entry(key: ApiKey, entry: str) -> None:
    assert key.entry == entry
    assert make_settings(GATEWAY_API_KEYS=entry).api_keys == (key,)


def test_names_that_end_in_a_column_fit_it() -> None:
    column = opt_outs.c.source.type
    assert isinstance(column, String)
    length = column.length or 0
    source = '[{}]\nrecipe = "shopify"\nsecret_env = "SHOP_SECRET"'

    assert faults(GATEWAY_API_KEYS=f"{'x' * 64}:{A}") == ()
    assert len("api:" + "x" * 64) <= length
    assert faults(WEBHOOK_SOURCES=source.format("x" * 92), SHOP_SECRET=SECRET) == ()
    assert len("webhook:" + "x" * 92) <= length
    (fault,) = faults(WEBHOOK_SOURCES=source.format("x" * 93), SHOP_SECRET=SECRET)
    assert "92" in fault


def test_a_store_is_found_by_its_keyword() -> None:
    settings = make_settings()

    assert settings.store("BURGER") == settings.stores[1]
    assert settings.store("TACOS") is None


@pytest.mark.parametrize(
    ("auth_string", "secrets"),
    [
        ("shopuser:pa:ss:PIZZA", ("shopuser:pa:ss:PIZZA", "pa:ss", "shopuser")),
        ("joe:pass:PIZZA", ("joe:pass:PIZZA", "pass")),
    ],
)
def test_a_stores_secrets_are_all_that_must_not_be_shown(
    auth_string: str, secrets: tuple[str, ...]
) -> None:
    assert Store("PIZZA", auth_string).secrets == secrets
