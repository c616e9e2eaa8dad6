"""What the OpenAPI document says about a route, written beside the route.

``described`` only annotates a view: it neither reads the request nor changes the answer
(docs/decisions/006-openapi.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from flask import Response
from marshmallow import Schema

from gateway.errors import ErrorCode

# Each media type with its schema and example, as the document has them.
Content = Mapping[str, Mapping[str, object]]
View = Callable[..., Response]


class Tag(StrEnum):
    """The chapters of the page, in their order."""

    OPT_OUTS = "Opt-outs"
    WEBHOOKS = "Webhooks"
    OPERATIONS = "Operations"


TAGS: Mapping[Tag, str] = {
    Tag.OPT_OUTS: "Opt customers out, and read what became of it.",
    Tag.WEBHOOKS: "For other services, each configured by the gateway's operator.",
    Tag.OPERATIONS: "For the gateway's operator, and this documentation.",
}


class Key(StrEnum):
    """Whether a route needs an API key."""

    NONE = "none"
    REQUIRED = "required"
    OPTIONAL = "optional"


@dataclass(frozen=True)
class Success:
    """A successful answer; ``headers`` in addition to X-Request-ID."""

    description: str
    content: Content
    headers: Sequence[str] = ()


@dataclass(frozen=True)
class Description:
    """One operation. ``problems`` are the codes it can answer, without those of every route."""

    operation_id: str
    tag: Tag
    summary: str
    answers: Mapping[int, Success]
    problems: Sequence[ErrorCode] = ()
    details: str = ""
    body: Content | None = None
    headers: Sequence[str] = ()
    key: Key = Key.NONE


def described(description: Description) -> Callable[[View], View]:
    """Annotates a view with its description."""

    def annotate(view: View) -> View:
        setattr(view, _ATTRIBUTE, description)
        return view

    return annotate


def description_of(view: object) -> Description | None:
    """The description of a view; None for one that is not part of the API."""
    found: Description | None = getattr(view, _ATTRIBUTE, None)
    return found


def json_content(schema: Schema, example: object) -> Content:
    return {"application/json": {"schema": schema, "example": example}}


def dumped(schema: Schema, value: object) -> Content:
    """JSON content whose example is ``value``, rendered by the schema."""
    return json_content(schema, schema.dump(value))


def text_content(*media_types: str) -> Content:
    return {media_type: {"schema": {"type": "string"}} for media_type in media_types}


_ATTRIBUTE = "openapi_description"
