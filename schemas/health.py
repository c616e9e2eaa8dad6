"""What the gateway says about its own health."""

from marshmallow import Schema, fields


class HealthSchema(Schema):
    """Whether the gateway is alive, or ready."""

    status = fields.String(required=True, metadata={"example": "ready"})
