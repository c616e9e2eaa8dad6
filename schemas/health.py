"""What the gateway says about its own health."""

from marshmallow import Schema, fields


class HealthSchema(Schema):
    """Whether the gateway is alive, or ready."""

    status = fields.String(required=True, metadata={"example": "ready"})


class IndexSchema(Schema):
    """Where to go from here."""

    name = fields.String(required=True)
    version = fields.String(required=True)
    documentation = fields.String(required=True)
    openapi = fields.String(required=True)
    health = fields.String(required=True)
    readiness = fields.String(required=True)
