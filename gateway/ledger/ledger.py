"""The ledger: every opt-out is a row before anything is sent, and the row is the job.

A pending row is due at its ``next_attempt_at``. Whoever delivers it claims it first, with one
conditional update that moves this moment to the end of a lease; a process that dies leaves a row
that is due again then. Who settles must still hold the claim. On Postgres the database's clock
decides; SQLite serves one machine, and there the machine's clock does.

Every method raises LedgerUnavailable where the database cannot be reached or is locked; then
nothing of that call is stored.
"""

import logging
import secrets
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace

from sqlalchemy import (
    Connection,
    Executable,
    and_,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL

from gateway.consent import OptOut, OptOutRequest, Outcome, Status
from gateway.errors import ErrorCode, Failure, GatewayError, LedgerUnavailable
from gateway.ledger.database import BUSY_SECONDS
from gateway.ledger.rows import (
    LedgerRow,
    Values,
    ended,
    pending,
    read_opt_out,
    received,
    settled,
    words_columns,
)
from gateway.ledger.search import PACE, WORKER, LedgerReader, translated
from gateway.ledger.tables import UtcTime, attempts, clock, opt_outs, receipts

# No turn is ever given further ahead; one that is was given before a clock was put back.
_FARTHEST_TURN = timedelta(seconds=5)

_log = logging.getLogger(__name__)

NO_TURN = Failure(
    ErrorCode.CRMTEXT_RATE_LIMITED,
    "No turn came up within the pace that all calls to CRM Text keep to; nothing was sent.",
)


@dataclass(frozen=True)
class Receipt:
    """What makes a repeat recognisable: a key, and a fingerprint of what came with it."""

    key: str
    fingerprint: str
    valid_for: timedelta | None = None


@dataclass(frozen=True)
class Claim:
    """The right to deliver one opt-out until its lease ends, after waiting for its turn."""

    opt_out: OptOut
    token: str
    attempt_id: int
    in_background: bool
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
    """A request on record; with ``claim``, to be delivered right now by whoever asked."""

    opt_out: OptOut
    is_repeat: bool = False
    claim: Claim | None = None


@dataclass(frozen=True)
class Due:
    """Claims to deliver; ``next_turn_in_seconds`` says when to ask again if the pace is used up."""

    claims: Sequence[Claim]
    next_turn_in_seconds: float = 0.0


class Ledger(LedgerReader):
    """One ledger, shared by all processes that are given the same ``url``."""

    def __init__(
        self, url: URL, *, lease_seconds: float, calls_per_second: float, delivery_days: float
    ) -> None:
        super().__init__(url)
        self._lease = timedelta(seconds=lease_seconds)
        # A little slower than the rate, so that no second ever sees one call more than allowed.
        self._spacing = timedelta(seconds=1.05 / calls_per_second if calls_per_second else 0)
        self._delivery_time = timedelta(days=delivery_days)
        self._writer = threading.Lock()
        self._take_receipt = _take_receipt(
            postgresql.insert(receipts) if self._on_postgres else sqlite.insert(receipts)
        )

    def accept(self, entries: Sequence[tuple[OptOutRequest, Receipt | None]]) -> list[Recorded]:
        """Takes over the delivery of all of them, or of none; unusable ones become rejected.

        A repeat of a failed one makes it pending again. Raises GatewayError
        (idempotency_key_reused) where the receipt came with another fingerprint before.
        """
        # Always in the same order: two that wait for each other's receipts would never end.
        order = sorted(range(len(entries)), key=lambda place: _key(entries[place][1]))
        with self._writing() as (connection, now):
            recorded = {place: self._accept(connection, now, *entries[place]) for place in order}
        return [recorded[place] for place in range(len(entries))]

    def _accept(
        self, connection: Connection, now: datetime, request: OptOutRequest, receipt: Receipt | None
    ) -> Recorded:
        opt_out_id = str(uuid.uuid4())
        first = self._first(connection, now, receipt, opt_out_id)
        if first is None:
            state = self._due(now)
            unusable = request.phone_number.failure
            if unusable:
                state |= ended(Status.REJECTED, unusable)
            row = _insert(connection, received(opt_out_id, now, request) | state)
            return Recorded(read_opt_out(row))
        if first.status == Status.FAILED:
            return Recorded(read_opt_out(_update(connection, first.id, self._due(now))))
        _refuse_if_unanswered(first, now)
        return Recorded(read_opt_out(first), is_repeat=True)

    def begin(
        self,
        request: OptOutRequest,
        receipt: Receipt | None,
        *,
        patience_seconds: float,
        in_background: bool,
    ) -> Recorded:
        """Records a request with a claim to deliver it now.

        There is no claim where it repeats one that has not failed, and none where no turn comes
        up within ``patience_seconds``: then the opt-out is due ``in_background``, else failed.
        Raises GatewayError (idempotency_key_reused, idempotency_key_in_use).
        """
        with self._writing() as (connection, now):
            opt_out_id = str(uuid.uuid4())
            first = self._first(connection, now, receipt, opt_out_id)
            if first is not None and first.status != Status.FAILED:
                _refuse_if_unanswered(first, now)
                return Recorded(read_opt_out(first), is_repeat=True)
            turn = self._turn(connection, now, patience_seconds)
            state = self._due(now) | {"in_background": in_background}
            if turn is not None:
                state |= self._claimed(now)
            elif not in_background:
                state |= ended(Status.FAILED, NO_TURN)
            state["attempts"] = (first.attempts if first else 0) + (turn is not None)
            if first is None:
                row = _insert(connection, received(opt_out_id, now, request) | state)
            else:
                row = _update(connection, first.id, state)
            claims = [] if turn is None else self._claims(connection, now, [row], turn)
            return Recorded(read_opt_out(row), claim=next(iter(claims), None))

    def claim_due(self, limit: int, *, patience_seconds: float) -> Due:
        """Claims up to ``limit`` due opt-outs; where there is a pace, one, with its turn."""
        with self._writing() as (connection, now):
            due = (
                select(opt_outs.c.id)
                .where(opt_outs.c.next_attempt_at <= now)
                .order_by(opt_outs.c.next_attempt_at)
                .limit(1 if self._spacing else limit)
                .with_for_update(skip_locked=True)
            )
            ids = connection.scalars(due).all()
            if not ids:
                return Due([])
            turn = self._turn(connection, now, patience_seconds)
            if turn is None:
                return Due([], next_turn_in_seconds=self._spacing.total_seconds())
            values = self._claimed(now) | {"in_background": True}
            rows = connection.execute(
                update(opt_outs)
                .where(opt_outs.c.id.in_(ids))
                .values(values | {"attempts": opt_outs.c.attempts + 1})
                .returning(opt_outs)
            ).all()
            return Due(self._claims(connection, now, rows, turn))

    @property
    def has_pace(self) -> bool:
        return bool(self._spacing)

    def turn(self, *, patience_seconds: float) -> float | None:
        """Seconds until a turn within the pace; None if it would be more than the patience."""
        with self._writing() as (connection, now):
            return self._turn(connection, now, patience_seconds)

    def settle(self, claim: Claim, opt_out: OptOut, outcome: Outcome) -> bool:
        """Writes down what came of an attempt; the opt-out itself only if the claim still holds."""
        mine = {"row": opt_out.id, "held": claim.token, "failures": claim.failures + 1}
        attempt = words_columns(outcome.crmtext) | {
            "row": claim.attempt_id,
            "outcome": outcome.name,
            "http_status": outcome.http_status,
        }
        with self._writing() as (connection, now):
            connection.execute(_END_ATTEMPT, attempt | {"ended_at": now})
            return connection.execute(_SETTLE, settled(opt_out) | mine).rowcount == 1

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

    def retry_failed(
        self,
        *,
        error_code: str | None,
        store: str | None,
        younger_than: timedelta | None,
        dry_run: bool = False,
    ) -> int:
        """Makes all failed opt-outs that match pending again, and says how many they are.

        A ``dry_run`` only counts them.
        """
        with self._writing() as (connection, now):
            conditions = [opt_outs.c.status == Status.FAILED]
            conditions += [opt_outs.c.error_code == error_code] if error_code else []
            conditions += [opt_outs.c.store == store] if store else []
            conditions += [opt_outs.c.created_at > now - younger_than] if younger_than else []
            if dry_run:
                count = select(func.count()).select_from(opt_outs).where(*conditions)
                return connection.execute(count).scalar_one()
            statement = update(opt_outs).where(*conditions).values(self._due(now))
            return connection.execute(statement).rowcount

    def worker_is_alive(self) -> None:
        """Leaves the worker's sign of life."""
        with self._writing() as (connection, now):
            connection.execute(update(clock).where(clock.c.name == WORKER).values(at=now))

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, datetime]]:
        with translated(), self._place_to_write(), self.engine.begin() as connection:
            yield connection, self._now(connection)

    @contextmanager
    def _place_to_write(self) -> Iterator[None]:
        """On SQLite, one thread of a process at a time: they would wait for each other anyway."""
        if self._on_postgres:
            yield
            return
        if not self._writer.acquire(timeout=BUSY_SECONDS):
            raise LedgerUnavailable("The ledger is locked; nothing was accepted.")
        try:
            yield
        finally:
            self._writer.release()

    def _first(
        self, connection: Connection, now: datetime, receipt: Receipt | None, opt_out_id: str
    ) -> LedgerRow | None:
        """The opt-out that this receipt was first given for; None if it is given now."""
        if receipt is None:
            return None
        is_new = connection.scalar(
            self._take_receipt,
            {
                "key": receipt.key,
                "fingerprint": receipt.fingerprint,
                "opt_out_id": opt_out_id,
                "expires_at": receipt.valid_for and now + receipt.valid_for,
                "moment": now,
            },
        )
        if is_new:
            return None
        given = connection.execute(select(receipts).where(receipts.c.key == receipt.key)).one()
        if given.fingerprint != receipt.fingerprint:
            raise GatewayError(
                ErrorCode.IDEMPOTENCY_KEY_REUSED,
                "This Idempotency-Key was used before, with another body.",
            )
        first = select(opt_outs).where(opt_outs.c.id == given.opt_out_id)
        return connection.execute(first.with_for_update()).one()

    def _turn(self, connection: Connection, now: datetime, patience: float) -> float | None:
        if not self._spacing:
            return 0.0
        statement = select(clock.c.at).where(clock.c.name == PACE).with_for_update()
        next_turn = connection.scalars(statement).one()
        now = self._now(connection)  # waiting for the others may have taken a while
        is_sound = next_turn and now < next_turn <= now + self._spacing + _FARTHEST_TURN
        turn = next_turn if is_sound else now
        wait: float = (turn - now).total_seconds()
        if wait > patience:
            return None
        connection.execute(
            update(clock).where(clock.c.name == PACE).values(at=turn + self._spacing)
        )
        return wait

    def _due(self, now: datetime) -> Values:
        return pending(now) | {
            "give_up_at": now + self._delivery_time,
            "in_background": True,
            "failures": 0,
        }

    def _claimed(self, now: datetime) -> Values:
        return {"next_attempt_at": now + self._lease, "claim": secrets.token_hex(16)}

    def _claims(
        self, connection: Connection, now: datetime, rows: Sequence[LedgerRow], turn: float
    ) -> list[Claim]:
        started = [{"opt_out_id": row.id, "started_at": now} for row in rows]
        ids = connection.execute(_INSERT_ATTEMPTS, started).all()
        attempt_ids: dict[str, int] = dict(ids)
        return [
            Claim(
                opt_out=opt_out,
                token=row.claim,
                attempt_id=attempt_ids[row.id],
                in_background=row.in_background,
                failures=row.failures,
                give_up_at=row.give_up_at,
                turn_in_seconds=turn,
                claimed_at=now,
            )
            for row, opt_out in _readable(rows)
        ]


def _readable(rows: Sequence[LedgerRow]) -> Iterator[tuple[LedgerRow, OptOut]]:
    for row in rows:
        try:
            opt_out = read_opt_out(row)
        except Exception:  # its lease moves it out of the way: the others must be delivered
            _log.exception("an opt-out on record cannot be read", extra={"opt_out": row.id})
            continue
        yield row, opt_out


def _key(receipt: Receipt | None) -> str:
    return receipt.key if receipt else ""


def _refuse_if_unanswered(first: LedgerRow, now: datetime) -> None:
    is_held = first.next_attempt_at is not None and first.next_attempt_at > now
    if is_held and not first.in_background:
        raise GatewayError(
            ErrorCode.IDEMPOTENCY_KEY_IN_USE,
            "The first request with this Idempotency-Key has not been answered yet.",
        )


# Built once, and given their values as parameters: building one costs more than running it.
_INSERT = insert(opt_outs)
_UPDATE = update(opt_outs).where(opt_outs.c.id == bindparam("row")).returning(opt_outs)
_SETTLE = update(opt_outs).where(
    opt_outs.c.id == bindparam("row"), opt_outs.c.claim == bindparam("held")
)
_INSERT_ATTEMPTS = insert(attempts).returning(attempts.c.opt_out_id, attempts.c.id)
_END_ATTEMPT = update(attempts).where(attempts.c.id == bindparam("row"))


def _take_receipt(new: postgresql.Insert | sqlite.Insert) -> Executable:
    """Gives back the opt-out's id if nobody has this receipt, or if it has expired."""
    columns = {name: new.excluded[name] for name in ("fingerprint", "opt_out_id", "expires_at")}
    has_expired = receipts.c.expires_at <= bindparam("moment", type_=UtcTime)
    return new.on_conflict_do_update(
        index_elements=["key"], set_=columns, where=has_expired
    ).returning(receipts.c.opt_out_id)


def _insert(connection: Connection, values: Values) -> LedgerRow:
    """The new row. It is not asked for back, which would cost a quarter of the insert."""
    connection.execute(_INSERT, values)
    return SimpleNamespace(**values)


def _update(connection: Connection, opt_out_id: str, values: Values) -> LedgerRow:
    return connection.execute(_UPDATE, values | {"row": opt_out_id}).one()
