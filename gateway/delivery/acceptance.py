"""Accepting opt-outs: on record before anything else, and sent at once for a caller who waits."""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import replace

from gateway.consent import OptOut, OptOutRequest, Status
from gateway.delivery.attempts import Attempts
from gateway.errors import LedgerUnavailable
from gateway.ledger.claims import Claim
from gateway.ledger.intake import Entry, Recorded
from gateway.ledger.ledger import Ledger
from gateway.ledger.receipts import Receipt

# Threads that never wait for CRM Text, so that webhooks, accepting and reading stay quick.
_THREADS_KEPT_FREE = 8
# How long a caller waits for a turn within the pace.
_PATIENCE_SECONDS = 2.0
_WATCH_SECONDS = 0.1


class Acceptance:
    """Accepts opt-outs, and lets callers wait for what becomes of them."""

    def __init__(
        self, ledger: Ledger, attempts: Attempts, *, threads: int, call_seconds: float
    ) -> None:
        """Of this process's ``threads``, all but a few may wait for CRM Text at once."""
        self._ledger = ledger
        self._attempts = attempts
        self._longest_wait = _PATIENCE_SECONDS + call_seconds
        places = max(threads - _THREADS_KEPT_FREE, 1)
        self._places = threading.BoundedSemaphore(places)
        self._pool = ThreadPoolExecutor(places, thread_name_prefix="attempt")

    def accept(
        self,
        requests: Sequence[OptOutRequest],
        receipt: Receipt | None,
        *,
        wait_seconds: float | None = None,
    ) -> list[Recorded]:
        """Takes over the delivery of all, or of none, and waits until their first attempts end.

        It waits at most ``wait_seconds``, and not at all where too many wait already or no turn
        comes up within the pace. What has not ended by then is pending, and is delivered all the
        same. Raises GatewayError (idempotency_key_reused) and LedgerUnavailable.
        """
        seconds = self._longest_wait if wait_seconds is None else wait_seconds
        ends_at = time.monotonic() + seconds
        places = self._take_places(len(requests) if seconds else 0)
        try:
            recorded = self._ledger.accept(
                [Entry(requests, receipt)],
                claims=places,
                patience_seconds=min(seconds, _PATIENCE_SECONDS),
            )
            if wait_seconds is None and len(recorded) == 1 and recorded[0].claim:
                # The whole wait is one call: no thread of its own is needed.
                return [replace(recorded[0], opt_out=self._attempts.make(recorded[0].claim))]
            attempts = {one.opt_out.id: self._start(one.claim) for one in recorded if one.claim}
            places -= len(attempts)
            wait(attempts.values(), max(ends_at - time.monotonic(), 0))
            watch_until = ends_at if places else 0
            return [self._as_it_stands(one, attempts, watch_until) for one in recorded]
        finally:
            for _ in range(places):
                self._places.release()

    def accept_all(self, entries: Sequence[Entry]) -> list[Recorded]:
        """Takes over the delivery of all of them. Raises LedgerUnavailable: none is accepted."""
        return self._ledger.accept(entries) if entries else []

    def _take_places(self, most: int) -> int:
        return sum(self._places.acquire(blocking=False) for _ in range(most))

    def _start(self, claim: Claim) -> Future[OptOut]:
        """Makes the attempt in a thread that may outlast the request, and frees its place then.

        If the process ends first, the claim's lease ends too, and the worker delivers.
        """
        # The thread's log lines are of this request.
        attempt = self._pool.submit(copy_context().run, self._attempts.make, claim)
        attempt.add_done_callback(lambda _: self._places.release())
        return attempt

    def _as_it_stands(
        self, one: Recorded, attempts: Mapping[str, Future[OptOut]], watch_until: float
    ) -> Recorded:
        attempt = attempts.get(one.opt_out.id)
        if attempt is not None and attempt.done():
            return replace(one, opt_out=attempt.result())
        if one.is_being_sent:
            return replace(one, opt_out=self._watch(one.opt_out, watch_until))
        return one

    def _watch(self, opt_out: OptOut, ends_at: float) -> OptOut:
        """The opt-out as it stands when the attempt that is under way has ended, or time is up."""
        now = opt_out
        try:
            while now.status == Status.PENDING and now.next_attempt_at == opt_out.next_attempt_at:
                left = ends_at - time.monotonic()
                if left <= 0:
                    break
                time.sleep(min(_WATCH_SECONDS, left))
                now = self._ledger.find(opt_out.id) or opt_out
        except LedgerUnavailable:
            pass  # it was accepted all the same
        return now
