"""The ledger: every opt-out is a row before anything is sent, and the row is the job.

A pending row is due at its ``next_attempt_at``. Whoever delivers it claims it first, with one
conditional update that moves this moment to the end of a lease; a process that dies leaves a row
that is due again then. Who ends an attempt must still hold the claim. On Postgres the database's
clock decides; SQLite serves one machine, and there the machine's clock does.

Every method raises LedgerUnavailable where the database cannot be reached or is locked; then
nothing of that call is stored.
"""

import logging
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError

from gateway.consent import OptOut, OptOutRequest, Outcome, Status
from gateway.errors import LedgerUnavailable
from gateway.ledger import clocks, receipts, rows
from gateway.ledger.database import (
    BUSY_SECONDS,
    MANY_ROWS_SECONDS,
    POOL_SIZE,
    check_files,
    deadline,
    is_lock_timeout,
)
from gateway.ledger.pace import Pace
from gateway.ledger.receipts import Receipt
from gateway.ledger.rows import LedgerRow, Values, read_opt_out, words_columns
from gateway.ledger.schedule import delay_seconds, enough_attempts
from gateway.ledger.search import FailedOptOuts, LedgerReader, translated
from gateway.ledger.tables import PROBE, WORKER, UtcTime, attempts, clock, opt_outs

# Connections that never wait for a turn within the pace, and how long the others wait for its row.
_CONNECTIONS_KEPT_FREE = 2
_LOCK_SECONDS_FOR_A_TURN = 1
# For so long a write proves that the next one is possible.
_PROVED_SECONDS = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """What came under one receipt: a request, or one for each of several stores."""

    requests: Sequence[OptOutRequest]
    receipt: Receipt | None = None


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
class Recorded:
    """A request on record. With ``claim``, whoever asked delivers it right now."""

    opt_out: OptOut
    is_repeat: bool = False
    is_being_sent: bool = False  # by another request or the worker
    claim: Claim | None = None


@dataclass(frozen=True)
class Due:
    """Claims to deliver; ``next_turn_in_seconds`` says when to ask again if the pace is used up."""

    claims: Sequence[Claim]
    next_turn_in_seconds: float = 0.0


class Ledger(LedgerReader):
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
        self._lease = timedelta(seconds=lease_seconds)
        self._pace = Pace(calls_per_second, self._now)
        self._delivery_time = timedelta(days=delivery_days)
        self._enough_attempts = enough_attempts(delivery_days)
        self._writer = threading.Lock()
        self._turn_takers = threading.BoundedSemaphore(POOL_SIZE - _CONNECTIONS_KEPT_FREE)
        self._written_at = float("-inf")
        self._latest = datetime.min.replace(tzinfo=UTC) + clocks.SKEW
        self._clock_went_back = False
        self._insert = _insert_once(
            postgresql.insert(opt_outs) if self._on_postgres else sqlite.insert(opt_outs)
        )

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
        # Somebody holds on to the pace. Accepting needs no turn.
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
            turns = _Turns(self._pace, connection, claims, patience_seconds)
            recorded = {
                entry_id: self._accept_entry(connection, now, turns, entry_id, entry)
                for entry_id, entry in order
            }
        return [one for entry_id, _ in numbered for one in recorded[entry_id]]

    def _accept_entry(
        self, connection: Connection, now: datetime, turns: "_Turns", new_id: str, entry: Entry
    ) -> list[Recorded]:
        taken = entry.receipt and receipts.take(connection, now, entry.receipt, new_id)
        if taken and taken != new_id:
            # The stores of a request for all of them may have changed since.
            ids = [taken, *(_id_for(taken, request.store) for request in entry.requests)]
            firsts = select(opt_outs).where(opt_outs.c.id.in_(ids)).with_for_update()
            found = {row.id: row for row in connection.execute(firsts)}
            return [
                self._repeat(connection, now, turns, found[each]) for each in ids if each in found
            ]
        if len(entry.requests) == 1:
            return [self._receive(connection, now, turns, new_id, entry.requests[0])]
        return [
            self._receive(connection, now, turns, _id_for(new_id, request.store), request)
            for request in entry.requests
        ]

    def _receive(
        self,
        connection: Connection,
        now: datetime,
        turns: "_Turns",
        opt_out_id: str,
        request: OptOutRequest,
    ) -> Recorded:
        values = rows.received(opt_out_id, now, request) | self._due(now)
        unusable = request.phone_number.failure
        turn = None if unusable else turns.take()
        if unusable:
            values |= rows.ended(Status.REJECTED, unusable)
        elif turn is not None:
            values |= self._claimed(now) | {"attempts": 1}
        if not connection.execute(self._insert, values).rowcount:
            # A transaction whose commit was lost had written it all the same.
            row = connection.execute(select(opt_outs).where(opt_outs.c.id == opt_out_id)).one()
            return Recorded(read_opt_out(row))
        # The row is not asked for back, which would cost a quarter of the insert.
        return self._recorded(connection, now, SimpleNamespace(**values), turn)

    def _repeat(
        self, connection: Connection, now: datetime, turns: "_Turns", row: LedgerRow
    ) -> Recorded:
        if row.status != Status.FAILED:
            is_being_sent = row.claim is not None and row.next_attempt_at > now
            return Recorded(read_opt_out(row), is_repeat=True, is_being_sent=is_being_sent)
        values, turn = self._due(now), turns.take()
        if turn is not None:
            values |= self._claimed(now) | {"attempts": row.attempts + 1}
        row = connection.execute(_UPDATE, values | {"row": row.id}).one()
        return replace(self._recorded(connection, now, row, turn), is_repeat=True)

    def _recorded(
        self, connection: Connection, now: datetime, row: LedgerRow, turn: float | None
    ) -> Recorded:
        if turn is None:
            return Recorded(read_opt_out(row))
        [claim] = self._claims(connection, now, [row], turn)
        return Recorded(claim.opt_out, claim=claim)

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
                .values(self._claimed(now) | {"attempts": opt_outs.c.attempts + 1})
                .returning(opt_outs)
            ).all()
            return Due(self._claims(connection, now, claimed, turn))

    @property
    def has_pace(self) -> bool:
        return bool(self._pace)

    def turn(self, *, patience_seconds: float) -> float | None:
        """Seconds until a turn within the pace; None if it would be more than the patience."""
        with self._writing() as (connection, _):
            return self._pace.take_turn(connection, patience_seconds)

    def after_attempt(self, claim: Claim, outcome: Outcome, stretch: float) -> OptOut:
        """What becomes of a claimed opt-out; ``stretch`` as in ``delay_seconds``.

        It is given up when its days are over, but not before enough attempts have failed: the
        clock may have jumped.
        """
        now = claim.now()
        after = replace(claim.opt_out, customer=outcome.customer, error=outcome.failure)
        if outcome.failure is None:
            return replace(
                after,
                status=Status.OPTED_OUT,
                already_opted_out=outcome.already_opted_out,
                opted_out_at=now,
                next_attempt_at=None,
            )
        if outcome.failure.is_refusal:
            return replace(after, status=Status.REJECTED, next_attempt_at=None)
        failures, is_late = claim.failures + 1, now >= claim.give_up_at
        if is_late and failures >= self._enough_attempts:
            return replace(after, status=Status.FAILED, next_attempt_at=None)
        delay = delay_seconds(failures, outcome.failure.retry_after, stretch)
        next_attempt_at = now + timedelta(seconds=delay)
        if not is_late:
            next_attempt_at = min(next_attempt_at, claim.give_up_at)
        return replace(after, next_attempt_at=next_attempt_at)

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
            values = {"claim": None, "next_attempt_at": now, "attempts": opt_outs.c.attempts - 1}
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
            statement = update(opt_outs).where(can).values(self._due(now)).returning(opt_outs)
            row = connection.execute(statement).one_or_none()
            return None if row is None else read_opt_out(row)

    def retry_failed(self, which: FailedOptOuts, *, limit: int) -> int:
        """Makes up to ``limit`` of these failed opt-outs pending again; says how many they were."""
        with self._writing(MANY_ROWS_SECONDS) as (connection, now):
            batch = select(opt_outs.c.id).where(*which.conditions(now)).limit(limit)
            statement = update(opt_outs).where(opt_outs.c.id.in_(batch)).values(self._due(now))
            return connection.execute(statement).rowcount

    def check_writable(self) -> None:
        """Raises LedgerUnavailable if nothing could be accepted now.

        What was written a moment ago proves it; otherwise something is written for this.
        """
        if time.monotonic() - self._written_at > _PROVED_SECONDS:
            with self._writing() as (connection, now):
                connection.execute(update(clock).where(clock.c.name == PROBE).values(at=now))

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
            lease=self._lease,
            delivery_time=self._delivery_time,
        )

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
            raise LedgerUnavailable(
                "The database cannot be used: it is locked; nothing was accepted."
            )
        try:
            yield
        finally:
            self._writer.release()

    def _due(self, now: datetime) -> Values:
        return rows.due(now, now + self._delivery_time)

    def _claimed(self, now: datetime) -> Values:
        return rows.claimed(now + self._lease, secrets.token_hex(16))

    def _claims(
        self, connection: Connection, now: datetime, claimed: Sequence[LedgerRow], turn: float
    ) -> list[Claim]:
        started = [{"opt_out_id": row.id, "started_at": now} for row in claimed]
        ids = connection.execute(_INSERT_ATTEMPTS, started).all()
        attempt_ids: dict[str, int] = dict(ids)
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


class CommitLost(LedgerUnavailable):
    """The connection was lost while the database stored something: nobody knows whether it did."""

    def __init__(self) -> None:
        super().__init__(
            "The connection to the database was lost while it stored the request, so the request "
            "may be on record. To find out, repeat it with the same Idempotency-Key."
        )


class _Turns:
    """Turns for the claims of one transaction: no more than ``most``, and none after a late one."""

    def __init__(
        self, pace: Pace, connection: Connection, most: int, patience_seconds: float
    ) -> None:
        self._pace = pace
        self._connection = connection
        self._left = most
        self._patience_seconds = patience_seconds

    def take(self) -> float | None:
        if not self._left:
            return None
        turn = self._pace.take_turn(self._connection, self._patience_seconds)
        self._left = 0 if turn is None else self._left - 1
        return turn


def _id_for(entry_id: str, store: str) -> str:
    """The id of one of an entry's several opt-outs, so that a repeat finds it."""
    return str(uuid.uuid5(uuid.UUID(entry_id), store))


def _readable(claimed: Sequence[LedgerRow]) -> Iterator[tuple[LedgerRow, OptOut]]:
    for row in claimed:
        try:
            opt_out = read_opt_out(row)
        except Exception:  # its lease moves it out of the way: the others must be delivered
            _log.exception("opt-out unreadable", extra={"opt_out": row.id})
            continue
        yield row, opt_out


# Built once, and given their values as parameters: building one costs more than running it.
_UPDATE = update(opt_outs).where(opt_outs.c.id == bindparam("row")).returning(opt_outs)
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
_INSERT_ATTEMPTS = insert(attempts).returning(attempts.c.opt_out_id, attempts.c.id)
_END_ATTEMPT = update(attempts).where(attempts.c.id == bindparam("row"))


def _insert_once(new: postgresql.Insert | sqlite.Insert) -> postgresql.Insert | sqlite.Insert:
    """Inserts nothing where there is a row with this id; the result's rowcount tells."""
    return new.on_conflict_do_nothing(index_elements=["id"]).execution_options(
        preserve_rowcount=True
    )
