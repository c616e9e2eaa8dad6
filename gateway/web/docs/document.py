"""The OpenAPI 3.1 document, made from the URL map, the schemas and the table of codes.

Addresses and methods come from the URL map, fields from the schemas, problems from ``ERRORS``, and
the examples of problems are rendered like any problem. The rest is in the description beside each
route (gateway.web.docs.description); a test fails for a route of the API without one.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import fields
from werkzeug.routing import Rule

from gateway.consent import Status
from gateway.errors import ERRORS, CrmTextWords, ErrorCode, Failure, FieldError
from gateway.logs import request_id
from gateway.phone_number import LONGEST, US_NUMBER
from gateway.version import VERSION
from gateway.web.docs.description import (
    TAGS,
    Content,
    Description,
    Key,
    Success,
    Tag,
    description_of,
)
from gateway.web.docs.enums import MEANINGS, component
from gateway.web.docs.examples import OPTED_OUT
from gateway.web.problems import MEDIA_TYPE, explanations, problem
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
_TEXT = {"type": "string"}
# A bare key does not begin with a quotation mark; a quoted one escapes it and the backslash.
_IDEMPOTENCY_KEY = r'^(?:"(?:[ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~][ -~]{0,254})$'
_PARAMETERS = {
    "X-Request-ID": (
        "header",
        "Up to 128 letters, digits and `-_.:`. It is in the answer and in every log line of the "
        "request. Any other value is replaced by a new id.",
        _TEXT,
    ),
    "Prefer": (
        "header",
        "How long to wait for CRM Text: `wait=5` at most 5 seconds (15 is the longest), "
        "`respond-async` not at all; without it, until the first call has ended (RFC 7240).",
        _TEXT | {"examples": ["wait=5", "respond-async"]},
    ),
    "Idempotency-Key": (
        "header",
        "Up to 255 printable ASCII characters, as a quoted string or bare: the same key with the "
        "same body, byte for byte, is the same opt-out.",
        _TEXT | {"pattern": _IDEMPOTENCY_KEY},
    ),
    "opt_out_id": ("path", "`id` of the opt-out", _TEXT | {"format": "uuid"}),
    "source": ("path", "the source's name in the gateway's configuration", _TEXT),
    "code": ("path", "`code` of a problem", {"$ref": "#/components/schemas/ErrorCode"}),
}
# A description, and whether every answer that lists the header has it. Headers of every answer, and
# those that HTTP itself prescribes, are not listed: they would stand in each of a page's answers.
_HEADERS = {
    "Location": ('The address of the opt-out; with `"store": "*"` there is none.', False),
    "Preference-Applied": ("What was applied of `Prefer`: `respond-async`, `wait=n`.", False),
    "Idempotency-Replayed": ("`true` if the opt-out is on record from an earlier request.", False),
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
    _add_components(spec, {code for _, description in described for code in _codes(description)})
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


def _add_components(spec: APISpec, codes: Collection[ErrorCode]) -> None:
    scheme = {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key issued by the gateway's operator.",
    }
    spec.components.security_scheme("key", scheme)
    for enum in MEANINGS:
        spec.components.schema(enum.__name__, component(enum))
    for name, (place, words, schema) in _PARAMETERS.items():
        spec.components.parameter(
            name, place, {"description": words, "required": place == "path", "schema": schema}
        )
    for name, (words, required) in _HEADERS.items():
        header = {"description": words, "required": required, "schema": _TEXT}
        spec.components.header(name, header)
    for code in sorted(codes):
        example = {"summary": ERRORS[code].title, "value": _problem_example(code)}
        spec.components.example(code, example)


def _problem_example(code: ErrorCode) -> object:
    """A problem with this code, rendered like any other."""
    is_upstreams = code in (ErrorCode.CUSTOMER_NOT_FOUND, ErrorCode.CRMTEXT_REJECTED)
    pointer = FieldError("/phone_number", ErrorCode.INVALID_PHONE_NUMBER, "phone_number is empty.")
    failure = Failure(
        code,
        f"{ERRORS[code].title}.",
        crmtext=CrmTextWords(str(ERRORS[code].status), "reason") if is_upstreams else None,
        errors=[pointer] if code is ErrorCode.VALIDATION_FAILED else [],
    )
    token = request_id.set("5f2b6c1e9d")
    try:
        return problem(failure, OPTED_OUT.id if is_upstreams else None).get_json()
    finally:
        request_id.reset(token)


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
