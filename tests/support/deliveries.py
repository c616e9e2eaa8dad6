"""What tests of deliveries share: the parts put together as the application does, and a step of
the worker."""

from gateway.assembly import open_crmtext
from gateway.consent import OptOut
from gateway.delivery.acceptance import Acceptance
from gateway.delivery.attempts import Attempts
from gateway.ledger.intake import Recorded
from gateway.ledger.ledger import Ledger
from gateway.ledger.receipts import Receipt
from tests.support.factories import make_opt_out_request, make_settings
from tests.support.fake_crmtext import FakeCrmText


def make_attempts(ledger: Ledger, crmtext: FakeCrmText, **changes: str) -> Attempts:
    """Calls may take 1 second."""
    sound = {"CRMTEXT_URL": crmtext.url, "CRMTEXT_TIMEOUT": "1"}
    return Attempts(ledger, open_crmtext(make_settings(**(sound | changes))))


def make_acceptance(
    ledger: Ledger, crmtext: FakeCrmText, *, threads: int = 32, **changes: str
) -> Acceptance:
    attempts = make_attempts(ledger, crmtext, **changes)
    return Acceptance(ledger, attempts, threads=threads, call_seconds=1)


def ask(
    acceptance: Acceptance, receipt: Receipt | None = None, *, wait_seconds: float | None = None
) -> Recorded:
    """One opt-out, as a caller asks for it."""
    (recorded,) = acceptance.accept([make_opt_out_request()], receipt, wait_seconds=wait_seconds)
    return recorded


def deliver_due(ledger: Ledger, attempts: Attempts) -> list[OptOut]:
    """What a worker does in one step."""
    return [attempts.make(claim) for claim in ledger.claim_due(32, patience_seconds=0.05).claims]


def outcomes(ledger: Ledger, opt_out: OptOut) -> list[str | None]:
    return [attempt.outcome for attempt in ledger.attempts_of(opt_out.id)]
