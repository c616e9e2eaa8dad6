"""The body of a problem (RFC 9457). Every error is rendered with it and described by it."""

from marshmallow import Schema, fields

from gateway.errors import ErrorCode
from schemas.fields import Choice


class FieldErrorSchema(Schema):
    """One wrong field of a request."""

    pointer = fields.String(
        required=True,
        metadata={"description": "JSON pointer to the field", "example": "/phone_number"},
    )
    code = fields.String(required=True, metadata={"example": "invalid_phone_number"})
    detail = fields.String(required=True)


class CrmTextSchema(Schema):
    """What CRM Text's XML said, with secrets and digits masked."""

    status = fields.String(required=True, allow_none=True, metadata={"example": "404"})
    message = fields.String(
        required=True, allow_none=True, metadata={"example": "reason for Error"}
    )


class OptOutLinkSchema(Schema):
    """Where to read the opt-out."""

    id = fields.String(required=True, metadata={"format": "uuid"})
    location = fields.String(required=True)


class ProblemSchema(Schema):
    """Why a request failed, and whether to repeat it."""

    type = fields.String(required=True, metadata={"example": "/problems/customer_not_found"})
    title = fields.String(required=True)
    status = fields.Integer(required=True, metadata={"example": 404})
    code = Choice(ErrorCode, required=True)
    detail = fields.String(required=True)
    retryable = fields.Boolean(
        required=True, metadata={"description": "whether the same request can succeed later"}
    )
    request_id = fields.String(required=True)
    errors = fields.List(
        fields.Nested(FieldErrorSchema),
        metadata={"description": "only with validation_failed and invalid_request"},
    )
    crmtext = fields.Nested(
        CrmTextSchema, metadata={"description": "only if CRM Text's XML said something"}
    )
    opt_out = fields.Nested(
        OptOutLinkSchema, metadata={"description": "only if the opt-out is on record"}
    )
