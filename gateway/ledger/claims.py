"""Claims: the right to deliver an opt-out, for as long as a lease."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert

from gateway.consent import OptOut
from gateway.ledger.rows import LedgerRow, read_opt_out
from gateway.ledger.tables import attempts

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """The right to deliver one opt-out until its lease ends, after waiting for its turn."""

    opt_out: OptOut
    token: str
    attempt_id: int
    failures: int
    give_up_at: datetime
    turn_in_seconds: float
    claimed_at: datetime
    claimed_at_monotonic: float = field(default_factory=time.monotonic)

    def now(self) -> datetime:
        """The ledger's time, as far as it can be known without asking for it."""
        return self.claimed_at + timedelta(seconds=time.monotonic() - self.claimed_at_monotonic)


@dataclass(frozen=True)
class Due:
    """Claims to deliver; ``next_turn_in_seconds`` says when to ask again if the pace is used up."""

    claims: Sequence[Claim]
    next_turn_in_seconds: float = 0.0


def begin_attempts(
    connection: Connection, now: datetime, claimed: Sequence[LedgerRow], turn: float
) -> list[Claim]:
    """The claims of rows that were just claimed, each with the record of its attempt."""
    started = [{"opt_out_id": row.id, "started_at": now} for row in claimed]
    attempt_ids: dict[str, int] = dict(connection.execute(_INSERT_ATTEMPTS, started).all())
    return [
        Claim(
            opt_out=opt_out,
            token=row.claim,
            attempt_id=attempt_ids[row.id],
            failures=row.failures,
            give_up_at=row.give_up_at,
            turn_in_seconds=turn,
            claimed_at=now,
        )
        for row, opt_out in _readable(claimed)
    ]


def _readable(claimed: Sequence[LedgerRow]) -> Iterator[tuple[LedgerRow, OptOut]]:
    for row in claimed:
        try:
            opt_out = read_opt_out(row)
        except Exception:  # its lease moves it out of the way: the others must be delivered
            _log.exception("opt-out unreadable", extra={"opt_out": row.id})
            continue
        yield row, opt_out


_INSERT_ATTEMPTS = insert(attempts).returning(attempts.c.opt_out_id, attempts.c.id)
