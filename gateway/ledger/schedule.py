"""When an opt-out is due, for how long it is claimed, when it is tried again, and when given up."""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateway.consent import OptOut, Outcome, Status
from gateway.ledger import rows
from gateway.ledger.claims import Claim
from gateway.ledger.rows import Values

_FIRST_DELAY_SECONDS = 2.0
_LONGEST_DELAY_SECONDS = 3600.0
_ENOUGH_ATTEMPTS = 20


def delay_seconds(failures: int, retry_after: int | None, stretch: float) -> float:
    """Seconds until the next attempt after the ``failures``-th failed one in a row, from 1.

    About 2, 4, 8 … up to an hour; ``stretch`` (1 to 1.25) keeps many from coming back at once.
    CRM Text's own Retry-After counts where it is later.
    """
    doubled = _FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 20) * stretch
    return max(min(doubled, _LONGEST_DELAY_SECONDS), retry_after or 0)


def enough_attempts(delivery_days: float) -> int:
    """How many attempts have to fail before an opt-out may be given up when its days are over.

    20, or as many as the delays allow within the days: a clock that jumps ahead must not end an
    opt-out that was hardly tried.
    """
    attempts, seconds = 1, delay_seconds(1, None, 1)
    while attempts < _ENOUGH_ATTEMPTS and seconds <= delivery_days * 24 * 3600:
        attempts += 1
        seconds += delay_seconds(attempts, None, 1)
    return attempts


@dataclass(frozen=True)
class Terms:
    """How long a claim lasts, and how long delivery is tried."""

    lease: timedelta
    delivery_time: timedelta
    enough_attempts: int

    def due(self, now: datetime) -> Values:
        return rows.due(now, now + self.delivery_time)

    def claimed(self, now: datetime) -> Values:
        return rows.claimed(now + self.lease, secrets.token_hex(16))

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
        if is_late and failures >= self.enough_attempts:
            return replace(after, status=Status.FAILED, next_attempt_at=None)
        delay = delay_seconds(failures, outcome.failure.retry_after, stretch)
        next_attempt_at = now + timedelta(seconds=delay)
        if not is_late:
            next_attempt_at = min(next_attempt_at, claim.give_up_at)
        return replace(after, next_attempt_at=next_attempt_at)
