"""Writing to the ledger: one short transaction at a time, and what is known once it is over."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Connection, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from gateway.errors import LedgerUnavailable
from gateway.ledger import clocks
from gateway.ledger.patience import BUSY_SECONDS, deadline
from gateway.ledger.search import LedgerReader, translated
from gateway.ledger.sqlite import check_files
from gateway.ledger.tables import PROBE, clock

# For so long a write proves that the next one is possible.
_PROVED_SECONDS = 5.0


class LedgerWriter(LedgerReader):
    """What all that write have in common."""

    def __init__(self, url: URL, *, machine_clock: Callable[[], datetime]) -> None:
        super().__init__(url, machine_clock=machine_clock)
        self._writer = threading.Lock()
        self._written_at = float("-inf")
        self._latest = datetime.min.replace(tzinfo=UTC) + clocks.SKEW
        self._clock_went_back = False

    def check_writable(self) -> None:
        """Raises LedgerUnavailable if nothing could be accepted now.

        What was written a moment ago proves it; otherwise something is written for this.
        """
        if time.monotonic() - self._written_at > _PROVED_SECONDS:
            with self._writing() as (connection, now):
                connection.execute(update(clock).where(clock.c.name == PROBE).values(at=now))

    @contextmanager
    def _writing(
        self, seconds: float = BUSY_SECONDS, lock_seconds: int | None = None
    ) -> Iterator[tuple[Connection, datetime]]:
        """A transaction that may wait for the database for so many seconds in all."""
        ends_at = time.monotonic() + seconds
        is_committing = False
        with translated(), deadline(seconds), self._place_to_write(ends_at):
            try:
                options = {} if lock_seconds is None else {"lock_seconds": lock_seconds}
                with self.engine.connect().execution_options(**options) as connection:
                    with connection.begin():
                        now = self._now(connection)
                        self._clock_went_back |= now < self._latest - clocks.SKEW
                        self._latest = now
                        yield connection, now
                        is_committing = True
                    check_files(connection)
            except DBAPIError as error:
                if is_committing and error.connection_invalidated:
                    raise CommitLost from error
                raise
        self._written_at = time.monotonic()

    @contextmanager
    def _place_to_write(self, ends_at: float) -> Iterator[None]:
        """On SQLite, one thread of a process at a time: they would wait for each other anyway."""
        if self._on_postgres:
            yield
            return
        if not self._writer.acquire(timeout=max(ends_at - time.monotonic(), 0)):
            raise LedgerUnavailable("The database cannot be used: it is locked.")
        try:
            yield
        finally:
            self._writer.release()


class CommitLost(LedgerUnavailable):
    """The connection was lost while the database stored something: nobody knows whether it did."""

    def __init__(self) -> None:
        super().__init__(
            "The connection to the database was lost while it stored the request, so the request "
            "may be on record. To find out, repeat it with the same Idempotency-Key."
        )
