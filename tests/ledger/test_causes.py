"""Why the database could not be used, told without its address."""

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError, TimeoutError

from gateway.ledger.causes import cause_of
from gateway.ledger.database import create_ledger_engine
from gateway.settings import Settings
from tests.support.factories import free_port, make_environment
from tests.support.ledgers import database_without_tables
from tests.support.postgres import running_postgres


def cause(url: str, statement: str = "SELECT 1") -> str:
    """The cause of the error that a database at this address gives."""
    settings = Settings.from_env(make_environment(DATABASE_URL=url))
    engine = create_ledger_engine(settings.database_url)
    with pytest.raises(SQLAlchemyError) as raised, engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
    return cause_of(raised.value)


def test_a_file_that_is_not_there_is_named_and_not_made(tmp_path: Path) -> None:
    file = tmp_path / "gateway.db"
    advice = "put the right one there, or create a new one with 'python -m gateway release'"

    assert cause(f"sqlite:///{file}") == f"there is no database file at {file}; {advice}"
    assert not file.exists()
    file.touch()
    assert cause(f"sqlite:///{file}") == f"the database file at {file} is empty; {advice}"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "SELECT * FROM opt_outs",
            "its tables do not match this version; run 'python -m gateway release'",
        ),
        (
            "SELECT wrong FROM other",
            "its tables do not match this version; run 'python -m gateway release'",
        ),
        ("SELECT", "incomplete input"),
    ],
)
def test_sqlite_names_the_cause(tmp_path: Path, statement: str, expected: str) -> None:
    assert cause(database_without_tables(tmp_path), statement) == expected


def test_a_read_only_database_is_called_so(tmp_path: Path) -> None:
    engine = create_ledger_engine(make_url(database_without_tables(tmp_path)))
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA query_only=ON")
    with pytest.raises(SQLAlchemyError) as raised, engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO other VALUES (1)")
    engine.dispose()
    assert cause_of(raised.value) == "it is read-only"


def test_a_server_that_is_down_is_told_apart_from_a_wrong_name() -> None:
    port = free_port()

    assert cause(f"postgres://u:s3cret@127.0.0.1:{port}/x") == "connection refused"
    assert cause("postgres://u:s3cret@no-such.invalid/x") == "the host name cannot be resolved"


def test_what_the_server_says_is_told() -> None:
    server = running_postgres()

    assert cause(server.url("no_such")) == "the database or the user does not exist"
    assert cause(server.url("postgres"), "SELECT 1/0") == "division by zero"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("failed to resolve host 'ss@host': [Errno -2]", "the host name cannot be resolved"),
        (
            'connection to server at "ss", port 5432 failed: FATAL:  password authentication '
            'failed for user "s3cret"',
            "the user name or the password is wrong",
        ),
        ("connection timeout expired", "no answer in time"),
        ("FATAL:  sorry, too many clients already", "it has no connection left"),
        ("FATAL:  the database system is starting up", "it is starting"),
        ("server closed the connection unexpectedly", "it closed the connection"),
        ("SSL error: certificate verify failed", "its certificate is not trusted"),
        ("something else about s3cret", "OperationalError"),
    ],
)
def test_a_drivers_own_text_is_never_shown(said: str, expected: str) -> None:
    error = OperationalError("SELECT 1", None, psycopg.OperationalError(said))

    assert cause_of(error) == expected


def test_a_pool_without_a_free_connection_is_named() -> None:
    assert cause_of(TimeoutError()) == "all connections are in use"
