"""The engine for either database: SQLite for one machine, Postgres for any number."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import URL

from gateway.ledger import postgres, sqlite
from gateway.ledger.patience import BUSY_SECONDS, deadline

# Transactions are short and none is open while CRM Text is asked, so a few connections serve many
# threads; a small Postgres plan allows 20 in all.
POOL_SIZE = 6


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
        connect_args=sqlite.ARGUMENTS if is_sqlite else postgres.arguments(url),
    )
    (sqlite if is_sqlite else postgres).prepare(engine)
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
