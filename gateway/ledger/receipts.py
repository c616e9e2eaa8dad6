"""Receipts: what makes a repeat recognizable, an idempotency key or a webhook's message."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.errors import ErrorCode, GatewayError
from gateway.ledger.tables import UtcTime, receipts


@dataclass(frozen=True)
class Receipt:
    """A key, and a fingerprint of what came with it; forever where ``valid_for`` is None."""

    key: str
    fingerprint: str
    valid_for: timedelta | None = None


def take(connection: Connection, now: datetime, receipt: Receipt, opt_out_id: str) -> str:
    """The id of the opt-out that the receipt was first given for: ``opt_out_id`` if it is new.

    A receipt that has expired is new. Raises GatewayError (idempotency_key_reused) where it was
    given with another fingerprint before.
    """
    taken = connection.scalar(
        _TAKE[connection.dialect.name],
        {
            "key": receipt.key,
            "fingerprint": receipt.fingerprint,
            "opt_out_id": opt_out_id,
            "expires_at": receipt.valid_for and now + receipt.valid_for,
            "moment": now,
        },
    )
    if taken:
        return opt_out_id
    given = connection.execute(select(receipts).where(receipts.c.key == receipt.key)).one()
    if given.fingerprint != receipt.fingerprint:
        raise GatewayError(
            ErrorCode.IDEMPOTENCY_KEY_REUSED,
            "This Idempotency-Key was used before, with another body.",
        )
    first: str = given.opt_out_id
    return first


def _take(new: postgresql.Insert | sqlite.Insert) -> postgresql.Insert | sqlite.Insert:
    """Gives back the opt-out's id if nobody has this receipt, or if it has expired."""
    columns = {name: new.excluded[name] for name in ("fingerprint", "opt_out_id", "expires_at")}
    has_expired = receipts.c.expires_at <= bindparam("moment", type_=UtcTime)
    return new.on_conflict_do_update(
        index_elements=["key"], set_=columns, where=has_expired
    ).returning(receipts.c.opt_out_id)  # type: ignore[return-value]


# Built once, and given their values as parameters: building one costs more than running it.
_TAKE = {
    "postgresql": _take(postgresql.insert(receipts)),
    "sqlite": _take(sqlite.insert(receipts)),
}
