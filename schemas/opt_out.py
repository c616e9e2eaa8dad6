"""Opt-outs as JSON: what callers send, and what everyone gets back."""

from datetime import UTC, datetime, timedelta

from marshmallow import Schema, ValidationError, fields

from gateway.consent import Means, Order, Status
from gateway.errors import CODES_ON_RECORD, ErrorCode
from schemas.fields import Choice, StoreSchema, Text, Time, UsPhoneNumber, WholeNumber
from schemas.problem import CrmTextSchema

_CLOCK_SKEW = timedelta(seconds=60)


def _not_in_the_future(moment: datetime) -> None:
    if moment > datetime.now(UTC) + _CLOCK_SKEW:
        raise ValidationError("is in the future")


class OptOutRequestSchema(StoreSchema):
    """A customer's request to receive no more texts from a store."""

    phone_number = UsPhoneNumber(
        required=True,
        metadata={
            "description": "US number in any usual spelling, or as an integer",
            "example": "(999) 555-1234",
        },
    )
    reference = Text(
        longest=255,
        load_default=None,
        metadata={
            "description": "your own id for it, handed back unchanged",
            "example": "ticket-123",
        },
    )
    reason = Text(
        longest=500,
        load_default=None,
        metadata={"description": "free text for the record, never sent to CRM Text"},
    )
    means = Choice(Means, load_default=None)
    requested_at = Time(
        load_default=None,
        validate=_not_in_the_future,
        metadata={
            "description": "when the person asked; not in the future; default: now",
            "example": "2026-11-20T14:14:02-05:00",
        },
    )


class SearchRequestSchema(StoreSchema):
    """Which opt-outs to list: those that match all fields. ``code`` is that of their error."""

    phone_number = UsPhoneNumber(load_default=None, metadata={"example": "9995551234"})
    status = Choice(Status, load_default=None)
    reference = Text(longest=255, load_default=None)
    source = Text(longest=255, load_default=None, metadata={"example": "api:billing"})
    code = Choice(ErrorCode, among=CODES_ON_RECORD, load_default=None)
    order = Choice(Order, load_default=None)
    since = Time(load_default=None, metadata={"description": "created at this time or later"})
    until = Time(load_default=None, metadata={"description": "created before this time"})
    limit = WholeNumber(
        least=1, most=200, load_default=None, metadata={"description": "default: 50"}
    )
    cursor = Text(
        longest=32 * 1024,  # whether it is one that was given out is judged later
        load_default=None,
        metadata={
            "description": "next_cursor of the previous page; leave the other fields unchanged"
        },
    )


class CustomerSchema(Schema):
    """The customer, as CRM Text described them."""

    id = fields.String(required=True, allow_none=True, metadata={"example": "1234567891011"})
    name = fields.String(required=True, allow_none=True, metadata={"example": "John Queue"})
    status = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "new, opted_in, pending or opted_out, or CRM Text's own text",
            "example": "opted_out",
        },
    )
    store_id = fields.String(required=True, allow_none=True, metadata={"example": "456"})
    phone_number = fields.String(required=True, allow_none=True, metadata={"example": "9995551234"})
    updated_at = Time(required=True, allow_none=True)


class FailureSchema(Schema):
    """Why the customer is not opted out, or not yet."""

    code = Choice(ErrorCode, required=True)
    detail = fields.String(required=True)
    crmtext = fields.Nested(CrmTextSchema, required=True, allow_none=True)


class OptOutSchema(Schema):
    """An opt-out on record."""

    id = fields.String(required=True, metadata={"format": "uuid"})
    status = Choice(Status, required=True)
    phone_number = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "10 digits; null if the number in a webhook was unusable",
            "example": "9995551234",
        },
    )
    store = fields.String(required=True, metadata={"example": "PIZZA"})
    reference = fields.String(required=True, allow_none=True)
    reason = fields.String(required=True, allow_none=True)
    means = Choice(Means, required=True, allow_none=True)
    source = fields.String(required=True, metadata={"example": "api:billing"})
    customer = fields.Nested(CustomerSchema, required=True, allow_none=True)
    already_opted_out = fields.Boolean(required=True)
    attempts = fields.Integer(required=True, metadata={"description": "calls to CRM Text so far"})
    error = fields.Nested(FailureSchema, required=True, allow_none=True)
    requested_at = Time(required=True)
    created_at = Time(required=True)
    opted_out_at = Time(required=True, allow_none=True)
    next_attempt_at = Time(required=True, allow_none=True)
    phone_number_received = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "the number as it came; null where none came"},
    )
    request_id = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "of the request that made it"},
    )
    delivery_id = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "the webhook sender's own id of its message"},
    )


class OptOutListSchema(Schema):
    """The opt-outs that one request for all stores made."""

    items = fields.List(fields.Nested(OptOutSchema), required=True)


class SearchResultSchema(Schema):
    """A page of opt-outs."""

    items = fields.List(fields.Nested(OptOutSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class AttemptSchema(Schema):
    """One call to CRM Text."""

    started_at = Time(required=True)
    ended_at = Time(
        required=True,
        allow_none=True,
        metadata={"description": "null while it runs, and if its process died"},
    )
    outcome = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "opted_out or an error code; null like ended_at"},
    )
    http_status = fields.Integer(required=True, allow_none=True)
    crmtext = fields.Nested(CrmTextSchema, required=True, allow_none=True)


class AttemptListSchema(Schema):
    """All calls to CRM Text for one opt-out, oldest first."""

    items = fields.List(fields.Nested(AttemptSchema), required=True)
