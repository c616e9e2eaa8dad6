"""How SQLite is opened, for one machine: one file, and nothing acknowledged that is not in it."""

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.errors import LedgerUnavailable
from gateway.ledger.patience import BUSY_SECONDS, seconds_left

ARGUMENTS = {"timeout": BUSY_SECONDS}

_FILES = "files"
_PAUSE_SECONDS = 0.001

_may_create: ContextVar[bool] = ContextVar("may_create", default=False)
_log = logging.getLogger(__name__)


def prepare(engine: Engine) -> None:
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "connect", _open)
    event.listen(engine, "begin", _begin)


@contextmanager
def creating() -> Iterator[None]:
    """In the block a missing database file is created. Anywhere else that would hide a loss."""
    token = _may_create.set(True)
    try:
        yield
    finally:
        _may_create.reset(token)


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
        _log.error("database file changed", extra={"file": path, "why": changed})
        what = f"The database file {changed} while the gateway had it open."
        raise LedgerUnavailable(what)


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


def _connect(
    _: object, __: object, arguments: list[Any], options: dict[str, Any]
) -> sqlite3.Connection:
    path = arguments[0]
    if _may_create.get():
        created: sqlite3.Connection = sqlite3.connect(path, **options)
        return created
    what = None
    if not os.path.exists(path):
        what = f"there is no database file at {path}"
    elif not os.path.getsize(path):
        what = f"the database file at {path} is empty"
    if what:
        advice = "put the right one there, or create a new one with 'python -m gateway release'"
        raise sqlite3.OperationalError(f"{what}; {advice}")
    found: sqlite3.Connection = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, **options)
    return found


def _open(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    # The one thing that SQLite itself does not wait for: two that open a new file at once.
    _wait_while_busy(connection, "PRAGMA journal_mode=WAL")
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("SELECT count(*) FROM sqlite_schema")  # opens the write-ahead log
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    entry.info[_FILES] = _Files.at(path)


def _begin(connection: Connection) -> None:
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
    ends_at = time.monotonic() + seconds_left()
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
