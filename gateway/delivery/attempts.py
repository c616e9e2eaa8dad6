"""Delivering opt-outs: the only place where the ledger and CRM Text meet.

Written down first, sent second, acknowledged third. The same ``attempt`` serves a caller who waits
and the worker; no transaction is open while CRM Text is asked.
"""

import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from datetime import timedelta

from gateway.consent import OptOut, OptOutRequest, Outcome, Status
from gateway.crmtext.client import CrmText
from gateway.errors import ErrorCode, Failure, GatewayError, LedgerUnavailable
from gateway.ledger.ledger import NO_TURN, Claim, Due, Ledger, Receipt, Recorded
from gateway.metrics import PACE, UPSTREAM

# Threads that never wait for CRM Text, so that webhooks, accepting and reading stay quick.
THREADS_KEPT_FREE = 8
# How long a caller waits for a turn within the pace, and how early the worker takes one.
_CALLERS_PATIENCE_SECONDS = 2.0
_WORKERS_PATIENCE_SECONDS = 0.05
# A turn that was slept through, as by a stopped process, is not used: it would make a burst.
_LATEST_SECONDS = 0.25
_WATCH_SECONDS = 0.1
_FIRST_DELAY_SECONDS = 2.0
_LONGEST_DELAY_SECONDS = 3600.0

_log = logging.getLogger(__name__)


def delay_seconds(failures: int, retry_after: int | None, stretch: float) -> float:
    """Seconds until the next attempt after the ``failures``-th failed one in a row, from 1.

    About 2, 4, 8 … up to an hour; ``stretch`` (1 to 1.25) keeps many from coming back at once.
    CRM Text's own Retry-After counts where it is later.
    """
    doubled = _FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 20) * stretch
    return max(min(doubled, _LONGEST_DELAY_SECONDS), retry_after or 0)


class Delivery:
    """Delivers opt-outs, now for a caller or later for everybody else."""

    def __init__(self, ledger: Ledger, crmtext: CrmText, *, threads: int) -> None:
        self._ledger = ledger
        self._crmtext = crmtext
        self.limit_waiting(threads)

    def limit_waiting(self, threads: int) -> None:
        """Of this process's ``threads``, lets all but a few wait for CRM Text at once."""
        self._waiting = threading.BoundedSemaphore(max(threads - THREADS_KEPT_FREE, 1))

    def opt_out_now(self, request: OptOutRequest, receipt: Receipt | None) -> Recorded:
        """Records and delivers in one go; whatever comes of it is in the opt-out.

        Raises GatewayError (gateway_busy, idempotency_key_reused, idempotency_key_in_use) and
        LedgerUnavailable; nothing was sent then.
        """
        with self._place_to_wait() as has_place:
            if not has_place:
                raise GatewayError(
                    ErrorCode.GATEWAY_BUSY, "Too many requests wait for CRM Text already."
                )
            recorded = self._ledger.begin(
                request, receipt, patience_seconds=_CALLERS_PATIENCE_SECONDS, in_background=False
            )
            if recorded.claim is None:
                return recorded
            return replace(recorded, opt_out=self.attempt(recorded.claim))

    def accept(
        self, request: OptOutRequest, receipt: Receipt | None, *, wait_seconds: float
    ) -> Recorded:
        """Takes over the delivery, and waits a while for its outcome where there is room to wait.

        Raises GatewayError (idempotency_key_reused) and LedgerUnavailable: nothing is accepted.
        """
        if not wait_seconds:
            return self._ledger.accept([(request, receipt)])[0]
        with self._place_to_wait() as has_place:
            if not has_place:
                return self._ledger.accept([(request, receipt)])[0]
            ends_at = time.monotonic() + wait_seconds
            recorded = self._begin_call(request, receipt, wait_seconds)
            return replace(recorded, opt_out=self._watch(recorded.opt_out, ends_at))

    def _begin_call(
        self, request: OptOutRequest, receipt: Receipt | None, wait_seconds: float
    ) -> Recorded:
        """Takes over the delivery, and makes its first attempt in a thread of its own.

        That has a place of its own too: the call may outlast the request that waits for it.
        """
        if not self._waiting.acquire(blocking=False):
            return self._ledger.accept([(request, receipt)])[0]
        thread = None
        try:
            patience = min(wait_seconds, _CALLERS_PATIENCE_SECONDS)
            recorded = self._ledger.begin(
                request, receipt, patience_seconds=patience, in_background=True
            )
            if recorded.claim:
                # If the process ends first, the claim's lease ends too, and the worker delivers.
                # Its log lines are of this request.
                arguments = [self._attempt_and_leave, recorded.claim]
                thread = threading.Thread(target=copy_context().run, args=arguments, daemon=True)
                thread.start()
        finally:
            if thread is None:
                self._waiting.release()
        if thread:
            thread.join(wait_seconds)
        return recorded

    def _attempt_and_leave(self, claim: Claim) -> None:
        try:
            self.attempt(claim)
        except LedgerUnavailable as error:
            _log.warning("a turn could not be taken", extra={"why": error.detail})
        finally:
            self._waiting.release()

    def accept_all(self, entries: Sequence[tuple[OptOutRequest, Receipt]]) -> list[Recorded]:
        """Takes over the delivery of all of them. Raises LedgerUnavailable: none is accepted."""
        return self._ledger.accept(entries) if entries else []

    def claim_due(self, limit: int) -> Due:
        """What the worker is to ``attempt`` now, at most ``limit``."""
        return self._ledger.claim_due(limit, patience_seconds=_WORKERS_PATIENCE_SECONDS)

    def attempt(self, claim: Claim) -> OptOut:
        """Asks CRM Text once and settles; what comes back is the outcome even if settling fails.

        The row then stays pending until the lease ends, and is delivered once more. Raises
        LedgerUnavailable only where nothing was sent.
        """
        has_turn = self._wait_for_turn(claim)
        started_at = time.monotonic()
        outcome = self._ask(claim) if has_turn else Outcome(NO_TURN)
        seconds = time.monotonic() - started_at
        UPSTREAM.labels(outcome.name).observe(seconds)
        opt_out = settled(claim, outcome, random.uniform(1, 1.25))  # noqa: S311  # nosec B311
        try:
            is_mine = self._ledger.settle(claim, opt_out, outcome)
        except LedgerUnavailable as error:
            _log.warning("an outcome was not written down", extra={"why": error.detail})
            is_mine = False
        _log.info(
            "opt-out attempted",
            extra={
                "opt_out": opt_out.id,
                "outcome": outcome.name,
                "http_status": outcome.http_status,
                "status": opt_out.status,
                "attempts": opt_out.attempts,
                "settled": is_mine,
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
            _log.exception(
                "calling CRM Text failed in an unforeseen way", extra={"opt_out": opt_out.id}
            )
            return Outcome(Failure(ErrorCode.INTERNAL_ERROR, "The gateway has a bug; see its log."))

    def _wait_for_turn(self, claim: Claim) -> bool:
        """Whether it is this claim's turn now; not where its own was missed and none is near."""
        if not self._ledger.has_pace:
            return True
        PACE.observe(claim.turn_in_seconds)
        turn_at = claim.claimed_at_monotonic + claim.turn_in_seconds
        time.sleep(max(turn_at - time.monotonic(), 0))
        if time.monotonic() - turn_at <= _LATEST_SECONDS:
            return True
        another = self._ledger.turn(patience_seconds=_CALLERS_PATIENCE_SECONDS)
        time.sleep(another or 0)
        return another is not None

    def _watch(self, opt_out: OptOut, ends_at: float) -> OptOut:
        """The opt-out as it stands when it is no longer pending, or when the time is up."""
        try:
            while True:
                now = self._ledger.find(opt_out.id) or opt_out
                if now.status != Status.PENDING or time.monotonic() >= ends_at:
                    return now
                time.sleep(min(_WATCH_SECONDS, max(ends_at - time.monotonic(), 0)))
        except LedgerUnavailable:
            return opt_out  # it was accepted all the same

    @contextmanager
    def _place_to_wait(self) -> Iterator[bool]:
        has_place = self._waiting.acquire(blocking=False)
        try:
            yield has_place
        finally:
            if has_place:
                self._waiting.release()


def settled(claim: Claim, outcome: Outcome, stretch: float) -> OptOut:
    """The opt-out after an attempt; ``stretch`` as in ``delay_seconds``."""
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
    if not claim.in_background or now >= claim.give_up_at:
        return replace(after, status=Status.FAILED, next_attempt_at=None)
    delay = timedelta(
        seconds=delay_seconds(claim.failures + 1, outcome.failure.retry_after, stretch)
    )
    return replace(after, next_attempt_at=min(now + delay, claim.give_up_at))
