"""JSON answers, each a line of its own."""

import json

from flask import Response, make_response
from marshmallow import Schema


def json_answer(
    schema: Schema, value: object, status: int = 200, *, media_type: str = "application/json"
) -> Response:
    """The value, rendered by the schema."""
    response = make_response(json.dumps(schema.dump(value)) + "\n", status)
    response.content_type = media_type
    return response
