"""The fixtures that most tests share: a CRM Text, a ledger, and the gateway between them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from gateway.app import create_app
from gateway.ledger.ledger import Ledger
from gateway.settings import Settings
from tests.support.factories import make_settings
from tests.support.fake_crmtext import FakeCrmText
from tests.support.ledgers import make_ledger, make_tables
from tests.support.postgres import Postgres, new_postgres_ledger, own_postgres

pytest_plugins = ["tests.drills.figures"]


@pytest.fixture(scope="session")
def no_authorities(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder without certificates. To load the usual ones for each gateway takes long."""
    return str(tmp_path_factory.mktemp("authorities"))


@pytest.fixture(autouse=True)
def a_plain_machine(monkeypatch: pytest.MonkeyPatch, no_authorities: str) -> None:
    """The developer's own proxies and authorities stay out of it."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", no_authorities)


@pytest.fixture
def crmtext() -> Iterator[FakeCrmText]:
    with FakeCrmText() as running:
        yield running


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An upgraded SQLite file without an opt-out in it; tests copy it."""
    file = tmp_path_factory.mktemp("ledger") / "empty.db"
    make_tables(f"sqlite:///{file}")
    return file


@pytest.fixture
def database_url(empty_ledger: Path, tmp_path: Path) -> str:
    """A ledger of the test's own, upgraded and empty, in a SQLite file."""
    return f"sqlite:///{shutil.copy(empty_ledger, tmp_path / 'gateway.db')}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def any_database_url(request: pytest.FixtureRequest, database_url: str) -> str:
    """Like ``database_url``; the test runs once on SQLite and once on PostgreSQL."""
    return new_postgres_ledger() if request.param == "postgres" else database_url


@pytest.fixture
def ledger(any_database_url: str) -> Iterator[Ledger]:
    """A ledger with leases of 11 seconds; the test runs once on each database."""
    opened = make_ledger(any_database_url)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of the test's own, to be stopped and started."""
    with own_postgres() as server:
        yield server


@pytest.fixture
def settings(crmtext: FakeCrmText, database_url: str) -> Settings:
    return make_settings(CRMTEXT_URL=crmtext.url, DATABASE_URL=database_url)


@pytest.fixture
def app(settings: Settings) -> Flask:
    return create_app(settings)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
