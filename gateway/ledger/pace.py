"""The pace: all processes together make no more calls to CRM Text than CRMTEXT_RATE allows.

A row of the ledger says when the next turn is. Whoever wants to call takes it and moves it on.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from gateway.ledger.tables import PACE, clock

# No turn is ever given further ahead; one that is was given before a clock was put back.
_FARTHEST_TURN = timedelta(seconds=5)


class Pace:
    """Turns, spaced evenly; ``now`` reads the ledger's time."""

    def __init__(self, calls_per_second: float, now: Callable[[Connection], datetime]) -> None:
        # A little slower than the rate, so that no second ever sees one call more than allowed.
        self.spacing = timedelta(seconds=1.05 / calls_per_second if calls_per_second else 0)
        self._now = now

    def __bool__(self) -> bool:
        """Whether there is a limit at all."""
        return bool(self.spacing)

    def take_turn(self, connection: Connection, patience_seconds: float) -> float | None:
        """Seconds until the turn that was taken; None where that would exceed the patience.

        Others wait for the row until the transaction ends, so this comes last in it.
        """
        if not self:
            return 0.0
        statement = select(clock.c.at).where(clock.c.name == PACE).with_for_update()
        next_turn = connection.scalars(statement).one()
        now = self._now(connection)  # waiting for the others may have taken a while
        is_sound = next_turn and now < next_turn <= now + self.spacing + _FARTHEST_TURN
        turn = next_turn if is_sound else now
        wait: float = (turn - now).total_seconds()
        if wait > patience_seconds:
            return None
        moved = update(clock).where(clock.c.name == PACE).values(at=turn + self.spacing)
        connection.execute(moved)
        return wait
