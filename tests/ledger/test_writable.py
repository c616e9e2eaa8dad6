"""Whether anything can be accepted now, and whether it went to the file at the path."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.errors import LedgerUnavailable
from gateway.ledger.ledger import Ledger
from gateway.ledger.migrations.upgrade import upgrade
from gateway.ledger.tables import opt_outs
from tests.support.ledgers import accepted, make_ledger, rows_in


def delete(file: Path) -> None:
    for name in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
        name.unlink()


def replace_by_a_copy(file: Path) -> None:
    shutil.copy(file, f"{file}.copy")
    os.replace(f"{file}.copy", file)


def truncate(file: Path) -> None:
    os.truncate(file, 0)


def remove_the_log(file: Path) -> None:
    Path(f"{file}-wal").unlink()


def replace_the_log(file: Path) -> None:
    shutil.copy(f"{file}-wal", f"{file}.copy")
    os.replace(f"{file}.copy", f"{file}-wal")


@pytest.mark.parametrize(
    ("accident", "what"),
    [
        (delete, "was deleted"),
        (replace_by_a_copy, "was replaced by another one"),
        (truncate, "became shorter"),
        (remove_the_log, "lost its write-ahead log"),
        (replace_the_log, "has another write-ahead log"),
    ],
)
def test_what_was_written_to_a_deleted_file_is_not_acknowledged(
    database_url: str,
    accident: Callable[[Path], None],
    what: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = make_ledger(database_url)
    accepted(ledger)
    file = Path(str(ledger.engine.url.database))
    accident(file)

    with pytest.raises(LedgerUnavailable) as refused:
        accepted(ledger)

    assert refused.value.detail == (f"The database file {what} while the gateway had it open.")
    assert [(one.message, one.levelname) for one in caplog.records] == [
        ("database file changed", "ERROR")
    ]
    ledger.engine.dispose()


def test_the_file_that_is_at_the_path_now_is_used(database_url: str) -> None:
    ledger = make_ledger(database_url)
    accepted(ledger)
    delete(Path(str(ledger.engine.url.database)))
    for _ in range(2):  # the old file, and then a new one without tables
        with pytest.raises(LedgerUnavailable):
            accepted(ledger)
    upgrade(ledger.engine)

    accepted(ledger)

    assert rows_in(ledger, opt_outs) == 1
    ledger.engine.dispose()


def test_a_working_ledger_is_writable_and_one_just_written_to_is_not_asked_again(
    ledger: Ledger,
) -> None:
    ledger.check_writable()
    ledger.engine.dispose()
    with ledger.engine.begin() as connection:  # a lock that a write would have to wait for
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE clock IN ACCESS EXCLUSIVE MODE")
        ledger.check_writable()


def test_a_database_that_is_read_only_is_not_writable(any_database_url: str) -> None:
    ledger = make_ledger(any_database_url)
    ledger.summary()
    if ledger.engine.dialect.name == "sqlite":
        os.chmod(str(ledger.engine.url.database), 0o444)
        read_only = "PRAGMA query_only = ON"
    else:
        read_only = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
    with ledger.engine.connect() as connection:
        connection.connection.cursor().execute(read_only)
        connection.connection.commit()

    with pytest.raises(LedgerUnavailable) as refused:
        ledger.check_writable()

    assert "read" in refused.value.detail
    ledger.engine.dispose()
