"""Clocks that were wrong: no opt-out waits because a time was written down by one of them."""

import logging
from datetime import datetime, timedelta

from sqlalchemy import (
    BindParameter,
    Connection,
    and_,
    case,
    literal,
    or_,
    select,
    update,
)

from gateway.ledger.tables import WORKER, UtcTime, clock, opt_outs

# How far two readings of one clock may disagree without anybody having set it.
SKEW = timedelta(seconds=2)
# No rule lets an opt-out wait longer: this is how far CRM Text's Retry-After is believed.
_LONGEST_WAIT = timedelta(hours=6, minutes=1)

_log = logging.getLogger(__name__)


def worker_was_seen_later(connection: Connection, now: datetime) -> bool:
    """Whether the clock went back since a worker was last seen, be it by another process."""
    seen_at = connection.scalar(select(clock.c.at).where(clock.c.name == WORKER))
    return seen_at is not None and now < seen_at - SKEW


def correct(
    connection: Connection,
    now: datetime,
    *,
    went_back: bool,
    lease: timedelta,
    delivery_time: timedelta,
) -> None:
    """Makes pending opt-outs due whose due time a wrong clock wrote.

    That is what lies further ahead than any rule allows, what came in at a time that has yet to
    come, and all that waits if the clock ``went_back``. Claimed ones are due when a lease would
    end that began now.
    """
    signs = [
        opt_outs.c.next_attempt_at > now + _LONGEST_WAIT,
        and_(
            opt_outs.c.created_at > now + SKEW,
            opt_outs.c.next_attempt_at >= opt_outs.c.created_at,
        ),
    ]
    if went_back:
        is_free = opt_outs.c.claim.is_(None)
        signs += [
            opt_outs.c.next_attempt_at > now + lease,
            and_(is_free, opt_outs.c.next_attempt_at > now),
        ]
    # Each by an index of its own: together they would be looked for in all that is pending.
    elif not any(
        connection.execute(select(opt_outs.c.id).where(one).limit(1)).all() for one in signs
    ):
        return
    corrected = connection.execute(
        update(opt_outs)
        .where(opt_outs.c.next_attempt_at.is_not(None), or_(*signs))
        .values(
            next_attempt_at=case(
                (opt_outs.c.claim.is_(None), _moment(now)), else_=_moment(now + lease)
            ),
            give_up_at=case(
                (opt_outs.c.give_up_at > now + delivery_time, _moment(now + delivery_time)),
                else_=opt_outs.c.give_up_at,
            ),
        )
    ).rowcount
    _log.warning("clock jump corrected", extra={"went_back": went_back, "made_due": corrected})


def _moment(moment: datetime) -> BindParameter[datetime]:
    return literal(moment, UtcTime)
