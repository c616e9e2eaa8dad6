"""Counts of refused and ignored webhook messages.

They are counted in memory and written at most once a second, in a separate thread: a flood of
forged messages does not become a flood of writes, and no answer waits for them. Counts
that cannot be written wait until the database is back; a process that is killed loses a second.
"""

import atexit
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Engine, func, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.errors import LedgerUnavailable
from gateway.ledger.database import reading
from gateway.ledger.search import translated
from gateway.ledger.tables import opt_outs, webhook_messages

IGNORED = "ignored"

_PAUSE_SECONDS = 1.0
_PAUSE_AFTER_FAILURE_SECONDS = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Count:
    """How many there were, and when the last one came."""

    number: int = 0
    last_at: datetime | None = None

    def __add__(self, other: "Count") -> "Count":
        moments = [moment for moment in (self.last_at, other.last_at) if moment]
        return Count(self.number + other.number, max(moments, default=None))


@dataclass(frozen=True)
class Activity:
    """What came from one source: opt-outs on record, refused messages by reason, ignored ones."""

    accepted: Count = Count()
    refused: Mapping[str, Count] = field(default_factory=dict)
    ignored: Count = Count()

    @property
    def refused_for_any_reason(self) -> Count:
        return sum(self.refused.values(), start=Count())


class WebhookMessages:
    """The counts of this process on their way to the ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counts: dict[tuple[str, str], Count] = {}
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def count(self, source: str, reason: str) -> None:
        """One message that was IGNORED, or refused for this reason. Never waits or raises."""
        self._add({(source, reason): Count(1, datetime.now(UTC))}, _PAUSE_SECONDS)

    def flush(self) -> None:
        """Writes what was counted; where that cannot be done it is kept for later."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                atexit.unregister(self.flush)
            counts, self._counts, self._timer = self._counts, {}, None
        try:
            _write(self._engine, counts)
        except LedgerUnavailable:
            self._add(counts, _PAUSE_AFTER_FAILURE_SECONDS)
        except Exception:
            _log.exception("webhook counts lost")

    def _add(self, counts: Mapping[tuple[str, str], Count], pause_seconds: float) -> None:
        with self._lock:
            for key, count in counts.items():
                self._counts[key] = self._counts.get(key, Count()) + count
            if self._counts and self._timer is None:
                self._timer = threading.Timer(pause_seconds, self.flush)
                self._timer.daemon = True
                self._timer.start()
                atexit.register(self.flush)  # a process that ends in good order loses none


def _write(engine: Engine, counts: Mapping[tuple[str, str], Count]) -> None:
    if not counts:
        return
    on_postgres = engine.dialect.name == "postgresql"
    new = postgresql.insert(webhook_messages) if on_postgres else sqlite.insert(webhook_messages)
    columns = webhook_messages.c
    statement = new.on_conflict_do_update(
        index_elements=["source", "reason"],
        set_={"number": columns.number + new.excluded.number, "last_at": new.excluded.last_at},
    )
    values = [
        {"source": source, "reason": reason, "number": count.number, "last_at": count.last_at}
        # Always in the same order: two that wait for each other's rows would never end.
        for (source, reason), count in sorted(counts.items(), key=lambda one: one[0])
    ]
    with translated(), engine.begin() as connection:
        connection.execute(statement, values)


def read_activity(engine: Engine) -> Mapping[str, Activity]:
    """What came from each source of which anything is on record. Raises LedgerUnavailable."""
    kept = select(opt_outs.c.source, func.count(), func.max(opt_outs.c.created_at)).where(
        opt_outs.c.source.startswith("webhook:")
    )
    with translated(), reading(engine) as connection:
        accepted = {
            source.removeprefix("webhook:"): Count(number, last_at)
            for source, number, last_at in connection.execute(kept.group_by(opt_outs.c.source))
        }
        rest: dict[str, dict[str, Count]] = {source: {} for source in accepted}
        for row in connection.execute(select(webhook_messages)):
            rest.setdefault(row.source, {})[row.reason] = Count(row.number, row.last_at)
    return {
        source: Activity(
            accepted.get(source, Count()),
            {reason: count for reason, count in counts.items() if reason != IGNORED},
            counts.get(IGNORED, Count()),
        )
        for source, counts in rest.items()
    }
