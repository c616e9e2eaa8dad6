"""How the two databases are opened: SQLite for one machine, Postgres for any number."""

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.errors import LedgerUnavailable

_log = logging.getLogger(__name__)

# Transactions are short and none is open while CRM Text is asked, so a few connections serve many
# threads; a small Postgres plan allows 20 in all.
POOL_SIZE = 6
BUSY_SECONDS = 5
_LOCK_SECONDS = 4
# For what goes through many rows, as a search, a scrape or a retry of all; the server itself ends
# a statement after 15 s.
MANY_ROWS_SECONDS = 20
_WAIT_INTERVAL_SECONDS = 0.1
_PAUSE_SECONDS = 0.001
# Begins a transaction that cannot hold up all others for good. A connection pooler, as PgBouncer in
# transaction mode, keeps neither start-up options nor a session's settings, so the limits are set
# with each BEGIN, in the same round trip.
_BEGIN_POSTGRES = (
    "BEGIN; SET LOCAL lock_timeout = '{lock_seconds}s'; SET LOCAL statement_timeout = '15s'; "
    "SET LOCAL idle_in_transaction_session_timeout = '10s'; "
    # A plan made while the queue was short scans the whole table when it is long.
    "SET LOCAL plan_cache_mode = force_custom_plan"
)
# A server that is cut off says nothing: without these, a connection to it hangs for hours.
_POSTGRES_SIGNS_OF_LIFE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


# What a driver says of a connection that failed; its own text repeats the address, in which a badly
# written password may be taken for the host.
_OF_A_CONNECTION = {
    "connection refused": "connection refused",
    "resolve host": "the host name cannot be resolved",
    "translate host name": "the host name cannot be resolved",
    "authentication failed": "the user name or the password is wrong",
    "no password supplied": "the password is missing",
    "does not exist": "the database or the user does not exist",
    "timeout": "no answer in time",
    "timed out": "no answer in time",
    "too many": "it has no connection left",
    "connection slots": "it has no connection left",
    "starting up": "it is starting",
    "shutting down": "it is shutting down",
    "closed the connection": "it closed the connection",
    "certificate": "its certificate is not trusted",
    "ssl": "TLS failed",
}


def cause_of(error: SQLAlchemyError) -> str:
    """Why the database could not be used, in words that hold no part of its address."""
    if isinstance(error, PoolTimeout):
        return "all connections are in use"
    original = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(original, sqlite3.Error):
        return str(original)
    said_by_the_server = getattr(getattr(original, "diag", None), "message_primary", None)
    if said_by_the_server:
        return " ".join(str(said_by_the_server).split())
    text = str(original).lower()
    words = (words for mark, words in _OF_A_CONNECTION.items() if mark in text)
    return next(words, type(original or error).__name__)


def is_lock_timeout(error: BaseException) -> bool:
    """Whether PostgreSQL gave up waiting for somebody else's lock."""
    original = getattr(error.__cause__, "orig", None)
    return isinstance(original, psycopg.errors.LockNotAvailable)


def create_ledger_engine(url: URL) -> Engine:
    """An engine that may be made before a fork. It connects when it is first used."""
    is_sqlite = url.get_backend_name() == "sqlite"
    engine = create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        pool_pre_ping=not is_sqlite,
        hide_parameters=True,  # they are phone numbers, and errors are logged
        connect_args={"timeout": BUSY_SECONDS} if is_sqlite else _postgres_arguments(url),
    )
    if is_sqlite:
        event.listen(engine, "connect", _open_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "do_connect", _connect_postgres)
        event.listen(engine, "begin", _begin_postgres)
    # A child that used its parent's sockets would mix up their answers.
    os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))
    return engine


@contextmanager
def reading(engine: Engine, seconds: float = BUSY_SECONDS) -> Iterator[Connection]:
    """A connection for reading only: on SQLite it does not wait for those that write."""
    with (
        deadline(seconds),
        engine.connect().execution_options(is_reading=True) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """How long all that the block asks of a database may take, connecting included.

    Outside of such a block each single wait may take BUSY_SECONDS.
    """
    token = _ends_at.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends_at.reset(token)


def _seconds_left() -> float:
    ends_at = _ends_at.get()
    return BUSY_SECONDS if ends_at is None else ends_at - time.monotonic()


_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)


class _PostgresConnection(psycopg.Connection[Any]):
    """Gives up a server that says nothing, as one that was stopped in its tracks.

    The time limits that the server keeps are no help then.
    """

    def wait(
        self,
        gen: PQGen[RV],
        interval: float = _WAIT_INTERVAL_SECONDS,
        timeout: float | None = None,
    ) -> RV:
        left = _seconds_left()
        if timeout is None and left < inf:
            timeout = max(left, _WAIT_INTERVAL_SECONDS)
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()  # what comes later is not an answer to the next question
            raise


def _begin_postgres(connection: Connection) -> None:
    seconds = connection.get_execution_options().get("lock_seconds", _LOCK_SECONDS)
    connection.exec_driver_sql(_BEGIN_POSTGRES.format(lock_seconds=seconds))


def _connect_postgres(
    _: object, __: object, arguments: list[Any], options: dict[str, Any]
) -> _PostgresConnection:
    left = _seconds_left()
    if left <= 0:
        raise psycopg.OperationalError("timed out before a new connection could be made")
    if left < inf:
        options["connect_timeout"] = min(max(int(left), 1), BUSY_SECONDS)
    return _PostgresConnection.connect(*arguments, **options)


def _postgres_arguments(url: URL) -> dict[str, object]:
    arguments: dict[str, object] = {
        "connect_timeout": BUSY_SECONDS,
        # A pooler may give the next transaction a server that has not prepared the statement.
        "prepare_threshold": None,
        "autocommit": True,  # transactions are begun below, not by the driver
        # In a database without an encoding (SQL_ASCII) texts would come back as bytes.
        "client_encoding": "utf8",
        **_POSTGRES_SIGNS_OF_LIFE,
    }
    return {name: value for name, value in arguments.items() if name not in url.query}


def check_files(connection: Connection) -> None:
    """Raises LedgerUnavailable if SQLite's files are no longer those that were opened.

    A file that was deleted or replaced goes on existing for whoever has it open: what is written
    there is gone with the process.
    """
    opened: _Files | None = connection.info.get(_FILES)
    if opened is None:
        return
    path = str(connection.engine.url.database)
    changed = opened.what_changed(path)
    if changed:
        connection.engine.dispose()
        _log.error("database file changed", extra={"file": path, "what": changed})
        what = f"The database file {changed} while the gateway had it open; nothing was accepted."
        raise LedgerUnavailable(what)


_FILES = "files"


@dataclass(frozen=True)
class _Files:
    """The database file and its write-ahead log as they were when a connection opened them."""

    database: os.stat_result
    log: os.stat_result

    @classmethod
    def at(cls, path: str) -> "_Files":
        return cls(os.stat(path), os.stat(f"{path}-wal"))

    def what_changed(self, path: str) -> str | None:
        """What happened to the database file, to follow its name; None if it is still the same."""
        try:
            now = _Files.at(path)
        except FileNotFoundError as error:
            gone = "its write-ahead log" if str(error.filename).endswith("-wal") else "it"
            return "was deleted" if gone == "it" else f"lost {gone}"
        if not os.path.samestat(self.database, now.database):
            return "was replaced by another one"
        if not os.path.samestat(self.log, now.log):
            return "has another write-ahead log"
        return "became shorter" if now.database.st_size < self.database.st_size else None


def _open_sqlite(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    # The one thing that SQLite itself does not wait for: two that open a new file at once.
    _wait_while_busy(connection, "PRAGMA journal_mode=WAL")
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("SELECT count(*) FROM sqlite_schema")  # opens the write-ahead log
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    entry.info[_FILES] = _Files.at(path)


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get("is_reading"):
        connection.exec_driver_sql("BEGIN")
        return
    raw = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        raise TypeError("this is for SQLite")
    try:
        raw.execute("PRAGMA busy_timeout=0")
        # A write lock taken late can fail where one taken at once would wait.
        _wait_while_busy(raw, "BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        raise OperationalError("BEGIN IMMEDIATE", None, error) from error
    finally:
        raw.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")


def _wait_while_busy(connection: sqlite3.Connection, statement: str) -> None:
    """Runs it as soon as the database is free. SQLite's own waiting sleeps up to 100 ms a time."""
    ends_at = time.monotonic() + _seconds_left()
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > ends_at:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return
