"""The gateway with a ledger that forgets, for measuring what the real one costs; never deployed."""

import os
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from unittest.mock import patch

from gateway.app import create_app
from gateway.consent import OptOut, OptOutRequest, Outcome, Status
from gateway.ledger.claims import Claim
from gateway.ledger.database import create_ledger_engine
from gateway.ledger.intake import Entry, Recorded
from gateway.ledger.ledger import Ledger
from gateway.settings import Settings


class _NoLedger(Ledger):
    """What delivering needs of a ledger, with nothing behind it."""

    def __init__(self, settings: Settings) -> None:
        """Opens nothing: the engine is there for what counts webhooks, and never used."""
        self.engine = create_ledger_engine(settings.database_url)

    @property
    def has_pace(self) -> bool:
        return False

    def accept(
        self, entries: Sequence[Entry], *, claims: int = 0, patience_seconds: float = 0
    ) -> list[Recorded]:
        del patience_seconds
        opt_outs = [_pending(request) for entry in entries for request in entry.requests]
        return [
            Recorded(each, claim=_claim(each) if place < claims else None)
            for place, each in enumerate(opt_outs)
        ]

    def after_attempt(self, claim: Claim, outcome: Outcome, stretch: float) -> OptOut:
        del stretch
        return replace(
            claim.opt_out,
            status=Status.OPTED_OUT,
            customer=outcome.customer,
            opted_out_at=claim.now(),
            next_attempt_at=None,
        )

    def end_attempt(self, claim: Claim, opt_out: OptOut, outcome: Outcome) -> bool:
        del claim, opt_out, outcome
        return True


def _claim(opt_out: OptOut) -> Claim:
    now = opt_out.created_at
    return Claim(opt_out, "", 0, failures=0, give_up_at=now, turn_in_seconds=0, claimed_at=now)


def _pending(request: OptOutRequest) -> OptOut:
    now = datetime.now(UTC)
    return OptOut(
        id=str(uuid.uuid4()),
        status=Status.PENDING,
        phone_number=request.phone_number.digits,
        store=request.store,
        reference=request.reference,
        reason=request.reason,
        means=request.means,
        source=request.source,
        customer=None,
        already_opted_out=False,
        attempts=1,
        error=None,
        requested_at=request.requested_at or now,
        created_at=now,
        opted_out_at=None,
        next_attempt_at=now,
        phone_number_received=request.phone_number.received,
        request_id=request.request_id,
        delivery_id=None,
    )


with patch("gateway.app.open_ledger", _NoLedger):
    app = create_app(Settings.from_env(os.environ))
