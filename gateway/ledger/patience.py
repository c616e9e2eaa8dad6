"""How long a database may be waited for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

BUSY_SECONDS = 5
# For what goes through many rows, as a search, a scrape or a retry of all; PostgreSQL itself ends a
# statement after 15 s.
MANY_ROWS_SECONDS = 20

_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)


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


def seconds_left() -> float:
    ends_at = _ends_at.get()
    return BUSY_SECONDS if ends_at is None else ends_at - time.monotonic()
