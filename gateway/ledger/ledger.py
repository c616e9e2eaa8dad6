"""The ledger: every opt-out is a row before anything is sent, and the row is the job.

A pending row is due at its ``next_attempt_at``. Whoever delivers it claims it first, with one
conditional update that moves this moment to the end of a lease; a process that dies leaves a row
that is due again then. Only the holder of the claim may end an attempt. On Postgres the database's
clock decides; on SQLite, which serves one machine, that machine's clock does.

Every method raises LedgerUnavailable where the database cannot be reached or is locked; then
nothing of that call is stored.
"""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, and_, bindparam, delete, or_, select, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError

from gateway.consent import OptOut, Outcome, Status
from gateway.errors import LedgerUnavailable
from gateway.ledger import clocks, rows
from gateway.ledger.causes import is_lock_timeout
from gateway.ledger.claims import Claim, Due, begin_attempts
from gateway.ledger.database import POOL_SIZE
from gateway.ledger.intake import Entry, Intake, Recorded, Turns
from gateway.ledger.pace import Pace
from gateway.ledger.patience import MANY_ROWS_SECONDS
from gateway.ledger.rows import Values, read_opt_out, words_columns
from gateway.ledger.schedule import Terms, enough_attempts
from gateway.ledger.search import FailedOptOuts
from gateway.ledger.tables import WORKER, UtcTime, attempts, clock, opt_outs
from gateway.ledger.writing import CommitLost, LedgerWriter

# Connections that never wait for a turn within the pace, and how long the others wait for its row.
_CONNECTIONS_KEPT_FREE = 2
_LOCK_SECONDS_FOR_A_TURN = 1


class Ledger(LedgerWriter):
    """One ledger, shared by all processes that are given the same ``url``."""

    def __init__(
        self,
        url: URL,
        *,
        lease_seconds: float,
        calls_per_second: float,
        delivery_days: float,
        machine_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(url, machine_clock=machine_clock)
        self._pace = Pace(calls_per_second, self._now)
        self._terms = Terms(
            lease=timedelta(seconds=lease_seconds),
            delivery_time=timedelta(days=delivery_days),
            enough_attempts=enough_attempts(delivery_days),
        )
        self._turn_takers = threading.BoundedSemaphore(POOL_SIZE - _CONNECTIONS_KEPT_FREE)

    def accept(
        self, entries: Sequence[Entry], *, claims: int = 0, patience_seconds: float = 0
    ) -> list[Recorded]:
        """Takes over the delivery of all of them, or of none, and answers in their order.

        Those with an unusable number become rejected, and one that had failed and is repeated
        becomes pending again. At most ``claims`` are claimed for whoever asked, those whose turn
        comes up within the patience; the others are due for the worker. Raises GatewayError
        (idempotency_key_reused), and CommitLost where they may be on record all the same.
        """
        numbered = [(str(uuid.uuid4()), entry) for entry in entries]
        with self._room_for_turns(claims, patience_seconds) as turns:
            try:
                return self._accept(numbered, turns, patience_seconds)
            except CommitLost as lost:
                try:  # with the same ids: what is on record already is found and not doubled
                    return self._accept(numbered, 0, 0)
                except LedgerUnavailable:
                    raise lost from None
            except LedgerUnavailable as error:
                if not (turns and is_lock_timeout(error)):
                    raise
        # Another process holds the rate-limit row. Accepting needs no turn.
        return self._accept(numbered, 0, 0)

    @contextmanager
    def _room_for_turns(self, claims: int, patience_seconds: float) -> Iterator[int]:
        """How many turns may be taken now: who waits for one keeps a connection.

        On Postgres some connections are left to those who need no turn.
        """
        if not (claims and self._pace and self._on_postgres):
            yield claims
            return
        has_room = self._turn_takers.acquire(timeout=patience_seconds)
        try:
            yield claims if has_room else 0
        finally:
            if has_room:
                self._turn_takers.release()

    def _accept(
        self, numbered: Sequence[tuple[str, Entry]], claims: int, patience_seconds: float
    ) -> list[Recorded]:
        # Always in the same order: two that wait for each other's receipts would never end.
        order = sorted(numbered, key=lambda one: one[1].receipt.key if one[1].receipt else "")
        lock_seconds = _LOCK_SECONDS_FOR_A_TURN if claims else None
        with self._writing(lock_seconds=lock_seconds) as (connection, now):
            turns = Turns(self._pace, connection, claims, patience_seconds)
            intake = Intake(connection, now, self._terms, turns)
            recorded = {entry_id: intake.record(entry_id, entry) for entry_id, entry in order}
        return [one for entry_id, _ in numbered for one in recorded[entry_id]]

    def claim_due(self, limit: int, *, patience_seconds: float) -> Due:
        """Claims up to ``limit`` due opt-outs; where there is a pace, one, with its turn."""
        with self._writing() as (connection, now):
            if self._clock_went_back:
                self._correct_times(connection, now, went_back=True)
            due = (
                select(opt_outs.c.id)
                .where(opt_outs.c.next_attempt_at <= now)
                .order_by(opt_outs.c.next_attempt_at)
                .limit(1 if self._pace else limit)
                .with_for_update(skip_locked=True)
            )
            ids = connection.scalars(due).all()
            if not ids:
                return Due([])
            turn = self._pace.take_turn(connection, patience_seconds)
            if turn is None:
                return Due([], next_turn_in_seconds=self._pace.spacing.total_seconds())
            claimed = connection.execute(
                update(opt_outs)
                .where(opt_outs.c.id.in_(ids))
                .values(self._terms.claimed(now) | {"attempts": opt_outs.c.attempts + 1})
                .returning(opt_outs)
            ).all()
            return Due(begin_attempts(connection, now, claimed, turn))

    @property
    def has_pace(self) -> bool:
        return bool(self._pace)

    def turn(self, *, patience_seconds: float) -> float | None:
        """Seconds until a turn within the pace; None if it would be more than the patience."""
        with self._writing() as (connection, _):
            return self._pace.take_turn(connection, patience_seconds)

    def after_attempt(self, claim: Claim, outcome: Outcome, stretch: float) -> OptOut:
        """What becomes of a claimed opt-out; ``stretch`` as in ``delay_seconds``."""
        return self._terms.after_attempt(claim, outcome, stretch)

    def end_attempt(self, claim: Claim, opt_out: OptOut, outcome: Outcome) -> bool:
        """Writes down what came of an attempt, the opt-out itself only if the claim still holds.

        A confirmation ends every other open opt-out of that number and store, too: nobody is
        opted out twice, since each call makes CRM Text text them.
        """
        columns = rows.after_attempt(opt_out)
        attempt = words_columns(outcome.crmtext) | {
            "row": claim.attempt_id,
            "outcome": outcome.name,
            "http_status": outcome.http_status,
        }
        try:
            return self._end_attempt(claim, opt_out, columns, attempt)
        except DataError:  # the database has no such characters: the outcome counts, not the words
            return self._end_attempt(claim, opt_out, rows.in_ascii(columns), rows.in_ascii(attempt))

    def _end_attempt(self, claim: Claim, opt_out: OptOut, columns: Values, attempt: Values) -> bool:
        mine = {"row": opt_out.id, "held": claim.token, "failures": claim.failures + 1}
        with self._writing() as (connection, now):
            connection.execute(_END_ATTEMPT, attempt | {"ended_at": now})
            is_mine = connection.execute(_END_CLAIM, columns | mine).rowcount == 1
            if is_mine and opt_out.status == Status.OPTED_OUT:
                whose = {"whose": opt_out.phone_number, "where": opt_out.store, "moment": now}
                columns["already_opted_out"] = False
                connection.execute(_END_OTHERS, columns | whose)
            return is_mine

    def put_back(self, claim: Claim) -> None:
        """Gives up a claim whose attempt was not made; the opt-out is due at once."""
        with self._writing() as (connection, now):
            held = and_(opt_outs.c.id == claim.opt_out.id, opt_outs.c.claim == claim.token)
            values = rows.put_back(now) | {"attempts": opt_outs.c.attempts - 1}
            connection.execute(update(opt_outs).where(held).values(values))
            connection.execute(delete(attempts).where(attempts.c.id == claim.attempt_id))

    def retry(self, opt_out_id: str) -> OptOut | None:
        """Makes a failed or rejected opt-out with a usable number pending; None for any other."""
        with self._writing() as (connection, now):
            can = and_(
                opt_outs.c.id == opt_out_id,
                opt_outs.c.status.in_([Status.FAILED, Status.REJECTED]),
                opt_outs.c.phone_number.is_not(None),
            )
            statement = update(opt_outs).where(can).values(self._terms.due(now)).returning(opt_outs)
            row = connection.execute(statement).one_or_none()
            return None if row is None else read_opt_out(row)

    def retry_failed(self, which: FailedOptOuts, *, limit: int) -> int:
        """Makes up to ``limit`` of these failed opt-outs pending again; says how many they were."""
        with self._writing(MANY_ROWS_SECONDS) as (connection, now):
            batch = select(opt_outs.c.id).where(*which.conditions(now)).limit(limit)
            statement = (
                update(opt_outs).where(opt_outs.c.id.in_(batch)).values(self._terms.due(now))
            )
            return connection.execute(statement).rowcount

    def worker_is_alive(self) -> None:
        """Notes that a worker was seen just now, and corrects what a wrong clock wrote."""
        with self._writing() as (connection, now):
            went_back = self._clock_went_back or clocks.worker_was_seen_later(connection, now)
            self._correct_times(connection, now, went_back=went_back)
            connection.execute(update(clock).where(clock.c.name == WORKER).values(at=now))

    def _correct_times(self, connection: Connection, now: datetime, *, went_back: bool) -> None:
        self._clock_went_back = False
        clocks.correct(
            connection,
            now,
            went_back=went_back,
            lease=self._terms.lease,
            delivery_time=self._terms.delivery_time,
        )


# Built once, and given their values as parameters: building one costs more than running it.
_END_CLAIM = update(opt_outs).where(
    opt_outs.c.id == bindparam("row"), opt_outs.c.claim == bindparam("held")
)
_END_OTHERS = update(opt_outs).where(
    opt_outs.c.phone_number == bindparam("whose"),
    opt_outs.c.store == bindparam("where"),
    or_(
        opt_outs.c.status == Status.FAILED,
        and_(
            opt_outs.c.status == Status.PENDING,
            # not being sent at this moment
            or_(
                opt_outs.c.claim.is_(None),
                opt_outs.c.next_attempt_at <= bindparam("moment", type_=UtcTime),
            ),
        ),
    ),
)
_END_ATTEMPT = update(attempts).where(attempts.c.id == bindparam("row"))
