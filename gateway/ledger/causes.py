"""Why a database could not be used, in words for people that hold no part of its address."""

import sqlite3

import psycopg
from psycopg import errors
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

_NO_TABLES = "its tables do not match this version; run 'python -m gateway release'"
_READ_ONLY = "it is read-only"
_LOCKED = "it is locked"

# What SQLite says, by the words that it begins with; anything else is told as it is.
_OF_SQLITE = {
    "no such table": _NO_TABLES,
    "no such column": _NO_TABLES,
    "table ": _NO_TABLES,  # "table … has no column named …"
    "attempt to write a readonly database": _READ_ONLY,
    "database is locked": _LOCKED,
    "database or disk is full": "its disk is full",
    "disk i/o error": "its disk cannot be read or written",
}
_OF_POSTGRES: dict[type[psycopg.Error], str] = {
    errors.UndefinedTable: _NO_TABLES,
    errors.UndefinedColumn: _NO_TABLES,
    errors.ReadOnlySqlTransaction: _READ_ONLY,
    errors.LockNotAvailable: _LOCKED,
    errors.DiskFull: "its disk is full",
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
    """What went wrong, to follow "the database cannot be used: "."""
    if isinstance(error, PoolTimeout):
        return "all connections are in use"
    original = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(original, sqlite3.Error):
        return _known(str(original), _OF_SQLITE) or str(original)
    for kind, words in _OF_POSTGRES.items():
        if isinstance(original, kind):
            return words
    said_by_the_server = getattr(getattr(original, "diag", None), "message_primary", None)
    if said_by_the_server:
        return " ".join(str(said_by_the_server).split())
    text = str(original).lower()
    marked = (words for mark, words in _OF_A_CONNECTION.items() if mark in text)
    return next(marked, type(original or error).__name__)


def is_lock_timeout(error: BaseException) -> bool:
    """Whether PostgreSQL gave up waiting for somebody else's lock."""
    return isinstance(getattr(error.__cause__, "orig", None), errors.LockNotAvailable)


def _known(text: str, table: dict[str, str]) -> str | None:
    said = text.lower()
    return next((words for start, words in table.items() if said.startswith(start)), None)
