"""The worker: delivers what is due, on several threads, until it is told to stop."""

import logging
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from gateway.delivery.attempts import Delivery
from gateway.errors import LedgerUnavailable
from gateway.ledger.ledger import Claim, Ledger

THREADS = 32

_POLL_SECONDS = 0.25
_SIGN_OF_LIFE_SECONDS = 5.0
_PAUSE_AFTER_TROUBLE_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Worker:
    """Delivers due opt-outs until ``stop`` is called, then finishes those in flight."""

    def __init__(self, ledger: Ledger, delivery: Delivery) -> None:
        self._ledger = ledger
        self._delivery = delivery
        self._stopping = threading.Event()
        self._running: set[Future[None]] = set()
        self._signed_at = float("-inf")

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
                    _log.warning("the ledger cannot be used", extra={"why": error.detail})
                    self._stopping.wait(_PAUSE_AFTER_TROUBLE_SECONDS)
                except Exception:  # whatever it is, the other opt-outs still have to be delivered
                    _log.exception("the worker met something unforeseen")
                    self._stopping.wait(_PAUSE_AFTER_TROUBLE_SECONDS)
        _log.info("worker stopped")

    def _step(self, pool: ThreadPoolExecutor) -> float:
        """Hands out what is due, and says how many seconds to wait before the next step."""
        if time.monotonic() - self._signed_at >= _SIGN_OF_LIFE_SECONDS:
            self._ledger.worker_is_alive()
            self._signed_at = time.monotonic()
        self._running = {attempt for attempt in self._running if not attempt.done()}
        free = THREADS - len(self._running)
        if not free:
            wait(self._running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            return 0
        due = self._delivery.claim_due(free)
        self._running |= {pool.submit(self._deliver, claim) for claim in due.claims}
        if due.claims:
            return 0
        return min(due.next_turn_in_seconds or _POLL_SECONDS, _POLL_SECONDS)

    def _deliver(self, claim: Claim) -> None:
        try:
            self._delivery.attempt(claim)
        except Exception:  # the row is due again when its lease ends; the others go on
            _log.exception("an attempt broke off", extra={"opt_out": claim.opt_out.id})
