"""The gateway with a ledger that forgets, for measuring what the real one costs; never deployed."""

import os
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

from gateway.app import create_app
from gateway.consent import OptOut, OptOutRequest, Outcome, Status
from gateway.ledger.ledger import Claim, Ledger, Receipt, Recorded
from gateway.settings import Settings


class _NoLedger(Ledger):
    """What delivering needs of a ledger, with nothing behind it."""

    def __init__(self, _: Settings) -> None:
        self._spacing = timedelta(0)

    def accept(self, entries: Sequence[tuple[OptOutRequest, Receipt | None]]) -> list[Recorded]:
        return [Recorded(_pending(request)) for request, _ in entries]

    def begin(
        self,
        request: OptOutRequest,
        receipt: Receipt | None,  # noqa: ARG002, as the ledger has it, and below too
        *,
        patience_seconds: float,  # noqa: ARG002
        in_background: bool,
    ) -> Recorded:
        opt_out = _pending(request)
        now = opt_out.created_at
        return Recorded(opt_out, claim=Claim(opt_out, "", 0, in_background, 0, now, 0.0, now))

    def settle(self, claim: Claim, opt_out: OptOut, outcome: Outcome) -> bool:  # noqa: ARG002
        return True


def _pending(request: OptOutRequest) -> OptOut:
    now = datetime.now(UTC)
    return OptOut(
        id=str(uuid.uuid4()),
        status=Status.PENDING,
        phone_number=request.phone_number.digits,
        store=request.store,
        reference=request.reference,
        reason=request.reason,
        source=request.source,
        customer=None,
        already_opted_out=False,
        attempts=1,
        error=None,
        requested_at=request.requested_at or now,
        created_at=now,
        opted_out_at=None,
        next_attempt_at=now,
    )


with patch("gateway.app.open_ledger", _NoLedger):
    app = create_app(Settings.from_env(os.environ))
