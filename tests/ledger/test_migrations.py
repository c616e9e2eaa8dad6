"""Upgrading the tables, once, on both databases."""

import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from gateway.consent import Status
from gateway.errors import LedgerUnavailable
from gateway.ledger import migrations
from gateway.ledger.ledger import Ledger
from gateway.ledger.migrations import VERSIONS, is_current
from gateway.ledger.migrations.upgrade import Upgrade, upgrade
from gateway.ledger.tables import clock, metadata
from tests.support.factories import free_port
from tests.support.ledgers import accepted, make_ledger, rows_in
from tests.support.postgres import running_postgres


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without a table."""
    if request.param == "postgres":
        return running_postgres().new_database()
    return f"sqlite:///{tmp_path / 'new.db'}"


def test_the_migrated_tables_are_those_that_the_ledger_works_with(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_the_versions_that_a_release_knows_are_its_migrations() -> None:
    folder = Path(migrations.__file__).parent / "versions"
    assert [file.name.split("_")[0] for file in sorted(folder.glob("0*.py"))] == list(VERSIONS)


def test_upgrading_twice_is_upgrading_once(new_database: str) -> None:
    ledger = make_ledger(new_database)
    assert upgrade(ledger.engine) == Upgrade(None, VERSIONS[-1])
    assert is_current(ledger.engine) is True
    opt_out = accepted(ledger)
    assert upgrade(ledger.engine) == Upgrade(VERSIONS[-1], VERSIONS[-1])
    assert is_current(ledger.engine) is True
    assert ledger.find(opt_out.id) == opt_out
    assert rows_in(ledger, clock) == 3
    ledger.engine.dispose()


def _upgrade(url: str, start_at: float) -> str:
    ledger = make_ledger(url)
    time.sleep(max(start_at - time.time(), 0))
    try:
        upgrade(ledger.engine)
        return "current" if is_current(ledger.engine) else "not current"
    except LedgerUnavailable as error:
        return error.detail
    finally:
        ledger.engine.dispose()


@pytest.mark.postgres
def test_of_two_upgrades_at_once_one_waits_for_the_other(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path / f'{number}.db'}" for number in range(10)]
    urls += [running_postgres().new_database() for _ in range(5)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(time.sleep, [1, 1]))  # both processes are there
        for url in urls:
            start_at = time.time() + 0.3
            futures = [pool.submit(_upgrade, url, start_at) for _ in range(2)]
            assert [future.result(30) for future in futures] == ["current"] * 2


@pytest.mark.postgres
def test_an_upgrade_waits_for_another_that_takes_long() -> None:
    ledger = make_ledger(running_postgres().new_database())
    with ThreadPoolExecutor(1) as pool:
        with ledger.engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(5307411)"))
            upgrading = pool.submit(upgrade, ledger.engine)
            time.sleep(5.5)  # longer than anything else waits for a lock
            assert not upgrading.done()
        upgrading.result(10)
    assert is_current(ledger.engine) is True
    ledger.engine.dispose()


def test_the_tables_of_a_newer_release_are_left_alone_and_good_enough(ledger: Ledger) -> None:
    """As while a deployment goes on: the next release's tables are there, this one still serves."""
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert is_current(ledger.engine) is True
    assert upgrade(ledger.engine) == Upgrade("9999", "9999")
    assert is_current(ledger.engine) is True
    assert accepted(ledger).status == Status.PENDING


def test_an_upgrade_that_cannot_reach_its_database_says_so() -> None:
    ledger = make_ledger(f"postgresql://gateway:secret-pw@127.0.0.1:{free_port()}/gateway")
    with pytest.raises(LedgerUnavailable) as upgrading:
        upgrade(ledger.engine)
    with pytest.raises(LedgerUnavailable):
        is_current(ledger.engine)
    assert "secret-pw" not in upgrading.value.detail
