"""Attempts: the only place where the ledger and CRM Text meet.

Written down first, sent second, acknowledged third. The same attempt serves a caller who waits and
the worker; no transaction is open while CRM Text is asked.
"""

import logging
import random
import time

from gateway.consent import OptOut, Outcome
from gateway.crmtext.client import CrmText
from gateway.errors import ErrorCode, Failure, LedgerUnavailable
from gateway.ledger.claims import Claim
from gateway.ledger.ledger import Ledger
from gateway.metrics import PACE, UPSTREAM

# How long a call may wait for another turn within the pace when it has missed its own.
_PATIENCE_SECONDS = 2.0
# A turn that was slept through, as by a stopped process, is not used: it would make a burst.
_LATEST_SECONDS = 0.25

_log = logging.getLogger(__name__)


class Attempts:
    """Makes the attempt that a claim gives the right to."""

    def __init__(self, ledger: Ledger, crmtext: CrmText) -> None:
        self._ledger = ledger
        self._crmtext = crmtext

    def make(self, claim: Claim) -> OptOut:
        """Asks CRM Text once and records the result; returns the updated opt-out.

        It shows CRM Text's answer even if that cannot be recorded: the row then stays pending until
        the lease ends, and is delivered once more. If the rate limit gives no turn in time,
        nothing is sent and the opt-out is due again.
        """
        if not self._wait_for_turn(claim):
            return claim.opt_out
        started_at = time.monotonic()
        outcome = self._ask(claim)
        seconds = time.monotonic() - started_at
        UPSTREAM.labels(outcome.name).observe(seconds)
        stretch = random.uniform(1, 1.25)  # noqa: S311  # nosec B311
        opt_out = self._ledger.after_attempt(claim, outcome, stretch)
        try:
            is_mine = self._ledger.end_attempt(claim, opt_out, outcome)
        except Exception:  # the caller still gets CRM Text's answer
            _log.exception("outcome not recorded", extra=_about(opt_out))
            is_mine = False
        _log.log(
            _level(outcome),
            "attempt failed" if outcome.failure else "attempt succeeded",
            extra=_about(opt_out)
            | {
                "outcome": outcome.name,
                "http_status": outcome.http_status,
                "status": opt_out.status,
                "attempts": opt_out.attempts,
                "recorded": is_mine,
                "seconds": round(seconds, 3),
            },
        )
        return opt_out

    def _ask(self, claim: Claim) -> Outcome:
        opt_out = claim.opt_out
        if opt_out.phone_number is None:
            raise ValueError("an opt-out without a number is never claimed")
        try:
            return self._crmtext.opt_out(opt_out.phone_number, opt_out.store)
        except Exception:  # a bug must neither lose this opt-out nor stop the others
            _log.exception("call to CRM Text crashed", extra=_about(opt_out))
            return Outcome(
                Failure(ErrorCode.INTERNAL_ERROR, "Internal error; see the gateway's log.")
            )

    def _wait_for_turn(self, claim: Claim) -> bool:
        """Whether it is this claim's turn now; if not, the claim is given back."""
        if not self._ledger.has_pace:
            return True
        PACE.observe(claim.turn_in_seconds)
        turn_at = claim.claimed_at_monotonic + claim.turn_in_seconds
        time.sleep(max(turn_at - time.monotonic(), 0))
        if time.monotonic() - turn_at <= _LATEST_SECONDS:
            return True
        try:
            another = self._ledger.turn(patience_seconds=_PATIENCE_SECONDS)
            if another is None:
                self._ledger.put_back(claim)
                return False
        except LedgerUnavailable as error:
            _log.warning(
                "rate limit turn missed", extra=_about(claim.opt_out) | {"why": error.detail}
            )
            return False
        time.sleep(another)
        return True


def _about(opt_out: OptOut) -> dict[str, object]:
    return {"opt_out": opt_out.id, "store": opt_out.store}


def _level(outcome: Outcome) -> int:
    if outcome.failure is None:
        return logging.INFO
    # Nothing of this store gets through until somebody fixes its credentials.
    if outcome.failure.code is ErrorCode.CRMTEXT_AUTH_FAILED:
        return logging.ERROR
    return logging.WARNING
