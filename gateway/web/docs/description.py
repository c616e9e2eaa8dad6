"""What the OpenAPI document says of each route beyond its address and the schemas' fields.

A new route needs an entry in ``ROUTES``, keyed by its endpoint; a test fails without one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from marshmallow import Schema, fields

from gateway.consent import Attempt, Customer, OptOut, Status
from gateway.errors import ErrorCode
from schemas.opt_out import (
    AttemptListSchema,
    OptOutRequestSchema,
    OptOutSchema,
    SearchRequestSchema,
    SearchResultSchema,
)
from schemas.webhook import WebhookAnswerSchema

# For each media type its schema and examples, as the document has them.
Content = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class Answer:
    """What a route answers where nothing is wrong; ``headers`` beside X-Request-ID."""

    words: str
    content: Content
    headers: Sequence[str] = ()


@dataclass(frozen=True)
class Route:
    """``codes`` are the problems that it can meet, beside those that any route can."""

    tag: str
    summary: str
    answers: Mapping[int, Answer]
    codes: Sequence[ErrorCode] = ()
    description: str = ""
    body: Content | None = None
    headers: Sequence[str] = ()
    security: Sequence[Mapping[str, Sequence[str]]] = ()


class HealthSchema(Schema):
    """That the gateway lives, or is ready."""

    status = fields.String(required=True, metadata={"example": "ready"})


EXAMPLE_ID = "0b0f6a5e-6a5c-4d53-9d0a-6f0b1f4f3c55"
_ASKED_AT = datetime(2026, 11, 22, 20, tzinfo=UTC)
_OPTED_OUT = OptOut(
    id=EXAMPLE_ID,
    status=Status.OPTED_OUT,
    phone_number="9995551234",
    store="PIZZA",
    reference="ticket-123",
    reason=None,
    source="api:billing",
    customer=Customer("1234567891011", "John Queue", "opted_out", "456", "9995551234", _ASKED_AT),
    already_opted_out=False,
    attempts=1,
    error=None,
    requested_at=_ASKED_AT,
    created_at=_ASKED_AT,
    opted_out_at=_ASKED_AT + timedelta(seconds=1),
    next_attempt_at=None,
)
_PENDING = replace(
    _OPTED_OUT,
    status=Status.PENDING,
    customer=None,
    attempts=0,
    opted_out_at=None,
    next_attempt_at=_ASKED_AT,
)
_ATTEMPT = Attempt(_ASKED_AT, _ASKED_AT + timedelta(seconds=1), Status.OPTED_OUT, 200, None)
_WEBHOOK_ANSWER = {
    "accepted": 1,
    "ignored": 0,
    "opt_outs": [
        {"id": EXAMPLE_ID, "status": Status.PENDING, "location": f"/v1/opt-outs/{EXAMPLE_ID}"}
    ],
}


def _json(schema: Schema, example: object) -> Content:
    return {"application/json": {"schema": schema, "example": example}}


def _dumped(schema: Schema, value: object) -> Content:
    return _json(schema, schema.dump(value))


def _texts(*media_types: str) -> Content:
    return {media_type: {"schema": {"type": "string"}} for media_type in media_types}


# What any address answers, beside its own: another method than its own, or a bug.
ANYWHERE = (ErrorCode.METHOD_NOT_ALLOWED, ErrorCode.INTERNAL_ERROR)

_KEY = (ErrorCode.UNAUTHORIZED, ErrorCode.LEDGER_UNAVAILABLE)
_ONE = (*_KEY, ErrorCode.NOT_FOUND)
_BODY = (
    ErrorCode.INVALID_JSON,
    ErrorCode.INVALID_REQUEST,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE,
)
_FIELDS = (*_BODY, ErrorCode.VALIDATION_FAILED, ErrorCode.FORBIDDEN)
_DELIVERY = (
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
    ErrorCode.IDEMPOTENCY_KEY_IN_USE,
    ErrorCode.GATEWAY_BUSY,
    ErrorCode.CUSTOMER_NOT_FOUND,
    *(code for code in ErrorCode if code.startswith("crmtext_")),
)

_OPT_OUTS, _WEBHOOKS, _OPERATIONS = "Opt-outs", "Webhooks", "Operations"
_NEEDS_KEY: Sequence[Mapping[str, Sequence[str]]] = ({"key": []},)
_REQUEST = OptOutRequestSchema([])
_OPT_OUT = OptOutSchema()
_HEALTH = HealthSchema()
_ACCEPTED = Answer(
    "On record and pending: the gateway delivers it.",
    _dumped(_OPT_OUT, _PENDING),
    ("Location",),
)

ROUTES: Mapping[str, Route] = {
    "api.create": Route(
        _OPT_OUTS,
        "Opt a customer out",
        {
            200: Answer(
                "CRM Text confirmed it.", _dumped(_OPT_OUT, _OPTED_OUT), ("Idempotency-Replayed",)
            ),
            202: replace(
                _ACCEPTED, headers=("Location", "Preference-Applied", "Idempotency-Replayed")
            ),
        },
        (*_KEY, *_FIELDS, *_DELIVERY),
        "Asks CRM Text now, or with `Prefer: respond-async` accepts the delivery.",
        _json(_REQUEST, {"phone_number": "(999) 555-1234", "reference": "ticket-123"}),
        ("Prefer", "Idempotency-Key"),
        _NEEDS_KEY,
    ),
    "api.show": Route(
        _OPT_OUTS,
        "Read an opt-out",
        {200: Answer("As it now stands.", _dumped(_OPT_OUT, _OPTED_OUT))},
        _ONE,
        security=_NEEDS_KEY,
    ),
    "api.list_attempts": Route(
        _OPT_OUTS,
        "List the calls to CRM Text for an opt-out",
        {200: Answer("Oldest first.", _dumped(AttemptListSchema(), {"items": [_ATTEMPT]}))},
        _ONE,
        security=_NEEDS_KEY,
    ),
    "api.retry": Route(
        _OPT_OUTS,
        "Deliver a failed or rejected opt-out again",
        {202: _ACCEPTED},
        (*_ONE, ErrorCode.NOT_RETRYABLE),
        "Makes it pending; the gateway delivers it, and its days of trying start anew.",
        security=_NEEDS_KEY,
    ),
    "api.search": Route(
        _OPT_OUTS,
        "Search opt-outs",
        {
            200: Answer(
                "Newest first.",
                _dumped(SearchResultSchema(), {"items": [_OPTED_OUT], "next_cursor": None}),
            )
        },
        (*_KEY, *_FIELDS),
        "A body and not a query, since addresses end up in logs and phone numbers must not.",
        _json(SearchRequestSchema([]), {"phone_number": "9995551234", "limit": 20}),
        security=_NEEDS_KEY,
    ),
    "webhooks.receive": Route(
        _WEBHOOKS,
        "Take a delivery of another service",
        {
            200: Answer(
                "Nothing in it is an opt-out; of Twilio, always.",
                {
                    **_dumped(WebhookAnswerSchema(), {"accepted": 0, "ignored": 1, "opt_outs": []}),
                    **_texts("text/xml"),
                },
            ),
            202: Answer(
                "On record; the gateway delivers it.",
                _dumped(WebhookAnswerSchema(), _WEBHOOK_ANSWER),
            ),
        },
        (*_BODY, *_ONE),
        "No API key: the delivery carries its source's signature. The body is as the source "
        "sends it.",
        {
            "application/json": {"schema": {}},
            "application/x-www-form-urlencoded": {"schema": {"type": "object"}},
        },
    ),
    "operations.healthz": Route(
        _OPERATIONS,
        "Does the process live?",
        {200: Answer("It does.", _json(_HEALTH, {"status": "ok"}))},
    ),
    "operations.readyz": Route(
        _OPERATIONS,
        "Can it accept opt-outs?",
        {200: Answer("It can.", _json(_HEALTH, {"status": "ready"}))},
        (ErrorCode.LEDGER_UNAVAILABLE,),
        description="Looks at the ledger, never at CRM Text.",
    ),
    "operations.metrics": Route(
        _OPERATIONS,
        "Metrics for Prometheus",
        {200: Answer("Now.", _texts("text/plain", "application/openmetrics-text"))},
        (ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN),
        "For a key that is bound to no store; without a key from the same machine only.",
        security=(*_NEEDS_KEY, {}),
    ),
    "operations.explain": Route(
        _OPERATIONS,
        "What a problem's code means",
        {200: Answer("For a person.", _texts("text/plain", "text/html"))},
        (ErrorCode.NOT_FOUND,),
    ),
    "openapi.document": Route(
        _OPERATIONS,
        "This document",
        {200: Answer("OpenAPI 3.1.", {"application/json": {"schema": {"type": "object"}}})},
    ),
    "openapi.page": Route(
        _OPERATIONS,
        "The page to read this and try it",
        {200: Answer("For a person.", _texts("text/html"))},
    ),
}
