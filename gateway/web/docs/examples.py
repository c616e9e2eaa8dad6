"""The values that the OpenAPI document shows as examples."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway.consent import Attempt, Customer, OptOut, Status

_ASKED_AT = datetime(2026, 11, 22, 20, tzinfo=UTC)

OPTED_OUT = OptOut(
    id="0b0f6a5e-6a5c-4d53-9d0a-6f0b1f4f3c55",
    status=Status.OPTED_OUT,
    phone_number="9995551234",
    store="PIZZA",
    reference="ticket-123",
    reason=None,
    means="phone_call",
    source="api:billing",
    customer=Customer("1234567891011", "John Queue", "opted_out", "456", "9995551234", _ASKED_AT),
    already_opted_out=False,
    attempts=1,
    error=None,
    requested_at=_ASKED_AT,
    created_at=_ASKED_AT,
    opted_out_at=_ASKED_AT + timedelta(seconds=1),
    next_attempt_at=None,
    phone_number_received="(999) 555-1234",
    request_id="5f2b6c1e9d",
    delivery_id=None,
)
PENDING = replace(
    OPTED_OUT,
    status=Status.PENDING,
    customer=None,
    attempts=0,
    opted_out_at=None,
    next_attempt_at=_ASKED_AT,
)
ATTEMPT = Attempt(_ASKED_AT, _ASKED_AT + timedelta(seconds=1), Status.OPTED_OUT, 200, None)
OPT_OUT_REQUEST = {"phone_number": "(999) 555-1234", "reference": "ticket-123"}
SEARCH_REQUEST = {"phone_number": "9995551234", "limit": 20}
WEBHOOK_ANSWER = {
    "accepted": 1,
    "ignored": 0,
    "opt_outs": [
        {
            "id": OPTED_OUT.id,
            "status": Status.PENDING,
            "location": f"/v1/opt-outs/{OPTED_OUT.id}",
        }
    ],
}
NOTHING_ACCEPTED = {"accepted": 0, "ignored": 1, "opt_outs": []}
