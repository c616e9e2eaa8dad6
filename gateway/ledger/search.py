"""Reading the ledger back: one opt-out, its attempts, a search, and all of it at a glance."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import gt, lt

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from gateway.consent import Attempt, OptOut, Order, Status
from gateway.errors import ErrorCode, LedgerUnavailable
from gateway.ledger.causes import cause_of
from gateway.ledger.database import create_ledger_engine, reading
from gateway.ledger.patience import BUSY_SECONDS, MANY_ROWS_SECONDS
from gateway.ledger.rows import read_attempt, read_opt_out
from gateway.ledger.tables import WORKER, UtcTime, attempts, clock, opt_outs

_NOW = select(func.clock_timestamp(type_=UtcTime))


@dataclass(frozen=True)
class Criteria:
    """What a search asks for; None asks for nothing. ``stores`` is what the caller may see."""

    stores: frozenset[str] | None = None
    phone_number: str | None = None
    store: str | None = None
    status: str | None = None
    reference: str | None = None
    source: str | None = None
    code: str | None = None  # of the error
    order: Order = Order.NEWEST
    since: datetime | None = None
    until: datetime | None = None
    after: tuple[datetime, str] | None = None


@dataclass(frozen=True)
class FailedOptOuts:
    """Which of the failed opt-outs are meant; None means any."""

    error_code: str | None = None
    store: str | None = None
    given_up_within: timedelta | None = None  # until now

    def conditions(self, now: datetime) -> Iterator[ColumnElement[bool]]:
        yield opt_outs.c.status == Status.FAILED
        yield opt_outs.c.error_code.is_not(None)  # all have one, and the index is of those
        if self.error_code is not None:
            yield opt_outs.c.error_code == self.error_code
        if self.store is not None:
            yield opt_outs.c.store == self.store
        if self.given_up_within is not None:
            yield opt_outs.c.give_up_at > now - self.given_up_within


@dataclass(frozen=True)
class Summary:
    """The ledger at a glance, for metrics and for a person."""

    now: datetime
    opt_outs: Mapping[tuple[str, str], int]  # by status and source
    errors: Mapping[tuple[str, str, str], int]  # by status, code and store; pending ones too
    attempts: Mapping[str | None, int]  # by outcome; None has not ended
    oldest_pending_at: datetime | None
    worker_seen_at: datetime | None

    @property
    def pending(self) -> int:
        return sum(n for (status, _), n in self.opt_outs.items() if status == Status.PENDING)

    @property
    def refused_credentials(self) -> Mapping[str, int]:
        """By store, the undelivered opt-outs whose last attempt met refused credentials."""
        counted: Counter[str] = Counter()
        for (status, code, store), n in self.errors.items():
            if code == ErrorCode.CRMTEXT_AUTH_FAILED and status != Status.REJECTED:
                counted[store] += n
        return counted

    @property
    def oldest_pending_seconds(self) -> float:
        """Age of the opt-out that has waited longest; 0 if none is waiting.

        Where the clock went back since then, how far it went: report it, do not hide it.
        """
        oldest = self.oldest_pending_at or self.now
        return abs((self.now - oldest).total_seconds())


class LedgerReader:
    """What is on record. Every method raises LedgerUnavailable if it cannot be asked."""

    def __init__(
        self, url: URL, *, machine_clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """``machine_clock`` decides on SQLite; on Postgres the database's clock does."""
        self.engine = create_ledger_engine(url)
        self._machine_clock = machine_clock
        self._on_postgres = self.engine.dialect.name == "postgresql"

    def find(self, opt_out_id: str) -> OptOut | None:
        with self._reading() as connection:
            row = connection.execute(select(opt_outs).where(opt_outs.c.id == opt_out_id))
            return next((read_opt_out(found) for found in row), None)

    def attempts_of(self, opt_out_id: str) -> list[Attempt]:
        """Every call to CRM Text for this opt-out, oldest first."""
        statement = (
            select(attempts)
            .where(attempts.c.opt_out_id == opt_out_id)
            .order_by(attempts.c.started_at, attempts.c.id)
        )
        with self._reading() as connection:
            return [read_attempt(row) for row in connection.execute(statement)]

    def search(self, criteria: Criteria, limit: int) -> list[OptOut]:
        """At most ``limit`` opt-outs that meet all criteria, in the order that they ask for."""
        places = (opt_outs.c.created_at, opt_outs.c.id)
        order = [place.desc() if criteria.order is Order.NEWEST else place for place in places]
        statement = select(opt_outs).where(*_conditions(criteria)).order_by(*order).limit(limit)
        with self._reading(MANY_ROWS_SECONDS) as connection:
            return [read_opt_out(row) for row in connection.execute(statement)]

    def count_failed(self, which: FailedOptOuts) -> Mapping[str, int]:
        """How many failed opt-outs there are, by the code of their error."""
        code = opt_outs.c.error_code
        with self._reading(MANY_ROWS_SECONDS) as connection:
            conditions = which.conditions(self._now(connection))
            counts = select(code, func.count()).where(*conditions).group_by(code).order_by(code)
            return {row[0]: row[1] for row in connection.execute(counts)}

    def summary(self) -> Summary:
        columns = opt_outs.c
        is_pending = columns.next_attempt_at.is_not(None)
        by_source = select(columns.status, columns.source, func.count()).group_by(
            columns.status, columns.source
        )
        by_error = (
            select(columns.status, columns.error_code, columns.store, func.count())
            .where(columns.error_code.is_not(None))
            .group_by(columns.status, columns.error_code, columns.store)
        )
        by_outcome = select(attempts.c.outcome, func.count()).group_by(attempts.c.outcome)
        with self._reading(MANY_ROWS_SECONDS) as connection:
            return Summary(
                now=self._now(connection),
                opt_outs={(row[0], row[1]): row[2] for row in connection.execute(by_source)},
                errors={(row[0], row[1], row[2]): row[3] for row in connection.execute(by_error)},
                attempts={row[0]: row[1] for row in connection.execute(by_outcome)},
                oldest_pending_at=connection.scalar(
                    select(func.min(columns.created_at)).where(is_pending)
                ),
                worker_seen_at=connection.scalar(select(clock.c.at).where(clock.c.name == WORKER)),
            )

    @contextmanager
    def _reading(self, seconds: float = BUSY_SECONDS) -> Iterator[Connection]:
        with translated(), reading(self.engine, seconds) as connection:
            yield connection

    def _now(self, connection: Connection) -> datetime:
        if not self._on_postgres:
            return self._machine_clock()
        return connection.execute(_NOW).scalar_one()


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except (IntegrityError, DataError):
        raise  # a bug of ours: the database works
    except SQLAlchemyError as error:
        raise LedgerUnavailable(f"The database cannot be used: {cause_of(error)}.") from error


def _conditions(criteria: Criteria) -> Iterator[ColumnElement[bool]]:
    columns = opt_outs.c
    for name in ("phone_number", "store", "status", "reference", "source"):
        wanted = getattr(criteria, name)
        if wanted is not None:
            yield columns[name] == wanted
    if criteria.code is not None:
        yield columns.error_code == criteria.code
    if criteria.stores is not None:
        yield columns.store.in_(sorted(criteria.stores))
    if criteria.since is not None:
        yield columns.created_at >= criteria.since
    if criteria.until is not None:
        yield columns.created_at < criteria.until
    if criteria.after is not None:
        at, opt_out_id = criteria.after
        comes_after = lt if criteria.order is Order.NEWEST else gt
        at_once = and_(columns.created_at == at, comes_after(columns.id, opt_out_id))
        yield or_(comes_after(columns.created_at, at), at_once)
