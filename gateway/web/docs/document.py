"""The OpenAPI 3.1 document, made from the URL map, the schemas and the table of codes.

Addresses and methods come from the URL map, fields from the schemas, problems from ``ERRORS``, and
the examples of problems are rendered like any problem. The rest is in the description beside each
route (gateway.web.docs.description); a test fails for a route of the API without one.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import fields
from werkzeug.routing import Rule

from gateway.consent import Status
from gateway.errors import ERRORS, ErrorCode, Failure
from gateway.phone_number import LONGEST, US_NUMBER
from gateway.version import VERSION
from gateway.web.docs.components import add_components
from gateway.web.docs.description import (
    TAGS,
    Content,
    Description,
    Key,
    Success,
    Tag,
    description_of,
)
from gateway.web.docs.enums import MEANINGS
from gateway.web.problems import MEDIA_TYPE, explanations
from schemas.fields import Choice, StrictSchema, Text, UsPhoneNumber, WholeNumber
from schemas.problem import ProblemSchema

TITLE = "CRM Text opt-out gateway"
_GUIDE = Path(__file__).with_name("guide.md")

# Problems of every route.
_ANYWHERE = (ErrorCode.METHOD_NOT_ALLOWED, ErrorCode.INTERNAL_ERROR)
_SECURITY: Mapping[Key, Sequence[Mapping[str, Sequence[str]]]] = {
    Key.NONE: [],
    Key.REQUIRED: [{"key": []}],
    Key.OPTIONAL: [{"key": []}, {}],
}
_RETRY_AFTER = {
    "description": "Seconds to wait before repeating the request. Every retryable problem has it.",
    "schema": {"type": "integer", "minimum": 0},
}


def guide() -> str:
    """How to use the API, as Markdown; the page begins with it."""
    meanings = [f"| `{status}` | {meaning} |" for status, meaning in MEANINGS[Status].items()]
    table = "\n".join(["| status | meaning |", "|---|---|", *meanings])
    return _GUIDE.read_text(encoding="utf-8").replace("<!-- statuses -->", table)


def describe(app: Flask) -> dict[str, Any]:
    """The document of all routes that have a description. Needs an application context."""
    plugin = MarshmallowPlugin()
    spec = APISpec(
        TITLE,
        VERSION,
        "3.1.0",
        plugins=[plugin],
        info={"description": guide(), "license": {"name": "MIT", "identifier": "MIT"}},
        servers=[{"url": "/"}],
    )
    # The plugin has a converter once the spec is made, which its type does not know.
    converter: Any = plugin.converter
    converter.add_attribute_function(_own_fields)
    for tag in Tag:
        spec.tag({"name": tag, "description": TAGS[tag]})
    rules = sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule)
    described = [
        (rule, description)
        for rule in rules
        if (description := description_of(app.view_functions[rule.endpoint]))
    ]
    add_components(spec, {code for _, description in described for code in _codes(description)})
    for rule, description in described:
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        operations = {method.lower(): _operation(rule, description) for method in methods}
        spec.path(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), operations=operations)
    for (schema_class, *_), name in converter.refs.items():
        schema = spec.components.schemas[name]
        schema["description"] = schema_class.__doc__
        if not issubclass(schema_class, StrictSchema):
            del schema["additionalProperties"]  # answers may gain members
    document: dict[str, Any] = spec.to_dict()
    return document


def _own_fields(_: object, field: fields.Field[Any], ret: dict[str, Any]) -> dict[str, Any]:
    """What apispec cannot know about our fields; ``ret`` is what it found out by itself."""
    found: dict[str, Any] = {}
    if "example" in ret:
        found["examples"] = [ret.pop("example")]  # as 3.1 has it
    if ret.get("default", ...) is None:  # generators would make every optional field a required one
        del ret["default"]
    if isinstance(field, Choice):
        ret.clear()
        found = {"$ref": f"#/components/schemas/{field.enum.__name__}"}
        if field.among:
            found = {"type": "string", "enum": list(field.among)}
        return {"anyOf": [found, {"type": "null"}]} if field.allow_none else found
    if isinstance(field, UsPhoneNumber):
        found["type"] = ["string", "integer", *(["null"] if field.allow_none else [])]
        found["pattern"] = rf"^\s*(?:[Tt][Ee][Ll]:)?{US_NUMBER.pattern}\s*$"
        found |= {"maxLength": LONGEST, "minimum": 10**9, "maximum": 2 * 10**10 - 1}
    elif isinstance(field, Text):
        found["maxLength"] = field.longest
        found["pattern"] = r"^[^\u0000]*$"
    elif isinstance(field, WholeNumber):
        found |= {"minimum": field.least, "maximum": field.most}
    return found


def _operation(rule: Rule, description: Description) -> dict[str, Any]:
    successes = {str(status): _success(one) for status, one in description.answers.items()}
    operation: dict[str, Any] = {
        "operationId": description.operation_id,
        "tags": [description.tag],
        "summary": description.summary,
        "description": description.details,
        "security": _SECURITY[description.key],
        "parameters": [*sorted(rule.arguments), *description.headers, "X-Request-ID"],
        "responses": successes | _problems(description),
    }
    if description.body:
        operation["requestBody"] = {"required": True, "content": _content(description.body)}
    return operation


def _success(success: Success) -> dict[str, Any]:
    return {
        "description": success.description,
        "headers": {name: name for name in success.headers},
        "content": _content(success.content),
    }


def _content(content: Content) -> dict[str, Any]:
    """A copy, since apispec puts its references in place of the schemas."""
    return {media_type: dict(entry) for media_type, entry in content.items()}


def _codes(description: Description) -> list[ErrorCode]:
    return [code for code in ErrorCode if code in (*description.problems, *_ANYWHERE)]


def _problems(description: Description) -> dict[str, Any]:
    codes = _codes(description)
    statuses = sorted({ERRORS[code].status for code in codes})
    return {
        str(status): _problem([code for code in codes if ERRORS[code].status == status])
        for status in statuses
    }


def _problem(codes: Sequence[ErrorCode]) -> dict[str, Any]:
    content = {"schema": ProblemSchema(), "examples": {str(code): str(code) for code in codes}}
    return {
        "description": "\n".join(f"- `{code}`: {explanations()[code]}" for code in codes),
        "headers": _problem_headers(codes),
        "content": {MEDIA_TYPE: content},
    }


def _problem_headers(codes: Sequence[ErrorCode]) -> Mapping[str, object]:
    headers: dict[str, object] = {}
    retryable = [ERRORS[code].retryable for code in codes]
    if any(retryable):
        headers["Retry-After"] = _RETRY_AFTER | {"required": all(retryable)}
    if any(Failure(code, "").is_refusal for code in codes):
        headers["Idempotency-Replayed"] = "Idempotency-Replayed"
    return headers
