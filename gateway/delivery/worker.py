"""The worker: delivers what is due, on several threads, until it is told to stop."""

import logging
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from gateway.delivery.attempts import Attempts
from gateway.errors import LedgerUnavailable
from gateway.ledger.claims import Claim
from gateway.ledger.ledger import Ledger
from gateway.logs import request_id

THREADS = 32

_POLL_SECONDS = 0.25
# How early a turn within the pace is taken.
_PATIENCE_SECONDS = 0.05
_SEEN_SECONDS = 5.0
_PAUSE_AFTER_FAILURE_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Worker:
    """Delivers due opt-outs until ``stop`` is called, then finishes those in flight."""

    def __init__(self, ledger: Ledger, attempts: Attempts) -> None:
        self._ledger = ledger
        self._attempts = attempts
        self._stopping = threading.Event()
        self._running: set[Future[None]] = set()
        self._seen_at = float("-inf")

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Returns after ``stop``; a database that is away or a bug in one row never ends it."""
        _log.info("worker started", extra={"threads": THREADS})
        with ThreadPoolExecutor(THREADS, thread_name_prefix="delivery") as pool:
            while not self._stopping.is_set():
                try:
                    self._stopping.wait(self._step(pool))
                except LedgerUnavailable as error:
                    _log.warning("ledger unavailable", extra={"why": error.detail})
                    self._stopping.wait(_PAUSE_AFTER_FAILURE_SECONDS)
                except Exception:  # whatever it is, the other opt-outs still have to be delivered
                    _log.exception("worker step failed")
                    self._stopping.wait(_PAUSE_AFTER_FAILURE_SECONDS)
        _log.info("worker stopped")

    def _step(self, pool: ThreadPoolExecutor) -> float:
        """Hands out what is due, and says how many seconds to wait before the next step."""
        if time.monotonic() - self._seen_at >= _SEEN_SECONDS:
            self._ledger.worker_is_alive()
            self._seen_at = time.monotonic()
        self._running = {attempt for attempt in self._running if not attempt.done()}
        free = THREADS - len(self._running)
        if not free:
            wait(self._running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            return 0
        due = self._ledger.claim_due(free, patience_seconds=_PATIENCE_SECONDS)
        self._running |= {pool.submit(self._deliver, claim) for claim in due.claims}
        if due.claims:
            return 0
        return min(due.next_turn_in_seconds or _POLL_SECONDS, _POLL_SECONDS)

    def _deliver(self, claim: Claim) -> None:
        # The log lines of the attempt are of the request that made the opt-out.
        request_id.set(claim.opt_out.request_id or "-")
        try:
            self._attempts.make(claim)
        except Exception:  # the row is due again when its lease ends; the others go on
            _log.exception("attempt crashed", extra={"opt_out": claim.opt_out.id})
        finally:
            request_id.set("-")
