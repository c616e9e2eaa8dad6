"""Puts the parts together as the settings say: the only place that does."""

from gateway.crmtext.client import CrmText
from gateway.delivery.acceptance import Acceptance
from gateway.delivery.attempts import Attempts
from gateway.delivery.worker import Worker
from gateway.ledger.ledger import Ledger
from gateway.ledger.migrations import require_current
from gateway.settings import Settings

# A claim's lease is this much longer than a call may take, and so well under the promised 60 s.
_LEASE_MARGIN_SECONDS = 10


def open_ledger(settings: Settings) -> Ledger:
    return Ledger(
        settings.database_url,
        lease_seconds=settings.crmtext_timeout_seconds + _LEASE_MARGIN_SECONDS,
        calls_per_second=settings.crmtext_calls_per_second,
        delivery_days=settings.delivery_days,
    )


def open_current_ledger(settings: Settings) -> Ledger:
    """For commands, which do not wait for the tables. Raises LedgerUnavailable."""
    ledger = open_ledger(settings)
    require_current(ledger.engine)
    return ledger


def make_acceptance(settings: Settings, ledger: Ledger) -> Acceptance:
    return Acceptance(
        ledger,
        Attempts(ledger, open_crmtext(settings)),
        threads=settings.web_threads,
        call_seconds=settings.crmtext_timeout_seconds,
    )


def make_worker(settings: Settings, ledger: Ledger) -> Worker:
    return Worker(ledger, Attempts(ledger, open_crmtext(settings)))


def open_crmtext(settings: Settings) -> CrmText:
    return CrmText(settings.crmtext_url, settings.crmtext_timeout_seconds, settings.stores)
