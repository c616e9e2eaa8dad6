"""Taking in: requests become rows, repeats find the rows that are there."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import SimpleNamespace

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.consent import OptOut, OptOutRequest, Status
from gateway.ledger import receipts, rows
from gateway.ledger.claims import Claim, begin_attempts
from gateway.ledger.pace import Pace
from gateway.ledger.receipts import Receipt
from gateway.ledger.rows import LedgerRow, read_opt_out
from gateway.ledger.schedule import Terms
from gateway.ledger.tables import opt_outs


@dataclass(frozen=True)
class Entry:
    """What came under one receipt: a request, or one for each of several stores."""

    requests: Sequence[OptOutRequest]
    receipt: Receipt | None = None


@dataclass(frozen=True)
class Recorded:
    """A request on record. With ``claim``, whoever asked delivers it right now."""

    opt_out: OptOut
    is_repeat: bool = False
    is_being_sent: bool = False  # by another request or the worker
    claim: Claim | None = None


class Intake:
    """One transaction in which requests are recorded, some of them with a claim."""

    def __init__(self, connection: Connection, now: datetime, terms: Terms, turns: "Turns") -> None:
        self._connection = connection
        self._now = now
        self._terms = terms
        self._turns = turns

    def record(self, new_id: str, entry: Entry) -> list[Recorded]:
        """An entry's opt-outs: new ones, or those that its receipt was first given for.

        Raises GatewayError (idempotency_key_reused).
        """
        taken = entry.receipt and receipts.take(self._connection, self._now, entry.receipt, new_id)
        if taken and taken != new_id:
            # The stores of a request for all of them may have changed since.
            ids = [taken, *(_id_for(taken, request.store) for request in entry.requests)]
            firsts = select(opt_outs).where(opt_outs.c.id.in_(ids)).with_for_update()
            found = {row.id: row for row in self._connection.execute(firsts)}
            return [self._repeat(found[each]) for each in ids if each in found]
        if len(entry.requests) == 1:
            return [self._receive(new_id, entry.requests[0])]
        return [
            self._receive(_id_for(new_id, request.store), request) for request in entry.requests
        ]

    def _receive(self, opt_out_id: str, request: OptOutRequest) -> Recorded:
        values = rows.received(opt_out_id, self._now, request) | self._terms.due(self._now)
        unusable = request.phone_number.failure
        turn = None if unusable else self._turns.take()
        if unusable:
            values |= rows.ended(Status.REJECTED, unusable)
        elif turn is not None:
            values |= self._terms.claimed(self._now) | {"attempts": 1}
        if not self._connection.execute(_INSERT[self._connection.dialect.name], values).rowcount:
            # A transaction whose commit was lost had written it all the same.
            row = self._connection.execute(
                select(opt_outs).where(opt_outs.c.id == opt_out_id)
            ).one()
            return Recorded(read_opt_out(row))
        # The row is not asked for back, which would cost a quarter of the insert.
        return self._recorded(SimpleNamespace(**values), turn)

    def _repeat(self, row: LedgerRow) -> Recorded:
        if row.status != Status.FAILED:
            is_being_sent = row.claim is not None and row.next_attempt_at > self._now
            return Recorded(read_opt_out(row), is_repeat=True, is_being_sent=is_being_sent)
        values, turn = self._terms.due(self._now), self._turns.take()
        if turn is not None:
            values |= self._terms.claimed(self._now) | {"attempts": row.attempts + 1}
        row = self._connection.execute(_UPDATE, values | {"row": row.id}).one()
        return replace(self._recorded(row, turn), is_repeat=True)

    def _recorded(self, row: LedgerRow, turn: float | None) -> Recorded:
        if turn is None:
            return Recorded(read_opt_out(row))
        [claim] = begin_attempts(self._connection, self._now, [row], turn)
        return Recorded(claim.opt_out, claim=claim)


class Turns:
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


# Built once, and given their values as parameters: building one costs more than running it.
_UPDATE = update(opt_outs).where(opt_outs.c.id == bindparam("row")).returning(opt_outs)


def _insert_once(new: postgresql.Insert | sqlite.Insert) -> postgresql.Insert | sqlite.Insert:
    """Inserts nothing where there is a row with this id; the result's rowcount tells."""
    return new.on_conflict_do_nothing(index_elements=["id"]).execution_options(
        preserve_rowcount=True
    )


_INSERT = {
    "postgresql": _insert_once(postgresql.insert(opt_outs)),
    "sqlite": _insert_once(sqlite.insert(opt_outs)),
}
