"""How PostgreSQL is opened, for any number of machines, directly or behind a connection pooler."""

from math import inf
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL

from gateway.ledger.patience import BUSY_SECONDS, seconds_left

_LOCK_SECONDS = 4
_WAIT_INTERVAL_SECONDS = 0.1
# Begins a transaction that cannot hold up all others for good. A connection pooler, as PgBouncer in
# transaction mode, keeps neither start-up options nor a session's settings, so the limits are set
# with each BEGIN, in the same round trip.
_BEGIN = (
    "BEGIN; SET LOCAL lock_timeout = '{lock_seconds}s'; SET LOCAL statement_timeout = '15s'; "
    "SET LOCAL idle_in_transaction_session_timeout = '10s'; "
    # A plan made while the queue was short scans the whole table when it is long.
    "SET LOCAL plan_cache_mode = force_custom_plan"
)
# A server that is cut off says nothing: without these, a connection to it hangs for hours.
_SIGNS_OF_LIFE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def prepare(engine: Engine) -> None:
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "begin", _begin)


def arguments(url: URL) -> dict[str, object]:
    """What the driver is given besides the address; what the address itself says comes first."""
    ours: dict[str, object] = {
        "connect_timeout": BUSY_SECONDS,
        # A pooler may give the next transaction a server that has not prepared the statement.
        "prepare_threshold": None,
        "autocommit": True,  # transactions are begun below, not by the driver
        # In a database without an encoding (SQL_ASCII) texts would come back as bytes.
        "client_encoding": "utf8",
        **_SIGNS_OF_LIFE,
    }
    return {name: value for name, value in ours.items() if name not in url.query}


class _Connection(psycopg.Connection[Any]):
    """Gives up a server that says nothing, as one that was stopped in its tracks.

    The time limits that the server keeps are no help then.
    """

    def wait(
        self,
        gen: PQGen[RV],
        interval: float = _WAIT_INTERVAL_SECONDS,
        timeout: float | None = None,
    ) -> RV:
        left = seconds_left()
        if timeout is None and left < inf:
            timeout = max(left, _WAIT_INTERVAL_SECONDS)
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()  # what comes later is not an answer to the next question
            raise


def _begin(connection: Connection) -> None:
    seconds = connection.get_execution_options().get("lock_seconds", _LOCK_SECONDS)
    connection.exec_driver_sql(_BEGIN.format(lock_seconds=seconds))


def _connect(_: object, __: object, arguments: list[Any], options: dict[str, Any]) -> _Connection:
    left = seconds_left()
    if left <= 0:
        raise psycopg.OperationalError("timed out before a new connection could be made")
    if left < inf:
        options["connect_timeout"] = min(max(int(left), 1), BUSY_SECONDS)
    return _Connection.connect(*arguments, **options)
