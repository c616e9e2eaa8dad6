"""What a webhook is answered."""

from marshmallow import Schema, fields

from gateway.consent import Status
from schemas.fields import Choice


class WebhookOptOutSchema(Schema):
    """One opt-out that the message made, or had made when it came first."""

    id = fields.String(required=True, metadata={"format": "uuid"})
    status = Choice(Status, required=True)
    location = fields.String(required=True)


class WebhookAnswerSchema(Schema):
    """What became of a message's events."""

    accepted = fields.Integer(required=True, metadata={"description": "opt-outs on record"})
    ignored = fields.Integer(
        required=True, metadata={"description": "events that are not opt-outs"}
    )
    opt_outs = fields.List(fields.Nested(WebhookOptOutSchema), required=True)
